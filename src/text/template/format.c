/* Text from patterns: text % values, and format specifications. */
#include "text/template/format.h"

#include "text/template/builder.h"
#include "text/template/compare.h"
#include "text/template/number.h"
#include "text/template/real.h"
#include "text/template/repr.h"
#include "text/template/text.h"
#include "text/template/undefined.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { MAX_PRECISION = 500, MAX_NUMBER = MAX_PRECISION + 350 };

/* How one value is to be written; both pattern languages come down to this. */
struct layout {
    const char *fill; /* one character */
    size_t fill_length;
    char align; /* < > ^ = or 0 */
    char sign;  /* + space - */
    bool is_alternate;
    char group;               /* , _ or 0 */
    int64_t width, precision; /* precision -1: none */
    char type;
};

static void build_padding(struct bb_builder *builder, const struct layout *layout, int64_t count)
{
    struct bb_text fill = {.bytes = layout->fill, .length = layout->fill_length, .count = 1};
    bb_build_repeated(builder, &fill, count);
}

/* prefix is sign and "0x"; '=' puts the padding between it and the digits. */
static void build_aligned(struct bb_builder *builder, const struct layout *layout, const char *prefix,
                          const char *bytes, size_t length, char usual_align)
{
    char align = layout->align != '\0' ? layout->align : usual_align;
    int64_t used = (int64_t)(strlen(prefix) + bb_code_count(bytes, length)),
            padding = layout->width > used ? layout->width - used : 0;
    int64_t left = align == '>' ? padding : align == '^' ? padding / 2 : 0;
    build_padding(builder, layout, left);
    bb_build_string(builder, prefix);
    if (align == '=')
        build_padding(builder, layout, padding);
    bb_build(builder, bytes, length);
    build_padding(builder, layout, align == '=' ? 0 : padding - left);
}

/* Separators between groups of the digits before the point; `digits` has room for them. */
static void group_digits(char *digits, char separator, size_t size)
{
    size_t whole = 0, length = strlen(digits);
    while (digits[whole] >= '0' && digits[whole] <= '9')
        whole++;
    for (size_t place = whole; place > size; length++) {
        place -= size;
        memmove(digits + place + 1, digits + place, length - place + 1);
        digits[place] = separator;
    }
}

static void unsigned_digits(char *digits, uint64_t value, unsigned base, bool is_upper)
{
    char reversed[65];
    size_t count = 0;
    do
        reversed[count++] = (is_upper ? "0123456789ABCDEF" : "0123456789abcdef")[value % base];
    while ((value /= base) > 0);
    for (size_t i = 0; i < count; i++)
        digits[i] = reversed[count - 1 - i];
    digits[count] = '\0';
}

static void sign_prefix(char prefix[4], bool is_negative, char sign)
{
    prefix[0] = is_negative ? '-' : sign == '+' || sign == ' ' ? sign : '\0';
    prefix[1] = '\0';
}

static void build_integer(struct bb_builder *builder, const struct layout *layout, int64_t value)
{
    char prefix[4], digits[140];
    char type = layout->type != '\0' ? layout->type : 'd';
    unsigned base = type == 'b' ? 2 : type == 'o' ? 8 : type == 'x' || type == 'X' ? 16 : 10;
    sign_prefix(prefix, value < 0, layout->sign);
    unsigned_digits(digits, value < 0 ? 0 - (uint64_t)value : (uint64_t)value, base, type == 'X');
    if (layout->group != '\0')
        group_digits(digits, layout->group, base == 10 ? 3 : 4);
    if (layout->is_alternate && base != 10) {
        size_t length = strlen(prefix);
        prefix[length] = '0';
        prefix[length + 1] = type;
        prefix[length + 2] = '\0';
    }
    build_aligned(builder, layout, prefix, digits, strlen(digits), '>');
}

