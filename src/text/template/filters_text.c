/* Filters that make text. */
#include "text/template/arguments.h"
#include "text/template/builder.h"
#include "text/template/compare.h"
#include "text/template/format.h"
#include "text/template/functions.h"
#include "text/template/json.h"
#include "text/template/list.h"
#include "text/template/number.h"
#include "text/template/real.h"
#include "text/template/repr.h"
#include "text/template/text.h"
#include "text/template/undefined.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define FILTER(name)                                                                                                   \
    static struct bb_value filter_##name(struct bb_work *work, struct bb_value value, const struct bb_value *bound,    \
                                         const struct bb_arguments *arguments)

static bool is_given(struct bb_value value)
{
    return value.kind != BB_VALUE_MISSING && value.kind != BB_VALUE_NONE;
}

static struct bb_value change_case(struct bb_work *work, struct bb_value value, enum bb_letter_case letter_case)
{
    return bb_text_case(work, bb_text_argument(work, value), letter_case);
}

FILTER(capitalize)
{
    (void)bound, (void)arguments;
    return change_case(work, value, BB_CASE_CAPITALIZE);
}
FILTER(lower)
{
    (void)bound, (void)arguments;
    return change_case(work, value, BB_CASE_LOWER);
}
FILTER(upper)
{
    (void)bound, (void)arguments;
    return change_case(work, value, BB_CASE_UPPER);
}

static bool separates_words(uint32_t code)
{
    return bb_code_is_space(code) || (code < 0x80 && code != 0 && strchr("-({[<", (int)code) != NULL);
}

/* Each run of separators and each run of others is capitalized by itself. */
FILTER(title)
{
    (void)bound, (void)arguments;
    const struct bb_text *text = bb_text_argument(work, value);
    struct bb_builder result = {.work = work};
    for (size_t begin = 0, end = 0, length; begin < text->length && work->status == BOMBUS_OK; begin = end) {
        bool is_separator = separates_words(bb_code_read(text->bytes + begin, &length));
        size_t first = length;
        for (end = begin;
             end < text->length && separates_words(bb_code_read(text->bytes + end, &length)) == is_separator;
             end += length)
            continue;
        struct bb_value head = bb_value_part(work, text, begin, begin + first),
                        tail = bb_value_part(work, text, begin + first, end);
        if (work->status != BOMBUS_OK)
            break;
        head = bb_text_case(work, head.text, BB_CASE_UPPER);
        tail = bb_text_case(work, tail.text, BB_CASE_LOWER);
        if (work->status != BOMBUS_OK)
            break;
        bb_build_value(&result, head);
        bb_build_value(&result, tail);
    }
    return bb_build_finish(&result);
}

FILTER(trim)
{
    (void)arguments;
    const struct bb_text *characters = is_given(bound[0]) ? bb_require_text(work, bound[0], "strip arg") : NULL;
    return bb_text_strip(work, bb_text_argument(work, value), characters, true, true);
}

FILTER(string)
{
    (void)bound, (void)arguments;
    return bb_value_to_text(work, value);
}

FILTER(replace)
{
    (void)arguments;
    int64_t count = bound[2].kind == BB_VALUE_NONE ? -1 : bb_require_integer(work, bound[2], -1);
    return bb_text_replace(work, bb_text_argument(work, value), bb_text_argument(work, bound[0]),
                           bb_text_argument(work, bound[1]), count);
}

FILTER(center)
{
    (void)arguments;
    return bb_text_center(work, bb_text_argument(work, value), bb_require_integer(work, bound[0], 80), NULL, 0);
}

static const struct bb_text *indentation(struct bb_work *work, struct bb_value width, int64_t missing)
{
    static const struct bb_text space = {.bytes = " ", .length = 1, .count = 1};
    if (width.kind == BB_VALUE_TEXT)
        return width.text;
    struct bb_builder builder = {.work = work};
    bb_build_repeated(&builder, &space, bb_require_integer(work, width, missing));
    return bb_text_argument(work, bb_build_finish(&builder));
}

