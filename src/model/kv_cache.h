/* The paged key-value cache: pages of positions a layer, page tables a sequence. */
#ifndef BB_KV_CACHE_H
#define BB_KV_CACHE_H

#include "base/buffer.h"
#include "model/recipe.h"
#include "tensor/batch.h"

struct bb_kv_cache;

struct bb_kv_cache_options {
    enum bb_kv_type type;
    int32_t sequence_count; /* sequences it can hold at once */
    int32_t context_size;   /* positions a sequence */
    int32_t max_kv_size;    /* 0: all; else the first 4 and the latest are kept */
    size_t page_limit;      /* pages in all; 0: enough for every sequence at full length */
};

/* Address space for all pages is taken at once, memory as pages are first written: no allocation a token. Layers with a sliding window give pages
 * back that no later position can see. */
BB_RESULT bombus_status bb_kv_cache_create(struct bb_kv_cache **cache, const struct bb_recipe *recipe, struct bb_backend *backend,
                                           const struct bb_kv_cache_options *options, bombus_error *error);
void bb_kv_cache_free(struct bb_kv_cache *cache); /* NULL is allowed */

int32_t bb_kv_cache_length(const struct bb_kv_cache *cache, int32_t sequence);
/* Pages for `count` more positions. BOMBUS_ERROR_CONTEXT_FULL with nothing changed if there is no room. */
BB_RESULT bombus_status bb_kv_cache_reserve(struct bb_kv_cache *cache, int32_t sequence, int32_t count, bombus_error *error);
/* After a step that wrote `count` positions: the length grows, pages out of every window are given back. */
void bb_kv_cache_advance(struct bb_kv_cache *cache, int32_t sequence, int32_t count);
/* Forgets positions from `length` on. BOMBUS_ERROR_UNSUPPORTED if positions that would be seen again were dropped. */
BB_RESULT bombus_status bb_kv_cache_truncate(struct bb_kv_cache *cache, int32_t sequence, int32_t length, bombus_error *error);
/* Makes `to` (empty) begin with the first `length` positions of `from`; whole pages are shared and counted, a partial one is copied. */
BB_RESULT bombus_status bb_kv_cache_share(struct bb_kv_cache *cache, int32_t from, int32_t to, int32_t length, bombus_error *error);
/* One layer as operations see it. */
struct bb_kv_view bb_kv_cache_view(const struct bb_kv_cache *cache, int32_t layer);
/* Bytes of memory in pages in use. */
size_t bb_kv_cache_bytes(const struct bb_kv_cache *cache);

/* The pages of a sequence as bytes, and back into an empty sequence; only between caches of the same recipe and options (the caller checks). */
BB_RESULT bombus_status bb_kv_cache_write(const struct bb_kv_cache *cache, int32_t sequence, struct bb_buffer *bytes,
                                          bombus_error *error);
BB_RESULT bombus_status bb_kv_cache_read(struct bb_kv_cache *cache, int32_t sequence, const void *bytes, size_t size, bombus_error *error);

#endif
