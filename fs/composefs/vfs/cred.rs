// SPDX-License-Identifier: GPL-2.0

//! Credentials.
//!
//! C header: [`include/linux/cred.h`](srctree/include/linux/cred.h)

use super::bindings;
use core::{
    mem::MaybeUninit,
    ptr::NonNull, //
};
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

/// Whether two credentials give the same rights to files: ids, capabilities, user namespace,
/// security label and keyrings.
pub fn same_rights(a: &Credential, b: &Credential) -> bool {
    let (a, b) = (a.as_ptr(), b.as_ptr());
    // SAFETY: Both credentials are valid, and these fields do not change.
    let same_ids = unsafe {
        (*a).user_ns == (*b).user_ns
            && (*a).securebits == (*b).securebits
            && (*a).cap_effective.val == (*b).cap_effective.val
            && bindings::cred_fscmp(a, b) == 0
    };
    a == b || same_ids && same_keyrings(a, b) && same_labels(a, b)
}

/// Whether two credentials, which must be valid, have the same keyrings.
#[cfg(CONFIG_KEYS)]
fn same_keyrings(a: *const bindings::cred, b: *const bindings::cred) -> bool {
    // SAFETY: `same_rights` passes valid credentials. The keyrings are only compared.
    unsafe {
        (*a).session_keyring == (*b).session_keyring
            && (*a).process_keyring == (*b).process_keyring
            && (*a).thread_keyring == (*b).thread_keyring
    }
}

#[cfg(not(CONFIG_KEYS))]
fn same_keyrings(_: *const bindings::cred, _: *const bindings::cred) -> bool {
    true
}

/// Whether two credentials, which must be valid, have the same security labels.
fn same_labels(a: *const bindings::cred, b: *const bindings::cred) -> bool {
    let mut labels = [const { MaybeUninit::<bindings::lsm_prop>::uninit() }; 2];
    for (label, cred) in labels.iter_mut().zip([a, b]) {
        // Padding is compared, too, so set it in place: a move need not preserve it.
        // SAFETY: The credentials are valid, and `label` has room for the result.
        unsafe {
            label.as_mut_ptr().write_bytes(0, 1);
            bindings::security_cred_getlsmprop(cred, label.as_mut_ptr());
        }
    }
    let [a, b] = &labels;
    // SAFETY: Both have this size, and all of their bytes were set to zero at first.
    unsafe { bindings::memcmp(a.as_ptr().cast(), b.as_ptr().cast(), size_of_val(a)) == 0 }
}

/// Whether the current task has `CAP_SYS_ADMIN` in the initial user namespace. It writes nothing to
/// the audit log: use it to choose what to show, not to refuse an access.
pub fn is_admin() -> bool {
    // SAFETY: The initial user namespace is static.
    unsafe {
        bindings::ns_capable_noaudit(
            &raw mut bindings::init_user_ns,
            bindings::CAP_SYS_ADMIN as c_int,
        )
    }
}
