/* Matrices: those of a model, and those on the caller's memory. */
#include "api/handles.h"
#include "quant/matrix.h"

#include <string.h>

static enum bb_dtype find_dtype(const char *name)
{
    static const enum bb_dtype floats[] = {BB_F32, BB_F16, BB_BF16};
    for (size_t i = 0; name != NULL && i < BB_COUNT(floats); i++)
        if (strcmp(bb_dtype_name(floats[i]), name) == 0)
            return floats[i];
    return BB_DTYPE_NONE;
}

/* The matrix as the house knows it, its scheme and sizes checked. */
static bombus_status read_matrix(struct bb_weight *weight, const bombus_matrix *matrix, bombus_error *error)
{
    bombus_status status = bb_check_pointer(matrix, "matrix", error);
    if (status != BOMBUS_OK)
        return status;
    *weight = (struct bb_weight){.data = matrix->data, .scales = matrix->scales, .biases = matrix->biases, .dtype = find_dtype(matrix->dtype),
                                 .rows = matrix->rows, .cols = matrix->cols};
    size_t bytes;
    if (matrix->rows < 1 || matrix->cols < 1 || !bb_multiply_size((size_t)matrix->rows, (size_t)matrix->cols, &bytes) || bytes > SIZE_MAX / 64)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "matrix: %lld rows of %lld columns, expected at least 1, and no more than memory can hold",
                       (long long)matrix->rows, (long long)matrix->cols);
    const struct bb_quant_mode *mode = NULL;
    if (matrix->mode != NULL) {
        mode = bb_quant_mode_find(matrix->mode);
        if (mode == NULL)
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "mode: \"%s\", expected affine, mxfp4, mxfp8 or nvfp4", matrix->mode);
        weight->scheme = (struct bb_scheme){.mode = mode->mode, .bits = matrix->bits, .group_size = matrix->group_size};
        if (!mode->is_valid(weight->scheme))
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "bits, group_size: %s has no %d bits in groups of %d", matrix->mode, matrix->bits,
                           matrix->group_size);
        if (matrix->cols % matrix->group_size != 0)
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "group_size: %d does not divide %lld columns", matrix->group_size,
                           (long long)matrix->cols);
        if (!mode->has_biases)
            weight->dtype = BB_U8;
    }
    if (weight->dtype == BB_DTYPE_NONE)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "dtype: %s, expected F32, F16 or BF16", matrix->dtype != NULL ? matrix->dtype : "NULL");
    return BOMBUS_OK;
}

static bombus_status check_parts(const struct bb_weight *weight, bombus_error *error)
{
    const struct bb_matrix_sizes sizes = bb_matrix_measure(weight);
    bombus_status status = bb_check_pointer(weight->data, "data", error);
    if (status == BOMBUS_OK && sizes.scales > 0)
        status = bb_check_pointer(weight->scales, "scales", error);
    if (status == BOMBUS_OK && sizes.biases > 0)
        status = bb_check_pointer(weight->biases, "biases", error);
    return status;
}

static void measure(bombus_matrix *matrix, const struct bb_weight *weight)
{
    const struct bb_matrix_sizes sizes = bb_matrix_measure(weight);
    matrix->data_bytes = sizes.data;
    matrix->scale_bytes = sizes.scales;
    matrix->bias_bytes = sizes.biases;
}

bombus_status bombus_matrix_measure(bombus_matrix *matrix, bombus_error *error)
{
    struct bb_weight weight;
    bombus_status status = read_matrix(&weight, matrix, error);
    if (status == BOMBUS_OK)
        measure(matrix, &weight);
    return status;
}

bombus_status bombus_model_get_matrix(const bombus_model *model, const char *path, bombus_matrix *matrix, bombus_error *error)
{
    bombus_status status = bb_check_pointer(matrix, "matrix", error);
    if (status != BOMBUS_OK)
        return status;
    *matrix = (bombus_matrix){0};
    status = bb_check_pointer(model, "model", error);
    if (status == BOMBUS_OK)
        status = bb_check_pointer(path, "path", error);
    struct bb_weight weight;
    if (status == BOMBUS_OK)
        status = bb_checkpoint_describe(&model->model->checkpoint, path, &weight, error);
    if (status != BOMBUS_OK)
        return status;
    const struct bb_quant_mode *mode = bb_quant_mode_of(weight.scheme.mode);
    *matrix = (bombus_matrix){.mode = mode != NULL ? mode->name : NULL, .bits = weight.scheme.bits, .group_size = weight.scheme.group_size,
                              .dtype = bb_dtype_name(weight.dtype), .rows = weight.rows, .cols = weight.cols,
                              .data = weight.data, .scales = weight.scales, .biases = weight.biases};
    measure(matrix, &weight);
    return BOMBUS_OK;
}

bombus_status bombus_matrix_quantize(const bombus_matrix *matrix, const float *in, void *data, void *scales, void *biases, bombus_error *error)
{
    struct bb_weight weight;
    bombus_status status = read_matrix(&weight, matrix, error);
    if (status == BOMBUS_OK)
        status = bb_check_pointer(matrix->mode, "mode", error);
    if (status == BOMBUS_OK)
        status = bb_check_pointer(in, "in", error);
    weight.data = data;
    weight.scales = scales;
    weight.biases = status == BOMBUS_OK && bb_matrix_measure(&weight).biases > 0 ? biases : NULL;
    if (status == BOMBUS_OK)
        status = check_parts(&weight, error);
    if (status == BOMBUS_OK)
        bb_matrix_pack(&weight, in);
    return status;
}

bombus_status bombus_matrix_dequantize(const bombus_matrix *matrix, float *out, bombus_error *error)
{
    struct bb_weight weight;
    bombus_status status = read_matrix(&weight, matrix, error);
    if (status == BOMBUS_OK)
        status = check_parts(&weight, error);
    if (status == BOMBUS_OK)
        status = bb_check_pointer(out, "out", error);
    for (int64_t row = 0; status == BOMBUS_OK && row < weight.rows; row++)
        bb_quant_unpack_row(&weight, row, out + row * weight.cols);
    return status;
}

bombus_status bombus_matrix_multiply(const bombus_matrix *matrix, const float *x, size_t count, float *out, bombus_error *error)
{
    struct bb_weight weight;
    bombus_status status = read_matrix(&weight, matrix, error);
    if (status == BOMBUS_OK)
        status = check_parts(&weight, error);
    if (status == BOMBUS_OK)
        status = bb_check_array(x, count, "x", error);
    if (status == BOMBUS_OK)
        status = bb_check_array(out, count, "out", error);
    if (status != BOMBUS_OK)
        return status;
    float *row = bb_allocate((size_t)weight.cols, sizeof *row);
    if (row == NULL)
        return bb_fail_memory(error, (size_t)weight.cols * sizeof *row, "a row of weights");
    bb_matrix_multiply(out, &weight, x, count, row);
    bb_release(row);
    return BOMBUS_OK;
}
