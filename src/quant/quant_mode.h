/* The shape of a quantization mode: how rows of a matrix become codes, scales and biases, and back. One constant a mode. */
#ifndef BB_QUANT_MODE_H
#define BB_QUANT_MODE_H

#include "tensor/weight.h"

#include <stddef.h>
#include <stdint.h>

/* Where a packed row goes: the parts of one row of a bb_weight. */
struct bb_packed_row {
    uint8_t *codes;
    void *scales, *biases; /* biases NULL where the mode has none */
    enum bb_dtype dtype;   /* of scales and biases (affine) */
};

struct bb_quant_mode {
    enum bb_quant mode;
    const char *name;        /* config.json's: "affine" */
    bool has_biases;
    bool (*is_valid)(struct bb_scheme scheme);
    /* count columns from `first` on (both multiples of 8) of a row as small whole numbers: affine and the 4-bit floats (twice their value, plus 12:
     * 0 .. 24, so that value = scale / 2 * code - 6 * scale); NULL: codes are no whole numbers. */
    void (*unpack_codes)(struct bb_scheme scheme, const uint8_t *row, int64_t first, int64_t count, uint8_t *out);
    /* Scale and bias of group `group` of a row for those codes: value = scale * code + bias. */
    void (*unpack_group)(const struct bb_weight *weight, int64_t row, int64_t group, float *scale, float *bias);
    /* Row `row` as f32: affine scale * code, then + bias, each rounded to f32, after widening scale and bias; mx and nvfp modes scale * value. */
    void (*unpack_row)(const struct bb_weight *weight, int64_t row, float *out);
    /* cols (a multiple of the group) values, packed as mlx packs them. */
    void (*pack_row)(struct bb_scheme scheme, const float *in, int64_t cols, struct bb_packed_row out);
};

extern const struct bb_quant_mode bb_quant_affine; /* affine.c */
extern const struct bb_quant_mode bb_quant_mxfp4;  /* mx_float.c */
extern const struct bb_quant_mode bb_quant_mxfp8;
extern const struct bb_quant_mode bb_quant_nvfp4;

#endif
