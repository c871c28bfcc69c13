// SPDX-License-Identifier: GPL-2.0
/*
 * Functions that Rust calls in place of macros and static inline functions of the
 * kernel's headers, and fields that bindgen has no stable name for. Each wraps what
 * its name says. bindgen drops the prefix.
 */
#include <keys/system_keyring.h>
#include <linux/backing-file.h>
#include <linux/blkdev.h>
#include <linux/cred.h>
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/fserror.h>
#include <linux/fsnotify.h>
#include <linux/fsverity.h>
#include <linux/key.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/pagemap.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/printk.h>
#include <linux/ratelimit.h>
#include <linux/security.h>
#include <linux/seq_file.h>
#include <linux/statfs.h>
#include <linux/uio.h>
#include <linux/workqueue.h>
#include <linux/xattr.h>
#include <linux/xxhash.h>
#include "kept_folios.c"
#include "read_cached.c"

__rust_helper size_t rust_helper_iov_iter_count(const struct iov_iter *iter)
{
	return iov_iter_count(iter);
}

__rust_helper struct dentry *rust_helper_dget(struct dentry *dentry)
{
	return dget(dentry);
}

__rust_helper struct dentry *rust_helper_d_real(struct dentry *dentry,
						enum d_real_type type)
{
	return d_real(dentry, type);
}

__rust_helper struct inode *rust_helper_alloc_inode_sb(struct super_block *sb,
						       struct kmem_cache *cache)
{
	return alloc_inode_sb(sb, cache, GFP_KERNEL);
}

__rust_helper bool rust_helper_inode_is_new(const struct inode *inode)
{
	return inode_state_read_once((struct inode *)inode) & I_NEW;
}

__rust_helper void rust_helper_i_uid_write(struct inode *inode, uid_t uid)
{
	i_uid_write(inode, uid);
}

__rust_helper void rust_helper_i_gid_write(struct inode *inode, gid_t gid)
{
	i_gid_write(inode, gid);
}

__rust_helper void rust_helper_inode_set_times(struct inode *inode,
					       time64_t sec, u32 nsec)
{
	inode_set_mtime(inode, sec, nsec);
	inode_set_ctime(inode, sec, nsec);
	inode_set_atime(inode, sec, nsec);
}

__rust_helper loff_t rust_helper_i_size_read(const struct inode *inode)
{
	return i_size_read(inode);
}

__rust_helper void rust_helper_i_size_write(struct inode *inode, loff_t size)
{
	i_size_write(inode, size);
}

__rust_helper void rust_helper_inode_set_cached_link(struct inode *inode,
						     char *link, int len)
{
	inode_set_cached_link(inode, link, len);
}

__rust_helper void rust_helper_free_cached_link(struct inode *inode)
{
	kfree(inode->i_link);
}

__rust_helper void rust_helper_inode_set_fop(struct inode *inode,
					     const struct file_operations *fop)
{
	inode->i_fop = fop;
}

__rust_helper dev_t rust_helper_new_decode_dev(u32 dev)
{
	return new_decode_dev(dev);
}

__rust_helper struct inode *rust_helper_d_inode(const struct dentry *dentry)
{
	return d_inode(dentry);
}

__rust_helper void rust_helper_cache_no_acl(struct inode *inode)
{
	cache_no_acl(inode);
}

__rust_helper const unsigned char *
rust_helper_d_name(const struct dentry *dentry, u32 *len)
{
	*len = dentry->d_name.len;
	return dentry->d_name.name;
}

__rust_helper loff_t rust_helper_folio_pos(const struct folio *folio)
{
	return folio_pos(folio);
}

__rust_helper size_t rust_helper_folio_size(const struct folio *folio)
{
	return folio_size(folio);
}

__rust_helper void *rust_helper_folio_address(const struct folio *folio)
{
	return folio_address(folio);
}

__rust_helper void rust_helper_folio_put(struct folio *folio)
{
	folio_put(folio);
}

__rust_helper struct inode *rust_helper_folio_inode(const struct folio *folio)
{
	return folio->mapping->host;
}

__rust_helper void
rust_helper_mapping_set_large_folios(struct address_space *mapping)
{
	mapping_set_large_folios(mapping);
}

__rust_helper unsigned int
rust_helper_mapping_max_order(const struct address_space *mapping)
{
	return mapping_max_folio_order(mapping);
}

__rust_helper struct folio *
rust_helper_filemap_get_folio(struct address_space *mapping, pgoff_t index)
{
	return filemap_get_folio(mapping, index);
}

__rust_helper struct folio *rust_helper_filemap_alloc_folio(gfp_t gfp,
							    unsigned int order)
{
	return filemap_alloc_folio(gfp, order, NULL);
}

__rust_helper gfp_t
rust_helper_readahead_gfp_mask(struct address_space *mapping)
{
	return readahead_gfp_mask(mapping);
}

__rust_helper gfp_t rust_helper_mapping_gfp_mask(struct address_space *mapping)
{
	return mapping_gfp_mask(mapping);
}

__rust_helper gfp_t
rust_helper_mapping_gfp_constraint(struct address_space *mapping, gfp_t gfp)
{
	return mapping_gfp_constraint(mapping, gfp);
}

__rust_helper bool rust_helper_folio_test_uptodate(const struct folio *folio)
{
	return folio_test_uptodate(folio);
}

__rust_helper int rust_helper_folio_wait_locked_killable(struct folio *folio)
{
	return folio_wait_locked_killable(folio);
}

__rust_helper bool rust_helper_folio_trylock(struct folio *folio)
{
	return folio_trylock(folio);
}

__rust_helper void rust_helper_folio_unlock(struct folio *folio)
{
	folio_unlock(folio);
}

