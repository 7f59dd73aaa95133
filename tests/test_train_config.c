/* mlx_lm's YAML settings. */
#include "scratch.h"
#include "train/train_config.h"

static bombus_status parse(struct bb_train_config *config, const char *text, bombus_error *error)
{
    bb_train_config_init(config);
    return bb_train_config_parse(config, text, strlen(text), "c.yaml", error);
}

/* The file that the posts project was trained with, but for paths. */
static void test_posts_file(void **state)
{
    (void)state;
    const char *path = scratch_text("posts.yaml", "model: \"lmstudio-community/Qwen3-8B-MLX-4bit\"\n"
                                                  "train: true\n"
                                                  "data: \"data\"\n"
                                                  "adapter_path: \"adapters/posts\"\n"
                                                  "batch_size: 1\n"
                                                  "grad_accumulation_steps: 8\n"
                                                  "iters: 25000\n"
                                                  "learning_rate: 1e-5\n"
                                                  "max_seq_length: 256\n"
                                                  "save_every: 2500\n"
                                                  "steps_per_report: 500\n"
                                                  "steps_per_eval: 2500\n"
                                                  "mask_prompt: true\n"
                                                  "seed: 42\n"
                                                  "num_layers: 16\n"
                                                  "lora_parameters:\n"
                                                  "  rank: 8\n"
                                                  "  dropout: 0.0\n"
                                                  "  scale: 20.0\n");
    struct bb_train_config config;
    bombus_error error;
    bb_train_config_init(&config);
    CHECK_OK(bb_train_config_read(&config, path, &error), error);
    assert_string_equal(config.model, "lmstudio-community/Qwen3-8B-MLX-4bit");
    assert_string_equal(config.options.data, "data");
    assert_string_equal(config.options.adapter_path, "adapters/posts");
    assert_true(config.train && config.options.mask_prompt && !config.test);
    assert_int_equal(config.options.batch_size, 1);
    assert_int_equal(config.options.grad_accumulation_steps, 8);
    assert_int_equal(config.options.iters, 25000);
    assert_true(config.options.learning_rate == 1e-5);
    assert_int_equal(config.options.max_seq_length, 256);
    assert_int_equal(config.options.save_every, 2500);
    assert_int_equal(config.options.steps_per_report, 500);
    assert_int_equal(config.options.steps_per_eval, 2500);
    assert_int_equal(config.options.seed, 42);
    assert_int_equal(config.options.num_layers, 16);
    assert_int_equal(config.options.rank, 8);
    assert_true(config.options.dropout == 0.0 && config.options.scale == 20.0);
    assert_null(config.options.keys);
    assert_int_equal(config.options.val_batches, 25); /* what the file does not say is mlx_lm's default */
    assert_int_equal(config.options.optimizer, BOMBUS_ADAM);
    assert_int_equal(config.options.schedule.part_count, 0);
    bb_train_config_clear(&config);
}

