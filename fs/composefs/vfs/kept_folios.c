// SPDX-License-Identifier: GPL-2.0
/*
 * Large folios of a private mapping that are found without a search of the page
 * cache, see kept_folios.h.
 *
 * All processors read the same few folios of an image, again and again. If each
 * took a reference to the folio, all would write to its reference count. So users
 * of a folio that is kept are counted by each processor for itself. A struct
 * percpu_ref does the same, but looks at its mode and enters RCU for each user that
 * comes or goes.
 *
 * The folio's private data is its struct rust_kept_folio. Reclaim and drop_caches
 * then ask release_folio(), and others call invalidate_folio(), before the folio is
 * removed from the page cache.
 *
 * This is C because every block of a directory and every inode is found here. The
 * lookup takes a dozen inline functions: per-processor counters, page flags. Rust
 * would call a helper for each of them. What keeps and releases folios follows the
 * same rules, so it is here, too.
 *
 * helpers.c includes this file, as rust/helpers/helpers.c does in a kernel tree.
 */
#include <linux/log2.h>
#include <linux/pagemap.h>
#include <linux/percpu.h>
#include <linux/preempt.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/swap.h>
#include "kept_folios.h"

/*
 * A folio that is kept in @place. @index and @address are those of its first page.
 * @used is set when it was found there. A user adds 1 to @users on one processor,
 * and takes it away on the same or another one.
 */
struct rust_kept_folio {
	struct rust_kept_folio **place;
	struct folio *folio;
	pgoff_t index;
	void *address;
	bool used;
	long __percpu *users;
	struct rcu_head rcu;
};

/*
 * Set in a pointer to a struct rust_kept_folio, to tell it from a pointer to a
 * folio: what keeps a page is either of them.
 */
#define RUST_KEPT_FOLIO 1UL

static void free_kept_folio(struct rust_kept_folio *kept)
{
	folio_put(kept->folio);
	free_percpu(kept->users);
	kfree(kept);
}

/*
 * Whether @kept has users. Call this a grace period after it was taken from its
 * place. Then every task that found it there has counted itself, and @users only
 * falls: if the sum is 0, it stays 0.
 */
static bool has_users(struct rust_kept_folio *kept)
{
	long users = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		users += READ_ONCE(*per_cpu_ptr(kept->users, cpu));
	/* Pairs with that in rust_helper_put_kept_page(). */
	smp_mb();
	return users;
}

static void retire_kept_folio(struct rcu_head *rcu)
{
	struct rust_kept_folio *kept = container_of(rcu, struct rust_kept_folio, rcu);

	/* A user may wait for long: for memory of its own, to which names go. */
	if (has_users(kept))
		call_rcu(rcu, retire_kept_folio);
	else
		free_kept_folio(kept);
}

/*
 * Takes @folio, which is locked, from its place, so that nobody finds it there any
 * more. Its struct rust_kept_folio then has a reference to it, which is dropped when
 * there are no users. If @wait, this is before the function returns, unless there
 * are users after a grace period.
 */
static void stop_keeping(struct folio *folio, bool wait)
{
	struct rust_kept_folio *kept = folio_get_private(folio);

	WRITE_ONCE(*kept->place, NULL);
	folio_get(folio);
	folio_detach_private(folio);
	if (wait) {
		synchronize_rcu_expedited();
		if (!has_users(kept)) {
			free_kept_folio(kept);
			return;
		}
	}
	call_rcu_hurry(&kept->rcu, retire_kept_folio);
}

/*
 * Whether the caller of release_folio() may wait for a grace period. Direct reclaim,
 * whose @gfp allows to sleep, has to: it gives up before a callback of RCU has freed
 * anything, and the OOM killer comes. kswapd tries again later. drop_caches passes 0
 * as @gfp, but preemptible() tells that it may sleep, except on kernels that do not
 * count preemption.
 */
static bool may_wait(gfp_t gfp)
{
	if (current_is_kswapd())
		return false;
	return gfpflags_allow_blocking(gfp) ||
	       (preemptible() && !rcu_preempt_depth());
}

/*
 * Reclaim has not seen whether the folio was used. It gets the folio if that was not
 * since it last asked. Others, such as drop_caches, get it at once.
 */
static bool release_kept_folio(struct folio *folio, gfp_t gfp)
{
	struct rust_kept_folio *kept = folio_get_private(folio);

	if ((current->flags & PF_MEMALLOC) && READ_ONCE(kept->used)) {
		WRITE_ONCE(kept->used, false);
		return false;
	}
	stop_keeping(folio, may_wait(gfp));
	return true;
}

static void invalidate_kept_folio(struct folio *folio, size_t offset, size_t len)
{
	stop_keeping(folio, false);
}

static const struct address_space_operations kept_folios_aops = {
	.release_folio = release_kept_folio,
	.invalidate_folio = invalidate_kept_folio,
};

/* Makes places for the folios of @mapping, which is new and has @pages pages. */
int rust_helper_init_kept_folios(struct rust_kept_folios *all,
				 struct address_space *mapping, pgoff_t pages)
{
	const pgoff_t folios = DIV_ROUND_UP(pages, 1UL << all->whole);
	const unsigned int places =
		roundup_pow_of_two(clamp(folios, 1, RUST_KEPT_FOLIOS_MAX));

	all->folios = kvcalloc(places, sizeof(*all->folios), GFP_KERNEL_ACCOUNT);
	if (!all->folios)
		return -ENOMEM;
	all->mask = places - 1;
	mapping->a_ops = &kept_folios_aops;
	return 0;
}

