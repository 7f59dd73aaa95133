/* bombus bench: speed of prompt and generation, beside what the machine can read. */
#include "cli/adapter_options.h"
#include "cli/clock.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/json_output.h"
#include "cli/model_options.h"
#include "cli/report.h"
#include "cli/train_bench.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/random.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH_LIMIT = 256, REPETITION_LIMIT = 1000 };

struct measure_settings {
    int64_t prompt_tokens, generation_tokens, batch, repetitions;
    bool train, json;
};

struct bench_settings {
    struct folder_settings folder;
    struct device_settings device;
    struct adapter_settings adapter;
    struct cache_settings cache;
    struct measure_settings measure;
};

static const struct option measure_options[] = {
    {"prompt-tokens", 0, OPTION_INTEGER, offsetof(struct measure_settings, prompt_tokens), "N",
     .help = "length of the prompt", .fallback = "512", .least = 1, .most = 1 << 24},
    {"generation-tokens", 0, OPTION_INTEGER, offsetof(struct measure_settings, generation_tokens), "N",
     .help = "tokens to generate", .fallback = "128", .least = 1, .most = 1 << 24},
    {"batch", 0, OPTION_INTEGER, offsetof(struct measure_settings, batch), "N", .help = "sequences generated at once",
     .fallback = "1", .least = 1, .most = BATCH_LIMIT},
    {"repetitions", 0, OPTION_INTEGER, offsetof(struct measure_settings, repetitions), "N",
     .help = "measurements, after one that is not counted", .fallback = "5", .least = 1, .most = REPETITION_LIMIT},
    {"train", 0, OPTION_FLAG, offsetof(struct measure_settings, train), NULL,
     .help = "measure training steps too: a sequence of prompt-tokens, rank 8 at all projections of the last 16 blocks"},
    {"json", 0, OPTION_FLAG, offsetof(struct measure_settings, json), NULL, .help = "print one JSON object"},
};

static const struct option_group groups[] = {
    {"Model", folder_options, BB_COUNT(folder_options), offsetof(struct bench_settings, folder)},
    {"Adapters", adapter_options, BB_COUNT(adapter_options), offsetof(struct bench_settings, adapter)},
    {"Device", device_options, BB_COUNT(device_options), offsetof(struct bench_settings, device)},
    {"Measurement", measure_options, BB_COUNT(measure_options), offsetof(struct bench_settings, measure)},
    {"Cache", cache_options, BB_COUNT(cache_options), offsetof(struct bench_settings, cache)},
};

/* Tokens per second of each repetition. */
struct series {
    double values[REPETITION_LIMIT];
    size_t count;
};

struct summary {
    double median, least, most;
};

/* Of a step with adapters to one without. */
struct ratios {
    double *values; /* [repetitions * generation_tokens] */
    size_t count;
};

static int compare_numbers(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts them. */
static struct summary summarize_values(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare_numbers);
    size_t middle = count / 2;
    double median = count % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2.0;
    return (struct summary){median, values[0], values[count - 1]};
}

static struct summary summarize(struct series *series)
{
    return summarize_values(series->values, series->count);
}

struct bench {
    const struct bench_settings *settings;
    bombus_model *model;
    bombus_model_info info;
    bombus_session *sessions[BATCH_LIMIT], *adapted_sessions[BATCH_LIMIT]; /* the second NULL without adapters */
    int32_t *prompt;
    double load_seconds, bandwidth;
    int64_t peak_memory_bytes; /* before the bandwidth is measured, which takes a buffer of its own */
    struct series prompt_speed, generation_speed;
    struct adapters adapters;
    struct series training_speed;                                 /* empty without --train */
    struct series adapted_prompt_speed, adapted_generation_speed; /* empty without adapters */
    struct series prompt_ratio;                                   /* of times with and without adapters */
    struct ratios step_times, step_processor_times;               /* the same of every step of generation */
    struct series single_prompt_speed, single_speed; /* of one sequence alone; empty if there is just one */
};

/* Which token comes next: as good as drawn at random, as llama-bench has it, so that mixtures choose different experts. Sampling is not part of
 * what is measured. */
static int32_t token_behind(int32_t token, int32_t vocab_size)
{
    return (int32_t)(bb_random_at(0, (uint64_t)token) % (uint64_t)vocab_size);
}

