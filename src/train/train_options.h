/* The options of a training: defaults filled in, checked, told as text, and taken from mlx_lm's settings. */
#ifndef BB_TRAIN_OPTIONS_H
#define BB_TRAIN_OPTIONS_H

#include "base/error.h"
#include "base/memory.h"

struct bb_train_config;

/* *result: a copy with all defaults filled in (num_layers at most layer_count). What is out of
 * its range is BOMBUS_ERROR_ARGUMENT and named as the field is. */
BB_RESULT bombus_status bb_train_options_resolve(bombus_train_options *result, const bombus_train_options *options,
                                                 int32_t layer_count, bombus_error *error);

/* Options that say what the settings say; texts stay in the settings' memory. */
void bb_train_options_from_config(bombus_train_options *options, const struct bb_train_config *config);

/* Everything that decides the bits of a run, one name and one text each. */
struct bb_train_setting {
    const char *name, *text; /* in the arena */
};
enum { BB_TRAIN_SETTING_LIMIT = 48 };

struct bb_train_settings {
    struct bb_train_setting items[BB_TRAIN_SETTING_LIMIT];
    size_t count;
    struct bb_arena arena;
    bool is_failed; /* memory ran out */
};

/* Adds a setting; the text is copied. */
void bb_train_settings_add(struct bb_train_settings *settings, const char *name, const char *format, ...) BB_PRINTF(3, 4);
/* Adds those of resolved options. */
void bb_train_settings_add_options(struct bb_train_settings *settings, const bombus_train_options *options);
void bb_train_settings_clear(struct bb_train_settings *settings); /* a zeroed one too */

/* "lora", "adamw": as mlx_lm writes them. */
const char *bb_fine_tune_name(bombus_fine_tune type);
const char *bb_optimizer_name(bombus_optimizer kind);

#endif
