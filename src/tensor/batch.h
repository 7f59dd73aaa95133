/* What one step computes: rows of tokens, the sequences they belong to, and how operations see the cache. */
#ifndef BB_BATCH_H
#define BB_BATCH_H

#include "tensor/dtype.h"
#include "tensor/low_rank.h"

#include <stdbool.h>

/* The rows of one sequence in a batch: consecutive rows, consecutive positions. */
struct bb_span {
    int32_t first_row, row_count;
    int32_t first_position; /* position of first_row; rows before it are in the cache already */
    int32_t sequence;       /* which sequence of the kv cache */
    const struct bb_adapter_set *adapters; /* of all its rows; NULL: the model as it is */
};

struct bb_batch {
    int32_t row_count;
    const int32_t *tokens;      /* [row_count] */
    const int32_t *positions;   /* [row_count] */
    int32_t span_count;
    const struct bb_span *spans; /* [span_count], in row order, covering every row once */
    int32_t output_count;
    const int32_t *output_rows; /* [output_count], ascending: the rows whose logits are wanted */
};

enum bb_kv_type {
    BB_KV_F32,
    BB_KV_F16,
    BB_KV_Q8, /* affine codes in groups along head_dim, f32 scale and bias a group (mlx-lm's QuantizedKVCache) */
    BB_KV_Q4
};

enum { BB_KV_TILE = 16, BB_KV_GROUP = 32 /* groups of codes are a multiple of it */, BB_KV_HEAD_DIM_LIMIT = 1024 };

static inline bool bb_kv_is_quantized(enum bb_kv_type type)
{
    return type == BB_KV_Q8 || type == BB_KV_Q4;
}

/* Bits of an entry, or of a code. */
static inline int32_t bb_kv_bits(enum bb_kv_type type)
{
    return type == BB_KV_F32 ? 32 : type == BB_KV_F16 ? 16 : type == BB_KV_Q8 ? 8 : 4;
}

/* The cache of one layer, as operations see it. A page holds page_size consecutive positions of one layer (a multiple of BB_KV_TILE). Keys lie
 * in tiles of 16 positions, position fastest, so that a tile's scores are sums over vectors; rows of values are padded to a multiple of 16:
 *   F32, F16: keys [kv_heads, page_size / 16, head_dim, 16], then values [kv_heads, page_size, padded head_dim]
 *   Q8, Q4:   key codes [kv_heads, page_size / 16, head_dim * bits / 8, 16] (Q4: even entry in the low half of its byte),
 *             key scales f32 [kv_heads, page_size / 16, head_dim / group_size, 16], key biases, the same;
 *             value codes [kv_heads, page_size, head_dim * bits / 8], scales [kv_heads, page_size, head_dim / group_size], biases
 * Page `id` of this layer begins at base + id * page_stride. Unwritten positions may hold anything. */
struct bb_kv_view {
    enum bb_kv_type type;
    int32_t group_size;   /* Q8, Q4 */
    int32_t page_size;    /* positions a page: 16, 32 or a multiple of 64 */
    int32_t kv_heads, head_dim;
    char *base;
    size_t page_stride;
    const int32_t *const *page_tables; /* [sequence][position / page_size] -> page id, -1 where dropped */
    int32_t window;       /* > 0: a query at i sees positions j with i - j < window; 0: all */
    int32_t keep;         /* positions below this are seen whatever the window (max_kv_size keeps the first 4) */
    const struct bb_kv_view *fresh; /* NULL, or a view of the same layer in F32 for the sequences that it has a page table of: their keys
                                       and values are written to both views, and read from that one (model/kv_cache.h says when) */
};

/* The view that a sequence's keys and values are read from. */
static inline const struct bb_kv_view *bb_kv_view_of(const struct bb_kv_view *view, int32_t sequence)
{
    return view->fresh != NULL && view->fresh->page_tables[sequence] != NULL ? view->fresh : view;
}

/* Bytes of one page of one layer. */
size_t bb_kv_page_bytes(enum bb_kv_type type, int32_t group_size, int32_t page_size, int32_t kv_heads, int32_t head_dim);

#endif
