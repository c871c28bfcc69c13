// SPDX-License-Identifier: GPL-2.0

//! Mounting: file system contexts and their parameters.
//!
//! C header: [`include/linux/fs_context.h`](srctree/include/linux/fs_context.h)

use super::{
    bindings,
    cred,
    keyring::Keyring,
    passed_file::Descriptor,
    path::Path,
    registration,
    super_block::{
        self,
        Info,
        SuperBlock, //
    },
    FileSystem, //
};
use core::{
    marker::PhantomData,
    ptr::NonNull, //
};
use kernel::{
    error::{
        from_err_ptr,
        from_result,
        to_result, //
    },
    fmt,
    prelude::*,
    str::CString,
    types::ForeignOwnable, //
};

/// Operations of a file system context.
pub trait Operations: FileSystem {
    /// Parses one parameter.
    ///
    /// # Errors
    ///
    /// The reason why it is refused. `fc` gets a message for the user.
    fn parse_param(
        _fc: &FsContext<'_>,
        _context: &mut Self::Context,
        _param: &Parameter<'_>,
    ) -> Result<Parsed> {
        Ok(Parsed::Unknown)
    }

    /// Checks the parameters of a reconfiguration of `sb`. The super block stays read-only in any
    /// case.
    ///
    /// # Errors
    ///
    /// The reason why it is refused. `fc` gets a message for the user.
    fn reconfigure(
        _fc: &FsContext<'_>,
        _context: &mut Self::Context,
        _sb: &SuperBlock<Self>,
    ) -> Result {
        Ok(())
    }
}

/// The result of parsing a parameter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// The parameter was accepted.
    Taken,
    /// The file system has no such parameter. The VFS then accepts `source`, and refuses others.
    Unknown,
}

/// The value of a parameter.
pub enum Value<'a> {
    /// The parameter has no value.
    Flag,
    /// A string.
    String(&'a CStr),
    /// A file descriptor.
    File(Descriptor<'a>),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A path, which may start at a file descriptor.
    Path(NamedPath<'a>),
    /// Any other type.
    Other,
}

/// A path that is the value of a parameter: `struct filename`, and where it starts.
///
/// # Invariants
///
/// `param` is a parameter of the type `fs_value_is_filename` that is valid for `'a`.
pub struct NamedPath<'a> {
    param: NonNull<bindings::fs_parameter>,
    _param: PhantomData<&'a bindings::fs_parameter>,
}

impl NamedPath<'_> {
    /// Looks the path up as the current task does, and follows symbolic links. `fc` gets a message
    /// if that fails.
    ///
    /// # Errors
    ///
    /// The error of the path lookup: `ENOENT`, `ENOTDIR`, `EACCES`, `ELOOP`, ...
    pub fn lookup(&self, fc: &FsContext<'_>) -> Result<Path> {
        // SAFETY: By the type invariants of both, the context is locked, and the parameter is a
        // valid path.
        unsafe { Path::of_parameter(fc.fc.as_ptr(), self.param.as_ptr()) }
    }
}

/// One parameter: `struct fs_parameter`.
pub struct Parameter<'a> {
    /// The name.
    pub key: &'a CStr,
    /// The value.
    pub value: Value<'a>,
}