/* The sessions that a measurement takes forward, and the time that it took. */
struct course {
    bombus_session **sessions;
    size_t batch;
    int32_t tokens[BATCH_LIMIT]; /* the next of each */
    double prompt_seconds, generation_seconds;
    double step_seconds, step_processor_seconds; /* of the last step */
};

/* The first token of each sequence differs, so mixtures choose different experts. */
static bombus_status run_prompts(const struct bench *bench, struct course *course, bombus_error *error)
{
    for (size_t i = 0; i < course->batch; i++) {
        bombus_status status = bombus_session_truncate(course->sessions[i], 0, error);
        const double start = clock_seconds();
        if (status == BOMBUS_OK)
            status = bombus_session_step(course->sessions[i], bench->prompt,
                                         (size_t)bench->settings->measure.prompt_tokens, error);
        if (status != BOMBUS_OK)
            return status;
        course->prompt_seconds += clock_seconds() - start;
        course->tokens[i] = (int32_t)i % bench->info.vocab_size;
    }
    return BOMBUS_OK;
}

/* One token of each sequence. */
static bombus_status run_step(const struct bench *bench, struct course *course, bombus_error *error)
{
    if (interrupt_is_pending())
        return bb_fail(error, BOMBUS_ERROR_CANCELLED, "interrupted");
    const double start = clock_seconds(), processor_start = clock_processor_seconds();
    bombus_status status = bombus_sessions_step(course->sessions, course->tokens, course->batch, error);
    if (status != BOMBUS_OK)
        return status;
    for (size_t i = 0; i < course->batch; i++)
        course->tokens[i] = token_behind(course->tokens[i], bench->info.vocab_size);
    course->step_processor_seconds = clock_processor_seconds() - processor_start;
    course->step_seconds = clock_seconds() - start;
    course->generation_seconds += course->step_seconds;
    return BOMBUS_OK;
}

static void count_speeds(const struct bench *bench, const struct course *course, struct series *prompt_speed,
                         struct series *generation_speed)
{
    const struct measure_settings *settings = &bench->settings->measure;
    const double sequences = (double)course->batch;
    prompt_speed->values[prompt_speed->count++] = (double)settings->prompt_tokens * sequences / course->prompt_seconds;
    generation_speed->values[generation_speed->count++] =
        (double)settings->generation_tokens * sequences / course->generation_seconds;
}

static bombus_status measure_alone(struct bench *bench, size_t batch, bool is_counted, struct series *prompt_speed,
                                   struct series *generation_speed, bombus_error *error)
{
    struct course course = {.sessions = bench->sessions, .batch = batch};
    bombus_status status = run_prompts(bench, &course, error);
    for (int64_t step = 0; step < bench->settings->measure.generation_tokens && status == BOMBUS_OK; step++)
        status = run_step(bench, &course, error);
    if (status == BOMBUS_OK && is_counted)
        count_speeds(bench, &course, prompt_speed, generation_speed);
    return status;
}

/* Without adapters and with them, in turn from step to step: what else the machine does weighs on both, and what
 * disturbs one step spoils one ratio of many. */
static bombus_status measure_pair(struct bench *bench, size_t batch, bool is_counted, bombus_error *error)
{
    struct course plain = {.sessions = bench->sessions, .batch = batch},
                  adapted = {.sessions = bench->adapted_sessions, .batch = batch};
    bombus_status status = run_prompts(bench, &plain, error);
    if (status == BOMBUS_OK)
        status = run_prompts(bench, &adapted, error);
    for (int64_t step = 0; step < bench->settings->measure.generation_tokens && status == BOMBUS_OK; step++) {
        status = run_step(bench, &plain, error);
        if (status == BOMBUS_OK)
            status = run_step(bench, &adapted, error);
        if (status != BOMBUS_OK || !is_counted)
            continue;
        bench->step_times.values[bench->step_times.count++] = adapted.step_seconds / plain.step_seconds;
        bench->step_processor_times.values[bench->step_processor_times.count++] =
            adapted.step_processor_seconds / plain.step_processor_seconds;
    }
    if (status != BOMBUS_OK || !is_counted)
        return status;
    count_speeds(bench, &plain, &bench->prompt_speed, &bench->generation_speed);
    count_speeds(bench, &adapted, &bench->adapted_prompt_speed, &bench->adapted_generation_speed);
    bench->prompt_ratio.values[bench->prompt_ratio.count++] = adapted.prompt_seconds / plain.prompt_seconds;
    return BOMBUS_OK;
}

