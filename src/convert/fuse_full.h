/* Whole weights, as full fine-tuning leaves them, in place of a model's own. */
#ifndef BB_FUSE_FULL_H
#define BB_FUSE_FULL_H

#include "convert/fuse.h"

/* Writes a whole model folder as bb_fuse does, in which each tensor of the folder's adapters.safetensors stands for the model's of its name, in the
 * model's dtype. A tensor that the model lacks or has in another shape is BOMBUS_ERROR_MISMATCH, one that it has quantized
 * BOMBUS_ERROR_UNSUPPORTED. The options' is_dequantized and bits are not for this. Clear the report, also after failure. */
BB_RESULT bombus_status bb_fuse_full(const struct bb_model *model, const char *folder, const char *out_folder,
                                     const struct bb_fuse_options *options, struct bb_fuse_report *report,
                                     bombus_error *error);

#endif
