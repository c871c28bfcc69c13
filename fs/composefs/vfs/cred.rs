// SPDX-License-Identifier: GPL-2.0

//! Credentials.
//!
//! C header: [`include/linux/cred.h`](srctree/include/linux/cred.h)

use super::bindings;
use core::ptr::NonNull;
use kernel::{
    cred::Credential,
    prelude::*,
    sync::aref::ARef, //
};

/// The credentials of the current task.
pub fn current() -> Result<ARef<Credential>> {
    // SAFETY: A task always has credentials; the function takes a reference to them.
    let cred = unsafe { bindings::get_current_cred() };
    let cred = NonNull::new(cred.cast_mut()).ok_or(EINVAL)?;
    // SAFETY: `Credential` is a transparent wrapper of `struct cred`, and the reference that
    // `get_current_cred` took becomes the `ARef`'s.
    Ok(unsafe { ARef::from_raw(cred.cast()) })
}

/// Runs `f` with the credentials `cred` in place of those of the current task.
pub fn with<R>(cred: &Credential, f: impl FnOnce() -> R) -> R {
    // SAFETY: `cred` outlives this function, which puts the old ones back before it returns;
    // there is no unwinding in the kernel.
    let old = unsafe { bindings::override_creds(cred.as_ptr()) };
    let result = f();
    // SAFETY: `old` is what `override_creds` returned, which is valid as long as the task.
    unsafe { bindings::revert_creds(old) };
    result
}

/// Whether two credentials give the same rights to files.
pub fn same_rights(a: &Credential, b: &Credential) -> bool {
    // SAFETY: Both are valid.
    unsafe { bindings::cred_same_rights(a.as_ptr(), b.as_ptr()) }
}

/// Whether the current task has `CAP_SYS_ADMIN` in the initial user namespace. Leaves no trace in
/// the audit log: for choosing what to show, not for refusing.
pub fn is_admin() -> bool {
    // SAFETY: The function has no requirements.
    unsafe { bindings::capable_noaudit(bindings::CAP_SYS_ADMIN as c_int) }
}
