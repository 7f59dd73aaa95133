/* Makes a trainer: options, data, parameters, optimizer, room. */
#include "train/estimate.h"
#include "train/process_group.h"
#include "train/trainer.h"

#include "base/memory.h"
#include "text/template/template.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static void report_line(void *context, const char *path, uint32_t line, enum bb_line_problem problem,
                        const char *message)
{
    static const char *const words[] = {
        [BB_LINE_MALFORMED] = "left out", [BB_LINE_EMPTY] = "left out", [BB_LINE_TRUNCATED] = "cut"};
    char text[600];
    snprintf(text, sizeof text, "%.200s: line %u %s: %.300s", path, (unsigned)line, words[problem], message);
    bb_trainer_tell(context, &(bombus_train_event){.type = BOMBUS_TRAIN_LINE, .text = text});
}

static struct bb_dataset_options dataset_options(struct bb_trainer *trainer)
{
    const bombus_train_options *options = &trainer->options;
    return (struct bb_dataset_options){
        .tokenizer = trainer->inputs.tokenizer,
        .template_ = trainer->inputs.template_,
        .max_seq_length = options->max_seq_length,
        .mask = options->mask_history  ? BB_MASK_HISTORY
                : options->mask_prompt ? BB_MASK_PROMPT
                                       : BB_MASK_NONE,
        .is_preference = options->mode != BOMBUS_TRAIN_SFT,
        .is_mlx_compatible = options->mlx_compatible,
        .text_feature = options->text_feature,
        .prompt_feature = options->prompt_feature,
        .completion_feature = options->completion_feature,
        .chat_feature = options->chat_feature,
        .chosen_feature = options->chosen_feature,
        .rejected_feature = options->rejected_feature,
        .template_arguments = options->template_arguments,
        .report = report_line,
        .report_context = trainer,
    };
}

/* A set that is not there stays closed. */
static bombus_status open_set(struct bb_trainer *trainer, struct bb_train_set *set, const char *name, bool is_training,
                              bombus_error *error)
{
    const bombus_train_options *options = &trainer->options;
    struct bb_dataset_options data = dataset_options(trainer);
    const struct bb_batches_options batches = {
        .batch_size = options->batch_size,
        /* evaluations see the same examples each time, but for mlx-lm's order */
        .order = options->mlx_compatible               ? BB_ORDER_MLX
                 : is_training && !options->no_shuffle ? BB_ORDER_SHUFFLED
                                                       : BB_ORDER_FILE,
        .packing = options->packing,
        .seed = options->seed,
        .rank = bb_process_rank(options->process_group),
        .size = bb_process_count(options->process_group),
        .is_endless = is_training,
        .numpy = &trainer->numpy,
    };
    char *path = NULL;
    bombus_status status = bb_dataset_find(&path, options->data, name, error);
    if (status != BOMBUS_OK || path == NULL)
        return status;
    status = bb_dataset_open(&set->dataset, path, &data, error);
    if (status == BOMBUS_OK) {
        status = bb_dataset_check_learnable(&set->dataset, error);
        if (status == BOMBUS_OK)
            status = bb_batches_open(&set->batches, &set->dataset, &batches, error);
        set->is_open = status == BOMBUS_OK;
        if (status != BOMBUS_OK)
            bb_dataset_close(&set->dataset);
    }
    bb_release(path);
    return status;
}

static void close_set(struct bb_train_set *set)
{
    if (!set->is_open)
        return;
    bb_batches_close(&set->batches);
    bb_dataset_close(&set->dataset);
    set->is_open = false;
}

