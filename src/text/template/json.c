/* JSON: json.dumps as transformers' tojson uses it, and reading the variables. */
#include "text/template/json.h"

#include "text/template/builder.h"
#include "text/template/compare.h"
#include "text/template/list.h"
#include "text/template/real.h"
#include "text/template/sort.h"
#include "text/unicode.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- writing ---- */

struct writer {
    struct bb_builder *result;
    const struct bb_json_style *style;
    int32_t depth;
};

static void write_value(struct writer *writer, struct bb_value value);

static void write_unit(struct bb_builder *result, uint32_t code)
{
    if (code < 0x10000)
        bb_build_format(result, "\\u%04" PRIx32, code);
    else
        bb_build_format(result, "\\u%04" PRIx32 "\\u%04" PRIx32, 0xD800 + ((code - 0x10000) >> 10),
                        0xDC00 + ((code - 0x10000) & 0x3FF));
}

static void write_text(struct writer *writer, const struct bb_text *text)
{
    static const char letters[] = "\"\\\b\f\n\r\t", escapes[] = "\"\\bfnrt";
    struct bb_builder *result = writer->result;
    size_t plain = 0, length;
    bb_build_byte(result, '"');
    for (size_t i = 0; i < text->length && result->work->status == BOMBUS_OK; i += length) {
        unsigned char c = (unsigned char)text->bytes[i];
        const char *letter = c != 0 ? strchr(letters, c) : NULL;
        uint32_t code = bb_code_read(text->bytes + i, &length);
        if (letter == NULL && c >= 0x20 && (!writer->style->ensure_ascii || c < 0x7F))
            continue;
        bb_build(result, text->bytes + plain, i - plain);
        plain = i + length;
        if (letter != NULL)
            bb_build_format(result, "\\%c", escapes[letter - letters]);
        else
            write_unit(result, code);
    }
    bb_build(result, text->bytes + plain, text->length - plain);
    bb_build_byte(result, '"');
}

static void write_real(struct bb_builder *result, double real)
{
    char text[40];
    if (isnan(real))
        bb_build_string(result, "NaN");
    else if (isinf(real))
        bb_build_string(result, real < 0 ? "-Infinity" : "Infinity");
    else
        bb_build(result, text, bb_real_repr(text, real));
}

static void write_line(struct writer *writer)
{
    if (writer->style->indent.kind != BB_VALUE_TEXT)
        return;
    bb_build_byte(writer->result, '\n');
    bb_build_repeated(writer->result, writer->style->indent.text, writer->depth);
}

/* Between two elements, or before the first. */
static void write_separator(struct writer *writer, bool is_first)
{
    if (!is_first)
        bb_build(writer->result, writer->style->item_separator->bytes, writer->style->item_separator->length);
    write_line(writer);
}

static void write_array(struct writer *writer, const struct bb_list *list)
{
    bb_build_byte(writer->result, '[');
    writer->depth++;
    for (size_t i = 0; i < list->count && writer->result->work->status == BOMBUS_OK; i++) {
        write_separator(writer, i == 0);
        write_value(writer, list->items[i]);
    }
    writer->depth--;
    if (list->count > 0)
        write_line(writer);
    bb_build_byte(writer->result, ']');
}

static void write_key(struct writer *writer, struct bb_value key)
{
    struct bb_work *work = writer->result->work;
    if (key.kind == BB_VALUE_TEXT) {
        write_text(writer, key.text);
        return;
    }
    if (!bb_value_is_number(key) && key.kind != BB_VALUE_NONE) {
        bb_raise(work, "keys must be str, int, float, bool or None, not %s", bb_value_type_name(key));
        return;
    }
    bb_build_byte(writer->result, '"');
    write_value(writer, key);
    bb_build_byte(writer->result, '"');
}

static void write_object(struct writer *writer, const struct bb_dict *dict)
{
    struct bb_work *work = writer->result->work;
    struct bb_value *keys = bb_work_allocate(work, dict->count, sizeof *keys);
    struct bb_value *values = bb_work_allocate(work, dict->count, sizeof *values);
    if (keys == NULL || values == NULL)
        return;
    for (size_t i = 0; i < dict->count; i++) {
        keys[i] = dict->pairs[i].key;
        values[i] = dict->pairs[i].value;
    }
    if (writer->style->sort_keys)
        bb_value_sort(work, values, keys, dict->count, false);
    bb_build_byte(writer->result, '{');
    writer->depth++;
    for (size_t i = 0; i < dict->count && work->status == BOMBUS_OK; i++) {
        write_separator(writer, i == 0);
        write_key(writer, keys[i]);
        bb_build(writer->result, writer->style->key_separator->bytes, writer->style->key_separator->length);
        write_value(writer, values[i]);
    }
    writer->depth--;
    if (dict->count > 0)
        write_line(writer);
    bb_build_byte(writer->result, '}');
}

