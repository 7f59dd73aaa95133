/* Training in its modes on tiny models: adapters of each kind, optimizers, packing, preferences, full fine-tuning, settings from YAML, hostile input. */
#include "adapters.h"
#include "base/buffer.h"
#include "files/safetensors.h"
#include "process.h"

#include <jansson.h>

#define QUANTIZED "qwen3-yarn-mixed"
#define UNQUANTIZED "qwen2-f16"

enum { STEPS = 12, LINES = 6 };

static bombus_tokenizer *tokenizer;
static bombus_template *template_;

/* ---- a tokenizer of letters, a template, data ---- */

static void add_lines(struct bb_buffer *text, size_t count, bool is_pair)
{
    static const char *const words[] = {"fox", "moon", "river", "stone", "a", "the", "sings", "waits"};
    for (size_t i = 0; i < count; i++) {
        bb_buffer_add_text(text, is_pair ? "{\"prompt\": \"who sings\", \"chosen\": \"" : "{\"text\": \"");
        for (size_t word = 0; word < 2 + i % 4; word++)
            bb_buffer_format(text, "%s ", words[(i * 5 + word * 3) % BB_COUNT(words)]);
        if (is_pair)
            bb_buffer_format(text, "\", \"rejected\": \"no %s ", words[i % BB_COUNT(words)]);
        bb_buffer_add_text(text, "\"}\n");
    }
}

static void write_lines(const char *name, size_t count, bool is_pair)
{
    struct bb_buffer text = {0};
    add_lines(&text, count, is_pair);
    scratch_write(name, text.data, text.length);
    bb_buffer_clear(&text);
}

/* A model folder: the fixture's files, with a vocabulary of 29 beside them. */
static void make_folder(const char *fixture)
{
    static const char *const files[] = {"config.json", "model.safetensors"};
    char name[128], from[512];
    struct bb_buffer text = {0};
    bb_buffer_add_text(&text, "{\"added_tokens\": [{\"id\": 0, \"content\": \"<end>\", \"special\": true, \"normalized\": false,"
                              " \"single_word\": false, \"lstrip\": false, \"rstrip\": false}],"
                              " \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"use_regex\": true},"
                              " \"decoder\": {\"type\": \"ByteLevel\"},"
                              " \"model\": {\"type\": \"BPE\", \"merges\": [], \"vocab\": {\"<end>\": 0, \"\\u0120\": 1, \"\\u010a\": 2");
    for (int i = 0; i < 26; i++)
        bb_buffer_format(&text, ", \"%c\": %d", 'a' + i, 3 + i);
    bb_buffer_add_text(&text, "}}}");
    snprintf(name, sizeof name, "%s/tokenizer.json", fixture);
    scratch_write(name, text.data, text.length);
    bb_buffer_clear(&text);
    snprintf(name, sizeof name, "%s/tokenizer_config.json", fixture);
    scratch_text(name, "{\"eos_token\": \"<end>\"}");
    snprintf(name, sizeof name, "%s/chat_template.jinja", fixture);
    scratch_text(name, "{% for message in messages %}{{ message.role }} {{ message.content }}\n{% endfor %}"
                       "{% if add_generation_prompt %}assistant {% endif %}");
    for (size_t i = 0; i < BB_COUNT(files); i++) {
        char *data;
        size_t size;
        bombus_error error;
        snprintf(from, sizeof from, "tests/fixtures/models/%s/%s", fixture, files[i]);
        CHECK_OK(bb_file_read(&data, &size, from, (size_t)1 << 30, &error), error);
        snprintf(name, sizeof name, "%s/%s", fixture, files[i]);
        scratch_write(name, data, size);
        bb_release(data);
    }
}

