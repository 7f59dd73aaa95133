/* What a step runs in: device, scratch memory, precision, and the sticky error of its operations. */
#ifndef BB_RUN_H
#define BB_RUN_H

#include "base/error.h"
#include "tensor/tensor.h"

struct bb_adapter_set;
struct bb_backend;
struct bb_batch;
struct bb_low_rank_term;
struct bb_tape;

struct bb_run {
    struct bb_backend *backend; /* borrowed */
    bool is_exact;              /* BOMBUS_PRECISION_EXACT */
    bool is_measuring;          /* operations only count scratch memory and touch no data */
    char *scratch;              /* device memory that operations allocate their outputs in */
    size_t scratch_size, scratch_used, scratch_peak;
    const struct bb_batch *adapted; /* the batch at work if rows of it take adapters; NULL: none does (bb_run_begin) */
    struct bb_low_rank_term *terms; /* room for those of the three products of a composite; grown by bb_run_begin */
    const struct bb_adapter_set **row_adapters; /* room for a row's each */
    int32_t term_limit, row_limit;
    int32_t term_count, use_limit;  /* of the batch at work: terms of one product, uses of its largest set */
    bool has_output_rows;       /* operations now see the batch's output rows alone (bb_run_keep_outputs) */
    struct bb_tape *tape;       /* operations record on it, overwrite nothing and release nothing (ops/tape.h); NULL: they do not */
    bombus_status status;       /* the first failure; later operations do nothing */
    bombus_error error;
};

/* A run without scratch memory. Clear with bb_run_clear. */
void bb_run_init(struct bb_run *run, struct bb_backend *backend, bool is_exact);
void bb_run_clear(struct bb_run *run);

/* Makes the scratch memory at least `bytes`. */
BB_RESULT bombus_status bb_run_reserve(struct bb_run *run, size_t bytes, bombus_error *error);

/* Forgets all outputs (their addresses are used again) and the status. */
void bb_run_reset(struct bb_run *run);

/* Keeps the first failure. */
static inline void bb_run_keep(struct bb_run *run, bombus_status status)
{
    if (run->status == BOMBUS_OK)
        run->status = status;
}

/* Operations from here on are on the rows of `batch` (borrowed until the next begin or reset): their adapters apply. Allocates only for more of
 * them than ever before. */
void bb_run_begin(struct bb_run *run, const struct bb_batch *batch);
/* From here on they are on its output rows alone. */
void bb_run_keep_outputs(struct bb_run *run);

/* Uninitialized [rows, columns] in scratch memory, 64-byte aligned; on lack of memory a sticky error and data NULL (while measuring, data is
 * NULL without error). */
struct bb_tensor bb_run_allocate(struct bb_run *run, int64_t rows, int64_t columns, enum bb_dtype dtype);
/* Mark and return: outputs made since the mark are forgotten (for the blocks' temporaries). */
size_t bb_run_mark(const struct bb_run *run);
void bb_run_release(struct bb_run *run, size_t mark);

#endif
