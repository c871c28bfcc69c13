// SPDX-License-Identifier: GPL-2.0

//! Registration of a file system type.
//!
//! C header: [`include/linux/fs.h`](srctree/include/linux/fs.h)

use super::{
    bindings,
    context,
    inode,
    keyring::Keyring,
    super_block,
    FileSystem, //
};
use core::{
    marker::PhantomData,
    pin::Pin,
    ptr::NonNull, //
};
use kernel::{
    container_of,
    error::to_result,
    prelude::*,
    types::Opaque, //
};

/// A file system type that can be mounted as long as this object exists.
///
/// It is in static memory because the keys of locks are in it: lockdep rejects keys in memory that
/// may be freed.
///
/// # Invariants
///
/// `fs_type` is registered, and `inodes` is the cache that the inodes of its super blocks come
/// from.
#[pin_data(PinnedDrop)]
pub struct Registration<T: super_block::Operations> {
    #[pin]
    fs_type: Opaque<bindings::file_system_type>,
    inodes: InodeCache<T>,
    keyring: Option<Keyring>,
}

// SAFETY: A type may be registered and unregistered from any thread.
unsafe impl<T: super_block::Operations> Send for Registration<T> {}

// SAFETY: A shared reference gives access to the keyring only, which is `Sync`.
unsafe impl<T: super_block::Operations> Sync for Registration<T> {}

impl<T: super_block::Operations> Registration<T> {
    /// Registers the type. Only [`module_fs!`](crate::vfs::registration::module_fs) calls this.
    /// Nothing that can fail may come after it.
    ///
    /// # Errors
    ///
    /// `EBUSY` if a type of this name exists, `ENOMEM`.
    ///
    /// # Safety
    ///
    /// The registration must be initialised in static memory, and be dropped only when the module
    /// `T::Module` is unloaded. A mounted super block holds a reference to that module and to
    /// nothing else: without this rule, a mount could outlive the registration, and with it the
    /// cache that the mount's inodes are in.
    pub unsafe fn new() -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            inodes: InodeCache::new()?,
            keyring: match T::KEYRING_NAME {
                Some(name) => Keyring::new(name)?,
                None => None,
            },
            fs_type <- Opaque::try_ffi_init(|slot: *mut bindings::file_system_type| {
                // SAFETY: The slot is memory for the type, which is pinned, and unregistered
                // before it goes.
                unsafe {
                    slot.write(bindings::file_system_type {
                        name: T::NAME.as_char_ptr(),
                        fs_flags: fs_flags::<T>(),
                        owner: kernel::module::this_module::<T::Module>().as_ptr(),
                        init_fs_context: Some(context::init_fs_context::<T>),
                        kill_sb: Some(super_block::kill_sb::<T>),
                        ..pin_init::zeroed()
                    });
                    to_result(bindings::register_filesystem(slot))
                }
            }),
        })
    }
}

/// Declares a module that registers one file system type, and does nothing else.
///
/// `type` is the type that implements [`FileSystem`]. The other arguments are those of [`module!`].
///
/// The registration exists from the initialisation of the module until it is unloaded. Safe code
/// can neither drop it earlier nor make a second one.
///
/// # Examples
///
/// ```ignore
/// module_fs! {
///     type: MyFs,
///     name: "myfs",
///     authors: ["Author name"],
///     description: "My file system",
///     license: "GPL",
///     alias: ["fs-myfs"],
/// }
/// ```
#[macro_export]
macro_rules! module_fs {
    (type: $type:ty, $($module:tt)*) => {
        /// The module: a registration of the file system type.
        #[::kernel::prelude::pin_data]
        struct FsModule {
            #[pin]
            _registration: $crate::vfs::registration::Registration<$type>,
        }

        // The type counts the mounts of its `Module`, so this must be the module here.
        const _: () = {
            const fn is_of_this_module<T: $crate::vfs::FileSystem<Module = LocalModule>>() {}
            is_of_this_module::<$type>()
        };

        #[allow(unsafe_code)]
        impl ::kernel::InPlaceModule for FsModule {
            fn init(
                _module: &'static ::kernel::ThisModule,
            ) -> impl ::pin_init::PinInit<Self, ::kernel::error::Error> {
                use ::kernel::sync::atomic::{AtomicFlag, Full};

                /// Whether the initialisation has begun.
                static BEGUN: AtomicFlag = AtomicFlag::new(false);

                ::kernel::prelude::try_pin_init!(Self {
                    // Only the first call gets further, also if other code of the module calls
                    // this safe function again.
                    _: {
                        if BEGUN.xchg(true, Full) {
                            return Err(::kernel::error::code::EBUSY);
                        }
                    },
                    // SAFETY: The first call comes from the code that `module!` generates, before
                    // any other code of the module runs. That code keeps the module's data in a
                    // static, and drops them when the module is unloaded, which is `T::Module`.
                    _registration <- unsafe {
                        $crate::vfs::registration::Registration::<$type>::new()
                    },
                })
            }
        }

        ::kernel::prelude::module! {
            type: FsModule,
            $($module)*
        }
    };
}
pub use module_fs;

