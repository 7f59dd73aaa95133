/* Defaults are mlx_lm's (lora.py, CONFIG_DEFAULTS). */
#include "train/train_options.h"

#include "base/buffer.h"
#include "train/optimizer.h"
#include "train/schedule.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *const bb_fine_tune_names[] = {"lora", "dora", "full", NULL};
const char *const bb_optimizer_names[] = {"adam", "adamw", "sgd", "muon", NULL};
const char *const bb_schedule_names[] = {"cosine_decay", "linear_schedule", "exponential_decay", "step_decay", NULL};
static const char *const mode_names[] = {"sft", "dpo", "orpo"};
static const char *const dpo_names[] = {"sigmoid", "ipo", "hinge"};

static bombus_status check_integer(int64_t value, int64_t least, int64_t most, const char *name, bombus_error *error)
{
    if (value >= least && value <= most)
        return BOMBUS_OK;
    return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: %lld, expected a number in [%lld, %lld]", name, (long long)value,
                   (long long)least, (long long)most);
}

static bombus_status check_number(double value, double least, double most, const char *name, bombus_error *error)
{
    if (value >= least && value <= most)
        return BOMBUS_OK;
    return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: %g, expected a number in [%g, %g]", name, value, least, most);
}

static bombus_status check_choices(const bombus_train_options *options, bombus_error *error)
{
    const struct {
        int value;
        size_t count;
        const char *name;
    } choices[] = {
        {(int)options->fine_tune, BB_COUNT(bb_fine_tune_names) - 1, "fine_tune"},
        {(int)options->mode, BB_COUNT(mode_names), "mode"},
        {(int)options->dpo_loss, BB_COUNT(dpo_names), "dpo_loss"},
        {(int)options->optimizer, BB_COUNT(bb_optimizer_names) - 1, "optimizer"},
        {(int)options->precision, 2, "precision"},
    };
    for (size_t i = 0; i < BB_COUNT(choices); i++) {
        if (choices[i].value < 0 || (size_t)choices[i].value >= choices[i].count)
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: %d is none of its values", choices[i].name,
                           choices[i].value);
    }
    return BOMBUS_OK;
}

static bombus_status check_integers(const bombus_train_options *options, bombus_error *error)
{
    const struct {
        int64_t value, least, most;
        const char *name;
    } ranges[] = {
        {options->rank, 1, 65536, "rank"},
        {options->iters, 1, INT64_C(1) << 40, "iters"},
        {options->batch_size, 1, 65536, "batch_size"},
        {options->grad_accumulation_steps, 1, 1 << 24, "grad_accumulation_steps"},
        {options->max_seq_length, 2, 1 << 24, "max_seq_length"},
        {(int64_t)options->batch_size * options->max_seq_length * 2, 4, INT32_MAX, "batch_size * max_seq_length * 2"},
        {options->sample_tokens, 0, 1 << 20, "sample_tokens"},
        {options->patience, 0, INT64_MAX, "patience"},
        {options->memory_limit_bytes, 0, INT64_MAX, "memory_limit_bytes"},
    };
    for (size_t i = 0; i < BB_COUNT(ranges); i++) {
        bombus_status status = check_integer(ranges[i].value, ranges[i].least, ranges[i].most, ranges[i].name, error);
        if (status != BOMBUS_OK)
            return status;
    }
    return BOMBUS_OK;
}

static bombus_status check_numbers(const bombus_train_options *options, bombus_error *error)
{
    const struct {
        double value, least, most;
        const char *name;
    } ranges[] = {
        {options->scale, -1e6, 1e6, "scale"},
        {options->dropout, 0.0, 0.999, "dropout"},
        {options->learning_rate, 0.0, 1e6, "learning_rate"},
        {options->max_grad_norm, 0.0, 1e30, "max_grad_norm"},
        {options->neftune_alpha, 0.0, 1e6, "neftune_alpha"},
        {options->beta, 1e-9, 1e6, "beta"},
        {options->label_smoothing, 0.0, 0.5, "label_smoothing"},
        {options->min_delta, 0.0, 1e30, "min_delta"},
    };
    for (size_t i = 0; i < BB_COUNT(ranges); i++) {
        bombus_status status = check_number(ranges[i].value, ranges[i].least, ranges[i].most, ranges[i].name, error);
        if (status != BOMBUS_OK)
            return status;
    }
    return BOMBUS_OK;
}