/* Each repetition measures what is compared one after the other, so that what else the machine does weighs on all. */
static bombus_status measure_repetition(struct bench *bench, bool is_counted, bombus_error *error)
{
    size_t batch = (size_t)bench->settings->measure.batch;
    bombus_status status = BOMBUS_OK;
    if (batch > 1)
        status = measure_alone(bench, 1, is_counted, &bench->single_prompt_speed, &bench->single_speed, error);
    if (status != BOMBUS_OK)
        return status;
    return bench->adapters.count > 0
               ? measure_pair(bench, batch, is_counted, error)
               : measure_alone(bench, batch, is_counted, &bench->prompt_speed, &bench->generation_speed, error);
}

/* Sessions with the adapters, and room for the ratios. */
static bombus_status prepare_adapted(struct bench *bench, const bombus_session_options *options, bombus_error *error)
{
    const struct measure_settings *settings = &bench->settings->measure;
    size_t count;
    if (bench->adapters.count == 0)
        return BOMBUS_OK;
    bombus_status status =
        bombus_sessions_create(bench->adapted_sessions, (size_t)settings->batch, bench->model, options, error);
    for (int64_t i = 0; i < settings->batch && status == BOMBUS_OK; i++)
        status = adapters_apply(&bench->adapters, bench->adapted_sessions[i], error);
    if (status != BOMBUS_OK)
        return status;
    if (bb_multiply_size((size_t)settings->repetitions, (size_t)settings->generation_tokens, &count)) {
        bench->step_times.values = bb_allocate(count, sizeof(double));
        bench->step_processor_times.values = bb_allocate(count, sizeof(double));
    }
    if (bench->step_times.values == NULL || bench->step_processor_times.values == NULL)
        return bb_fail_memory(error, SIZE_MAX, "the times of all steps");
    return BOMBUS_OK;
}

static bombus_status measure_training(struct bench *bench, const bombus_tokenizer *tokenizer, bombus_error *error)
{
    const struct measure_settings *settings = &bench->settings->measure;
    if (tokenizer == NULL)
        return bb_fail(error, BOMBUS_ERROR_NOT_FOUND, "--train: the model has no readable tokenizer");
    interrupt_catch();
    bombus_status status = train_bench_run(bench->training_speed.values, (size_t)settings->repetitions, bench->model, tokenizer,
                                           (int32_t)settings->prompt_tokens, error);
    interrupt_release();
    bench->training_speed.count = status == BOMBUS_OK ? (size_t)settings->repetitions : 0;
    return status;
}

static bombus_status measure(struct bench *bench, bombus_error *error)
{
    const struct bench_settings *settings = bench->settings;
    size_t prompt_count = (size_t)settings->measure.prompt_tokens;
    bombus_session_options options = model_session_options(&settings->cache);
    bombus_status status = bombus_sessions_create(bench->sessions, (size_t)settings->measure.batch, bench->model, &options, error);
    if (status == BOMBUS_OK)
        status = prepare_adapted(bench, &options, error);
    bench->prompt = report_if_null(bb_allocate(prompt_count, sizeof *bench->prompt));
    for (size_t i = 0; i < prompt_count; i++)
        bench->prompt[i] = (int32_t)(bb_random_at(1, i) % (uint64_t)bench->info.vocab_size);
    interrupt_catch();
    for (int64_t i = 0; i <= settings->measure.repetitions && status == BOMBUS_OK; i++)
        status = measure_repetition(bench, i > 0, error);
    interrupt_release();
    bench->peak_memory_bytes = clock_peak_memory_bytes();
    if (status == BOMBUS_OK) {
        int32_t threads = settings->device.threads == OPTION_UNSET ? 0 : (int32_t)settings->device.threads;
        status = bombus_measure_bandwidth(&bench->bandwidth, threads, 0, 1.0, error);
    }
    return status;
}

/* Shares of time that adapters add. The processor's time counts all threads, and nothing that other programs take. */
struct overhead {
    double prompt, generation, generation_processor;
};

