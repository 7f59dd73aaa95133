/* Model folders: files and index, schemes of quantized matrices, surplus tensors. */
#include "files/checkpoint.h"
#include "scratch.h"

static struct bb_checkpoint checkpoint;
static bombus_error error;

/* Opens the folder `name` of the scratch folder. */
static bombus_status open_folder(const char *name)
{
    return bb_checkpoint_open(&checkpoint, scratch_path(name), &error);
}

/* A folder of one file whose tensors are all zero. */
static void write_model(const char *name, const char *config, const struct bb_safetensors_entry *entries, size_t count)
{
    static const uint8_t zeros[1 << 16];
    struct bb_safetensors_entry copies[16];
    char path[300];
    for (size_t i = 0; i < count; i++) {
        copies[i] = entries[i];
        copies[i].data = zeros;
        copies[i].size = bb_dtype_bits(copies[i].dtype) / 8;
        for (int32_t j = 0; j < copies[i].rank; j++)
            copies[i].size *= (size_t)copies[i].shape[j];
        assert_true(copies[i].size <= sizeof zeros);
    }
    snprintf(path, sizeof path, "%s/config.json", name);
    scratch_text(path, config);
    snprintf(path, sizeof path, "%s/model.safetensors", name);
    CHECK_OK(bb_safetensors_write(scratch_path(path), copies, count, NULL, 0, &error), error);
}

static const char affine_config[] = "{\"quantization\": {\"group_size\": 64, \"bits\": 4}}";

static void test_affine(void **state)
{
    (void)state;
    static const struct bb_safetensors_entry entries[] = {
        {"a.weight", BB_U32, 2, {3, 16}, NULL, 0},   {"a.scales", BB_BF16, 2, {3, 2}, NULL, 0},
        {"a.biases", BB_BF16, 2, {3, 2}, NULL, 0},   {"e.weight", BB_U32, 3, {2, 3, 16}, NULL, 0},
        {"e.scales", BB_F32, 3, {2, 3, 2}, NULL, 0}, {"e.biases", BB_F32, 3, {2, 3, 2}, NULL, 0},
        {"p.weight", BB_F16, 2, {3, 128}, NULL, 0},  {"norm.weight", BB_F32, 1, {128}, NULL, 0},
    };
    struct bb_weight weight;
    write_model("affine", affine_config, entries, BB_COUNT(entries));
    CHECK_OK(open_folder("affine"), error);
    assert_int_equal(checkpoint.tensor_count, BB_COUNT(entries));
    CHECK_OK(bb_checkpoint_weight(&checkpoint, "a", 3, 128, &weight, &error), error);
    assert_int_equal(weight.scheme.mode, BB_QUANT_AFFINE);
    assert_int_equal(weight.scheme.bits, 4);
    assert_int_equal(weight.scheme.group_size, 64);
    assert_int_equal(weight.dtype, BB_BF16);
    assert_ptr_equal(weight.data, bb_checkpoint_find(&checkpoint, "a.weight")->data);
    assert_ptr_equal(weight.scales, bb_checkpoint_find(&checkpoint, "a.scales")->data);
    assert_ptr_equal(weight.biases, bb_checkpoint_find(&checkpoint, "a.biases")->data);
    CHECK_OK(bb_checkpoint_weight(&checkpoint, "e", 6, 128, &weight, &error), error);
    assert_int_equal(bb_weight_bytes(&weight), 6 * (64 + 16));
    CHECK_OK(bb_checkpoint_weight(&checkpoint, "p", 3, 128, &weight, &error), error);
    assert_int_equal(weight.scheme.mode, BB_QUANT_NONE);
    assert_int_equal(weight.dtype, BB_F16);
    assert_null(weight.scales);
    assert_true(bb_checkpoint_has(&checkpoint, "norm.weight"));
    assert_false(bb_checkpoint_has(&checkpoint, "norm"));
    assert_int_equal(bb_checkpoint_check_surplus(&checkpoint, NULL, &error), BOMBUS_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "1 tensors"));
    assert_non_null(strstr(error.message, "'norm.weight'"));
    assert_non_null(bb_checkpoint_find(&checkpoint, "norm.weight"));
    CHECK_OK(bb_checkpoint_check_surplus(&checkpoint, NULL, &error), error);
    assert_null(bb_checkpoint_find(&checkpoint, "none"));
    bb_checkpoint_close(&checkpoint);
    bb_checkpoint_close(&checkpoint);
}

