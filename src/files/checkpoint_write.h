/* The files of a new model folder beside its tensors: config.json with another quantization, the index of shards, and what is copied. */
#ifndef BB_CHECKPOINT_WRITE_H
#define BB_CHECKPOINT_WRITE_H

#include "files/checkpoint.h"

/* The scheme of one matrix in the new config. */
struct bb_scheme_entry {
    const char *path;
    struct bb_scheme scheme;
    const char *mode; /* its name */
};

/* config.json of the checkpoint into `folder`: without its quantization (`is_dense`), or with these entries added to it. */
BB_RESULT bombus_status bb_checkpoint_write_config(const struct bb_checkpoint *checkpoint, const char *folder,
                                                   bool is_dense, const struct bb_scheme_entry *entries, size_t count,
                                                   bombus_error *error);

/* "model.safetensors", or of several "model-00002-of-00003.safetensors". */
enum { BB_SHARD_NAME_SIZE = 64 };
void bb_checkpoint_shard_name(char name[BB_SHARD_NAME_SIZE], size_t index, size_t count);

/* model.safetensors.index.json: tensor names[i] lies in shard shards[i] of `shard_count`. */
BB_RESULT bombus_status bb_checkpoint_write_index(const char *folder, const char *const *names, const size_t *shards,
                                                  size_t count, size_t shard_count, uint64_t total_bytes,
                                                  bombus_error *error);

/* BOMBUS_ERROR_ARGUMENT if there is a model already: a config.json in the folder. */
BB_RESULT bombus_status bb_checkpoint_check_target(const char *folder, bombus_error *error);

/* Which tensors of a checkpoint become others. */
struct bb_tensor_changes {
    /* That of `old` in the new folder, the same name, with data NULL where the source makes it; false: it has none there. */
    bool (*describe)(void *context, const struct bb_safetensors_entry *old, struct bb_safetensors_entry *entry);
    struct bb_safetensors_source source; /* its context is that of `describe` too */
};

/* All tensors into `folder` (made where it is not there), each in the shard of its number, and the index of the shards. */
BB_RESULT bombus_status bb_checkpoint_write_tensors(const struct bb_checkpoint *checkpoint, const char *folder,
                                                    const struct bb_tensor_changes *changes, bombus_error *error);

/* Copies the other files of the checkpoint's folder (tokenizer, templates, licence), but no tensors, config.json and folders. */
BB_RESULT bombus_status bb_checkpoint_copy_others(const struct bb_checkpoint *checkpoint, const char *folder,
                                                  bombus_error *error);

#endif