static void write_value(struct writer *writer, struct bb_value value)
{
    struct bb_builder *result = writer->result;
    if (!bb_work_step(result->work, 1) || !bb_work_enter(result->work))
        return;
    switch (value.kind) {
    case BB_VALUE_NONE: bb_build_string(result, "null"); break;
    case BB_VALUE_BOOL: bb_build_string(result, value.boolean ? "true" : "false"); break;
    case BB_VALUE_INT: bb_build_format(result, "%" PRId64, value.integer); break;
    case BB_VALUE_LONG: bb_build(result, value.text->bytes, value.text->length); break;
    case BB_VALUE_FLOAT: write_real(result, value.real); break;
    case BB_VALUE_TEXT: write_text(writer, value.text); break;
    case BB_VALUE_LIST:
    case BB_VALUE_TUPLE: write_array(writer, value.list); break;
    case BB_VALUE_DICT: write_object(writer, value.dict); break;
    default: bb_raise(result->work, "Object of type %s is not JSON serializable", bb_value_type_name(value));
    }
    bb_work_leave(result->work);
}

void bb_json_write(struct bb_builder *builder, struct bb_value value, const struct bb_json_style *style)
{
    struct writer writer = {builder, style, 0};
    write_value(&writer, value);
}

/* ---- reading ---- */

struct reader {
    struct bb_work *work;
    const char *text;
    size_t length, offset;
};

static struct bb_value read_value(struct reader *reader);

static struct bb_value fail_status(struct reader *reader, bombus_status status, const char *message)
{
    reader->work->place = (uint32_t)(reader->offset < UINT32_MAX ? reader->offset : UINT32_MAX);
    return bb_raise_status(reader->work, status, "template variables: %s", message);
}

static struct bb_value fail(struct reader *reader, const char *message)
{
    return fail_status(reader, BOMBUS_ERROR_FORMAT, message);
}

static char peek(struct reader *reader)
{
    while (reader->offset < reader->length) {
        char c = reader->text[reader->offset];
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
            return c;
        reader->offset++;
    }
    return '\0';
}

static bool skip(struct reader *reader, const char *word)
{
    size_t length = strlen(word);
    if (reader->length - reader->offset < length || memcmp(reader->text + reader->offset, word, length) != 0)
        return false;
    reader->offset += length;
    return true;
}

/* Four hex digits. */
static uint32_t read_unit(struct reader *reader)
{
    uint32_t unit = 0;
    for (int i = 0; i < 4; i++) {
        char c = reader->offset < reader->length ? reader->text[reader->offset] : '\0';
        int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
        if (digit < 0) {
            fail(reader, "\\u wants four hexadecimal digits");
            return 0;
        }
        unit = unit << 4 | (uint32_t)digit;
        reader->offset++;
    }
    return unit;
}

static void read_escape(struct reader *reader, struct bb_builder *text)
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    char c = reader->offset < reader->length ? reader->text[reader->offset++] : '\0';
    const char *letter = c != '\0' ? strchr(letters, c) : NULL;
    if (letter != NULL) {
        bb_build_byte(text, meanings[letter - letters]);
        return;
    }
    if (c != 'u') {
        fail(reader, "invalid escape in a string");
        return;
    }
    uint32_t code = read_unit(reader);
    if (code >= 0xD800 && code < 0xDC00 && skip(reader, "\\u")) {
        uint32_t second = read_unit(reader);
        if (second >= 0xDC00 && second < 0xE000)
            code = 0x10000 + ((code - 0xD800) << 10) + (second - 0xDC00);
        else
            reader->offset -= 6; /* read again on its own */
    }
    bb_build_code(text, code); /* half a pair becomes U+FFFD: it has no UTF-8 */
}

/* At a quote. */
static struct bb_value read_text(struct reader *reader)
{
    struct bb_builder text = {.work = reader->work};
    reader->offset++;
    while (reader->work->status == BOMBUS_OK) {
        size_t begin = reader->offset;
        while (reader->offset < reader->length && reader->text[reader->offset] != '"' &&
               reader->text[reader->offset] != '\\' && (unsigned char)reader->text[reader->offset] >= 0x20)
            reader->offset++;
        bb_build(&text, reader->text + begin, reader->offset - begin);
        char c = reader->offset < reader->length ? reader->text[reader->offset] : '\0';
        if (c != '"' && c != '\\') {
            fail(reader, reader->offset == reader->length ? "a string does not end" : "control character in a string");
            break;
        }
        reader->offset++;
        if (c == '"')
            break;
        read_escape(reader, &text);
    }
    return bb_build_finish(&text);
}

static size_t skip_digits(struct reader *reader)
{
    size_t begin = reader->offset;
    while (reader->offset < reader->length && reader->text[reader->offset] >= '0' &&
           reader->text[reader->offset] <= '9')
        reader->offset++;
    return reader->offset - begin;
}

