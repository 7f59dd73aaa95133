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

void bb_matrix_pack(const struct bb_weight *weight, const float *in, uint8_t *codes, uint8_t *scales, uint8_t *biases)
{
    const struct bb_quant_mode *mode = bb_quant_mode_of(weight->scheme.mode);
    const size_t code_bytes = bb_weight_row_bytes(weight), scale_bytes = bb_weight_scale_row_bytes(weight);
    for (size_t i = 0; i < (size_t)weight->rows; i++) {
        struct bb_packed_row out = {.codes = codes + i * code_bytes,
                                    .scales = scales + i * scale_bytes,
                                    .biases = biases != NULL ? biases + i * scale_bytes : NULL,
                                    .dtype = weight->dtype};
        mode->pack_row(weight->scheme, in + i * (size_t)weight->cols, weight->cols, out);
    }
}