impl<'a> Parameter<'a> {
    /// # Errors
    ///
    /// `EINVAL` if the value is missing.
    ///
    /// # Safety
    ///
    /// `param` must be valid for the lifetime of the result.
    unsafe fn from_raw(param: *mut bindings::fs_parameter) -> Result<Self> {
        // SAFETY: The parameter is valid.
        let value = match unsafe { bindings::fs_parameter_type(param) } {
            bindings::fs_value_type_fs_value_is_flag => Value::Flag,
            bindings::fs_value_type_fs_value_is_string => {
                // SAFETY: The type says that the union has a string, which may be null.
                let string = unsafe { (*param).__bindgen_anon_1.string };
                let string = NonNull::new(string).ok_or(EINVAL)?;
                // SAFETY: It is a C string that is valid as long as the parameter.
                Value::String(unsafe { CStr::from_char_ptr(string.as_ptr()) })
            }
            bindings::fs_value_type_fs_value_is_file => {
                // SAFETY: The type says that the union has a file, which may be null.
                let file = unsafe { (*param).__bindgen_anon_1.file };
                let file = NonNull::new(file).ok_or(EINVAL)?;
                // SAFETY: The file is open as long as the parameter is valid.
                Value::File(unsafe { Descriptor::from_raw(file) })
            }
            bindings::fs_value_type_fs_value_is_blob => {
                // SAFETY: The type says that the union has a pointer to bytes, which may be null.
                let (bytes, len) = unsafe { ((*param).__bindgen_anon_1.blob, (*param).size) };
                let bytes = NonNull::new(bytes.cast()).ok_or(EINVAL)?;
                // SAFETY: There are so many bytes, which are valid as long as the parameter.
                Value::Bytes(unsafe { NonNull::slice_from_raw_parts(bytes, len).as_ref() })
            }
            bindings::fs_value_type_fs_value_is_filename => Value::Path(NamedPath {
                // INVARIANT: That is its type.
                param: NonNull::new(param).ok_or(EINVAL)?,
                _param: PhantomData,
            }),
            _ => Value::Other,
        };
        // SAFETY: The key is a C string that is valid as long as the parameter.
        let key = unsafe { CStr::from_char_ptr((*param).key) };
        Ok(Self { key, value })
    }
}

/// A file system context, for a mount or a reconfiguration: `struct fs_context`.
///
/// # Invariants
///
/// `fc` is valid for `'a`, and nothing else uses it.
pub struct FsContext<'a> {
    fc: NonNull<bindings::fs_context>,
    keyring: Option<&'a Keyring>,
    _fc: PhantomData<&'a bindings::fs_context>,
}

impl<'a> FsContext<'a> {
    /// # Safety
    ///
    /// `fc` must be a context of `T` that is valid, not null, and locked for the lifetime of the
    /// result.
    pub(super) unsafe fn from_raw<T: super_block::Operations>(
        fc: *mut bindings::fs_context,
    ) -> Self {
        // SAFETY: The type of a context of `T` is that of its registration, which exists as long
        // as the context.
        let keyring = unsafe { registration::keyring::<T>((*fc).fs_type) };
        // INVARIANT: `fc` is valid and locked as long as the result lives.
        Self {
            // SAFETY: `fc` is not null.
            fc: unsafe { NonNull::new_unchecked(fc) },
            keyring,
            _fc: PhantomData,
        }
    }

