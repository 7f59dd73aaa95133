/* Weighs the rows of a batch so that bb_backward_step gives the gradients of the wanted loss.
 *
 * For preferences the weights depend on the log-probabilities of whole answers, so these are computed first, without gradients, under the same dropout
 * and noise as the pass with gradients behind it. */
#include "train/objective.h"

#include "base/memory.h"
#include "train/preference.h"

#include <math.h>
#include <string.h>

void bb_objective_init(struct bb_objective *objective, const bombus_train_options *options, bool is_exact,
                       struct bb_trainable *trainable, struct bb_backend *backend)
{
    *objective = (struct bb_objective){
        .options = options,
        .trainable = trainable,
        .backend = backend,
        .backward_options = {.is_exact = is_exact,
                             .is_kept = options->keep_activations,
                             .neftune_alpha = (float)options->neftune_alpha},
    };
}

static void release_buffers(struct bb_objective *objective)
{
    bb_backward_free(objective->backward);
    bb_release(objective->spans);
    bb_release(objective->reference_spans);
    bb_release(objective->answers);
    bb_release(objective->nll);
    bb_release(objective->reference);
    bb_release(objective->weights);
    bb_release(objective->targets);
    objective->backward = NULL;
    objective->spans = objective->reference_spans = NULL;
    objective->answers = NULL;
    objective->nll = objective->reference = objective->weights = NULL;
    objective->targets = NULL;
}

void bb_objective_clear(struct bb_objective *objective)
{
    release_buffers(objective);
    *objective = (struct bb_objective){0};
}

bombus_status bb_objective_reserve(struct bb_objective *objective, int32_t rows, int32_t sequences, bombus_error *error)
{
    struct bb_backward_options *limits = &objective->backward_options;
    if (objective->backward != NULL && rows <= limits->row_limit && sequences <= limits->sequence_limit)
        return BOMBUS_OK;
    /* Before the first loss the limits are 0. What was there goes first, so that old and new never stand side by side. */
    limits->row_limit = rows > limits->row_limit ? rows : limits->row_limit;
    limits->sequence_limit = sequences > limits->sequence_limit ? sequences : limits->sequence_limit;
    release_buffers(objective);
    size_t row_count = (size_t)limits->row_limit, sequence_count = (size_t)limits->sequence_limit;
    objective->spans = bb_allocate(sequence_count, sizeof *objective->spans);
    objective->reference_spans = bb_allocate(sequence_count, sizeof *objective->reference_spans);
    objective->answers = bb_allocate(sequence_count, sizeof *objective->answers);
    objective->nll = bb_allocate(row_count, sizeof *objective->nll);
    objective->reference = bb_allocate(row_count, sizeof *objective->reference);
    objective->weights = bb_allocate(row_count, sizeof *objective->weights);
    objective->targets = bb_allocate(row_count, sizeof *objective->targets);
    if (objective->spans == NULL || objective->reference_spans == NULL || objective->answers == NULL ||
        objective->nll == NULL || objective->reference == NULL || objective->weights == NULL ||
        objective->targets == NULL) {
        release_buffers(objective);
        return bb_fail_memory(error, row_count * 4 * sizeof(float), "the rows of a training step");
    }
    return bb_backward_create(&objective->backward, objective->trainable, objective->backend, limits, error);
}

size_t bb_objective_bytes(const struct bb_objective *objective)
{
    return objective->backward != NULL ? bb_backward_bytes(objective->backward) : 0;
}

/* ---- steps ---- */

/* One pass over the batch. */
struct pass {
    struct bb_objective *objective;
    const struct bb_train_batch *batch;
    const int32_t *targets;
    uint64_t seed;
    bool is_training;
};

