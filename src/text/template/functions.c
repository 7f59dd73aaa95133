/* Functions that every template can call by name. */
#include "text/template/functions.h"

#include "text/template/arguments.h"
#include "text/template/builder.h"
#include "text/template/clock.h"
#include "text/template/compare.h"
#include "text/template/list.h"
#include "text/template/repr.h"

enum { MAX_RANGE = 100000 }; /* the sandbox's */

#define FUNCTION(name)                                                                                                 \
    static struct bb_value function_##name(struct bb_work *work, struct bb_value self, const struct bb_value *bound,   \
                                           const struct bb_arguments *arguments)

FUNCTION(range)
{
    (void)self, (void)arguments;
    bool has_start = bound[1].kind != BB_VALUE_MISSING;
    int64_t start = has_start ? bb_require_integer(work, bound[0], 0) : 0;
    int64_t stop = bb_require_integer(work, bound[has_start], 0), step = bb_require_integer(work, bound[2], 1);
    struct bb_range *range = bb_work_allocate(work, 1, sizeof *range);
    if (range == NULL)
        return BB_NONE;
    if (step == 0)
        return bb_raise(work, "range() arg 3 must not be zero");
    uint64_t distance = 0, stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    if (step > 0 ? stop > start : stop < start)
        distance = step > 0 ? (uint64_t)stop - (uint64_t)start : (uint64_t)start - (uint64_t)stop;
    uint64_t count = distance / stride + (distance % stride != 0);
    if (count > MAX_RANGE)
        return bb_raise(work, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d).", MAX_RANGE);
    *range = (struct bb_range){start, stop, step, (int64_t)count};
    return (struct bb_value){.kind = BB_VALUE_RANGE, .range = range};
}

/* dict(mapping or pairs, **keywords) */
static struct bb_dict *make_dict(struct bb_work *work, const struct bb_arguments *arguments)
{
    struct bb_dict *dict = bb_dict_create(work);
    if (arguments->count > 1) {
        bb_raise(work, "dict expected at most 1 argument, got %zu", arguments->count);
    } else if (arguments->count == 1 && arguments->values[0].kind == BB_VALUE_DICT) {
        const struct bb_dict *given = arguments->values[0].dict;
        for (size_t i = 0; i < given->count && work->status == BOMBUS_OK; i++)
            bb_dict_set(work, dict, given->pairs[i].key, given->pairs[i].value);
    } else if (arguments->count == 1) {
        struct bb_list pairs = bb_value_iterate(work, arguments->values[0]);
        for (size_t i = 0; i < pairs.count && work->status == BOMBUS_OK; i++) {
            struct bb_list pair = bb_value_iterate(work, pairs.items[i]);
            if (work->status == BOMBUS_OK && pair.count != 2)
                bb_raise(work, "dictionary update sequence element #%zu has length %zu; 2 is required", i, pair.count);
            if (work->status == BOMBUS_OK)
                bb_dict_set(work, dict, pair.items[0], pair.items[1]);
        }
    }
    for (size_t i = 0; i < arguments->keyword_count && work->status == BOMBUS_OK; i++)
        bb_dict_set(work, dict, arguments->keywords[i].name, arguments->keywords[i].value);
    return dict;
}

FUNCTION(dict)
{
    (void)self, (void)bound;
    return bb_value_dict(make_dict(work, arguments));
}

FUNCTION(namespace)
{
    (void)self, (void)bound;
    struct bb_dict *names = make_dict(work, arguments);
    for (size_t i = 0; work->status == BOMBUS_OK && i < names->count; i++) {
        struct bb_value name = names->pairs[i].key;
        if (name.kind == BB_VALUE_TEXT && name.text->length > 0 && name.text->bytes[0] == '_')
            return bb_raise(
                work,
                "Chat templates cannot store underscore-prefixed attributes on a namespace, but got %s. Please rename "
                "the attribute.",
                bb_repr_string(work, name));
    }
    return (struct bb_value){.kind = BB_VALUE_NAMESPACE, .names = names};
}

FUNCTION(cycler)
{
    (void)self, (void)bound;
    if (arguments->count == 0)
        return bb_raise(work, "at least one item has to be provided");
    struct bb_value items = bb_value_list(work, BB_VALUE_TUPLE, arguments->values, arguments->count);
    struct bb_cycler *cycler = bb_work_allocate(work, 1, sizeof *cycler);
    if (cycler == NULL)
        return BB_NONE;
    cycler->items = items.list;
    return (struct bb_value){.kind = BB_VALUE_CYCLER, .cycler = cycler};
}

FUNCTION(joiner)
{
    (void)self, (void)arguments;
    struct bb_joiner *joiner = bb_work_allocate(work, 1, sizeof *joiner);
    if (joiner == NULL)
        return BB_NONE;
    joiner->separator = bound[0].kind != BB_VALUE_MISSING ? bound[0] : bb_value_string(work, ", ");
    return (struct bb_value){.kind = BB_VALUE_JOINER, .joiner = joiner};
}

FUNCTION(raise_exception)
{
    (void)self, (void)arguments;
    return bb_raise_text(work, bb_text_argument(work, bound[0]));
}

FUNCTION(strftime_now)
{
    (void)self, (void)arguments;
    struct bb_builder text = {.work = work};
    bb_format_time(&text, bb_require_text(work, bound[0], "strftime() argument 1"));
    return bb_build_finish(&text);
}

const struct bb_function bb_global_functions[] = {
    {"cycler", NULL, function_cycler, {0}},
    {"dict", NULL, function_dict, {0}},
    {"joiner", "sep?", function_joiner, {0}},
    {"namespace", NULL, function_namespace, {0}},
    {"raise_exception", "message", function_raise_exception, {0}},
    {"range", "start stop? step?", function_range, {0}},
    {"strftime_now", "format", function_strftime_now, {0}},
    {NULL, NULL, NULL, {0}},
};
