/* Methods of text, dicts, lists, loops and numbers. */
#ifndef BB_TEMPLATE_METHODS_H
#define BB_TEMPLATE_METHODS_H

#include "text/template/value.h"

/* NULL if the value has none of that name. All but str.format and str.format_map, which access.c has. */
const struct bb_function *bb_find_method(struct bb_value value, const struct bb_text *name);

/* A NULL name ends it. */
extern const struct bb_function bb_text_search_methods[];

#endif
