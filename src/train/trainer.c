/* The loop itself; trainer_setup.c makes what it works with. */
#include "train/trainer.h"

#include "train/estimate.h"
#include "train/process_group.h"
#include "train/schedule.h"

#include "base/buffer.h"
#include "base/clock.h"
#include "base/random.h"

#include <math.h>
#include <stdio.h>

/* What was left out and cut of a set's lines, as known by now; false: nothing. */
static bool describe_lines(char *text, size_t size, const struct bb_train_set *set)
{
    const struct bb_dataset_counts *counts = &set->dataset.counts;
    long long left_out = (long long)(counts->malformed + counts->empty), cut = (long long)counts->truncated;
    if (!set->is_open || left_out + cut == 0)
        return false;
    snprintf(text, size, "%.300s: of %lld lines %lld were left out and %lld cut to max_seq_length %d",
             set->dataset.path, (long long)counts->lines, left_out, cut, (int)set->dataset.options.max_seq_length);
    return true;
}

static void tell_lines(struct bb_trainer *trainer)
{
    const struct bb_train_set *const sets[] = {&trainer->train, &trainer->validation, &trainer->test};
    char text[600];
    for (size_t i = 0; i < BB_COUNT(sets); i++)
        if (describe_lines(text, sizeof text, sets[i]))
            bb_trainer_tell(
                trainer,
                &(bombus_train_event){.type = BOMBUS_TRAIN_LINE, .iteration = trainer->state.iteration, .text = text});
}

/* ---- places in the data ---- */

static void note_places(struct bb_trainer *trainer)
{
    trainer->state.batches = bb_batches_get_state(&trainer->train.batches);
    if (trainer->validation.is_open)
        trainer->state.validation = bb_batches_get_state(&trainer->validation.batches);
}

/* To those that the state notes. Training last: with mlx-lm's order both draw from one generator, and it is training that counts its draws last. */
static bombus_status return_to_places(struct bb_trainer *trainer, bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    if (trainer->validation.is_open)
        status = bb_batches_set_state(&trainer->validation.batches, &trainer->state.validation, error);
    return status == BOMBUS_OK ? bb_batches_set_state(&trainer->train.batches, &trainer->state.batches, error) : status;
}

/* ---- evaluation ---- */

/* How many batches an evaluation takes at most. */
static int64_t batch_limit(const struct bb_train_set *set, int64_t limit)
{
    const int64_t size = set->batches.options.batch_size, all = ((int64_t)set->dataset.count + size - 1) / size;
    return limit >= 0 && limit < all ? limit : all;
}

/* The mean loss over at most `limit` batches (< 0: all) of a set, over all processes; *is_stopping tells that it was broken off. */
static bombus_status mean_loss(struct bb_trainer *trainer, struct bb_train_set *set, int64_t limit, double *loss,
                               bool *is_stopping, bombus_error *error)
{
    const bombus_process_group *group = trainer->options.process_group;
    const int64_t size = bb_process_count(group), rank = bb_process_rank(group), total = batch_limit(set, limit);
    double sums[2] = {0.0, 0.0};
    bombus_status status = BOMBUS_OK;
    bb_batches_restart(&set->batches);
    *is_stopping = false;
    for (int64_t first = 0; status == BOMBUS_OK && !*is_stopping && (limit < 0 || first < limit); first += size) {
        const struct bb_train_batch *batch = NULL;
        struct bb_batch_loss part = {0};
        status = bb_batches_next(&set->batches, &batch, error);
        if (status == BOMBUS_OK && batch == NULL)
            break; /* in all processes at once */
        if (status == BOMBUS_OK && (limit < 0 || first + rank < limit))
            status = bb_objective_evaluate(&trainer->objective, batch, &part, error);
        sums[0] += part.loss * part.count;
        sums[1] += part.count;
        if (status == BOMBUS_OK)
            bb_trainer_tell(trainer, &(bombus_train_event){.type = BOMBUS_TRAIN_EVALUATION,
                                                           .iteration = trainer->state.iteration,
                                                           .done = first + size < total ? first + size : total,
                                                           .total = total});
        *is_stopping = bb_trainer_is_cancelled(trainer);
        status = bb_process_agree(group, status, is_stopping, error);
    }
    if (status == BOMBUS_OK)
        status = bb_process_sum_doubles(group, sums, BB_COUNT(sums), error);
    *loss = sums[0] / sums[1]; /* NaN where nothing was to be predicted */
    return status;
}

