// SPDX-License-Identifier: GPL-2.0

//! What is dropped by a worker, as who gives it up must not wait.
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

/// A value with room for its place among those that wait to be dropped.
pub(super) struct Node<T> {
    /// The value.
    pub(super) value: T,
    next: *mut Node<T>,
}

// SAFETY: Only the [`Later`] that owns a node looks at `next`.
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

/// Values of the inodes of `T` that wait to be dropped.
///
/// # Invariants
///
/// `first` begins a list of nodes, each of which came from [`KBox::into_raw`] and is owned by this.
/// `work` has been initialised with `run`.
pub(super) struct Later<T: FileSystem> {
    work: Opaque<bindings::work_struct>,
    first: Atomic<*mut Node<T::Pinned>>,
}

impl<T: FileSystem> Later<T> {
    /// # Safety
    ///
    /// `slot` must be memory for it, in which it stays until [`Self::drain`] was called for the
    /// last time.
    pub(super) unsafe fn init(slot: *mut Self) {
        // SAFETY: The caller promises it.
        // INVARIANT: The list is empty.
        unsafe {
            (&raw mut (*slot).first).write(Atomic::new(ptr::null_mut()));
            bindings::init_work((*slot).work.get(), Some(Self::run));
        }
    }

    /// Has `node` dropped by a worker, with [`FileSystem::drop_later`]. Allocates nothing, and does
    /// not wait.
    pub(super) fn push(&self, node: KBox<Node<T::Pinned>>) {
        let node = KBox::into_raw(node);
        let mut first = self.first.load(Relaxed);
        loop {
            // SAFETY: The node is ours alone until the exchange has succeeded.
            unsafe { (*node).next = first };
            // INVARIANT: The node came from a box, and the list goes on behind it.
            match self.first.cmpxchg(first, node, Full) {
                Ok(_) => break,
                Err(now) => first = now,
            }
        }
        // SAFETY: The work has been initialised.
        unsafe { bindings::queue_work(self.work.get()) };
    }

    /// Drops all that wait, and what a worker has begun with, too.
    pub(super) fn drain(&self) {
        // SAFETY: The work has been initialised.
        unsafe { bindings::cancel_work_sync(self.work.get()) };
        self.drop_all();
    }

    fn drop_all(&self) {
        // INVARIANT: The list is empty.
        let mut next = self.first.xchg(ptr::null_mut(), Full);
        while !next.is_null() {
            // SAFETY: The node was in the list, and is in it no more.
            let node = unsafe { KBox::from_raw(next) };
            next = node.next;
            T::drop_later(KBox::into_inner(node).value);
        }
    }

    /// # Safety
    ///
    /// `work` must be that of a `Self`, which exists until this returns.
    unsafe extern "C" fn run(work: *mut bindings::work_struct) {
        // SAFETY: The caller promises it; `Opaque` is a transparent wrapper.
        let later =
            unsafe { &*container_of!(work.cast::<Opaque<bindings::work_struct>>(), Self, work) };
        later.drop_all();
    }
}
