/* int() and float() of text and numbers. */
#ifndef BB_TEMPLATE_NUMBER_H
#define BB_TEMPLATE_NUMBER_H

#include "text/template/work.h"

/* int() and float() of text; false if it is no number. */
bool bb_parse_integer(struct bb_work *work, const struct bb_text *text, int64_t base, struct bb_value *value);
bool bb_parse_real(const struct bb_text *text, double *real);
struct bb_value bb_integer_of_real(struct bb_work *work, double real); /* truncated */

#endif
