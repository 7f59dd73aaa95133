/* Adapters in other files: fused into models, converted, merged. */
#include "adapter_fixture.h"
#include "base/memory.h"
#include "convert/adapter_convert.h"
#include "convert/fuse.h"
#include "quant/affine.h"
#include "quant/quant_modes.h"

static const char mlx_fixture[] = "tests/fixtures/adapters/mlx-lora",
                  peft_fixture[] = "tests/fixtures/adapters/peft-rslora";

/* Fuses adapters into the scratch folder `name` and gives the survival of all. */
static double fuse(const struct opened *opened, struct bb_adapter *const *adapters, const float *weights, size_t count,
                   const char *name, struct bb_fuse_options options)
{
    struct bb_adapter_choice *choice;
    struct bb_fuse_report report;
    bombus_error error;
    scratch_remove(scratch_path(name));
    CHECK_OK(bb_adapter_choice_create(&choice, opened->model, adapters, weights, count, &error), error);
    CHECK_OK(bb_fuse(opened->model, bb_adapter_choice_set(choice), scratch_path(name), &options, &report, &error),
             error);
    double survival = report.survival;
    assert_true(report.count > 0);
    for (size_t i = 0; i < report.count; i++) {
        assert_true(report.results[i].survival >= 0.0 && report.results[i].survival <= 1.0);
        assert_non_null(report.results[i].path);
    }
    bb_fuse_report_clear(&report);
    bb_adapter_choice_free(choice);
    return survival;
}

/* Worst difference from saved logits of the fused model, and their root mean square. */
static double compare_fused(const char *folder, const char *kind, double *rms)
{
    struct opened opened;
    char path[128];
    snprintf(path, sizeof path, "lora/fused/fused-lora-qv-r4-last2-%s.reference.safetensors", kind);
    assert_non_null(folder);
    open_folder(&opened, folder, 2);
    struct bb_session *session = create(&opened, true);
    struct parity_difference difference =
        compare(session, golden_path("reference/qwen3-4bit/reference.json"), golden_path(path));
    *rms = parity_rms(&difference);
    bb_session_free(session);
    close_model(&opened);
    return difference.max_abs;
}

/* Sum of squares of W' - (W + D) over all that the adapter changes. */
static double distance(const struct opened *opened, const struct bb_adapter *adapter, const char *folder)
{
    struct opened fused;
    double sum = 0.0;
    assert_non_null(folder);
    open_folder(&fused, folder, 2);
    for (int32_t slot = 0; slot < adapter->slot_count; slot++) {
        const struct bb_low_rank *pair = &adapter->pairs[slot];
        if (pair->rank == 0)
            continue;
        const struct bb_weight *weight = &opened->model->slots[slot]->weight;
        float *before = malloc((size_t)weight->cols * sizeof *before),
              *after = malloc((size_t)weight->cols * sizeof *after);
        for (int64_t i = 0; i < weight->rows; i++) {
            bb_quant_unpack_row(weight, i, before);
            bb_quant_unpack_row(&fused.model->slots[slot]->weight, i, after);
            for (int64_t k = 0; k < weight->cols; k++) {
                double target = (double)before[k];
                for (int32_t r = 0; r < pair->rank; r++)
                    target +=
                        (double)pair->scale *
                        (double)bb_packed_load(&pair->packed_b, bb_packed_place(&pair->packed_b, pair->rank, r, i)) *
                        (double)bb_packed_load(&pair->packed_a, bb_packed_place(&pair->packed_a, pair->rank, r, k));
                sum += ((double)after[k] - target) * ((double)after[k] - target);
            }
        }
        free(before);
        free(after);
    }
    close_model(&fused);
    return sum;
}