FILTER(indent)
{
    (void)arguments;
    if (value.kind != BB_VALUE_TEXT)
        return value.kind == BB_VALUE_UNDEFINED
                   ? bb_raise_undefined(work, value)
                   : bb_raise(work, "unsupported operand type(s) for +=: '%s' and 'str'", bb_value_type_name(value));
    const struct bb_text *indent = indentation(work, bound[0], 4);
    bool first = bound[1].kind != BB_VALUE_MISSING && bb_value_is_true(work, bound[1]);
    bool blank = bound[2].kind != BB_VALUE_MISSING && bb_value_is_true(work, bound[2]);
    /* As jinja2 does, a newline is added before splitting, so that the last line is never lost. */
    struct bb_builder longer = {.work = work}, result = {.work = work};
    bb_build(&longer, value.text->bytes, value.text->length);
    bb_build_byte(&longer, '\n');
    struct bb_value text = bb_build_finish(&longer);
    struct bb_value lines = text.kind == BB_VALUE_TEXT ? bb_text_lines(work, text.text, false) : BB_NONE;
    for (size_t i = 0; lines.kind == BB_VALUE_LIST && i < lines.list->count && work->status == BOMBUS_OK; i++) {
        const struct bb_text *line = lines.list->items[i].text;
        if (i > 0)
            bb_build_byte(&result, '\n');
        if (i == 0 ? first : blank || line->length > 0)
            bb_build(&result, indent->bytes, indent->length);
        bb_build(&result, line->bytes, line->length);
    }
    struct bb_value indented = bb_build_finish(&result);
    return value.text->is_markup ? bb_value_markup(work, indented) : indented;
}

FILTER(truncate)
{
    (void)arguments;
    static const struct bb_text dots = {.bytes = "...", .length = 3, .count = 3},
                                space = {.bytes = " ", .length = 1, .count = 1};
    int64_t length = bb_require_integer(work, bound[0], 255),
            leeway = is_given(bound[3]) ? bb_require_integer(work, bound[3], 5) : 5;
    const struct bb_text *end = bound[2].kind != BB_VALUE_MISSING ? bb_require_text(work, bound[2], "end") : &dots;
    bool kill_words = bound[1].kind != BB_VALUE_MISSING && bb_value_is_true(work, bound[1]);
    size_t count;
    if (!bb_value_length(work, value, &count))
        return BB_NONE;
    if (length < (int64_t)end->count)
        return bb_raise(work, "expected length >= %zu, got %lld", end->count, (long long)length);
    if (leeway < 0)
        return bb_raise(work, "expected leeway >= 0, got %lld", (long long)leeway);
    if ((int64_t)count <= length || (int64_t)count - length <= leeway)
        return value;
    if (value.kind != BB_VALUE_TEXT)
        return bb_raise(work, "object of type '%s' cannot be truncated", bb_value_type_name(value));
    size_t cut = bb_code_offset(value.text, (size_t)length - end->count);
    size_t word = kill_words ? SIZE_MAX : bb_text_find_last(work, value.text, &space, 0, cut);
    struct bb_builder result = {.work = work};
    bb_build(&result, value.text->bytes, word != SIZE_MAX ? word : cut);
    bb_build(&result, end->bytes, end->length);
    return bb_build_finish(&result);
}

FILTER(wordcount)
{
    (void)bound, (void)arguments;
    const struct bb_text *text = bb_text_argument(work, value);
    int64_t count = 0;
    bool was_word = false;
    bb_work_scan(work, text->length * 4);
    for (size_t offset = 0, length; offset < text->length; offset += length) {
        bool is_word = bb_code_is_word(bb_code_read(text->bytes + offset, &length));
        count += is_word && !was_word;
        was_word = is_word;
    }
    return bb_value_int(count);
}

FILTER(format)
{
    (void)bound;
    const struct bb_text *format = bb_text_argument(work, value);
    if (arguments->count > 0 && arguments->keyword_count > 0)
        return bb_raise(work, "can't handle positional and keyword arguments at the same time");
    if (arguments->keyword_count == 0)
        return bb_format_percent(work, format,
                                 bb_value_list(work, BB_VALUE_TUPLE, arguments->values, arguments->count));
    struct bb_dict *dict = bb_dict_create(work);
    for (size_t i = 0; i < arguments->keyword_count && work->status == BOMBUS_OK; i++)
        bb_dict_set(work, dict, arguments->keywords[i].name, arguments->keywords[i].value);
    return work->status == BOMBUS_OK ? bb_format_percent(work, format, bb_value_dict(dict)) : BB_NONE;
}

/* ---- HTML and URLs ---- */

FILTER(escape)
{
    (void)bound, (void)arguments;
    return bb_text_escape(work, value);
}

FILTER(forceescape)
{
    (void)bound, (void)arguments;
    const struct bb_text *text = bb_text_argument(work, value);
    struct bb_text plain = *text;
    plain.is_markup = false;
    return bb_text_escape(work, (struct bb_value){.kind = BB_VALUE_TEXT, .text = &plain});
}

FILTER(safe)
{
    (void)bound, (void)arguments;
    return bb_value_markup(work, bb_value_to_text(work, value));
}

static void build_quoted(struct bb_builder *result, const struct bb_text *text, bool is_query)
{
    static const char safe[] = "_.-~";
    for (size_t i = 0; i < text->length && result->work->status == BOMBUS_OK; i++) {
        char c = text->bytes[i];
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                        (c != '\0' && strchr(safe, c) != NULL) || (c == '/' && !is_query);
        if (is_plain)
            bb_build_byte(result, c);
        else if (c == ' ' && is_query)
            bb_build_byte(result, '+');
        else
            bb_build_format(result, "%%%02X", (unsigned char)c);
    }
}