/* ---- saving ---- */

static struct bb_train_parts parts_of(struct bb_trainer *trainer)
{
    return (struct bb_train_parts){&trainer->state, trainer->trainable, &trainer->optimizer, &trainer->settings};
}

static bombus_status sum_gradients(struct bb_trainer *trainer, bombus_error *error)
{
    const bombus_process_group *group = trainer->options.process_group;
    return bb_process_sum_floats(group, trainer->trainable->gradients, trainer->trainable->value_count, error);
}

/* The file holds one array of gradients, so those that wait for their update are summed before, and the first process keeps the sum. */
static bombus_status gather_pending(struct bb_trainer *trainer, bombus_error *error)
{
    const bombus_process_group *group = trainer->options.process_group;
    if (trainer->state.pending == 0 || bb_process_count(group) == 1)
        return BOMBUS_OK;
    bombus_status status = sum_gradients(trainer, error);
    if (bb_process_rank(group) != 0)
        bb_trainable_zero_gradients(trainer->trainable);
    return status;
}

static bombus_status save(struct bb_trainer *trainer, bool is_numbered, bombus_error *error)
{
    const bombus_process_group *group = trainer->options.process_group;
    bombus_status status = gather_pending(trainer, error);
    if (status != BOMBUS_OK)
        return status;
    note_places(trainer);
    struct bb_train_parts parts = parts_of(trainer);
    if (bb_process_rank(group) == 0)
        status = bb_adapter_folder_save(&trainer->folder, &parts, is_numbered, error);
    status = bb_process_agree(group, status, NULL, error);
    if (status != BOMBUS_OK)
        return status;
    trainer->saved_iteration = trainer->state.iteration;
    bb_trainer_tell(trainer, &(bombus_train_event){.type = BOMBUS_TRAIN_SAVED,
                                                   .iteration = trainer->state.iteration,
                                                   .text = trainer->folder.path});
    return BOMBUS_OK;
}

/* ---- one iteration ---- */

static double learning_rate(const struct bb_trainer *trainer)
{
    return bb_schedule_rate(&trainer->options.schedule, trainer->options.learning_rate, trainer->optimizer.updates);
}

static bombus_status diverged(const struct bb_trainer *trainer, const char *what, double value, bombus_error *error)
{
    return bb_fail(error, BOMBUS_ERROR_DIVERGED,
                   "iteration %lld: %s is %g; a lower learning_rate or max_grad_norm may help",
                   (long long)trainer->state.iteration + 1, what, value);
}

/* Sums the gradients of all processes, clips them and moves the parameters. */
static bombus_status update(struct bb_trainer *trainer, bombus_error *error)
{
    const bombus_train_options *options = &trainer->options;
    struct bb_trainable *trainable = trainer->trainable;
    bombus_status status = sum_gradients(trainer, error);
    if (status == BOMBUS_OK && trainer->state.pending_weight > 0.0) {
        double scale = 1.0 / trainer->state.pending_weight;
        double norm = scale * sqrt(bb_sum_squares(trainer->pool, trainable->gradients, trainable->value_count));
        if (!isfinite(norm))
            return diverged(trainer, "the norm of the gradients", norm, error);
        if (options->max_grad_norm > 0.0 && norm > options->max_grad_norm)
            scale *= options->max_grad_norm / (norm + 1e-6); /* as mlx.optimizers.clip_grad_norm */
        bb_optimizer_step(&trainer->optimizer, trainable->parameters, trainable->parameter_count,
                          learning_rate(trainer), scale);
        status = bb_trainable_refresh(trainable, error);
    }
    bb_trainable_zero_gradients(trainable);
    trainer->state.pending = 0;
    trainer->state.pending_weight = 0.0;
    return status;
}

