/* bombus train: learns an adapter from examples. */
#include "cli/clock.h"
#include "cli/command.h"
#include "cli/conversation.h"
#include "cli/interrupt.h"
#include "cli/json_output.h"
#include "cli/model_options.h"
#include "cli/process_group.h"
#include "cli/report.h"
#include "cli/train_history.h"
#include "cli/train_options.h"
#include "cli/train_report.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/resident.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

enum { SAMPLE_TOKENS = 96 };

struct watch_settings {
    const char *log, *report, *sample_prompt;
    int64_t sample_tokens;
    bool json;
};

struct train_command_settings {
    struct folder_settings folder;
    struct device_settings device;
    struct train_settings train;
    struct watch_settings watch;
};

static const struct option watch_options[] = {
    {"log", 0, OPTION_FILE, offsetof(struct watch_settings, log), "FILE.jsonl", .help = "write a line of JSON for every report and evaluation"},
    {"report", 0, OPTION_FILE, offsetof(struct watch_settings, report), "FILE.html",
     .help = "write curves, settings and sample texts as one page, renewed at evaluations"},
    {"sample-prompt", 0, OPTION_TEXT, offsetof(struct watch_settings, sample_prompt), "TEXT",
     .help = "what the model is asked at evaluations; the first validation example's prompt if not given"},
    {"sample-tokens", 0, OPTION_INTEGER, offsetof(struct watch_settings, sample_tokens), "N",
     .help = "of an answer to it; 0: no samples (96 with --report or --sample-prompt)", .least = 0, .most = 1 << 20},
    {"json", 0, OPTION_FLAG, offsetof(struct watch_settings, json), NULL, .help = "print the outcome as one JSON object"},
};

static const struct option_group groups[] = {
    {"Model", folder_options, BB_COUNT(folder_options), offsetof(struct train_command_settings, folder)},
    {"Data", train_data_options, BB_COUNT(train_data_options), offsetof(struct train_command_settings, train)},
    {"Adapter", train_adapter_options, BB_COUNT(train_adapter_options), offsetof(struct train_command_settings, train)},
    {"Steps", train_step_options, BB_COUNT(train_step_options), offsetof(struct train_command_settings, train)},
    {"Loss", train_loss_options, BB_COUNT(train_loss_options), offsetof(struct train_command_settings, train)},
    {"Watching", watch_options, BB_COUNT(watch_options), offsetof(struct train_command_settings, watch)},
    {"Device", device_options, BB_COUNT(device_options), offsetof(struct train_command_settings, device)},
};

struct run {
    const struct train_command_settings *settings;
    bombus_train_options options;
    bombus_train_config *config;
    const char *keys[OPTION_LIST_LIMIT];
    bombus_process_group group;
    char *folder;
    int32_t *sample_prompt;
    bombus_tokenizer *tokenizer;
    bombus_template *template_;
    bombus_model *model;
    bombus_model_info info;
    bombus_trainer *trainer;
    struct train_history history;
    struct train_report report;
    double start_seconds, drawn_seconds, step_seconds; /* of the whole; of the bar; a smoothed mean of a step */
    double estimate_seconds, other_seconds;            /* when the estimate came; of it: evaluations, samples */
    double stepped_seconds;                            /* in steps since then */
    bool is_bar_drawn;
    bombus_status status; /* of a log or report that could not be written: training stops */
    bombus_error error;
};

/* ---- the terminal ---- */

static void clear_bar(struct run *run)
{
    if (run->is_bar_drawn)
        fputs("\r\033[K", stderr);
    run->is_bar_drawn = false;
}

/* Whether the bar is to be drawn now: on a terminal, ten times a second, and the last one. */
static bool begin_bar(struct run *run, bool is_last)
{
    const double now = clock_seconds();
    if (!isatty(STDERR_FILENO) || (now - run->drawn_seconds < 0.1 && !is_last))
        return false;
    run->drawn_seconds = now;
    run->is_bar_drawn = true;
    return true;
}

