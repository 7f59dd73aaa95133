/* What adapters add to a projection: which rows of the batch at work take which pairs at a slot. */
#include "ops/low_rank.h"

#include "ops/tape.h"

/* The spans of the batch at work, with their rows as operations see them now. */
struct walk {
    const struct bb_run *run;
    int32_t span, output; /* the next span; the first output row at or behind its beginning */
};

/* The next span with adapters and rows; NULL behind the last. */
static const struct bb_adapter_set *next_span(struct walk *walk, int32_t *first_row, int32_t *row_count)
{
    const struct bb_batch *batch = walk->run->adapted;
    while (walk->span < batch->span_count) {
        const struct bb_span *span = &batch->spans[walk->span++];
        *first_row = span->first_row;
        *row_count = span->row_count;
        if (walk->run->has_output_rows) {
            *first_row = walk->output;
            while (walk->output < batch->output_count &&
                   batch->output_rows[walk->output] < span->first_row + span->row_count)
                walk->output++;
            *row_count = walk->output - *first_row;
        }
        if (span->adapters != NULL && *row_count > 0)
            return span->adapters;
    }
    return NULL;
}

static bool is_live(const struct bb_run *run)
{
    return run->adapted != NULL && run->status == BOMBUS_OK && !run->is_measuring;
}

static struct bb_low_rank_terms find_terms(struct bb_run *run, int32_t slot, int32_t place)
{
    struct bb_low_rank_term *terms = run->terms + place * run->term_count;
    struct walk walk = {.run = run};
    int32_t count = 0, first_row, row_count;
    for (const struct bb_adapter_set *set; (set = next_span(&walk, &first_row, &row_count)) != NULL;)
        for (int32_t i = 0; i < set->count; i++) {
            const struct bb_low_rank *pair = bb_adapter_use_pair(&set->uses[i], slot);
            if (pair != NULL)
                terms[count++] = (struct bb_low_rank_term){
                    .pair = pair, .weight = set->uses[i].weight, .first_row = first_row, .row_count = row_count};
        }
    return (struct bb_low_rank_terms){.terms = terms, .count = count};
}

struct bb_low_rank_terms bb_op_terms(struct bb_run *run, const struct bb_linear *linear, int32_t place)
{
    return is_live(run) ? find_terms(run, linear->slot, place) : (struct bb_low_rank_terms){0};
}

bool bb_op_has_gains(struct bb_low_rank_terms terms)
{
    for (int32_t i = 0; i < terms.count; i++)
        if (terms.terms[i].pair->gains != NULL)
            return true;
    return false;
}

bool bb_op_is_trained(struct bb_run *run, const struct bb_linear *linear)
{
    struct bb_low_rank_terms terms = run->tape != NULL ? bb_op_terms(run, linear, 0) : (struct bb_low_rank_terms){0};
    for (int32_t i = 0; i < terms.count; i++)
        if (bb_trained_gradient(&run->tape->trained, terms.terms[i].pair->a) != NULL)
            return true;
    return false;
}

const struct bb_adapter_set *const *bb_op_row_adapters(struct bb_run *run)
{
    if (!is_live(run))
        return NULL;
    struct walk walk = {.run = run};
    int32_t first_row, row_count;
    for (int32_t i = 0; i < run->adapted->row_count; i++)
        run->row_adapters[i] = NULL;
    for (const struct bb_adapter_set *set; (set = next_span(&walk, &first_row, &row_count)) != NULL;)
        for (int32_t i = first_row; i < first_row + row_count; i++)
            run->row_adapters[i] = set;
    return run->row_adapters;
}

static void apply(struct bb_run *run, const struct bb_linear *linear, struct bb_low_rank_terms terms,
                  struct bb_tensor x, struct bb_tensor out)
{
    if (terms.count == 0 || run->status != BOMBUS_OK)
        return;
    struct bb_low_rank_call call = {.linear = linear,
                                    .terms = terms.terms,
                                    .term_count = terms.count,
                                    .x = x,
                                    .out = out,
                                    .is_exact = run->is_exact};
    run->status = run->backend->table->low_rank(run->backend, &call, &run->error);
    struct bb_record *record =
        bb_tape_add(run, BB_RECORD_LOW_RANK, x, (struct bb_tensor){0}, (struct bb_tensor){0}, out, bb_op_is_trained(run, linear));
    if (record != NULL)
        record->of.linear = linear;
}

