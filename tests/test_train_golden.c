/* Training against mlx-lm's own traces: losses and learning rates of 20 steps, adapters after 1, 5 and 20, the test loss behind them. */
#include "files/safetensors.h"
#include "scratch.h"

#include <jansson.h>

enum { STEPS = 20 };

struct trace {
    const char *name;
    json_t *json;
    double losses[STEPS], rates[STEPS], test_loss;
    int64_t steps;
};

static bool hear(void *context, const bombus_train_event *event)
{
    struct trace *trace = context;
    if (event->type == BOMBUS_TRAIN_STEP) {
        assert_in_range(event->iteration, 1, STEPS);
        trace->losses[event->iteration - 1] = event->loss;
        trace->rates[event->iteration - 1] = event->learning_rate;
        trace->steps++;
    }
    if (event->type == BOMBUS_TRAIN_TEST)
        trace->test_loss = event->loss;
    return true;
}

static double number(const json_t *object, const char *key, double fallback)
{
    const json_t *value = json_object_get(object, key);
    return json_is_number(value) ? json_number_value(value) : fallback;
}

/* The tensors "`prefix`NAME" of the trace as a file that training can begin with. */
static void write_initial(const struct bb_safetensors *tensors, const char *path)
{
    static const char prefix[] = "adapter.init.";
    struct bb_safetensors_entry entries[256];
    size_t count = 0;
    bombus_error error;
    for (size_t i = 0; i < tensors->count; i++) {
        if (strncmp(tensors->entries[i].name, prefix, sizeof prefix - 1) != 0)
            continue;
        assert_true(count < BB_COUNT(entries));
        entries[count] = tensors->entries[i];
        entries[count++].name += sizeof prefix - 1;
    }
    assert_true(count > 0);
    CHECK_OK(bb_safetensors_write(path, entries, count, NULL, 0, &error), error);
}

static void check_adapter(const struct bb_safetensors *tensors, const char *folder, int step, double tolerance)
{
    char path[600], name[256];
    struct bb_safetensors file;
    bombus_error error;
    snprintf(path, sizeof path, "%s/%07d_adapters.safetensors", folder, step);
    CHECK_OK(bb_safetensors_open(&file, path, &error), error);
    assert_true(file.count > 0);
    for (size_t i = 0; i < file.count; i++) {
        snprintf(name, sizeof name, "adapter.step%d.%s", step, file.entries[i].name);
        const struct bb_safetensors_entry *expected = bb_safetensors_find(tensors, name);
        if (expected == NULL)
            fail_msg("%s is not in the trace", name);
        assert_int_equal(expected->size, file.entries[i].size);
        float *values = malloc(expected->size), *found = malloc(expected->size);
        memcpy(values, expected->data, expected->size);
        memcpy(found, file.entries[i].data, expected->size);
        check_near(found, values, expected->size / sizeof(float), tolerance, name, __FILE__, __LINE__);
        free(values);
        free(found);
    }
    bb_safetensors_close(&file);
}

static void set_optimizer(bombus_train_options *options, const json_t *json)
{
    static const char *const names[] = {"adam", "adamw", "sgd", "muon"};
    const char *name = json_string_value(json_object_get(json, "optimizer"));
    for (int i = 0; i < (int)BB_COUNT(names); i++) {
        if (strcmp(name, names[i]) == 0)
            options->optimizer = (bombus_optimizer)i;
    }
    const json_t *config = json_object_get(json, "optimizer_config");
    options->has_optimizer_options = true;
    options->optimizer_options = bombus_optimizer_defaults(options->optimizer);
    options->optimizer_options.bias_correction = json_is_true(json_object_get(config, "bias_correction"));
    options->optimizer_options.weight_decay = number(config, "weight_decay", options->optimizer_options.weight_decay);
    options->optimizer_options.momentum = number(config, "momentum", options->optimizer_options.momentum);
    const json_t *schedule = json_object_get(json, "lr_schedule");
    options->learning_rate = number(json, "learning_rate", 0.0);
    if (schedule == NULL)
        return;
    assert_string_equal(json_string_value(json_object_get(schedule, "name")), "cosine_decay");
    options->schedule = (bombus_schedule){.part_count = 1, .parts = {{.kind = BOMBUS_COSINE_DECAY}}};
    options->schedule.warmup = (int64_t)number(schedule, "warmup", 0.0);
    options->schedule.warmup_init = number(schedule, "warmup_init", 0.0);
    for (size_t i = 0; i < 3; i++)
        options->schedule.parts[0].arguments[i] =
            json_number_value(json_array_get(json_object_get(schedule, "arguments"), i));
}