static bombus_status open_data(struct bb_trainer *trainer, bombus_error *error)
{
    const bombus_train_options *options = &trainer->options;
    bb_numpy_random_seed(&trainer->numpy, (uint32_t)options->seed);
    bombus_status status = open_set(trainer, &trainer->train, "train", true, error);
    if (status == BOMBUS_OK && !trainer->train.is_open)
        status = bb_fail(error, BOMBUS_ERROR_NOT_FOUND, "%s: no training set (train.jsonl) there", options->data);
    if (status == BOMBUS_OK && options->steps_per_eval > 0)
        status = open_set(trainer, &trainer->validation, "valid", false, error);
    if (status == BOMBUS_OK && options->patience > 0 && !trainer->validation.is_open)
        status = bb_fail(error, BOMBUS_ERROR_NOT_FOUND,
                         "patience: %lld: it counts evaluations, and %s has no validation set (valid.jsonl)",
                         (long long)options->patience, options->data);
    if (status == BOMBUS_OK && options->test_batches != 0) {
        status = open_set(trainer, &trainer->test, "test", false, error);
        if (status == BOMBUS_OK && !trainer->test.is_open)
            status =
                bb_fail(error, BOMBUS_ERROR_NOT_FOUND, "test_batches: %s has no test set (test.jsonl)", options->data);
    }
    return status;
}

static bombus_status make_trainable(struct bb_trainer *trainer, bombus_error *error)
{
    const bombus_train_options *options = &trainer->options;
    struct bb_trainable_options wanted = {
        .type = options->fine_tune,
        .num_layers = options->num_layers,
        .rank = options->rank,
        .scale = (float)bb_train_options_scale(options),
        .dropout = (float)options->dropout,
        .keys = options->key_count > 0 ? options->keys : NULL,
        .key_count = options->key_count,
        .seed = options->seed,
    };
    bool is_exact = options->has_precision ? options->precision == BOMBUS_PRECISION_EXACT : trainer->inputs.is_exact;
    bombus_status status = bb_pool_create(&trainer->pool, trainer->inputs.thread_count, error);
    wanted.pool = trainer->pool;
    if (status == BOMBUS_OK)
        status = bb_trainable_create(&trainer->trainable, trainer->inputs.model, &wanted, error);
    if (status == BOMBUS_OK)
        status = bb_optimizer_init(&trainer->optimizer, options->optimizer, &options->optimizer_options,
                                   trainer->trainable->parameters, trainer->trainable->parameter_count, trainer->pool,
                                   error);
    bb_objective_init(&trainer->objective, options, is_exact, trainer->trainable, trainer->inputs.backend);
    return status;
}

static bombus_status describe(struct bb_trainer *trainer, bombus_error *error)
{
    struct bb_train_settings *settings = &trainer->settings;
    bb_train_settings_add(settings, "model", "%016llx", (unsigned long long)trainer->inputs.model->fingerprint);
    bb_train_settings_add(settings, "data", "%016llx", (unsigned long long)trainer->train.dataset.digest);
    bb_train_settings_add(settings, "validation data", "%016llx",
                          (unsigned long long)(trainer->validation.is_open ? trainer->validation.dataset.digest : 0));
    bb_train_settings_add(
        settings, "chat template", "%016llx",
        (unsigned long long)(trainer->inputs.template_ != NULL ? bb_template_digest(trainer->inputs.template_) : 0));
    bb_train_settings_add(settings, "precision", "%s", trainer->objective.backward_options.is_exact ? "exact" : "fast");
    bb_train_settings_add(settings, "processes", "%d", bb_process_count(trainer->options.process_group));
    bb_train_settings_add_options(settings, &trainer->options);
    return settings->is_failed ? bb_fail_memory(error, 4096, "the settings of a training") : BOMBUS_OK;
}

static bombus_status set_sample_prompt(struct bb_trainer *trainer, const int32_t *tokens, size_t count,
                                       bombus_error *error)
{
    const int32_t limit = trainer->inputs.model->recipe.position_limit;
    if (limit > 0 && count + (size_t)trainer->options.sample_tokens > (size_t)limit)
        return bb_fail(
            error, BOMBUS_ERROR_UNSUPPORTED,
            "sample_tokens: a prompt of %zu tokens and %d more: dynamic rope scaling is not supported beyond "
            "max_position_embeddings, %d",
            count, trainer->options.sample_tokens, limit);
    trainer->sample_prompt = bb_allocate(count, sizeof *tokens);
    if (trainer->sample_prompt == NULL)
        return bb_fail_memory(error, count * sizeof *tokens, "the sample prompt");
    memcpy(trainer->sample_prompt, tokens, count * sizeof *tokens);
    trainer->sample_prompt_count = count;
    return BOMBUS_OK;
}

