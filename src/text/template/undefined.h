/* Undefined values, and the errors of using them. */
#ifndef BB_TEMPLATE_UNDEFINED_H
#define BB_TEMPLATE_UNDEFINED_H

#include "text/template/work.h"

struct bb_value bb_value_undefined(struct bb_work *work, const char *hint, const char *owner,
                                   struct bb_value name); /* owner, hint: kept */
struct bb_value bb_raise_undefined(struct bb_work *work, struct bb_value undefined);

#endif
