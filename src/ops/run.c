/* What a step runs in: device, scratch memory, precision, and the sticky error of its operations. */
#include "ops/run.h"

#include "backend/backend.h"
#include "base/memory.h"
#include "tensor/batch.h"

#include <stdint.h>

enum { OUTPUT_ALIGNMENT = 64, PRODUCTS_AT_ONCE = 3 };

void bb_run_init(struct bb_run *run, struct bb_backend *backend, bool is_exact)
{
    *run = (struct bb_run){.backend = backend, .is_exact = is_exact};
}

void bb_run_clear(struct bb_run *run)
{
    if (run->scratch != NULL)
        run->backend->table->release(run->backend, run->scratch);
    bb_release(run->terms);
    bb_release(run->row_adapters);
    run->terms = NULL;
    run->row_adapters = NULL;
    run->term_limit = run->row_limit = 0;
    run->scratch = NULL;
    run->scratch_size = run->scratch_used = run->scratch_peak = 0;
}

bombus_status bb_run_reserve(struct bb_run *run, size_t bytes, bombus_error *error)
{
    if (bytes <= run->scratch_size)
        return BOMBUS_OK;
    void *memory;
    bombus_status status = run->backend->table->allocate(run->backend, bytes, &memory, error);
    if (status != BOMBUS_OK)
        return status;
    if (run->scratch != NULL)
        run->backend->table->release(run->backend, run->scratch);
    run->scratch = memory;
    run->scratch_size = bytes;
    return BOMBUS_OK;
}

void bb_run_reset(struct bb_run *run)
{
    run->scratch_used = run->scratch_peak = 0;
    run->status = BOMBUS_OK;
    run->error = (bombus_error){0};
    run->adapted = NULL;
}

/* Room for the terms of the batch at work. */
static void reserve_terms(struct bb_run *run, const struct bb_batch *batch)
{
    int32_t terms = PRODUCTS_AT_ONCE * run->term_count;
    if (terms > run->term_limit) {
        void *memory = bb_resize(run->terms, (size_t)terms, sizeof *run->terms);
        run->terms = memory != NULL ? memory : run->terms;
        run->term_limit = memory != NULL ? terms : run->term_limit;
    }
    if (batch->row_count > run->row_limit) {
        void *memory = bb_resize(run->row_adapters, (size_t)batch->row_count, sizeof(struct bb_adapter_set *));
        run->row_adapters = memory != NULL ? memory : run->row_adapters;
        run->row_limit = memory != NULL ? batch->row_count : run->row_limit;
    }
    if ((terms > run->term_limit || batch->row_count > run->row_limit) && run->status == BOMBUS_OK)
        run->status = bb_fail_memory(&run->error, (size_t)terms * sizeof *run->terms, "the adapters of a batch");
}

void bb_run_begin(struct bb_run *run, const struct bb_batch *batch)
{
    run->adapted = NULL;
    run->has_output_rows = false;
    run->term_count = run->use_limit = 0;
    for (int32_t i = 0; i < batch->span_count; i++) {
        const struct bb_adapter_set *set = batch->spans[i].adapters;
        if (set == NULL || set->count == 0)
            continue;
        run->adapted = batch;
        run->term_count += set->count;
        run->use_limit = set->count > run->use_limit ? set->count : run->use_limit;
    }
    if (run->adapted != NULL)
        reserve_terms(run, batch);
}

void bb_run_keep_outputs(struct bb_run *run)
{
    run->has_output_rows = true;
}

struct bb_tensor bb_run_allocate(struct bb_run *run, int64_t rows, int64_t columns, enum bb_dtype dtype)
{
    struct bb_tensor tensor = {.shape = {rows, columns, 1, 1}, .dtype = dtype};
    size_t count, bytes, end;
    if (run->status != BOMBUS_OK)
        return tensor;
    if (rows < 0 || columns < 0 || !bb_multiply_size((size_t)rows, (size_t)columns, &count) ||
        !bb_multiply_size(count, bb_dtype_bits(dtype) / 8, &bytes) ||
        !bb_add_size(bytes, OUTPUT_ALIGNMENT - 1, &bytes) ||
        !bb_add_size(run->scratch_used, bytes &= ~(size_t)(OUTPUT_ALIGNMENT - 1), &end)) {
        run->status = bb_fail(&run->error, BOMBUS_ERROR_MEMORY, "an array of %lld by %lld is too large",
                              (long long)rows, (long long)columns);
        return tensor;
    }
    if (!run->is_measuring) {
        if (end > run->scratch_size) {
            run->status = bb_fail(&run->error, BOMBUS_ERROR_MEMORY,
                                  "a step needs more than its %zu bytes of scratch memory", run->scratch_size);
            return tensor;
        }
        tensor.data = run->scratch + run->scratch_used;
    }
    run->scratch_used = end;
    if (end > run->scratch_peak)
        run->scratch_peak = end;
    return tensor;
}

size_t bb_run_mark(const struct bb_run *run)
{
    return run->scratch_used;
}

void bb_run_release(struct bb_run *run, size_t mark)
{
    if (mark < run->scratch_used && run->tape == NULL)
        run->scratch_used = mark;
}
