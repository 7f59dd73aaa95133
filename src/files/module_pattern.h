/* Names of modules by pattern, as PEFT's rank_pattern and alpha_pattern give them. */
#ifndef BB_MODULE_PATTERN_H
#define BB_MODULE_PATTERN_H

#include "base/compiler.h"
#include "base/error.h"

#include <stdbool.h>

/* Whether Python's re.match("(.*\.)?(PATTERN)$", name) would. The pattern: characters, '.', classes [a-z0-9], \d \w and escaped characters, groups with
 * alternatives (a|b), ^ at the beginning and $ at the end, each repeated by * + or ?. Anything else, and a search without end, is
 * BOMBUS_ERROR_UNSUPPORTED with the pattern named. */
BB_RESULT bombus_status bb_module_pattern_match(const char *pattern, const char *name, bool *is_match, bombus_error *error);

#endif