/// Its mounts may be idmapped: ids are those of the super block everywhere, and what depends on the
/// mount is left to the VFS.
fn fs_flags<T: FileSystem>() -> c_int {
    let userns = if T::allows_user_namespaces() {
        bindings::FS_USERNS_MOUNT
    } else {
        0
    };
    (bindings::FS_ALLOW_IDMAP | userns) as c_int
}

#[cfg(all(CONFIG_KUNIT = "y", CONFIG_RUST_VFS_KUNIT_TEST))]
impl<T: super_block::Operations> Registration<T> {
    /// The type, for a mount that no name leads to.
    pub(super) fn fs_type(&self) -> *mut bindings::file_system_type {
        self.fs_type.get()
    }
}

#[pinned_drop]
impl<T: super_block::Operations> PinnedDrop for Registration<T> {
    fn drop(self: Pin<&mut Self>) {
        // SAFETY: The type is registered by the type invariants, and not in use: the module that
        // owns it could not be unloaded otherwise.
        unsafe { bindings::unregister_filesystem(self.fs_type.get()) };
    }
}

/// The inode cache of the type that `fs_type` is.
///
/// # Safety
///
/// `fs_type` must be that of a [`Registration<T>`].
pub(super) unsafe fn inode_cache<T: super_block::Operations>(
    fs_type: *mut bindings::file_system_type,
) -> *mut bindings::kmem_cache {
    // SAFETY: `fs_type` is a field of a registration.
    unsafe { of_type::<T>(fs_type) }.inodes.cache.as_ptr()
}

/// The keyring of the type that `fs_type` is.
///
/// # Safety
///
/// `fs_type` must be that of a [`Registration<T>`] that exists for the lifetime `'a`.
pub(super) unsafe fn keyring<'a, T: super_block::Operations>(
    fs_type: *mut bindings::file_system_type,
) -> Option<&'a Keyring> {
    // SAFETY: `fs_type` is a field of a registration.
    unsafe { of_type::<T>(fs_type) }.keyring.as_ref()
}

/// The registration that `fs_type` is in.
///
/// # Safety
///
/// `fs_type` must be that of a [`Registration<T>`] that exists for the lifetime `'a`.
unsafe fn of_type<'a, T: super_block::Operations>(
    fs_type: *mut bindings::file_system_type,
) -> &'a Registration<T> {
    // SAFETY: `fs_type` is a field of a registration; `Opaque` is a transparent wrapper.
    unsafe {
        &*container_of!(
            fs_type.cast::<Opaque<bindings::file_system_type>>(),
            Registration<T>,
            fs_type
        )
    }
}

/// A slab cache for the inodes of `T`.
///
/// # Invariants
///
/// `cache` is a cache that we own.
struct InodeCache<T: super_block::Operations> {
    cache: NonNull<bindings::kmem_cache>,
    _type: PhantomData<T>,
}

impl<T: super_block::Operations> InodeCache<T> {
    fn new() -> Result<Self> {
        let (size, align) = inode::memory_layout::<T>();
        let mut args = bindings::kmem_cache_args {
            align,
            ctor: Some(inode::init_once::<T>),
            ..pin_init::zeroed()
        };
        // SAFETY: The name is static; the constructor sets up memory of the size given.
        let cache = unsafe {
            bindings::__kmem_cache_create_args(
                T::INODE_CACHE_NAME.as_char_ptr(),
                size,
                &raw mut args,
                bindings::SLAB_RECLAIM_ACCOUNT | bindings::SLAB_ACCOUNT,
            )
        };
        // INVARIANT: The cache was made for us.
        Ok(Self {
            cache: NonNull::new(cache).ok_or(ENOMEM)?,
            _type: PhantomData,
        })
    }
}

impl<T: super_block::Operations> Drop for InodeCache<T> {
    fn drop(&mut self) {
        // SAFETY: All super blocks are gone, and with them all inodes, but the memory of some may
        // still wait for the end of a grace period, as may folios that were kept: `rcu_barrier`
        // waits for it. A callback that has seen a user of such a folio queues itself again, which
        // may be behind the first barrier. It sees none then, as there is no mount any more.
        unsafe {
            bindings::rcu_barrier();
            bindings::rcu_barrier();
            bindings::kmem_cache_destroy(self.cache.as_ptr());
        }
    }
}
