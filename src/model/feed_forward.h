/* The feed-forward half of a block. */
#ifndef BB_FEED_FORWARD_H
#define BB_FEED_FORWARD_H

#include "model/weights.h"

/* x [rows, hidden_size] + residual_scale * feed_forward(x), with the norms that the recipe has; written over x unless the run has a tape. */
struct bb_tensor bb_feed_forward(struct bb_run *run, const struct bb_recipe *recipe, const struct bb_block *block, const struct bb_layer_recipe *layer,
                                 struct bb_tensor x);

#endif