static int setup(void **state)
{
    bombus_error error;
    if (scratch_setup(state) != 0)
        return -1;
    scratch_environment();
    make_folder(QUANTIZED);
    make_folder(UNQUANTIZED);
    write_lines("texts/train.jsonl", LINES, false);
    write_lines("pairs/train.jsonl", LINES, true);
    CHECK_OK(bombus_tokenizer_open(&tokenizer, scratch_path(QUANTIZED), NULL, &error), error);
    CHECK_OK(bombus_template_open(&template_, scratch_path(QUANTIZED), NULL, &error), error);
    return 0;
}

static int teardown(void **state)
{
    bombus_template_free(template_);
    bombus_tokenizer_close(tokenizer);
    return scratch_teardown(state);
}

/* ---- one training ---- */

struct trained {
    double losses[64];
    int64_t targets[64], count, total;
    char begin[600], last_line[600]; /* what was said of the data */
    bombus_status status;
    bombus_error error;
};

static bool hear(void *context, const bombus_train_event *event)
{
    struct trained *trained = context;
    if (event->type == BOMBUS_TRAIN_BEGIN)
        snprintf(trained->begin, sizeof trained->begin, "%s", event->text != NULL ? event->text : "");
    if (event->type == BOMBUS_TRAIN_LINE)
        snprintf(trained->last_line, sizeof trained->last_line, "%s", event->text);
    if (event->type != BOMBUS_TRAIN_STEP)
        return true;
    assert_in_range(trained->count, 0, BB_COUNT(trained->losses) - 1);
    trained->losses[trained->count] = event->loss;
    trained->targets[trained->count] = event->trained_tokens - trained->total;
    trained->total = event->trained_tokens;
    trained->count++;
    return true;
}

/* Trains on all of the data at once, unless the options say otherwise, into the scratch folder `adapter`. */
static struct trained train(const char *model_name, const char *data, const char *adapter, bombus_train_options options, int32_t threads)
{
    struct trained trained = {0};
    bombus_model *model;
    bombus_trainer *trainer = NULL;
    options.data = scratch_path(data);
    options.adapter_path = scratch_path(adapter);
    options.force = true;
    options.num_layers = -1;
    options.rank = options.rank == 0 ? 4 : options.rank;
    options.scale = options.scale == 0.0 ? 4.0 : options.scale;
    options.batch_size = options.batch_size == 0 ? LINES : options.batch_size;
    options.iters = options.iters == 0 ? STEPS : options.iters;
    options.max_seq_length = options.max_seq_length == 0 ? 64 : options.max_seq_length;
    options.learning_rate = options.learning_rate == 0.0 ? 0.02 : options.learning_rate;
    options.steps_per_eval = -1;
    options.no_shuffle = true;
    options.has_precision = true;
    options.precision = BOMBUS_PRECISION_EXACT;
    options.callback = hear;
    options.context = &trained;
    CHECK_OK(bombus_model_open(&model, scratch_path(model_name), &(bombus_model_options){.thread_count = threads}, &trained.error), trained.error);
    trained.status = bombus_trainer_create(&trainer, model, tokenizer, template_, &options, &trained.error);
    if (trained.status == BOMBUS_OK)
        trained.status = bombus_trainer_run(trainer, NULL, &trained.error);
    bombus_trainer_free(trainer);
    bombus_model_close(model);
    return trained;
}

static struct trained train_well(const char *model_name, const char *data, const char *adapter, bombus_train_options options, int32_t threads)
{
    struct trained trained = train(model_name, data, adapter, options, threads);
    CHECK_OK(trained.status, trained.error);
    return trained;
}

/* Largest difference of any weight of two adapters in the scratch folder. */
static double compare(const char *one, const char *other)
{
    return adapters_distance(scratch_path(one), scratch_path(other));
}

/* ---- kinds of adapters, regularization, optimizers ---- */