static struct overhead overhead_of(struct bench *bench)
{
    struct ratios *times = &bench->step_times, *processor_times = &bench->step_processor_times;
    return (struct overhead){.prompt = summarize(&bench->prompt_ratio).median - 1.0,
                             .generation = summarize_values(times->values, times->count).median - 1.0,
                             .generation_processor =
                                 summarize_values(processor_times->values, processor_times->count).median - 1.0};
}

static void print_overhead(struct bench *bench)
{
    if (bench->adapters.count == 0)
        return;
    const struct summary prompt = summarize(&bench->adapted_prompt_speed),
                         generation = summarize(&bench->adapted_generation_speed);
    const struct overhead overhead = overhead_of(bench);
    printf("\nadapted      prompt %.1f tokens/s (%.1f to %.1f): %+.1f %% time\n", prompt.median, prompt.least,
           prompt.most, 100.0 * overhead.prompt);
    printf(
        "             generation %.1f tokens/s (%.1f to %.1f): %+.1f %% time, %+.1f %% processor time (%zu pairs of"
        " steps)",
        generation.median, generation.least, generation.most, 100.0 * overhead.generation,
        100.0 * overhead.generation_processor, bench->step_times.count);
}

static void print_table(struct bench *bench, struct summary prompt, struct summary generation, double used)
{
    const struct measure_settings *settings = &bench->settings->measure;
    printf("model        %s, %.1f M parameters, %s\n", bench->info.architecture,
           (double)bench->info.parameter_count / 1e6, report_bytes((double)bench->info.weight_bytes).text);
    printf("device       %s\n", bench->info.device);
    printf("load         %.3f s\n", bench->load_seconds);
    printf("prompt       %.1f tokens/s (%.1f to %.1f), %d tokens\n", prompt.median, prompt.least, prompt.most,
           (int)settings->prompt_tokens);
    printf("generation   %.1f tokens/s (%.1f to %.1f), %d tokens", generation.median, generation.least, generation.most,
           (int)settings->generation_tokens);
    if (settings->batch > 1) {
        struct summary single = summarize(&bench->single_speed);
        printf(" in each of %d sequences: %.2f times the %.1f (%.1f to %.1f) of one", (int)settings->batch,
               generation.median / single.median, single.median, single.least, single.most);
    }
    print_overhead(bench);
    if (bench->training_speed.count > 0) {
        struct summary training = summarize(&bench->training_speed);
        printf("\ntraining     %.1f tokens/s (%.1f to %.1f)", training.median, training.least, training.most);
    }
    printf("\nbandwidth    %.1f GB/s read; generation reads %.1f GB/s of weights, %.0f %%\n", bench->bandwidth / 1e9,
           used / 1e9, 100.0 * used / bench->bandwidth);
    printf("memory       %s at most\n", report_bytes((double)bench->peak_memory_bytes).text);
}

static json_t *summary_json(struct summary summary)
{
    return json_pack("{s:f, s:f, s:f}", "median", summary.median, "min", summary.least, "max", summary.most);
}

