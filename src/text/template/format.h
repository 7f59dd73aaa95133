/* Text from patterns: text % values, and format specifications. */
#ifndef BB_TEMPLATE_FORMAT_H
#define BB_TEMPLATE_FORMAT_H

#include "text/template/builder.h"

struct bb_value bb_format_percent(struct bb_work *work, const struct bb_text *format, struct bb_value values);
/* format() of one value by a format specification. */
void bb_format_value(struct bb_builder *builder, struct bb_value value, const char *specification, size_t length);
/* The decimal digits at *c, which moves behind them; a number beyond 32 bits is only large. */
int64_t bb_format_number(const char **c, const char *end);

#endif
