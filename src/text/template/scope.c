/* Names and what they are bound to while rendering. */
#include "text/template/scope.h"

enum { BINDINGS_PER_STEP = 32 };

struct bb_scope *bb_scope_create(struct bb_work *work, struct bb_scope *outer)
{
    struct bb_scope *scope = bb_work_allocate(work, 1, sizeof *scope);
    if (scope != NULL)
        scope->outer = outer;
    return scope;
}

void bb_scope_set(struct bb_work *work, struct bb_scope *scope, uint32_t name, struct bb_value value)
{
    struct bb_binding *binding = scope->bindings;
    while (binding != NULL && binding->name != name)
        binding = binding->next;
    if (binding == NULL) {
        if ((binding = bb_work_allocate(work, 1, sizeof *binding)) == NULL)
            return;
        binding->name = name;
        binding->next = scope->bindings;
        scope->bindings = binding;
    }
    binding->value = value;
}

struct bb_value bb_scope_get(struct bb_work *work, uint32_t name)
{
    size_t steps = 0;
    for (const struct bb_scope *scope = work->scope; scope != NULL; scope = scope->outer, steps++)
        for (const struct bb_binding *binding = scope->bindings; binding != NULL; binding = binding->next, steps++)
            if (binding->name == name)
                return bb_work_step(work, steps / BINDINGS_PER_STEP) ? binding->value : BB_NONE;
    return bb_work_step(work, steps / BINDINGS_PER_STEP) ? work->globals[name] : BB_NONE;
}