static void print_results(struct bench *bench, const char *model)
{
    struct summary prompt = summarize(&bench->prompt_speed), generation = summarize(&bench->generation_speed);
    const struct measure_settings *settings = &bench->settings->measure;
    double steps_per_second =
        generation.median / (double)settings->batch; /* a step reads the weights once for all sequences */
    double used = steps_per_second * (double)bench->info.bytes_per_token;
    if (!settings->json) {
        print_table(bench, prompt, generation, used);
        return;
    }
    json_t *object = report_if_null(json_object());
    json_object_set_new(object, "model", json_output_text(model, strlen(model)));
    json_object_set_new(object, "device", json_string(bench->info.device));
    json_object_set_new(object, "architecture", json_string(bench->info.architecture));
    json_object_set_new(object, "parameters", json_integer(bench->info.parameter_count));
    json_object_set_new(object, "weight_bytes", json_integer(bench->info.weight_bytes));
    json_object_set_new(object, "bytes_per_token", json_integer(bench->info.bytes_per_token));
    json_object_set_new(object, "prompt_tokens", json_integer(settings->prompt_tokens));
    json_object_set_new(object, "generation_tokens", json_integer(settings->generation_tokens));
    json_object_set_new(object, "batch", json_integer(settings->batch));
    json_object_set_new(object, "repetitions", json_integer(settings->repetitions));
    json_object_set_new(object, "load_s", json_real(bench->load_seconds));
    json_object_set_new(object, "prompt_tokens_per_s", summary_json(prompt));
    json_object_set_new(object, "generation_tokens_per_s", summary_json(generation));
    if (settings->batch > 1) {
        struct summary single = summarize(&bench->single_speed);
        json_object_set_new(object, "single_generation_tokens_per_s", summary_json(single));
        json_object_set_new(object, "batch_ratio", json_output_number(generation.median / single.median));
    }
    if (bench->adapters.count > 0) {
        const struct overhead overhead = overhead_of(bench);
        json_object_set_new(object, "adapted_prompt_tokens_per_s",
                            summary_json(summarize(&bench->adapted_prompt_speed)));
        json_object_set_new(object, "adapted_generation_tokens_per_s",
                            summary_json(summarize(&bench->adapted_generation_speed)));
        json_object_set_new(object, "adapter_prompt_overhead", json_output_number(overhead.prompt));
        json_object_set_new(object, "adapter_generation_overhead", json_output_number(overhead.generation));
        json_object_set_new(object, "adapter_generation_processor_overhead",
                            json_output_number(overhead.generation_processor));
    }
    if (bench->training_speed.count > 0)
        json_object_set_new(object, "training_tokens_per_s", summary_json(summarize(&bench->training_speed)));
    json_object_set_new(object, "read_bandwidth_bytes_per_s", json_output_number(bench->bandwidth));
    json_object_set_new(object, "generation_bytes_per_s", json_output_number(used));
    json_object_set_new(object, "bandwidth_share", json_output_number(used / bench->bandwidth));
    json_object_set_new(object, "peak_memory_bytes", json_integer(bench->peak_memory_bytes));
    json_output_print(object);
}

static int run(const void *given, const struct operands *operands)
{
    (void)operands;
    struct bench *bench = report_if_null(bb_allocate(1, sizeof *bench));
    bench->settings = given;
    bombus_error error = {0};
    char *folder = NULL;
    bombus_tokenizer *tokenizer = NULL;
    bombus_status status = model_find_folder(&folder, &bench->settings->folder, &error);
    double start = clock_seconds();
    if (status == BOMBUS_OK && model_open_tokenizer(&tokenizer, folder, NULL) != BOMBUS_OK)
        report_message("note: the model has no readable tokenizer; its loading is not measured");
    if (status == BOMBUS_OK)
        status = model_open(&bench->model, folder, &bench->settings->device, &error);
    bench->load_seconds = clock_seconds() - start;
    if (status == BOMBUS_OK)
        status = adapters_open(&bench->adapters, &bench->settings->adapter, bench->model, &error);
    if (status == BOMBUS_OK) {
        bombus_model_get_info(bench->model, &bench->info);
        status = measure(bench, &error);
    }
    if (status == BOMBUS_OK && bench->settings->measure.train)
        status = measure_training(bench, tokenizer, &error);
    if (status == BOMBUS_OK)
        print_results(bench, bench->settings->folder.model != NULL ? bench->settings->folder.model : folder);
    for (size_t i = 0; i < BB_COUNT(bench->sessions); i++) {
        bombus_session_free(bench->sessions[i]);
        bombus_session_free(bench->adapted_sessions[i]);
    }
    bb_release(bench->step_times.values);
    bb_release(bench->step_processor_times.values);
    adapters_close(&bench->adapters);
    bombus_model_close(bench->model);
    bombus_tokenizer_close(tokenizer);
    bombus_free(folder);
    bb_release(bench->prompt);
    bb_release(bench);
    return status == BOMBUS_OK ? EXIT_CODE_DONE : report_error(&error);
}

const struct command command_bench = {
    .name = "bench",
    .summary = "measure the speed of a model on this machine",
    .description =
        "Measures prompt and generation in tokens per second: the median of the repetitions, and their least and "
        "most. Beside them stands the bandwidth at which this machine reads memory with the same threads, and the"
        " share of it that generation makes use of. With adapters steps without and with them take turns, and the median"
        " of what they add to the time of a step is printed.",
    .groups = groups,
    .group_count = BB_COUNT(groups),
    .settings_size = sizeof(struct bench_settings),
    .examples = {{"bombus bench", "speed of the default model"},
                 {"bombus bench -m Qwen/Qwen3-0.6B --threads 2 --prompt-tokens 512 --json",
                  "one JSON object, two threads"}},
    .run = run,
};
