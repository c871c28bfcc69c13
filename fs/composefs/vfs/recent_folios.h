/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The folios of a private mapping that were used last, see mapping.rs.
 */
#ifndef _RUST_RECENT_FOLIOS_H
#define _RUST_RECENT_FOLIOS_H

#include <linux/math.h>
#include <linux/mm_types.h>
#include <linux/sizes.h>

/*
 * How many folios of a private mapping are kept at hand: inodes and the names
 * that lead to them are apart in an image.
 */
#define RUST_RECENT_FOLIOS 2

/*
 * Those of one mapping; the order of its largest folios, and how often smaller
 * ones were found by a search of the page cache.
 */
struct rust_recent_folios {
	struct folio *folios[RUST_RECENT_FOLIOS];
	unsigned int whole;
	u32 finds;
};

/* Pages of the largest of them, and what is read where little else was asked for. */
#define RUST_READ_PAGES (SZ_256K / PAGE_SIZE)
#define RUST_READ_PAGES_MIN DIV_ROUND_UP(SZ_16K, PAGE_SIZE)

/*
 * After so many finds of small folios by a search of the page cache, what they
 * are parts of is worth being read as a whole.
 */
#define RUST_FINDS_MAX 4096

#endif /* _RUST_RECENT_FOLIOS_H */
