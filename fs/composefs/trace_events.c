// SPDX-License-Identifier: GPL-2.0
/*
 * Defines the trace events of trace.h, and the functions with which Rust code
 * emits them.
 */
#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include "trace.h"
