// SPDX-License-Identifier: GPL-2.0

//! Tests of inodes: lookup in memory, lifetime, and failures to set one up.

use super::{
    attributes,
    ensure,
    Dropped,
    Mount,
    Toy, //
};
use crate::vfs::{
    file::RegularFile,
    inode::{
        Iget,
        InodeRef,
        InodeType, //
    },
    super_block::SuperBlock, //
};
use kernel::{
    prelude::*,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Completion, //
    },
    time::{
        delay::fsleep,
        Delta, //
    },
    workqueue, //
};

const FILE: u16 = 0o100644;
const LINK: u16 = 0o120777;

/// Gets the regular file `ino`.
fn file(sb: &SuperBlock<Toy>, ino: u64) -> Result<InodeRef<'_, Toy>> {
    match sb.iget(ino)? {
        Iget::Cached(inode) => Ok(inode),
        Iget::New(new) => new.init(
            &attributes(FILE),
            InodeType::Regular(RegularFile::paged()),
            0,
        ),
    }
}

/// A lookup of an inode in another task.
#[pin_data]
struct Asker {
    sb: usize,
    ino: u64,
    /// 1 if it was in memory, 2 if it was new.
    answer: Atomic<i32>,
    #[pin]
    begun: Completion,
    #[pin]
    done: Completion,
}

impl Asker {
    /// Starts the lookup, and gives it time to wait for the task that sets the inode up. The result
    /// is the same if it comes later.
    fn start(sb: &SuperBlock<Toy>, ino: u64) -> Result<Arc<Self>> {
        let asker = Arc::pin_init(
            pin_init!(Self {
                sb: core::ptr::from_ref(sb).addr(),
                ino,
                answer: Atomic::new(0),
                begun <- Completion::new(),
                done <- Completion::new(),
            }),
            GFP_KERNEL,
        )?;
        let other = asker.clone();
        workqueue::system_unbound().try_spawn(GFP_KERNEL, move || other.ask())?;
        asker.begun.wait_for_completion();
        fsleep(Delta::from_millis(20));
        Ok(asker)
    }

    fn ask(&self) {
        self.begun.complete_all();
        // SAFETY: The test waits for this task before the super block is shut down.
        let sb =
            unsafe { SuperBlock::<Toy>::from_raw(core::ptr::with_exposed_provenance_mut(self.sb)) };
        let answer = match sb.iget(self.ino) {
            Ok(Iget::Cached(_)) => 1,
            Ok(Iget::New(_)) => 2,
            Err(_) => 3,
        };
        self.answer.store(answer, Relaxed);
        self.done.complete_all();
    }

    fn answer(&self) -> i32 {
        self.done.wait_for_completion();
        self.answer.load(Relaxed)
    }
}

#[kunit_tests(composefs_vfs_inode)]
mod tests {
    use super::*;

    #[test]
    fn one_number_is_one_inode() -> Result {
        let mount = Mount::new()?;
        let first = file(mount.sb(), 7)?;
        let again = file(mount.sb(), 7)?;
        let other = file(mount.sb(), 8)?;
        ensure!(core::ptr::eq(&*first, &*again));
        ensure!(!core::ptr::eq(&*first, &*other));
        ensure!(mount.sb().cached(7).is_some());
        ensure!(mount.sb().cached(9).is_none());
        Ok(())
    }

    #[test]
    fn one_that_is_not_set_up_is_forgotten() -> Result {
        let mount = Mount::new()?;
        for _ in 0..3 {
            let Iget::New(new) = mount.sb().iget(7)? else {
                ensure!(false);
                return Ok(());
            };
            drop(new);
            ensure!(mount.sb().cached(7).is_none());
        }
        file(mount.sb(), 7)?;
        ensure!(mount.sb().cached(7).is_some());
        Ok(())
    }

    #[test]
    fn one_of_another_type_is_forgotten() -> Result {
        let mount = Mount::new()?;
        for kind in [
            InodeType::Directory,
            InodeType::Symlink(b"target"),
            InodeType::Special(0x0103),
        ] {
            if let Iget::New(new) = mount.sb().iget(7)? {
                ensure!(new.init(&attributes(FILE), kind, 0).err() == Some(EINVAL));
            }
            ensure!(mount.sb().cached(7).is_none());
        }
        let sizes = [u64::MAX, i64::MAX as u64 + 1];
        for size in sizes {
            if let Iget::New(new) = mount.sb().iget(7)? {
                let mut attributes = attributes(FILE);
                attributes.size = size;
                ensure!(
                    new.init(&attributes, InodeType::Regular(RegularFile::paged()), 0)
                        .err()
                        == Some(EINVAL)
                );
            }
        }
        Ok(())
    }

    #[test]
    fn who_comes_second_waits() -> Result {
        let mount = Mount::new()?;
        let Iget::New(new) = mount.sb().iget(7)? else {
            return Err(EINVAL);
        };
        let asker = Asker::start(mount.sb(), 7)?;
        let inode = new.init(
            &attributes(FILE),
            InodeType::Regular(RegularFile::paged()),
            77,
        )?;
        ensure!(asker.answer() == 1);
        ensure!(*inode.data() == 77);
        Ok(())
    }

    #[test]
    fn who_comes_second_tries_again_where_the_first_fails() -> Result {
        let mount = Mount::new()?;
        let Iget::New(new) = mount.sb().iget(7)? else {
            return Err(EINVAL);
        };
        let asker = Asker::start(mount.sb(), 7)?;
        drop(new);
        ensure!(asker.answer() == 2);
        ensure!(mount.sb().cached(7).is_none());
        Ok(())
    }

    #[test]
    fn what_is_pinned_goes_with_the_inode() -> Result {
        let mount = Mount::new()?;
        let count = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let inode = file(mount.sb(), 7)?;
        ensure!(inode.pinned().get().is_none());
        let first: *const Dropped = inode.pinned().get_or_set(Dropped::new(&count))?;
        // The second one is dropped at once, the first one stays.
        let second = inode.pinned().get_or_set(Dropped::new(&count))?;
        ensure!(core::ptr::eq(first, second));
        ensure!(count.load(Relaxed) == 1);
        drop(inode);
        drop(mount);
        ensure!(count.load(Relaxed) == 2);
        Ok(())
    }

    /// The memory of a symbolic link is reused by an inode that is not set up. The link target must
    /// be freed only once.
    #[test]
    fn memory_of_a_link_is_used_again() -> Result {
        let mount = Mount::new()?;
        for round in 0..100 {
            let mut target = KVec::zeroed(1 + round * 40, GFP_KERNEL)?;
            target.iter_mut().for_each(|byte| *byte = b't');
            let ino = 100 + u64::try_from(round)?;
            if let Iget::New(new) = mount.sb().iget(ino)? {
                let mut attributes = attributes(LINK);
                attributes.size = u64::try_from(target.len())?;
                new.init(&attributes, InodeType::Symlink(&target), 0)?;
            }
        }
        drop(mount);
        let mount = Mount::new()?;
        for ino in 100..300 {
            // Dropped before it is set up.
            drop(mount.sb().iget(ino)?);
        }
        if let Iget::New(new) = mount.sb().iget(7)? {
            let result = new.init(&attributes(LINK), InodeType::Symlink(b"a\0b"), 0);
            ensure!(result.err() == Some(EINVAL));
        }
        Ok(())
    }
}