/* One matrix "a" of parts as given, asked for as [4, 128]. */
static void test_mismatches(void **state)
{
    (void)state;
    static const struct {
        const char *config;
        struct bb_safetensors_entry parts[3];
        bombus_status status;
        const char *says;
    } cases[] = {
        {affine_config,
         {{"a.weight", BB_U32, 2, {4, 16}, NULL, 0}, {"a.scales", BB_F16, 2, {4, 2}, NULL, 0}},
         BOMBUS_ERROR_FORMAT,
         "'a' is incomplete: missing .biases"},
        {affine_config, {{"a.weight", BB_U32, 2, {4, 16}, NULL, 0}}, BOMBUS_ERROR_FORMAT, "missing .scales"},
        {affine_config, {{"a.scales", BB_F16, 2, {4, 2}, NULL, 0}}, BOMBUS_ERROR_FORMAT, "missing .weight .biases"},
        {affine_config, {{"b.weight", BB_F16, 2, {4, 2}, NULL, 0}}, BOMBUS_ERROR_FORMAT, "missing .weight"},
        {affine_config,
         {{"a.weight", BB_U32, 2, {5, 16}, NULL, 0},
          {"a.scales", BB_F16, 2, {4, 2}, NULL, 0},
          {"a.biases", BB_F16, 2, {4, 2}, NULL, 0}},
         BOMBUS_ERROR_FORMAT,
         "'a.weight': expected U32 [4, 16] (affine, 4 bits, groups of 64), found U32 [5, 16]"},
        {affine_config,
         {{"a.weight", BB_U32, 2, {4, 16}, NULL, 0},
          {"a.scales", BB_F16, 2, {3, 2}, NULL, 0},
          {"a.biases", BB_F16, 2, {4, 2}, NULL, 0}},
         BOMBUS_ERROR_FORMAT,
         "'a.scales': expected F16 [4, 2] (affine, 4 bits, groups of 64), found F16 [3, 2]"},
        {affine_config,
         {{"a.weight", BB_U32, 2, {4, 16}, NULL, 0},
          {"a.scales", BB_F16, 2, {4, 2}, NULL, 0},
          {"a.biases", BB_BF16, 2, {4, 2}, NULL, 0}},
         BOMBUS_ERROR_FORMAT,
         "'a.biases': expected F16 [4, 2]"},
        {affine_config,
         {{"a.weight", BB_I32, 2, {4, 16}, NULL, 0},
          {"a.scales", BB_F16, 2, {4, 2}, NULL, 0},
          {"a.biases", BB_F16, 2, {4, 2}, NULL, 0}},
         BOMBUS_ERROR_FORMAT,
         "found I32 [4, 16]"},
        {affine_config,
         {{"a.weight", BB_U32, 2, {4, 16}, NULL, 0},
          {"a.scales", BB_I16, 2, {4, 2}, NULL, 0},
          {"a.biases", BB_I16, 2, {4, 2}, NULL, 0}},
         BOMBUS_ERROR_FORMAT,
         "expected F32, F16 or BF16"},
        {affine_config,
         {{"a.weight", BB_U32, 2, {4, 28}, NULL, 0},
          {"a.scales", BB_F16, 2, {4, 2}, NULL, 0},
          {"a.biases", BB_F16, 2, {4, 2}, NULL, 0}},
         BOMBUS_ERROR_FORMAT,
         "no known quantization of 128 columns"},
        {affine_config,
         {{"a.weight", BB_U32, 2, {4, 0}, NULL, 0},
          {"a.scales", BB_F16, 2, {4, 0}, NULL, 0},
          {"a.biases", BB_F16, 2, {4, 0}, NULL, 0}},
         BOMBUS_ERROR_FORMAT,
         "no known quantization"},
        {affine_config,
         {{"a.weight", BB_U32, 0, {0}, NULL, 0},
          {"a.scales", BB_F16, 0, {0}, NULL, 0},
          {"a.biases", BB_F16, 0, {0}, NULL, 0}},
         BOMBUS_ERROR_FORMAT,
         "a scalar"},
        {affine_config,
         {{"a.weight", BB_U32, 2, {4, 16}, NULL, 0}, {"a.scales", BB_U8, 2, {4, 2}, NULL, 0}},
         BOMBUS_ERROR_FORMAT,
         "no known quantization"},
        {affine_config,
         {{"a.weight", BB_U8, 2, {4, 128}, NULL, 0}},
         BOMBUS_ERROR_UNSUPPORTED,
         "must be F32, F16 or BF16"},
        {affine_config,
         {{"a.weight", BB_F32, 2, {128, 4}, NULL, 0}},
         BOMBUS_ERROR_FORMAT,
         "expected F32 [4, 128], found F32 [128, 4]"},
        {affine_config, {{"a.weight", BB_F32, 1, {512}, NULL, 0}}, BOMBUS_ERROR_FORMAT, "found F32 [512]"},
        {"{}",
         {{"a.weight", BB_U32, 2, {4, 16}, NULL, 0}, {"a.scales", BB_U8, 2, {4, 4}, NULL, 0}},
         BOMBUS_ERROR_FORMAT,
         "has no 'quantization', but 'a' is quantized"},
        {"{\"quantization\": {\"bits\": 4, \"a\": {\"bits\": 8}}}",
         {{"a.weight", BB_U32, 2, {4, 16}, NULL, 0},
          {"a.scales", BB_F16, 2, {4, 2}, NULL, 0},
          {"a.biases", BB_F16, 2, {4, 2}, NULL, 0}},
         BOMBUS_ERROR_FORMAT,
         "expected U32 [4, 32] (affine, 8 bits, groups of 64), found U32 [4, 16]"},
        {"{\"quantization\": {\"mode\": \"mxfp4\", \"a\": {}}}",
         {{"a.weight", BB_U32, 2, {4, 16}, NULL, 0}, {"a.scales", BB_U8, 2, {4, 4}, NULL, 0}},
         BOMBUS_ERROR_FORMAT,
         "missing .biases"},
        {"{\"quantization\": {\"bits\": 4, \"a\": {\"mode\": \"nvfp4\"}}}",
         {{"a.weight", BB_U32, 2, {4, 16}, NULL, 0}, {"a.scales", BB_U8, 2, {4, 4}, NULL, 0}},
         BOMBUS_ERROR_FORMAT,
         "'a.scales': expected U8 [4, 8] (nvfp4, 4 bits, groups of 16), found U8 [4, 4]"},
        {"{\"quantization\": {\"bits\": 4, \"a\": false}}",
         {{"a.weight", BB_U32, 2, {4, 16}, NULL, 0}, {"a.scales", BB_U8, 2, {4, 4}, NULL, 0}},
         BOMBUS_ERROR_FORMAT,
         "says that 'a' is not quantized"},
        {"{\"quantization\": {\"bits\": 4, \"a\": 3}}",
         {{"a.weight", BB_U32, 2, {4, 16}, NULL, 0}, {"a.scales", BB_U8, 2, {4, 4}, NULL, 0}},
         BOMBUS_ERROR_FORMAT,
         "'quantization/a' must be true or false"},
        {"{\"quantization\": {\"bits\": 4, \"a\": {\"bits\": 7}}}",
         {{"a.weight", BB_U32, 2, {4, 28}, NULL, 0},
          {"a.scales", BB_F16, 2, {4, 2}, NULL, 0},
          {"a.biases", BB_F16, 2, {4, 2}, NULL, 0}},
         BOMBUS_ERROR_UNSUPPORTED,
         "affine quantization with 7 bits in groups of 64"},
        {"{\"quantization\": {\"mode\": \"nvfp4\"}}",
         {{"a.weight", BB_U32, 2, {4, 16}, NULL, 0},
          {"a.scales", BB_U8, 2, {4, 8}, NULL, 0},
          {"a.global_scale", BB_F32, 0, {0}, NULL, 0}},
         BOMBUS_ERROR_UNSUPPORTED,
         "a.global_scale"},
    };
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        struct bb_weight weight;
        size_t count = 0;
        while (count < 3 && cases[i].parts[count].name != NULL)
            count++;
        write_model("wrong", cases[i].config, cases[i].parts, count);
        CHECK_OK(open_folder("wrong"), error);
        bombus_status status = bb_checkpoint_weight(&checkpoint, "a", 4, 128, &weight, &error);
        if (status != cases[i].status || strstr(error.message, cases[i].says) == NULL)
            fail_msg("case %zu: %s: %s", i, bombus_status_name(status), status == BOMBUS_OK ? "" : error.message);
        bb_checkpoint_close(&checkpoint);
    }
}

