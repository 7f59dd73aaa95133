/* Products with a weight matrix where no backend is at hand: plain C, one thread; and the parts that one is packed into. */
#ifndef BB_MATRIX_H
#define BB_MATRIX_H

#include "quant/quant_modes.h"

/* out [count, rows] = x [count, cols] W^T; sums in f64. `row`: room for cols values. */
void bb_matrix_multiply(float *out, const struct bb_weight *weight, const float *x, size_t count, float *row);

/* Bytes of a matrix's parts by its scheme, type, rows and columns; 0 of those that it does not have. */
struct bb_matrix_sizes {
    size_t data, scales, biases;
};
struct bb_matrix_sizes bb_matrix_measure(const struct bb_weight *weight);

/* Where row `index` of a matrix goes, whose parts are the caller's to write to (a plain one's elements into `codes`). */
struct bb_packed_row bb_matrix_row(const struct bb_weight *weight, int64_t index);

/* All rows of `in` [rows, cols] packed into such a matrix. */
void bb_matrix_pack(const struct bb_weight *weight, const float *in);

#endif
