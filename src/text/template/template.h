/* Chat templates: the part of Jinja that real models' templates use, compiled once, rendered sandboxed. */
#ifndef BB_TEMPLATE_H
#define BB_TEMPLATE_H

#include "base/error.h"
#include "text/template/limits.h"

struct bb_template; /* immutable after create; any number of threads may render it */

/* Errors have line and column. */
BB_RESULT bombus_status bb_template_create(struct bb_template **result, const char *source, size_t length,
                                           const struct bb_template_limits *limits, bombus_error *error);
void bb_template_free(struct bb_template *template_);
uint64_t bb_template_digest(const struct bb_template *template_); /* of the source */

/* See bombus_template_render. */
BB_RESULT bombus_status bb_template_render(const struct bb_template *template_, const char *variables_json,
                                           size_t length, char **text, size_t *text_length, bombus_span **spans,
                                           size_t *span_count, bombus_error *error);

#endif