/* How much of an example is its prompt: what stands before the first token that is learnt or, where all are, a few words. */
static int32_t prompt_length(const struct bb_example_part *part)
{
    enum { BEGINNING = 16 };
    int32_t count = part->prompt_count;
    for (int32_t token = 1; count == 0 && token < part->count; token++)
        count = part->is_learnt[token] ? token : 0;
    if (count <= 1)
        count = part->count / 4 < BEGINNING ? part->count / 4 : BEGINNING;
    return count;
}

/* The caller's prompt, or that of the first validation example. */
static bombus_status find_sample_prompt(struct bb_trainer *trainer, bombus_error *error)
{
    const bombus_train_options *options = &trainer->options;
    int32_t vocab_size = trainer->inputs.model->recipe.vocab_size;
    if (options->sample_tokens == 0)
        return BOMBUS_OK;
    for (size_t i = 0; i < options->sample_prompt_count; i++) {
        if (options->sample_prompt[i] < 0 || options->sample_prompt[i] >= vocab_size)
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "sample_prompt: id %d, expected a number in [0, %d)",
                           options->sample_prompt[i], vocab_size);
    }
    if (options->sample_prompt_count > 0)
        return set_sample_prompt(trainer, options->sample_prompt, options->sample_prompt_count, error);
    struct bb_example example = {0};
    bombus_status status = BOMBUS_OK;
    size_t count = trainer->validation.is_open ? trainer->validation.dataset.count : 0;
    for (size_t i = 0; i < count && status == BOMBUS_OK && trainer->sample_prompt == NULL; i++) {
        bool is_usable = false;
        status = bb_dataset_read(&trainer->validation.dataset, i, &example, &is_usable, error);
        if (status != BOMBUS_OK || !is_usable)
            continue;
        int32_t length = prompt_length(&example.parts[0]);
        if (length > 0)
            status = set_sample_prompt(trainer, example.parts[0].tokens, (size_t)length, error);
    }
    bb_example_clear(&example);
    return status;
}

static bombus_status set_up(struct bb_trainer *trainer, bombus_error *error)
{
    bombus_status status = open_data(trainer, error);
    if (status == BOMBUS_OK)
        status = make_trainable(trainer, error);
    if (status == BOMBUS_OK)
        status = describe(trainer, error);
    if (status == BOMBUS_OK)
        status = bb_adapter_folder_init(&trainer->folder, &trainer->options, error);
    if (status == BOMBUS_OK)
        status = find_sample_prompt(trainer, error);
    if (status == BOMBUS_OK)
        status = bb_estimate_room(trainer, error);
    return status;
}

bombus_status bb_trainer_create(struct bb_trainer **trainer, const struct bb_train_inputs *inputs,
                                const bombus_train_options *options, bombus_error *error)
{
    *trainer = NULL;
    struct bb_trainer *made = bb_allocate(1, sizeof *made);
    if (made == NULL)
        return bb_fail_memory(error, sizeof *made, "a trainer");
    made->inputs = *inputs;
    made->saved_iteration = -1;
    made->state = (struct bb_train_state){
        .train_loss = (double)NAN, .validation_loss = (double)NAN, .best_loss = (double)INFINITY, .best_iteration = -1};
    atomic_init(&made->is_cancelled, false);
    bombus_status status =
        bb_train_options_resolve(&made->options, options, inputs->model->recipe.num_hidden_layers, error);
    if (status == BOMBUS_OK)
        status = bb_process_check(made->options.process_group, error);
    if (status == BOMBUS_OK)
        status = set_up(made, error);
    if (status == BOMBUS_OK)
        *trainer = made;
    else
        bb_trainer_free(made);
    return status;
}

void bb_trainer_free(struct bb_trainer *trainer)
{
    if (trainer == NULL)
        return;
    close_set(&trainer->train);
    close_set(&trainer->validation);
    close_set(&trainer->test);
    bb_objective_clear(&trainer->objective);
    bb_optimizer_clear(&trainer->optimizer);
    bb_trainable_free(trainer->trainable);
    bb_pool_free(trainer->pool);
    bb_train_settings_clear(&trainer->settings);
    bb_adapter_folder_clear(&trainer->folder);
    bb_release(trainer->sample_prompt);
    bb_release(trainer);
}