static void test_golden(void **state)
{
    (void)state;
    struct opened opened;
    const float one = 1.0f;
    const char *found = golden_path("lora/fused/fused-lora-qv-r4-last2-4bit");
    char theirs[512];
    SKIP_WITHOUT_GOLDEN(found);
    snprintf(theirs, sizeof theirs, "%s", found);
    assert_true(open_model(&opened, "qwen3-4bit", 2));
    struct bb_adapter *adapter = open_adapter(&opened, mlx_fixture);
    double rms, ours, mlx;
    assert_true(compare_fused(theirs, "4bit", &rms) <= 1e-3);
    fuse(&opened, &adapter, &one, 1, "dense", (struct bb_fuse_options){.is_dequantized = true});
    double dense = compare_fused(scratch_path("dense"), "dequantized", &rms);
    if (!(dense <= 0.1 && rms <= 0.02)) /* both round to bf16, sums in another order */
        fail_msg("bf16: logits differ by %g, rms %g", dense, rms);
    fuse(&opened, &adapter, &one, 1, "quantized", (struct bb_fuse_options){0});
    compare_fused(scratch_path("quantized"), "dequantized", &rms);
    ours = distance(&opened, adapter, scratch_path("quantized"));
    mlx = distance(&opened, adapter, theirs);
    print_message("4 bits: weights are off by %g of what mlx-lm's are (squares), logits by rms %g\n", ours / mlx, rms);
    assert_true(ours < mlx && rms <= 0.1);
    bb_adapter_close(adapter);
    close_model(&opened);
}

/* The fused model's logits are those of model and adapter, to a share of what the adapter changes. */
static void check_model(const char *name, bool is_dora, struct bb_fuse_options options, double share)
{
    enum { ROWS = 20 };
    struct opened opened, fused;
    struct golden_ids prompt;
    bombus_error error;
    const float weights[] = {0.8f, 0.5f};
    struct bb_adapter *adapters[2];
    assert_true(open_model(&opened, name, 2));
    assert_true(golden_ids(&prompt, name, "long"));
    for (size_t i = 0; i < prompt.count; i++)
        prompt.ids[i] %= opened.model->recipe.vocab_size;
    make_adapter(opened.model, "first", false);
    make_adapter(opened.model, "second", is_dora);
    adapters[0] = open_adapter(&opened, scratch_path("first"));
    adapters[1] = open_adapter(&opened, scratch_path("second"));
    fuse(&opened, adapters, weights, 2, "fused", options);
    open_folder(&fused, scratch_path("fused"), 2);
    struct bb_session *session = create(&opened, true), *other = create(&fused, true);
    float *plain = all_logits(session, &prompt, ROWS);
    CHECK_OK(bb_session_set_adapters(session, adapters, weights, 2, &error), error);
    float *expected = all_logits(session, &prompt, ROWS), *actual = all_logits(other, &prompt, ROWS);
    size_t entries = ROWS * (size_t)opened.model->recipe.vocab_size;
    double gap = worst_difference(actual, expected, entries), change = worst_difference(plain, expected, entries);
    if (!(gap <= share * change))
        fail_msg("%s: logits differ by %g, where the adapters change them by %g", name, gap, change);
    free(plain);
    free(expected);
    free(actual);
    bb_session_free(session);
    bb_session_free(other);
    bb_adapter_close(adapters[0]);
    bb_adapter_close(adapters[1]);
    close_model(&opened);
    close_model(&fused);
}

static void test_models(void **state)
{
    (void)state;
    static const char *const models[] = {"llama-linear",     "gemma2",           "mixtral",
                                         "mixtral-hf-names", "qwen3_moe-sparse", "gpt_oss"};
    for (size_t i = 0; i < BB_COUNT(models); i++)
        check_model(models[i], true, (struct bb_fuse_options){.is_dequantized = true}, 0.1);
    check_model("llama-linear", false, (struct bb_fuse_options){.bits = 8}, 0.1);
    SKIP_WITHOUT_GOLDEN(golden_model("phi3-4bit"));
    check_model("phi3-4bit", true, (struct bb_fuse_options){.bits = 8}, 0.1);
    check_model("qwen3-untied-sharded-4bit", false, (struct bb_fuse_options){.bits = 8}, 0.1);
    check_model("qwen3-mxfp8", false, (struct bb_fuse_options){.is_dequantized = true}, 0.1);
}