static void test_all_sections(void **state)
{
    (void)state;
    struct bb_train_config config;
    bombus_error error;
    CHECK_OK(parse(&config,
                   "optimizer: AdamW\n"
                   "fine_tune_type: dora\n"
                   "training_mode: orpo\n"
                   "optimizer_config:\n"
                   "  adam: {}\n"
                   "  adamw: {betas: [0.9, 0.98], eps: 1e-6, weight_decay: 0.05, bias_correction: true}\n"
                   "  muon: {momentum: .9, ns_steps: 6}\n"
                   "  sgd:\n    momentum: 0.8\n    nesterov: yes\n"
                   "  adafactor: {}\n"
                   "resume_adapter_file: null\n"
                   "report_to: wandb\nproject_name: x\nclear_cache_threshold: 0\n"
                   "iters: 1_000\n"
                   "lora_parameters:\n  keys: [\"self_attn.q_proj\", 'mlp.down_proj']\n  rank: 16\n"
                   "lr_schedule:\n  name: cosine_decay\n  warmup: 100\n  warmup_init: 1e-7\n  arguments: [1e-5, 1000, 1e-7]\n"
                   "prompt_feature: input\n",
                   &error),
             error);
    assert_int_equal(config.options.optimizer, BOMBUS_ADAMW);
    assert_int_equal(config.options.fine_tune, BOMBUS_FINE_TUNE_DORA);
    assert_int_equal(config.options.mode, BOMBUS_TRAIN_ORPO);
    const bombus_optimizer_options *adamw = &config.optimizers[BOMBUS_ADAMW];
    assert_true(adamw->beta1 == 0.9 && adamw->beta2 == 0.98 && adamw->eps == 1e-6 && adamw->weight_decay == 0.05);
    assert_true(adamw->bias_correction);
    assert_false(config.optimizers[BOMBUS_ADAM].bias_correction);
    const bombus_optimizer_options *muon = &config.optimizers[BOMBUS_MUON];
    assert_true(muon->momentum == 0.9 && muon->ns_steps == 6 && muon->nesterov && muon->weight_decay == 0.01);
    assert_true(config.optimizers[BOMBUS_SGD].nesterov);
    assert_null(config.options.resume_adapter_file);
    assert_int_equal(config.ignored_count, 3);
    assert_string_equal(config.ignored[0], "report_to");
    assert_int_equal(config.options.iters, 1000);
    assert_int_equal(config.options.key_count, 2);
    assert_string_equal(config.options.keys[1], "mlp.down_proj");
    assert_int_equal(config.options.rank, 16);
    assert_true(config.options.scale == 20.0);
    assert_string_equal(config.options.prompt_feature, "input");
    const bombus_schedule *schedule = &config.options.schedule;
    assert_int_equal(schedule->part_count, 1);
    assert_int_equal(schedule->parts[0].kind, BOMBUS_COSINE_DECAY);
    assert_int_equal(schedule->warmup, 100);
    assert_true(schedule->warmup_init == 1e-7 && schedule->parts[0].arguments[0] == 1e-5);
    assert_true(schedule->parts[0].arguments[1] == 1000 && schedule->parts[0].arguments[2] == 1e-7);
    bb_train_config_clear(&config);

    CHECK_OK(parse(&config,
                   "lr_schedule:\n  name: join_schedules\n  schedules:\n"
                   "  - {name: linear_schedule, arguments: [0, 1e-4, 100]}\n"
                   "  - {name: step_decay, arguments: [1e-4, 0.9, 10]}\n"
                   "  - {name: exponential_decay, arguments: [1e-4, 0.99]}\n  boundaries: [100, 200]\n",
                   &error),
             error);
    assert_int_equal(config.options.schedule.part_count, 3);
    assert_int_equal(config.options.schedule.parts[1].kind, BOMBUS_STEP_DECAY);
    assert_int_equal(config.options.schedule.boundaries[1], 200);
    bb_train_config_clear(&config);
}

/* The options that a file gives: of the chosen optimizer, and what mlx_lm means by its numbers. */
static void test_options(void **state)
{
    (void)state;
    struct bb_train_config config;
    bombus_error error;
    CHECK_OK(parse(&config,
                   "train: false\ntest: true\nshuffle: false\nnum_layers: 0\nmodel: m\noptimizer: adamw\n"
                   "optimizer_config: {adamw: {weight_decay: 0.5}}\n",
                   &error),
             error);
    bombus_train_options options = bb_train_config_options(&config);
    assert_true(options.optimizer == BOMBUS_ADAMW && options.has_optimizer_options);
    assert_true(options.optimizer_options.weight_decay == 0.5 && options.optimizer_options.beta2 == 0.999);
    assert_true(options.no_shuffle);
    assert_int_equal(options.test_batches, 500);
    assert_int_equal(options.num_layers, -1); /* all */
    assert_string_equal(options.model_name, "m");
    assert_int_equal(config.ignored_count, 1);
    assert_string_equal(config.ignored[0], "train: false");
    bb_train_config_clear(&config);
    CHECK_OK(parse(&config, "test_batches: 3\n", &error), error);
    assert_int_equal(bb_train_config_options(&config).test_batches, 0); /* no test is wanted */
    assert_int_equal(config.ignored_count, 0);
    bb_train_config_clear(&config);
}

