/* Quantization: packing, scales and values to the bit as in the reference vectors (golden/quant), for every mode, width and group. */
#include "files/safetensors.h"
#include "quant/quant_modes.h"
#include "test.h"

#include <string.h>

struct one_case {
    const char *mode;
    int32_t bits, group_size;
    const char *dtype;
};

static const struct bb_safetensors_entry *find(const struct bb_safetensors *file, const struct one_case *one, const char *part)
{
    char name[96];
    snprintf(name, sizeof name, "%s-b%d-g%d-%s.%s", one->mode, (int)one->bits, (int)one->group_size, one->dtype, part);
    return bb_safetensors_find(file, name);
}

/* A copy, since entries are unaligned. */
static void *copy_of(const struct bb_safetensors_entry *entry)
{
    void *copy = malloc(entry->size + 1);
    memcpy(copy, entry->data, entry->size);
    return copy;
}

static struct bb_weight weight_of(const struct bb_safetensors *file, const struct one_case *one, const struct bb_quant_mode *mode)
{
    const struct bb_safetensors_entry *packed = find(file, one, "packed"), *scales = find(file, one, "scales");
    return (struct bb_weight){
        .data = copy_of(packed),
        .scales = copy_of(scales),
        .biases = mode->has_biases ? copy_of(find(file, one, "biases")) : NULL,
        .dtype = scales->dtype,
        .scheme = { mode->mode, one->bits, one->group_size },
        .rows = packed->shape[0],
        .cols = packed->shape[1] * 32 / one->bits,
    };
}

static void check_unpack(const struct bb_safetensors *file, const struct one_case *one, const struct bb_weight *weight)
{
    const struct bb_safetensors_entry *wanted = find(file, one, "dequant_f32");
    float *row = malloc((size_t)weight->cols * sizeof(float)), *expected = copy_of(wanted);
    for (int64_t i = 0; i < weight->rows; i++) {
        bb_quant_unpack_row(weight, i, row);
        if (memcmp(row, expected + i * weight->cols, (size_t)weight->cols * sizeof(float)) != 0)
            CHECK_NEAR(row, expected + i * weight->cols, (size_t)weight->cols, 0.0);
    }
    free(row);
    free(expected);
}

/* Whole-number codes with scale and bias of their group must tell the same values (the last bits may differ: other rounding). */
static void check_codes(const struct bb_weight *weight, const struct bb_quant_mode *mode)
{
    if (mode->unpack_codes == NULL)
        return;
    uint8_t *codes = malloc((size_t)weight->cols);
    float *row = malloc((size_t)weight->cols * sizeof(float)), *values = malloc((size_t)weight->cols * sizeof(float));
    for (int64_t i = 0; i < weight->rows; i++) {
        bb_quant_unpack_row(weight, i, values);
        mode->unpack_codes(weight->scheme, (const uint8_t *)weight->data + (size_t)i * bb_weight_row_bytes(weight), 0, weight->cols, codes);
        for (int64_t j = 0; j < weight->cols; j++) {
            float scale, bias;
            mode->unpack_group(weight, i, j / weight->scheme.group_size, &scale, &bias);
            row[j] = scale * (float)codes[j];
            row[j] += bias;
        }
        CHECK_NEAR(row, values, (size_t)weight->cols, 0.0);
    }
    free(codes);
    free(row);
    free(values);
}

static void check_same(const void *actual, const void *expected, size_t bytes, const char *what, const struct one_case *one)
{
    const unsigned char *a = actual, *b = expected;
    for (size_t i = 0; i < bytes; i++) {
        if (a[i] != b[i])
            fail_msg("%s b%d g%d %s: %s differ first at byte %zu of %zu: %02x, expected %02x", one->mode, (int)one->bits, (int)one->group_size, one->dtype,
                     what, i, bytes, a[i], b[i]);
    }
}

