/* Running the parsed template: expressions, statements, macros. */
#ifndef BB_TEMPLATE_EVALUATE_H
#define BB_TEMPLATE_EVALUATE_H

#include "text/template/ast.h"
#include "text/template/work.h"

struct bb_value bb_evaluate(struct bb_work *work, const struct bb_node *node);
/* Writes to work->output. */
void bb_render_body(struct bb_work *work, const struct bb_node *body);
/* The text of a body with a scope of its own. */
struct bb_value bb_render_captured(struct bb_work *work, const struct bb_node *body, struct bb_scope *outer);
/* A for loop over `iterable`, text to work->output. */
void bb_render_loop(struct bb_work *work, const struct bb_node *node, struct bb_value iterable, int32_t depth);
void bb_assign(struct bb_work *work, const struct bb_node *target, struct bb_value value);

/* Evaluates the arguments of a call; `values` and `keywords` are in the work's memory. */
bool bb_evaluate_arguments(struct bb_work *work, const struct bb_node *list, struct bb_arguments *arguments);
struct bb_value bb_macro_value(struct bb_work *work, const struct bb_node *node); /* defined in work->scope */
struct bb_value bb_call_macro(struct bb_work *work, const struct bb_macro *macro, const struct bb_arguments *arguments);
struct bb_value bb_call_loop(struct bb_work *work, struct bb_loop *loop, const struct bb_arguments *arguments);

#endif