/* What is smaller than the grid's steps is lost, and the report says so; more bits keep more. */
static void test_report(void **state)
{
    (void)state;
    struct opened opened;
    const float full = 1.0f, little = 0.02f;
    SKIP_WITHOUT_GOLDEN(golden_model("qwen3-4bit"));
    assert_true(open_model(&opened, "qwen3-4bit", 2));
    struct bb_adapter *adapter = open_adapter(&opened, mlx_fixture);
    assert_true(fuse(&opened, &adapter, &full, 1, "fused", (struct bb_fuse_options){0}) > 0.9);
    double lost = fuse(&opened, &adapter, &little, 1, "fused", (struct bb_fuse_options){0});
    double kept = fuse(&opened, &adapter, &little, 1, "fused", (struct bb_fuse_options){.bits = 8});
    if (!(lost < 0.3 && kept > 0.7))
        fail_msg("of a small change %g survives in 4 bits, %g in 8", lost, kept);
    bb_adapter_close(adapter);
    close_model(&opened);
}

static void test_refused(void **state)
{
    (void)state;
    struct opened opened;
    struct bb_fuse_report report;
    struct bb_adapter_choice *choice;
    bombus_error error;
    const float one = 1.0f;
    assert_true(open_model(&opened, "llama-linear", 2));
    make_adapter(opened.model, "first", false);
    struct bb_adapter *adapter = open_adapter(&opened, scratch_path("first"));
    CHECK_OK(bb_adapter_choice_create(&choice, opened.model, &adapter, &one, 1, &error), error);
    scratch_text("there/config.json", "{}");
    assert_int_equal(bb_fuse(opened.model, bb_adapter_choice_set(choice), scratch_path("there"),
                             &(struct bb_fuse_options){0}, &report, &error),
                     BOMBUS_ERROR_ARGUMENT);
    assert_int_equal(bb_fuse(opened.model, bb_adapter_choice_set(choice), scratch_path("new"),
                             &(struct bb_fuse_options){.bits = 7}, &report, &error),
                     BOMBUS_ERROR_ARGUMENT);
    assert_int_equal(bb_fuse(opened.model, NULL, scratch_path("new"), &(struct bb_fuse_options){0}, &report, &error),
                     BOMBUS_ERROR_ARGUMENT);
    bool is_done = false;
    for (uint64_t at = 1; !is_done; at++) { /* a folder with config.json is complete */
        char path[600];
        bb_memory_fail_at(at, false);
        bombus_status status = bb_fuse(opened.model, bb_adapter_choice_set(choice), scratch_path("memory"),
                                       &(struct bb_fuse_options){0}, &report, &error);
        bb_memory_fail_at(0, false);
        bb_fuse_report_clear(&report);
        is_done = status == BOMBUS_OK;
        assert_true(is_done || status == BOMBUS_ERROR_MEMORY);
        snprintf(path, sizeof path, "%s/config.json", scratch_path("memory"));
        assert_true(bb_file_exists(path) == is_done);
    }
    bb_adapter_choice_free(choice);
    bb_adapter_close(adapter);
    close_model(&opened);
}

