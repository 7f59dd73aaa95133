/* Low-rank additions to projections (LoRA, DoRA), and which rows of a batch take which. Plain values: model/adapter.h fills them from files,
 * training from its own arrays, and operations read them.
 *
 *   LoRA  y = W x + bias + weight * scale * B (A x)                               Hu et al. 2021
 *   DoRA  y = W x + bias + weight * (gain * (W x + scale * B (A x)) - W x), gain a factor a row of W   Liu et al. 2024
 *
 * Of several, what each adds to W x + bias is summed. Of an embedding the rows of W are tokens, and W x a row of W. */
#ifndef BB_LOW_RANK_H
#define BB_LOW_RANK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    BB_PACKED_RANKS = 8,   /* of a panel, but the last */
    BB_PACKED_COLUMNS = 16 /* of a tile */
};

/* A matrix [rank, count] that is only read, as products of few rows read it fastest: in panels of 8 ranks; a panel in
 * tiles of 16 columns; a tile in pairs of ranks, of which one and the other take turns from column to column, so that
 * one load brings a vector of each. Zeros stand behind column `count`, and for the other of an odd last rank. What a
 * piece of a row needs lies together.
 *
 * Each f32 is split in halves: `high` is the number rounded to bf16, which is all that precision fast reads, and `low`
 * makes it whole again, bit for bit: (high << 16) + low. The two together are as large as the f32 alone. */
struct bb_packed {
    const uint16_t *high;
    const int16_t *low;
    int64_t columns; /* of a panel: with those that fill the last tile */
};

/* The pair of one projection [rows, cols]: in f32 with the long side fastest, as training changes it; or packed, as
 * adapters are loaded from files. */
struct bb_low_rank {
    const float *a;      /* [rank, cols]: mlx-lm's lora_a transposed, PEFT's lora_A.weight as it is; NULL: packed */
    const float *b;      /* [rank, rows] at b_stride: mlx-lm's lora_b as it is, PEFT's lora_B.weight transposed */
    int64_t b_stride;    /* floats from one row of b to the next: a pair may be the view of a larger one's rows */
    struct bb_packed packed_a, packed_b; /* [rank, cols], [rank, rows], where a and b are NULL */
    int32_t rank;        /* 0: none at this projection */
    float scale;         /* of the file: mlx-lm's scale, PEFT's alpha / r */
    const float *gains;  /* DoRA: [rows], magnitude / row norm of (W + scale * B A); NULL: LoRA */
    const float *magnitudes; /* DoRA while it is trained: [rows]; else NULL */
};

/* One adapter at work: its pairs by the projections' slots (tensor/weight.h). */
struct bb_adapter_use {
    const struct bb_low_rank *pairs; /* [slot_count] */
    int32_t slot_count;
    float weight;                    /* the caller's factor of all that it adds; 1 while it is trained */
};

/* What the rows of one sequence take: the sum of these. Immutable while a step runs. */
struct bb_adapter_set {
    const struct bb_adapter_use *uses; /* [count] */
    int32_t count;
};

/* The pair of a use at a slot; NULL where it has none there (slot -1: never). */
static inline const struct bb_low_rank *bb_adapter_use_pair(const struct bb_adapter_use *use, int32_t slot)
{
    return slot >= 0 && slot < use->slot_count && use->pairs[slot].rank > 0 ? &use->pairs[slot] : NULL;
}

/* One pair on some rows of a product. Terms of one call are sorted by first_row; those of the same rows stand together. */
struct bb_low_rank_term {
    const struct bb_low_rank *pair;
    float weight; /* of its use */
    int32_t first_row, row_count;
};

struct bb_low_rank_terms {
    const struct bb_low_rank_term *terms;
    int32_t count; /* 0: no row takes an adapter */
};

static inline bool bb_low_rank_is_packed(const struct bb_low_rank *pair)
{
    return pair->a == NULL;
}

/* Columns of a packed matrix with what fills the last tile. */
static inline int64_t bb_packed_columns(int64_t count)
{
    return (count + BB_PACKED_COLUMNS - 1) / BB_PACKED_COLUMNS * BB_PACKED_COLUMNS;
}

/* Ranks of the panel that begins at `first_rank`. */
static inline int32_t bb_packed_ranks(int32_t rank, int32_t first_rank)
{
    return rank - first_rank < BB_PACKED_RANKS ? rank - first_rank : BB_PACKED_RANKS;
}

/* The same with the other of an odd last one: for how many there is room. */
static inline int32_t bb_packed_width(int32_t rank, int32_t first_rank)
{
    return (bb_packed_ranks(rank, first_rank) + 1) / 2 * 2;
}

/* Entries of each half. */
static inline size_t bb_packed_size(int32_t rank, int64_t count)
{
    return (size_t)((rank + 1) / 2 * 2) * (size_t)bb_packed_columns(count);
}

/* Where entry [r, column] of a packed matrix [rank, ...] lies; that of the next column lies 2 further in a tile. */
static inline int64_t bb_packed_place(const struct bb_packed *matrix, int32_t rank, int32_t r, int64_t column)
{
    const int32_t first_rank = r - r % BB_PACKED_RANKS;
    return first_rank * matrix->columns +
           (column / BB_PACKED_COLUMNS * bb_packed_width(rank, first_rank) + r % BB_PACKED_RANKS / 2 * 2) *
               BB_PACKED_COLUMNS +
           column % BB_PACKED_COLUMNS * 2 + r % 2;
}

/* The number at a place; low NULL: rounded. */
static inline float bb_packed_load(const struct bb_packed *matrix, int64_t place)
{
    const uint32_t low = matrix->low != NULL ? (uint32_t)(int32_t)matrix->low[place] : 0;
    const uint32_t bits = ((uint32_t)matrix->high[place] << 16) + low;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Packs matrix [rank, count] at `stride` into memory of 2 * bb_packed_size(rank, count) entries, first the upper
 * halves. A NaN becomes the usual one; within half a step of bf16 of the largest f32 the upper half is infinite. */
struct bb_packed bb_pack(uint16_t *memory, const float *matrix, int64_t stride, int32_t rank, int64_t count);

/* out[cols] += row `row` of scale * B A, for a projection [rows, cols]. */
void bb_low_rank_add_row(float *out, const struct bb_low_rank *pair, int64_t cols, int64_t row);

#endif
