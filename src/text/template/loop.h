/* The state of a for loop, as its `loop` variable shows it. */
#ifndef BB_TEMPLATE_LOOP_H
#define BB_TEMPLATE_LOOP_H

#include "text/template/value.h"

struct bb_loop {
    struct bb_list items;
    size_t index;  /* 0-based */
    int32_t depth; /* 0-based, of recursive loops */
    const struct bb_node *node;
    struct bb_scope *scope;  /* where a recursive loop stands */
    struct bb_value changed; /* what loop.changed saw last */
    /* Renders a recursive loop for other items. */
    struct bb_value (*call)(struct bb_work *work, struct bb_loop *loop, const struct bb_arguments *arguments);
};

#endif
