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

/// Returns the credentials of the current task.
pub fn current() -> Result<ARef<Credential>> {
    // SAFETY: Every task has credentials. The function takes a reference to them.
    let cred = unsafe { bindings::get_current_cred() };
    let cred = NonNull::new(cred.cast_mut()).ok_or(EINVAL)?;
    // SAFETY: `Credential` is a transparent wrapper of `struct cred`. The `ARef` takes over the
    // reference.
    Ok(unsafe { ARef::from_raw(cred.cast()) })
}

/// Runs `f` with the credentials `cred` in place of those of the current task.
pub fn with<R>(cred: &Credential, f: impl FnOnce() -> R) -> R {
    // SAFETY: `cred` is valid until this function returns, and the old credentials are restored
    // before. The kernel does not unwind.
    let old = unsafe { bindings::override_creds(cred.as_ptr()) };
    let result = f();
    // SAFETY: `old` was returned by `override_creds()`, and the task holds a reference to it.
    unsafe { bindings::revert_creds(old) };
    result
}

/// Whether two credentials give the same rights to files.
pub fn same_rights(a: &Credential, b: &Credential) -> bool {
    // SAFETY: Both are valid.
    unsafe { bindings::cred_same_rights(a.as_ptr(), b.as_ptr()) }
}

/// Whether the current task has `CAP_SYS_ADMIN` in the initial user namespace. It writes nothing to
/// the audit log: use it to choose what to show, not to refuse an access.
pub fn is_admin() -> bool {
    // SAFETY: The function has no requirements.
    unsafe { bindings::capable_noaudit(bindings::CAP_SYS_ADMIN as c_int) }
}
