/* Single weight matrices in binaries. */
#include "c_src/nif.h"

#include <string.h>

/* A map as nif_model_weight makes it; its parts stay where they are. */
struct weight {
    bombus_matrix matrix;
    char *mode, *dtype;
    ErlNifBinary data, scales, biases;
    void *aligned; /* copies of the parts: binaries need not be aligned */
};

static void clear_weight(struct weight *weight)
{
    free_text(weight->mode);
    free_text(weight->dtype);
    if (weight->aligned != NULL)
        enif_free(weight->aligned);
}

static bool read_shape(ErlNifEnv *env, ERL_NIF_TERM map, struct weight *weight)
{
    bombus_matrix *matrix = &weight->matrix;
    bool is_right = field_string(env, map, "mode", &weight->mode) && field_string(env, map, "dtype", &weight->dtype) &&
                    field_int32(env, map, "bits", &matrix->bits) &&
                    field_int32(env, map, "group_size", &matrix->group_size) &&
                    field_int64(env, map, "rows", &matrix->rows) && field_int64(env, map, "cols", &matrix->cols);
    matrix->mode = weight->mode;
    matrix->dtype = weight->dtype;
    return is_right;
}

static bool read_part(ErlNifEnv *env, ERL_NIF_TERM map, const char *name, ErlNifBinary *part)
{
    ERL_NIF_TERM term;
    *part = (ErlNifBinary){0};
    return !field(env, map, name, &term) || enif_inspect_binary(env, term, part);
}

static size_t round_up(size_t size)
{
    return (size + 15) / 16 * 16;
}

/* BOMBUS_OK, or the error of a weight whose parts do not have the sizes that its shape asks for. */
static bombus_status read_weight(ErlNifEnv *env, ERL_NIF_TERM map, struct weight *weight, bombus_error *error)
{
    bombus_matrix *matrix = &weight->matrix;
    *error = (bombus_error){.status = BOMBUS_ERROR_ARGUMENT, .message = "weight: no such thing"};
    if (!read_shape(env, map, weight) || !read_part(env, map, "data", &weight->data) ||
        !read_part(env, map, "scales", &weight->scales) || !read_part(env, map, "biases", &weight->biases))
        return BOMBUS_ERROR_ARGUMENT;
    bombus_status status = bombus_matrix_measure(matrix, error);
    if (status != BOMBUS_OK)
        return status;
    if (weight->data.size != matrix->data_bytes || weight->scales.size != matrix->scale_bytes ||
        weight->biases.size != matrix->bias_bytes) {
        *error = (bombus_error){.status = BOMBUS_ERROR_ARGUMENT,
                                .message = "weight: its parts have not the sizes of its shape"};
        return BOMBUS_ERROR_ARGUMENT;
    }
    size_t scales_at = round_up(matrix->data_bytes), biases_at = scales_at + round_up(matrix->scale_bytes);
    char *memory = weight->aligned = enif_alloc(biases_at + matrix->bias_bytes + 1);
    if (memory == NULL) {
        *error = (bombus_error){.status = BOMBUS_ERROR_MEMORY, .message = "out of memory"};
        return BOMBUS_ERROR_MEMORY;
    }
    matrix->data = memcpy(memory, weight->data.data, matrix->data_bytes);
    if (matrix->scale_bytes > 0)
        matrix->scales = memcpy(memory + scales_at, weight->scales.data, matrix->scale_bytes);
    if (matrix->bias_bytes > 0)
        matrix->biases = memcpy(memory + biases_at, weight->biases.data, matrix->bias_bytes);
    return BOMBUS_OK;
}

/* f32 values of a binary, aligned; free with enif_free. */
static float *copy_floats(const ErlNifBinary *binary)
{
    float *values = enif_alloc(binary->size + 1);
    if (values != NULL && binary->size > 0)
        memcpy(values, binary->data, binary->size);
    return values;
}