/* A nearest row is never farther than MLX's own, and what is on the original's grid stays there. */
static void test_nearest(void **state)
{
    (void)state;
    enum { COLS = 256 };
    static const struct bb_scheme schemes[] = {{BB_QUANT_AFFINE, 2, 32}, {BB_QUANT_AFFINE, 3, 64},
                                               {BB_QUANT_AFFINE, 4, 64}, {BB_QUANT_AFFINE, 5, 128},
                                               {BB_QUANT_AFFINE, 6, 64}, {BB_QUANT_AFFINE, 8, 32}};
    float row[COLS], plain[COLS], nearest[COLS];
    for (size_t s = 0; s < BB_COUNT(schemes); s++)
        for (uint64_t seed = 0; seed < 20; seed++) {
            uint8_t codes[2][COLS];
            uint16_t scales[2][COLS / 32], biases[2][COLS / 32];
            double plain_error = 0.0, nearest_error = 0.0;
            for (size_t i = 0; i < COLS; i++)
                row[i] = seed == 0 ? 0.25f : number(seed, i);
            struct bb_packed_row packed[2];
            struct bb_weight weights[2];
            for (int k = 0; k < 2; k++) {
                packed[k] = (struct bb_packed_row){
                    .codes = codes[k], .scales = scales[k], .biases = biases[k], .dtype = BB_BF16};
                weights[k] = (struct bb_weight){.data = codes[k],
                                                .scales = scales[k],
                                                .biases = biases[k],
                                                .dtype = BB_BF16,
                                                .scheme = schemes[s],
                                                .rows = 1,
                                                .cols = COLS};
            }
            bb_quant_affine.pack_row(schemes[s], row, COLS, packed[0]);
            bb_affine_pack_nearest(schemes[s], row, COLS, NULL, 0, packed[1]);
            bb_quant_unpack_row(&weights[0], 0, plain);
            bb_quant_unpack_row(&weights[1], 0, nearest);
            for (size_t i = 0; i < COLS; i++) {
                plain_error += pow((double)(plain[i] - row[i]), 2.0);
                nearest_error += pow((double)(nearest[i] - row[i]), 2.0);
            }
            assert_true(nearest_error <= plain_error + 1e-12);
            bb_affine_pack_nearest(schemes[s], plain, COLS, &weights[0], 0, packed[1]);
            bb_quant_unpack_row(&weights[1], 0, nearest);
            assert_memory_equal(nearest, plain, sizeof plain);
        }
}

/* ---- conversion ---- */

/* Every tensor of one folder is in the other, to the bit. */
static void check_same_tensors(const char *first, const char *second, const char *file)
{
    struct bb_safetensors tensors[2];
    char path[600];
    bombus_error error;
    snprintf(path, sizeof path, "%s/%s", first, file);
    CHECK_OK(bb_safetensors_open(&tensors[0], path, &error), error);
    snprintf(path, sizeof path, "%s/%s", second, file);
    CHECK_OK(bb_safetensors_open(&tensors[1], path, &error), error);
    assert_int_equal(tensors[0].count, tensors[1].count);
    for (size_t i = 0; i < tensors[0].count; i++) {
        const struct bb_safetensors_entry *a = &tensors[0].entries[i], *b = bb_safetensors_find(&tensors[1], a->name);
        assert_non_null(b);
        assert_int_equal(a->dtype, b->dtype);
        assert_int_equal(a->size, b->size);
        assert_memory_equal(a->shape, b->shape, (size_t)a->rank * sizeof a->shape[0]);
        assert_memory_equal(a->data, b->data, a->size);
    }
    bb_safetensors_close(&tensors[0]);
    bb_safetensors_close(&tensors[1]);
}

/* A path in the scratch folder where nothing is: an adapter is not written over another. */
static const char *fresh(const char *name)
{
    scratch_remove(scratch_path(name));
    return scratch_path(name);
}

static void check_round_trip(const char *folder)
{
    bombus_error error;
    CHECK_OK(bb_adapter_convert(folder, BB_ADAPTER_PEFT, fresh("peft"), &error), error);
    CHECK_OK(bb_adapter_convert(scratch_path("peft"), BB_ADAPTER_MLX, fresh("mlx"), &error), error);
    check_same_tensors(folder, scratch_path("mlx"), "adapters.safetensors");
    struct bb_adapter_file before, after;
    CHECK_OK(bb_adapter_file_open(&before, folder, &error), error);
    CHECK_OK(bb_adapter_file_open(&after, scratch_path("mlx"), &error), error);
    assert_true(before.modules[0].scale == after.modules[0].scale && before.is_dora == after.is_dora &&
                before.dropout == after.dropout);
    bb_adapter_file_close(&before);
    bb_adapter_file_close(&after);
}