/* What an iteration came to, over all processes. */
struct outcome {
    double loss, weight; /* mean, and weight of the mean */
    int64_t targets;
    bool is_stopping; /* some process was asked to */
};

static bombus_status learn(struct bb_trainer *trainer, const struct bb_train_batch *batch, struct outcome *outcome,
                           bombus_error *error)
{
    const bombus_process_group *group = trainer->options.process_group;
    struct bb_batch_loss loss = {0};
    uint64_t seed = bb_random_at(trainer->options.seed, batch->number);
    bombus_status status = bb_objective_train(&trainer->objective, batch, seed, &loss, error);
    if (status == BOMBUS_OK && loss.weight > 0.0 && !isfinite(loss.loss))
        status = diverged(trainer, "the loss", loss.loss, error);
    outcome->is_stopping = bb_trainer_is_cancelled(trainer);
    status = bb_process_agree(group, status, &outcome->is_stopping, error);
    double sums[3] = {loss.loss * loss.weight, loss.weight, (double)batch->target_count};
    if (status == BOMBUS_OK)
        status = bb_process_sum_doubles(group, sums, BB_COUNT(sums), error);
    outcome->weight = sums[1];
    outcome->loss = sums[1] > 0.0 ? sums[0] / sums[1] : 0.0;
    outcome->targets = (int64_t)sums[2];
    return status;
}

static bombus_status train_once(struct bb_trainer *trainer, const struct bb_train_batch *batch, bool *is_stopping,
                                bombus_error *error)
{
    struct bb_train_state *state = &trainer->state;
    struct outcome outcome = {0};
    double start = bb_clock_seconds(), rate = learning_rate(trainer);
    bombus_status status = learn(trainer, batch, &outcome, error);
    if (status != BOMBUS_OK)
        return status;
    *is_stopping = outcome.is_stopping;
    state->pending++;
    state->pending_weight += outcome.weight;
    if (state->pending == trainer->options.grad_accumulation_steps)
        status = update(trainer, error);
    if (status != BOMBUS_OK)
        return status;
    double seconds = bb_clock_seconds() - start;
    state->iteration++;
    state->seconds += seconds;
    state->trained_tokens += outcome.targets;
    state->window.loss += outcome.loss * outcome.weight;
    state->window.weight += outcome.weight;
    state->window.targets += outcome.targets;
    state->window.seconds += seconds;
    state->window.steps++;
    bb_trainer_tell(trainer, &(bombus_train_event){.type = BOMBUS_TRAIN_STEP,
                                                   .iteration = state->iteration,
                                                   .loss = outcome.loss,
                                                   .learning_rate = rate,
                                                   .tokens_per_second = (double)outcome.targets / seconds,
                                                   .iterations_per_second = 1.0 / seconds,
                                                   .seconds = seconds,
                                                   .trained_tokens = state->trained_tokens});
    /* Several processes hear of it behind the next step. */
    *is_stopping =
        *is_stopping || (bb_process_count(trainer->options.process_group) == 1 && bb_trainer_is_cancelled(trainer));
    return BOMBUS_OK;
}

/* ---- what is due after an iteration ---- */

static bool is_due(int64_t iteration, int64_t every)
{
    return every > 0 && iteration % every == 0;
}

static void report(struct bb_trainer *trainer, double rate)
{
    struct bb_train_state *state = &trainer->state;
    const struct bb_report_window *window = &state->window;
    state->train_loss = window->loss / window->weight;
    bb_trainer_tell(trainer, &(bombus_train_event){.type = BOMBUS_TRAIN_REPORT,
                                                   .iteration = state->iteration,
                                                   .loss = state->train_loss,
                                                   .learning_rate = rate,
                                                   .tokens_per_second = (double)window->targets / window->seconds,
                                                   .iterations_per_second = (double)window->steps / window->seconds,
                                                   .seconds = window->seconds,
                                                   .trained_tokens = state->trained_tokens});
    state->window = (struct bb_report_window){0};
}