/* Each learns, differs from plain LoRA with Adam where it should, and gives the same bits with two threads. */
static void test_variants(void **state)
{
    (void)state;
    static const struct {
        const char *name, *model;
        bool is_like_plain;
        bombus_train_options options;
    } cases[] = {
        {.name = "plain", .model = QUANTIZED, .is_like_plain = true},
        {.name = "kept", .model = QUANTIZED, .is_like_plain = true, .options = {.keep_activations = true}},
        {.name = "rslora", .model = QUANTIZED, .options = {.use_rslora = true}},
        {.name = "dora", .model = QUANTIZED, .options = {.fine_tune = BOMBUS_FINE_TUNE_DORA}},
        {.name = "dropout", .model = QUANTIZED, .options = {.dropout = 0.2}},
        {.name = "neftune", .model = QUANTIZED, .options = {.neftune_alpha = 2.0}},
        {.name = "clipped", .model = QUANTIZED, .options = {.max_grad_norm = 0.01, .optimizer = BOMBUS_SGD, .learning_rate = 4.0}},
        {.name = "sgd", .model = QUANTIZED, .options = {.optimizer = BOMBUS_SGD, .learning_rate = 0.05}},
        {.name = "adamw", .model = QUANTIZED, .options = {.optimizer = BOMBUS_ADAMW}},
        {.name = "muon", .model = QUANTIZED, .options = {.optimizer = BOMBUS_MUON, .learning_rate = 0.05}},
        {.name = "on-f16", .model = UNQUANTIZED},
        {.name = "full", .model = UNQUANTIZED, .options = {.fine_tune = BOMBUS_FINE_TUNE_FULL, .learning_rate = 0.001}},
    };
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        struct trained trained = train_well(cases[i].model, "texts", cases[i].name, cases[i].options, 1);
        print_message("  %s: loss %.3f to %.3f\n", cases[i].name, trained.losses[0], trained.losses[STEPS - 1]);
        assert_int_equal(trained.count, STEPS);
        if (!(trained.losses[STEPS - 1] < 0.9 * trained.losses[0]))
            fail_msg("%s: the loss goes from %g to %g", cases[i].name, trained.losses[0], trained.losses[STEPS - 1]);
        train_well(cases[i].model, "texts", "again", cases[i].options, 2);
        if (compare(cases[i].name, "again") != 0.0)
            fail_msg("%s: two threads give other bits", cases[i].name);
        if (strcmp(cases[i].model, QUANTIZED) == 0 && cases[i].options.fine_tune == BOMBUS_FINE_TUNE_LORA &&
            (compare("plain", cases[i].name) == 0.0) != cases[i].is_like_plain)
            fail_msg("%s: the adapter should be %s that of a plain run", cases[i].name, cases[i].is_like_plain ? "" : "other than");
    }
}

/* rsLoRA is LoRA with the scale divided by the root of the rank, and the file says that scale: mlx-lm knows no other. */
static void test_rslora(void **state)
{
    (void)state;
    train_well(QUANTIZED, "texts", "stabilized", (bombus_train_options){.use_rslora = true, .rank = 4, .scale = 8.0}, 1);
    train_well(QUANTIZED, "texts", "divided", (bombus_train_options){.rank = 4, .scale = 4.0}, 1);
    assert_true(compare("stabilized", "divided") == 0.0);
    json_t *json = json_load_file(scratch_path("stabilized/adapter_config.json"), 0, NULL);
    assert_true(json_number_value(json_object_get(json_object_get(json, "lora_parameters"), "scale")) == 4.0);
    json_decref(json);
}

/* ---- packing ---- */

/* One packed batch is all examples: the loss is the mean over all their targets, and an update that of as many micro-batches of one. */
static void test_packing(void **state)
{
    (void)state;
    const bombus_train_options common = {.optimizer = BOMBUS_SGD, .learning_rate = 0.5};
    bombus_train_options packed = common, single = common;
    packed.packing = true;
    packed.iters = 1;
    single.batch_size = 1;
    single.iters = single.grad_accumulation_steps = LINES;
    struct trained together = train_well(QUANTIZED, "texts", "packed", packed, 1);
    struct trained apart = train_well(QUANTIZED, "texts", "single", single, 1);
    double sum = 0.0;
    assert_int_equal(apart.count, LINES);
    for (int64_t i = 0; i < apart.count; i++)
        sum += apart.losses[i] * (double)apart.targets[i];
    assert_int_equal(together.targets[0], apart.total);
    assert_true(fabs(together.losses[0] - sum / (double)apart.total) < 1e-5);
    assert_true(compare("packed", "single") < 1e-5);
}

