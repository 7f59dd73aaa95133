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
 * Sums are single chains of fused multiply-adds (kernels/attention.h says why), so the number of rows or tiles at once
 * changes no bit. */
#ifndef BB_VECTOR_ATTENTION_H
#define BB_VECTOR_ATTENTION_H

#include "backend/cpu/kernels/attention.h"
#include "backend/cpu/kernels/vector/math.h"

#include <math.h>

enum { ROW_LIMIT = BB_ATTENTION_FEW, TILE_VECTORS = BB_KV_TILE / LANES };

/* Entries from `index` on, f32 or f16 (a constant where this is used). */
BB_INLINE vec load_entries(const void *data, int64_t index, bool is_f16)
{
    return is_f16 ? vec_load_f16((const uint16_t *)data + index) : vec_load((const float *)data + index);
}

/* ---- scores ---- */

/* Of `rows` rows against `tiles` tiles of keys from `tile` on; rows and tiles are constants where this is used. */
BB_INLINE void score_tiles(int rows, int tiles, float *scores, const float *queries, const void *keys, bool is_f16,
                           int64_t dim, int64_t tile, struct bb_ahead_place *ahead)
{
    vec sums[ROW_LIMIT][4 * TILE_VECTORS];
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < tiles * TILE_VECTORS; i++)
            sums[row][i] = vec_set(0.0f);
    for (int64_t d = 0; d < dim; d++) {
        bb_ahead_ask(ahead);
        vec key[4 * TILE_VECTORS];
        for (int i = 0; i < tiles * TILE_VECTORS; i++)
            key[i] = load_entries(keys, ((tile + i / TILE_VECTORS) * dim + d) * BB_KV_TILE + i % TILE_VECTORS * LANES,
                                  is_f16);
        for (int row = 0; row < rows; row++) {
            const vec entry = vec_set(queries[row * dim + d]);
            for (int i = 0; i < tiles * TILE_VECTORS; i++)
                sums[row][i] = vec_fma(entry, key[i], sums[row][i]);
        }
    }
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < tiles * TILE_VECTORS; i++)
            vec_store(scores + row * BB_ATTENTION_BLOCK + tile * BB_KV_TILE + i * LANES, sums[row][i]);
}

