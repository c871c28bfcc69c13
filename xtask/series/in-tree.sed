# What differs between a file of the clone and the same file in a kernel tree. Each file
# that a patch adds goes through this script.

# The abstractions are a part of the kernel crate.
s/(^|[^$])\bcrate::vfs\b/\1kernel::vfs/g
s/^pub mod bindings;$/pub use crate::bindings;/
s/"(vfs\/)?rust_bytes.h"/<linux\/rust_bytes.h>/

# In fs/composefs/composefs_main.rs: the abstractions are not in a directory below.
/^\/\/! \| `vfs\/` /d
/^#\[allow\(unsafe_code, clippy::as_conversions\)\]$/d
/^pub mod vfs;$/d

# In the Makefile of the selftests: the series has only the core of them.
/^# These share images/,/^TEST_FILES/c\
TEST_FILES := lib
/^TEST_FILES \+=/d

# In the manual: what it says of pages and tests that the series does not have.
/^Documentation\/filesystems\/composefs-threat-model\.rst says/,/^$/d
/^``differences\.py`` in/,/^$/d
/^Documentation\/filesystems\/composefs-signing\.rst is for/,/^$/d
