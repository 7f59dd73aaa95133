/* str() and repr() of values. */
#ifndef BB_TEMPLATE_REPR_H
#define BB_TEMPLATE_REPR_H

#include "text/template/builder.h"

void bb_build_value(struct bb_builder *builder, struct bb_value value); /* as str() */
void bb_build_repr(struct bb_builder *builder, struct bb_value value);
struct bb_value bb_value_to_text(struct bb_work *work, struct bb_value value);
const char *bb_repr_string(struct bb_work *work, struct bb_value value); /* NUL-terminated, for messages; never NULL */

#endif
