/* The tree of kept prefixes. Siblings form a list: they are told apart by a hash of their tokens before these are compared. Pages form another list
 * by use: whoever leaves brings the pages of its path to the front, the deepest first, so that the last pages of a path come to the tail before
 * the pages that they need. */
#include "generate/prefix_tree.h"

#include "base/memory.h"

#include <string.h>

enum { PAGE = BB_KV_PAGE_SIZE };

struct bb_prefix {
    struct bb_prefix *parent, *children, *sibling; /* a root's sibling is the next root */
    struct bb_prefix *newer, *older;               /* by use; of pages */
    uint64_t hash;                                 /* of the tokens; a root's is its identity */
    int32_t users;                                 /* sequences that stand on it or below */
    int32_t *page;                                 /* [group_count] */
    int32_t tokens[];                              /* [PAGE]; a root has none */
};

struct bb_prefix_tree {
    struct bb_kv_cache *cache;
    struct bb_prefix *roots;
    struct bb_prefix *newest, *oldest;
    int32_t count, busy;
};

bombus_status bb_prefix_tree_create(struct bb_prefix_tree **tree, struct bb_kv_cache *cache, bombus_error *error)
{
    *tree = bb_allocate(1, sizeof **tree);
    if (*tree == NULL)
        return bb_fail_memory(error, sizeof **tree, "the tree of prefixes");
    (*tree)->cache = cache;
    return BOMBUS_OK;
}

static void unlink_use(struct bb_prefix_tree *tree, struct bb_prefix *prefix)
{
    *(prefix->newer != NULL ? &prefix->newer->older : &tree->newest) = prefix->older;
    *(prefix->older != NULL ? &prefix->older->newer : &tree->oldest) = prefix->newer;
    prefix->newer = prefix->older = NULL;
}

static void link_newest(struct bb_prefix_tree *tree, struct bb_prefix *prefix)
{
    prefix->older = tree->newest;
    *(tree->newest != NULL ? &tree->newest->newer : &tree->oldest) = prefix;
    tree->newest = prefix;
}

static void unlink_sibling(struct bb_prefix **first, struct bb_prefix *prefix)
{
    while (*first != prefix)
        first = &(*first)->sibling;
    *first = prefix->sibling;
}

/* A root goes with its last page. */
static void drop_idle_root(struct bb_prefix_tree *tree, struct bb_prefix *prefix)
{
    if (prefix->parent != NULL || prefix->children != NULL || prefix->users > 0)
        return;
    unlink_sibling(&tree->roots, prefix);
    bb_release(prefix);
}

bool bb_prefix_tree_evict(struct bb_prefix_tree *tree)
{
    struct bb_prefix *prefix = tree->oldest;
    while (prefix != NULL && (prefix->users > 0 || prefix->children != NULL))
        prefix = prefix->newer;
    if (prefix == NULL)
        return false;
    struct bb_prefix *parent = prefix->parent;
    bb_kv_cache_release(tree->cache, prefix->page);
    unlink_use(tree, prefix);
    unlink_sibling(&parent->children, prefix);
    bb_release(prefix);
    tree->count--;
    drop_idle_root(tree, parent);
    return true;
}

void bb_prefix_tree_free(struct bb_prefix_tree *tree)
{
    if (tree == NULL)
        return;
    while (bb_prefix_tree_evict(tree))
        continue;
    bb_release(tree);
}

static uint64_t hash_of(const int32_t *tokens)
{
    uint64_t hash = 0xcbf29ce484222325U; /* FNV-1a, a token a step */
    for (int32_t i = 0; i < PAGE; i++)
        hash = (hash ^ (uint32_t)tokens[i]) * 0x100000001b3U;
    return hash;
}

struct bb_prefix *bb_prefix_find(struct bb_prefix *prefix, const int32_t *tokens)
{
    uint64_t hash = hash_of(tokens);
    struct bb_prefix *child = prefix->children;
    while (child != NULL && (child->hash != hash || memcmp(child->tokens, tokens, PAGE * sizeof *tokens) != 0))
        child = child->sibling;
    return child;
}

static struct bb_prefix *find_root(const struct bb_prefix_tree *tree, uint64_t identity)
{
    struct bb_prefix *root = tree->roots;
    while (root != NULL && root->hash != identity)
        root = root->sibling;
    return root;
}

int32_t bb_prefix_tree_match(const struct bb_prefix_tree *tree, uint64_t identity, const int32_t *tokens, int32_t limit,
                             int32_t *idle)
{
    struct bb_prefix *prefix = find_root(tree, identity);
    int32_t count = 0;
    *idle = 0;
    while (prefix != NULL && count < limit && (prefix = bb_prefix_find(prefix, tokens + count * PAGE)) != NULL) {
        *idle += prefix->users == 0;
        count++;
    }
    return count;
}

struct bb_prefix *bb_prefix_tree_enter(struct bb_prefix_tree *tree, uint64_t identity)
{
    struct bb_prefix *root = find_root(tree, identity);
    if (root == NULL) {
        root = bb_allocate(1, sizeof *root);
        if (root == NULL)
            return NULL;
        root->hash = identity;
        root->sibling = tree->roots;
        tree->roots = root;
    }
    root->users++;
    return root;
}

struct bb_prefix *bb_prefix_tree_add(struct bb_prefix_tree *tree, struct bb_prefix *prefix, const int32_t *tokens,
                                     int32_t sequence, int32_t index)
{
    size_t groups = (size_t)bb_kv_cache_group_count(tree->cache);
    struct bb_prefix *made = bb_allocate(1, sizeof *made + (PAGE + groups) * sizeof *tokens);
    if (made == NULL)
        return NULL;
    memcpy(made->tokens, tokens, PAGE * sizeof *tokens);
    made->hash = hash_of(tokens);
    made->page = made->tokens + PAGE;
    made->parent = prefix;
    made->sibling = prefix->children;
    prefix->children = made;
    bb_kv_cache_retain(tree->cache, sequence, index, made->page);
    link_newest(tree, made);
    tree->count++;
    return made;
}

void bb_prefix_tree_descend(struct bb_prefix_tree *tree, struct bb_prefix *child)
{
    tree->busy += child->users++ == 0; /* those above it count the sequence already */
}

void bb_prefix_tree_leave(struct bb_prefix_tree *tree, struct bb_prefix *prefix)
{
    struct bb_prefix *root = prefix;
    for (; root->parent != NULL; root = root->parent) {
        tree->busy -= --root->users == 0;
        unlink_use(tree, root);
        link_newest(tree, root);
    }
    root->users--;
    drop_idle_root(tree, root);
}

const int32_t *bb_prefix_page(const struct bb_prefix *prefix)
{
    return prefix->page;
}

int32_t bb_prefix_tree_count(const struct bb_prefix_tree *tree)
{
    return tree->count;
}

int32_t bb_prefix_tree_busy(const struct bb_prefix_tree *tree)
{
    return tree->busy;
}
