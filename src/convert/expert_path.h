/* Names of experts' projections in adapters: mlx-lm stacks those of a block, PARENT.switch_mlp.gate_proj; transformers'
 * models, and PEFT with them, have each alone, PARENT.experts.7.gate_proj, in Mixtral's block as w1, w3 and w2. */
#ifndef BB_EXPERT_PATH_H
#define BB_EXPERT_PATH_H

#include "base/memory.h"

bool bb_expert_path_is_alone(const char *path);
bool bb_expert_path_is_stack(const char *path);

/* The one's name of the other, in the arena; NULL if memory is out. The path is of the kind that this takes. */
const char *bb_expert_path_alone(struct bb_arena *arena, const char *stack, int32_t expert);
const char *bb_expert_path_stack(struct bb_arena *arena, const char *alone, int32_t *expert);

#endif
