/* The parser's half for expressions. Each function returns NULL after an error; it is in parser->work. */
#ifndef BB_TEMPLATE_EXPRESSION_H
#define BB_TEMPLATE_EXPRESSION_H

#include "text/template/parser.h"

struct bb_node *bb_parse_expression(struct bb_parser *parser);
/* Several expressions with commas between are a tuple. `end_name` (may be NULL): a name that ends it. */
struct bb_node *bb_parse_tuple(struct bb_parser *parser, bool with_condition, bool is_parenthesized,
                               const char *end_name);
/* Filters: of `node`, or of captured text if NULL; `is_first_bare`: the first one without `|`. */
struct bb_node *bb_parse_filters(struct bb_parser *parser, struct bb_node *node, bool is_first_bare);
/* What is assigned to: a name, a tuple of names, or with `with_namespace` name.attribute. */
struct bb_node *bb_parse_target(struct bb_parser *parser, bool with_namespace, const char *end_name);
struct bb_node *bb_parse_target_name(struct bb_parser *parser);
void bb_parse_parameters(struct bb_parser *parser, struct bb_node *macro);

#endif