/* What does not go together. */
static bombus_status check_pairs(const bombus_train_options *options, bombus_error *error)
{
    if (options->data == NULL || options->adapter_path == NULL)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: NULL", options->data == NULL ? "data" : "adapter_path");
    bool has_no_keys = options->key_count > 0 && options->keys == NULL;
    if (has_no_keys || (options->sample_prompt_count > 0 && options->sample_prompt == NULL))
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: NULL", has_no_keys ? "keys" : "sample_prompt");
    for (size_t i = 0; i < options->key_count; i++)
        if (options->keys[i] == NULL)
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "keys[%zu]: NULL", i);
    if (options->mode == BOMBUS_TRAIN_DPO && options->fine_tune == BOMBUS_FINE_TUNE_FULL)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                       "mode: DPO compares with the model without adapter, which fine_tune full does not keep; train an "
                       "adapter, or with ORPO");
    if (options->packing && options->mode != BOMBUS_TRAIN_SFT)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED, "packing: not with preferences, which come in pairs");
    if (options->packing && options->mlx_compatible)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "packing: mlx-lm does not pack; leave out packing or mlx_compatible");
    if (options->mlx_compatible && options->mode != BOMBUS_TRAIN_SFT)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT,
                       "mlx_compatible: mlx-lm has no preference training; leave out mode or mlx_compatible");
    if (options->mlx_compatible && options->seed > UINT32_MAX)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "seed: %llu, expected at most %u with mlx_compatible, as numpy has it",
                       (unsigned long long)options->seed, UINT32_MAX);
    if (options->mlx_compatible && options->no_shuffle)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT,
                       "no_shuffle: mlx-lm shuffles its batches; leave out no_shuffle or mlx_compatible");
    if (options->dpo_loss != BOMBUS_DPO_SIGMOID && options->mode != BOMBUS_TRAIN_DPO)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "dpo_loss: %s, but mode is %s", dpo_names[options->dpo_loss],
                       mode_names[options->mode]);
    if (options->label_smoothing > 0.0 &&
        (options->mode != BOMBUS_TRAIN_DPO || options->dpo_loss != BOMBUS_DPO_SIGMOID))
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "label_smoothing: %g: it is of dpo's sigmoid loss alone",
                       options->label_smoothing);
    if (options->patience > 0 && options->steps_per_eval < 0)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "patience: %lld: it counts evaluations, and steps_per_eval is never",
                       (long long)options->patience);
    if (options->resume && options->force)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "resume and force: give one of them");
    if (options->resume && options->resume_adapter_file != NULL)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT,
                       "resume_adapter_file: begins a new run from weights, resume goes on with an old one; give one of them");
    return BOMBUS_OK;
}

