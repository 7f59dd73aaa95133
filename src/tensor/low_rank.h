/* Low-rank additions to projections (LoRA, DoRA), and which rows of a batch take which. Plain values: model/adapter.h fills them from files,
 * training from its own arrays, and operations read them.
 *
 *   LoRA  y = W x + bias + weight * scale * B (A x)                               Hu et al. 2021
 *   DoRA  y = W x + bias + weight * (gain * (W x + scale * B (A x)) - W x), gain a factor a row of W   Liu et al. 2024
 *
 * Of several, what each adds to W x + bias is summed. Of an embedding the rows of W are tokens, and W x a row of W. */
#ifndef BB_LOW_RANK_H
#define BB_LOW_RANK_H

#include <stddef.h>
#include <stdint.h>

/* The pair of one projection [rows, cols] in f32. Both matrices lie with the long side fastest. */
struct bb_low_rank {
    const float *a;      /* [rank, cols]: mlx-lm's lora_a transposed, PEFT's lora_A.weight as it is */
    const float *b;      /* [rank, rows] at b_stride: mlx-lm's lora_b as it is, PEFT's lora_B.weight transposed */
    int64_t b_stride;    /* floats from one row of b to the next: a pair may be the view of a larger one's rows */
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

#endif
