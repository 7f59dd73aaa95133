/* The parser's half for statements: a template's source to its tree. */
#ifndef BB_TEMPLATE_STATEMENT_H
#define BB_TEMPLATE_STATEMENT_H

#include "text/template/ast.h"

/* Parses work->source (newlines already "\n"). Errors are in the work. */
void bb_template_parse(struct bb_work *work, struct bb_syntax *syntax);

#endif
