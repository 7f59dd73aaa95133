/* Arithmetic and membership with Python's meaning. */
#ifndef BB_TEMPLATE_OPERATORS_H
#define BB_TEMPLATE_OPERATORS_H

#include "text/template/work.h"

const char *bb_operation_name(int32_t operation);
struct bb_value bb_value_arithmetic(struct bb_work *work, int32_t operation, struct bb_value a, struct bb_value b);
struct bb_value bb_value_negate(struct bb_work *work, struct bb_value value, bool is_negative);
bool bb_value_contains(struct bb_work *work, struct bb_value container, struct bb_value value);

#endif
