/* The shape of the kernels of the backward pass. Pointers need no alignment; counts may be any number. */
#ifndef BB_KERNELS_GRADIENTS_H
#define BB_KERNELS_GRADIENTS_H

#include "backend/backend.h"

/* out[i, c] += sum over k of a[i, k] * b[k, c], for i < rows, k < inner, c < cols. An entry of out is one chain of FMAs, from what it holds on, k
 * ascending: it does not depend on how a product is cut by rows or columns. */
struct bb_product_task {
    float *out;
    const float *a, *b;
    int64_t rows, inner, cols;
    int64_t out_stride, b_stride;
    int64_t a_row, a_inner; /* floats from one i, one k, to the next: a may be transposed */
};

/* The same for numbers rounded to bf16, cols a multiple of 16 and inner even: rows of a are a_stride apart; of b two rows make one, column by column side
 * by side, and b_stride is from one such pair to the next. */
struct bb_short_product_task {
    float *out;
    const uint16_t *a, *b;
    int64_t rows, inner, cols;
    int64_t out_stride, a_stride, b_stride;
};

struct bb_gradient_kernels {
    void (*multiply_add)(const struct bb_product_task *task);
    /* NULL, all three, where bf16 brings nothing: then f32 serves. An entry of out sums pairs, k ascending. */
    void (*multiply_add_short)(const struct bb_short_product_task *task);
    void (*round_row)(uint16_t *out, const float *x, int64_t count);
    void (*round_pair)(uint16_t *out, const float *even, const float *odd, int64_t count); /* count: a multiple of 16 */
    /* Columns [first, first + count) of a row as f32; both are multiples of 8, and of the group below 64. */
    void (*unpack)(float *out, const struct bb_weight *weight, int64_t row, int64_t first, int64_t count);
    /* Of out = norm(x), one run of norm->size entries: with r = 1 / sqrt(mean of x^2 + eps) and g = weight * d_out,
     * d_x (+)= r * (g - x * r^2 * mean of x * g). Returns r. */
    float (*norm_grad)(float *d_x, const float *x, const float *d_out, const struct bb_norm *norm, bool adds);
    /* Of out = activation(gate) * up: d_gate and d_up are written; d_up may be d_out. */
    void (*glu_grad)(float *d_gate, float *d_up, const float *gate, const float *up, const float *d_out, int64_t count, enum bb_activation activation);
    float (*largest)(const float *x, int64_t count); /* -infinity if there is none */
    /* x[i] = exp(x[i] - shift); gives their sum. */
    float (*exponentials)(float *x, float shift, int64_t count);
};

/* The meaning of unpack, for any weight: for the schemes that a level has no better way for. */
void bb_unpack_columns(float *out, const struct bb_weight *weight, int64_t row, int64_t first, int64_t count);

void bb_kernels_fill_reference_gradients(struct bb_gradient_kernels *kernels);
void bb_kernels_fill_avx2_gradients(struct bb_gradient_kernels *kernels);
void bb_kernels_fill_avx512_gradients(struct bb_gradient_kernels *kernels);
void bb_kernels_fill_avx512_bf16_gradients(struct bb_gradient_kernels *kernels);
void bb_kernels_fill_neon_gradients(struct bb_gradient_kernels *kernels);

#endif
