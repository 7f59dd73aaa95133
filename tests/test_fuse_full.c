/* Whole weights of full fine-tuning, fused into a model. */
#include "adapter_fixture.h"
#include "base/memory.h"
#include "convert/fuse_full.h"
#include "model/trainable.h"

#define FULL_CONFIG "{\"fine_tune_type\": \"full\", \"num_layers\": 1, \"model\": \"its/model\"}"

static const struct bb_fuse_options plain;

/* What training would leave in the scratch folder "full": the last `num_layers` blocks, each value a little off. */
static struct bb_trainable *make_full(const struct opened *opened, int32_t num_layers)
{
    const struct bb_trainable_options options = {.type = BOMBUS_FINE_TUNE_FULL, .num_layers = num_layers};
    struct bb_trainable *trainable;
    bombus_error error;
    CHECK_OK(bb_trainable_create(&trainable, opened->model, &options, &error), error);
    for (size_t i = 0; i < trainable->value_count; i++)
        trainable->values[i] += number(7, i);
    scratch_remove(scratch_path("full"));
    scratch_text("full/adapter_config.json", FULL_CONFIG);
    CHECK_OK(bb_trainable_save(trainable, scratch_path("full/adapters.safetensors"), &error), error);
    return trainable;
}

/* The upper half of an f32, rounded to the nearest, ties to even. */
static uint16_t to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* How many tensors of the new folder's checkpoint differ from the old one's; those that the file names are its values, rounded. */
static size_t check_tensors(const struct bb_checkpoint *before, const struct bb_checkpoint *after)
{
    struct bb_safetensors file;
    bombus_error error;
    size_t changed = 0;
    CHECK_OK(bb_safetensors_open(&file, scratch_path("full/adapters.safetensors"), &error), error);
    assert_int_equal(before->tensor_count, after->tensor_count);
    for (size_t i = 0; i < before->tensor_count; i++) {
        const struct bb_safetensors_entry *old = before->entries[i];
        const uint64_t *number_after = bb_map_find(&after->index, old->name, strlen(old->name));
        assert_non_null(number_after);
        const struct bb_safetensors_entry *new = after->entries[*number_after],
                                          *from = bb_safetensors_find(&file, old->name);
        assert_int_equal(new->dtype, old->dtype);
        assert_int_equal(new->size, old->size);
        assert_memory_equal(new->shape, old->shape, (size_t)old->rank * sizeof old->shape[0]);
        changed += memcmp(new->data, old->data, old->size) != 0;
        if (from == NULL)
            continue;
        for (size_t k = 0; k < from->size / sizeof(float); k++) {
            const float value = bb_dtype_load(from->data, from->dtype, k);
            uint16_t bits;
            memcpy(&bits, (const char *)new->data + k * sizeof bits, sizeof bits);
            if (new->dtype == BB_BF16)
                assert_int_equal(bits, to_bf16(value));
            else
                assert_true(fabsf(bb_dtype_load(new->data, new->dtype, k) - value) <= fabsf(value) / 2048.0f + 3e-8f);
        }
    }
    bb_safetensors_close(&file);
    return changed;
}