static void test_overrides(void **state)
{
    (void)state;
    static const struct bb_safetensors_entry entries[] = {
        {"a.weight", BB_U32, 2, {2, 12}, NULL, 0}, {"a.scales", BB_F16, 2, {2, 4}, NULL, 0},
        {"a.biases", BB_F16, 2, {2, 4}, NULL, 0},  {"b.weight", BB_U32, 2, {2, 16}, NULL, 0},
        {"b.scales", BB_U8, 2, {2, 4}, NULL, 0},   {"c.weight", BB_BF16, 2, {2, 128}, NULL, 0},
        {"d.weight", BB_U32, 2, {2, 32}, NULL, 0}, {"d.scales", BB_U8, 2, {2, 4}, NULL, 0},
        {"f.weight", BB_U32, 2, {2, 24}, NULL, 0}, {"f.scales", BB_F32, 2, {2, 1}, NULL, 0},
        {"f.biases", BB_F32, 2, {2, 1}, NULL, 0},
    };
    static const struct {
        const char *name;
        struct bb_scheme scheme;
    } expected[] = {
        {"a", {BB_QUANT_AFFINE, 3, 32}}, {"b", {BB_QUANT_MXFP4, 4, 32}},   {"c", {BB_QUANT_NONE, 0, 0}},
        {"d", {BB_QUANT_MXFP8, 8, 32}},  {"f", {BB_QUANT_AFFINE, 6, 128}},
    };
    struct bb_weight weight;
    write_model("overrides",
                "{\"quantization\": {\"group_size\": 64, \"bits\": 4, \"a\": {\"bits\": 3, \"group_size\": 32}, \"b\": "
                "{\"mode\": \"mxfp4\"},"
                " \"c\": false, \"d\": {\"mode\": \"mxfp8\", \"bits\": 8}, \"f\": true}}",
                entries, BB_COUNT(entries));
    CHECK_OK(open_folder("overrides"), error);
    for (size_t i = 0; i < BB_COUNT(expected); i++) {
        CHECK_OK(bb_checkpoint_weight(&checkpoint, expected[i].name, 2, 128, &weight, &error), error);
        assert_memory_equal(&weight.scheme, &expected[i].scheme, sizeof weight.scheme);
    }
    CHECK_OK(bb_checkpoint_check_surplus(&checkpoint, NULL, &error), error);
    bb_checkpoint_close(&checkpoint);
}

