/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A byte slice of Rust, as an argument of a trace event. It has no NUL at its end.
 */
#ifndef _RUST_BYTES_H
#define _RUST_BYTES_H

#include <linux/types.h>

struct rust_bytes {
	const char *data;
	u32 len;
};

#endif /* _RUST_BYTES_H */
