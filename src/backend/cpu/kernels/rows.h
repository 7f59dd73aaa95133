/* The shape of the kernels that work on rows of f32 activations. Pointers need no alignment; counts may be any
 * number. */
#ifndef BB_KERNELS_ROWS_H
#define BB_KERNELS_ROWS_H

#include "backend/backend.h"

struct bb_low_rank_add {
    float *out;
    const float *b, *sums, *gains;
    int64_t out_stride, b_stride, row_count, count;
    int32_t rank;
};

/* A panel of a packed matrix (tensor/low_rank.h) by rows of x [row_count, cols]. */
struct bb_packed_sums {
    float *sums;            /* [row_count, rank] at sums_stride */
    struct bb_packed panel; /* its first entry; low NULL: rounded numbers are wanted */
    const float *x;
    int64_t sums_stride, row_count, cols;
    int32_t rank; /* of the panel */
};

struct bb_packed_add {
    float *out;                /* of column `first` */
    struct bb_packed matrix;   /* of `rank` ranks; low NULL: rounded numbers are wanted */
    const float *sums, *gains; /* gains of column `first`, or NULL */
    int64_t out_stride, row_count, first, count;
    int32_t rank;
};

struct bb_row_kernels {
    /* out[i] = x[i] / sqrt(mean of x^2 + eps) * weight[i] (or 1 + weight[i], or 1 where weight is NULL); out may be
     * x. */
    void (*norm)(float *out, const float *x, const struct bb_norm *norm);
    /* Cosine and sine, times amplitude, of position * inverse_frequencies[i], the angle rounded to f32 as mlx does. */
    void (*rope_table)(float *cosines, float *sines, const struct bb_rope *rope, int32_t position);
    /* Turns the first rope->dims entries of one head. */
    void (*rope)(float *x, const struct bb_rope *rope, const float *cosines, const float *sines);
    /* out[i] = activation(gate[i]) * up[i]; out may be gate. */
    void (*glu)(float *out, const float *gate, const float *up, int64_t count, enum bb_activation activation);
    /* out[i] = a[i] + scale * b[i]; out may be a. */
    void (*add)(float *out, const float *a, const float *b, float scale, int64_t count);
    /* x[i] = scale * x[i], then softcap * tanh(x[i] / softcap) if softcap > 0. */
    void (*scale)(float *x, float scale, float softcap, int64_t count);
    /* Low-rank pairs (tensor/low_rank.h). sums[r] = a[r] . x, a [rank, cols]. */
    void (*low_rank_sums)(float *sums, const float *a, const float *x, int32_t rank, int64_t cols);
    /* For `row_count` rows, at out_stride and with `rank` sums each: out[i] += gains[i] * sum over r of sums[r] * b[r * b_stride + i] (gains NULL: 1).
     * An entry does not depend on where the run begins. */
    void (*low_rank_add)(const struct bb_low_rank_add *call);
    /* The same of packed matrices. sums[t][r] = panel[r] . x[t], the same whatever the rows and ranks beside it. */
    void (*packed_sums)(const struct bb_packed_sums *call);
    /* Columns [first, first + count): out[t][i] += gains[i] * sum over r of sums[t][r] * matrix[r][first + i]. */
    void (*packed_add)(const struct bb_packed_add *call);
};

void bb_kernels_fill_reference_rows(struct bb_row_kernels *kernels);
void bb_kernels_fill_avx2_rows(struct bb_row_kernels *kernels);
void bb_kernels_fill_avx512_rows(struct bb_row_kernels *kernels);
void bb_kernels_fill_neon_rows(struct bb_row_kernels *kernels);

#endif
