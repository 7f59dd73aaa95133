/* The attention kernels, written once for all vectors: each level's attention.c includes its vector.h, then this.
 *
 * Six rows at a time, and for them three passes over the block: scores, softmax, values.
 *
 *   scores   keys lie [16 positions of a tile][head_dim], positions side by side, so a vector of keys times one entry
 *            of a query is a vector of contributions: rows x key vectors of sums stay in registers over all of
 *            head_dim (6 x 64 keys with 512-bit vectors, else 6 x 16)
 *   softmax  a row's scores are some vectors: mask, largest, exp, sum
 *   values   rows x value vectors of sums stay in registers over all keys of the block
 *
 * f16 and the codes of a quantized cache become f32 in registers, once for six rows; for many rows the caller unpacks a block to memory first.
 *
 * Sums are single chains of fused multiply-adds (kernels/attention.h says why), so the number of rows or tiles at once
 * changes no bit. */
#ifndef BB_VECTOR_ATTENTION_H
#define BB_VECTOR_ATTENTION_H

#include "backend/cpu/kernels/attention.h"
#include "backend/cpu/kernels/vector/math.h"

#include <math.h>

enum {
    ROW_LIMIT = BB_ATTENTION_FEW,
    TILE_VECTORS = BB_KV_TILE / LANES,
    GROUP_VECTORS = BB_KV_GROUP / LANES, /* of the smallest group of codes */
    GROUPS = 16 / GROUP_VECTORS          /* that the vectors at once are of, at most */
};

/* What a block's loops know of it; type is a constant where this is used. */
struct layout {
    enum bb_kv_type type;
    int64_t dim, tile_bytes;    /* of a tile's keys */
    int64_t group_size, groups; /* entries that share a scale: of f32 and f16 all dim, one group */
};

/* Codes are scaled by a product and a sum, each rounded, as mlx does. */
BB_INLINE vec unpacked(vec codes, vec scale, vec bias)
{
    return vec_add(vec_multiply(codes, scale), bias);
}

/* ---- scores ---- */

/* Entry d of LANES keys from `slot` of a tile on, which begins at `keys`; is_odd: d's last bit, a constant where entries share bytes. */
BB_INLINE vec load_keys(const void *keys, enum bb_kv_type type, int64_t d, int32_t slot, const bool is_odd, vec scale, vec bias)
{
    const uint8_t *codes = (const uint8_t *)keys + (type == BB_KV_Q4 ? d / 2 : d) * BB_KV_TILE + slot;
    switch (type) {
    case BB_KV_F16: return vec_load_f16((const uint16_t *)keys + d * BB_KV_TILE + slot);
    case BB_KV_Q8: return unpacked(vec_load_u8(codes), scale, bias);
    case BB_KV_Q4: return unpacked(is_odd ? vec_load_high_nibbles(codes) : vec_load_low_nibbles(codes), scale, bias);
    default: return vec_load((const float *)keys + d * BB_KV_TILE + slot);
    }
}

/* Of `rows` rows against `tiles` tiles of keys from `tile` on; rows and tiles are constants where this is used. */
BB_INLINE void score_tiles(int rows, int tiles, float *scores, const float *queries, const struct bb_attention_entries *keys,
                           const struct layout layout, int64_t tile, struct bb_ahead_place *ahead)
{
    const int step = layout.type == BB_KV_Q4 ? 2 : 1; /* entries that share bytes */
    const char *from = (const char *)keys->data + tile * layout.tile_bytes;
    vec sums[ROW_LIMIT][4 * TILE_VECTORS], scale[4 * TILE_VECTORS], bias[4 * TILE_VECTORS];
    for (int i = 0; i < tiles * TILE_VECTORS; i++) {
        scale[i] = bias[i] = vec_set(0.0f);
        for (int row = 0; row < rows; row++)
            sums[row][i] = vec_set(0.0f);
    }
    for (int64_t group = 0; group < layout.groups; group++) {
        for (int i = 0; i < tiles * TILE_VECTORS && bb_kv_is_quantized(layout.type); i++) {
            const int64_t place = ((tile + i / TILE_VECTORS) * layout.groups + group) * BB_KV_TILE + i % TILE_VECTORS * LANES;
            scale[i] = vec_load(keys->scales + place);
            bias[i] = vec_load(keys->biases + place);
        }
        for (int64_t first = group * layout.group_size; first < (group + 1) * layout.group_size; first += step) {
            BB_UNROLL
            for (int odd = 0; odd < step; odd++) {
                const int64_t d = first + odd;
                bb_ahead_ask(ahead);
                vec key[4 * TILE_VECTORS];
                for (int i = 0; i < tiles * TILE_VECTORS; i++)
                    key[i] = load_keys(from + i / TILE_VECTORS * layout.tile_bytes, layout.type, d, i % TILE_VECTORS * LANES, odd != 0, scale[i], bias[i]);
                for (int row = 0; row < rows; row++) {
                    const vec entry = vec_set(queries[row * layout.dim + d]);
                    for (int i = 0; i < tiles * TILE_VECTORS; i++)
                        sums[row][i] = vec_fma(entry, key[i], sums[row][i]);
                }
            }
        }
    }
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < tiles * TILE_VECTORS; i++)
            vec_store(scores + row * BB_ATTENTION_BLOCK + tile * BB_KV_TILE + i * LANES, sums[row][i]);
}

