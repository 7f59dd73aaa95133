/* Inside of checkpoint: the quantization of config.json. */
#ifndef BB_CHECKPOINT_WEIGHT_H
#define BB_CHECKPOINT_WEIGHT_H

#include "files/checkpoint.h"

/* Finds checkpoint->quantization_key in the open config, and refuses what is not MLX's. */
BB_RESULT bombus_status bb_checkpoint_read_quantization(struct bb_checkpoint *checkpoint, bombus_error *error);

#endif
