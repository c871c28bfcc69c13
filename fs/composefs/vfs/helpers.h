/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Functions that Rust can call in place of macros and static inline functions
 * of the kernel's headers. Each wraps what its name says; bindgen drops the
 * prefix.
 */
#ifndef _COMPOSEFS_VFS_HELPERS_H
#define _COMPOSEFS_VFS_HELPERS_H

#include <linux/backing-file.h>
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/fserror.h>
#include <linux/fsverity.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/pagemap.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/seq_file.h>
#include <linux/shrinker.h>
#include <linux/statfs.h>
#include <linux/xattr.h>
#include <linux/xxhash.h>

/* Dentries */
struct dentry *composefs_helper_dget(struct dentry *dentry);
struct dentry *composefs_helper_d_real(struct dentry *dentry,
				       enum d_real_type type);

/* Inodes */
struct inode *composefs_helper_alloc_inode_sb(struct super_block *sb,
					      struct kmem_cache *cache);
bool composefs_helper_inode_is_new(const struct inode *inode);
void composefs_helper_i_uid_write(struct inode *inode, uid_t uid);
void composefs_helper_i_gid_write(struct inode *inode, gid_t gid);
void composefs_helper_inode_set_times(struct inode *inode, time64_t sec,
				      u32 nsec);
loff_t composefs_helper_i_size_read(const struct inode *inode);
void composefs_helper_i_size_write(struct inode *inode, loff_t size);
void composefs_helper_inode_set_cached_link(struct inode *inode, char *link,
					    int len);
void composefs_helper_free_cached_link(struct inode *inode);
void composefs_helper_inode_set_fop(struct inode *inode,
				    const struct file_operations *fop);
dev_t composefs_helper_new_decode_dev(u32 dev);
struct inode *composefs_helper_d_inode(const struct dentry *dentry);
void composefs_helper_cache_no_acl(struct inode *inode);

/* Directories */
const unsigned char *composefs_helper_d_name(const struct dentry *dentry,
					     u32 *len);

/* Page cache */
loff_t composefs_helper_folio_pos(const struct folio *folio);
size_t composefs_helper_folio_size(const struct folio *folio);
void *composefs_helper_folio_address(const struct folio *folio);
void composefs_helper_folio_put(struct folio *folio);
struct inode *composefs_helper_folio_inode(const struct folio *folio);

void composefs_helper_mapping_set_large_folios(struct address_space *mapping);
unsigned int
composefs_helper_mapping_max_order(const struct address_space *mapping);
/*
 * How many folios of a private mapping are kept at hand: inodes and the names
 * that lead to them are apart in an image.
 */
#define COMPOSEFS_RECENT_FOLIOS 2

/*
 * Those of one mapping; the order of its largest folios, and how often smaller
 * ones were found by a search of the page cache.
 */
struct composefs_recent {
	struct folio *folios[COMPOSEFS_RECENT_FOLIOS];
	unsigned int whole;
	u32 finds;
};

/* Pages of the largest of them, and what is read where little else was asked for. */
#define COMPOSEFS_READ_PAGES (SZ_256K / PAGE_SIZE)
#define COMPOSEFS_READ_PAGES_MIN DIV_ROUND_UP(SZ_16K, PAGE_SIZE)

/*
 * After so many finds of small folios by a search of the page cache, what they
 * are parts of is worth being read as a whole.
 */
#define COMPOSEFS_FINDS_MAX 4096

void *composefs_helper_folio_page_address(const struct folio *folio,
					  pgoff_t index);
unsigned long
composefs_helper_count_recent_pages(struct composefs_recent *recent,
				    const struct shrink_control *sc);
unsigned long
composefs_helper_free_recent_pages(struct composefs_recent *recent,
				   struct address_space *mapping,
				   const struct shrink_control *sc);
void composefs_helper_set_recent_folio(struct composefs_recent *recent,
				       struct folio *folio);
struct folio *composefs_helper_find_cache_folio(struct address_space *mapping,
						struct composefs_recent *recent,
						pgoff_t index, void **address);
struct folio *composefs_helper_alloc_cache_folio(struct address_space *mapping,
						 unsigned int order);