/* Against all tiles: `at_once` while there are so many, then one by one. */
BB_INLINE void score_rows(int rows, int at_once, float *scores, const float *queries, const void *keys, bool is_f16,
                          int64_t dim, int32_t tiles, struct bb_ahead ahead)
{
    struct bb_ahead_place place = bb_ahead_begin(&ahead, ahead.size > 0, (tiles / at_once + tiles % at_once) * dim);
    int32_t tile = 0;
    for (; tile + at_once <= tiles; tile += at_once)
        score_tiles(rows, at_once, scores, queries, keys, is_f16, dim, tile, &place);
    for (; tile < tiles; tile++)
        score_tiles(rows, 1, scores, queries, keys, is_f16, dim, tile, &place);
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

/* outputs = outputs * fading + shares * values, for `rows` rows and `vectors` vectors of their width from `place`
 * on; rows and vectors are constants where this is used. */
BB_INLINE void add_vectors(int rows, int vectors, float *outputs, const float *fadings, const float *shares,
                           const void *values, bool is_f16, int64_t width, int32_t count, int64_t place,
                           struct bb_ahead_place *ahead)
{
    vec sums[ROW_LIMIT][16];
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < vectors; i++)
            sums[row][i] = vec_multiply(vec_load(outputs + row * width + place + i * LANES), vec_set(fadings[row]));
    for (int32_t key = 0; key < count; key++) {
        bb_ahead_ask(ahead);
        vec value[16];
        for (int i = 0; i < vectors; i++)
            value[i] = load_entries(values, key * width + place + i * LANES, is_f16);
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
                        const void *values, bool is_f16, int64_t width, int32_t count, struct bb_ahead ahead)
{
    struct bb_ahead_place ahead_place = bb_ahead_begin(&ahead, ahead.size > 0, width / (at_once * LANES) * count);
    int64_t place = 0;
    for (; place + at_once * LANES <= width; place += at_once * LANES)
        add_vectors(rows, at_once, outputs, fadings, shares, values, is_f16, width, count, place, &ahead_place);
    for (; place < width; place += BB_KV_TILE)
        add_vectors(rows, TILE_VECTORS, outputs, fadings, shares, values, is_f16, width, count, place, &ahead_place);
}

/* ---- the block ---- */

/* Rows [row, row + rows) of the tile. */
BB_INLINE void attend_rows(int rows, int tiles_at_once, int vectors_at_once, const struct bb_attention_tile *tile,
                           int32_t row, const struct bb_attention_block *block, bool is_f16)
{
    const int32_t tiles = (block->count + BB_KV_TILE - 1) / BB_KV_TILE;
    float *scores = tile->scores + (int64_t)row * BB_ATTENTION_BLOCK, fadings[ROW_LIMIT];
    const struct bb_ahead none = {0}, next_keys = row == 0 ? block->next_keys : none,
                          next_values = row == 0 ? block->next_values : none;
    score_rows(rows, tiles_at_once, scores, tile->queries + (int64_t)row * tile->head_dim, block->keys, is_f16,
               tile->head_dim, tiles, next_keys);
    for (int i = 0; i < rows; i++)
        fadings[i] = soften_row(tile, row + i, block->first, tiles * BB_KV_TILE);
    add_rows(rows, vectors_at_once, tile->outputs + (int64_t)row * tile->width, fadings, scores, block->values, is_f16,
             tile->width, block->count, next_values);
}

BB_INLINE void attend_with(const struct bb_attention_tile *tile, const struct bb_attention_block *block, bool is_f16)
{
    int32_t row = 0;
    for (; row + ROW_LIMIT <= tile->row_count; row += ROW_LIMIT)
        attend_rows(ROW_LIMIT, SCORE_TILES, VALUE_VECTORS, tile, row, block, is_f16);
    switch (tile->row_count - row) {
    case 5: attend_rows(5, SCORE_TILES, VALUE_VECTORS, tile, row, block, is_f16); break;
    case 4: attend_rows(4, SCORE_TILES, VALUE_VECTORS, tile, row, block, is_f16); break;
    case 3: attend_rows(3, SCORE_TILES, VALUE_VECTORS, tile, row, block, is_f16); break;
    case 2: attend_rows(2, SCORE_TILES_2, VALUE_VECTORS_2, tile, row, block, is_f16); break;
    case 1: attend_rows(1, SCORE_TILES_1, VALUE_VECTORS_1, tile, row, block, is_f16); break;
    default: break;
    }
}

static void attend(const struct bb_attention_tile *tile, const struct bb_attention_block *block)
{
    if (block->is_f16)
        attend_with(tile, block, true);
    else
        attend_with(tile, block, false);
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

/* Codes are scaled by a product and a sum, each rounded, as mlx does. */
BB_INLINE vec unpacked(vec codes, vec scale, vec bias)
{
    return vec_add(vec_multiply(codes, scale), bias);
}

static void unpack_keys(float *out, const uint8_t *codes, const float *scales, const float *biases, int32_t head_dim,
                        int32_t group_size, int32_t bits)
{
    for (int32_t i = 0; i < BB_KV_TILE; i += LANES)
        for (int32_t d = 0; d < head_dim; d += 2) {
            const vec scale = vec_load(scales + d / group_size * BB_KV_TILE + i),
                      bias = vec_load(biases + d / group_size * BB_KV_TILE + i);
            const uint8_t *even = codes + (bits == 8 ? d : d / 2) * BB_KV_TILE + i;
            const vec first = bits == 8 ? vec_load_u8(even) : vec_load_low_nibbles(even);
            const vec second = bits == 8 ? vec_load_u8(even + BB_KV_TILE) : vec_load_high_nibbles(even);
            vec_store(out + d * BB_KV_TILE + i, unpacked(first, scale, bias));
            vec_store(out + (d + 1) * BB_KV_TILE + i, unpacked(second, scale, bias));
        }
}

static void unpack_values(float *out, const uint8_t *codes, const float *scales, const float *biases, int32_t head_dim,
                          int32_t group_size, int32_t bits)
{
    for (int32_t i = 0; i < head_dim; i += LANES) {
        const vec scale = vec_set(scales[i / group_size]), bias = vec_set(biases[i / group_size]);
        vec_store(out + i, unpacked(bits == 8 ? vec_load_u8(codes + i) : vec_load_nibbles(codes + i / 2), scale, bias));
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
