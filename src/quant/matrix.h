/* Products with a weight matrix where no backend is at hand: plain C, one thread, for tools and tests. */
#ifndef BB_MATRIX_H
#define BB_MATRIX_H

#include "quant/quant_modes.h"

/* out [count, rows] = x [count, cols] W^T; sums in f64. `row`: room for cols values. */
void bb_matrix_multiply(float *out, const struct bb_weight *weight, const float *x, size_t count, float *row);

/* All rows of `in` [rows, cols] packed into the parts of `weight`, which are the caller's to write to. */
void bb_matrix_pack(const struct bb_weight *weight, const float *in, uint8_t *codes, uint8_t *scales, uint8_t *biases);

#endif
