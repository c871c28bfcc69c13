/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Trace events: /sys/kernel/tracing/events/composefs/. trace.rs emits them.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM composefs

#if !defined(_COMPOSEFS_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _COMPOSEFS_TRACE_H

#include <linux/types.h>
#include <linux/kdev_t.h>
#include <linux/string_helpers.h>
#include <linux/tracepoint.h>
#include "vfs/rust_bytes.h"

/*
 * A name may hold any byte but a slash and a NUL. It is recorded escaped, so that
 * no byte of it ends a line or the quotes around it.
 */
#ifndef COMPOSEFS_ESCAPE
#define COMPOSEFS_ESCAPE composefs_escape
static inline int composefs_escape(const struct rust_bytes *bytes, char *to, size_t room)
{
	return string_escape_mem(bytes->data, bytes->len, to, room,
				 ESCAPE_SPACE | ESCAPE_SPECIAL | ESCAPE_HEX |
				 ESCAPE_NAP | ESCAPE_APPEND, "\"\\");
}
#endif

/* The result of a lookup. @ino is 0 if the name does not exist. */
TRACE_EVENT(composefs_lookup,

	TP_PROTO(dev_t dev, u64 dir, const struct rust_bytes *name, u64 ino, int error),

	TP_ARGS(dev, dir, name, ino, error),

	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, dir)
		__dynamic_array(char, name, composefs_escape(name, NULL, 0) + 1)
		__field(u64, ino)
		__field(int, error)
	),

	TP_fast_assign(
		__entry->dev = dev;
		__entry->dir = dir;
		__get_str(name)[composefs_escape(name, __get_str(name),
			__get_dynamic_array_len(name) - 1)] = '\0';
		__entry->ino = ino;
		__entry->error = error;
	),

	TP_printk("dev %d,%d dir %llu name \"%s\" ino %llu error %d",
		  MAJOR(__entry->dev), MINOR(__entry->dev), __entry->dir,
		  __get_str(name), __entry->ino, __entry->error)
);

/* An object was opened for the inode @ino and verified, or this has failed. */
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

/* A message about damage. The kernel log may leave it out: its rate is limited. */
TRACE_EVENT(composefs_fault,

	TP_PROTO(const struct rust_bytes *message),

	TP_ARGS(message),

	TP_STRUCT__entry(
		__string_len(message, message->data, message->len)
	),

	TP_fast_assign(
		__assign_str(message);
	),

	TP_printk("%s", __get_str(message))
);

#endif /* _COMPOSEFS_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
