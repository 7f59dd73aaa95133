/* What one step computes: rows of tokens, the sequences they belong to, and how operations see the cache. */
#include "tensor/batch.h"

size_t bb_kv_page_bytes(enum bb_kv_type type, int32_t group_size, int32_t page_size, int32_t kv_heads, int32_t head_dim)
{
    size_t rows = (size_t)page_size * (size_t)kv_heads, width = (size_t)head_dim;
    size_t padded = (width + BB_KV_TILE - 1) / BB_KV_TILE * BB_KV_TILE;
    switch (type) {
    case BB_KV_F32: return rows * (width + padded) * sizeof(float);
    case BB_KV_F16: return rows * (width + padded) * sizeof(uint16_t);
    case BB_KV_Q8: return 2 * rows * (width + width / (size_t)group_size * 2 * sizeof(float));
    case BB_KV_Q4: return 2 * rows * (width / 2 + width / (size_t)group_size * 2 * sizeof(float));
    }
    return 0;
}