/* Against all tiles: `at_once` while there are so many, then one by one. */
BB_INLINE void score_rows(int rows, int at_once, float *scores, const float *queries, const struct bb_attention_block *block,
                          const struct layout layout, int32_t tiles, int32_t ahead_count)
{
    struct bb_ahead_place place = bb_ahead_begin(block->next_keys, ahead_count, (tiles / at_once + tiles % at_once) * layout.dim);
    int32_t tile = 0;
    for (; tile + at_once <= tiles; tile += at_once)
        score_tiles(rows, at_once, scores, queries, &block->keys, layout, tile, &place);
    for (; tile < tiles; tile++)
        score_tiles(rows, 1, scores, queries, &block->keys, layout, tile, &place);
}

/* ---- softmax ---- */

/* -infinity where the row does not see a key of the `count` (a multiple of 16) from position `first` on. */
BB_INLINE void mask_row(const struct bb_attention_tile *tile, int32_t row, int32_t first, int32_t count)
{
    float *scores = tile->scores + (int64_t)row * BB_ATTENTION_BLOCK;
    const int32_t end = tile->positions[row] - first + 1, begin = tile->begins[row] - first, kept = tile->keep - first;
    for (int32_t key = kept > 0 ? kept : 0; key < begin && key < count; key++)
        scores[key] = -INFINITY;
    for (int32_t key = end > 0 ? end : 0; key < count; key++)
        scores[key] = -INFINITY;
}

/* Scores become shares, exp(score - largest); the factor by which the row's earlier sums fade. */
BB_INLINE float soften_row(const struct bb_attention_tile *tile, int32_t row, int32_t first, int32_t count)
{
    float *scores = tile->scores + (int64_t)row * BB_ATTENTION_BLOCK;
    vec largest = vec_set(-INFINITY), sum = vec_set(0.0f);
    if (tile->softcap > 0.0f)
        for (int32_t i = 0; i < count; i += LANES) {
            const vec capped = vec_tanh(vec_divide(vec_load(scores + i), vec_set(tile->softcap)));
            vec_store(scores + i, vec_multiply(vec_set(tile->softcap), capped));
        }
    mask_row(tile, row, first, count);
    for (int32_t i = 0; i < count; i += LANES)
        largest = vec_max(largest, vec_load(scores + i));
    const float before = tile->maxima[row], here = vec_largest(largest), now = here > before ? here : before;
    /* A row that has seen nothing yet: any finite number keeps -infinity - -infinity away. */
    const float base = now == -INFINITY ? 0.0f : now;
    for (int32_t i = 0; i < count; i += LANES) {
        const vec share = vec_exp(vec_subtract(vec_load(scores + i), vec_set(base)));
        vec_store(scores + i, share);
        sum = vec_add(sum, share);
    }
    float fading[LANES];
    vec_store(fading, vec_exp(vec_set(before - base)));
    if (before == now)
        fading[0] = 1.0f;
    tile->maxima[row] = now;
    tile->sums[row] = tile->sums[row] * fading[0] + vec_sum(sum);
    return fading[0];
}

/* ---- values ---- */