/* Digits of a finite or infinite number without sign, by printf's conversion `type` or Python's own without one. */
static void real_digits(char digits[MAX_NUMBER], double value, const struct layout *layout)
{
    char pattern[8];
    int precision = layout->precision < 0 ? 6 : (int)layout->precision;
    char type = layout->type == '\0' || layout->type == 'n' ? 'g' : layout->type == '%' ? 'f' : layout->type;
    value = fabs(value) * (layout->type == '%' ? 100 : 1);
    if (!isfinite(value)) {
        snprintf(digits, MAX_NUMBER, "%s", isnan(value) ? "nan" : "inf");
        if (type >= 'A' && type <= 'Z')
            snprintf(digits, MAX_NUMBER, "%s", isnan(value) ? "NAN" : "INF");
        return;
    }
    if (layout->type == '\0' && layout->precision < 0) {
        bb_real_repr(digits, value);
        return;
    }
    if (type == 'g' && precision == 0)
        precision = 1;
    snprintf(pattern, sizeof pattern, "%%%s.*%c", layout->is_alternate ? "#" : "", type);
    /* -Wformat-nonliteral is off: the pattern is made two lines above. */
    snprintf(digits, MAX_NUMBER, pattern, precision, value);
    bb_fix_decimal_point(digits);
    if (layout->type != '\0')
        return;
    /* Without a type a float looks like one: a digit behind the point, an exponent from `precision` on. */
    if (strchr(digits, '.') == NULL && strchr(digits, 'e') == NULL) {
        if ((int)strlen(digits) >= precision) {
            snprintf(digits, MAX_NUMBER, "%.*e", precision - 1, value);
            bb_fix_decimal_point(digits);
        } else {
            strcat(digits, ".0");
        }
    }
}

static void build_real(struct bb_builder *builder, const struct layout *layout, double value)
{
    char prefix[4], digits[MAX_NUMBER * 2];
    if (layout->precision > MAX_PRECISION) {
        bb_raise(builder->work, "precision too big: at most %d digits", MAX_PRECISION);
        return;
    }
    sign_prefix(prefix, signbit(value) && !isnan(value), layout->sign);
    real_digits(digits, value, layout);
    if (layout->group != '\0')
        group_digits(digits, layout->group, 3);
    if (layout->type == '%')
        strcat(digits, "%");
    build_aligned(builder, layout, prefix, digits, strlen(digits), '>');
}

static void build_text(struct bb_builder *builder, const struct layout *layout, const struct bb_text *text,
                       char usual_align)
{
    size_t length = text->length;
    if (layout->precision >= 0 && (uint64_t)layout->precision < text->count)
        length = bb_code_offset(text, (size_t)layout->precision);
    build_aligned(builder, layout, "", text->bytes, length, usual_align);
}

/* ---- format specifications ---- */

int64_t bb_format_number(const char **c, const char *end)
{
    int64_t number = 0;
    for (; *c < end && **c >= '0' && **c <= '9'; ++*c)
        number = number > INT32_MAX ? number : number * 10 + (**c - '0');
    return number;
}

/* [[fill]align][sign][#][0][width][,_][.precision][type]; false, and an error, if it is not that. */
static bool read_layout(struct bb_work *work, struct layout *layout, const char *c, size_t size)
{
    const char *end = c + size;
    size_t length = 0;
    *layout = (struct layout){.fill = " ", .fill_length = 1, .precision = -1};
    if (c < end)
        bb_code_read(c, &length);
    if (c + length < end && c[length] != '\0' && strchr("<>=^", c[length]) != NULL) {
        layout->fill = c;
        layout->fill_length = length;
        layout->align = c[length];
        c += length + 1;
    } else if (c < end && *c != '\0' && strchr("<>=^", *c) != NULL) {
        layout->align = *c++;
    }
    if (c < end && (*c == '+' || *c == '-' || *c == ' '))
        layout->sign = *c++;
    if (c < end && *c == '#')
        layout->is_alternate = *c++ == '#';
    if (c < end && *c == '0') {
        if (layout->align == '\0') {
            layout->fill = "0";
            layout->fill_length = 1;
            layout->align = '=';
        }
        c++;
    }
    layout->width = bb_format_number(&c, end);
    if (c < end && (*c == ',' || *c == '_'))
        layout->group = *c++;
    if (c < end && *c == '.') {
        c++;
        if (c == end || *c < '0' || *c > '9') {
            bb_raise(work, "Format specifier missing precision");
            return false;
        }
        layout->precision = bb_format_number(&c, end);
    }
    if (c < end)
        layout->type = *c++;
    if (c < end)
        bb_raise(work, "Invalid format specifier");
    return c == end;
}

