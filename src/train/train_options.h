/* The options of a training: defaults filled in, checked, and told as text. */
#ifndef BB_TRAIN_OPTIONS_H
#define BB_TRAIN_OPTIONS_H

#include "base/error.h"
#include "base/memory.h"

/* *result: a copy with all defaults filled in (num_layers at most layer_count). What is out of
 * its range is BOMBUS_ERROR_ARGUMENT and named as the field is. */
BB_RESULT bombus_status bb_train_options_resolve(bombus_train_options *result, const bombus_train_options *options,
                                                 int32_t layer_count, bombus_error *error);

/* Of what a pair adds, used and written as it is: with use_rslora the given one divided by the root of the rank. */
double bb_train_options_scale(const bombus_train_options *options);

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

/* Adds a setting of at most 255 bytes; the text is copied. */
void bb_train_settings_add(struct bb_train_settings *settings, const char *name, const char *format, ...) BB_PRINTF(3, 4);
/* Adds those of resolved options. */
void bb_train_settings_add_options(struct bb_train_settings *settings, const bombus_train_options *options);
void bb_train_settings_clear(struct bb_train_settings *settings); /* a zeroed one too */

/* As mlx_lm writes them ("lora", "adamw", "cosine_decay"), in the order of their enums; NULL behind the last. */
extern const char *const bb_fine_tune_names[4], *const bb_optimizer_names[5], *const bb_schedule_names[5];

#endif