static void draw_bar(struct run *run, const bombus_train_event *event)
{
    enum { CELLS = 24 };
    int64_t total = bombus_trainer_options(run->trainer)->iters;
    run->stepped_seconds += event->seconds;
    run->step_seconds = run->step_seconds == 0.0 ? event->seconds : 0.95 * run->step_seconds + 0.05 * event->seconds;
    if (!begin_bar(run, event->iteration == total))
        return;
    char bar[CELLS + 1];
    for (int i = 0; i < CELLS; i++)
        bar[i] = (int64_t)i * total < event->iteration * CELLS ? '=' : ' ';
    bar[CELLS] = '\0';
    /* The steps at their pace so far, and what is left of the rest as it was estimated. */
    double others = run->other_seconds - (run->drawn_seconds - run->estimate_seconds - run->stepped_seconds);
    long left = lround(run->step_seconds * (double)(total - event->iteration) + fmax(others, 0.0));
    fprintf(stderr, "\r[%s] %lld/%lld  loss %.3f  %.0f tokens/s  %ld:%02ld:%02ld left\033[K", bar, (long long)event->iteration,
            (long long)total, event->loss, event->tokens_per_second, left / 3600, left / 60 % 60, left % 60);
}

static void draw_evaluation(struct run *run, const bombus_train_event *event)
{
    if (begin_bar(run, false))
        fprintf(stderr, "\riteration %lld: evaluating, %lld of %lld batches\033[K", (long long)event->iteration, (long long)event->done,
                (long long)event->total);
}

static void take_estimate(struct run *run, const bombus_train_event *event)
{
    const int64_t total = bombus_trainer_options(run->trainer)->iters;
    run->estimate_seconds = clock_seconds();
    run->other_seconds = fmax(event->estimated_seconds - event->seconds * (double)(total - event->iteration), 0.0);
}

static void print_estimate(const bombus_train_event *event)
{
    long seconds = lround(event->estimated_seconds);
    report_message("estimate: %ld:%02ld:%02ld, %s of memory (a step takes %.2f s)", seconds / 3600, seconds / 60 % 60, seconds % 60,
                   report_bytes((double)event->estimated_bytes).text, event->seconds);
}

static void print_event(const bombus_train_event *event)
{
    long long iteration = (long long)event->iteration;
    switch (event->type) {
    case BOMBUS_TRAIN_BEGIN:
        report_message("%s iteration %lld: %lld examples, %lld parameters", iteration > 0 ? "going on at" : "beginning at", iteration,
                       (long long)event->example_count, (long long)event->parameter_count);
        if (event->text != NULL)
            report_message("note: %s", event->text);
        break;
    case BOMBUS_TRAIN_ESTIMATE: print_estimate(event); break;
    case BOMBUS_TRAIN_REPORT:
        report_message("iteration %lld: loss %.4f, learning rate %.3g, %.1f tokens/s, %lld tokens learnt", iteration, event->loss,
                       event->learning_rate, event->tokens_per_second, (long long)event->trained_tokens);
        break;
    case BOMBUS_TRAIN_VALIDATION:
        report_message("iteration %lld: validation loss %.4f%s (%.1f s)", iteration, event->loss, event->is_best ? ", the best so far" : "",
                       event->seconds);
        break;
    case BOMBUS_TRAIN_TEST: report_message("test loss %.4f, perplexity %.3f", event->loss, exp(event->loss)); break;
    case BOMBUS_TRAIN_SAVED: report_message("iteration %lld: saved in %s", iteration, event->text); break;
    case BOMBUS_TRAIN_SAMPLE: report_message("iteration %lld: sample: %s", iteration, event->text); break;
    case BOMBUS_TRAIN_LINE: report_message("note: %s", event->text); break;
    case BOMBUS_TRAIN_EVALUATION:
    case BOMBUS_TRAIN_STEP: break;
    }
}

/* ---- events ---- */

static void fail_if(struct run *run, bombus_status status)
{
    if (run->status == BOMBUS_OK)
        run->status = status;
}

static void write_report(struct run *run, const char *state)
{
    bombus_error error;
    run->report.state = state;
    run->report.seconds = clock_seconds() - run->start_seconds;
    if (run->report.path == NULL)
        return;
    bombus_status status = train_report_write(&run->report, &run->history, &error);
    if (status != BOMBUS_OK && run->status == BOMBUS_OK)
        run->error = error;
    fail_if(run, status);
}

static void begin(struct run *run, const bombus_train_event *event)
{
    const struct watch_settings *watch = &run->settings->watch;
    run->report.parameter_count = event->parameter_count;
    run->report.example_count = event->example_count;
    if (watch->log != NULL)
        fail_if(run, train_history_open_log(&run->history, watch->log, event->iteration, &run->error));
}