static void test_other_quantizations(void **state)
{
    (void)state;
    static const struct bb_safetensors_entry entries[] = {{"a.weight", BB_F32, 2, {2, 32}, NULL, 0}};
    static const struct {
        const char *config;
        bombus_status status;
        const char *says;
    } cases[] = {
        {"{\"quantization_config\": {\"quant_method\": \"gptq\", \"bits\": 4}}", BOMBUS_ERROR_UNSUPPORTED, "'gptq'"},
        {"{\"quantization_config\": {\"quant_method\": \"fp8\"}}", BOMBUS_ERROR_UNSUPPORTED, "'fp8'"},
        {"{\"quantization_config\": {\"load_in_4bit\": true}}", BOMBUS_ERROR_UNSUPPORTED, "'unknown'"},
        {"{\"quantization_config\": {\"group_size\": 64, \"bits\": 4}}", BOMBUS_OK, ""},
        {"{\"quantization_config\": null, \"quantization\": null}", BOMBUS_OK, ""},
        {"{\"quantization\": {\"bits\": 4}, \"quantization_config\": {\"quant_method\": \"mxfp4\"}}", BOMBUS_OK, ""},
        {"{\"quantization\": 4}", BOMBUS_ERROR_FORMAT, "'quantization' must be an object"},
        {"{\"quantization\": {\"bits\": 7}}", BOMBUS_ERROR_UNSUPPORTED, "7 bits"},
        {"{\"quantization\": {\"bits\": \"4\"}}", BOMBUS_ERROR_FORMAT, "must be a whole number"},
        {"{\"quantization\": {\"mode\": \"mxfp4\", \"group_size\": 64}}", BOMBUS_ERROR_UNSUPPORTED, "groups of 64"},
        {"{\"quantization\": {\"mode\": \"q4_k\"}}", BOMBUS_ERROR_UNSUPPORTED, "'q4_k'"},
    };
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        write_model("other", cases[i].config, entries, 1);
        bombus_status status = open_folder("other");
        if (status != cases[i].status || (status != BOMBUS_OK && strstr(error.message, cases[i].says) == NULL))
            fail_msg("%s: %s: %s", cases[i].config, bombus_status_name(status),
                     status == BOMBUS_OK ? "" : error.message);
        bb_checkpoint_close(&checkpoint);
    }
}

