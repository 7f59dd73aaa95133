/* The settings of a training, as mlx_lm's YAML files (-c/--config) name them. */
#ifndef BB_TRAIN_CONFIG_H
#define BB_TRAIN_CONFIG_H

#include "base/error.h"
#include "base/memory.h"

enum { BB_OPTIMIZER_KINDS = 4, BB_IGNORED_LIMIT = 8 };

/* Texts live in `arena`, until clear. Names and defaults are those of mlx_lm's CONFIG_DEFAULTS. */
struct bb_train_config {
    bombus_train_options options; /* but for what stands below: bb_train_config_options puts it together */
    bombus_optimizer_options optimizers[BB_OPTIMIZER_KINDS]; /* optimizer_config, by kind */
    const char *model; /* NULL where the file does not say */
    bool train, test, shuffle, grad_checkpoint; /* train, shuffle: true where it does not; activations are always computed again */
    int64_t test_batches;
    const char *ignored[BB_IGNORED_LIMIT]; /* keys that were given and have no effect here: to be said */
    size_t ignored_count;
    struct bb_arena arena;
};

/* mlx_lm's defaults. */
void bb_train_config_init(struct bb_train_config *config);
void bb_train_config_clear(struct bb_train_config *config);

/* Reads YAML over what `config` holds; keys that are absent or null stay. An unknown key, a wrong type or a value out of range is
 * BOMBUS_ERROR_FORMAT and names file, line and key; what only mlx_lm can do (hf_dataset, adafactor) is BOMBUS_ERROR_UNSUPPORTED.
 * After a failure `config` is as before, but may hold memory until clear. */
BB_RESULT bombus_status bb_train_config_read(struct bb_train_config *config, const char *path, bombus_error *error);
/* The same of a text; `path` is for messages. */
BB_RESULT bombus_status bb_train_config_parse(struct bb_train_config *config, const char *text, size_t length,
                                              const char *path, bombus_error *error);

/* Options that say what the settings say; texts stay in the settings' memory. */
bombus_train_options bb_train_config_options(const struct bb_train_config *config);

#endif