/* Logits of a model with the adapter in a folder. */
static float *logits_with(const struct opened *opened, const struct golden_ids *prompt, const char *folder, size_t rows)
{
    struct bb_adapter *adapter = open_adapter(opened, folder);
    struct bb_session *session = create(opened, true);
    set(session, adapter, 1.0f);
    float *logits = all_logits(session, prompt, rows);
    bb_session_free(session);
    bb_adapter_close(adapter);
    return logits;
}

/* Stacks of experts, one after the other alone and back; embeddings, tied and not; and the same logits to the bit. */
static void check_all_kinds(const char *model)
{
    enum { ROWS = 9 };
    struct opened opened;
    struct golden_ids prompt;
    assert_true(open_model(&opened, model, 2));
    assert_true(golden_ids(&prompt, model, NULL));
    for (size_t i = 0; i < prompt.count; i++)
        prompt.ids[i] %= opened.model->recipe.vocab_size;
    make_adapter(opened.model, "first", false);
    check_round_trip(scratch_path("first"));
    float *expected = logits_with(&opened, &prompt, scratch_path("first"), ROWS);
    float *actual = logits_with(&opened, &prompt, scratch_path("peft"), ROWS);
    assert_memory_equal(actual, expected, ROWS * (size_t)opened.model->recipe.vocab_size * sizeof *actual);
    free(expected);
    free(actual);
    close_model(&opened);
}

/* Both ways, with the nth allocation failing. */
static void check_convert_memory(const char *model)
{
    const enum bb_adapter_format formats[] = {BB_ADAPTER_PEFT, BB_ADAPTER_MLX};
    struct opened opened;
    bombus_error error;
    assert_true(open_model(&opened, model, 2));
    make_adapter(opened.model, "first", false);
    for (int i = 0; i < 2; i++)
        for (uint64_t n = 1;; n++) {
            const char *target = fresh(i == 0 ? "peft" : "mlx");
            bb_memory_fail_at(n, false);
            bombus_status status =
                bb_adapter_convert(scratch_path(i == 0 ? "first" : "peft"), formats[i], target, &error);
            bb_memory_fail_at(0, false);
            if (status == BOMBUS_OK)
                break;
            assert_int_equal(status, BOMBUS_ERROR_MEMORY);
        }
    close_model(&opened);
}

static void check_unconvertible(const char *name, const char *model, bool is_dora, const char *words)
{
    struct opened opened;
    bombus_error error;
    assert_true(open_model(&opened, model, 2));
    make_adapter(opened.model, "first", is_dora);
    bombus_status status = bb_adapter_convert(scratch_path("first"), BB_ADAPTER_PEFT, scratch_path("never"), &error);
    if (status != BOMBUS_ERROR_UNSUPPORTED || strstr(error.message, words) == NULL)
        fail_msg("%s: %s: '%s' has no '%s'", name, bombus_status_name(status), error.message, words);
    assert_false(bb_folder_exists(scratch_path("never")));
    close_model(&opened);
}