static void check_pack(const struct bb_safetensors *file, const struct one_case *one, const struct bb_weight *weight,
                       const struct bb_quant_mode *mode)
{
    const struct bb_safetensors_entry *values = find(file, one, "w");
    const size_t row_bytes = bb_weight_row_bytes(weight), scale_bytes = bb_weight_scale_row_bytes(weight);
    unsigned char *codes = calloc((size_t)weight->rows, row_bytes), *scales = calloc((size_t)weight->rows, scale_bytes),
                  *biases = calloc((size_t)weight->rows, scale_bytes);
    float *row = malloc((size_t)weight->cols * sizeof(float));
    unsigned char *aligned = copy_of(values);
    for (int64_t i = 0; i < weight->rows; i++) {
        bb_dtype_load_row(row, aligned, values->dtype, (size_t)(i * weight->cols), (size_t)weight->cols);
        struct bb_packed_row out = { codes + (size_t)i * row_bytes, scales + (size_t)i * scale_bytes, biases + (size_t)i * scale_bytes, weight->dtype };
        mode->pack_row(weight->scheme, row, weight->cols, out);
    }
    check_same(scales, weight->scales, (size_t)weight->rows * scale_bytes, "scales", one);
    if (mode->has_biases)
        check_same(biases, weight->biases, (size_t)weight->rows * scale_bytes, "biases", one);
    check_same(codes, weight->data, (size_t)weight->rows * row_bytes, "codes", one);
    free(codes);
    free(scales);
    free(biases);
    free(row);
    free(aligned);
}

static const struct one_case modes[] = {
    { "affine", 1, 32, "" }, { "affine", 1, 64, "" }, { "affine", 1, 128, "" }, { "affine", 2, 32, "" }, { "affine", 2, 64, "" },
    { "affine", 2, 128, "" }, { "affine", 3, 32, "" }, { "affine", 3, 64, "" }, { "affine", 3, 128, "" }, { "affine", 4, 32, "" },
    { "affine", 4, 64, "" }, { "affine", 4, 128, "" }, { "affine", 5, 32, "" }, { "affine", 5, 64, "" }, { "affine", 5, 128, "" },
    { "affine", 6, 32, "" }, { "affine", 6, 64, "" }, { "affine", 6, 128, "" }, { "affine", 8, 32, "" }, { "affine", 8, 64, "" },
    { "affine", 8, 128, "" }, { "mxfp4", 4, 32, "" }, { "mxfp8", 8, 32, "" }, { "nvfp4", 4, 16, "" },
};

static void test_golden(void **state)
{
    (void)state;
    const char *path = golden_path("quant/quant.safetensors");
    SKIP_WITHOUT_GOLDEN(path);
    bombus_error error;
    struct bb_safetensors file;
    CHECK_OK(bb_safetensors_open(&file, path, &error), error);
    int count = 0;
    for (size_t i = 0; i < BB_COUNT(modes) * 3; i++) {
        struct one_case one = modes[i / 3];
        one.dtype = (const char *[]){ "f32", "bf16", "f16" }[i % 3];
        if (find(&file, &one, "packed") == NULL)
            continue;
        const struct bb_quant_mode *mode = bb_quant_mode_find(one.mode);
        assert_non_null(mode);
        struct bb_weight weight = weight_of(&file, &one, mode);
        assert_true(mode->is_valid(weight.scheme));
        check_unpack(&file, &one, &weight);
        check_codes(&weight, mode);
        if (mode->has_biases || strcmp(one.dtype, "f32") == 0) /* mlx packs short mx and nv input in short arithmetic, we in f32 */
            check_pack(&file, &one, &weight, mode);
        free((void *)(uintptr_t)weight.data);
        free((void *)(uintptr_t)weight.scales);
        free((void *)(uintptr_t)weight.biases);
        count++;
    }
    assert_int_equal(count, 44);
    bb_safetensors_close(&file);
}

static void test_list(void **state)
{
    (void)state;
    assert_string_equal(bb_quant_mode_name(0), "affine");
    assert_null(bb_quant_mode_name(4));
    assert_null(bb_quant_mode_find("gguf"));
    assert_null(bb_quant_mode_of(BB_QUANT_NONE));
    assert_false(bb_quant_affine.is_valid((struct bb_scheme){ BB_QUANT_AFFINE, 7, 64 }));
    assert_false(bb_quant_affine.is_valid((struct bb_scheme){ BB_QUANT_AFFINE, 4, 16 }));
    assert_false(bb_quant_nvfp4.is_valid((struct bb_scheme){ BB_QUANT_NVFP4, 4, 32 }));
    assert_true(bb_quant_mxfp8.is_valid((struct bb_scheme){ BB_QUANT_MXFP8, 8, 32 }));
}

static void test_plain_rows(void **state)
{
    (void)state;
    const uint16_t half[4] = { 0x3C00, 0xC000, 0x3800, 0x0001 };
    const float expected[2] = { 0.5f, 0x1p-24f };
    float row[2];
    struct bb_weight weight = { .data = half, .dtype = BB_F16, .rows = 2, .cols = 2 };
    bb_quant_unpack_row(&weight, 1, row);
    CHECK_NEAR(row, expected, 2, 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_plain_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