/* ---- preferences ---- */

static void test_preferences(void **state)
{
    (void)state;
    /* Before the first update policy and reference are one: -ln sigmoid(0), 1 - 0, (0 - 1 / (2 * 0.1))^2. With dropout too: lora_b is 0. */
    static const struct {
        const char *name;
        double first; /* 0: not known */
        bombus_train_options options;
    } cases[] = {
        {"dpo", 0.69314718056, {.mode = BOMBUS_TRAIN_DPO}},
        {"dpo-dropout", 0.69314718056, {.mode = BOMBUS_TRAIN_DPO, .dropout = 0.3}},
        {"dpo-smoothed", 0.69314718056, {.mode = BOMBUS_TRAIN_DPO, .label_smoothing = 0.1}},
        {"dpo-dora", 0.69314718056, {.mode = BOMBUS_TRAIN_DPO, .fine_tune = BOMBUS_FINE_TUNE_DORA}},
        {"hinge", 1.0, {.mode = BOMBUS_TRAIN_DPO, .dpo_loss = BOMBUS_DPO_HINGE}},
        {"ipo", 25.0, {.mode = BOMBUS_TRAIN_DPO, .dpo_loss = BOMBUS_DPO_IPO}},
        {"orpo", 0.0, {.mode = BOMBUS_TRAIN_ORPO}},
        {"orpo-dropout", 0.0, {.mode = BOMBUS_TRAIN_ORPO, .dropout = 0.1}},
        {"orpo-full", 0.0, {.mode = BOMBUS_TRAIN_ORPO, .fine_tune = BOMBUS_FINE_TUNE_FULL, .learning_rate = 0.001}},
    };
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        const char *model = cases[i].options.fine_tune == BOMBUS_FINE_TUNE_FULL ? UNQUANTIZED : QUANTIZED;
        struct trained trained = train_well(model, "pairs", cases[i].name, cases[i].options, 1);
        const double first = trained.losses[0], last = trained.losses[STEPS - 1];
        print_message("  %s: loss %.4f to %.4f\n", cases[i].name, first, last);
        if (cases[i].first > 0.0 && !(fabs(first - cases[i].first) < 2e-3 * cases[i].first))
            fail_msg("%s: the first loss is %.9g, expected %.9g", cases[i].name, first, cases[i].first);
        if (!(last < 0.85 * first))
            fail_msg("%s: the loss goes from %g to %g", cases[i].name, first, last);
    }
}

/* ---- full fine-tuning ---- */

static void test_full(void **state)
{
    (void)state;
    const bombus_train_options options = {.fine_tune = BOMBUS_FINE_TUNE_FULL, .learning_rate = 0.001};
    struct trained refused = train(QUANTIZED, "texts", "refused", options, 1);
    assert_int_equal(refused.status, BOMBUS_ERROR_UNSUPPORTED);
    assert_non_null(strstr(refused.error.message, "is quantized"));
    struct trained trained = train_well(UNQUANTIZED, "texts", "whole", options, 1);
    struct bb_safetensors file, base;
    bombus_error error;
    CHECK_OK(bb_safetensors_open(&file, scratch_path("whole/adapters.safetensors"), &error), error);
    CHECK_OK(bb_safetensors_open(&base, "tests/fixtures/models/" UNQUANTIZED "/model.safetensors", &error), error);
    for (size_t i = 0; i < file.count; i++) /* the model's own names and shapes */
        assert_non_null(bb_safetensors_find(&base, file.entries[i].name));
    assert_non_null(bb_safetensors_find(&file, "model.layers.1.mlp.down_proj.weight"));
    assert_non_null(bb_safetensors_find(&file, "model.layers.0.self_attn.q_proj.bias"));
    bb_safetensors_close(&base);
    bb_safetensors_close(&file);
    bombus_train_options more = options;
    char begin[128];
    snprintf(begin, sizeof begin, "%s/whole/adapters.safetensors", scratch_folder);
    more.resume_adapter_file = begin;
    more.iters = 1;
    struct trained next = train_well(UNQUANTIZED, "texts", "more", more, 1);
    assert_true(next.losses[0] < trained.losses[STEPS - 1]);
}

