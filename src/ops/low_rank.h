/* What adapters add to a projection: the one place where the rows at work meet their adapters. */
#ifndef BB_OPS_LOW_RANK_H
#define BB_OPS_LOW_RANK_H

#include "ops/run.h"
#include "tensor/weight.h"

/* Over out = linear(x), of all rows at work: adds what each row's adapters add at the projection's slot (tensor/low_rank.h). Nothing where no row
 * takes an adapter. */
void bb_op_low_rank(struct bb_run *run, const struct bb_linear *linear, struct bb_tensor x, struct bb_tensor out);

#endif