/* LANES entries from `place` on, of a group with that scale and bias. */
BB_INLINE vec load_values(const void *values, enum bb_kv_type type, int64_t place, vec scale, vec bias)
{
    switch (type) {
    case BB_KV_F16: return vec_load_f16((const uint16_t *)values + place);
    case BB_KV_Q8: return unpacked(vec_load_u8((const uint8_t *)values + place), scale, bias);
    case BB_KV_Q4: return unpacked(vec_load_nibbles((const uint8_t *)values + place / 2), scale, bias);
    default: return vec_load((const float *)values + place);
    }
}

/* outputs = outputs * fading + shares * values, for `rows` rows and `vectors` vectors of their width from `place`
 * on; rows and vectors are constants where this is used. */
BB_INLINE void add_vectors(int rows, int vectors, float *outputs, const float *fadings, const float *shares,
                           const struct bb_attention_entries *values, const struct layout layout, int64_t width, int32_t count,
                           int64_t place, struct bb_ahead_place *ahead)
{
    vec sums[ROW_LIMIT][16];
    int64_t groups[GROUPS];
    for (int i = 0; i < vectors && bb_kv_is_quantized(layout.type); i += GROUP_VECTORS)
        groups[i / GROUP_VECTORS] = (place + i * LANES) / layout.group_size;
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < vectors; i++)
            sums[row][i] = vec_multiply(vec_load(outputs + row * width + place + i * LANES), vec_set(fadings[row]));
    for (int32_t key = 0; key < count; key++) {
        bb_ahead_ask(ahead);
        vec value[16], scale = vec_set(0.0f), bias = scale;
        for (int i = 0; i < vectors; i++) {
            if (bb_kv_is_quantized(layout.type) && i % GROUP_VECTORS == 0) {
                const int64_t group = key * layout.groups + groups[i / GROUP_VECTORS];
                scale = vec_set(values->scales[group]);
                bias = vec_set(values->biases[group]);
            }
            value[i] = load_values(values->data, layout.type, key * width + place + i * LANES, scale, bias);
        }
        for (int row = 0; row < rows; row++) {
            const vec share = vec_set(shares[row * BB_ATTENTION_BLOCK + key]);
            for (int i = 0; i < vectors; i++)
                sums[row][i] = vec_fma(share, value[i], sums[row][i]);
        }
    }
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < vectors; i++)
            vec_store(outputs + row * width + place + i * LANES, sums[row][i]);
}

BB_INLINE void add_rows(int rows, int at_once, float *outputs, const float *fadings, const float *shares,
                        const struct bb_attention_block *block, const struct layout layout, int64_t width, int32_t ahead_count)
{
    const int32_t count = block->count;
    struct bb_ahead_place ahead = bb_ahead_begin(block->next_values, ahead_count, width / (at_once * LANES) * count);
    int64_t place = 0;
    for (; place + at_once * LANES <= width; place += at_once * LANES)
        add_vectors(rows, at_once, outputs, fadings, shares, &block->values, layout, width, count, place, &ahead);
    for (; place < width; place += BB_KV_TILE)
        add_vectors(rows, TILE_VECTORS, outputs, fadings, shares, &block->values, layout, width, count, place, &ahead);
}

/* ---- the block ---- */

/* Rows [row, row + rows) of the tile. */
BB_INLINE void attend_rows(int rows, int tiles_at_once, int vectors_at_once, const struct bb_attention_tile *tile,
                           int32_t row, const struct bb_attention_block *block, const struct layout layout)
{
    const int32_t tiles = (block->count + BB_KV_TILE - 1) / BB_KV_TILE, ahead_count = row == 0 ? block->next_count : 0;
    float *scores = tile->scores + (int64_t)row * BB_ATTENTION_BLOCK, fadings[ROW_LIMIT];
    score_rows(rows, tiles_at_once, scores, tile->queries + (int64_t)row * tile->head_dim, block, layout, tiles, ahead_count);
    for (int i = 0; i < rows; i++)
        fadings[i] = soften_row(tile, row + i, block->first, tiles * BB_KV_TILE);
    add_rows(rows, vectors_at_once, tile->outputs + (int64_t)row * tile->width, fadings, scores, block, layout, tile->width, ahead_count);
}

