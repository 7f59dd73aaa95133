/* What inspect says of model folders. */
#include "model/inspect.h"
#include "scratch.h"

#include <jansson.h>

static bombus_error error;

static json_t *inspect(const char *folder)
{
    static const char *const problems[] = {"a \"problem\"\n\x01 \xFF\xC3\xA9"};
    struct bb_buffer text = {0};
    json_error_t place;
    CHECK_OK(bb_inspect(&text, folder, problems, 1, &error), error);
    json_t *object = json_loadb(text.data, text.length, JSON_REJECT_DUPLICATES, &place);
    if (object == NULL)
        fail_msg("%s: %s", place.text, text.data);
    bb_buffer_clear(&text);
    /* The caller's problem is the last, as text can be in JSON. */
    const json_t *list = json_object_get(object, "unsupported");
    assert_string_equal(json_string_value(json_array_get(list, json_array_size(list) - 1)),
                        "a \"problem\"\n\x01 \xEF\xBF\xBD\xC3\xA9");
    return object;
}

static json_int_t number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value))
        fail_msg("%s is no number", key);
    return json_integer_value(value);
}

static void check_text(const json_t *object, const char *key, const char *expected)
{
    assert_string_equal(json_string_value(json_object_get(object, key)), expected);
}

static const json_t *find_tensor(const json_t *object, const char *name)
{
    size_t i;
    const json_t *tensor;
    json_array_foreach(json_object_get(object, "tensors"), i,
                       tensor) if (strcmp(json_string_value(json_object_get(tensor, "name")), name) == 0) return tensor;
    fail_msg("no tensor %s", name);
    return NULL;
}

static void test_golden(void **state)
{
    (void)state;
    const char *folder = golden_path("models/qwen3-mixed");
    SKIP_WITHOUT_GOLDEN(folder);
    json_t *object = inspect(folder);
    assert_int_equal(json_array_size(json_object_get(object, "unsupported")), 1);
    check_text(object, "model_type", "qwen3");
    check_text(object, "architecture", "Qwen3ForCausalLM");
    const json_t *sizes = json_object_get(object, "sizes"), *memory = json_object_get(object, "memory");
    assert_int_equal(number(sizes, "hidden_size"), 128);
    assert_int_equal(number(sizes, "head_dim"), 64);
    assert_true(json_is_true(json_object_get(sizes, "tie_word_embeddings")));
    check_text(json_object_get(object, "quantization"), "mode", "affine");
    assert_int_equal(number(json_object_get(object, "quantization"), "bits"), 4);
    const json_t *tensor = find_tensor(object, "model.layers.0.self_attn.o_proj");
    assert_int_equal(number(tensor, "bits"), 8);
    assert_int_equal(number(tensor, "group_size"), 32);
    check_text(tensor, "scale_dtype", "BF16");
    assert_int_equal(number(tensor, "bytes"), 128 * (256 + 2 * 2 * 8));
    assert_int_equal(json_integer_value(json_array_get(json_object_get(tensor, "shape"), 1)), 256);
    check_text(find_tensor(object, "model.norm.weight"), "dtype", "BF16");
    /* 4, 5, 6 and 8 bits, and plain */
    size_t i;
    const json_t *format;
    json_int_t parameters = 0, bytes = 0, count = 0;
    json_array_foreach(json_object_get(object, "formats"), i, format)
    {
        parameters += number(format, "parameter_count");
        bytes += number(format, "bytes");
        count += number(format, "tensor_count");
    }
    assert_int_equal(i, 5);
    assert_int_equal(count, json_array_size(json_object_get(object, "tensors")));
    assert_int_equal(parameters, number(object, "parameter_count"));
    assert_int_equal(bytes, number(object, "file_bytes"));
    assert_int_equal(number(memory, "weight_bytes"), bytes);
    /* keys and values of 3 layers, 2 heads, 64 entries of 2 bytes */
    assert_in_range(number(memory, "cache_bytes_per_1000_tokens"), 1000 * 2 * 3 * 2 * 64 * 2,
                    1000 * 2 * 3 * 2 * 80 * 2);
    assert_true(number(memory, "cache_bytes_per_1000_tokens_kv_bits_4") <
                number(memory, "cache_bytes_per_1000_tokens_kv_bits_8"));
    assert_true(number(object, "bytes_per_token") <= bytes);
    assert_true(json_is_true(json_object_get(json_object_get(object, "tokenizer"), "present")));
    check_text(json_object_get(object, "tokenizer"), "chat_template", "tokenizer_config.json");
    json_decref(object);
}

