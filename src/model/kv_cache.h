/* The paged key-value cache: pages of positions a layer, page tables a sequence. */
#ifndef BB_KV_CACHE_H
#define BB_KV_CACHE_H

#include "base/buffer.h"
#include "model/recipe.h"
#include "tensor/batch.h"

enum { BB_KV_PAGE_SIZE = 64 }; /* positions a page; attention works through keys in blocks of one page, whatever the batch */

/* How many pages so many positions take. */
static inline int32_t bb_kv_pages(int32_t positions)
{
    return positions / BB_KV_PAGE_SIZE + (positions % BB_KV_PAGE_SIZE != 0);
}

struct bb_kv_cache;

struct bb_kv_cache_options {
    enum bb_kv_type type;
    int32_t group_size;     /* of a quantized cache: values of a head that share scale and bias; 0: the usual one */
    int32_t sequence_count; /* sequences it can hold at once */
    int32_t context_size;   /* positions a sequence */
    int32_t max_kv_size;    /* 0: all; else the first 4 and the latest are seen, this many in all */
    size_t page_limit;      /* pages a group of layers (those of one window); 0: enough for every sequence at full length */
};

/* The type for a session's kv_bits (0, 8, 4) and precision. */
enum bb_kv_type bb_kv_cache_choose_type(int32_t kv_bits, bool is_exact);

/* The group size where none is asked for: 64, or 32 where that does not divide head_dim; 0 if neither does. */
int32_t bb_kv_cache_usual_group_size(int32_t head_dim);

/* Address space for all pages is taken at once, memory as pages are first written: no allocation a token. Layers with a sliding window give pages
 * back that no later position can see, but for one page, so that up to BB_KV_PAGE_SIZE positions can always be taken back.
 *
 * max_kv_size: position i sees j if j < 4 or i - j < max_kv_size - 4, as mlx-lm's RotatingKVCache does token by token. (In a prompt's chunks mlx-lm
 * lets a row see up to max_kv_size - 1 entries of the cache before the chunk, here every row sees what it would see alone: the same whatever the
 * chunks.) Layers whose own window is not larger keep it. */
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

/* Pages that outlive their sequence (prefixes kept for later sequences). A *page* here stands for its positions in all layers: a page number for
 * each of group_count groups of layers. */
int32_t bb_kv_cache_group_count(const struct bb_kv_cache *cache);
/* Bytes of such a page; of a cache not made yet, too. 0 if that is no number. */
size_t bb_kv_cache_page_bytes(const struct bb_recipe *recipe, enum bb_kv_type type, int32_t group_size);
/* Counts page `index` of a sequence once more and gives its numbers. It must be reserved, and no window may have dropped it: call before the
 * positions that complete it are advanced over. */
void bb_kv_cache_retain(struct bb_kv_cache *cache, int32_t sequence, int32_t index, int32_t *page);
void bb_kv_cache_release(struct bb_kv_cache *cache, const int32_t *page);
/* Makes `page` the sequence's page `index`, in place of one with the same content (where it has one there). Its positions count after an advance. */
void bb_kv_cache_attach(struct bb_kv_cache *cache, int32_t sequence, int32_t index, const int32_t *page);
/* Pages that must be released before bb_kv_cache_reserve(sequence, count) can succeed; 0: none. */
int32_t bb_kv_cache_missing(const struct bb_kv_cache *cache, int32_t sequence, int32_t count);

/* One layer as operations see it. */
struct bb_kv_view bb_kv_cache_view(const struct bb_kv_cache *cache, int32_t layer);
/* A quantized cache rounds a prompt's first chunk (a span of several rows from position 0 on) only after the chunk's own attention, as mlx-lm does:
 * those rows see each other's keys and values unrounded. Gives the number of pages of BB_KV_F32 that one layer needs for that in this batch, and
 * in *fresh a view of them, without memory (base) and window; 0: none, *fresh is not set. The view's page tables live until the next call. */
int32_t bb_kv_cache_fresh(struct bb_kv_cache *cache, const struct bb_batch *batch, struct bb_kv_view *fresh);
/* Bytes of memory in pages in use, shared ones once. */
size_t bb_kv_cache_bytes(const struct bb_kv_cache *cache);

/* The pages of a sequence as bytes, and back into an empty sequence; only between caches of the same model and options (the caller checks; sizes and
 * page numbers are checked here: BOMBUS_ERROR_FORMAT with the sequence left empty). */
BB_RESULT bombus_status bb_kv_cache_write(const struct bb_kv_cache *cache, int32_t sequence, struct bb_buffer *bytes,
                                          bombus_error *error);
BB_RESULT bombus_status bb_kv_cache_read(struct bb_kv_cache *cache, int32_t sequence, const void *bytes, size_t size, bombus_error *error);

#endif