static void test_wrong_files(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
        bombus_status status;
    } cases[] = {
        {"iters: 5\nlearning_rat: 1\n", "c.yaml: line 2: unknown key 'learning_rat'; did you mean 'learning_rate'?", 5},
        {"lora_parameters:\n  alpha: 16\n", "c.yaml: line 2: unknown key 'alpha' in lora_parameters", 5},
        {"iters: 1.5\n", "c.yaml: line 1: 'iters' must be a whole number, not 1.5", 5},
        {"iters: ten\n", "c.yaml: line 1: 'iters' must be a whole number, not ten", 5},
        {"iters: \"10\"\n", "c.yaml: line 1: 'iters' must be a whole number, not 10", 5},
        {"learning_rate: \"1e-5\"\n", "c.yaml: line 1: 'learning_rate' must be a number, not 1e-5", 5},
        {"batch_size: 0\n", "c.yaml: line 1: 'batch_size' must be within 1 and 1048576, not 0", 5},
        {"train: maybe\n", "c.yaml: line 1: 'train' must be true or false, not maybe", 5},
        {"model: 5\n", "c.yaml: line 1: 'model' must be a text, not 5", 5},
        {"model: [a]\n", "c.yaml: line 1: 'model' must be a text, not a list or a map", 5},
        {"fine_tune_type: qlora\n", "c.yaml: line 1: 'fine_tune_type' must be one of lora, dora, full, not qlora", 5},
        {"hf_dataset: {path: x}\n",
         "c.yaml: line 1: 'hf_dataset' is not supported: download the data set and name its folder as data", 6},
        {"optimizer: adafactor\n",
         "c.yaml: line 1: optimizer: adafactor is not supported; there are adam, adamw, sgd and muon", 6},
        {"lr_schedule: {name: cosine, arguments: [1, 2]}\n",
         "c.yaml: line 1: 'name' must be one of cosine_decay, linear_schedule, exponential_decay, step_decay and "
         "join_schedules, not cosine",
         5},
        {"lr_schedule: {name: step_decay, arguments: [1, 2]}\n",
         "c.yaml: line 1: 'arguments' must be [init, decay_rate, step_size], not a list or a map", 5},
        {"- a\n", "c.yaml: line 1: 'the file' must be a map of keys to values, not a list or a map", 5},
        {"", "c.yaml: there are no settings in it", 5},
        {"iters: 5\n---\niters: 6\n", "c.yaml: more than one YAML document", 5},
        /* what would mean a default or nothing here */
        {"learning_rate: 0\n", "c.yaml: line 1: 'learning_rate' must be within 1e-30 and 1000000, not 0", 5},
        {"lora_parameters: {scale: 0}\n", "c.yaml: line 1: 'scale' must be other than 0, with which nothing is learnt, not 0", 5},
        {"val_batches: 0\n", "c.yaml: line 1: 'val_batches' must be a count of batches, or -1 for all, not 0", 5},
        {"test: true\ntest_batches: 0\n",
         "c.yaml: line 2: 'test_batches' must be a count of batches, or -1 for all, not 0", 5},
        {"beta: 0\n", "c.yaml: line 1: 'beta' must be within 1e-09 and 1000000, not 0", 5},
        {"lr_schedule: {name: cosine_decay, arguments: [1, 2], boundaries: [1]}\n",
         "c.yaml: line 1: unknown key 'boundaries' in lr_schedule", 5},
        {"lr_schedule:\n  name: join\n  arguments: [1]\n  schedules: [{name: exponential_decay, arguments: [1, 1]}]\n",
         "c.yaml: line 3: unknown key 'arguments' in lr_schedule", 5},
        {"lr_schedule:\n  name: join\n  schedules:\n  - {name: exponential_decay, arguments: [1, 1], warmup: 9}\n",
         "c.yaml: line 4: unknown key 'warmup' in schedules", 5},
        {"optimizer_config: {adam: {betas: [1, 2]}}\n",
         "c.yaml: line 1: 'betas' must be numbers from 0 to below 1, not 1", 5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct bb_train_config config;
        bombus_error error;
        assert_int_equal(parse(&config, cases[i].text, &error), cases[i].status);
        assert_string_equal(error.message, cases[i].message);
        assert_int_equal(config.options.iters, 1000); /* as before */
        bb_train_config_clear(&config);
    }
    struct bb_train_config config;
    bombus_error error;
    assert_int_equal(parse(&config, "a: [1\nb: {", &error), BOMBUS_ERROR_FORMAT);
    assert_int_equal(error.line, 2);
    assert_int_equal(parse(&config, "a: &a [*a]\n", &error), BOMBUS_ERROR_FORMAT);
    assert_int_equal(bb_train_config_read(&config, "/nowhere/x.yaml", &error), BOMBUS_ERROR_NOT_FOUND);
    bb_train_config_clear(&config);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    static const char text[] = "model: m\ndata: d\nlora_parameters: {keys: [a, b]}\n";
    for (uint64_t n = 1;; n++) {
        struct bb_train_config config;
        bombus_error error;
        bb_train_config_init(&config);
        bb_memory_fail_at(n, false);
        bombus_status status = bb_train_config_parse(&config, text, sizeof text - 1, "c.yaml", &error);
        bb_memory_fail_at(0, false);
        bb_train_config_clear(&config);
        if (status == BOMBUS_OK) {
            assert_true(n > 1);
            break;
        }
        assert_int_equal(status, BOMBUS_ERROR_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_posts_file), cmocka_unit_test(test_all_sections),
                                       cmocka_unit_test(test_options),   cmocka_unit_test(test_wrong_files), cmocka_unit_test(test_allocation_failures)};
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
