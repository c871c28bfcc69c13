// SPDX-License-Identifier: GPL-2.0

//! A queue of values that a worker drops.
//!
//! Dropping a value may take long. A task that must not wait, such as one in memory reclaim, puts
//! it in the queue.
//!
//! C header: [`include/linux/workqueue.h`](srctree/include/linux/workqueue.h)

use super::{
    bindings,
    FileSystem, //
};
use core::ptr;
use kernel::{
    container_of,
    prelude::*,
    sync::atomic::{
        Atomic,
        Full,
        Relaxed, //
    },
    types::Opaque, //
};

/// An entry of the queue. It is allocated with the value, so that queueing allocates nothing.
pub(super) struct Node<T> {
    pub(super) value: T,
    next: *mut Node<T>,
}

// SAFETY: Only the queue that owns a node uses `next`.
unsafe impl<T: Send> Send for Node<T> {}

// SAFETY: As above.
unsafe impl<T: Sync> Sync for Node<T> {}

impl<T> Node<T> {
    pub(super) fn new(value: T) -> Self {
        Self {
            value,
            next: ptr::null_mut(),
        }
    }
}

/// The queue of a super block of `T`.
///
/// # Invariants
///
/// `first` is the head of a list of nodes. Each came from [`KBox::into_raw`] and is owned by this
/// queue. `work` is initialised with `run`.
pub(super) struct Later<T: FileSystem> {
    work: Opaque<bindings::work_struct>,
    first: Atomic<*mut Node<T::Pinned>>,
}

impl<T: FileSystem> Later<T> {
    /// # Safety
    ///
    /// `slot` must be memory for a queue. It must not move, and [`Self::drain`] must be called
    /// before the memory is freed.
    pub(super) unsafe fn init(slot: *mut Self) {
        // SAFETY: `slot` is memory for a queue, and stays at this address.
        // INVARIANT: The list is empty.
        unsafe {
            (&raw mut (*slot).first).write(Atomic::new(ptr::null_mut()));
            bindings::init_work((*slot).work.get(), Some(Self::run));
        }
    }

    /// Puts `node` in the queue. A worker passes its value to [`FileSystem::drop_later`]. Allocates
    /// nothing and does not sleep.
    pub(super) fn push(&self, node: KBox<Node<T::Pinned>>) {
        let node = KBox::into_raw(node);
        let mut first = self.first.load(Relaxed);
        loop {
            // SAFETY: No other thread has the node before the exchange succeeds.
            unsafe { (*node).next = first };
            // INVARIANT: The node came from a box, and its `next` is the old list.
            match self.first.cmpxchg(first, node, Full) {
                Ok(_) => break,
                Err(now) => first = now,
            }
        }
        // SAFETY: By the type invariants the work is initialised.
        unsafe { bindings::queue_work(self.work.get()) };
    }

    /// Drops all values in the queue, and waits for those that a worker is dropping.
    pub(super) fn drain(&self) {
        // SAFETY: By the type invariants the work is initialised.
        unsafe { bindings::cancel_work_sync(self.work.get()) };
        self.drop_all();
    }

    fn drop_all(&self) {
        // INVARIANT: The list is empty.
        let mut next = self.first.xchg(ptr::null_mut(), Full);
        while !next.is_null() {
            // SAFETY: The exchange took the node out of the list, so it is owned here.
            let node = unsafe { KBox::from_raw(next) };
            next = node.next;
            T::drop_later(KBox::into_inner(node).value);
        }
    }

    /// # Safety
    ///
    /// `work` must be the field of a queue that exists until this function returns.
    unsafe extern "C" fn run(work: *mut bindings::work_struct) {
        // SAFETY: `work` is the field of a queue. `Opaque` is a transparent wrapper.
        let later =
            unsafe { &*container_of!(work.cast::<Opaque<bindings::work_struct>>(), Self, work) };
        later.drop_all();
    }
}
