/* The tables of built-in filters, tests and global functions. */
#ifndef BB_TEMPLATE_FUNCTIONS_H
#define BB_TEMPLATE_FUNCTIONS_H

#include "text/template/value.h"

/* A table ends with a NULL name. */
extern const struct bb_function bb_text_filters[], bb_sequence_filters[], bb_value_filters[], bb_tests[],
    bb_global_functions[];

#endif