/* What was trained in full is a model once it is fused: its loss is that of the next step, to the rounding of the weights to f16. */
static void test_full_fused(void **state)
{
    (void)state;
    const bombus_train_options options = {.fine_tune = BOMBUS_FINE_TUNE_FULL, .learning_rate = 0.001, .iters = 2};
    char model[128], folder[128], scaled[140], out[128], command[400];
    struct process process;
    snprintf(model, sizeof model, "%s/" UNQUANTIZED, scratch_folder);
    snprintf(folder, sizeof folder, "%s/two-steps", scratch_folder);
    snprintf(scaled, sizeof scaled, "%s=0.7", folder);
    snprintf(out, sizeof out, "%s/two-steps-fused", scratch_folder);
    struct trained trained = train_well(UNQUANTIZED, "texts", "two-steps", options, 1);
    RUN(&process, 2, "", "fuse", "-m", model, "-a", scaled, "--save-path", out);
    assert_non_null(strstr(process.err, "expected no scale (=0.7)"));
    process_clear(&process);
    RUN(&process, 2, "", "fuse", "-m", model, "-a", folder, "-a", folder, "--save-path", out);
    assert_non_null(strstr(process.err, "expected no other beside it"));
    process_clear(&process);
    RUN(&process, 2, "", "fuse", "-m", model, "-a", folder, "--bits", "8", "--save-path", out);
    assert_non_null(strstr(process.err, "bits is not for whole weights"));
    process_clear(&process);
    RUN(&process, 1, "", "generate", "-m", model, "-a", folder, "a fox");
    snprintf(command, sizeof command, "bombus fuse -m MODEL -a %s --save-path OUT", folder);
    assert_non_null(strstr(process.err, command));
    process_clear(&process);
    RUN(&process, 0, "", "fuse", "-m", model, "-a", folder, "--save-path", out, "--json");
    json_t *json = json_loads(process.out, 0, NULL);
    assert_true(json_number_value(json_object_get(json, "survival")) > 0.9);
    const json_t *first = json_array_get(json_object_get(json, "matrices"), 0);
    assert_non_null(json_object_get(first, "path"));
    assert_true(json_number_value(json_object_get(first, "relative")) > 0.0);
    json_decref(json);
    process_clear(&process);
    RUN(&process, 0, "", "generate", "-m", out, "--max-tokens", "2", "a fox");
    process_clear(&process);
    bombus_train_options more = options;
    more.resume_adapter_file = scratch_path("two-steps/adapters.safetensors");
    more.iters = 1;
    const double expected = train_well(UNQUANTIZED, "texts", "third-step", more, 1).losses[0];
    const double actual = train_well("two-steps-fused", "texts", "beside", (bombus_train_options){.iters = 1}, 1).losses[0];
    if (!(fabs(actual - expected) < 0.01 * fabs(trained.losses[0] - expected)))
        fail_msg("the loss is %g, expected %g, before training %g", actual, expected, trained.losses[0]);
}

/* ---- settings from YAML ---- */