static void fill_defaults(bombus_train_options *result, int32_t layer_count)
{
    result->num_layers = result->num_layers == 0 ? 16 : result->num_layers;
    if (result->num_layers < 0 || result->num_layers > layer_count)
        result->num_layers = layer_count;
    result->rank = result->rank == 0 ? 8 : result->rank;
    result->scale = result->scale == 0.0 ? 20.0 : result->scale;
    result->iters = result->iters == 0 ? 1000 : result->iters;
    result->batch_size = result->batch_size == 0 ? 4 : result->batch_size;
    result->grad_accumulation_steps = result->grad_accumulation_steps == 0 ? 1 : result->grad_accumulation_steps;
    result->learning_rate = result->learning_rate == 0.0 ? 1e-5 : result->learning_rate;
    result->beta = result->beta == 0.0 ? 0.1 : result->beta;
    result->max_seq_length = result->max_seq_length == 0 ? 2048 : result->max_seq_length;
    result->steps_per_report = result->steps_per_report == 0 ? 10 : result->steps_per_report;
    result->steps_per_eval = result->steps_per_eval == 0 ? 200 : result->steps_per_eval;
    result->save_every = result->save_every == 0 ? 100 : result->save_every;
    result->val_batches = result->val_batches == 0 ? 25 : result->val_batches;
    if (!result->has_optimizer_options && (int)result->optimizer >= 0 && result->optimizer <= BOMBUS_MUON)
        result->optimizer_options = bb_optimizer_defaults(result->optimizer);
    result->has_optimizer_options = true;
}

bombus_status bb_train_options_resolve(bombus_train_options *result, const bombus_train_options *options,
                                       int32_t layer_count, bombus_error *error)
{
    *result = *options;
    fill_defaults(result, layer_count);
    bombus_status status = check_choices(result, error);
    if (status == BOMBUS_OK)
        status = check_integers(result, error);
    if (status == BOMBUS_OK)
        status = check_numbers(result, error);
    if (status == BOMBUS_OK)
        status = check_pairs(result, error);
    if (status == BOMBUS_OK)
        status = bb_schedule_check(&result->schedule, error);
    if (status == BOMBUS_OK)
        status = bb_optimizer_check(result->optimizer, &result->optimizer_options, error);
    return status;
}

double bb_train_options_scale(const bombus_train_options *options)
{
    return options->use_rslora ? options->scale / sqrt((double)options->rank) : options->scale;
}

/* ---- as text ---- */

static void add_text(struct bb_train_settings *settings, const char *name, const char *text, size_t length)
{
    char *copy = bb_arena_copy_text(&settings->arena, text, length);
    if (copy == NULL || settings->count == BB_TRAIN_SETTING_LIMIT) {
        settings->is_failed = true;
        return;
    }
    settings->items[settings->count++] = (struct bb_train_setting){name, copy};
}

