/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints: /sys/kernel/tracing/events/composefs/.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM composefs

#if !defined(_COMPOSEFS_VFS_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _COMPOSEFS_VFS_TRACE_H

#include <linux/kdev_t.h>
#include <linux/tracepoint.h>

TRACE_EVENT(composefs_lookup,

	TP_PROTO(dev_t dev, u64 dir, const char *name, u32 len, u64 ino, int error),

	TP_ARGS(dev, dir, name, len, ino, error),

	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, dir)
		__string_len(name, name, len)
		__field(u64, ino)
		__field(int, error)
	),

	TP_fast_assign(
		__entry->dev = dev;
		__entry->dir = dir;
		__assign_str(name);
		__entry->ino = ino;
		__entry->error = error;
	),

	/* An inode number of 0 is a name that does not exist. */
	TP_printk("dev %d,%d dir %llu name %s ino %llu error %d",
		  MAJOR(__entry->dev), MINOR(__entry->dev), __entry->dir,
		  __get_str(name), __entry->ino, __entry->error)
);

TRACE_EVENT(composefs_blob_open,

	TP_PROTO(dev_t dev, u64 ino, int error),

	TP_ARGS(dev, ino, error),

	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
		__field(int, error)
	),

	TP_fast_assign(
		__entry->dev = dev;
		__entry->ino = ino;
		__entry->error = error;
	),

	TP_printk("dev %d,%d ino %llu error %d",
		  MAJOR(__entry->dev), MINOR(__entry->dev), __entry->ino,
		  __entry->error)
);

TRACE_EVENT(composefs_fault,

	TP_PROTO(const char *message),

	TP_ARGS(message),

	TP_STRUCT__entry(
		__string(message, message)
	),

	TP_fast_assign(
		__assign_str(message);
	),

	TP_printk("%s", __get_str(message))
);

#endif /* _COMPOSEFS_VFS_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