static bool on_event(void *context, const bombus_train_event *event)
{
    struct run *run = context;
    if (event->type == BOMBUS_TRAIN_STEP) {
        draw_bar(run, event);
        run->report.iteration = event->iteration;
        return run->status == BOMBUS_OK && !interrupt_is_pending();
    }
    if (event->type == BOMBUS_TRAIN_EVALUATION) {
        draw_evaluation(run, event);
        return !interrupt_is_pending();
    }
    clear_bar(run);
    print_event(event);
    train_history_add(&run->history, event);
    if (event->type == BOMBUS_TRAIN_BEGIN)
        begin(run, event);
    if (event->type == BOMBUS_TRAIN_ESTIMATE)
        take_estimate(run, event);
    if (run->status == BOMBUS_OK)
        fail_if(run, train_history_log(&run->history, event, &run->error));
    if (event->type == BOMBUS_TRAIN_VALIDATION && event->is_best) {
        run->report.best_iteration = event->iteration;
        run->report.best_loss = event->loss;
    }
    if (event->type == BOMBUS_TRAIN_SAVED || event->type == BOMBUS_TRAIN_SAMPLE || event->type == BOMBUS_TRAIN_VALIDATION)
        write_report(run, "running");
    return run->status == BOMBUS_OK && !interrupt_is_pending();
}

/* ---- the run ---- */

static void note_ignored(const struct run *run)
{
    for (size_t i = 0; run->config != NULL && bombus_train_config_ignored(run->config, i) != NULL; i++)
        report_message("note: %s: %s has no effect here", run->settings->train.config, bombus_train_config_ignored(run->config, i));
}

static bombus_status open_model(struct run *run, bombus_error *error)
{
    struct folder_settings folder = run->settings->folder;
    if (folder.model == NULL && run->config != NULL)
        folder.model = bombus_train_config_model(run->config);
    bombus_status status = model_find_folder(&run->folder, &folder, error);
    run->report.model = run->options.model_name = folder.model != NULL ? folder.model : run->folder;
    if (status == BOMBUS_OK)
        status = model_open_tokenizer(&run->tokenizer, run->folder, error);
    if (status == BOMBUS_OK)
        status = bombus_template_open(&run->template_, run->folder, NULL, error);
    if (status == BOMBUS_ERROR_NOT_FOUND && run->tokenizer != NULL)
        status = BOMBUS_OK; /* a model without a template learns texts */
    if (status == BOMBUS_OK)
        status = model_open(&run->model, run->folder, &run->settings->device, error);
    if (status == BOMBUS_OK)
        bombus_model_get_info(run->model, &run->info);
    run->report.device = run->info.device;
    return status;
}

static bombus_status set_samples(struct run *run, bombus_error *error)
{
    const struct watch_settings *watch = &run->settings->watch;
    bool is_asked_for = watch->report != NULL || watch->sample_prompt != NULL;
    run->options.sample_tokens = watch->sample_tokens != OPTION_UNSET ? (int32_t)watch->sample_tokens
                                 : is_asked_for                       ? SAMPLE_TOKENS
                                                                      : 0;
    if (watch->sample_prompt == NULL)
        return BOMBUS_OK;
    struct conversation conversation;
    bombus_status status = conversation_open(&conversation, run->folder, run->tokenizer, NULL, error);
    if (status != BOMBUS_OK)
        return status;
    conversation_add(&conversation, "user", watch->sample_prompt, strlen(watch->sample_prompt));
    status = conversation_encode(&conversation, NULL, &run->sample_prompt, &run->options.sample_prompt_count, error);
    run->options.sample_prompt = run->sample_prompt;
    conversation_close(&conversation);
    return status;
}

static bombus_status prepare(struct run *run, bombus_error *error)
{
    bombus_status status = train_options_read(&run->options, &run->config, &run->settings->train, run->keys, error);
    if (status == BOMBUS_OK)
        status = process_group_open(&run->group, error);
    if (status == BOMBUS_OK && run->group.rank == 0)
        note_ignored(run);
    if (status == BOMBUS_OK)
        status = open_model(run, error);
    if (status == BOMBUS_OK)
        status = set_samples(run, error);
    if (status != BOMBUS_OK)
        return status;
    run->options.process_group = run->group.size > 1 ? &run->group : NULL;
    run->options.memory_limit_bytes = (int64_t)bb_resident_room();
    run->options.callback = on_event;
    run->options.context = run;
    run->report.path = run->settings->watch.report;
    run->report.best_iteration = -1;
    status = bombus_trainer_create(&run->trainer, run->model, run->tokenizer, run->template_, &run->options, error);
    run->report.options = bombus_trainer_options(run->trainer);
    return status;
}

