/* The attention half of a block. */
#ifndef BB_ATTENTION_H
#define BB_ATTENTION_H

#include "model/weights.h"

/* The norm that the recipe has, q k v, and the values that each row sees, weighted: [rows, heads * head_dim]. The rows' keys and values go to the
 * cache. */
struct bb_tensor bb_attention_mix(struct bb_run *run, const struct bb_recipe *recipe, const struct bb_block *block,
                                  const struct bb_layer_recipe *layer, const struct bb_kv_view *cache, struct bb_tensor x,
                                  const struct bb_batch *batch);

/* x [rows, hidden_size] + residual_scale * o_proj(mixed), with the norm that the recipe has; written over x unless the run has a tape. */
struct bb_tensor bb_attention_add(struct bb_run *run, const struct bb_recipe *recipe, const struct bb_block *block, struct bb_tensor mixed,
                                  struct bb_tensor x);

#endif
