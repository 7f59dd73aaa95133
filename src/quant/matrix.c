/* Products with a weight matrix in plain C, and matrices packed row by row. */
#include "quant/matrix.h"

void bb_matrix_multiply(float *out, const struct bb_weight *weight, const float *x, size_t count, float *row)
{
    const size_t cols = (size_t)weight->cols;
    for (int64_t i = 0; i < weight->rows; i++) {
        bb_quant_unpack_row(weight, i, row);
        for (size_t j = 0; j < count; j++) {
            double sum = 0.0;
            for (size_t k = 0; k < cols; k++)
                sum += (double)row[k] * (double)x[j * cols + k];
            out[j * (size_t)weight->rows + (size_t)i] = (float)sum;
        }
    }
}

struct bb_matrix_sizes bb_matrix_measure(const struct bb_weight *weight)
{
    const size_t rows = (size_t)weight->rows;
    struct bb_matrix_sizes sizes = {.data = rows * bb_weight_row_bytes(weight)};
    if (weight->scheme.mode != BB_QUANT_NONE)
        sizes.scales = rows * bb_weight_scale_row_bytes(weight);
    if (sizes.scales > 0 && bb_quant_mode_of(weight->scheme.mode)->has_biases)
        sizes.biases = sizes.scales;
    return sizes;
}

struct bb_packed_row bb_matrix_row(const struct bb_weight *weight, int64_t index)
{
    const size_t row = (size_t)index, scale_bytes = bb_weight_scale_row_bytes(weight);
    return (struct bb_packed_row){
        .codes = (uint8_t *)(uintptr_t)weight->data + row * bb_weight_row_bytes(weight),
        .scales = weight->scales != NULL ? (uint8_t *)(uintptr_t)weight->scales + row * scale_bytes : NULL,
        .biases = weight->biases != NULL ? (uint8_t *)(uintptr_t)weight->biases + row * scale_bytes : NULL,
        .dtype = weight->dtype};
}

void bb_matrix_pack(const struct bb_weight *weight, const float *in)
{
    const struct bb_quant_mode *mode = bb_quant_mode_of(weight->scheme.mode);
    for (int64_t i = 0; i < weight->rows; i++)
        mode->pack_row(weight->scheme, in + i * weight->cols, weight->cols, bb_matrix_row(weight, i));
}