static void test_config(void **state)
{
    (void)state;
    char yaml[1024], path[128];
    struct process process;
    snprintf(yaml, sizeof yaml,
             "model: \"%s/" QUANTIZED "\"\ntrain: true\ndata: \"%s/texts\"\nadapter_path: \"%s/from-yaml\"\nbatch_size: 2\n"
             "grad_accumulation_steps: 2\niters: 25000\nlearning_rate: 1e-3\nmax_seq_length: 48\nsteps_per_report: 2\nsteps_per_eval: 100\n"
             "save_every: 100\nseed: 42\nnum_layers: 1\nreport_to: wandb\n"
             "lora_parameters:\n  rank: 8\n  dropout: 0.0\n  scale: 20.0\n",
             scratch_folder, scratch_folder, scratch_folder);
    snprintf(path, sizeof path, "%s", scratch_text("settings.yaml", yaml));
    RUN(&process, 0, "", "train", "-c", path, "--iters", "4", "--rank", "2", "--threads", "1");
    assert_non_null(strstr(process.err, "report_to has no effect"));
    assert_non_null(strstr(process.err, "finished at iteration 4"));
    process_clear(&process);
    json_t *json = json_load_file(scratch_path("from-yaml/adapter_config.json"), 0, NULL);
    const json_t *lora = json_object_get(json, "lora_parameters");
    assert_int_equal(json_integer_value(json_object_get(lora, "rank")), 2); /* of the command line */
    assert_true(json_number_value(json_object_get(lora, "scale")) == 20.0); /* of the file */
    assert_int_equal(json_integer_value(json_object_get(json, "num_layers")), 1);
    assert_int_equal(json_integer_value(json_object_get(json, "seed")), 42);
    json_decref(json);
    snprintf(path, sizeof path, "%s", scratch_text("unknown.yaml", "model: x\nlearning_rat: 1e-5\n"));
    RUN(&process, 1, "", "train", "-c", path);
    assert_non_null(strstr(process.err, "learning_rat"));
    process_clear(&process);
}

/* ---- hostile input ---- */

static void expect_failure(const char *name, struct trained trained, bombus_status status, const char *said)
{
    if (trained.status != status || strstr(trained.error.message, said) == NULL)
        fail_msg("%s: %s: %s; expected %s with '%s'", name, bombus_status_name(trained.status), trained.error.message,
                 bombus_status_name(status), said);
}

static void test_wrong_beginning(void **state)
{
    (void)state;
    char begin[128];
    char *bytes;
    size_t size;
    bombus_error error;
    train_well(QUANTIZED, "texts", "good", (bombus_train_options){.iters = 1}, 1);
    snprintf(begin, sizeof begin, "%s/good/adapters.safetensors", scratch_folder);
    const bombus_train_options options = {.iters = 1, .resume_adapter_file = begin};
    bombus_train_options other_rank = options, dora = options;
    other_rank.rank = 3;
    dora.fine_tune = BOMBUS_FINE_TUNE_DORA;
    train_well(QUANTIZED, "texts", "kept", options, 1);
    expect_failure("rank", train(QUANTIZED, "texts", "good", other_rank, 1), BOMBUS_ERROR_MISMATCH, "lora_a");
    expect_failure("dora", train(QUANTIZED, "texts", "good", dora, 1), BOMBUS_ERROR_FORMAT, "q_proj.m' is missing");
    expect_failure("model", train(UNQUANTIZED, "texts", "good", options, 1), BOMBUS_ERROR_MISMATCH, "lora_");
    assert_true(compare("good", "good") == 0.0); /* it is still there, and whole */
    CHECK_OK(bb_file_read(&bytes, &size, begin, (size_t)1 << 30, &error), error);
    const struct {
        const char *name;
        size_t size, place; /* bytes that are kept, and where one of them is spoilt */
    } damages[] = {{"empty", 0, 0}, {"cut", 1000, 0}, {"cut at the end", size - 1, 0}, {"header", size, 9}};
    for (size_t i = 0; i < BB_COUNT(damages); i++) {
        char damaged[128];
        bombus_train_options with_damaged = options;
        const char kept = bytes[damages[i].place];
        bytes[damages[i].place] = damages[i].place > 0 ? '!' : kept;
        snprintf(damaged, sizeof damaged, "%s", scratch_write("damaged.safetensors", bytes, damages[i].size));
        bytes[damages[i].place] = kept;
        with_damaged.resume_adapter_file = damaged;
        expect_failure(damages[i].name, train(QUANTIZED, "texts", "good", with_damaged, 1), BOMBUS_ERROR_FORMAT, "damaged.safetensors");
    }
    bb_release(bytes);
    assert_true(compare("good", "good") == 0.0);
}

