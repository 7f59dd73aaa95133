/* config.json (or any JSON object file) by dotted path, with errors that name file, key and what was expected. */
#ifndef BB_CONFIG_H
#define BB_CONFIG_H

#include "base/error.h"

struct bb_config; /* immutable after open */

BB_RESULT bombus_status bb_config_open(struct bb_config **config, const char *path, bombus_error *error);
BB_RESULT bombus_status bb_config_parse(struct bb_config **config, const char *text, size_t length, const char *path,
                                        bombus_error *error); /* path: for messages */
void bb_config_close(struct bb_config *config);
const char *bb_config_path(const struct bb_config *config);

/* Getters. `key` is a path of object keys separated by '/', e.g. "rope_scaling/factor"
 * ("quantization/model.embed_tokens/bits": dots belong to the key). An absent or null value gives `fallback` without
 * error; a value of another type is BOMBUS_ERROR_FORMAT. */
BB_RESULT bombus_status bb_config_integer(const struct bb_config *config, const char *key, int64_t fallback,
                                          int64_t minimum, int64_t maximum, int64_t *value, bombus_error *error);
BB_RESULT bombus_status bb_config_number(const struct bb_config *config, const char *key, double fallback,
                                         double *value, bombus_error *error);
BB_RESULT bombus_status bb_config_boolean(const struct bb_config *config, const char *key, bool fallback, bool *value,
                                          bombus_error *error);
/* The text lives as long as the config. */
BB_RESULT bombus_status bb_config_text(const struct bb_config *config, const char *key, const char *fallback,
                                       const char **value, bombus_error *error);

enum bb_config_type {
    BB_CONFIG_ABSENT,
    BB_CONFIG_NULL,
    BB_CONFIG_BOOLEAN,
    BB_CONFIG_NUMBER,
    BB_CONFIG_TEXT,
    BB_CONFIG_ARRAY,
    BB_CONFIG_OBJECT
};
enum bb_config_type bb_config_type(const struct bb_config *config, const char *key);

/* Elements of an array (a missing array has none; a lone number or text counts as an array of one). */
size_t bb_config_array_length(const struct bb_config *config, const char *key);
BB_RESULT bombus_status bb_config_array_number(const struct bb_config *config, const char *key, size_t index,
                                               double *value, bombus_error *error);
BB_RESULT bombus_status bb_config_array_text(const struct bb_config *config, const char *key, size_t index,
                                             const char **value, bombus_error *error);
/* Key `index` of the object at `key` ("" is the root), in no particular order; NULL past the end. */
const char *bb_config_object_key(const struct bb_config *config, const char *key, size_t index);

#endif