int composefs_helper_add_cache_folio(struct address_space *mapping,
				     struct folio *folio, pgoff_t index);
bool composefs_helper_drop_cache_page(struct address_space *mapping,
				      pgoff_t index);
int composefs_helper_wait_cache_page(struct address_space *mapping,
				     pgoff_t index);
void composefs_helper_folio_unlock(struct folio *folio);
void composefs_helper_mapping_set_ops(struct inode *inode,
				      const struct address_space_operations *ops);

/* Credentials */
const struct cred *composefs_helper_get_current_cred(void);
const struct cred *composefs_helper_override_creds(const struct cred *cred);
void composefs_helper_revert_creds(const struct cred *cred);
bool composefs_helper_capable_noaudit(int cap);
bool composefs_helper_cred_same_rights(const struct cred *a,
				       const struct cred *b);

/* Files and paths */
struct mnt_idmap *composefs_helper_mnt_idmap(const struct vfsmount *mnt);
int composefs_helper_path_may_read(const struct path *path);
bool composefs_helper_path_owner_or_capable(const struct path *path);
bool composefs_helper_path_is_unlinked(const struct path *path);
bool composefs_helper_inode_is_leased(const struct inode *inode);
u32 composefs_helper_fsnotify_parent_mask(const struct dentry *dentry);
void composefs_helper_init_sync_kiocb(struct kiocb *kiocb, struct file *file);
void composefs_helper_file_set_nonotify(struct file *file);
void composefs_helper_file_set_no_permission_events(struct file *file);
bool composefs_helper_file_is_nonotify(const struct file *file);
void composefs_helper_file_read_afresh(struct file *file);
ssize_t composefs_helper_file_read_cached(struct file *file, struct kiocb *iocb,
					  struct iov_iter *iter,
					  const struct cred *cred);
void composefs_helper_file_sync_flags(struct file *file, unsigned int flags);
long composefs_helper_file_ioctl(struct file *file, unsigned int cmd,
				 unsigned long arg);
int composefs_helper_path_fiemap(const struct path *path,
				 struct fiemap_extent_info *info, u64 start,
				 u64 len);
struct file *composefs_helper_claim_bdev(struct file *file, void *holder,
					 bool restrict_writes);
void composefs_helper_unclaim_bdev(struct file *claim);
bool composefs_helper_may_go_on(void);
const struct path *composefs_helper_file_path(const struct file *file);

/* Workers */
void composefs_helper_init_work(struct work_struct *work,
				void (*func)(struct work_struct *work));
bool composefs_helper_queue_work(struct work_struct *work);

/* fs-verity */
int composefs_helper_fsverity_get_digest(struct inode *inode, u8 *digest,
					 u8 *algorithm);
bool composefs_helper_inode_lacks_verity_info(const struct inode *inode);
bool composefs_helper_sb_has_verity(const struct super_block *sb);

bool composefs_helper_sb_compatible(struct super_block *sb,
				    struct fs_context *fc);

bool composefs_helper_fc_is_own_user_ns(const struct fs_context *fc);
void composefs_helper_sb_set_untrusted(struct super_block *sb);

/* A bit field, for which bindgen's accessor could panic */
enum fs_value_type
composefs_helper_fs_parameter_type(const struct fs_parameter *param);

/* Tracepoints */
void composefs_helper_trace_lookup(const struct inode *dir, const char *name,
				   u32 len, u64 ino, int error);
void composefs_helper_trace_object_open(const struct inode *inode, int error);

/* Messages */
void composefs_helper_fc_error(struct fs_context *fc, const char *message);
void composefs_helper_ratelimit_default_init(struct ratelimit_state *state);
void composefs_helper_warn_and_trace(struct ratelimit_state *state,
				     const char *message);
void composefs_helper_seq_show_option(struct seq_file *m, const char *name,
				      const char *value);
void composefs_helper_fserror_report_metadata(struct super_block *sb, int error);
void composefs_helper_fserror_report_file_metadata(struct inode *inode, int error);
void composefs_helper_fserror_report_data_lost(struct inode *inode, loff_t pos,
					       u64 len);

#endif /* _COMPOSEFS_VFS_HELPERS_H */