/* quantize(values as f32, %{mode, bits, group_size, dtype, rows, cols}) -> {:ok, {data, scales, biases}} */
NIF(nif_quantize)
{
    struct weight weight = {0};
    bombus_error error;
    ErlNifBinary in;
    if (argc != 2 || !enif_inspect_binary(env, argv[0], &in))
        return enif_make_badarg(env);
    if (!read_shape(env, argv[1], &weight)) {
        clear_weight(&weight);
        return enif_make_badarg(env);
    }
    bombus_status status = bombus_matrix_measure(&weight.matrix, &error);
    ERL_NIF_TERM result;
    if (status != BOMBUS_OK) {
        result = term_error(env, &error);
    } else if (in.size != (size_t)weight.matrix.rows * (size_t)weight.matrix.cols * sizeof(float)) {
        result = term_failure(env, BOMBUS_ERROR_ARGUMENT, "values: not as many as rows times columns");
    } else {
        ERL_NIF_TERM data, scales, biases;
        float *values = copy_floats(&in);
        unsigned char *to_data = enif_make_new_binary(env, weight.matrix.data_bytes, &data);
        unsigned char *to_scales = enif_make_new_binary(env, weight.matrix.scale_bytes, &scales);
        unsigned char *to_biases = enif_make_new_binary(env, weight.matrix.bias_bytes, &biases);
        status = values != NULL ? bombus_matrix_quantize(&weight.matrix, values, to_data, to_scales, to_biases, &error)
                                : BOMBUS_ERROR_MEMORY;
        if (values == NULL)
            result = term_no_memory(env);
        else
            result = status == BOMBUS_OK ? term_ok(env, enif_make_tuple3(env, data, scales, biases))
                                         : term_error(env, &error);
        if (values != NULL)
            enif_free(values);
    }
    clear_weight(&weight);
    return result;
}

/* dequantize(weight) -> {:ok, values as f32} */
NIF(nif_dequantize)
{
    struct weight weight = {0};
    bombus_error error;
    ERL_NIF_TERM result;
    ErlNifBinary out;
    if (argc != 1 || !enif_is_map(env, argv[0]))
        return enif_make_badarg(env);
    bombus_status status = read_weight(env, argv[0], &weight, &error);
    if (status != BOMBUS_OK) {
        result = term_error(env, &error);
    } else if (!enif_alloc_binary((size_t)weight.matrix.rows * (size_t)weight.matrix.cols * sizeof(float), &out)) {
        result = term_no_memory(env);
    } else {
        status = bombus_matrix_dequantize(&weight.matrix, (float *)(void *)out.data, &error);
        result = status == BOMBUS_OK ? term_ok(env, enif_make_binary(env, &out)) : term_error(env, &error);
        if (status != BOMBUS_OK)
            enif_release_binary(&out);
    }
    clear_weight(&weight);
    return result;
}

/* quantized_matmul(x as f32 [count, cols], weight) -> {:ok, values as f32 [count, rows]} */
NIF(nif_quantized_matmul)
{
    struct weight weight = {0};
    bombus_error error;
    ErlNifBinary x, out;
    if (argc != 2 || !enif_inspect_binary(env, argv[0], &x) || !enif_is_map(env, argv[1]))
        return enif_make_badarg(env);
    ERL_NIF_TERM result;
    if (read_weight(env, argv[1], &weight, &error) != BOMBUS_OK) {
        result = term_error(env, &error);
    } else {
        size_t row_bytes = (size_t)weight.matrix.cols * sizeof(float), count = x.size / row_bytes;
        float *values = x.size % row_bytes == 0 ? copy_floats(&x) : NULL;
        if (x.size % row_bytes != 0) {
            result = term_failure(env, BOMBUS_ERROR_ARGUMENT,
                                  "x: its rows have not as many values as the weight has columns");
        } else if (values == NULL || !enif_alloc_binary(count * (size_t)weight.matrix.rows * sizeof(float), &out)) {
            result = term_no_memory(env);
        } else {
            bombus_status status =
                bombus_matrix_multiply(&weight.matrix, values, count, (float *)(void *)out.data, &error);
            result = status == BOMBUS_OK ? term_ok(env, enif_make_binary(env, &out)) : term_error(env, &error);
            if (status != BOMBUS_OK)
                enif_release_binary(&out);
        }
        if (values != NULL)
            enif_free(values);
    }
    clear_weight(&weight);
    return result;
}
