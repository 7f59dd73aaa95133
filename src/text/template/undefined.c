/* Undefined values, and the errors of using them. */
#include "text/template/undefined.h"

#include "text/template/repr.h"

struct bb_value bb_value_undefined(struct bb_work *work, const char *hint, const char *owner, struct bb_value name)
{
    struct bb_undefined *undefined = bb_work_allocate(work, 1, sizeof *undefined);
    if (undefined == NULL)
        return BB_NONE;
    *undefined = (struct bb_undefined){.hint = hint, .owner = owner, .name = name};
    return (struct bb_value){.kind = BB_VALUE_UNDEFINED, .undefined = undefined};
}

struct bb_value bb_raise_undefined(struct bb_work *work, struct bb_value value)
{
    const struct bb_undefined *undefined = value.undefined;
    if (undefined->is_condition) {
        int32_t line, column;
        bb_find_place(work->source, work->source_length, undefined->place, &line, &column);
        return bb_raise(work, "the inline if-expression on line %d evaluated to false and no else section was defined.",
                        (int)line);
    }
    if (undefined->hint != NULL)
        return bb_raise(work, "%s", undefined->hint);
    const char *name = bb_repr_string(work, undefined->name);
    if (undefined->owner == NULL)
        return bb_raise(work, "%s is undefined", name);
    if (undefined->name.kind != BB_VALUE_TEXT)
        return bb_raise(work, "%s has no element %s", undefined->owner, name);
    return bb_raise(work, "'%s' has no attribute %s", undefined->owner, name);
}