static void fail_code(struct bb_work *work, char type, const char *of)
{
    bb_raise(work, "Unknown format code '%c' for object of type '%s'", type, of);
}

void bb_format_value(struct bb_builder *builder, struct bb_value value, const char *specification, size_t length)
{
    struct bb_work *work = builder->work;
    struct layout layout;
    if (length == 0) {
        bb_build_value(builder, value);
        return;
    }
    if (!read_layout(work, &layout, specification, length))
        return;
    if (value.kind == BB_VALUE_TEXT) {
        if (layout.type != '\0' && layout.type != 's')
            fail_code(work, layout.type, "str");
        else if (layout.sign != '\0')
            bb_raise(work, "Sign not allowed in string format specifier");
        else if (layout.align == '=' && layout.fill[0] != '0')
            bb_raise(work, "'=' alignment not allowed in string format specifier");
        else {
            layout.align = layout.align == '=' ? '<' : layout.align;
            build_text(builder, &layout, value.text, '<');
        }
    } else if (bb_value_is_integer(value)) {
        if (layout.type != '\0' && strchr("eEfFgG%", layout.type) != NULL)
            build_real(builder, &layout, (double)bb_value_to_integer(value));
        else if (layout.type != '\0' && strchr("bdoxXnc", layout.type) == NULL)
            fail_code(work, layout.type, "int");
        else if (layout.type == 'c')
            bb_build_code(builder, (uint32_t)bb_value_to_integer(value));
        else if (layout.precision >= 0)
            bb_raise(work, "Precision not allowed in integer format specifier");
        else
            build_integer(builder, &layout, bb_value_to_integer(value));
    } else if (value.kind == BB_VALUE_FLOAT) {
        if (layout.type != '\0' && strchr("eEfFgGn%", layout.type) == NULL)
            fail_code(work, layout.type, "float");
        else
            build_real(builder, &layout, value.real);
    } else {
        bb_raise(work, "unsupported format string passed to %s.__format__", bb_value_type_name(value));
    }
}

/* ---- text % values ---- */

struct percent {
    struct bb_builder result;
    const struct bb_text *format;
    size_t offset;
    struct bb_value values;
    size_t next; /* argument of a tuple */
    bool is_mapping, was_used;
};

static struct bb_value next_argument(struct percent *percent)
{
    struct bb_work *work = percent->result.work;
    if (percent->values.kind == BB_VALUE_TUPLE) {
        if (percent->next < percent->values.list->count)
            return percent->values.list->items[percent->next++];
    } else if (!percent->was_used) {
        percent->was_used = true;
        return percent->values;
    }
    return bb_raise(work, "not enough arguments for format string");
}

static bool peek(const struct percent *percent, char *c)
{
    *c = percent->offset < percent->format->length ? percent->format->bytes[percent->offset] : '\0';
    return percent->offset < percent->format->length;
}

/* %(name): the value of that key. */
static struct bb_value named_argument(struct percent *percent)
{
    struct bb_work *work = percent->result.work;
    size_t begin = ++percent->offset;
    int open = 1;
    char c;
    while (peek(percent, &c) && (open += c == '(' ? 1 : c == ')' ? -1 : 0) > 0)
        percent->offset++;
    if (open > 0)
        return bb_raise(work, "incomplete format key");
    struct bb_value key = bb_value_part(work, percent->format, begin, percent->offset++);
    if (percent->values.kind != BB_VALUE_DICT)
        return bb_raise(work, "format requires a mapping");
    const struct bb_value *found = work->status == BOMBUS_OK ? bb_dict_find(work, percent->values.dict, key) : NULL;
    return found != NULL ? *found : bb_raise(work, "%s", bb_repr_string(work, key));
}