/* Frees them, and all folios of @mapping. Nobody uses these or looks for them. */
void rust_helper_free_kept_folios(struct rust_kept_folios *all,
				  struct address_space *mapping)
{
	truncate_inode_pages(mapping, 0);
	mapping->a_ops = &empty_aops;
	kvfree(all->folios);
}

static struct rust_kept_folio **kept_place(struct rust_kept_folios *all,
					   pgoff_t index)
{
	return &all->folios[(index >> all->whole) & all->mask];
}

/* Returns the kept folio with page @index, and counts a user of it. */
static struct rust_kept_folio *get_kept_folio(struct rust_kept_folios *all,
					      pgoff_t index)
{
	struct rust_kept_folio *kept;

	/* As rcu_read_lock(), without a function call. */
	guard(preempt)();
	kept = READ_ONCE(*kept_place(all, index));
	if (!kept || (kept->index ^ index) >> all->whole)
		return NULL;
	__this_cpu_inc(*kept->users);
	/* All processors read this, so write it only once. */
	if (!READ_ONCE(kept->used))
		WRITE_ONCE(kept->used, true);
	return kept;
}

/*
 * Empties @place for another folio. Where two folios that are both in use have the
 * same place, they must not replace each other all the time: the one that is there
 * has to be found between two misses.
 */
static bool empty_place(struct rust_kept_folio **place)
{
	struct rust_kept_folio *kept;
	struct folio *folio;
	bool is_there;

	scoped_guard(rcu) {
		kept = READ_ONCE(*place);
		if (!kept)
			return true;
		folio = kept->folio;
		if (READ_ONCE(kept->used)) {
			WRITE_ONCE(kept->used, false);
			return false;
		}
		if (!folio_try_get(folio))
			return false;
	}
	if (folio_trylock(folio)) {
		/*
		 * Without a reference it could become a folio of another file. If it
		 * is in the place now, it stays there while it is locked.
		 */
		scoped_guard(rcu) {
			kept = READ_ONCE(*place);
			is_there = kept && kept->folio == folio;
		}
		if (is_there)
			stop_keeping(folio, false);
		folio_unlock(folio);
	}
	folio_put(folio);
	return !READ_ONCE(*place);
}

/* Allocates what keeps @folio, which is locked and in its page cache, in @place. */
static void keep_locked(struct rust_kept_folio **place, struct folio *folio)
{
	/* It is not worth an OOM kill. */
	const gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_NOWARN | __GFP_NORETRY;
	struct rust_kept_folio *kept = kzalloc(sizeof(*kept), gfp);

	if (!kept)
		return;
	kept->users = alloc_percpu_gfp(long, gfp);
	if (!kept->users) {
		kfree(kept);
		return;
	}
	kept->place = place;
	kept->folio = folio;
	kept->index = folio->index;
	kept->address = folio_address(folio);
	folio_attach_private(folio, kept);
	if (cmpxchg(place, NULL, kept)) {
		/* Another folio was faster. */
		folio_detach_private(folio);
		free_percpu(kept->users);
		kfree(kept);
	}
}

/*
 * Keeps @folio if it is a large one: single pages are too many, where a mapping has
 * no others. If there is no memory for that, it is found by a search of the page
 * cache.
 */
void rust_helper_keep_folio(struct rust_kept_folios *all, struct folio *folio)
{
	struct rust_kept_folio **place = kept_place(all, folio->index);

	if (!all->whole || folio_order(folio) != all->whole || folio_test_private(folio) ||
	    !empty_place(place) || !folio_trylock(folio))
		return;
	if (folio->mapping && !folio_test_private(folio))
		keep_locked(place, folio);
	folio_unlock(folio);
}

/*
 * Finds page @index, among the kept folios or in the page cache, and its address.
 * Returns what keeps it, for rust_helper_put_kept_page(). Returns NULL if there is
 * no page that is up to date. Also returns NULL if it is in a small folio, and
 * small folios were found too often: the caller then reads a large one.
 */
void *rust_helper_find_kept_page(struct address_space *mapping,
				 struct rust_kept_folios *all, pgoff_t index,
				 void **address)
{
	struct rust_kept_folio *kept = get_kept_folio(all, index);
	struct folio *folio;

	if (kept) {
		*address = kept->address + ((index - kept->index) << PAGE_SHIFT);
		return (void *)kept + RUST_KEPT_FOLIO;
	}
	folio = __filemap_get_folio(mapping, index, FGP_ACCESSED, 0);
	if (IS_ERR(folio))
		return NULL;
	if (!folio_test_uptodate(folio))
		goto none;
	if (folio_order(folio) < all->whole) {
		u32 finds = READ_ONCE(all->finds);

		if (finds >= RUST_FINDS_MAX)
			goto none;
		WRITE_ONCE(all->finds, finds + 1);
	}
	rust_helper_keep_folio(all, folio);
	*address = folio_address(folio) +
		   ((index - folio->index) << PAGE_SHIFT);
	return folio;
none:
	folio_put(folio);
	return NULL;
}

/*
 * Drops what keeps a page: a reference to a folio, or what
 * rust_helper_find_kept_page() has returned.
 */
void rust_helper_put_kept_page(void *keeper)
{
	struct rust_kept_folio *kept = keeper - RUST_KEPT_FOLIO;

	if ((unsigned long)keeper & RUST_KEPT_FOLIO) {
		/* The page was read before. Only a compiler barrier on x86. */
		smp_mb__before_atomic();
		this_cpu_dec(*kept->users);
	} else {
		folio_put(keeper);
	}
}
