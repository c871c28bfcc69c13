/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Large folios of a private mapping that are found without a search of the page
 * cache, see kept_folios.rs.
 */
#ifndef _RUST_KEPT_FOLIOS_H
#define _RUST_KEPT_FOLIOS_H

#include <linux/math.h>
#include <linux/mm_types.h>
#include <linux/sizes.h>

struct rust_kept_folio;

/*
 * The kept folios of one mapping. All have the order @whole, and the one that
 * begins with page n << @whole is in @folios[n & @mask]. @finds counts smaller
 * folios that were found by a search of the page cache.
 */
struct rust_kept_folios {
	struct rust_kept_folio **folios;
	unsigned int mask;
	unsigned int whole;
	u32 finds;
};

/* Number of pages of the largest and of the smallest read. */
#define RUST_READ_PAGES (SZ_256K / PAGE_SIZE)
#define RUST_READ_PAGES_MIN DIV_ROUND_UP(SZ_16K, PAGE_SIZE)

/* Number of folios that are kept at most: a power of two, for images of 16 GiB. */
#define RUST_KEPT_FOLIOS_MAX SZ_64K

/*
 * After this number of searches that have found a small folio, the next one reads
 * a large folio in its place.
 */
#define RUST_FINDS_MAX 4096

#endif /* _RUST_KEPT_FOLIOS_H */
