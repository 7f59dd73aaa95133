/* Arguments as functions take them. */
#ifndef BB_TEMPLATE_ARGUMENTS_H
#define BB_TEMPLATE_ARGUMENTS_H

#include "text/template/work.h"

/* A keyword more; grows in the work's memory. */
bool bb_arguments_append(struct bb_work *work, struct bb_arguments *arguments, struct bb_value name,
                         struct bb_value value);
/* Text of a parameter: str() of it. */
const struct bb_text *bb_text_argument(struct bb_work *work, struct bb_value value);
/* A parameter that must be text, or an integer; an error otherwise. `what` names it. */
const struct bb_text *bb_require_text(struct bb_work *work, struct bb_value value, const char *what);
int64_t bb_require_integer(struct bb_work *work, struct bb_value value, int64_t missing);

#endif
