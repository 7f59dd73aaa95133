/* What the model code calls: operations that check shapes, allocate their output in the run's scratch memory, and hand on to the device's table
 * (a composite where it has one, else the primitives). A failure is sticky in run->status (run.h). */
#ifndef BB_OPS_H
#define BB_OPS_H

#include "ops/run.h"
#include "tensor/batch.h"
#include "tensor/weight.h"

/* The parameter structs of operations (norm, rope, attention shape, experts) are the table's own. */
#include "backend/backend.h"

struct bb_tensor bb_op_embed(struct bb_run *run, const struct bb_weight *embedding, const struct bb_batch *batch, float scale);
struct bb_tensor bb_op_norm(struct bb_run *run, const struct bb_norm *norm, struct bb_tensor x);
struct bb_tensor bb_op_linear(struct bb_run *run, const struct bb_linear *linear, struct bb_tensor x);
/* residual + scale * linear(x), written over residual unless the run has a tape */
struct bb_tensor bb_op_linear_add(struct bb_run *run, const struct bb_linear *linear, struct bb_tensor x, struct bb_tensor residual,
                                  float scale);
/* Norm, q k v, q and k norm, rope, cache write; gives q. */
struct bb_tensor bb_op_attention_input(struct bb_run *run, const struct bb_attention_input_call *call); /* out, is_exact are filled in */
struct bb_tensor bb_op_attention(struct bb_run *run, const struct bb_attention_shape *shape, const struct bb_kv_view *cache,
                                 struct bb_tensor q, const struct bb_batch *batch);
struct bb_tensor bb_op_gated_input(struct bb_run *run, const struct bb_gated_input_call *call); /* out, is_exact are filled in */
/* a + scale * b, written over a unless the run has a tape */
struct bb_tensor bb_op_add(struct bb_run *run, struct bb_tensor a, struct bb_tensor b, float scale);
struct bb_tensor bb_op_gather(struct bb_run *run, struct bb_tensor x, const int32_t *rows, int32_t count);
struct bb_tensor bb_op_scale(struct bb_run *run, struct bb_tensor x, float scale, float softcap); /* in place, of logits: no tape records it */
/* Router logits -> experts chosen -> sum of their outputs, [rows, hidden_size]. */
struct bb_tensor bb_op_experts(struct bb_run *run, const struct bb_experts *experts, enum bb_routing routing, struct bb_tensor logits,
                               struct bb_tensor x);

#endif
