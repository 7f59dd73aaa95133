/* The attention half of a block. */
#ifndef BB_ATTENTION_H
#define BB_ATTENTION_H

#include "model/weights.h"

/* x [rows, hidden_size] += residual_scale * attention(x), with the norms that the recipe has; the rows' keys and values go to the cache. */
void bb_attention_forward(struct bb_run *run, const struct bb_recipe *recipe, const struct bb_block *block,
                          const struct bb_layer_recipe *layer, const struct bb_kv_view *cache, struct bb_tensor x,
                          const struct bb_batch *batch);

#endif
