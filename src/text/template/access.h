/* Looking into values. */
#ifndef BB_TEMPLATE_ACCESS_H
#define BB_TEMPLATE_ACCESS_H

#include "text/template/work.h"

struct bb_value bb_value_attribute(struct bb_work *work, struct bb_value value, struct bb_value name); /* value.name */
struct bb_value bb_value_item(struct bb_work *work, struct bb_value value, struct bb_value index); /* value[index] */
/* A method of the value: BB_VALUE_FUNCTION bound to it, or MISSING if it has none of that name; one that would change the value
 * or leads into Python is undefined, with the sandbox's message. */
struct bb_value bb_value_method(struct bb_work *work, struct bb_value value, struct bb_value name);

#endif