static bombus_status sample(struct bb_trainer *trainer, bombus_error *error)
{
    const struct bb_train_inputs *inputs = &trainer->inputs;
    const struct bb_sample_options options = bb_trainer_sample_options(trainer);
    if (trainer->sample_prompt == NULL || bb_process_rank(trainer->options.process_group) != 0)
        return BOMBUS_OK;
    struct bb_buffer prompt = {0}, text = {0};
    bombus_status status =
        bb_sample_text(&text, trainer->trainable, inputs->backend, inputs->tokenizer, &options, error);
    if (status == BOMBUS_OK)
        status = bb_tokenizer_decode(inputs->tokenizer, options.prompt, options.count, true, &prompt, error);
    if (status == BOMBUS_OK && (prompt.is_failed || text.is_failed))
        status = bb_fail_memory(error, text.length, "a sample text");
    if (status == BOMBUS_OK && !bb_trainer_is_cancelled(trainer)) /* else it may be half a text */
        bb_trainer_tell(trainer, &(bombus_train_event){.type = BOMBUS_TRAIN_SAMPLE,
                                                       .iteration = trainer->state.iteration,
                                                       .text = text.data != NULL ? text.data : "",
                                                       .prompt = prompt.data != NULL ? prompt.data : ""});
    bb_buffer_clear(&prompt);
    bb_buffer_clear(&text);
    return status;
}

/* Keeps the best, and counts how long there was none better. */
static bombus_status compare_best(struct bb_trainer *trainer, double loss, bool *is_best, bombus_error *error)
{
    struct bb_train_state *state = &trainer->state;
    bombus_status status = BOMBUS_OK;
    *is_best = loss < state->best_loss - trainer->options.min_delta;
    state->evaluations_without_best = *is_best ? 0 : state->evaluations_without_best + 1;
    if (!*is_best)
        return BOMBUS_OK;
    state->best_loss = loss;
    state->best_iteration = state->iteration;
    if (bb_process_rank(trainer->options.process_group) == 0)
        status = bb_adapter_folder_save_best(&trainer->folder, trainer->trainable, error);
    return bb_process_agree(trainer->options.process_group, status, NULL, error);
}

/* The validation loss. One that is broken off leaves everything as it was, the draws of training's order too. */
static bombus_status validate(struct bb_trainer *trainer, bool *is_stopping, bombus_error *error)
{
    double start = bb_clock_seconds(), loss = (double)NAN;
    bool is_best = false;
    note_places(trainer);
    bombus_status status =
        mean_loss(trainer, &trainer->validation, trainer->options.val_batches, &loss, is_stopping, error);
    double seconds = bb_clock_seconds() - start;
    if (status == BOMBUS_OK && *is_stopping)
        return return_to_places(trainer, error);
    trainer->state.validation_loss = loss;
    if (status == BOMBUS_OK)
        status = compare_best(trainer, loss, &is_best, error);
    if (status == BOMBUS_OK)
        bb_trainer_tell(trainer, &(bombus_train_event){.type = BOMBUS_TRAIN_VALIDATION,
                                                       .iteration = trainer->state.iteration,
                                                       .loss = loss,
                                                       .seconds = seconds,
                                                       .is_best = is_best});
    return status;
}

/* state.is_evaluation_due tells whether the evaluation was broken off before there was a loss. */
static bombus_status evaluate(struct bb_trainer *trainer, bool *is_stopping, bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    if (trainer->validation.is_open)
        status = validate(trainer, is_stopping, error);
    trainer->state.is_evaluation_due = status == BOMBUS_OK && *is_stopping;
    if (status != BOMBUS_OK || *is_stopping)
        return status; /* of all processes */
    status = sample(trainer, error);
    *is_stopping = bb_trainer_is_cancelled(trainer);
    return bb_process_agree(trainer->options.process_group, status, is_stopping, error);
}

static bool evaluation_is_due(const struct bb_trainer *trainer)
{
    const int64_t iteration = trainer->state.iteration, every = trainer->options.steps_per_eval;
    return is_due(iteration, every) || (every > 0 && iteration == trainer->options.iters);
}

static bombus_status evaluate_and_save(struct bb_trainer *trainer, bool *is_stopping, bombus_error *error)
{
    bombus_status status = evaluation_is_due(trainer) ? evaluate(trainer, is_stopping, error) : BOMBUS_OK;
    if (status == BOMBUS_OK && !trainer->state.is_evaluation_due &&
        is_due(trainer->state.iteration, trainer->options.save_every))
        status = save(trainer, true, error);
    return status;
}