#define TENSOR(name) "{\"" name "\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}"
#define INDEX        "model.safetensors.index.json"

static void test_folders(void **state)
{
    (void)state;
    assert_int_equal(open_folder("absent"), BOMBUS_ERROR_NOT_FOUND);
    scratch_text("f1/x", "");
    assert_int_equal(open_folder("f1"), BOMBUS_ERROR_NOT_FOUND);
    assert_non_null(strstr(error.message, "config.json"));
    scratch_text("f1/config.json", "{}");
    scratch_safetensors("f1/adapters.safetensors", TENSOR("x"), 4);
    assert_int_equal(open_folder("f1"), BOMBUS_ERROR_NOT_FOUND);
    assert_non_null(strstr(error.message, "no *.safetensors file"));
    scratch_safetensors("f1/other.safetensors", TENSOR("o"), 4);
    CHECK_OK(open_folder("f1"), error);
    assert_true(bb_checkpoint_has(&checkpoint, "o"));
    assert_false(bb_checkpoint_has(&checkpoint, "x"));
    bb_checkpoint_close(&checkpoint);
    scratch_safetensors("f1/model-2.safetensors", TENSOR("b"), 4);
    scratch_safetensors("f1/model-1.safetensors", TENSOR("a"), 4);
    CHECK_OK(open_folder("f1"), error);
    assert_int_equal(checkpoint.tensor_count, 2);
    assert_true(bb_checkpoint_has(&checkpoint, "a") && bb_checkpoint_has(&checkpoint, "b"));
    bb_checkpoint_close(&checkpoint);
    scratch_text("f1/" INDEX, "{\"weight_map\": {\"a\": \"model-1.safetensors\"}}");
    CHECK_OK(open_folder("f1"), error);
    assert_int_equal(checkpoint.tensor_count, 1);
    bb_checkpoint_close(&checkpoint);
    scratch_safetensors("f1/model.safetensors", TENSOR("s"), 4);
    CHECK_OK(open_folder("f1"), error);
    assert_true(checkpoint.tensor_count == 1 && bb_checkpoint_has(&checkpoint, "s"));
    bb_checkpoint_close(&checkpoint);
    scratch_text("f1/" INDEX, "{\"weight_map\": {\"a\": \"../model-1.safetensors\"}}");
    assert_int_equal(open_folder("f1"), BOMBUS_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "must be a name"));
}

