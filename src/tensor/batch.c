/* What one step computes: rows of tokens, the sequences they belong to, and how operations see the cache. */
#include "tensor/batch.h"

size_t bb_kv_page_bytes(enum bb_kv_type type, int32_t group_size, int32_t page_size, int32_t kv_heads, int32_t head_dim)
{
    size_t rows = (size_t)page_size * (size_t)kv_heads, width = (size_t)head_dim;
    size_t padded = (width + BB_KV_TILE - 1) / BB_KV_TILE * BB_KV_TILE, bits = (size_t)bb_kv_bits(type);
    if (bb_kv_is_quantized(type))
        return 2 * rows * (width * bits / 8 + width / (size_t)group_size * 2 * sizeof(float));
    return rows * (width + padded) * bits / 8;
}
