/* str() and repr() of values. */
#include "text/template/repr.h"

#include "text/template/ast.h"
#include "text/template/builder.h"
#include "text/template/list.h"
#include "text/template/loop.h"
#include "text/template/real.h"

#include <inttypes.h>
#include <string.h>

static void build_text_repr(struct bb_builder *builder, const struct bb_text *text)
{
    bool has_single = memchr(text->bytes, '\'', text->length) != NULL;
    bool has_double = memchr(text->bytes, '"', text->length) != NULL;
    char quote = has_single && !has_double ? '"' : '\'';
    if (text->is_markup)
        bb_build_string(builder, "Markup(");
    bb_build_byte(builder, quote);
    for (size_t i = 0, length; i < text->length; i += length) {
        uint32_t code = bb_code_read(text->bytes + i, &length);
        if (code == (unsigned char)quote || code == '\\')
            bb_build_format(builder, "\\%c", (char)code);
        else if (code == '\n' || code == '\r' || code == '\t')
            bb_build_string(builder, code == '\n' ? "\\n" : code == '\r' ? "\\r" : "\\t");
        else if (bb_code_is_printable(code))
            bb_build(builder, text->bytes + i, length);
        else
            bb_build_format(builder,
                            code < 0x100     ? "\\x%02" PRIx32
                            : code < 0x10000 ? "\\u%04" PRIx32
                                             : "\\U%08" PRIx32,
                            code);
    }
    bb_build_byte(builder, quote);
    if (text->is_markup)
        bb_build_byte(builder, ')');
}

static void build_items(struct bb_builder *builder, const struct bb_list *list, const char *open, const char *close)
{
    bb_build_string(builder, open);
    for (size_t i = 0; i < list->count && builder->work->status == BOMBUS_OK; i++) {
        if (i > 0)
            bb_build_string(builder, ", ");
        bb_build_repr(builder, list->items[i]);
    }
    bb_build_string(builder, close);
}

static void build_dict(struct bb_builder *builder, const struct bb_dict *dict)
{
    bb_build_byte(builder, '{');
    for (size_t i = 0; i < dict->count && builder->work->status == BOMBUS_OK; i++) {
        if (i > 0)
            bb_build_string(builder, ", ");
        bb_build_repr(builder, dict->pairs[i].key);
        bb_build_string(builder, ": ");
        bb_build_repr(builder, dict->pairs[i].value);
    }
    bb_build_byte(builder, '}');
}

static void build_object(struct bb_builder *builder, struct bb_value value)
{
    struct bb_list items;
    switch (value.kind) {
    case BB_VALUE_RANGE:
        bb_build_format(builder, "range(%" PRId64 ", %" PRId64, value.range->start, value.range->stop);
        if (value.range->step != 1)
            bb_build_format(builder, ", %" PRId64, value.range->step);
        bb_build_byte(builder, ')');
        break;
    case BB_VALUE_VIEW:
        items = bb_value_iterate(builder->work, value);
        bb_build_string(builder, bb_value_type_name(value));
        build_items(builder, &items, "([", "])");
        break;
    case BB_VALUE_NAMESPACE:
        bb_build_string(builder, "<Namespace ");
        build_dict(builder, value.names);
        bb_build_byte(builder, '>');
        break;
    case BB_VALUE_LOOP:
        bb_build_format(builder, "<LoopContext %zu/%zu>", value.loop->index + 1, value.loop->items.count);
        break;
    case BB_VALUE_MACRO:
        bb_build_string(builder, "<Macro ");
        if (value.macro->node->kind == BB_NODE_MACRO)
            bb_build_repr(builder, value.macro->node->constant);
        else
            bb_build_string(builder, "anonymous");
        bb_build_byte(builder, '>');
        break;
    case BB_VALUE_FUNCTION: bb_build_format(builder, "<function %s>", value.function->name); break;
    default: bb_build_format(builder, "<%s object>", bb_value_type_name(value));
    }
}

void bb_build_repr(struct bb_builder *builder, struct bb_value value)
{
    char number[40];
    if (!bb_work_step(builder->work, 1) || !bb_work_enter(builder->work))
        return;
    switch (value.kind) {
    case BB_VALUE_MISSING:
    case BB_VALUE_NONE: bb_build_string(builder, "None"); break;
    case BB_VALUE_UNDEFINED: bb_build_string(builder, "Undefined"); break;
    case BB_VALUE_BOOL: bb_build_string(builder, value.boolean ? "True" : "False"); break;
    case BB_VALUE_INT: bb_build_format(builder, "%" PRId64, value.integer); break;
    case BB_VALUE_LONG: bb_build(builder, value.text->bytes, value.text->length); break;
    case BB_VALUE_FLOAT: bb_build(builder, number, bb_real_repr(number, value.real)); break;
    case BB_VALUE_TEXT: build_text_repr(builder, value.text); break;
    case BB_VALUE_LIST: build_items(builder, value.list, "[", "]"); break;
    case BB_VALUE_TUPLE: build_items(builder, value.list, "(", value.list->count == 1 ? ",)" : ")"); break;
    case BB_VALUE_DICT: build_dict(builder, value.dict); break;
    default: build_object(builder, value);
    }
    bb_work_leave(builder->work);
}

void bb_build_value(struct bb_builder *builder, struct bb_value value)
{
    if (value.kind == BB_VALUE_TEXT) {
        size_t begin = builder->buffer.length;
        for (size_t i = 0; i < value.text->span_count; i++)
            bb_build_span(builder, begin + value.text->spans[i].begin, begin + value.text->spans[i].end);
        bb_build(builder, value.text->bytes, value.text->length);
    } else if (value.kind != BB_VALUE_UNDEFINED) {
        bb_build_repr(builder, value);
    }
}

struct bb_value bb_value_to_text(struct bb_work *work, struct bb_value value)
{
    if (value.kind == BB_VALUE_TEXT)
        return value;
    struct bb_builder builder = {.work = work};
    bb_build_value(&builder, value);
    return bb_build_finish(&builder);
}

const char *bb_repr_string(struct bb_work *work, struct bb_value value)
{
    struct bb_builder builder = {.work = work};
    bb_build_repr(&builder, value);
    bb_build_byte(&builder, '\0');
    struct bb_value text = bb_build_finish(&builder);
    return text.kind == BB_VALUE_TEXT ? text.text->bytes : "";
}