static void test_shards(void **state)
{
    (void)state;
    static const struct {
        const char *index;
        bombus_status status;
        const char *says;
    } cases[] = {
        {"{\"weight_map\": {\"a\": \"1.safetensors\", \"b\": \"2.safetensors\"}}", BOMBUS_OK, ""},
        {"{\"weight_map\": {\"a\": \"1.safetensors\", \"b\": \"3.safetensors\"}}", BOMBUS_ERROR_NOT_FOUND,
         "3.safetensors"},
        {"{\"weight_map\": {\"a\": \"2.safetensors\", \"b\": \"2.safetensors\"}}", BOMBUS_ERROR_FORMAT,
         "tensor 'a' is not in 2.safetensors"},
        {"{\"weight_map\": {\"a\": \"1.safetensors\", \"b\": \"4.safetensors\"}}", BOMBUS_ERROR_FORMAT,
         "'a' is in 4.safetensors and in another"},
        {"{\"weight_map\": {\"a\": \"../f2/1.safetensors\"}}", BOMBUS_ERROR_FORMAT, "must be a name"},
        {"{\"weight_map\": {\"a\": \"/etc/passwd\"}}", BOMBUS_ERROR_FORMAT, "must be a name"},
        {"{\"weight_map\": {\"a\": 1}}", BOMBUS_ERROR_FORMAT, "must be a name"},
        {"{\"weight_map\": {\"a\": \"1.safetensors\", \"a\": \"2.safetensors\"}}", BOMBUS_ERROR_FORMAT, "duplicate"},
        {"{\"weight_map\": []}", BOMBUS_ERROR_FORMAT, "no object 'weight_map'"},
        {"{", BOMBUS_ERROR_FORMAT, INDEX},
    };
    scratch_text("f2/config.json", "{}");
    scratch_safetensors("f2/1.safetensors", TENSOR("a"), 4);
    scratch_safetensors("f2/2.safetensors", TENSOR("b"), 4);
    scratch_safetensors("f2/4.safetensors", TENSOR("a"), 4);
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        scratch_text("f2/" INDEX, cases[i].index);
        bombus_status status = open_folder("f2");
        if (status != cases[i].status || (status != BOMBUS_OK && strstr(error.message, cases[i].says) == NULL))
            fail_msg("%s: %s: %s", cases[i].index, bombus_status_name(status),
                     status == BOMBUS_OK ? "" : error.message);
        if (status == BOMBUS_OK)
            assert_true(bb_checkpoint_has(&checkpoint, "a") && bb_checkpoint_has(&checkpoint, "b"));
        bb_checkpoint_close(&checkpoint);
    }
}

static bool is_rotary(const char *name)
{
    return strstr(name, "rotary") != NULL;
}

