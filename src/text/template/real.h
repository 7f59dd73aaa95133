/* The text form of floating-point numbers, whatever the locale. */
#ifndef BB_TEMPLATE_REAL_H
#define BB_TEMPLATE_REAL_H

#include <stddef.h>

size_t bb_real_repr(char text[40], double real);
double bb_real_parse(const char *text, size_t length); /* digits, optional fraction and exponent */
void bb_fix_decimal_point(char *text);                 /* the locale's, as snprintf wrote it, to '.' */

#endif