FILTER(urlencode)
{
    (void)bound, (void)arguments;
    struct bb_builder result = {.work = work};
    if (value.kind == BB_VALUE_TEXT || !bb_value_is_iterable(value)) {
        build_quoted(&result, bb_text_argument(work, value), false);
        return bb_build_finish(&result);
    }
    if (value.kind == BB_VALUE_DICT) {
        struct bb_view items = {value.dict, BB_VIEW_ITEMS};
        struct bb_list pairs = bb_value_iterate(work, (struct bb_value){.kind = BB_VALUE_VIEW, .view = &items});
        value = bb_value_list(work, BB_VALUE_LIST, pairs.items, pairs.count);
    }
    struct bb_list pairs = bb_value_iterate(work, value);
    for (size_t i = 0; i < pairs.count && work->status == BOMBUS_OK; i++) {
        struct bb_list pair =
            bb_value_is_iterable(pairs.items[i]) ? bb_value_iterate(work, pairs.items[i]) : (struct bb_list){0};
        if (pair.count != 2) {
            bb_raise(work, "urlencode wants pairs");
            break;
        }
        if (i > 0)
            bb_build_byte(&result, '&');
        build_quoted(&result, bb_text_argument(work, pair.items[0]), true);
        bb_build_byte(&result, '=');
        build_quoted(&result, bb_text_argument(work, pair.items[1]), true);
    }
    return bb_build_finish(&result);
}

FILTER(xmlattr)
{
    (void)arguments;
    struct bb_builder result = {.work = work};
    bool wants_space = bound[0].kind == BB_VALUE_MISSING || bb_value_is_true(work, bound[0]);
    if (value.kind != BB_VALUE_DICT)
        return bb_raise(work, "'%s' object has no attribute 'items'", bb_value_type_name(value));
    for (size_t i = 0; i < value.dict->count && work->status == BOMBUS_OK; i++) {
        const struct bb_pair *pair = &value.dict->pairs[i];
        if (pair->value.kind == BB_VALUE_NONE || pair->value.kind == BB_VALUE_UNDEFINED)
            continue;
        const struct bb_text *key = bb_require_text(work, pair->key, "attribute name");
        for (size_t j = 0; j < key->length; j++)
            if (key->bytes[j] == '\0' ? false : strchr(" \t\n\r\f\v/>=", key->bytes[j]) != NULL)
                return bb_build_drop(&result),
                       bb_raise(work, "Invalid character in attribute name: %s", bb_repr_string(work, pair->key));
        if (result.buffer.length > 0 || wants_space)
            bb_build_byte(&result, ' ');
        struct bb_value name = bb_text_escape(work, pair->key), text = bb_text_escape(work, pair->value);
        if (work->status == BOMBUS_OK) {
            bb_build_value(&result, name);
            bb_build_string(&result, "=\"");
            bb_build_value(&result, text);
            bb_build_byte(&result, '"');
        }
    }
    return bb_build_finish(&result);
}

/* Without comments and tags, white space as single spaces, entities as characters (those that escape makes). */
FILTER(striptags)
{
    (void)bound, (void)arguments;
    static const struct {
        const char *name, *text;
    } entities[] = {{"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&#39;", "'"}, {"&#34;", "\""}, {"&quot;", "\""}};
    const struct bb_text *text = bb_text_argument(work, value);
    struct bb_builder result = {.work = work};
    bool wants_space = false;
    for (size_t i = 0, length; i < text->length && bb_work_step(work, 1); i += length) {
        const char *here = text->bytes + i;
        size_t rest = text->length - i;
        const char *replacement = NULL;
        bool is_comment = rest >= 4 && memcmp(here, "<!--", 4) == 0;
        if (here[0] == '<') {
            const char *close = here;
            while ((close = memchr(close + 1, '>', rest - (size_t)(close + 1 - here))) != NULL && is_comment &&
                   (close - here < 6 || close[-1] != '-' || close[-2] != '-'))
                continue;
            if (close != NULL) {
                length = (size_t)(close - here) + 1;
                continue;
            }
        }
        uint32_t code = bb_code_read(here, &length);
        if (bb_code_is_space(code)) {
            wants_space = result.buffer.length > 0;
            continue;
        }
        for (size_t j = 0; j < BB_COUNT(entities) && code == '&'; j++)
            if (rest >= strlen(entities[j].name) && memcmp(here, entities[j].name, strlen(entities[j].name)) == 0) {
                replacement = entities[j].text;
                length = strlen(entities[j].name);
            }
        if (wants_space)
            bb_build_byte(&result, ' ');
        wants_space = false;
        bb_build(&result, replacement != NULL ? replacement : here, replacement != NULL ? 1 : length);
    }
    return bb_build_finish(&result);
}

