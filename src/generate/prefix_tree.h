/* Prefixes kept in the cache for later sequences: a tree whose edges are pages of BB_KV_PAGE_SIZE tokens. What hangs below different roots was
 * computed with different adapters. A sequence walks down as it grows and stands on its deepest page: that page and those above it stay; the others
 * are given up when room is needed, the least recently used first. */
#ifndef BB_PREFIX_TREE_H
#define BB_PREFIX_TREE_H

#include "model/kv_cache.h"

struct bb_prefix_tree;
struct bb_prefix; /* a page after those above it, or a root */

/* The cache is borrowed and must outlive the tree. */
BB_RESULT bombus_status bb_prefix_tree_create(struct bb_prefix_tree **tree, struct bb_kv_cache *cache,
                                              bombus_error *error);
void bb_prefix_tree_free(struct bb_prefix_tree *tree); /* NULL is allowed; nobody may stand on a page */

/* How many leading pages of `tokens` are there, at most `limit`, and how many of these nobody stands on or below (*idle). */
int32_t bb_prefix_tree_match(const struct bb_prefix_tree *tree, uint64_t identity, const int32_t *tokens, int32_t limit,
                             int32_t *idle);

/* Stands on the root of `identity`; NULL if memory is out. */
struct bb_prefix *bb_prefix_tree_enter(struct bb_prefix_tree *tree, uint64_t identity) BB_RESULT;
/* The page below `prefix` that holds these tokens; NULL if there is none. */
struct bb_prefix *bb_prefix_find(struct bb_prefix *prefix, const int32_t *tokens);
/* Puts page `index` of a sequence below `prefix` (whoever calls stands on it); NULL if memory is out. */
struct bb_prefix *bb_prefix_tree_add(struct bb_prefix_tree *tree, struct bb_prefix *prefix, const int32_t *tokens,
                                     int32_t sequence, int32_t index) BB_RESULT;
/* From standing on a prefix to standing on a page right below it. */
void bb_prefix_tree_descend(struct bb_prefix_tree *tree, struct bb_prefix *child);
void bb_prefix_tree_leave(struct bb_prefix_tree *tree, struct bb_prefix *prefix);
const int32_t *bb_prefix_page(const struct bb_prefix *prefix); /* for bb_kv_cache_attach */

/* Gives up the page that was used least recently and that nobody stands on or below, last pages first; false if there is none. */
bool bb_prefix_tree_evict(struct bb_prefix_tree *tree);
/* Pages in the tree, and those of them that cannot be given up now. */
int32_t bb_prefix_tree_count(const struct bb_prefix_tree *tree);
int32_t bb_prefix_tree_busy(const struct bb_prefix_tree *tree);

#endif