static void check_trace(const struct trace *trace, const struct bb_safetensors *tensors, const char *folder, bool is_bf16)
{
    const json_t *losses = json_object_get(trace->json, "losses");
    const json_t *rates = json_object_get(trace->json, "learning_rate_reported");
    /* On a bfloat16 model mlx's products multiply and add in bfloat16, whose rounding is 4e-3 of a value: its own losses there are up to 2.4e-2 away from
     * those of the same run on the f32 model (text-adam-b1-qv). Ours are computed in f32, so they can be no nearer. */
    const double tolerance = is_bf16 ? 3e-2 : 1e-4;
    double worst = 0.0;
    assert_int_equal(trace->steps, STEPS);
    for (size_t i = 0; i < STEPS; i++) {
        double expected = json_number_value(json_array_get(losses, i));
        worst = fmax(worst, fabs(trace->losses[i] - expected));
        if (!(fabs(trace->losses[i] - expected) <= tolerance))
            fail_msg("%s: loss of step %zu is %.7f, expected %.7f", trace->name, i + 1, trace->losses[i], expected);
        double rate = json_number_value(json_array_get(rates, i));
        if (!(fabs(trace->rates[i] - rate) <= 1e-6 * rate))
            fail_msg("%s: learning rate of step %zu is %.9g, expected %.9g", trace->name, i + 1, trace->rates[i], rate);
    }
    double test_loss = json_number_value(json_object_get(trace->json, "test_loss_after"));
    print_message("  %s: losses within %.1e, test loss within %.1e\n", trace->name, worst, fabs(trace->test_loss - test_loss));
    assert_true(fabs(trace->test_loss - test_loss) <= tolerance);
    /* Adam's first updates are the gradients' signs, and bf16 turns small ones: what mlx's own run on the bfloat16 model has
     * learnt differs from its f32 run's by 0.43 of its length after 1 step, 0.23 after 20. Nothing to compare entry by entry;
     * test_backward.c compares the first gradients. */
    const int steps[] = {1, 5, 20};
    for (size_t i = 0; !is_bf16 && i < BB_COUNT(steps); i++)
        check_adapter(tensors, folder, steps[i], 1e-4);
}

static void run(const bombus_train_options *options, const char *model_folder)
{
    bombus_model *model;
    bombus_tokenizer *tokenizer;
    bombus_template *template_;
    bombus_trainer *trainer;
    bombus_train_result result;
    bombus_error error;
    CHECK_OK(bombus_model_open(&model, model_folder, NULL, &error), error);
    CHECK_OK(bombus_tokenizer_open(&tokenizer, model_folder, NULL, &error), error);
    CHECK_OK(bombus_template_open(&template_, model_folder, NULL, &error), error);
    CHECK_OK(bombus_trainer_create(&trainer, model, tokenizer, template_, options, &error), error);
    CHECK_OK(bombus_trainer_run(trainer, &result, &error), error);
    bombus_trainer_free(trainer);
    bombus_template_free(template_);
    bombus_tokenizer_close(tokenizer);
    bombus_model_close(model);
}

/* Traces were evaluated by mlx-lm's evaluate() as it is called without a length, at 2,048 tokens, also where training had cut its examples. So the last
 * adapter is evaluated once more, behind a step too small to move it. */
static double evaluate_whole(bombus_train_options options, const char *model_folder)
{
    struct trace trace = {.test_loss = (double)NAN};
    char last[600], folder[600];
    snprintf(last, sizeof last, "%s/adapters.safetensors", options.adapter_path);
    snprintf(folder, sizeof folder, "%s-whole", options.adapter_path);
    options.resume_adapter_file = last;
    options.adapter_path = folder;
    options.max_seq_length = 2048;
    options.iters = 1;
    options.learning_rate = 1e-30;
    options.context = &trace;
    run(&options, model_folder);
    return trace.test_loss;
}

