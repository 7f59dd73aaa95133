/* Reads the fields of tokenizer.json's components (normalizers, pre-tokenizers, ...), with errors that name place
 * and field. */
#ifndef BB_COMPONENT_H
#define BB_COMPONENT_H

#include "base/error.h"
#include "text/regex.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum { BB_MAX_COMPONENT_DEPTH = 16 }; /* sequences inside of sequences */

struct bb_component {
    json_t *json;      /* borrowed */
    const char *path;  /* of the file */
    const char *where; /* "normalizer", ... */
    size_t depth;      /* of nested sequences */
    bombus_error *error;
};

/* Which of the names the component's type is. Others are BOMBUS_ERROR_UNSUPPORTED, with the names that are known. */
BB_RESULT bombus_status bb_component_kind(const struct bb_component *component, const char *const *names,
                                          size_t name_count, size_t *kind);
/* A field that must be there. Text lives as long as the JSON. */
BB_RESULT bombus_status bb_component_text(const struct bb_component *component, const char *key, const char **text,
                                          size_t *length);
BB_RESULT bombus_status bb_component_list(const struct bb_component *component, const char *key, json_t **list);
/* A field that may be absent or null. */
BB_RESULT bombus_status bb_component_flag(const struct bb_component *component, const char *key, bool absent,
                                          bool *flag);
BB_RESULT bombus_status bb_component_count(const struct bb_component *component, const char *key, size_t *count);
/* {"String": text} or {"Regex": text} under `pattern`. */
BB_RESULT bombus_status bb_component_pattern(const struct bb_component *component, struct bb_regex **regex);
/* Calls `visit` with the component and which of `names` its type is; where that is "Sequence", with each component of
 * its list `key` instead, in order, at most BB_MAX_COMPONENT_DEPTH deep. Stops at the first failure. */
typedef bombus_status (*bb_component_visit)(void *context, size_t kind, const struct bb_component *component);
BB_RESULT bombus_status bb_component_walk(const struct bb_component *component, const char *const *names,
                                          size_t name_count, const char *key, bb_component_visit visit, void *context);
/* "path: where: " and the message; BOMBUS_ERROR_FORMAT. */
bombus_status bb_component_fail(const struct bb_component *component, const char *key, const char *expected);

#endif
