/* Constraints by their text. A list in the order of use, newest first: there are few. */
#include "generate/grammar/constraint_cache.h"

#include "base/lock.h"
#include "base/memory.h"

#include <string.h>

struct bb_constraint_cache {
    const struct bb_tokenizer *tokenizer;
    size_t count_limit, byte_limit;
    struct bb_lock lock;              /* over the list */
    struct bombus_constraint **items; /* [count_limit], each held */
    size_t count;
};

bombus_status bb_constraint_cache_create(struct bb_constraint_cache **cache, const struct bb_tokenizer *tokenizer,
                                         size_t count, size_t bytes, bombus_error *error)
{
    *cache = NULL;
    struct bb_constraint_cache *made = bb_allocate(1, sizeof *made);
    if (made == NULL)
        return bb_fail_memory(error, sizeof *made, "a cache of constraints");
    made->tokenizer = tokenizer;
    made->count_limit = count;
    made->byte_limit = bytes;
    made->items = bb_allocate(count, sizeof(struct bombus_constraint *));
    bombus_status status = made->items != NULL ? bb_lock_init(&made->lock, false, error)
                                               : bb_fail_memory(error, count, "a cache of constraints");
    if (status == BOMBUS_OK)
        *cache = made;
    else
        bb_constraint_cache_free(made);
    return status;
}

void bb_constraint_cache_free(struct bb_constraint_cache *cache)
{
    if (cache == NULL)
        return;
    for (size_t i = 0; i < cache->count; i++)
        bb_constraint_free(cache->items[i]);
    bb_release(cache->items);
    bb_lock_clear(&cache->lock);
    bb_release(cache);
}

/* The one with the text, as the newest, with a hold for the caller; NULL if there is none. Under the lock. */
static struct bombus_constraint *find(struct bb_constraint_cache *cache, const struct bb_constraint_text *text)
{
    for (size_t i = 0; i < cache->count; i++) {
        struct bombus_constraint *found = cache->items[i];
        if (!bb_constraint_text_is_same(&found->text, text))
            continue;
        memmove(cache->items + 1, cache->items, i * sizeof(struct bombus_constraint *));
        cache->items[0] = found;
        bb_constraint_hold(found);
        return found;
    }
    return NULL;
}

/* Puts `made` in as the newest, unless one with its text came meanwhile; gives the one that is there. *oldest had to
 * make room for it, or is NULL. Under the lock. */
static struct bombus_constraint *add(struct bb_constraint_cache *cache, struct bombus_constraint *made,
                                     struct bombus_constraint **oldest)
{
    struct bombus_constraint *found = find(cache, &made->text);
    *oldest = NULL;
    if (found != NULL)
        return found;
    if (cache->count == cache->count_limit)
        *oldest = cache->items[--cache->count];
    memmove(cache->items + 1, cache->items, cache->count++ * sizeof(struct bombus_constraint *));
    cache->items[0] = made;
    bb_constraint_hold(made);
    return made;
}

/* Takes the oldest one out if there are too many bytes; NULL if not. Under the lock. */
static struct bombus_constraint *take_excess(struct bb_constraint_cache *cache)
{
    size_t bytes = 0;
    for (size_t i = 0; i < cache->count; i++)
        bytes += bb_constraint_bytes(cache->items[i]);
    return bytes > cache->byte_limit ? cache->items[--cache->count] : NULL;
}

/* Lets go what is too much: masks that were found since the last call count too. Frees outside the lock. */
static void shrink(struct bb_constraint_cache *cache)
{
    struct bombus_constraint *excess;
    do {
        bb_lock_take(&cache->lock);
        excess = take_excess(cache);
        bb_lock_give(&cache->lock);
        bb_constraint_free(excess);
    } while (excess != NULL);
}

bombus_status bb_constraint_cache_get(struct bb_constraint_cache *cache, struct bombus_constraint **constraint,
                                      bombus_constraint_kind kind, const char *source, size_t length,
                                      bombus_error *error)
{
    struct bombus_constraint *made, *oldest = NULL;
    struct bb_constraint_text text = bb_constraint_text(kind, source, length);
    bb_lock_take(&cache->lock);
    *constraint = find(cache, &text);
    bb_lock_give(&cache->lock);
    if (*constraint == NULL) {
        bombus_status status = bb_constraint_create(&made, kind, source, length, cache->tokenizer, error);
        if (status != BOMBUS_OK)
            return status;
        bb_lock_take(&cache->lock);
        *constraint = add(cache, made, &oldest);
        bb_lock_give(&cache->lock);
        if (*constraint != made)
            bb_constraint_free(made);
        bb_constraint_free(oldest);
    }
    shrink(cache);
    return BOMBUS_OK;
}