FILTER(filesizeformat)
{
    (void)arguments;
    static const char *const units[2][8] = {{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"},
                                            {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}};
    double bytes = 0.0;
    char text[64];
    bool is_binary = bound[0].kind != BB_VALUE_MISSING && bb_value_is_true(work, bound[0]);
    double base = is_binary ? 1024 : 1000, unit = base;
    if (bb_value_is_number(value))
        bytes = bb_value_to_real(value);
    else if (value.kind != BB_VALUE_TEXT || !bb_parse_real(value.text, &bytes))
        return bb_raise(work, "could not convert %s to float", bb_repr_string(work, value));
    if (bytes == 1.0)
        return bb_value_string(work, "1 Byte");
    if (bytes < base) {
        struct bb_value whole = bb_integer_of_real(work, bytes);
        struct bb_builder result = {.work = work};
        bb_build_value(&result, whole);
        bb_build_string(&result, " Bytes");
        return bb_build_finish(&result);
    }
    int index = 0;
    for (unit *= base; index < 7 && bytes >= unit; index++)
        unit *= base;
    snprintf(text, sizeof text, "%.1f", base * bytes / unit);
    bb_fix_decimal_point(text);
    size_t length = strlen(text);
    snprintf(text + length, sizeof text - length, " %s", units[is_binary][index]);
    return bb_value_string(work, text);
}

/* ---- JSON ---- */

static struct bb_value indent_text(struct bb_work *work, struct bb_value indent)
{
    if (!is_given(indent) || indent.kind == BB_VALUE_TEXT)
        return is_given(indent) ? indent : BB_NONE;
    return (struct bb_value){.kind = BB_VALUE_TEXT, .text = indentation(work, indent, 0)};
}

FILTER(tojson)
{
    (void)arguments;
    static const struct bb_text comma = {.bytes = ",", .length = 1}, comma_space = {.bytes = ", ", .length = 2},
                                colon_space = {.bytes = ": ", .length = 2};
    struct bb_json_style style = {.key_separator = &colon_space};
    style.ensure_ascii = bound[0].kind != BB_VALUE_MISSING && bb_value_is_true(work, bound[0]);
    style.indent = indent_text(work, bound[1]);
    style.item_separator = style.indent.kind == BB_VALUE_TEXT ? &comma : &comma_space;
    if (is_given(bound[2])) {
        struct bb_list separators = bb_value_iterate(work, bound[2]);
        if (work->status == BOMBUS_OK && separators.count != 2)
            bb_raise(work,
                     separators.count < 2 ? "not enough values to unpack (expected 2, got %zu)"
                                          : "too many values to unpack (expected 2, got %zu)",
                     separators.count);
        if (work->status != BOMBUS_OK)
            return BB_NONE;
        style.item_separator = bb_require_text(work, separators.items[0], "separator");
        style.key_separator = bb_require_text(work, separators.items[1], "separator");
    }
    style.sort_keys = bound[3].kind != BB_VALUE_MISSING && bb_value_is_true(work, bound[3]);
    struct bb_builder result = {.work = work};
    if (work->status == BOMBUS_OK)
        bb_json_write(&result, value, &style);
    return bb_build_finish(&result);
}

const struct bb_function bb_text_filters[] = {
    {"capitalize", "", filter_capitalize, {0}},
    {"center", "width?", filter_center, {0}},
    {"e", "", filter_escape, {0}},
    {"escape", "", filter_escape, {0}},
    {"filesizeformat", "binary?", filter_filesizeformat, {0}},
    {"forceescape", "", filter_forceescape, {0}},
    {"format", NULL, filter_format, {0}},
    {"indent", "width? first? blank?", filter_indent, {0}},
    {"lower", "", filter_lower, {0}},
    {"replace", "old new count?", filter_replace, {0}},
    {"safe", "", filter_safe, {0}},
    {"string", "", filter_string, {0}},
    {"striptags", "", filter_striptags, {0}},
    {"title", "", filter_title, {0}},
    {"tojson", "ensure_ascii? indent? separators? sort_keys?", filter_tojson, {0}},
    {"trim", "chars?", filter_trim, {0}},
    {"truncate", "length? killwords? end? leeway?", filter_truncate, {0}},
    {"upper", "", filter_upper, {0}},
    {"urlencode", "", filter_urlencode, {0}},
    {"wordcount", "", filter_wordcount, {0}},
    {"xmlattr", "autospace?", filter_xmlattr, {0}},
    /* Their results hang on chance, or on Python's own line breaking. */
    {"pprint", NULL, NULL, {0}},
    {"random", NULL, NULL, {0}},
    {"urlize", NULL, NULL, {0}},
    {"wordwrap", NULL, NULL, {0}},
    {NULL, NULL, NULL, {0}},
};