void bb_train_settings_add(struct bb_train_settings *settings, const char *name, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    add_text(settings, name, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
}

/* What has no bound to its length; the buffer is cleared. */
static void add_buffer(struct bb_train_settings *settings, const char *name, struct bb_buffer *text)
{
    settings->is_failed = settings->is_failed || text->is_failed;
    add_text(settings, name, text->data != NULL ? text->data : "", text->length);
    bb_buffer_clear(text);
}

static void add_schedule(struct bb_train_settings *settings, const bombus_train_options *options)
{
    const bombus_schedule *schedule = &options->schedule;
    struct bb_buffer text = {0};
    if (schedule->part_count == 0) {
        bb_train_settings_add(settings, "learning_rate", "%.17g", options->learning_rate);
        return;
    }
    for (int32_t i = 0; i < schedule->part_count; i++) {
        const double *arguments = schedule->parts[i].arguments;
        bb_buffer_format(&text, "%s(%.9g %.9g %.9g)", bb_schedule_names[schedule->parts[i].kind], arguments[0],
                         arguments[1], arguments[2]);
        if (i + 1 < schedule->part_count)
            bb_buffer_format(&text, " until %lld ", (long long)schedule->boundaries[i]);
    }
    bb_buffer_format(&text, " warmup %lld from %.9g", (long long)schedule->warmup, schedule->warmup_init);
    add_buffer(settings, "lr_schedule", &text);
}

static void add_optimizer(struct bb_train_settings *settings, const bombus_train_options *options)
{
    const bombus_optimizer_options *given = &options->optimizer_options;
    bb_train_settings_add(settings, "optimizer", "%s", bb_optimizer_names[options->optimizer]);
    if (options->optimizer == BOMBUS_ADAM || options->optimizer == BOMBUS_ADAMW)
        bb_train_settings_add(settings, "optimizer_config",
                              "betas %.17g %.17g eps %.17g weight_decay %.17g bias_correction %d", given->beta1,
                              given->beta2, given->eps, given->weight_decay, given->bias_correction);
    else
        bb_train_settings_add(settings, "optimizer_config",
                              "momentum %.17g dampening %.17g weight_decay %.17g nesterov %d ns_steps %d",
                              given->momentum, given->dampening, given->weight_decay, given->nesterov, given->ns_steps);
}

static void add_keys(struct bb_train_settings *settings, const bombus_train_options *options)
{
    struct bb_buffer text = {0};
    for (size_t i = 0; i < options->key_count; i++)
        bb_buffer_format(&text, "%s%s", i > 0 ? " " : "", options->keys[i]);
    if (options->key_count == 0)
        bb_buffer_add_text(&text, "all");
    add_buffer(settings, "keys", &text);
}

/* Names of fields and template variables are of any length. */
static void add_texts(struct bb_train_settings *settings, const char *name, const char *const *texts, size_t count)
{
    struct bb_buffer text = {0};
    for (size_t i = 0; i < count; i++)
        bb_buffer_format(&text, "%s%s", i > 0 ? "," : "", texts[i] != NULL ? texts[i] : "");
    add_buffer(settings, name, &text);
}

void bb_train_settings_add_options(struct bb_train_settings *settings, const bombus_train_options *options)
{
    bb_train_settings_add(settings, "mode", "%s", mode_names[options->mode]);
    bb_train_settings_add(settings, "fine_tune_type", "%s", bb_fine_tune_names[options->fine_tune]);
    bb_train_settings_add(settings, "num_layers", "%d", options->num_layers);
    bb_train_settings_add(settings, "rank", "%d", options->rank);
    bb_train_settings_add(settings, "scale", "%.17g%s", options->scale, options->use_rslora ? " rslora" : "");
    bb_train_settings_add(settings, "dropout", "%.17g", options->dropout);
    add_keys(settings, options);
    bb_train_settings_add(settings, "batch_size", "%d", options->batch_size);
    bb_train_settings_add(settings, "grad_accumulation_steps", "%d", options->grad_accumulation_steps);
    add_schedule(settings, options);
    add_optimizer(settings, options);
    bb_train_settings_add(settings, "max_grad_norm", "%.17g", options->max_grad_norm);
    bb_train_settings_add(settings, "neftune_alpha", "%.17g", options->neftune_alpha);
    if (options->mode != BOMBUS_TRAIN_SFT)
        bb_train_settings_add(settings, "beta", "%.17g label_smoothing %.17g loss %s", options->beta,
                              options->label_smoothing, dpo_names[options->dpo_loss]);
    bb_train_settings_add(settings, "max_seq_length", "%d", options->max_seq_length);
    bb_train_settings_add(settings, "mask", "%s",
                          options->mask_history  ? "history"
                          : options->mask_prompt ? "prompt"
                                                 : "none");
    bb_train_settings_add(settings, "order", "%s%s",
                          options->mlx_compatible ? "mlx"
                          : options->no_shuffle   ? "file"
                                                  : "shuffled",
                          options->packing ? " packed" : "");
    bb_train_settings_add(settings, "seed", "%llu", (unsigned long long)options->seed);
    bb_train_settings_add(settings, "steps_per_eval", "%lld", (long long)options->steps_per_eval);
    bb_train_settings_add(settings, "val_batches", "%lld", (long long)options->val_batches);
    const char *const features[] = {options->text_feature, options->prompt_feature, options->completion_feature,
                                    options->chat_feature, options->chosen_feature, options->rejected_feature};
    add_texts(settings, "features", features, BB_COUNT(features));
    add_texts(settings, "template_arguments", &options->template_arguments, 1);
}

void bb_train_settings_clear(struct bb_train_settings *settings)
{
    bb_arena_clear(&settings->arena);
    *settings = (struct bb_train_settings){0};
}
