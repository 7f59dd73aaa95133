/* The backward pass of whole models: against mlx-lm's recorded losses and gradients, against finite differences, and against itself. */
#include "test.h"

#include "gradient_fixture.h"

/* ---- mlx-lm's traces ---- */

static json_t *load_case(const char *name)
{
    char path[160];
    snprintf(path, sizeof path, "lora/train/%s/train.json", name);
    const char *found = golden_path(path);
    return found != NULL ? json_load_file(found, 0, NULL) : NULL;
}

static void open_case_file(struct bb_safetensors *file, const char *name, const char *which)
{
    char path[160];
    bombus_error error;
    snprintf(path, sizeof path, "lora/train/%s/%s.safetensors", name, which);
    CHECK_OK(bb_safetensors_open(file, golden_path(path), &error), error);
}

/* Memory's layout of a tensor of a file. */
static void load_parameter(const struct bb_parameter *parameter, const struct bb_safetensors_entry *entry, float *out)
{
    assert_non_null(entry);
    assert_int_equal(entry->size, parameter->count * sizeof(float));
    const int64_t rows = parameter->rank == 2 ? parameter->shape[0] : 1, cols = parameter->shape[parameter->rank - 1];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++)
            out[parameter->is_transposed ? c * rows + r : r * cols + c] = bb_dtype_load(entry->data, entry->dtype, (size_t)(r * cols + c));
}

/* The first batch with mlx-lm's loss: the mean over targets s with offset <= s <= length, one of padding included. */
static void load_batch(struct step_batch *batch, const struct bb_safetensors *file, const struct bb_adapter_set *set)
{
    const struct bb_safetensors_entry *tokens = bb_safetensors_find(file, "batch.0.tokens"), *lengths = bb_safetensors_find(file, "batch.0.lengths");
    const int32_t width = (int32_t)tokens->shape[1];
    int32_t counted = 0;
    for (int64_t i = 0; i < tokens->shape[0]; i++) {
        int32_t row[FIXTURE_ROWS], length[2]; /* files align nothing */
        const int32_t first = batch->batch.row_count;
        memcpy(row, (const char *)tokens->data + (size_t)(i * width) * sizeof *row, (size_t)width * sizeof *row);
        memcpy(length, (const char *)lengths->data + (size_t)i * sizeof length, sizeof length);
        add_sequence(batch, row, width, set);
        for (int32_t s = 1; s < width; s++) {
            bool counts = s >= length[0] && s <= length[1];
            counted += counts;
            if (!counts)
                batch->targets[first + s - 1] = -1;
        }
    }
    for (int32_t i = 0; i < batch->batch.row_count; i++)
        batch->weights[i] = 1.0f / (float)counted;
}

static void check_gradients(const struct bb_trainable *trainable, const struct bb_safetensors *file, const char *name, double tolerance)
{
    for (size_t i = 0; i < trainable->parameter_count; i++) {
        const struct bb_parameter *parameter = &trainable->parameters[i];
        char entry[256], what[512];
        snprintf(entry, sizeof entry, "grad.step1.%s", parameter->name);
        float *expected = malloc(parameter->count * sizeof *expected), largest = 0.0f;
        load_parameter(parameter, bb_safetensors_find(file, entry), expected);
        for (size_t k = 0; k < parameter->count; k++)
            largest = fmaxf(largest, fabsf(expected[k]));
        snprintf(what, sizeof what, "%s: %s", name, parameter->name);
        check_near(parameter->gradient, expected, parameter->count, tolerance * (double)largest, what, __FILE__, __LINE__);
        free(expected);
    }
}

static void run_case(const char *name, bool is_exact, double loss_tolerance, double gradient_tolerance)
{
    json_t *json = load_case(name), *parameters = json_object_get(json, "lora_parameters"), *keys = json_object_get(parameters, "keys"), *key;
    const char *folder = golden_model(json_string_value(json_object_get(json, "base"))), *names[16];
    struct bb_backend *backend;
    struct bb_model *model;
    struct bb_trainable *trainable;
    struct bb_safetensors tensors, batches;
    bombus_error error;
    size_t index;
    struct step_batch *batch = calloc(1, sizeof *batch);
    CHECK_OK(bb_backend_open(&backend, "cpu", &(struct bb_backend_options){.thread_count = 2}, &error), error);
    CHECK_OK(bb_model_open(&model, folder, backend, &error), error);
    struct bb_trainable_options options = {.type = json_is_true(json_object_get(json, "dora")) ? BB_FINE_TUNE_DORA : BB_FINE_TUNE_LORA,
                                           .num_layers = (int32_t)json_integer_value(json_object_get(json, "num_layers")),
                                           .rank = (int32_t)json_integer_value(json_object_get(parameters, "rank")),
                                           .scale = (float)json_real_value(json_object_get(parameters, "scale")),
                                           .key_count = json_array_size(keys)};
    json_array_foreach(keys, index, key) names[index] = json_string_value(key);
    options.keys = keys != NULL ? names : NULL;
    CHECK_OK(bb_trainable_create(&trainable, model, &options, &error), error);
    open_case_file(&tensors, name, "tensors");
    open_case_file(&batches, name, "batches");
    assert_int_equal(trainable->parameter_count, json_array_size(json_object_get(json, "trainable")));
    for (size_t i = 0; i < trainable->parameter_count; i++) {
        char entry[256];
        snprintf(entry, sizeof entry, "adapter.init.%s", trainable->parameters[i].name);
        load_parameter(&trainable->parameters[i], bb_safetensors_find(&tensors, entry), trainable->parameters[i].value);
    }
    CHECK_OK(bb_trainable_refresh(trainable, &error), error);
    load_batch(batch, &batches, trainable->set);
    struct bb_backward *backward = open_backward(trainable, backend, is_exact, false);
    run_step(backward, batch);
    double expected = json_real_value(json_array_get(json_object_get(json, "losses"), 0));
    if (fabs(sum_nll(batch) - expected) > loss_tolerance)
        fail_msg("%s: loss %.7f, expected %.7f", name, sum_nll(batch), expected);
    check_gradients(trainable, &tensors, name, gradient_tolerance);
    bb_backward_free(backward);
    bb_trainable_free(trainable);
    bb_safetensors_close(&tensors);
    bb_safetensors_close(&batches);
    bb_model_close(model);
    bb_backend_close(backend);
    json_decref(json);
    free(batch);
}

static void test_golden(void **state)
{
    (void)state;
    static const char *const names[] = {"text-adam-b1",
                                        "text-adam-b1-qv",
                                        "text-adam-biascorr-b1",
                                        "text-adamw-b2",
                                        "text-dora-adam-b1",
                                        "text-sgd-b1",
                                        "text-trunc64-adam-b2",
                                        "chat-mask-adamw-b1-cosine",
                                        "chat-nomask-adam-b2-accum3",
                                        "completions-mask-adam-b2",
                                        "completions-nomask-adam-b2"};
    SKIP_WITHOUT_GOLDEN(golden_path("lora/train/text-adam-b1/train.json"));
    for (size_t i = 0; i < BB_COUNT(names); i++)
        run_case(names[i], true, 1e-4, 1e-3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),
    };
    return cmocka_run_group_tests_name("backward", tests, NULL, NULL);
}