static void test_surplus(void **state)
{
    (void)state;
    struct bb_safetensors_entry entries[12];
    char names[12][32];
    for (size_t i = 0; i < BB_COUNT(entries); i++) {
        snprintf(names[i], sizeof names[i], i == 0 ? "rotary.inv_freq" : "tensor.%zu", i);
        entries[i] = (struct bb_safetensors_entry){names[i], BB_F32, 1, {1}, NULL, 0};
    }
    write_model("surplus", "{}", entries, BB_COUNT(entries));
    CHECK_OK(open_folder("surplus"), error);
    assert_int_equal(bb_checkpoint_check_surplus(&checkpoint, is_rotary, &error), BOMBUS_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "11 tensors"));
    assert_non_null(strstr(error.message, "'tensor.1', "));
    assert_non_null(strstr(error.message, ", ..."));
    assert_null(strstr(error.message, "rotary"));
    for (size_t i = 1; i < BB_COUNT(entries); i++)
        assert_non_null(bb_checkpoint_find(&checkpoint, names[i]));
    CHECK_OK(bb_checkpoint_check_surplus(&checkpoint, is_rotary, &error), error);
    assert_int_equal(bb_checkpoint_check_surplus(&checkpoint, NULL, &error), BOMBUS_ERROR_FORMAT);
    bb_checkpoint_close(&checkpoint);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    scratch_text("memory/config.json", affine_config);
    scratch_safetensors("memory/1.safetensors", TENSOR("a"), 4);
    scratch_safetensors("memory/2.safetensors", TENSOR("b"), 4);
    scratch_text("memory/" INDEX, "{\"weight_map\": {\"a\": \"1.safetensors\", \"b\": \"2.safetensors\"}}");
    for (uint64_t i = 1;; i++) {
        bb_memory_fail_at(i, false);
        bombus_status status = open_folder("memory");
        bb_memory_fail_at(0, false);
        bb_checkpoint_close(&checkpoint);
        if (status == BOMBUS_OK) {
            assert_true(i > 10);
            break;
        }
        assert_int_equal(status, BOMBUS_ERROR_MEMORY);
    }
}

/* Asks for every matrix of a reference model by the shapes that its tensors imply, and finds the scheme that its name
 * tells. */
static void check_golden(const char *name, enum bb_quant mode, int32_t bits, int32_t group_size)
{
    char path[200];
    size_t count = 0, usual = 0;
    snprintf(path, sizeof path, "models/%s", name);
    CHECK_OK(bb_checkpoint_open(&checkpoint, golden_path(path), &error), error);
    int64_t hidden_size, intermediate_size, head_dim, heads, layers;
    CHECK_OK(bb_config_integer(checkpoint.config, "hidden_size", 0, 1, 1 << 20, &hidden_size, &error), error);
    CHECK_OK(bb_config_integer(checkpoint.config, "intermediate_size", 0, 1, 1 << 20, &intermediate_size, &error),
             error);
    CHECK_OK(bb_config_integer(checkpoint.config, "moe_intermediate_size", intermediate_size, 1, 1 << 20,
                               &intermediate_size, &error),
             error);
    CHECK_OK(bb_config_integer(checkpoint.config, "num_attention_heads", 0, 1, 1 << 20, &heads, &error), error);
    CHECK_OK(bb_config_integer(checkpoint.config, "head_dim", hidden_size / heads, 1, 1 << 20, &head_dim, &error),
             error);
    CHECK_OK(bb_config_integer(checkpoint.config, "num_hidden_layers", 0, 1, 1000, &layers, &error), error);
    for (size_t i = 0; i < checkpoint.tensor_count; i++) {
        const struct bb_safetensors_entry *entry = checkpoint.entries[i];
        char base[200];
        const char *dot = strrchr(entry->name, '.');
        if (entry->rank < 2 || strcmp(dot, ".weight") != 0) {
            if (entry->rank < 2)
                assert_non_null(bb_checkpoint_find(&checkpoint, entry->name));
            continue;
        }
        snprintf(base, sizeof base, "%.*s", (int)(dot - entry->name), entry->name);
        int64_t rows = 1, cols = hidden_size;
        for (int32_t j = 0; j + 1 < entry->rank; j++)
            rows *= entry->shape[j];
        if (strstr(base, "o_proj") != NULL)
            cols = heads * head_dim;
        else if (strstr(base, "down_proj") != NULL)
            cols = strstr(base, "switch_mlp") != NULL || strncmp(name, "qwen3_moe", 9) != 0 ? intermediate_size : 0;
        struct bb_weight weight;
        if (cols == 0) /* the dense layer of the mixture */
            CHECK_OK(bb_config_integer(checkpoint.config, "intermediate_size", 0, 1, 1 << 20, &cols, &error), error);
        CHECK_OK(bb_checkpoint_weight(&checkpoint, base, rows, cols, &weight, &error), error);
        struct bb_weight described;
        CHECK_OK(bb_checkpoint_describe(&checkpoint, base, &described, &error), error);
        assert_memory_equal(&described, &weight, sizeof weight);
        count++;
        usual += weight.scheme.mode == mode && weight.scheme.bits == bits && weight.scheme.group_size == group_size;
    }
    CHECK_OK(bb_checkpoint_check_surplus(&checkpoint, NULL, &error), error);
    if (count < 4 * (size_t)layers || usual < count / 2)
        fail_msg("%s: %zu matrices, %zu of them as its name tells", name, count, usual);
    bb_checkpoint_close(&checkpoint);
}

