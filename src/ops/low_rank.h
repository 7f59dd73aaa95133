/* What adapters add to a projection: the one place where the rows at work meet their adapters. */
#ifndef BB_OPS_LOW_RANK_H
#define BB_OPS_LOW_RANK_H

#include "ops/run.h"
#include "tensor/batch.h"
#include "tensor/weight.h"

/* Over out = linear(x), of all rows at work: adds what each row's adapters add at the projection's slot (tensor/low_rank.h). Nothing where no row
 * takes an adapter. */
void bb_op_low_rank(struct bb_run *run, const struct bb_linear *linear, struct bb_tensor x, struct bb_tensor out);

/* The terms of all rows at work at the projection's slot, for product `place` (0, 1, 2) of a composite; valid until the next call for that place. */
struct bb_low_rank_terms bb_op_terms(struct bb_run *run, const struct bb_linear *linear, int32_t place);

/* Whether any term is DoRA's. */
bool bb_op_has_gains(struct bb_low_rank_terms terms);

/* residual += scale * (linear(x) with `terms`), terms of place 0 with gains: by primitives, but rows without gains to the bit as linear_add has them. */
void bb_op_linear_add_gains(struct bb_run *run, const struct bb_linear *linear, struct bb_tensor x,
                            struct bb_tensor residual, float scale, struct bb_low_rank_terms terms);

/* Whether the run's tape trains a pair at the projection's slot. */
bool bb_op_is_trained(struct bb_run *run, const struct bb_linear *linear);

/* What each row at work takes, NULL for none; NULL where no row takes an adapter. Valid until the next call. */
const struct bb_adapter_set *const *bb_op_row_adapters(struct bb_run *run);

/* Over x = embed(batch) with `scale`: adds what each row's adapters add to its token's row, at the slot of the lookup. */
void bb_op_embed_low_rank(struct bb_run *run, int32_t slot, const struct bb_batch *batch, float scale,
                          struct bb_tensor x);

#endif
