/* Weights as they lie in their file: quantized triplets or plain floats, and the projections made of them. */
#ifndef BB_WEIGHT_H
#define BB_WEIGHT_H

#include "tensor/dtype.h"

#include <stdbool.h>

enum bb_quant {
    BB_QUANT_NONE = 0, /* plain F32, F16 or BF16 */
    BB_QUANT_AFFINE,   /* w = scale * code + bias; 2, 3, 4, 5, 6 or 8 bits */
    BB_QUANT_MXFP4,    /* e2m1 codes, e8m0 scale a group of 32 */
    BB_QUANT_MXFP8,    /* e4m3 codes, e8m0 scale a group of 32 */
    BB_QUANT_NVFP4     /* e2m1 codes, e4m3 scale a group of 16 */
};

struct bb_scheme {
    enum bb_quant mode;
    int32_t bits, group_size;
};

/* A matrix [rows, cols] (out, in), borrowed from a mapped file and used in place. Rows of every part are contiguous, so a view of
 * some of its rows is again a bb_weight (bb_weight_rows). Nothing is aligned beyond the element size of the file. */
struct bb_weight {
    const void *data;        /* quantized: codes, cols * bits / 8 bytes a row; else cols elements of `dtype` */
    const void *scales;      /* [rows, cols / group_size]; affine: elements of `dtype`; mx and nv modes: bytes; NULL if plain */
    const void *biases;      /* the same shape as scales, affine only */
    enum bb_dtype dtype;     /* of the elements if plain, of scales and biases if affine; BB_U8 for the scales of mx and nv modes */
    struct bb_scheme scheme;
    int64_t rows, cols;
};

static inline size_t bb_weight_row_bytes(const struct bb_weight *weight)
{
    size_t bits = weight->scheme.mode == BB_QUANT_NONE ? bb_dtype_bits(weight->dtype) : (size_t)weight->scheme.bits;
    return (size_t)weight->cols * bits / 8;
}

/* Bytes a row of scales (and of biases, each). */
static inline size_t bb_weight_scale_row_bytes(const struct bb_weight *weight)
{
    if (weight->scheme.mode == BB_QUANT_NONE)
        return 0;
    return (size_t)(weight->cols / weight->scheme.group_size) * (bb_dtype_bits(weight->dtype) / 8);
}

/* The view of rows [first, first + count). */
struct bb_weight bb_weight_rows(const struct bb_weight *weight, int64_t first, int64_t count);

/* Bytes of all parts. */
size_t bb_weight_bytes(const struct bb_weight *weight);

/* A projection y = W x + bias. */
struct bb_linear {
    struct bb_weight weight;
    const void *bias;         /* [rows] of bias_dtype; NULL: none */
    enum bb_dtype bias_dtype;
    int32_t slot;             /* number of the projection in the model, for adapters; -1: takes none */
};

#endif
