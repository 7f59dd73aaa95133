/* Adapters into the weights of a new model folder, and how much of what they do survives there. */
#ifndef BB_FUSE_H
#define BB_FUSE_H

#include "convert/fuse_report.h"
#include "model/adapter.h"

struct bb_fuse_options {
    bool is_dequantized; /* all quantized matrices become bf16 (f16 where their scales are) */
    int32_t bits;        /* of the matrices that the adapters change, affine only; 0: as they are */
    bool (*progress)(void *context, size_t done, size_t total); /* matrices; false to cancel; may be NULL */
    void *context;
};

/* Writes a whole model folder into out_folder, which must not hold a model: tensors a shard at a time, a matrix in memory at a time, every file
 * atomically and config.json last, so that a folder with it is complete. Clear the report with bb_fuse_report_clear, also after failure. */
BB_RESULT bombus_status bb_fuse(const struct bb_model *model, const struct bb_adapter_set *set, const char *out_folder,
                                const struct bb_fuse_options *options, struct bb_fuse_report *report,
                                bombus_error *error);

#endif