static bombus_status run(const struct pass *pass, const struct bb_span *spans, const float *weights, float *nll,
                         bombus_error *error)
{
    const struct bb_train_batch *batch = pass->batch;
    const struct bb_batch rows = {.row_count = batch->row_count,
                                  .tokens = batch->tokens,
                                  .positions = batch->positions,
                                  .span_count = batch->span_count,
                                  .spans = spans};
    const struct bb_backward_call call = {.batch = &rows,
                                          .targets = pass->targets,
                                          .weights = weights,
                                          .seed = pass->seed,
                                          .is_training = pass->is_training,
                                          .nll = nll};
    return bb_backward_step(pass->objective->backward, &call, error);
}

static bombus_status learn_tokens(const struct pass *pass, struct bb_batch_loss *loss, bombus_error *error)
{
    struct bb_objective *objective = pass->objective;
    const struct bb_train_batch *batch = pass->batch;
    double count = (double)batch->target_count;
    if (batch->target_count == 0)
        return BOMBUS_OK;
    loss->count = count;
    loss->weight = objective->options->mlx_compatible ? 1.0 : count;
    float weight = (float)(loss->weight / count);
    for (int32_t i = 0; i < batch->row_count; i++)
        objective->weights[i] = pass->targets[i] >= 0 ? weight : 0.0f;
    bombus_status status =
        run(pass, objective->spans, pass->is_training ? objective->weights : NULL, objective->nll, error);
    double sum = 0.0;
    for (int32_t i = 0; i < batch->row_count && status == BOMBUS_OK; i++)
        sum += pass->targets[i] >= 0 ? (double)objective->nll[i] : 0.0;
    loss->loss = sum / count;
    return status;
}

/* Sums of ln p over the targets of each span that the data ask for. */
static void sum_answers(const struct pass *pass, const float *nll, bool is_reference)
{
    for (int32_t i = 0; i < pass->batch->span_count; i++) {
        const struct bb_span *span = &pass->batch->spans[i];
        double sum = 0.0;
        int64_t count = 0;
        for (int32_t row = span->first_row; row < span->first_row + span->row_count; row++) {
            if (pass->batch->targets[row] < 0)
                continue;
            sum -= (double)nll[row];
            count++;
        }
        struct bb_answer *answer = &pass->objective->answers[i];
        answer->count = count;
        if (is_reference)
            answer->reference = sum;
        else
            answer->logprob = sum;
    }
}

static void weigh_answer(const struct pass *pass, int32_t index, double slope)
{
    const struct bb_span *span = &pass->batch->spans[index];
    /* d loss / d nll = -d loss / d logprob, the same for each token of the answer */
    for (int32_t row = span->first_row; row < span->first_row + span->row_count; row++)
        pass->objective->weights[row] = pass->batch->targets[row] >= 0 ? (float)-slope : 0.0f;
}

/* ORPO's other part: the mean nll of all tokens behind the first of the chosen sequences, prompts included (as TRL has it). */
static double add_likelihood(const struct pass *pass)
{
    struct bb_objective *objective = pass->objective;
    double sum = 0.0;
    int64_t count = 0;
    for (int32_t i = 0; i < pass->batch->span_count; i += 2) {
        const struct bb_span *span = &pass->batch->spans[i];
        for (int32_t row = span->first_row; row < span->first_row + span->row_count; row++) {
            sum += pass->targets[row] >= 0 ? (double)objective->nll[row] : 0.0;
            count += pass->targets[row] >= 0;
        }
    }
    double weight = count > 0 ? (double)(pass->batch->span_count / 2) / (double)count : 0.0;
    for (int32_t i = 0; i < pass->batch->span_count; i += 2) {
        const struct bb_span *span = &pass->batch->spans[i];
        for (int32_t row = span->first_row; row < span->first_row + span->row_count; row++)
            objective->weights[row] += pass->targets[row] >= 0 ? (float)weight : 0.0f;
    }
    return count > 0 ? sum / (double)count : 0.0;
}

