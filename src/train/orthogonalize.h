/* The matrix with the same singular vectors whose singular values are all near 1, by Newton and Schulz's iteration with the coefficients of Muon. */
#ifndef BB_ORTHOGONALIZE_H
#define BB_ORTHOGONALIZE_H

#include "base/threads.h"

#include <stddef.h>

struct bb_matrix_shape {
    size_t rows, columns;
};

/* Floats of scratch memory. */
size_t bb_orthogonalize_scratch(struct bb_matrix_shape shape);

/* In place, row-major; the result of a transposed matrix is the transposed result. pool NULL: the calling thread alone. */
void bb_orthogonalize(float *matrix, struct bb_matrix_shape shape, int32_t step_count, float *scratch,
                      struct bb_pool *pool);

#endif
