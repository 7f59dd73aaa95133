/* Names and what they are bound to while rendering. */
#ifndef BB_TEMPLATE_SCOPE_H
#define BB_TEMPLATE_SCOPE_H

#include "text/template/work.h"

struct bb_binding {
    uint32_t name;
    struct bb_value value;
    struct bb_binding *next;
};

/* A body with names of its own: the template, a turn of a loop, a macro call, a block. Assignments stay in the innermost one. */
struct bb_scope {
    struct bb_scope *outer;
    struct bb_binding *bindings;
};

/* NULL after an error. */
struct bb_scope *bb_scope_create(struct bb_work *work, struct bb_scope *outer);
void bb_scope_set(struct bb_work *work, struct bb_scope *scope, uint32_t name, struct bb_value value);
struct bb_value bb_scope_get(struct bb_work *work, uint32_t name); /* MISSING if it means nothing */

#endif
