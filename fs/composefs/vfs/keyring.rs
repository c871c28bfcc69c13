// SPDX-License-Identifier: GPL-2.0

//! Keyrings, and signatures by the keys in them.
//!
//! C headers: [`include/linux/key.h`](srctree/include/linux/key.h),
//! [`include/linux/verification.h`](srctree/include/linux/verification.h),
//! [`include/keys/system_keyring.h`](srctree/include/keys/system_keyring.h)

/// The keys by one of which data must be signed.
pub enum Keys<'a> {
    /// Those in a keyring.
    In(&'a Keyring),
    /// Those that are built into the kernel, and those that were added to its keyring
    /// `.secondary_trusted_keys`.
    Secondary,
    /// Those of the machine's firmware, in the kernel's keyring `.platform`.
    Platform,
}

pub use imp::{
    is_blacklisted,
    verify_detached,
    Keyring, //
};

#[cfg(CONFIG_SYSTEM_DATA_VERIFICATION)]
mod imp {
    use super::{
        super::bindings,
        Keys, //
    };
    use core::ptr::NonNull;
    use kernel::{
        error::{
            from_err_ptr,
            to_result, //
        },
        prelude::*, //
    };

    /// A keyring that root fills from user space, and can close. It is revoked when it is dropped.
    ///
    /// # Invariants
    ///
    /// Owns a reference to a keyring.
    pub struct Keyring(NonNull<bindings::key>);

    // SAFETY: A keyring may be used and put from any thread.
    unsafe impl Send for Keyring {}

    // SAFETY: As above. The kernel locks its contents.
    unsafe impl Sync for Keyring {}

    impl Keyring {
        /// Makes a keyring, which `/proc/keys` shows by its name. Root of the initial user
        /// namespace owns it. `None` if the kernel cannot verify signatures.
        ///
        /// # Errors
        ///
        /// `ENOMEM`.
        pub fn new(name: &CStr) -> Result<Option<Self>> {
            // SAFETY: `name` is a C string, which is copied.
            let key = from_err_ptr(unsafe { bindings::root_keyring_alloc(name.as_char_ptr()) })?;
            // INVARIANT: The function has returned a reference.
            Ok(NonNull::new(key).map(Self))
        }

        /// Whether there is no key in it.
        pub fn is_empty(&self) -> bool {
            // SAFETY: By the type invariants it is a keyring.
            unsafe { bindings::keyring_is_empty(self.0.as_ptr()) }
        }
    }

    impl Drop for Keyring {
        fn drop(&mut self) {
            // SAFETY: By the type invariants the reference is owned.
            unsafe {
                bindings::key_revoke(self.0.as_ptr());
                bindings::key_put(self.0.as_ptr());
            }
        }
    }

    /// Checks that `signature`, a PKCS#7 message in DER without content, is one over `data` by
    /// one of `keys`.
    ///
    /// # Errors
    ///
    /// `ENOKEY`, `EKEYREVOKED` or `EKEYEXPIRED` if none of the keys has made it and can be used,
    /// `EKEYREJECTED` if it is not over `data` or must not be trusted, `EBADMSG` and others if it
    /// is no such message, `ENOPKG` if the kernel lacks its algorithm, `EOPNOTSUPP` if the kernel
    /// cannot verify signatures, `ENOMEM`.
    pub fn verify_detached(data: &[u8], signature: &[u8], keys: &Keys<'_>) -> Result {
        let keyring = match keys {
            Keys::In(keyring) => keyring.0.as_ptr(),
            Keys::Secondary => {
                core::ptr::without_provenance_mut(bindings::VERIFY_SECONDARY_KEYRING)
            }
            Keys::Platform => core::ptr::without_provenance_mut(bindings::VERIFY_PLATFORM_KEYRING),
        };
        // SAFETY: Both slices are valid, and are only read. The keyring is valid or one of the
        // numbers that stand for one.
        to_result(unsafe {
            bindings::verify_pkcs7_signature(
                data.as_ptr().cast(),
                data.len(),
                signature.as_ptr().cast(),
                signature.len(),
                keyring,
                bindings::key_being_used_for_VERIFYING_UNSPECIFIED_SIGNATURE,
                None,
                core::ptr::null_mut(),
            )
        })
    }
    /// Whether the kernel's blacklist has the certificate in which `signed` is what its issuer has
    /// signed. `false` if there is no memory to look it up.
    pub fn is_blacklisted(signed: &[u8]) -> bool {
        let mut hash = [0; bindings::SHA256_DIGEST_SIZE as usize];
        // SAFETY: `signed` has `signed.len()` bytes, and `hash` room for the result.
        let result = unsafe {
            bindings::sha256(signed.as_ptr(), signed.len(), hash.as_mut_ptr());
            bindings::is_certificate_blacklisted(hash.as_ptr(), hash.len())
        };
        to_result(result) == Err(EKEYREJECTED)
    }
}

#[cfg(not(CONFIG_SYSTEM_DATA_VERIFICATION))]
mod imp {
    use super::Keys;
    use core::convert::Infallible;
    use kernel::prelude::*;

    /// A keyring, which cannot exist: this kernel cannot verify signatures.
    pub struct Keyring(Infallible);

    impl Keyring {
        /// Returns `None`.
        ///
        /// # Errors
        ///
        /// None.
        pub fn new(_name: &CStr) -> Result<Option<Self>> {
            Ok(None)
        }

        /// Whether there is no key in it.
        pub fn is_empty(&self) -> bool {
            match self.0 {}
        }
    }

    /// Refuses.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP`.
    pub fn verify_detached(_data: &[u8], _signature: &[u8], _keys: &Keys<'_>) -> Result {
        Err(EOPNOTSUPP)
    }
    /// Returns `false`.
    pub fn is_blacklisted(_signed: &[u8]) -> bool {
        false
    }
}
