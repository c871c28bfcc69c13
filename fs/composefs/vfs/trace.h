/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tracepoints: /sys/kernel/tracing/events/composefs/.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM composefs

#if !defined(_COMPOSEFS_VFS_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _COMPOSEFS_VFS_TRACE_H

#include <linux/kdev_t.h>
#include <linux/string_helpers.h>
#include <linux/tracepoint.h>

/*
 * A name may hold any byte but a slash and a NUL. What is recorded is escaped, so
 * that in whatever way it is read nothing in it ends a line or the quotes.
 */
#ifndef COMPOSEFS_ESCAPE_NAME
#define COMPOSEFS_ESCAPE_NAME(name, len, to, room)			\
	string_escape_mem(name, len, to, room,				\
			  ESCAPE_SPACE | ESCAPE_SPECIAL | ESCAPE_HEX |	\
			  ESCAPE_NAP | ESCAPE_APPEND, "\"\\")
#endif

TRACE_EVENT(composefs_lookup,

	TP_PROTO(dev_t dev, u64 dir, const char *name, u32 len, u64 ino, int error),

	TP_ARGS(dev, dir, name, len, ino, error),

	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, dir)
		__dynamic_array(char, name,
				COMPOSEFS_ESCAPE_NAME(name, len, NULL, 0) + 1)
		__field(u64, ino)
		__field(int, error)
	),

	TP_fast_assign(
		__entry->dev = dev;
		__entry->dir = dir;
		__get_str(name)[COMPOSEFS_ESCAPE_NAME(name, len, __get_str(name),
			__get_dynamic_array_len(name) - 1)] = '\0';
		__entry->ino = ino;
		__entry->error = error;
	),

	/* An inode number of 0 is a name that does not exist. */
	TP_printk("dev %d,%d dir %llu name \"%s\" ino %llu error %d",
		  MAJOR(__entry->dev), MINOR(__entry->dev), __entry->dir,
		  __get_str(name), __entry->ino, __entry->error)
);

TRACE_EVENT(composefs_object_open,

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