/* Every reference model is supported, and all of its bytes are told. */
static void test_all_golden(void **state)
{
    (void)state;
    const char *models = golden_path("models");
    SKIP_WITHOUT_GOLDEN(models);
    DIR *directory = opendir(models);
    int count = 0;
    for (struct dirent *item = readdir(directory); item != NULL; item = readdir(directory)) {
        if (item->d_name[0] == '.')
            continue;
        char *folder = bb_path_join(models, item->d_name);
        json_t *object = inspect(folder);
        const json_t *reasons = json_object_get(object, "unsupported");
        if (json_array_size(reasons) != 1)
            fail_msg("%s: %s", item->d_name, json_string_value(json_array_get(reasons, 0)));
        assert_int_equal(number(object, "file_bytes"), number(json_object_get(object, "memory"), "weight_bytes"));
        json_decref(object);
        bb_release(folder);
        count++;
    }
    closedir(directory);
    assert_true(count >= 24);
}

#define TENSORS                                                                                                        \
    "{\"a.weight\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"                                       \
    "\"b.10\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[24,25]},\"b.9\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[25,25]}}"

static void test_unsupported(void **state)
{
    (void)state;
    static const struct {
        const char *config, *says;
        size_t tensor_count;
    } cases[] = {
        {"{\"model_type\": \"mamba\", \"hidden_size\": 77, \"vocab_size\": \"x\"}", "mamba", 3},
        {"{\"hidden_size\": 77}", "model_type", 3},
        {"{\"model_type\": \"llama\", \"hidden_size\": 77, \"quantization_config\": {\"quant_method\": \"awq\"}}",
         "'awq'", 0},
    };
    scratch_safetensors("m/model.safetensors", TENSORS, 25);
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        scratch_text("m/config.json", cases[i].config);
        json_t *object = inspect(scratch_path("m"));
        const json_t *tensors = json_object_get(object, "tensors");
        assert_true(json_is_false(json_object_get(object, "supported")));
        const char *reason = json_string_value(json_array_get(json_object_get(object, "unsupported"), 0));
        if (strstr(reason, cases[i].says) == NULL)
            fail_msg("%s: %s", cases[i].config, reason);
        assert_int_equal(number(json_object_get(object, "sizes"), "hidden_size"), 77);
        assert_true(json_is_null(json_object_get(object, "quantization")));
        assert_int_equal(json_array_size(tensors), cases[i].tensor_count);
        if (cases[i].tensor_count > 0) {
            check_text(json_array_get(tensors, 1), "name", "b.9"); /* numbers sort as numbers */
            check_text(json_array_get(tensors, 2), "name", "b.10");
            assert_int_equal(number(object, "parameter_count"), 7);
            assert_int_equal(number(object, "file_bytes"), 25);
        }
        assert_true(json_is_null(json_object_get(json_object_get(object, "tokenizer"), "chat_template")));
        json_decref(object);
    }
}

static void test_refuses(void **state)
{
    (void)state;
    struct bb_buffer text = {0};
    assert_int_equal(bb_inspect(&text, scratch_path("absent"), NULL, 0, &error), BOMBUS_ERROR_NOT_FOUND);
    scratch_text("damaged/config.json", "{}");
    scratch_text("damaged/model.safetensors", "12345678901234567890");
    assert_int_equal(bb_inspect(&text, scratch_path("damaged"), NULL, 0, NULL), BOMBUS_ERROR_FORMAT);
    bb_buffer_clear(&text);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    scratch_text("memory/config.json", "{\"model_type\": \"mamba\"}");
    scratch_safetensors("memory/model.safetensors", TENSORS, 25);
    for (uint64_t i = 1;; i++) {
        struct bb_buffer text = {0};
        bb_memory_fail_at(i, true);
        bombus_status status = bb_inspect(&text, scratch_path("memory"), NULL, 0, &error);
        bb_memory_fail_at(0, false);
        bb_buffer_clear(&text);
        if (status == BOMBUS_OK) {
            assert_true(i > 10);
            break;
        }
        assert_int_equal(status, BOMBUS_ERROR_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),  cmocka_unit_test(test_all_golden),          cmocka_unit_test(test_unsupported),
        cmocka_unit_test(test_refuses), cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