static void test_golden_models(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum bb_quant mode;
        int32_t bits, group_size;
    } models[] = {
        {"gemma3_text-4bit", BB_QUANT_AFFINE, 4, 64},
        {"llama-4bit", BB_QUANT_AFFINE, 4, 64},
        {"mistral-4bit", BB_QUANT_AFFINE, 4, 64},
        {"phi3-4bit", BB_QUANT_AFFINE, 4, 64},
        {"phi3-longrope-4bit", BB_QUANT_AFFINE, 4, 64},
        {"qwen2-4bit", BB_QUANT_AFFINE, 4, 64},
        {"qwen3-2bit", BB_QUANT_AFFINE, 2, 64},
        {"qwen3-3bit", BB_QUANT_AFFINE, 3, 64},
        {"qwen3-4bit", BB_QUANT_AFFINE, 4, 64},
        {"qwen3-4bit-f32", BB_QUANT_AFFINE, 4, 64},
        {"qwen3-4bit-fp16", BB_QUANT_AFFINE, 4, 64},
        {"qwen3-4bit-g128", BB_QUANT_AFFINE, 4, 128},
        {"qwen3-4bit-g32", BB_QUANT_AFFINE, 4, 32},
        {"qwen3-5bit", BB_QUANT_AFFINE, 5, 64},
        {"qwen3-6bit", BB_QUANT_AFFINE, 6, 64},
        {"qwen3-8bit", BB_QUANT_AFFINE, 8, 64},
        {"qwen3-bf16", BB_QUANT_NONE, 0, 0},
        {"qwen3-mixed", BB_QUANT_AFFINE, 4, 64},
        {"qwen3-mxfp4", BB_QUANT_MXFP4, 4, 32},
        {"qwen3-mxfp4-mixed", BB_QUANT_MXFP4, 4, 32},
        {"qwen3-mxfp8", BB_QUANT_MXFP8, 8, 32},
        {"qwen3-nvfp4", BB_QUANT_NVFP4, 4, 16},
        {"qwen3-untied-sharded-4bit", BB_QUANT_AFFINE, 4, 64},
        {"qwen3_moe-4bit", BB_QUANT_AFFINE, 4, 64},
    };
    SKIP_WITHOUT_GOLDEN(golden_path("models"));
    for (size_t i = 0; i < BB_COUNT(models); i++)
        check_golden(models[i].name, models[i].mode, models[i].bits, models[i].group_size);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_affine),        cmocka_unit_test(test_mismatches),
        cmocka_unit_test(test_overrides),     cmocka_unit_test(test_other_quantizations),
        cmocka_unit_test(test_folders),       cmocka_unit_test(test_shards),
        cmocka_unit_test(test_surplus),       cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_golden_models),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