static bombus_status learn_preferences(const struct pass *pass, struct bb_batch_loss *loss, bombus_error *error)
{
    struct bb_objective *objective = pass->objective;
    const bombus_train_options *options = objective->options;
    int32_t pair_count = pass->batch->span_count / 2;
    if (pair_count == 0)
        return BOMBUS_OK;
    bombus_status status = BOMBUS_OK;
    if (options->mode == BOMBUS_TRAIN_DPO) {
        struct pass reference = *pass;
        reference.is_training = false;
        status = run(&reference, objective->reference_spans, NULL, objective->reference, error);
        if (status == BOMBUS_OK)
            sum_answers(&reference, objective->reference, true);
    }
    if (status == BOMBUS_OK)
        status = run(pass, objective->spans, NULL, objective->nll, error);
    if (status != BOMBUS_OK)
        return status;
    sum_answers(pass, objective->nll, false);
    double sum = 0.0;
    for (int32_t pair = 0; pair < pair_count; pair++) {
        const struct bb_answer *chosen = &objective->answers[2 * pair], *rejected = chosen + 1;
        struct bb_preference preference =
            options->mode == BOMBUS_TRAIN_DPO
                ? bb_preference_dpo(chosen, rejected, options->dpo_loss, options->beta, options->label_smoothing)
                : bb_preference_orpo(chosen, rejected, options->beta);
        sum += preference.loss;
        weigh_answer(pass, 2 * pair, preference.chosen_slope);
        weigh_answer(pass, 2 * pair + 1, preference.rejected_slope);
    }
    loss->loss = sum / pair_count;
    loss->count = loss->weight = pair_count;
    if (options->mode == BOMBUS_TRAIN_ORPO)
        loss->loss += add_likelihood(pass);
    return pass->is_training ? run(pass, objective->spans, objective->weights, objective->nll, error) : BOMBUS_OK;
}

/* ORPO's likelihood is over the prompt too: every row but the last of a span has the next token as its target. */
static const int32_t *widen_targets(struct bb_objective *objective, const struct bb_train_batch *batch)
{
    memcpy(objective->targets, batch->targets, (size_t)batch->row_count * sizeof *objective->targets);
    for (int32_t i = 0; i < batch->span_count; i += 2) {
        const struct bb_span *span = &batch->spans[i];
        for (int32_t row = span->first_row; row + 1 < span->first_row + span->row_count; row++)
            objective->targets[row] = batch->tokens[row + 1];
    }
    return objective->targets;
}

static bombus_status step(struct bb_objective *objective, const struct bb_train_batch *batch, uint64_t seed,
                          bool is_training, struct bb_batch_loss *loss, bombus_error *error)
{
    *loss = (struct bb_batch_loss){0};
    if (batch->row_count == 0)
        return BOMBUS_OK;
    bombus_status status = bb_objective_reserve(objective, batch->row_count, batch->span_count, error);
    if (status != BOMBUS_OK)
        return status;
    for (int32_t i = 0; i < batch->span_count; i++) {
        objective->spans[i] = objective->reference_spans[i] = batch->spans[i];
        objective->spans[i].adapters = objective->trainable->set;
        objective->reference_spans[i].adapters = NULL;
    }
    struct pass pass = {objective, batch, batch->targets, seed, is_training};
    if (objective->options->mode == BOMBUS_TRAIN_SFT)
        return learn_tokens(&pass, loss, error);
    if (objective->options->mode == BOMBUS_TRAIN_ORPO)
        pass.targets = widen_targets(objective, batch);
    return learn_preferences(&pass, loss, error);
}

bombus_status bb_objective_train(struct bb_objective *objective, const struct bb_train_batch *batch, uint64_t seed,
                                 struct bb_batch_loss *loss, bombus_error *error)
{
    return step(objective, batch, seed, true, loss, error);
}

bombus_status bb_objective_evaluate(struct bb_objective *objective, const struct bb_train_batch *batch,
                                    struct bb_batch_loss *loss, bombus_error *error)
{
    return step(objective, batch, 0, false, loss, error);
}