/* The fused model is the trained one, to the rounding of its weights: in tensors, and in logits. */
static void check_model(const char *name, int32_t num_layers, bool has_alone_experts)
{
    enum { ROWS = 12 };
    struct opened opened, fused;
    struct golden_ids prompt;
    struct bb_fuse_report report;
    bombus_error error;
    OPEN_OR_SKIP(opened, name, 2);
    assert_true(golden_ids(&prompt, name, NULL));
    for (size_t i = 0; i < prompt.count; i++)
        prompt.ids[i] %= opened.model->recipe.vocab_size;
    struct bb_trainable *trainable = make_full(&opened, num_layers);
    scratch_remove(scratch_path("fused"));
    CHECK_OK(bb_fuse_full(opened.model, scratch_path("full"), scratch_path("fused"), &plain, &report, &error), error);
    open_folder(&fused, scratch_path("fused"), 2);
    const size_t changed = check_tensors(&opened.model->checkpoint, &fused.model->checkpoint);
    assert_int_equal(changed, report.count);
    assert_true(has_alone_experts ? changed > trainable->parameter_count : changed == trainable->parameter_count);
    assert_true(report.survival > 0.99 && report.survival < 1.0);
    for (size_t i = 0; i < report.count; i++) {
        assert_true(report.results[i].survival > 0.9 && report.results[i].survival < 1.0);
        assert_true(fabs(report.results[i].projection - 1.0) < 0.1 && report.results[i].relative > 0.0);
        assert_null(strstr(report.results[i].path, ".weight"));
    }
    struct opened view = {.backend = opened.backend, .model = (struct bb_model *)(uintptr_t)trainable->model};
    struct bb_session *before = create(&opened, true), *trained = create(&view, true), *after = create(&fused, true);
    float *plain_logits = all_logits(before, &prompt, ROWS), *expected = all_logits(trained, &prompt, ROWS),
          *actual = all_logits(after, &prompt, ROWS);
    const size_t entries = ROWS * (size_t)opened.model->recipe.vocab_size;
    const double gap = worst_difference(actual, expected, entries),
                 change = worst_difference(plain_logits, expected, entries);
    print_message("  %s: logits differ by %g, training changes them by %g\n", name, gap, change);
    if (!(gap <= 0.03 * change))
        fail_msg("%s: logits differ by %g, where training changes them by %g", name, gap, change);
    free(plain_logits);
    free(expected);
    free(actual);
    bb_session_free(before);
    bb_session_free(trained);
    bb_session_free(after);
    bb_fuse_report_clear(&report);
    bb_trainable_free(trainable);
    close_model(&fused);
    close_model(&opened);
}

static void test_models(void **state)
{
    (void)state;
    check_model("qwen2-f16", -1, false);
    check_model("llama-odd-heads", 1, false);
    check_model("mixtral-hf-names", 1, true);
}

/* A change below half a step of the dtype is lost, and said to be. */
static void test_report(void **state)
{
    (void)state;
    struct opened opened;
    struct bb_fuse_report report;
    bombus_error error;
    OPEN_OR_SKIP(opened, "llama-odd-heads", 1);
    const struct bb_safetensors_entry *old = opened.model->checkpoint.entries[0];
    const size_t count = old->size / 2;
    float *values = malloc(count * sizeof *values);
    bb_dtype_load_row(values, old->data, old->dtype, 0, count);
    for (size_t i = 0; i < count; i++)
        values[i] *= 1.0f + 1e-4f;
    struct bb_safetensors_entry entry = *old;
    entry.dtype = BB_F32;
    entry.data = values;
    entry.size = count * sizeof *values;
    scratch_remove(scratch_path("full"));
    scratch_text("full/adapter_config.json", FULL_CONFIG);
    CHECK_OK(bb_safetensors_write(scratch_path("full/adapters.safetensors"), &entry, 1, NULL, 0, &error), error);
    scratch_remove(scratch_path("fused"));
    CHECK_OK(bb_fuse_full(opened.model, scratch_path("full"), scratch_path("fused"), &plain, &report, &error), error);
    assert_int_equal(report.count, 1);
    assert_true(report.results[0].survival == 0.0 && report.survival == 0.0);
    assert_true(fabs(report.results[0].relative - 1e-4) < 1e-6);
    bb_fuse_report_clear(&report);
    free(values);
    close_model(&opened);
}

/* ---- what is refused ---- */