BB_INLINE void attend_with(const struct bb_attention_tile *tile, const struct bb_attention_block *block, const enum bb_kv_type type)
{
    struct layout layout = {.type = type, .dim = tile->head_dim, .group_size = tile->head_dim, .groups = 1};
    layout.tile_bytes = layout.dim * BB_KV_TILE * bb_kv_bits(type) / 8;
    if (bb_kv_is_quantized(type)) {
        layout.group_size = block->group_size;
        layout.groups = tile->head_dim / block->group_size;
    }
    int32_t row = 0;
    for (; row + ROW_LIMIT <= tile->row_count; row += ROW_LIMIT)
        attend_rows(ROW_LIMIT, SCORE_TILES, VALUE_VECTORS, tile, row, block, layout);
    switch (tile->row_count - row) {
    case 5: attend_rows(5, SCORE_TILES, VALUE_VECTORS, tile, row, block, layout); break;
    case 4: attend_rows(4, SCORE_TILES, VALUE_VECTORS, tile, row, block, layout); break;
    case 3: attend_rows(3, SCORE_TILES, VALUE_VECTORS, tile, row, block, layout); break;
    case 2: attend_rows(2, SCORE_TILES_2, VALUE_VECTORS_2, tile, row, block, layout); break;
    case 1: attend_rows(1, SCORE_TILES_1, VALUE_VECTORS_1, tile, row, block, layout); break;
    default: break;
    }
}

static void attend_f32(const struct bb_attention_tile *tile, const struct bb_attention_block *block)
{
    attend_with(tile, block, BB_KV_F32);
}

static void attend_f16(const struct bb_attention_tile *tile, const struct bb_attention_block *block)
{
    attend_with(tile, block, BB_KV_F16);
}

static void attend_q8(const struct bb_attention_tile *tile, const struct bb_attention_block *block)
{
    attend_with(tile, block, BB_KV_Q8);
}

static void attend_q4(const struct bb_attention_tile *tile, const struct bb_attention_block *block)
{
    attend_with(tile, block, BB_KV_Q4);
}

static void attend(const struct bb_attention_tile *tile, const struct bb_attention_block *block)
{
    /* A function a type: one of all would take compilers long. */
    static void (*const by_type[])(const struct bb_attention_tile *, const struct bb_attention_block *) = {
        [BB_KV_F32] = attend_f32, [BB_KV_F16] = attend_f16, [BB_KV_Q8] = attend_q8, [BB_KV_Q4] = attend_q4};
    by_type[block->type](tile, block);
}

/* ---- conversions ---- */

static void f16_to_f32(float *out, const uint16_t *in, int64_t count)
{
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        vec_store(out + i, vec_load_f16(in + i));
    for (; i < count; i++)
        out[i] = bb_f16_to_f32(in[i]);
}

static void f32_to_f16(uint16_t *out, const float *in, int64_t count)
{
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        vec_store_f16(out + i, vec_load(in + i));
    for (; i < count; i++)
        out[i] = bb_f32_to_f16(in[i]);
}

static void unpack_keys(float *out, const uint8_t *codes, const float *scales, const float *biases, int32_t head_dim,
                        int32_t group_size, int32_t bits)
{
    const enum bb_kv_type type = bits == 8 ? BB_KV_Q8 : BB_KV_Q4;
    for (int32_t i = 0; i < BB_KV_TILE; i += LANES)
        for (int32_t d = 0; d < head_dim; d += 2) {
            const vec scale = vec_load(scales + d / group_size * BB_KV_TILE + i),
                      bias = vec_load(biases + d / group_size * BB_KV_TILE + i);
            vec_store(out + d * BB_KV_TILE + i, load_keys(codes, type, d, i, false, scale, bias));
            vec_store(out + (d + 1) * BB_KV_TILE + i, load_keys(codes, type, d + 1, i, true, scale, bias));
        }
}

static void unpack_values(float *out, const uint8_t *codes, const float *scales, const float *biases, int32_t head_dim,
                          int32_t group_size, int32_t bits)
{
    const enum bb_kv_type type = bits == 8 ? BB_KV_Q8 : BB_KV_Q4;
    for (int32_t i = 0; i < head_dim; i += LANES) {
        const vec scale = vec_set(scales[i / group_size]), bias = vec_set(biases[i / group_size]);
        vec_store(out + i, load_values(codes, type, i, scale, bias));
    }
}

static void fill_attention(struct bb_attention_kernels *kernels)
{
    kernels->attend = attend;
    kernels->f16_to_f32 = f16_to_f32;
    kernels->f32_to_f16 = f32_to_f16;
    kernels->unpack_keys = unpack_keys;
    kernels->unpack_values = unpack_values;
}

#endif