/* A pair each of some modules in PEFT's format. */
static void write_peft(const char *const *paths, size_t count, const char *a, const char *b, const char *config)
{
    struct bb_safetensors_entry entries[16];
    char names[16][128];
    static const float values[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    bombus_error error;
    assert_true(2 * count <= BB_COUNT(entries));
    for (size_t i = 0; i < 2 * count; i++) {
        snprintf(names[i], sizeof names[i], "base_model.model.%s.%s", paths[i / 2], i % 2 == 0 ? a : b);
        entries[i] = (struct bb_safetensors_entry){
            .name = names[i], .dtype = BB_F32, .rank = 2, .shape = {4, 4}, .data = values, .size = sizeof values};
    }
    scratch_remove(scratch_path("peft"));
    scratch_text("peft/adapter_config.json", config);
    CHECK_OK(bb_safetensors_write(scratch_path("peft/adapter_model.safetensors"), entries, 2 * count, NULL, 0, &error),
             error);
}

static void check_peft_refused(bombus_status expected, const char *words)
{
    bombus_error error;
    bombus_status status = bb_adapter_convert(scratch_path("peft"), BB_ADAPTER_MLX, scratch_path("never"), &error);
    if (status != expected || strstr(error.message, words) == NULL)
        fail_msg("%s, expected %s: '%s' has no '%s'", bombus_status_name(status), bombus_status_name(expected),
                 error.message, words);
    assert_false(bb_folder_exists(scratch_path("never")));
}

static void test_convert_kinds(void **state)
{
    static const char *const experts[] = {"model.layers.0.mlp.experts.2.up_proj",
                                          "model.layers.0.mlp.experts.0.up_proj"};
    static const char *const twice[] = {"model.layers.0.mlp.experts.0.up_proj",
                                        "model.layers.0.mlp.experts.00.up_proj"};
    static const char *const lookup[] = {"model.embed_tokens"};
    static const char *const models[] = {"mixtral", "qwen3_moe-sparse", "gemma2", "olmo2"};
    const char *a = "lora_A.weight", *b = "lora_B.weight";
    (void)state;
    for (size_t i = 0; i < BB_COUNT(models); i++)
        check_all_kinds(models[i]);
    check_convert_memory("qwen3_moe-sparse");
    check_unconvertible("experts", "gpt_oss", false, "switch_mlp");
    check_unconvertible("DoRA", "gemma2", true, "embedding with DoRA");
    write_peft(experts, 2, a, b, "{\"r\": 4}");
    check_peft_refused(BOMBUS_ERROR_UNSUPPORTED, "expert 1 is missing");
    write_peft(twice, 2, a, b, "{\"r\": 4}");
    check_peft_refused(BOMBUS_ERROR_FORMAT, "there twice");
    write_peft(lookup, 1, "lora_embedding_A", "lora_embedding_B", "{\"r\": 4}");
    check_peft_refused(BOMBUS_ERROR_UNSUPPORTED, "ensure_weight_tying");
    bombus_error error;
    write_peft(lookup, 1, "lora_embedding_A", "lora_embedding_B", "{\"r\": 4, \"ensure_weight_tying\": true}");
    CHECK_OK(bb_adapter_convert(scratch_path("peft"), BB_ADAPTER_MLX, fresh("mlx"), &error), error);
    CHECK_OK(bb_adapter_convert(scratch_path("mlx"), BB_ADAPTER_PEFT, fresh("again"), &error), error);
    check_same_tensors(scratch_path("peft"), scratch_path("again"), "adapter_model.safetensors");
}

/* Beside a pair PEFT stores the embedding's own weight, which says nothing; a weight without a pair is a stranger. */
static void test_base_weight(void **state)
{
    static const char *const names[] = {
        "base_model.model.model.embed_tokens.lora_embedding_A", "base_model.model.model.embed_tokens.lora_embedding_B",
        "base_model.model.model.embed_tokens.base_layer.weight", "base_model.model.lm_head.base_layer.weight"};
    static const float values[16] = {0.5f};
    struct bb_safetensors_entry entries[4];
    struct bb_adapter_file file;
    bombus_error error;
    (void)state;
    for (int i = 0; i < 4; i++)
        entries[i] = (struct bb_safetensors_entry){
            .name = names[i], .dtype = BB_F32, .rank = 2, .shape = {4, 4}, .data = values, .size = sizeof values};
    scratch_remove(scratch_path("peft"));
    scratch_text("peft/adapter_config.json", "{\"r\": 4}");
    for (size_t count = 3; count <= 4; count++) {
        CHECK_OK(bb_safetensors_write(scratch_path("peft/adapter_model.safetensors"), entries, count, NULL, 0, &error),
                 error);
        bombus_status status = bb_adapter_file_open(&file, scratch_path("peft"), &error);
        assert_int_equal(status, count == 3 ? BOMBUS_OK : BOMBUS_ERROR_FORMAT);
        if (status == BOMBUS_OK)
            assert_true(file.module_count == 1 && file.parameter_count == 32);
        else
            assert_non_null(strstr(error.message, "lm_head"));
        bb_adapter_file_close(&file);
    }
}

static void test_convert(void **state)
{
    (void)state;
    bombus_error error;
    struct bb_adapter_file file;
    check_round_trip(mlx_fixture);
    /* The fixtures are one adapter in two formats. */
    CHECK_OK(bb_adapter_convert(peft_fixture, BB_ADAPTER_MLX, fresh("mlx"), &error), error);
    check_same_tensors(mlx_fixture, scratch_path("mlx"), "adapters.safetensors");
    /* Nothing is written over an adapter: neither the one that is read, however its folder is spelt, nor another. */
    static const char *const targets[] = {"mlx", "mlx/", "peft/."};
    for (size_t i = 0; i < BB_COUNT(targets); i++)
        for (int merges = 0; merges < 2; merges++) {
            const char *const from[] = {scratch_path("mlx")}, *target = scratch_path(targets[i]);
            bombus_status status = merges ? bb_adapter_merge(from, (const float[]){1.0f}, 1, target, &error)
                                          : bb_adapter_convert(from[0], BB_ADAPTER_PEFT, target, &error);
            assert_int_equal(status, BOMBUS_ERROR_ARGUMENT);
            assert_non_null(strstr(error.message, "there is an adapter already"));
        }
    check_same_tensors(mlx_fixture, scratch_path("mlx"), "adapters.safetensors");
    CHECK_OK(bb_adapter_file_open(&file, scratch_path("mlx"), &error), error);
    bb_adapter_file_close(&file);
    SKIP_WITHOUT_GOLDEN(golden_path("lora/adapters"));
    check_round_trip(golden_path("lora/adapters/dora-r4"));
    check_round_trip(golden_path("lora/adapters/lora-bf16-r16-mlp"));
    CHECK_OK(bb_adapter_convert(golden_path("lora/adapters/dora-r4"), BB_ADAPTER_PEFT, fresh("dora"), &error),
             error);
    check_same_tensors(golden_path("lora/adapters/peft-dora-r4"), scratch_path("dora"), "adapter_model.safetensors");
}

/* One merged adapter gives the logits of the sum. */
static void test_merge(void **state)
{
    (void)state;
    enum { ROWS = 12 };
    static const char *const models[] = {"llama-linear", "mixtral", "gemma2"};
    for (size_t m = 0; m < BB_COUNT(models); m++) {
        struct opened opened;
        struct golden_ids prompt;
        bombus_error error;
        const float weights[] = {0.6f, -1.5f};
        struct bb_adapter *adapters[2], *merged;
        assert_true(open_model(&opened, models[m], 2));
        assert_true(golden_ids(&prompt, models[m], NULL));
        for (size_t i = 0; i < prompt.count; i++)
            prompt.ids[i] %= opened.model->recipe.vocab_size;
        make_adapter(opened.model, "first", false);
        make_adapter(opened.model, "second", false);
        const char *folders[] = {scratch_path("first"), scratch_path("second")};
        CHECK_OK(bb_adapter_merge(folders, weights, 2, fresh("merged"), &error), error);
        adapters[0] = open_adapter(&opened, folders[0]);
        adapters[1] = open_adapter(&opened, folders[1]);
        merged = open_adapter(&opened, scratch_path("merged"));
        struct bb_session *session = create(&opened, true);
        CHECK_OK(bb_session_set_adapters(session, adapters, weights, 2, &error), error);
        float *expected = all_logits(session, &prompt, ROWS);
        set(session, merged, 1.0f);
        float *actual = all_logits(session, &prompt, ROWS);
        check_near(actual, expected, ROWS * (size_t)opened.model->recipe.vocab_size, 1e-4, models[m], __FILE__,
                   __LINE__);
        free(expected);
        free(actual);
        bb_session_free(session);
        bb_adapter_close(adapters[0]);
        bb_adapter_close(adapters[1]);
        bb_adapter_close(merged);
        close_model(&opened);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),        cmocka_unit_test(test_models),      cmocka_unit_test(test_report),
        cmocka_unit_test(test_refused),       cmocka_unit_test(test_nearest),     cmocka_unit_test(test_convert),
        cmocka_unit_test(test_convert_kinds), cmocka_unit_test(test_base_weight), cmocka_unit_test(test_merge),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