static void check_refused(const struct opened *opened, const char *config, const struct bb_safetensors_entry *entries,
                          size_t count, const struct bb_fuse_options *options, bombus_status expected,
                          const char *words)
{
    struct bb_fuse_report report;
    bombus_error error;
    scratch_remove(scratch_path("full"));
    scratch_remove(scratch_path("never"));
    scratch_text("full/adapter_config.json", config);
    CHECK_OK(bb_safetensors_write(scratch_path("full/adapters.safetensors"), entries, count, NULL, 0, &error), error);
    bombus_status status =
        bb_fuse_full(opened->model, scratch_path("full"), scratch_path("never"), options, &report, &error);
    bb_fuse_report_clear(&report);
    if (status != expected || strstr(error.message, words) == NULL)
        fail_msg("%s, expected %s: '%s' has no '%s'", bombus_status_name(status), bombus_status_name(expected),
                 error.message, words);
    assert_false(bb_file_exists(scratch_path("never/config.json")));
}

static bool stop(void *context, size_t done, size_t total)
{
    (void)context;
    return done < total && done < 1;
}

static void test_refused(void **state)
{
    (void)state;
    static const float numbers[64 * 64], infinite[64] = {INFINITY}, large[64] = {1e6f};
    static const struct bb_fuse_options bits = {.bits = 8}, dense = {.is_dequantized = true};
    static const char *const lora = "{\"lora_parameters\": {\"rank\": 2, \"scale\": 1.0}}";
    struct opened opened, quantized;
    struct bb_fuse_report report;
    bombus_error error;
    OPEN_OR_SKIP(opened, "qwen2-f16", 1);
    OPEN_OR_SKIP(quantized, "llama-linear", 1);
    const struct bb_norm *norm = &opened.model->blocks[1].input_norm;
    struct bb_safetensors_entry entry = {.name = "model.layers.1.input_layernorm.weight",
                                         .dtype = BB_F32,
                                         .rank = 1,
                                         .shape = {norm->size},
                                         .data = numbers,
                                         .size = (size_t)norm->size * sizeof(float)};
    struct bb_safetensors_entry other = entry;
    check_refused(&opened, FULL_CONFIG, &entry, 1, &bits, BOMBUS_ERROR_ARGUMENT, "bits is not for whole weights");
    check_refused(&opened, FULL_CONFIG, &entry, 1, &dense, BOMBUS_ERROR_ARGUMENT,
                  "dequantize is not for whole weights");
    check_refused(&opened, lora, &entry, 1, &plain, BOMBUS_ERROR_ARGUMENT, "expected whole weights");
    check_refused(&opened, FULL_CONFIG, &entry, 0, &plain, BOMBUS_ERROR_FORMAT, "no tensor is in it");
    other.name = "model.layers.9.input_layernorm.weight";
    check_refused(
        &opened, FULL_CONFIG, &other, 1, &plain, BOMBUS_ERROR_MISMATCH,
        "adapters.safetensors: tensor 'model.layers.9.input_layernorm.weight', expected a name of a tensor in ");
    other = entry;
    other.shape[0] = 4;
    other.size = 4 * sizeof(float);
    check_refused(&opened, FULL_CONFIG, &other, 1, &plain, BOMBUS_ERROR_MISMATCH,
                  "'model.layers.1.input_layernorm.weight' is [4], expected [");
    other.dtype = BB_U32;
    check_refused(&opened, FULL_CONFIG, &other, 1, &plain, BOMBUS_ERROR_FORMAT, "is U32, expected F32, F16 or BF16");
    assert_true(entry.size <= sizeof infinite);
    other = entry;
    other.data = infinite;
    check_refused(&opened, FULL_CONFIG, &other, 1, &plain, BOMBUS_ERROR_FORMAT, "holds inf, expected finite numbers");
    other.data = large;
    check_refused(&opened, FULL_CONFIG, &other, 1, &plain, BOMBUS_ERROR_FORMAT, "model's dtype F16");
    struct bb_safetensors_entry matrix = {.name = "model.layers.0.self_attn.q_proj.weight",
                                          .dtype = BB_F32,
                                          .rank = 2,
                                          .shape = {64, 64},
                                          .data = numbers,
                                          .size = sizeof numbers};
    check_refused(&quantized, FULL_CONFIG, &matrix, 1, &plain, BOMBUS_ERROR_UNSUPPORTED,
                  "'model.layers.0.self_attn.q_proj.weight' is quantized in ");
    matrix.name = "model.layers.0.self_attn.q_proj.scales";
    check_refused(&quantized, FULL_CONFIG, &matrix, 1, &plain, BOMBUS_ERROR_UNSUPPORTED, "is quantized in ");
    struct bb_safetensors_entry two[2] = {entry, entry};
    two[1].name = "model.norm.weight";
    check_refused(&opened, FULL_CONFIG, two, 2, &(struct bb_fuse_options){.progress = stop}, BOMBUS_ERROR_CANCELLED,
                  "after 1 of 2 tensors");
    scratch_text("there/config.json", "{}");
    assert_int_equal(bb_fuse_full(opened.model, scratch_path("full"), scratch_path("there"), &plain, &report, &error),
                     BOMBUS_ERROR_ARGUMENT);
    assert_int_equal(bb_fuse_full(opened.model, scratch_path("none"), scratch_path("new"), &plain, &report, &error),
                     BOMBUS_ERROR_NOT_FOUND);
    /* At run time it is refused with what to do first. */
    struct bb_adapter *adapter;
    char command[700];
    assert_int_equal(bb_adapter_open(&adapter, opened.model, scratch_path("full"), NULL, &error),
                     BOMBUS_ERROR_UNSUPPORTED);
    snprintf(command, sizeof command, "bombus fuse -m its/model -a %s --save-path OUT", scratch_path("full"));
    assert_non_null(strstr(error.message, command));
    close_model(&quantized);
    close_model(&opened);
}