static void test_hostile_data(void **state)
{
    (void)state;
    enum { LONG_LINE = 10 << 20 };
    train_well(QUANTIZED, "texts", "before", (bombus_train_options){.iters = 1}, 1);
    train_well(QUANTIZED, "texts", "target", (bombus_train_options){.iters = 1}, 1);
    scratch_text("nothing/train.jsonl", "");
    scratch_text("blank/train.jsonl", "\n\n  \n");
    scratch_text("broken/train.jsonl", "{\"text\": \"a\n[1, 2]\n{\"other\": 3}\n\xff\xfe\n");
    expect_failure("empty", train(QUANTIZED, "nothing", "target", (bombus_train_options){0}, 1), BOMBUS_ERROR_FORMAT, "is empty");
    expect_failure("blank", train(QUANTIZED, "blank", "target", (bombus_train_options){0}, 1), BOMBUS_ERROR_FORMAT, "is empty");
    expect_failure("broken", train(QUANTIZED, "broken", "target", (bombus_train_options){0}, 1), BOMBUS_ERROR_FORMAT, "none of 4 lines");
    expect_failure("texts as pairs", train(QUANTIZED, "texts", "target", (bombus_train_options){.mode = BOMBUS_TRAIN_DPO}, 1),
                   BOMBUS_ERROR_FORMAT, "chosen");
    struct bb_buffer text = {0}; /* a line of 10 MB that is no JSON, and one that is */
    assert_true(bb_buffer_reserve(&text, 2 * (size_t)LONG_LINE + 4096));
    for (int i = 0; i < LONG_LINE; i++)
        bb_buffer_add_byte(&text, 'x');
    bb_buffer_add_text(&text, "\n{\"text\": \"");
    for (int i = 0; i < LONG_LINE / 4; i++)
        bb_buffer_add_text(&text, "fox ");
    bb_buffer_add_text(&text, "\"}\n");
    scratch_write("junk/train.jsonl", text.data, LONG_LINE);
    expect_failure("long junk", train(QUANTIZED, "junk", "target", (bombus_train_options){0}, 1), BOMBUS_ERROR_FORMAT, "none of 1 lines");
    assert_true(compare("before", "target") == 0.0); /* nothing was overwritten */
    scratch_write("long/train.jsonl", text.data, text.length);
    bb_buffer_clear(&text);
    struct trained trained = train_well(QUANTIZED, "long", "target", (bombus_train_options){.iters = 2}, 1);
    assert_int_equal(trained.targets[0], 63); /* cut to max_seq_length */
}

/* Rows whose prompts fill max_seq_length leave nothing to learn: said before anything is overwritten. */
static void test_nothing_to_learn(void **state)
{
    (void)state;
    struct bb_buffer text = {0};
    for (int i = 0; i < LINES; i++)
        bb_buffer_add_text(&text, "{\"prompt\": \"who sings under the stone\", \"completion\": \"a fox\"}\n");
    scratch_write("prompts/train.jsonl", text.data, text.length);
    bb_buffer_clear(&text);
    train_well(QUANTIZED, "texts", "before", (bombus_train_options){.iters = 1}, 1);
    train_well(QUANTIZED, "texts", "target", (bombus_train_options){.iters = 1}, 1);
    bombus_train_options options = {.mask_prompt = true, .max_seq_length = 16, .iters = 2};
    expect_failure("masked", train(QUANTIZED, "prompts", "target", options, 1), BOMBUS_ERROR_FORMAT, "nothing to learn");
    assert_true(compare("before", "target") == 0.0);
    options.max_seq_length = 64;
    train_well(QUANTIZED, "prompts", "target", options, 1);
}

