/* Expressions to values. */
#ifndef BB_TEMPLATE_EVALUATE_H
#define BB_TEMPLATE_EVALUATE_H

#include "text/template/ast.h"
#include "text/template/work.h"

struct bb_value bb_evaluate(struct bb_work *work, const struct bb_node *node);
/* Evaluates the arguments of a call; `values` and `keywords` are in the work's memory. */
bool bb_evaluate_arguments(struct bb_work *work, const struct bb_node *list, struct bb_arguments *arguments);

#endif