/* A stack of experts and one of them alone are two values for one tensor. */
static void test_twice(void **state)
{
    (void)state;
    struct opened opened;
    OPEN_OR_SKIP(opened, "mixtral-hf-names", 1);
    bb_trainable_free(make_full(&opened, 1));
    struct bb_safetensors file;
    struct bb_safetensors_entry entries[64];
    bombus_error error;
    CHECK_OK(bb_safetensors_open(&file, scratch_path("full/adapters.safetensors"), &error), error);
    assert_true(file.count < BB_COUNT(entries));
    memcpy(entries, file.entries, file.count * sizeof *entries);
    for (size_t i = 0; i < file.count; i++)
        if (strstr(entries[i].name, "switch_mlp.up_proj") != NULL) {
            struct bb_safetensors_entry *one = &entries[file.count];
            *one = entries[i];
            one->name = "model.layers.1.block_sparse_moe.experts.1.w3.weight";
            one->rank = 2;
            one->shape[0] = one->shape[1];
            one->shape[1] = one->shape[2];
            one->size /= 3;
        }
    scratch_remove(scratch_path("kept"));
    assert_int_equal(rename(scratch_path("full"), scratch_path("kept")), 0); /* the file is mapped */
    check_refused(&opened, FULL_CONFIG, entries, file.count + 1, &plain, BOMBUS_ERROR_FORMAT, "is there twice");
    bb_safetensors_close(&file);
    close_model(&opened);
}

/* A folder with config.json is complete, wherever memory ends. */
static void test_memory(void **state)
{
    (void)state;
    struct opened opened;
    bombus_error error;
    OPEN_OR_SKIP(opened, "mixtral-hf-names", 1);
    bb_trainable_free(make_full(&opened, 1));
    scratch_remove(scratch_path("memory"));
    bool is_done = false;
    for (uint64_t at = 1; !is_done; at++) {
        struct bb_fuse_report report;
        bb_memory_fail_at(at, false);
        bombus_status status =
            bb_fuse_full(opened.model, scratch_path("full"), scratch_path("memory"), &plain, &report, &error);
        bb_memory_fail_at(0, false);
        bb_fuse_report_clear(&report);
        is_done = status == BOMBUS_OK;
        assert_true(is_done || status == BOMBUS_ERROR_MEMORY);
        assert_true(bb_file_exists(scratch_path("memory/config.json")) == is_done);
    }
    close_model(&opened);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models), cmocka_unit_test(test_report), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_twice),  cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