static int64_t percent_number(struct percent *percent, int64_t missing)
{
    char c;
    if (!peek(percent, &c))
        return missing;
    if (c == '*') {
        percent->offset++;
        struct bb_value value = next_argument(percent);
        if (percent->result.work->status == BOMBUS_OK && !bb_value_is_integer(value))
            bb_raise(percent->result.work, "* wants int");
        return bb_value_is_integer(value) ? bb_value_to_integer(value) : missing;
    }
    const char *digits = percent->format->bytes + percent->offset, *begin = digits;
    int64_t number = bb_format_number(&digits, percent->format->bytes + percent->format->length);
    percent->offset += (size_t)(digits - begin);
    return digits > begin ? number : missing;
}

static void build_percent_number(struct percent *percent, struct layout *layout, struct bb_value value)
{
    struct bb_work *work = percent->result.work;
    char type = layout->type;
    if (strchr("diu", type) != NULL) {
        if (value.kind == BB_VALUE_FLOAT)
            value = bb_integer_of_real(work, value.real);
        layout->type = 'd';
    }
    if (value.kind == BB_VALUE_UNDEFINED)
        bb_raise_undefined(work, value);
    else if (strchr("diuoxX", type) != NULL && value.kind == BB_VALUE_LONG && layout->type == 'd')
        build_text(&percent->result, layout, value.text, '>');
    else if (strchr("diuoxX", type) != NULL && !bb_value_is_integer(value))
        bb_raise(work, "%%%c format: %s is required, not %s", type,
                 layout->type == 'd' ? "a real number" : "an integer", bb_value_type_name(value));
    else if (!bb_value_is_number(value))
        bb_raise(work, "must be real number, not %s", bb_value_type_name(value));
    if (work->status != BOMBUS_OK || value.kind == BB_VALUE_LONG)
        return;
    if (strchr("diuoxX", type) == NULL) {
        build_real(&percent->result, layout, bb_value_to_real(value));
        return;
    }
    if (layout->precision >= 0) { /* at least so many digits */
        struct layout digits = {.fill = "0",
                                .fill_length = 1,
                                .align = '=',
                                .width = layout->precision,
                                .precision = -1,
                                .type = layout->type,
                                .is_alternate = layout->is_alternate,
                                .sign = layout->sign};
        struct bb_builder number = {.work = work};
        digits.width += bb_value_to_integer(value) < 0 || layout->sign != '\0';
        build_integer(&number, &digits, bb_value_to_integer(value));
        struct bb_value text = bb_build_finish(&number);
        layout->precision = -1;
        layout->align = layout->align == '=' ? '>' : layout->align;
        if (text.kind == BB_VALUE_TEXT)
            build_text(&percent->result, layout, text.text, '>');
        return;
    }
    build_integer(&percent->result, layout, bb_value_to_integer(value));
}

static void build_percent_text(struct percent *percent, struct layout *layout, struct bb_value value)
{
    struct bb_work *work = percent->result.work;
    struct bb_builder repr = {.work = work};
    struct bb_value text;
    if (layout->type == 's') {
        text = bb_text_escape_for(work, percent->format, bb_value_to_text(work, value));
    } else {
        bb_build_repr(&repr, value);
        text = bb_text_escape_for(work, percent->format, bb_build_finish(&repr));
    }
    layout->align = layout->align == '=' ? '>' : layout->align;
    layout->fill = " ";
    if (work->status == BOMBUS_OK)
        build_text(&percent->result, layout, text.text, '>');
}

