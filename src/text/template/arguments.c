/* Arguments as functions take them. */
#include "text/template/arguments.h"

#include "text/template/repr.h"
#include "text/template/undefined.h"

#include <string.h>

bool bb_arguments_append(struct bb_work *work, struct bb_arguments *arguments, struct bb_value name,
                         struct bb_value value)
{
    size_t count = arguments->keyword_count;
    /* Room doubles: a power of two is full. */
    if ((count & (count - 1)) == 0) {
        struct bb_keyword *keywords = bb_work_allocate(work, count > 0 ? count * 2 : 1, sizeof *keywords);
        if (keywords == NULL)
            return false;
        if (count > 0)
            memcpy(keywords, arguments->keywords, count * sizeof *keywords);
        arguments->keywords = keywords;
    }
    ((struct bb_keyword *)arguments->keywords)[arguments->keyword_count++] = (struct bb_keyword){name, value};
    return work->status == BOMBUS_OK;
}

const struct bb_text *bb_text_argument(struct bb_work *work, struct bb_value value)
{
    static const struct bb_text empty = {.bytes = ""};
    struct bb_value text = bb_value_to_text(work, value);
    return text.kind == BB_VALUE_TEXT ? text.text : &empty;
}

const struct bb_text *bb_require_text(struct bb_work *work, struct bb_value value, const char *what)
{
    if (value.kind == BB_VALUE_TEXT)
        return value.text;
    bb_raise(work, "%s must be str, not %s", what, bb_value_type_name(value));
    return bb_text_argument(work, BB_NONE);
}

int64_t bb_require_integer(struct bb_work *work, struct bb_value value, int64_t missing)
{
    if (value.kind == BB_VALUE_MISSING)
        return missing;
    if (bb_value_is_integer(value))
        return bb_value_to_integer(value);
    if (value.kind == BB_VALUE_UNDEFINED)
        bb_raise_undefined(work, value);
    else
        bb_raise(work, "'%s' object cannot be interpreted as an integer", bb_value_type_name(value));
    return missing;
}