void bb_op_low_rank(struct bb_run *run, const struct bb_linear *linear, struct bb_tensor x, struct bb_tensor out)
{
    apply(run, linear, bb_op_terms(run, linear, 0), x, out);
}

void bb_op_linear_add_gains(struct bb_run *run, const struct bb_linear *linear, struct bb_tensor x,
                            struct bb_tensor residual, float scale, struct bb_low_rank_terms terms)
{
    /* The rows of one span are all with gains or all without. */
    struct bb_low_rank_term *with = run->terms + run->term_count, *without = with + run->term_count;
    int32_t with_count = 0, without_count = 0;
    for (int32_t i = 0, count; i < terms.count; i += count) {
        const struct bb_low_rank_term *first = &terms.terms[i];
        for (count = 1; i + count < terms.count && first[count].first_row == first->first_row;)
            count++;
        bool has_gains = bb_op_has_gains((struct bb_low_rank_terms){.terms = first, .count = count});
        for (int32_t k = 0; k < count; k++) {
            struct bb_low_rank_term *term = has_gains ? &with[with_count++] : &without[without_count++];
            *term = first[k];
            term->weight *= has_gains ? 1.0f : scale;
        }
    }
    const struct bb_backend_table *table = run->backend->table;
    size_t mark = bb_run_mark(run);
    struct bb_tensor out = bb_run_allocate(run, x.shape[0], linear->weight.rows, BB_F32);
    struct bb_linear_call call = {.linear = linear, .x = x, .out = out, .is_exact = run->is_exact};
    if (run->status == BOMBUS_OK)
        run->status = table->linear(run->backend, &call, &run->error);
    apply(run, linear, (struct bb_low_rank_terms){.terms = with, .count = with_count}, x, out);
    if (run->status == BOMBUS_OK)
        run->status = table->scale(run->backend, scale, 0.0f, out, &run->error);
    if (run->status == BOMBUS_OK)
        run->status = table->add(run->backend, residual, out, 1.0f, residual, &run->error);
    apply(run, linear, (struct bb_low_rank_terms){.terms = without, .count = without_count}, x, residual);
    bb_run_release(run, mark);
}

void bb_op_embed_low_rank(struct bb_run *run, int32_t slot, const struct bb_batch *batch, float scale,
                          struct bb_tensor x)
{
    struct bb_low_rank_terms terms = is_live(run) ? find_terms(run, slot, 0) : (struct bb_low_rank_terms){0};
    if (terms.count == 0)
        return;
    const struct bb_backend_table *table = run->backend->table;
    const bool drops = run->tape != NULL && run->tape->dropout > 0.0f;
    struct bb_embed_low_rank_call call = {
        .terms = terms.terms, .term_count = terms.count, .tokens = batch->tokens, .scale = scale, .out = x};
    if (drops) {
        call.added = bb_run_allocate(run, x.shape[0], x.shape[1], BB_F32);
        if (run->status == BOMBUS_OK)
            run->status = table->copy(run->backend, call.added.data, NULL, (size_t)bb_tensor_count(x) * sizeof(float),
                                      &run->error);
    }
    if (run->status == BOMBUS_OK)
        run->status = table->embed_low_rank(run->backend, &call, &run->error);
    if (run->status == BOMBUS_OK && drops)
        run->status =
            table->dropout(run->backend, call.added, run->tape->dropout, run->tape->seed, slot, true, x, &run->error);
    struct bb_record *record = bb_tape_add(run, BB_RECORD_EMBED, (struct bb_tensor){0}, (struct bb_tensor){0}, (struct bb_tensor){0}, x,
                                           bb_op_is_trained(run, &(struct bb_linear){.slot = slot}));
    if (record != NULL) {
        record->of.embed.scale = scale;
        record->of.embed.slot = slot;
    }
}
