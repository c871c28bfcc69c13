/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What bindgen reads for vfs/bindings.rs: the headers that the kernel's own
 * bindings lack, and constants that are macros.
 */
#include <linux/compiler_types.h>
#include <linux/cleanup.h>
#include "helpers.h"

#include <linux/anon_inodes.h>
#include <linux/exportfs.h>
#include <linux/fs_parser.h>
#include <linux/fsverity.h>
#include <linux/splice.h>
#include <linux/uio.h>

const unsigned short COMPOSEFS_CONST_MODE_REGULAR = S_IFREG | 0400;
const unsigned long COMPOSEFS_CONST_SB_ACTIVE = SB_ACTIVE;
const unsigned long COMPOSEFS_CONST_SB_RDONLY = SB_RDONLY;
const unsigned long COMPOSEFS_CONST_SB_NOATIME = SB_NOATIME;
const unsigned long COMPOSEFS_CONST_SB_POSIXACL = SB_POSIXACL;
const loff_t COMPOSEFS_CONST_MAX_LFS_FILESIZE = MAX_LFS_FILESIZE;
const unsigned int COMPOSEFS_CONST_FMODE_CAN_ODIRECT = FMODE_CAN_ODIRECT;
const unsigned int COMPOSEFS_CONST_FMODE_EXEC = (unsigned int)__FMODE_EXEC;
const unsigned int COMPOSEFS_CONST_FMODE_NOWAIT = FMODE_NOWAIT;
const unsigned int COMPOSEFS_CONST_SLAB_ACCOUNT = (unsigned int)SLAB_ACCOUNT;
const unsigned int COMPOSEFS_CONST_SLAB_RECLAIM_ACCOUNT = (unsigned int)SLAB_RECLAIM_ACCOUNT;
const unsigned int COMPOSEFS_CONST_LOOKUP_FOLLOW = LOOKUP_FOLLOW;
const unsigned int COMPOSEFS_CONST_LOOKUP_NO_SYMLINKS = LOOKUP_NO_SYMLINKS;
const unsigned int COMPOSEFS_CONST_LOOKUP_NO_XDEV = LOOKUP_NO_XDEV;
const unsigned int COMPOSEFS_CONST_LOOKUP_BENEATH = LOOKUP_BENEATH;
const int COMPOSEFS_CONST_IOCB_DIRECT = (int)IOCB_DIRECT;
const int COMPOSEFS_CONST_IOCB_NOWAIT = (int)IOCB_NOWAIT;
const int COMPOSEFS_CONST_IOCB_DONTCACHE = (int)IOCB_DONTCACHE;
const unsigned int COMPOSEFS_CONST_FOP_DONTCACHE = (unsigned int)FOP_DONTCACHE;
const unsigned int COMPOSEFS_CONST_MEASURE_VERITY = FS_IOC_MEASURE_VERITY;
const unsigned int COMPOSEFS_CONST_READ_VERITY_METADATA = FS_IOC_READ_VERITY_METADATA;
const int COMPOSEFS_CONST_POSIX_ACL_ACCESS = ACL_TYPE_ACCESS;
const int COMPOSEFS_CONST_POSIX_ACL_DEFAULT = ACL_TYPE_DEFAULT;
const int COMPOSEFS_CONST_ENOPARAM = ENOPARAM;
const int COMPOSEFS_CONST_EFSCORRUPTED = EUCLEAN;
const size_t COMPOSEFS_CONST_RECENT_FOLIOS = COMPOSEFS_RECENT_FOLIOS;
const size_t COMPOSEFS_CONST_READ_PAGES = COMPOSEFS_READ_PAGES;
const size_t COMPOSEFS_CONST_READ_PAGES_MIN = COMPOSEFS_READ_PAGES_MIN;
