/* The folder that a training writes: adapters in mlx-lm's format, the best beside the last, and the state to go on from. */
#ifndef BB_ADAPTER_FOLDER_H
#define BB_ADAPTER_FOLDER_H

#include "train/train_state.h"

struct bb_adapter_folder {
    const char *path;  /* borrowed */
    char *state_path;  /* of the file to go on from */
    char *config_text; /* adapter_config.json */
    size_t config_length;
};

/* Makes the texts; `options` are resolved and borrowed. Nothing is written. */
BB_RESULT bombus_status bb_adapter_folder_init(struct bb_adapter_folder *folder, const bombus_train_options *options,
                                               bombus_error *error);
void bb_adapter_folder_clear(struct bb_adapter_folder *folder); /* a zeroed one too */

/* Is there a state to go on from? */
bool bb_adapter_folder_has_state(const struct bb_adapter_folder *folder);

/* Before a new run: makes the folder. Another run's files in it are BOMBUS_ERROR_MISMATCH, or removed if `force`. */
BB_RESULT bombus_status bb_adapter_folder_prepare(const struct bb_adapter_folder *folder, bool force,
                                                  bombus_error *error);

/* Before a resumed one: removes the temporary files that a killed process left. */
BB_RESULT bombus_status bb_adapter_folder_clean(const struct bb_adapter_folder *folder, bombus_error *error);

/* Writes adapters.safetensors, adapter_config.json and, last, the state; is_numbered: 0000100_adapters.safetensors first. Each is whole at
 * any moment, and going on depends on the state alone. */
BB_RESULT bombus_status bb_adapter_folder_save(const struct bb_adapter_folder *folder, const struct bb_train_parts *parts,
                                               bool is_numbered, bombus_error *error);
/* The state alone: of a run that has only begun. */
BB_RESULT bombus_status bb_adapter_folder_save_state(const struct bb_adapter_folder *folder,
                                                     const struct bb_train_parts *parts, bombus_error *error);
/* Writes the adapter as it is now to best/. */
BB_RESULT bombus_status bb_adapter_folder_save_best(const struct bb_adapter_folder *folder,
                                                    const struct bb_trainable *trainable, bombus_error *error);

#endif