/* ---- the run ---- */

static bombus_status begin_new(struct bb_trainer *trainer, bombus_error *error)
{
    const bombus_train_options *options = &trainer->options;
    bombus_status status = BOMBUS_OK;
    if (options->resume_adapter_file != NULL)
        status = bb_trainable_load(trainer->trainable, options->resume_adapter_file, error);
    if (status == BOMBUS_OK && bb_process_rank(options->process_group) == 0)
        status = bb_adapter_folder_prepare(&trainer->folder, options->force, error);
    note_places(trainer);
    struct bb_train_parts parts = parts_of(trainer);
    if (status == BOMBUS_OK && bb_process_rank(options->process_group) == 0)
        status = bb_adapter_folder_save_state(&trainer->folder, &parts, error);
    return status;
}

static bombus_status go_on(struct bb_trainer *trainer, bombus_error *error)
{
    struct bb_train_parts parts = parts_of(trainer);
    bombus_status status = BOMBUS_OK;
    if (bb_process_rank(trainer->options.process_group) == 0)
        status = bb_adapter_folder_clean(&trainer->folder, error);
    if (status == BOMBUS_OK)
        status = bb_train_state_load(&parts, trainer->folder.state_path, error);
    if (status == BOMBUS_OK)
        status = return_to_places(trainer, error);
    if (bb_process_rank(trainer->options.process_group) != 0)
        bb_trainable_zero_gradients(trainer->trainable); /* the first process has the sum of them all */
    if (status == BOMBUS_OK)
        trainer->saved_iteration = trainer->state.iteration;
    return status;
}

static bombus_status begin(struct bb_trainer *trainer, bombus_error *error)
{
    const bombus_train_options *options = &trainer->options;
    bool goes_on = options->resume && bb_adapter_folder_has_state(&trainer->folder);
    bombus_status status = goes_on ? go_on(trainer, error) : begin_new(trainer, error);
    status = bb_process_agree(options->process_group, status, NULL, error);
    if (status != BOMBUS_OK)
        return status;
    char text[600];
    bool is_unusual = describe_lines(text, sizeof text, &trainer->train);
    bb_trainer_tell(trainer, &(bombus_train_event){.type = BOMBUS_TRAIN_BEGIN,
                                                   .text = is_unusual ? text : NULL,
                                                   .iteration = trainer->state.iteration,
                                                   .parameter_count = (int64_t)trainer->trainable->value_count,
                                                   .example_count = (int64_t)trainer->train.dataset.count});
    return status;
}

/* One iteration, and what is due after it. */
static bombus_status iterate(struct bb_trainer *trainer, bool *is_stopping, bombus_error *error)
{
    const bombus_train_options *options = &trainer->options;
    const struct bb_train_state *state = &trainer->state;
    note_places(trainer);
    const struct bb_train_state before = trainer->state;
    const struct bb_train_batch *batch = NULL;
    const double rate = learning_rate(trainer);
    bombus_status status = bb_batches_next(&trainer->train.batches, &batch, error);
    status = bb_process_agree(options->process_group, status, NULL, error);
    /* mlx-lm draws the order of the first epoch before that of the first evaluation, so the batch comes first */
    if (status == BOMBUS_OK && state->iteration == 0 && options->steps_per_eval > 0)
        status = evaluate(trainer, is_stopping, error);
    if (status == BOMBUS_OK && *is_stopping) { /* before the first step: batch and evaluation come again */
        trainer->state = before;
        return return_to_places(trainer, error);
    }
    if (status != BOMBUS_OK)
        return status;
    status = train_once(trainer, batch, is_stopping, error);
    const bool is_last = state->iteration == options->iters;
    if (status == BOMBUS_OK &&
        (is_due(state->iteration, options->steps_per_report) || (is_last && options->steps_per_report > 0)))
        report(trainer, rate);
    if (status != BOMBUS_OK)
        return status;
    trainer->state.is_evaluation_due = *is_stopping && evaluation_is_due(trainer);
    return trainer->state.is_evaluation_due ? BOMBUS_OK : evaluate_and_save(trainer, is_stopping, error);
}

