/* What adapters add to a projection: terms of the rows at work, in blocks, handed to the device. */
#include "ops/low_rank.h"

#include "backend/backend.h"

enum { BLOCK_TERMS = 64 };

struct block {
    struct bb_low_rank_call call;
    struct bb_low_rank_term terms[BLOCK_TERMS];
};

static void flush(struct bb_run *run, struct block *block)
{
    if (block->call.term_count > 0 && run->status == BOMBUS_OK && !run->is_measuring) {
        bombus_status status = run->backend->table->low_rank(run->backend, &block->call, &run->error);
        if (run->status == BOMBUS_OK)
            run->status = status;
    }
    block->call.term_count = 0;
}

/* The terms of one span's rows stand in one block: their changes of W x are summed before they are applied. */
static void add_span(struct bb_run *run, struct block *block, const struct bb_adapter_set *set, int32_t first_row, int32_t row_count)
{
    if (block->call.term_count + set->count > BLOCK_TERMS)
        flush(run, block);
    for (int32_t i = 0; i < set->count; i++) {
        const struct bb_low_rank *pair = bb_adapter_use_pair(&set->uses[i], block->call.linear->slot);
        if (pair != NULL)
            block->terms[block->call.term_count++] = (struct bb_low_rank_term){.pair = pair, .first_row = first_row, .row_count = row_count};
    }
}

void bb_op_low_rank(struct bb_run *run, const struct bb_linear *linear, struct bb_tensor x, struct bb_tensor out)
{
    const struct bb_batch *batch = run->adapted;
    if (batch == NULL || run->status != BOMBUS_OK)
        return;
    struct block block;
    int32_t output = 0; /* the first output row at or behind the span's beginning */
    block.call = (struct bb_low_rank_call){.linear = linear, .terms = block.terms, .x = x, .out = out};
    for (int32_t i = 0; i < batch->span_count; i++) {
        const struct bb_span *span = &batch->spans[i];
        int32_t first = span->first_row, count = span->row_count;
        if (run->has_output_rows) {
            for (first = output; output < batch->output_count && batch->output_rows[output] < span->first_row + span->row_count;)
                output++;
            count = output - first;
        }
        if (span->adapters != NULL && count > 0)
            add_span(run, &block, span->adapters, first, count);
    }
    flush(run, &block);
}
