/* Batches and steps for tests of the backward pass. */
#ifndef GRADIENT_FIXTURE_H
#define GRADIENT_FIXTURE_H

#include "golden.h"

#include "base/memory.h"
#include "base/random.h"
#include "files/safetensors.h"
#include "model/backward.h"
#include "ops/backends.h"

enum { FIXTURE_ROWS = 2048, FIXTURE_SPANS = 8 };

/* A batch with room for its arrays. */
struct step_batch {
    struct bb_batch batch;
    struct bb_span spans[FIXTURE_SPANS];
    int32_t tokens[FIXTURE_ROWS], positions[FIXTURE_ROWS], targets[FIXTURE_ROWS];
    float weights[FIXTURE_ROWS], nll[FIXTURE_ROWS];
    bool is_training; /* dropout, by a fixed seed */
};

/* One more sequence: inputs tokens[0 .. count - 2], the target of each the one behind it. */
static inline void add_sequence(struct step_batch *batch, const int32_t *tokens, int32_t count, const struct bb_adapter_set *set)
{
    struct bb_batch *into = &batch->batch;
    const int32_t rows = count - 1, first = into->row_count;
    assert_true(first + rows <= FIXTURE_ROWS && into->span_count < FIXTURE_SPANS);
    batch->spans[into->span_count] = (struct bb_span){.first_row = first, .row_count = rows, .sequence = into->span_count, .adapters = set};
    for (int32_t i = 0; i < rows; i++) {
        batch->tokens[first + i] = tokens[i];
        batch->positions[first + i] = i;
        batch->targets[first + i] = tokens[i + 1];
        batch->weights[first + i] = 1.0f;
    }
    into->span_count++;
    into->row_count += rows;
    into->tokens = batch->tokens;
    into->positions = batch->positions;
    into->spans = batch->spans;
}

static inline struct bb_backward_call call_of(struct step_batch *batch)
{
    return (struct bb_backward_call){.batch = &batch->batch,
                                     .targets = batch->targets,
                                     .weights = batch->weights,
                                     .nll = batch->nll,
                                     .seed = 9,
                                     .is_training = batch->is_training};
}

static inline double sum_nll(const struct step_batch *batch)
{
    double sum = 0.0;
    for (int32_t i = 0; i < batch->batch.row_count; i++)
        sum += (double)batch->nll[i] * (double)batch->weights[i];
    return sum;
}

static inline void run_step(struct bb_backward *backward, struct step_batch *batch)
{
    bombus_error error;
    struct bb_backward_call call = call_of(batch);
    CHECK_OK(bb_backward_step(backward, &call, &error), error);
}

static inline struct bb_backward *open_backward(struct bb_trainable *trainable, struct bb_backend *backend, bool is_exact, bool is_kept)
{
    struct bb_backward *backward;
    bombus_error error;
    const struct bb_backward_options options = {
        .is_exact = is_exact, .is_kept = is_kept, .row_limit = FIXTURE_ROWS, .sequence_limit = FIXTURE_SPANS};
    CHECK_OK(bb_backward_create(&backward, trainable, backend, &options, &error), error);
    return backward;
}

#endif
