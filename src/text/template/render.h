/* Statements to text. */
#ifndef BB_TEMPLATE_RENDER_H
#define BB_TEMPLATE_RENDER_H

#include "text/template/ast.h"
#include "text/template/work.h"

/* Writes to work->output. */
void bb_render_body(struct bb_work *work, const struct bb_node *body);

#endif