static void print_result(const struct run *run, const bombus_train_result *result)
{
    static const char *const ends[] = {"finished", "stopped early", "interrupted"};
    static const char *const names[] = {"finished", "stopped_early", "cancelled"};
    if (run->group.rank != 0)
        return;
    report_message("%s at iteration %lld after %.1f s; the adapter is in %s%s", ends[result->end], (long long)result->iteration,
                   result->seconds, run->options.adapter_path, result->end == BOMBUS_TRAIN_CANCELLED ? "; --resume goes on" : "");
    if (result->best_iteration >= 0)
        report_message("best validation loss %.4f at iteration %lld, in %s/best", result->best_loss, (long long)result->best_iteration,
                       run->options.adapter_path);
    if (!run->settings->watch.json)
        return;
    json_t *object = report_if_null(json_object());
    json_object_set_new(object, "model", json_output_text(run->report.model, strlen(run->report.model)));
    json_object_set_new(object, "device", json_string(run->info.device));
    json_object_set_new(object, "adapter_path", json_output_text(run->options.adapter_path, strlen(run->options.adapter_path)));
    json_object_set_new(object, "end", json_string(names[result->end]));
    json_object_set_new(object, "iterations", json_integer(result->iteration));
    json_object_set_new(object, "trained_tokens", json_integer(result->trained_tokens));
    json_object_set_new(object, "train_loss", json_output_number(result->train_loss));
    json_object_set_new(object, "validation_loss", json_output_number(result->validation_loss));
    json_object_set_new(object, "best_loss", json_output_number(result->best_loss));
    json_object_set_new(object, "best_iteration", json_integer(result->best_iteration));
    json_object_set_new(object, "seconds", json_output_number(result->seconds));
    json_object_set_new(object, "peak_memory_bytes", json_integer(clock_peak_memory_bytes()));
    json_output_print(object);
}

static void close_run(struct run *run)
{
    bombus_trainer_free(run->trainer);
    bombus_model_close(run->model);
    bombus_template_free(run->template_);
    bombus_tokenizer_close(run->tokenizer);
    bombus_train_config_close(run->config);
    bombus_free(run->sample_prompt);
    bombus_free(run->folder);
    train_history_clear(&run->history);
}

static int run_command(const void *given, const struct operands *operands)
{
    (void)operands;
    static const char *const states[] = {"finished", "stopped early: no better evaluation came", "interrupted"};
    struct run *run = report_if_null(bb_allocate(1, sizeof *run));
    bombus_error error = {0};
    bombus_train_result result = {0};
    run->settings = given;
    run->group.size = 1;
    run->start_seconds = clock_seconds();
    bombus_status status = process_group_agree(&run->group, prepare(run, &error), &error);
    interrupt_catch(); /* behind the download of the model, which has its own */
    if (status == BOMBUS_OK)
        status = bombus_trainer_run(run->trainer, &result, &error);
    interrupt_release();
    clear_bar(run);
    if (status == BOMBUS_OK && result.best_iteration >= 0) { /* also where it came before this part of the run */
        run->report.best_iteration = result.best_iteration;
        run->report.best_loss = result.best_loss;
    }
    if (run->group.rank == 0 && run->trainer != NULL && run->report.iteration > 0)
        write_report(run, status == BOMBUS_OK ? states[result.end] : error.message);
    if (status == BOMBUS_OK)
        print_result(run, &result);
    if (status == BOMBUS_OK && run->status != BOMBUS_OK) {
        status = run->status;
        error = run->error;
    }
    int code = status == BOMBUS_OK ? EXIT_CODE_DONE : report_error(&error);
    close_run(run);
    bb_release(run);
    process_group_close();
    return code;
}

const struct command command_train = {
    .name = "train",
    .summary = "learn an adapter from examples",
    .description =
        "Trains a LoRA or DoRA adapter on the model as it is, quantized or not, and writes it in mlx-lm's format. Ctrl-C finishes the step"
        " (or breaks an evaluation off), saves and says so; --resume goes on from the last saved state, also after a crash, and ends in the same bits as a run"
        " that was never broken off. Under mpirun the processes share the work.",
    .groups = groups,
    .group_count = BB_COUNT(groups),
    .settings_size = sizeof(struct train_command_settings),
    .examples = {{"bombus train --data data --adapter-path adapter --iters 600 --learning-rate 1e-4",
                  "train on data/train.jsonl, evaluate on data/valid.jsonl"},
                 {"bombus train -c lora.yaml --resume --report training.html",
                  "go on with a run described by mlx_lm's YAML, and draw its curves"}},
    .run = run_command,
};