static void build_percent_character(struct percent *percent, struct layout *layout, struct bb_value value)
{
    struct bb_work *work = percent->result.work;
    char bytes[4];
    struct bb_text character = {.bytes = bytes, .count = 1};
    layout->precision = -1;
    if (value.kind == BB_VALUE_TEXT && value.text->count == 1)
        character = *value.text;
    else if (bb_value_is_integer(value) && bb_value_to_integer(value) >= 0 && bb_value_to_integer(value) < 0x110000)
        character.length = bb_code_write(bytes, (uint32_t)bb_value_to_integer(value));
    else
        bb_raise(work, bb_value_is_integer(value) ? "%%c arg not in range(0x110000)" : "%%c requires int or char");
    if (work->status == BOMBUS_OK)
        build_text(&percent->result, layout, &character, '>');
}

static void read_percent_flags(struct percent *percent, struct layout *layout)
{
    for (char c; peek(percent, &c) && c != '\0' && strchr("-+ #0", c) != NULL; percent->offset++) {
        if (c == '-')
            layout->align = '<';
        else if (c == '+' || (c == ' ' && layout->sign != '+'))
            layout->sign = c;
        else if (c == '#')
            layout->is_alternate = true;
        else if (c == '0' && layout->align != '<')
            layout->align = '=';
    }
    if (layout->align == '=')
        layout->fill = "0";
}

/* Behind a %. */
static void build_percent(struct percent *percent)
{
    struct bb_work *work = percent->result.work;
    struct layout layout = {.fill = " ", .fill_length = 1, .precision = -1};
    struct bb_value named = BB_MISSING;
    char c;
    if (peek(percent, &c) && c == '(')
        named = named_argument(percent);
    read_percent_flags(percent, &layout);
    layout.width = percent_number(percent, 0);
    if (layout.width < 0) {
        layout.align = '<';
        layout.width = layout.width < -INT32_MAX ? INT32_MAX : -layout.width;
    }
    if (peek(percent, &c) && c == '.') {
        percent->offset++;
        layout.precision = percent_number(percent, 0);
        layout.precision = layout.precision < 0 ? 0 : layout.precision;
    }
    while (peek(percent, &c) && (c == 'l' || c == 'h' || c == 'L'))
        percent->offset++;
    if (work->status != BOMBUS_OK)
        return;
    if (!peek(percent, &c)) {
        bb_raise(work, "incomplete format");
        return;
    }
    percent->offset++;
    layout.type = c;
    if (c == '%') {
        bb_build_byte(&percent->result, '%');
        return;
    }
    if (c == '\0' || strchr("diuoxXeEfFgGcsra", c) == NULL) {
        bb_raise(work, "unsupported format character '%c' (0x%x) at index %zu", c, (unsigned char)c,
                 percent->offset - 1);
        return;
    }
    struct bb_value value = named.kind != BB_VALUE_MISSING ? named : next_argument(percent);
    if (work->status != BOMBUS_OK)
        return;
    if (strchr("sra", c) != NULL)
        build_percent_text(percent, &layout, value);
    else if (c == 'c')
        build_percent_character(percent, &layout, value);
    else
        build_percent_number(percent, &layout, value);
}

struct bb_value bb_format_percent(struct bb_work *work, const struct bb_text *format, struct bb_value values)
{
    struct percent percent = {.result = {.work = work}, .format = format, .values = values};
    bool may_be_left = values.kind == BB_VALUE_DICT || values.kind == BB_VALUE_LIST ||
                       values.kind == BB_VALUE_UNDEFINED || values.kind == BB_VALUE_RANGE;
    while (percent.offset < format->length && bb_work_step(work, 1)) {
        const char *begin = format->bytes + percent.offset;
        const char *sign = memchr(begin, '%', format->length - percent.offset);
        size_t plain = sign != NULL ? (size_t)(sign - begin) : format->length - percent.offset;
        bb_build(&percent.result, begin, plain);
        percent.offset += plain + (sign != NULL);
        if (sign != NULL)
            build_percent(&percent);
    }
    bool is_left =
        values.kind == BB_VALUE_TUPLE ? percent.next < values.list->count : !percent.was_used && !may_be_left;
    if (is_left)
        bb_raise(work, "not all arguments converted during string formatting");
    struct bb_value result = bb_build_finish(&percent.result);
    return format->is_markup ? bb_value_markup(work, result) : result;
}
