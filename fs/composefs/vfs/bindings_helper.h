/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What bindgen reads for vfs/bindings.rs: the headers that the kernel's own
 * bindings lack, and constants that are macros.
 */
#include <linux/compiler_types.h>
#include <linux/cleanup.h>

#include <linux/anon_inodes.h>
#include <linux/backing-file.h>
#include <linux/blkdev.h>
#include <linux/exportfs.h>
#include <linux/fiemap.h>
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/fserror.h>
#include <linux/fsnotify_backend.h>
#include <linux/fsverity.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/pagemap.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/seq_file.h>
#include <linux/splice.h>
#include <linux/statfs.h>
#include <linux/uio.h>
#include <linux/verification.h>
#include <linux/xattr.h>
#include <linux/xxhash.h>

#include "rust_bytes.h"

#define __rust_helper
#include "helpers.c"

const unsigned short RUST_CONST_HELPER_MODE_REGULAR = S_IFREG | 0400;
const unsigned long RUST_CONST_HELPER_SB_ACTIVE = SB_ACTIVE;
const unsigned long RUST_CONST_HELPER_SB_DIRSYNC = SB_DIRSYNC;
const unsigned long RUST_CONST_HELPER_SB_LAZYTIME = SB_LAZYTIME;
const unsigned long RUST_CONST_HELPER_SB_MANDLOCK = SB_MANDLOCK;
const unsigned long RUST_CONST_HELPER_SB_RDONLY = SB_RDONLY;
const unsigned long RUST_CONST_HELPER_SB_SYNCHRONOUS = SB_SYNCHRONOUS;
const unsigned long RUST_CONST_HELPER_SB_NOATIME = SB_NOATIME;
const unsigned long RUST_CONST_HELPER_SB_POSIXACL = SB_POSIXACL;
const blk_mode_t RUST_CONST_HELPER_BLK_OPEN_READ = BLK_OPEN_READ;
const blk_mode_t RUST_CONST_HELPER_BLK_OPEN_RESTRICT_WRITES = BLK_OPEN_RESTRICT_WRITES;
const loff_t RUST_CONST_HELPER_MAX_LFS_FILESIZE = MAX_LFS_FILESIZE;
const unsigned int RUST_CONST_HELPER_FMODE_CAN_ODIRECT = FMODE_CAN_ODIRECT;
const unsigned int RUST_CONST_HELPER_FMODE_EXEC = (unsigned int)__FMODE_EXEC;
const unsigned int RUST_CONST_HELPER_FMODE_NOWAIT = FMODE_NOWAIT;
const unsigned int RUST_CONST_HELPER_FMODE_PATH = FMODE_PATH;
const int RUST_CONST_HELPER_MNT_FLAGS = MNT_USER_SETTABLE_MASK;
const unsigned int RUST_CONST_HELPER_S_ANON_INODE = S_ANON_INODE;
const unsigned int RUST_CONST_HELPER_SLAB_ACCOUNT = (unsigned int)SLAB_ACCOUNT;
const unsigned int RUST_CONST_HELPER_SLAB_RECLAIM_ACCOUNT = (unsigned int)SLAB_RECLAIM_ACCOUNT;
const unsigned int RUST_CONST_HELPER_LOOKUP_FOLLOW = LOOKUP_FOLLOW;
const unsigned int RUST_CONST_HELPER_LOOKUP_NO_SYMLINKS = LOOKUP_NO_SYMLINKS;
const unsigned int RUST_CONST_HELPER_LOOKUP_NO_XDEV = LOOKUP_NO_XDEV;
const unsigned int RUST_CONST_HELPER_LOOKUP_BENEATH = LOOKUP_BENEATH;
const int RUST_CONST_HELPER_IOCB_DIRECT = (int)IOCB_DIRECT;
const int RUST_CONST_HELPER_IOCB_NOWAIT = (int)IOCB_NOWAIT;
const int RUST_CONST_HELPER_IOCB_DONTCACHE = (int)IOCB_DONTCACHE;
const unsigned int RUST_CONST_HELPER_FOP_DONTCACHE = (unsigned int)FOP_DONTCACHE;
const unsigned int RUST_CONST_HELPER_MEASURE_VERITY = FS_IOC_MEASURE_VERITY;
const unsigned int RUST_CONST_HELPER_READ_VERITY_METADATA = FS_IOC_READ_VERITY_METADATA;
const int RUST_CONST_HELPER_POSIX_ACL_ACCESS = ACL_TYPE_ACCESS;
const int RUST_CONST_HELPER_POSIX_ACL_DEFAULT = ACL_TYPE_DEFAULT;
const u32 RUST_CONST_HELPER_FS_READING_EVENTS =
	FS_OPEN | FS_OPEN_EXEC | FS_ACCESS | FS_CLOSE_NOWRITE | ALL_FSNOTIFY_PERM_EVENTS;
const u32 RUST_CONST_HELPER_FS_PERMISSION_EVENTS = ALL_FSNOTIFY_PERM_EVENTS;
const unsigned int RUST_CONST_HELPER_IOP_FLCTX = IOP_FLCTX;
const unsigned int RUST_CONST_HELPER_DCACHE_OP_REVALIDATE = DCACHE_OP_REVALIDATE;
const unsigned int RUST_CONST_HELPER_DCACHE_OP_WEAK_REVALIDATE = DCACHE_OP_WEAK_REVALIDATE;
const unsigned int RUST_CONST_HELPER_DCACHE_FSNOTIFY_PARENT_WATCHED =
	DCACHE_FSNOTIFY_PARENT_WATCHED;
const unsigned long RUST_CONST_HELPER_BTRFS_MAGIC = BTRFS_SUPER_MAGIC;
const unsigned long RUST_CONST_HELPER_EROFS_MAGIC = EROFS_SUPER_MAGIC_V1;
const unsigned long RUST_CONST_HELPER_EXT4_MAGIC = EXT4_SUPER_MAGIC;
const unsigned long RUST_CONST_HELPER_RAMFS_MAGIC = RAMFS_MAGIC;
const unsigned long RUST_CONST_HELPER_SQUASHFS_MAGIC = SQUASHFS_MAGIC;
const unsigned long RUST_CONST_HELPER_TMPFS_MAGIC = TMPFS_MAGIC;
const unsigned long RUST_CONST_HELPER_XFS_MAGIC = XFS_SUPER_MAGIC;
const size_t RUST_CONST_HELPER_VERIFY_SECONDARY_KEYRING = (size_t)VERIFY_USE_SECONDARY_KEYRING;
const size_t RUST_CONST_HELPER_VERIFY_PLATFORM_KEYRING = (size_t)VERIFY_USE_PLATFORM_KEYRING;
const size_t RUST_CONST_HELPER_READ_PAGES = RUST_READ_PAGES;
const u32 RUST_CONST_HELPER_FINDS_MAX = RUST_FINDS_MAX;
const size_t RUST_CONST_HELPER_READ_PAGES_MIN = RUST_READ_PAGES_MIN;
