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
 * Number of folios that are kept: one for names and one for inodes, which are in
 * different places of an image.
 */
#define RUST_RECENT_FOLIOS 2

/*
 * The recent folios of one mapping, the order of its largest folios, and how often
 * smaller ones were found by a search of the page cache.
 */
struct rust_recent_folios {
	struct folio *folios[RUST_RECENT_FOLIOS];
	unsigned int whole;
	u32 finds;
};

/* Number of pages of the largest and of the smallest read. */
#define RUST_READ_PAGES (SZ_256K / PAGE_SIZE)
#define RUST_READ_PAGES_MIN DIV_ROUND_UP(SZ_16K, PAGE_SIZE)

/*
 * After this number of searches that have found a small folio, the next one reads
 * a large folio in its place.
 */
#define RUST_FINDS_MAX 4096

#endif /* _RUST_RECENT_FOLIOS_H */