__rust_helper void
rust_helper_mapping_set_ops(struct inode *inode,
			    const struct address_space_operations *ops)
{
	inode->i_data.a_ops = ops;
}

__rust_helper const struct cred *rust_helper_get_current_cred(void)
{
	return get_current_cred();
}

__rust_helper const struct cred *
rust_helper_override_creds(const struct cred *cred)
{
	return override_creds(cred);
}

__rust_helper void rust_helper_revert_creds(const struct cred *cred)
{
	revert_creds(cred);
}

__rust_helper struct mnt_idmap *
rust_helper_mnt_idmap(const struct vfsmount *mnt)
{
	return mnt_idmap(mnt);
}

__rust_helper bool rust_helper_path_is_unlinked(const struct path *path)
{
	return d_unlinked(path->dentry);
}

__rust_helper struct file_lock_context *
rust_helper_locks_inode_context(const struct inode *inode)
{
	return locks_inode_context(inode);
}

__rust_helper int rust_helper_list_empty_careful(const struct list_head *head)
{
	return list_empty_careful(head);
}

__rust_helper int rust_helper_iocb_flags(struct file *file)
{
	return iocb_flags(file);
}

__rust_helper void rust_helper_init_sync_kiocb(struct kiocb *kiocb,
					       struct file *file)
{
	init_sync_kiocb(kiocb, file);
}

__rust_helper void rust_helper_file_set_nonotify(struct file *file)
{
	file_set_fsnotify_mode(file, FMODE_NONOTIFY);
}

__rust_helper void rust_helper_file_set_no_permission_events(struct file *file)
{
	file_set_fsnotify_mode(file, FMODE_NONOTIFY_PERM);
}

__rust_helper bool rust_helper_file_is_nonotify(const struct file *file)
{
	return FMODE_FSNOTIFY_NONE(file->f_mode);
}

__rust_helper void rust_helper_init_work(struct work_struct *work,
					 void (*func)(struct work_struct *work))
{
	INIT_WORK(work, func);
}

__rust_helper bool rust_helper_queue_work(struct work_struct *work)
{
	return queue_work(system_dfl_wq, work);
}

/* Two in one call: loops over an image make it for each block. */
__rust_helper bool rust_helper_cond_resched_unless_killed(void)
{
	cond_resched();
	return !fatal_signal_pending(current);
}

__rust_helper const struct path *rust_helper_file_f_path(const struct file *file)
{
	return &file->f_path;
}

__rust_helper struct fsverity_info *
rust_helper_fsverity_get_info(const struct inode *inode)
{
	return fsverity_get_info(inode);
}

__rust_helper int rust_helper_inode_verity_digest(struct inode *inode,
						  u8 *digest, u8 *algorithm)
{
	return fsverity_get_digest(inode, digest, algorithm, NULL);
}

__rust_helper void rust_helper_errorf(struct fs_context *fc, const char *prefix,
				      const char *message)
{
	errorf(fc, "%s: %s", prefix, message);
}

__rust_helper void rust_helper_pr_err_ratelimited(const char *prefix,
						  const char *message)
{
	pr_err_ratelimited("%s: %s\n", prefix, message);
}

__rust_helper enum fs_value_type
rust_helper_fs_parameter_type(const struct fs_parameter *param)
{
	return param->type;
}

__rust_helper void
rust_helper_ratelimit_default_init(struct ratelimit_state *state)
{
	ratelimit_default_init(state);
}

__rust_helper void rust_helper_seq_show_option(struct seq_file *m,
					       const char *name,
					       const char *value)
{
	seq_show_option(m, name, value);
}

__rust_helper void rust_helper_fserror_report_metadata(struct super_block *sb,
						       int error)
{
	fserror_report_metadata(sb, error, GFP_KERNEL);
}

__rust_helper void rust_helper_fserror_report_file_metadata(struct inode *inode,
							    int error)
{
	fserror_report_file_metadata(inode, error, GFP_KERNEL);
}

__rust_helper void rust_helper_fserror_report_data_lost(struct inode *inode,
							loff_t pos, u64 len)
{
	fserror_report_data_lost(inode, pos, len, GFP_KERNEL);
}

/* The limit that all callers share. A macro defines it. */
__rust_helper struct ratelimit_state *rust_helper_common_ratelimit_state(void)
{
	static DEFINE_RATELIMIT_STATE(common, DEFAULT_RATELIMIT_INTERVAL,
				      DEFAULT_RATELIMIT_BURST);

	return &common;
}

__rust_helper void rust_helper_pr_warn(const char *prefix, const char *message)
{
	pr_warn("%s: %s\n", prefix, message);
}

#ifdef CONFIG_SYSTEM_DATA_VERIFICATION
/* A keyring as that of fs-verity: only root can change it, or close it. */
__rust_helper struct key *rust_helper_root_keyring_alloc(const char *name)
{
	return keyring_alloc(name, GLOBAL_ROOT_UID, GLOBAL_ROOT_GID,
			     current_cred(),
			     KEY_POS_SEARCH | KEY_USR_VIEW | KEY_USR_READ |
			     KEY_USR_WRITE | KEY_USR_SEARCH |
			     KEY_USR_SETATTR,
			     KEY_ALLOC_NOT_IN_QUOTA, NULL, NULL);
}

__rust_helper bool rust_helper_keyring_is_empty(const struct key *keyring)
{
	return !READ_ONCE(keyring->keys.nr_leaves_on_tree);
}

__rust_helper int rust_helper_is_certificate_blacklisted(const u8 *hash,
							 size_t len)
{
	return is_hash_blacklisted(hash, len, BLACKLIST_HASH_X509_TBS);
}
#endif
