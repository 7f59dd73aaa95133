/* Attention over a block of keys in plain C: the meaning of each slot.
 *
 * Online softmax (Milakov and Gimelshein 2018; FlashAttention): with m the largest score so far, l the sum of exp(s
 * - m) and o the sum of exp(s - m) v, a block with largest score m' first scales l and o by exp(m - max(m, m')). */
#include "backend/cpu/kernels/attention.h"

#include <math.h>

static float load_entry(const void *data, enum bb_kv_type type, int64_t index)
{
    return type == BB_KV_F16 ? bb_f16_to_f32(((const uint16_t *)data)[index]) : ((const float *)data)[index];
}

/* Entry i from the byte that holds its code: of 4 bits two a byte, that of an even entry in the low half. */
static float unpack(int32_t byte, int32_t bits, int32_t i, float scale, float bias)
{
    int32_t code = bits == 8 ? byte : i % 2 == 0 ? byte & 15 : byte >> 4;
    return scale * (float)code + bias;
}

static float load_key(const struct bb_attention_tile *tile, const struct bb_attention_block *block, int32_t key, int32_t i)
{
    const struct bb_attention_entries *keys = &block->keys;
    const int64_t dim = tile->head_dim, in_tiles = key / BB_KV_TILE, slot = key % BB_KV_TILE;
    if (!bb_kv_is_quantized(block->type))
        return load_entry(keys->data, block->type, (in_tiles * dim + i) * BB_KV_TILE + slot);
    const int32_t bits = bb_kv_bits(block->type);
    const int64_t group = (in_tiles * (dim / block->group_size) + i / block->group_size) * BB_KV_TILE + slot;
    const uint8_t *codes = keys->data;
    return unpack(codes[(in_tiles * dim + i) * bits / 8 * BB_KV_TILE + slot], bits, i, keys->scales[group], keys->biases[group]);
}

static float load_value(const struct bb_attention_tile *tile, const struct bb_attention_block *block, int32_t key, int32_t i)
{
    const struct bb_attention_entries *values = &block->values;
    const int64_t index = (int64_t)key * tile->width + i;
    if (!bb_kv_is_quantized(block->type))
        return load_entry(values->data, block->type, index);
    const int32_t bits = bb_kv_bits(block->type);
    const int64_t group = index / block->group_size; /* of all positions: groups divide the width */
    const uint8_t *codes = values->data;
    return unpack(codes[index * bits / 8], bits, i, values->scales[group], values->biases[group]);
}

/* Scores of row `row` against the block; -infinity where the row does not see a key. The largest. */
static float score_row(const struct bb_attention_tile *tile, int32_t row, const struct bb_attention_block *block)
{
    const float *query = tile->queries + (int64_t)row * tile->head_dim;
    float *scores = tile->scores + (int64_t)row * BB_ATTENTION_BLOCK;
    float largest = -INFINITY;
    for (int32_t key = 0; key < block->count; key++) {
        int32_t position = block->first + key;
        scores[key] = -INFINITY;
        if (position > tile->positions[row] || (position < tile->begins[row] && position >= tile->keep))
            continue;
        float sum = 0.0f;
        for (int32_t i = 0; i < tile->head_dim; i++)
            sum += query[i] * load_key(tile, block, key, i);
        scores[key] = tile->softcap > 0.0f ? tile->softcap * tanhf(sum / tile->softcap) : sum;
        largest = fmaxf(largest, scores[key]);
    }
    return largest;
}

static void attend(const struct bb_attention_tile *tile, const struct bb_attention_block *block)
{
    for (int32_t row = 0; row < tile->row_count; row++) {
        const float *scores = tile->scores + (int64_t)row * BB_ATTENTION_BLOCK;
        float *output = tile->outputs + (int64_t)row * tile->width;
        float largest = fmaxf(tile->maxima[row], score_row(tile, row, block));
        if (largest == -INFINITY)
            continue;
        float fading = expf(tile->maxima[row] - largest), sum = 0.0f;
        for (int32_t i = 0; i < tile->width; i++)
            output[i] *= fading;
        for (int32_t key = 0; key < block->count; key++) {
            if (scores[key] == -INFINITY)
                continue;
            float share = expf(scores[key] - largest);
            sum += share;
            for (int32_t i = 0; i < tile->width; i++)
                output[i] += share * load_value(tile, block, key, i);
        }
        tile->maxima[row] = largest;
        tile->sums[row] = tile->sums[row] * fading + sum;
    }
}

static void f16_to_f32(float *out, const uint16_t *in, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        out[i] = bb_f16_to_f32(in[i]);
}

static void f32_to_f16(uint16_t *out, const float *in, int64_t count)
{
    for (int64_t i = 0; i < count; i++)
        out[i] = bb_f32_to_f16(in[i]);
}

static void unpack_keys(float *out, const uint8_t *codes, const float *scales, const float *biases, int32_t head_dim,
                        int32_t group_size, int32_t bits)
{
    for (int32_t i = 0; i < head_dim; i++)
        for (int32_t key = 0; key < BB_KV_TILE; key++) {
            int32_t group = i / group_size * BB_KV_TILE + key;
            out[i * BB_KV_TILE + key] = unpack(codes[i * bits / 8 * BB_KV_TILE + key], bits, i, scales[group], biases[group]);
        }
}

static void unpack_values(float *out, const uint8_t *codes, const float *scales, const float *biases, int32_t head_dim,
                          int32_t group_size, int32_t bits)
{
    for (int32_t i = 0; i < head_dim; i++)
        out[i] = unpack(codes[i * bits / 8], bits, i, scales[i / group_size], biases[i / group_size]);
}

void bb_kernels_fill_reference_attention(struct bb_attention_kernels *kernels)
{
    kernels->attend = attend;
    kernels->f16_to_f32 = f16_to_f32;
    kernels->f32_to_f16 = f32_to_f16;
    kernels->unpack_keys = unpack_keys;
    kernels->unpack_values = unpack_values;
}