    /// Returns the keyring of the file system type. `None` if the type names none, or if the
    /// kernel cannot verify signatures.
    pub fn keyring(&self) -> Option<&'a Keyring> {
        self.keyring
    }

    /// Whether the context is that of a remount.
    pub fn is_remount(&self) -> bool {
        // SAFETY: The context is valid and locked.
        let purpose = unsafe { (*self.fc.as_ptr()).purpose() };
        purpose == bindings::fs_context_purpose_FS_CONTEXT_FOR_RECONFIGURE
    }

    /// Passes a message to the user. If the context has a log, it can be read from the file
    /// descriptor of fsopen(2). With mount(2) it goes to the kernel log, but not for the root of a
    /// user namespace.
    pub fn error(&self, args: fmt::Arguments<'_>) {
        self.tell(args, false);
    }

    /// As [`error`](Self::error), and always to the kernel log, too, but not for the root of a user
    /// namespace. This is for what an attack on a disk looks like: nobody may read the context's
    /// log, least of all while the system boots.
    pub fn alert(&self, args: fmt::Arguments<'_>) {
        self.tell(args, true);
    }

    fn tell(&self, args: fmt::Arguments<'_>, is_alert: bool) {
        // SAFETY: The context is valid and locked.
        let has_own_log = unsafe { !(*self.fc.as_ptr()).log.log.is_null() };
        let is_for_kernel_log = (is_alert || !has_own_log) && cred::is_admin();
        if !has_own_log && !is_for_kernel_log {
            return;
        }
        if let Ok(message) = CString::try_from_fmt(args) {
            // SAFETY: The context is valid. The name of a file system type is a C string.
            let prefix = unsafe { (*(*self.fc.as_ptr()).fs_type).name };
            let message = message.as_char_ptr();
            if has_own_log {
                // SAFETY: The context is valid. Both are C strings, which are copied.
                unsafe { bindings::errorf(self.fc.as_ptr(), prefix, message) };
            }
            if is_for_kernel_log {
                // SAFETY: Both are C strings.
                unsafe { bindings::pr_err_ratelimited(prefix, message) };
            }
        }
    }

    /// Whether the current task is in the user namespace that will own the mount. The context's
    /// file descriptor may have been passed to a task with other rights.
    pub fn is_own_user_namespace(&self) -> bool {
        // SAFETY: The context is valid and locked.
        unsafe { (*self.fc.as_ptr()).user_ns == bindings::current_user_ns() }
    }

    /// Whether there are mount options of a security module, such as `context=`.
    pub fn has_security_options(&self) -> bool {
        // SAFETY: The context is valid and locked.
        unsafe { !(*self.fc.as_ptr()).security.is_null() }
    }

    /// Sets the source of the mount, which the VFS sets from a string only.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, or `EINVAL` if it is set already.
    pub fn set_source(&self, name: &CStr) -> Result {
        if self.source().is_some() {
            return Err(EINVAL);
        }
        // SAFETY: `name` is a C string.
        let copy = unsafe { bindings::kstrdup(name.as_char_ptr(), bindings::GFP_KERNEL_ACCOUNT) };
        if copy.is_null() {
            return Err(ENOMEM);
        }
        // SAFETY: The context is valid and locked. It frees the copy with `kfree`.
        unsafe { (*self.fc.as_ptr()).source = copy };
        Ok(())
    }

    /// Returns the source of the mount as the user named it.
    pub fn source(&self) -> Option<&CStr> {
        // SAFETY: The string belongs to the context, which is locked.
        unsafe {
            let source = (*self.fc.as_ptr()).source;
            (!source.is_null()).then(|| CStr::from_char_ptr(source))
        }
    }
}