/* Trains as the trace says. */
static void run_case(const char *name)
{
    char path[256], data[512], folder[512], initial[512], model_folder[512];
    const char *keys[16];
    struct trace trace = {.name = name, .test_loss = (double)NAN};
    struct bb_safetensors tensors;
    bombus_error error;
    snprintf(path, sizeof path, "lora/train/%s/train.json", name);
    trace.json = json_load_file(golden_path(path), 0, NULL);
    assert_non_null(trace.json);
    snprintf(path, sizeof path, "lora/train/%s/tensors.safetensors", name);
    CHECK_OK(bb_safetensors_open(&tensors, golden_path(path), &error), error);
    snprintf(path, sizeof path, "models/%s", json_string_value(json_object_get(trace.json, "base")));
    snprintf(model_folder, sizeof model_folder, "%s", golden_path(path));
    snprintf(path, sizeof path, "lora/data/%s", json_string_value(json_object_get(trace.json, "data")));
    snprintf(data, sizeof data, "%s", golden_path(path));
    snprintf(folder, sizeof folder, "%s/%s", scratch_folder, name);
    snprintf(initial, sizeof initial, "%s/%s.init.safetensors", scratch_folder, name);
    write_initial(&tensors, initial);
    const json_t *lora = json_object_get(trace.json, "lora_parameters"), *listed = json_object_get(lora, "keys");
    bombus_train_options options = {
        .data = data,
        .adapter_path = folder,
        .resume_adapter_file = initial,
        .fine_tune = json_is_true(json_object_get(trace.json, "dora")) ? BOMBUS_FINE_TUNE_DORA : BOMBUS_FINE_TUNE_LORA,
        .num_layers = (int32_t)number(trace.json, "num_layers", 0),
        .rank = (int32_t)number(lora, "rank", 0),
        .scale = number(lora, "scale", 0),
        .iters = STEPS,
        .batch_size = (int32_t)number(trace.json, "batch_size", 0),
        .grad_accumulation_steps = (int32_t)number(trace.json, "grad_accumulation_steps", 1),
        .max_seq_length = (int32_t)number(trace.json, "max_seq_length", 2048),
        .mask_prompt = json_is_true(json_object_get(trace.json, "mask_prompt")),
        .mlx_compatible = true,
        .has_precision = true,
        .precision = BOMBUS_PRECISION_EXACT,
        .seed = (uint64_t)number(trace.json, "seed", 0),
        .steps_per_eval = -1,
        .save_every = 1,
        .test_batches = -1,
        .callback = hear,
        .context = &trace,
    };
    for (size_t i = 0; i < json_array_size(listed); i++)
        keys[i] = json_string_value(json_array_get(listed, i));
    options.keys = json_array_size(listed) > 0 ? keys : NULL;
    options.key_count = json_array_size(listed);
    set_optimizer(&options, trace.json);
    run(&options, model_folder);
    if (json_object_get(trace.json, "max_seq_length") != NULL)
        trace.test_loss = evaluate_whole(options, model_folder);
    check_trace(&trace, &tensors, folder, strstr(name, "bf16") != NULL);
    bb_safetensors_close(&tensors);
    json_decref(trace.json);
}

static void test_case(void **state)
{
    SKIP_WITHOUT_GOLDEN(golden_path("lora/train"));
    run_case(*state);
}

#define CASE(case_name) {.name = case_name, .test_func = test_case, .initial_state = (void *)(uintptr_t)(case_name)}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE("text-adam-b1"),
        CASE("text-adam-b1-qv"),
        CASE("text-adam-b1-bf16"),
        CASE("text-adam-biascorr-b1"),
        CASE("text-adamw-b2"),
        CASE("text-dora-adam-b1"),
        CASE("text-sgd-b1"),
        CASE("text-trunc64-adam-b2"),
        CASE("completions-mask-adam-b2"),
        CASE("completions-nomask-adam-b2"),
        CASE("chat-mask-adamw-b1-cosine"),
        CASE("chat-nomask-adam-b2-accum3"),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
