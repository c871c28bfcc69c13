// SPDX-License-Identifier: GPL-2.0
/*
 * The folios of a private mapping that were used last, see recent_folios.h.
 *
 * This is C because every block of a directory and every inode is found here. The
 * lookup takes a dozen inline functions: RCU, folio_try_get(), page flags. Rust
 * would call a helper for each of them. The functions that count and free folios
 * follow the same rules, so they are here, too.
 *
 * helpers.c includes this file, as rust/helpers/helpers.c does in a kernel tree.
 */
#include <linux/memcontrol.h>
#include <linux/pagemap.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/shrinker.h>
#include "recent_folios.h"

/*
 * Returns the folio in @recent that has page @index, with a new reference. As in
 * filemap_get_entry(), a folio may be freed and reused until the reference is
 * taken, so check again afterwards that it is still in @recent.
 */
static struct folio *get_recent_folio(struct rust_recent_folios *recent,
				      struct address_space *mapping,
				      pgoff_t index)
{
	struct folio *folio;
	int i;

	guard(rcu)();
	for (i = 0; i < RUST_RECENT_FOLIOS; i++) {
		folio = READ_ONCE(recent->folios[i]);
		/* Without a reference the index may be wrong: this only saves a try. */
		if (!folio ||
		    index - READ_ONCE(folio->index) >= RUST_READ_PAGES ||
		    !folio_try_get(folio))
			continue;
		if (folio == READ_ONCE(recent->folios[i]) && folio->mapping == mapping &&
		    index - folio->index < folio_nr_pages(folio))
			return folio;
		folio_put(folio);
	}
	return NULL;
}

/* Adds @folio as the first of @recent, and drops the last one. */
void rust_helper_set_recent_folio(struct rust_recent_folios *recent,
				  struct folio *folio)
{
	int i;

	folio_get(folio);
	for (i = 0; folio && i < RUST_RECENT_FOLIOS; i++)
		folio = xchg(&recent->folios[i], folio);
	if (folio)
		folio_put(folio);
}

/*
 * Whether reclaim by @sc frees @folio. Reclaim of a memory cgroup frees only
 * folios that are charged to that cgroup.
 */
static bool folio_is_for(struct folio *folio, const struct shrink_control *sc)
{
	if (!sc || !sc->memcg || mem_cgroup_is_root(sc->memcg))
		return true;
	guard(rcu)();
	return folio_memcg(folio) == sc->memcg;
}

/* Returns the number of pages in @recent that free_recent_pages() would free. */
unsigned long
rust_helper_count_recent_pages(struct rust_recent_folios *recent,
			       const struct shrink_control *sc)
{
	unsigned long pages = 0;
	struct folio *folio;
	int i;

	guard(rcu)();
	for (i = 0; i < RUST_RECENT_FOLIOS; i++) {
		folio = READ_ONCE(recent->folios[i]);
		if (!folio || !folio_try_get(folio))
			continue;
		if (folio == READ_ONCE(recent->folios[i]) && folio_is_for(folio, sc))
			pages += folio_nr_pages(folio);
		folio_put(folio);
	}
	return pages;
}

/*
 * Removes the folios that @sc can free from @recent, or all if @sc is NULL. They
 * stay in the page cache, because reclaim knows how they were used. drop_caches is
 * not reclaim: for it, drop them from the page cache, too.
 */
unsigned long
rust_helper_free_recent_pages(struct rust_recent_folios *recent,
			      struct address_space *mapping,
			      const struct shrink_control *sc)
{
	const bool drop = sc && !(current->flags & PF_MEMALLOC);
	unsigned long pages = 0;
	struct folio *folio;
	pgoff_t first, last;
	bool is_for;
	int i;

	for (i = 0; i < RUST_RECENT_FOLIOS; i++) {
		scoped_guard(rcu) {
			folio = READ_ONCE(recent->folios[i]);
			is_for = folio && folio_try_get(folio);
			if (is_for) {
				is_for = folio == READ_ONCE(recent->folios[i]) &&
					 folio_is_for(folio, sc);
				folio_put(folio);
			}
		}
		if (!is_for)
			continue;
		folio = xchg(&recent->folios[i], NULL);
		if (!folio)
			continue;
		first = folio->index;
		last = first + folio_nr_pages(folio) - 1;
		pages += folio_nr_pages(folio);
		folio_put(folio);
		if (drop)
			invalidate_mapping_pages(mapping, first, last);
	}
	return pages;
}

/*
 * Finds the folio with page @index, in @recent or in the page cache, and the
 * address of the page. Returns NULL if there is none that is up to date. Also
 * returns NULL if the folio is a small one and small folios were found too often:
 * the caller then reads a large one.
 */
struct folio *
rust_helper_find_cache_folio(struct address_space *mapping,
			     struct rust_recent_folios *recent, pgoff_t index,
			     void **address)
{
	struct folio *folio = get_recent_folio(recent, mapping, index);

	if (!folio) {
		folio = __filemap_get_folio(mapping, index, FGP_ACCESSED, 0);
		if (IS_ERR(folio))
			return NULL;
		if (!folio_test_uptodate(folio))
			goto none;
		if (folio_order(folio) < recent->whole) {
			u32 finds = READ_ONCE(recent->finds);

			if (finds >= RUST_FINDS_MAX)
				goto none;
			WRITE_ONCE(recent->finds, finds + 1);
		}
		rust_helper_set_recent_folio(recent, folio);
	}
	*address = folio_address(folio) +
		   ((index - folio->index) << PAGE_SHIFT);
	return folio;
none:
	folio_put(folio);
	return NULL;
}