/// Splits the first option off a string of options, at a comma without a backslash before it. The
/// backslash stays in the option.
///
/// # Safety
///
/// `rest` must point to null or to a C string that may be changed.
unsafe extern "C" fn next_option(rest: *mut *mut c_char) -> *mut c_char {
    // SAFETY: `rest` points to null or to a C string.
    let option = unsafe { *rest };
    if option.is_null() {
        return option;
    }
    // SAFETY: `option` is a C string.
    let bytes = unsafe { CStr::from_char_ptr(option) }.to_bytes();
    let mut escaped = false;
    let comma = bytes.iter().position(|byte| {
        let ends = *byte == b',' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    // SAFETY: The position is within the string, so at least the NUL is behind it.
    unsafe {
        *rest = match comma {
            Some(index) => {
                *option.add(index) = 0;
                option.add(index.wrapping_add(1))
            }
            None => core::ptr::null_mut(),
        };
    }
    option
}

/// `->init_fs_context`.
///
/// # Safety
///
/// `fc` must be a new context of the file system `T`.
pub(super) unsafe extern "C" fn init_fs_context<T: super_block::Operations + Operations>(
    fc: *mut kernel::bindings::fs_context,
) -> c_int {
    let fc = fc.cast::<bindings::fs_context>();
    let Ok(context) = KBox::new(T::Context::default(), GFP_KERNEL_ACCOUNT) else {
        return ENOMEM.to_errno();
    };
    // SAFETY: The context is new. The kernel crate has an opaque `fs_context`; this one is the
    // complete type.
    unsafe {
        (*fc).fs_private = context.into_foreign();
        (*fc).ops = &Table::<T>::OPERATIONS;
        (*fc).sb_flags |= bindings::SB_RDONLY as c_uint;
    }
    0
}

/// Type of the `test` of `sget_fc()`.
type SgetTest =
    Option<unsafe extern "C" fn(*mut bindings::super_block, *mut bindings::fs_context) -> c_int>;

/// The `set` of an `sget_fc()` that must find a super block: it refuses to set up a new one.
///
/// # Safety
///
/// There are no requirements. The type of C callbacks is unsafe.
unsafe extern "C" fn refuse(
    _sb: *mut bindings::super_block,
    _fc: *mut bindings::fs_context,
) -> c_int {
    ENOENT.to_errno()
}

struct Table<T>(PhantomData<T>);

impl<T: super_block::Operations + Operations> Table<T> {
    const OPERATIONS: bindings::fs_context_operations = bindings::fs_context_operations {
        free: Some(Self::free),
        parse_param: Some(Self::parse_param),
        parse_monolithic: Some(Self::parse_monolithic),
        get_tree: Some(Self::get_tree),
        reconfigure: Some(Self::reconfigure),
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// `fc` must be a context of `T` that is being freed.
    unsafe extern "C" fn free(fc: *mut bindings::fs_context) {
        // SAFETY: `fs_private` is null or the box of `init_fs_context()`, and is taken once.
        unsafe {
            let context = core::mem::replace(&mut (*fc).fs_private, core::ptr::null_mut());
            drop(KBox::<T::Context>::try_from_foreign(context));
        }
    }

    /// # Safety
    ///
    /// `fc` must be a context of `T` that is locked, and `param` valid.
    unsafe extern "C" fn parse_param(
        fc: *mut bindings::fs_context,
        param: *mut bindings::fs_parameter,
    ) -> c_int {
        // SAFETY: The parameter is valid. The context is locked, and `fs_private` was set by
        // `init_fs_context()`.
        let (param, context) = unsafe {
            (
                Parameter::from_raw(param),
                (*fc).fs_private.cast::<T::Context>().as_mut(),
            )
        };
        let (Ok(param), Some(context)) = (param, context) else {
            return EINVAL.to_errno();
        };
        // SAFETY: The context is locked.
        let fc = unsafe { FsContext::from_raw::<T>(fc) };
        match T::parse_param(&fc, context, &param) {
            Ok(Parsed::Taken) => 0,
            Ok(Parsed::Unknown) => ENOPARAM.to_errno(),
            Err(e) => e.to_errno(),
        }
    }

    /// Parses the options of mount(2): one string, with commas between the options.
    ///
    /// # Safety
    ///
    /// `fc` must be a context of `T` that is locked, and `data` null or a C string that may be
    /// changed.
    unsafe extern "C" fn parse_monolithic(
        fc: *mut bindings::fs_context,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: `fc` is a locked context. `next_option` changes only the string.
        unsafe { bindings::vfs_parse_monolithic_sep(fc, data, Some(next_option)) }
    }

    /// # Safety
    ///
    /// `fc` must be a context of `T` that is locked.
    unsafe extern "C" fn get_tree(fc: *mut bindings::fs_context) -> c_int {
        // SAFETY: `fc` is a locked context of `T`.
        let root = unsafe { Self::root(fc) };
        match root {
            Ok(root) => {
                // SAFETY: The context is locked. It takes over the reference to the root.
                unsafe { (*fc).root = root };
                0
            }
            Err(e) => e.to_errno(),
        }
    }

    /// Finds or creates the super block, and returns a reference to its root. The super block is
    /// active and locked then.
    ///
    /// # Safety
    ///
    /// `fc` must be a context of `T` that is locked.
    unsafe fn root(fc: *mut bindings::fs_context) -> Result<*mut bindings::dentry> {
        // SAFETY: The context is locked, and `fs_private` was set by `init_fs_context()`.
        let context = unsafe { (*fc).fs_private.cast::<T::Context>().as_mut() }.ok_or(EINVAL)?;
        // SAFETY: The context is locked.
        let key = T::prepare(unsafe { &FsContext::from_raw::<T>(fc) }, context)?;
        let has_key = key.is_some();
        let info = KBox::new(Info::<T>::new(key), GFP_KERNEL_ACCOUNT)?;
        // SAFETY: The context is locked. `s_fs_info` is what `super_block()` passes on.
        let (sb, left) = unsafe {
            (*fc).s_fs_info = info.into_foreign();
            let sb = Self::super_block(fc, context, has_key);
            let left = core::mem::replace(&mut (*fc).s_fs_info, core::ptr::null_mut());
            (sb, left)
        };
        // SAFETY: If a super block has taken the box, `left` is null. Otherwise it is still owned.
        drop(unsafe { KBox::<Info<T>>::try_from_foreign(left) });
        let sb = sb?;
        // SAFETY: The super block is active and locked. A new super block has no root.
        unsafe {
            if (*sb).s_root.is_null() {
                if let Err(e) = to_result(super_block::fill_super::<T>(sb, fc)) {
                    bindings::deactivate_locked_super(sb);
                    return Err(e);
                }
                (*sb).s_flags |= bindings::SB_ACTIVE;
            }
            Ok(bindings::dget((*sb).s_root))
        }
    }

    /// Finds a super block with the key in `s_fs_info`. Otherwise reads what a new one needs, and
    /// creates it.
    ///
    /// # Safety
    ///
    /// `fc` must be a context of `T` that is locked, and `s_fs_info` an [`Info<T>`], with a key if
    /// `has_key`.
    unsafe fn super_block(
        fc: *mut bindings::fs_context,
        context: &mut T::Context,
        has_key: bool,
    ) -> Result<*mut bindings::super_block> {
        let test: SgetTest = if has_key {
            Some(super_block::test::<T>)
        } else {
            None
        };
        // SAFETY: The type of a context does not change. The list is read without a lock: a wrong
        // answer only costs time.
        let may_share = unsafe {
            let first = &raw const (*(*fc).fs_type).fs_supers.first;
            has_key && !core::ptr::read_volatile(first).is_null()
        };
        if may_share {
            // SAFETY: `fc` is a locked context. `refuse` keeps a new super block from being made.
            match from_err_ptr(unsafe { bindings::sget_fc(fc, test, Some(refuse)) }) {
                Err(e) if e == ENOENT => (),
                found => return found,
            }
        }
        // SAFETY: `fc` is a locked context. `sget_fc` takes what is in `s_fs_info` if it makes a
        // new super block, and leaves it if not.
        unsafe {
            T::load(&FsContext::from_raw::<T>(fc), context)?;
            from_err_ptr(bindings::sget_fc(
                fc,
                test,
                Some(bindings::set_anon_super_fc),
            ))
        }
    }

    /// # Safety
    ///
    /// `fc` must be a locked context of `T` for a reconfiguration.
    unsafe extern "C" fn reconfigure(fc: *mut bindings::fs_context) -> c_int {
        // SAFETY: The context is locked, and `fs_private` was set by `init_fs_context()`.
        let context = unsafe {
            // There are no write operations.
            (*fc).sb_flags |= bindings::SB_RDONLY as c_uint;
            (*fc).fs_private.cast::<T::Context>().as_mut()
        };
        let Some(context) = context else {
            return EINVAL.to_errno();
        };
        // SAFETY: The root of the context belongs to a mounted super block, which has its data.
        let sb = unsafe { SuperBlock::from_raw((*(*fc).root).d_sb) };
        // SAFETY: The context is locked.
        let fc = unsafe { FsContext::from_raw::<T>(fc) };
        from_result(|| {
            T::reconfigure(&fc, context, sb)?;
            Ok(0)
        })
    }
}
