/* The parameters of a macro get their values. */
#ifndef BB_TEMPLATE_MACRO_H
#define BB_TEMPLATE_MACRO_H

#include "text/template/ast.h"
#include "text/template/work.h"

/* Sets the parameters and special names of a MACRO or CALL_BLOCK in work->scope, its own. */
void bb_macro_bind(struct bb_work *work, const struct bb_node *node, const struct bb_arguments *arguments);

#endif