/* How many lines were left out and cut is said at the beginning and, with those that were met since, at the end. */
static void test_counts(void **state)
{
    (void)state;
    struct bb_buffer text = {0};
    add_lines(&text, LINES, false);
    bb_buffer_add_text(&text, "{\"text\": 5}\nno json\n");
    scratch_write("some/train.jsonl", text.data, text.length);
    bb_buffer_clear(&text);
    struct trained trained = train_well(QUANTIZED, "some", "counted", (bombus_train_options){.iters = 2, .max_seq_length = 12}, 1);
    assert_non_null(strstr(trained.begin, "of 8 lines 2 were left out and "));
    assert_non_null(strstr(trained.last_line, "of 8 lines 2 were left out and 4 cut to max_seq_length 12"));
    trained = train_well(QUANTIZED, "texts", "counted", (bombus_train_options){.iters = 1}, 1);
    assert_string_equal(trained.begin, "");
    assert_string_equal(trained.last_line, "");
}

/* Dynamic rope scaling bounds a sequence, not the rows of a batch. */
static void test_dynamic_rope(void **state)
{
    (void)state;
    static const int limits[] = {48, 20};
    char *weights;
    size_t size;
    bombus_error error;
    CHECK_OK(bb_file_read(&weights, &size, scratch_path(UNQUANTIZED "/model.safetensors"), (size_t)1 << 30, &error), error);
    scratch_write("dynamic/model.safetensors", weights, size);
    bb_release(weights);
    for (int i = 0; i < 2; i++) {
        json_t *config = json_load_file(scratch_path(UNQUANTIZED "/config.json"), 0, NULL);
        json_object_set_new(config, "rope_scaling", json_pack("{s:s, s:f}", "type", "dynamic", "factor", 2.0));
        json_object_set_new(config, "max_position_embeddings", json_integer(limits[i]));
        assert_int_equal(json_dump_file(config, scratch_path("dynamic/config.json"), 0), 0);
        json_decref(config);
        struct trained trained = train("dynamic", "texts", "bounded", (bombus_train_options){.iters = 1}, 1);
        if (i == 0)
            CHECK_OK(trained.status, trained.error);
        else
            expect_failure("bounded", trained, BOMBUS_ERROR_UNSUPPORTED, "dynamic rope scaling is not supported beyond 20");
    }
}

/* An optimizer of the command line takes what the file's optimizer_config says of it. */
static void test_config_optimizer(void **state)
{
    (void)state;
    static const char *const names[] = {"from-file", "from-line"};
    struct process process;
    for (int i = 0; i < 2; i++) {
        char yaml[1024], path[128];
        snprintf(yaml, sizeof yaml,
                 "model: \"%s/" QUANTIZED "\"\ndata: \"%s/texts\"\nadapter_path: \"%s/%s\"\nbatch_size: 6\niters: 3\n"
                 "learning_rate: 0.01\nmax_seq_length: 64\noptimizer: %s\ntrain: false\n"
                 "optimizer_config: {adamw: {weight_decay: 20.0}}\nlora_parameters: {rank: 2}\n",
                 scratch_folder, scratch_folder, scratch_folder, names[i], i == 0 ? "adamw" : "adam");
        snprintf(path, sizeof path, "%s", scratch_text("optimizer.yaml", yaml));
        RUN(&process, 0, "", "train", "-c", path, "--threads", "1", i == 0 ? NULL : "--optimizer", "adamw");
        assert_non_null(strstr(process.err, "train: false has no effect"));
        process_clear(&process);
    }
    assert_true(compare(names[0], names[1]) == 0.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variants),    cmocka_unit_test(test_rslora), cmocka_unit_test(test_packing),
        cmocka_unit_test(test_preferences), cmocka_unit_test(test_full),   cmocka_unit_test(test_full_fused),
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_wrong_beginning), cmocka_unit_test(test_hostile_data),
        cmocka_unit_test(test_nothing_to_learn), cmocka_unit_test(test_counts), cmocka_unit_test(test_dynamic_rope),
        cmocka_unit_test(test_config_optimizer),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