static struct bb_value read_integer(struct reader *reader, size_t begin)
{
    char digits[24];
    size_t length = reader->offset - begin;
    struct bb_text text = {.bytes = reader->text + begin, .length = length, .count = length};
    if (length < sizeof digits) {
        memcpy(digits, text.bytes, length);
        digits[length] = '\0';
        errno = 0;
        long long integer = strtoll(digits, NULL, 10);
        if (errno == 0)
            return bb_value_int(integer);
    }
    struct bb_value value = bb_value_text(reader->work, text.bytes, length);
    if (value.kind == BB_VALUE_TEXT)
        value.kind = BB_VALUE_LONG;
    return value;
}

static struct bb_value read_number(struct reader *reader)
{
    size_t begin = reader->offset;
    bool is_real = false, is_negative = skip(reader, "-");
    if (skip(reader, "Infinity"))
        return bb_value_float(is_negative ? -HUGE_VAL : HUGE_VAL);
    bool is_zero = reader->offset < reader->length && reader->text[reader->offset] == '0';
    size_t count = skip_digits(reader);
    if (count == 0 || (is_zero && count > 1))
        return fail(reader, "a value was expected");
    if (skip(reader, ".")) {
        is_real = true;
        if (skip_digits(reader) == 0)
            return fail(reader, "a number ends with its decimal point");
    }
    if (skip(reader, "e") || skip(reader, "E")) {
        is_real = true;
        if (!skip(reader, "+"))
            (void)skip(reader, "-");
        if (skip_digits(reader) == 0)
            return fail(reader, "a number's exponent has no digits");
    }
    if (!is_real)
        return read_integer(reader, begin);
    double real = bb_real_parse(reader->text + begin + is_negative, reader->offset - begin - is_negative);
    return bb_value_float(is_negative ? -real : real);
}

static struct bb_value read_array(struct reader *reader)
{
    struct bb_list_builder items = {.work = reader->work};
    reader->offset++;
    while (reader->work->status == BOMBUS_OK && !(items.count == 0 && peek(reader) == ']')) {
        bb_list_add(&items, read_value(reader));
        char c = peek(reader);
        if (c == ']' || reader->work->status != BOMBUS_OK)
            break;
        if (c != ',')
            return fail(reader, "',' or ']' was expected");
        reader->offset++;
    }
    reader->offset++;
    return bb_list_finish(&items, BB_VALUE_LIST);
}

static struct bb_value read_object(struct reader *reader)
{
    struct bb_dict *dict = bb_dict_create(reader->work);
    reader->offset++;
    while (reader->work->status == BOMBUS_OK && !(dict->count == 0 && peek(reader) == '}')) {
        if (peek(reader) != '"')
            return fail(reader, "a key was expected");
        struct bb_value key = read_text(reader);
        if (reader->work->status == BOMBUS_OK && peek(reader) != ':')
            return fail(reader, "':' was expected");
        reader->offset++;
        struct bb_value value = read_value(reader);
        if (reader->work->status != BOMBUS_OK)
            return BB_NONE;
        bb_dict_set(reader->work, dict, key, value);
        char c = peek(reader);
        if (c == '}')
            break;
        if (c != ',')
            return fail(reader, "',' or '}' was expected");
        reader->offset++;
    }
    reader->offset++;
    return bb_value_dict(dict);
}

static struct bb_value read_value(struct reader *reader)
{
    struct bb_value value;
    char c = peek(reader);
    if (!bb_work_step(reader->work, 1))
        return BB_NONE;
    if (reader->work->nesting >= reader->work->limits.depth)
        return fail_status(reader, BOMBUS_ERROR_LIMIT, "nested too deeply");
    reader->work->nesting++;
    if (c == '{')
        value = read_object(reader);
    else if (c == '[')
        value = read_array(reader);
    else if (c == '"')
        value = read_text(reader);
    else if (skip(reader, "true"))
        value = bb_value_bool(true);
    else if (skip(reader, "false"))
        value = bb_value_bool(false);
    else if (skip(reader, "null"))
        value = BB_NONE;
    else if (skip(reader, "NaN"))
        value = bb_value_float((double)NAN);
    else if (skip(reader, "Infinity"))
        value = bb_value_float(HUGE_VAL);
    else
        value = read_number(reader);
    reader->work->nesting--;
    return value;
}

struct bb_value bb_json_read(struct bb_work *work, const char *text, size_t length)
{
    struct reader reader = {.work = work, .text = text, .length = length};
    reader.offset = bb_utf8_valid_length(text, length);
    if (reader.offset < length)
        return fail(&reader, "not UTF-8");
    reader.offset = 0;
    struct bb_value value = read_value(&reader);
    if (work->status == BOMBUS_OK && (peek(&reader) != '\0' || reader.offset < length))
        return fail(&reader, "text behind the value");
    return value;
}