static bombus_status loop(struct bb_trainer *trainer, bombus_train_end *end, bombus_error *error)
{
    const bombus_train_options *options = &trainer->options;
    const struct bb_train_state *state = &trainer->state;
    bool is_stopping = false;
    bombus_status status = BOMBUS_OK;
    *end = BOMBUS_TRAIN_FINISHED;
    if (state->is_evaluation_due) /* the run before was broken off in it */
        status = evaluate_and_save(trainer, &is_stopping, error);
    while (status == BOMBUS_OK && !is_stopping && state->iteration < options->iters) {
        if (options->patience > 0 && state->evaluations_without_best >= options->patience) {
            *end = BOMBUS_TRAIN_STOPPED_EARLY;
            break;
        }
        status = iterate(trainer, &is_stopping, error);
    }
    if (is_stopping && (state->iteration < options->iters || state->is_evaluation_due))
        *end = BOMBUS_TRAIN_CANCELLED;
    return status;
}

static bombus_status test(struct bb_trainer *trainer, bombus_error *error)
{
    double start = bb_clock_seconds(), loss = (double)NAN;
    bool is_stopping = false;
    bombus_status status =
        mean_loss(trainer, &trainer->test, trainer->options.test_batches, &loss, &is_stopping, error);
    if (status == BOMBUS_OK && !is_stopping)
        bb_trainer_tell(trainer, &(bombus_train_event){.type = BOMBUS_TRAIN_TEST,
                                                       .iteration = trainer->state.iteration,
                                                       .loss = loss,
                                                       .seconds = bb_clock_seconds() - start});
    return status;
}

/* Says which state stands after a failure. */
static bombus_status name_saved_state(const struct bb_trainer *trainer, bombus_status status, bombus_error *error)
{
    if (status == BOMBUS_OK || error == NULL || bb_process_rank(trainer->options.process_group) != 0)
        return status;
    bombus_error cause = *error;
    if (trainer->saved_iteration < 0)
        return bb_fail(error, status, "%.700s (nothing was saved yet)", cause.message);
    return bb_fail(error, status, "%.700s (the last saved state is that of iteration %lld, in %.200s)", cause.message,
                   (long long)trainer->saved_iteration, trainer->folder.path);
}

static bombus_status finish(struct bb_trainer *trainer, bombus_train_end end, bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    if (trainer->saved_iteration != trainer->state.iteration || trainer->state.iteration == trainer->options.iters)
        status = save(trainer, false, error);
    if (status == BOMBUS_OK && trainer->test.is_open && end != BOMBUS_TRAIN_CANCELLED)
        status = test(trainer, error);
    return status;
}

bombus_status bb_trainer_run(struct bb_trainer *trainer, bombus_train_result *result, bombus_error *error)
{
    double start = bb_clock_seconds();
    bombus_train_end end = BOMBUS_TRAIN_FINISHED;
    if (trainer->has_run)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "a trainer runs once: make another one to train again");
    trainer->has_run = true;
    bombus_status status = begin(trainer, error);
    if (status == BOMBUS_OK) {
        status = bb_process_agree(trainer->options.process_group, bb_estimate_run(trainer, error), NULL, error);
        if (status == BOMBUS_OK)
            status = loop(trainer, &end, error);
        if (status == BOMBUS_OK)
            status = finish(trainer, end, error);
        if (status == BOMBUS_OK)
            tell_lines(trainer);
        status = name_saved_state(trainer, status, error);
    }
    const struct bb_train_state *state = &trainer->state;
    *result = (bombus_train_result){.end = end,
                                    .iteration = state->iteration,
                                    .trained_tokens = state->trained_tokens,
                                    .train_loss = state->train_loss,
                                    .validation_loss = state->validation_loss,
                                    .best_loss = state->best_iteration < 0 ? (double)NAN : state->best_loss,
                                    .best_iteration = state->best_iteration,
                                    .seconds = bb_clock_seconds() - start};
    return status;
}
