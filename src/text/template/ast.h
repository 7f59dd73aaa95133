/* The parsed template: a tree of nodes in the template's arena, immutable once parsed.
 *
 * Chains such as a.b.c, a + b + c, a|b|c grow to the left: the operand that is evaluated first is `first`, and its `up` is the node
 * that stands on it. Evaluation goes down by `first` and up by `up`, so long chains need no recursion. */
#ifndef BB_TEMPLATE_AST_H
#define BB_TEMPLATE_AST_H

#include "text/template/value.h"

enum bb_node_kind {
    /* Expressions without a first operand. */
    BB_NODE_CONSTANT, /* constant */
    BB_NODE_NAME,     /* name; constant: its text */
    BB_NODE_LIST,     /* second: items */
    BB_NODE_TUPLE,    /* second: items */
    BB_NODE_DICT,     /* second: key, value, key, value ... */
    BB_NODE_CAPTURED, /* the text of a filter or set block */
    /* Expressions that begin with their first operand. */
    BB_NODE_ATTRIBUTE,  /* first . constant */
    BB_NODE_ITEM,       /* first [second] */
    BB_NODE_SLICE,      /* first [second: its two siblings] */
    BB_NODE_CALL,       /* first (second: ARGUMENTs) */
    BB_NODE_FILTER,     /* first | filter (second: ARGUMENTs); constant: its name */
    BB_NODE_TEST,       /* first is test (second: ARGUMENTs); constant: its name */
    BB_NODE_ARITHMETIC, /* first operation second */
    BB_NODE_COMPARE,    /* first, second: operands, each with its operation */
    BB_NODE_CONCAT,     /* first ~ second ~ its siblings */
    BB_NODE_AND,
    BB_NODE_OR, /* first, second */
    BB_NODE_NOT,
    BB_NODE_NEGATE,
    BB_NODE_POSITIVE,  /* first */
    BB_NODE_CONDITION, /* second if first else third (NULL: undefined) */
    /* Parts of expressions and statements. */
    BB_NODE_OPERAND,             /* of COMPARE: operation, second */
    BB_NODE_ARGUMENT,            /* operation: a bb_argument_kind; second; constant: the keyword */
    BB_NODE_PARAMETER,           /* name, constant: its text; second: the default or NULL */
    BB_NODE_NAMESPACE_ATTRIBUTE, /* target: name . constant */
    /* Statements. */
    BB_NODE_DATA,         /* constant */
    BB_NODE_OUTPUT,       /* second */
    BB_NODE_IF,           /* second: test (NULL: else); body; third: the next branch */
    BB_NODE_FOR,          /* second: target; third: iterable; test; body; otherwise; is_recursive */
    BB_NODE_SET,          /* second: target; third: value */
    BB_NODE_SET_BLOCK,    /* second: target; third: filters or NULL; body */
    BB_NODE_WITH,         /* second: target, value, target, value ...; body */
    BB_NODE_MACRO,        /* name, constant; second: PARAMETERs; body; uses_* */
    BB_NODE_CALL_BLOCK,   /* third: the CALL; second: PARAMETERs; body; uses_* */
    BB_NODE_FILTER_BLOCK, /* third: filters; body */
    BB_NODE_GENERATION,   /* body */
    BB_NODE_BREAK,
    BB_NODE_CONTINUE
};

enum bb_argument_kind { BB_ARGUMENT_POSITIONAL, BB_ARGUMENT_KEYWORD, BB_ARGUMENT_SPREAD, BB_ARGUMENT_SPREAD_KEYWORDS };

enum bb_operation {
    BB_OPERATION_ADD,
    BB_OPERATION_SUBTRACT,
    BB_OPERATION_MULTIPLY,
    BB_OPERATION_DIVIDE,
    BB_OPERATION_FLOOR_DIVIDE,
    BB_OPERATION_REMAINDER,
    BB_OPERATION_POWER,
    BB_OPERATION_EQUAL,
    BB_OPERATION_NOT_EQUAL,
    BB_OPERATION_LESS,
    BB_OPERATION_LESS_EQUAL,
    BB_OPERATION_GREATER,
    BB_OPERATION_GREATER_EQUAL,
    BB_OPERATION_IN,
    BB_OPERATION_NOT_IN
};

struct bb_node {
    enum bb_node_kind kind;
    uint32_t place; /* byte offset in the source */
    uint32_t name;  /* number of a variable's name, [0, name_count) */
    int32_t operation;
    bool is_recursive, uses_caller, uses_varargs, uses_kwargs;
    struct bb_node *next; /* sibling in a list */
    struct bb_node *up;
    struct bb_node *first, *second, *third, *test, *body, *otherwise;
    struct bb_value constant;
    const struct bb_function *function; /* of FILTER and TEST; NULL: unknown, an error when reached */
};

/* Names that mean something to the interpreter have fixed numbers. */
enum bb_fixed_name { BB_NAME_LOOP, BB_NAME_CALLER, BB_NAME_VARARGS, BB_NAME_KWARGS };

/* What bb_template_parse leaves behind; all of it in the arena of its work. */
struct bb_syntax {
    struct bb_node *body;
    struct bb_value *names; /* TEXT, by number */
    uint32_t name_count;
};

#endif
