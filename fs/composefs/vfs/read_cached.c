// SPDX-License-Identifier: GPL-2.0
/*
 * Reads of a backing file through the page cache.
 *
 * This is C because each buffered read of a user comes here, and it consists of
 * inline functions: from Rust each would be a function call.
 *
 * helpers.c includes this file, as rust/helpers/helpers.c does in a kernel tree.
 */
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include <linux/uio.h>

/*
 * Reads from @file with the credentials @cred. The kiocb is on the stack: it has
 * no ->ki_complete, so the read is synchronous, even if @iocb is asynchronous.
 * backing_file_read_iter() would allocate one then.
 */
ssize_t rust_helper_file_read_cached(struct file *file, struct kiocb *iocb,
				     struct iov_iter *iter,
				     const struct cred *cred)
{
	const size_t count = iov_iter_count(iter);
	struct kiocb kiocb;
	ssize_t ret;

	if (!count)
		return 0;
	if (unlikely(!file->f_op->read_iter))
		return -EINVAL;
	kiocb_clone(&kiocb, iocb, file);
	scoped_with_creds(cred) {
		ret = rw_verify_area(READ, file, &kiocb.ki_pos, count);
		if (!ret)
			ret = file->f_op->read_iter(&kiocb, iter);
		if (ret >= 0)
			fsnotify_access(file);
	}
	iocb->ki_pos = kiocb.ki_pos;
	return ret;
}
