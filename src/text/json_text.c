/* Walks through JSON text without building a tree. */
#include "text/json_text.h"

#include "text/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 512 };

void bb_json_skip_space(struct bb_json_cursor *cursor)
{
    const char *p = cursor->next;
    while (p < cursor->end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    cursor->next = p;
}

bool bb_json_take(struct bb_json_cursor *cursor, char letter)
{
    bb_json_skip_space(cursor);
    if (cursor->next == cursor->end || *cursor->next != letter)
        return false;
    cursor->next++;
    return true;
}

bool bb_json_skip_string(struct bb_json_cursor *cursor, const char **begin, size_t *length)
{
    if (!bb_json_take(cursor, '"'))
        return false;
    const char *p = cursor->next;
    *begin = p;
    while (p < cursor->end && *p != '"')
        p += *p == '\\' && p + 1 < cursor->end ? 2 : 1;
    cursor->next = p;
    if (p == cursor->end)
        return false;
    *length = (size_t)(p - *begin);
    cursor->next++;
    return true;
}

static bool read_hex(const char *p, const char *end, uint32_t *value)
{
    *value = 0;
    if (end - p < 4)
        return false;
    for (int i = 0; i < 4; i++) {
        uint32_t digit = (uint8_t)p[i], letter = digit | 32;
        if (digit >= '0' && digit <= '9')
            digit -= '0';
        else if (letter >= 'a' && letter <= 'f')
            digit = letter - 'a' + 10;
        else
            return false;
        *value = *value << 4 | digit;
    }
    return true;
}

/* After the backslash at `p`; returns the place behind the escape, NULL if it is none. */
static const char *read_escape(const char *p, const char *end, struct bb_buffer *content)
{
    static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
    const char *found = p < end && *p != '\0' ? strchr(letters, *p) : NULL;
    uint32_t character, low;
    char bytes[4];
    if (found != NULL) {
        bb_buffer_add_byte(content, meanings[found - letters]);
        return p + 1;
    }
    if (p == end || *p != 'u' || !read_hex(p + 1, end, &character))
        return NULL;
    p += 5;
    if (character >= 0xD800 && character < 0xE000) { /* a surrogate: the other half must follow */
        if (character >= 0xDC00 || end - p < 6 || p[0] != '\\' || p[1] != 'u' || !read_hex(p + 2, end, &low) ||
            low < 0xDC00 || low >= 0xE000)
            return NULL;
        character = 0x10000 + ((character - 0xD800) << 10) + (low - 0xDC00);
        p += 6;
    }
    bb_buffer_add(content, bytes, bb_utf8_encode(bytes, character));
    return p;
}

bool bb_json_read_string(struct bb_json_cursor *cursor, struct bb_buffer *content)
{
    if (!bb_json_take(cursor, '"'))
        return false;
    const char *p = cursor->next;
    for (;;) {
        const char *run = p;
        while (p < cursor->end && *p != '"' && *p != '\\' && (uint8_t)*p >= ' ')
            p++;
        bb_buffer_add(content, run, (size_t)(p - run));
        cursor->next = p;
        if (p == cursor->end || (uint8_t)*p < ' ')
            return false;
        if (*p == '"')
            break;
        p = read_escape(p + 1, cursor->end, content);
        if (p == NULL)
            return false;
    }
    cursor->next++;
    return true;
}

bool bb_json_read_integer(struct bb_json_cursor *cursor, uint32_t limit, uint32_t *value)
{
    bb_json_skip_space(cursor);
    const char *p = cursor->next;
    uint64_t number = 0;
    while (p < cursor->end && *p >= '0' && *p <= '9' && number <= limit)
        number = number * 10 + (uint64_t)(*p++ - '0');
    if (p == cursor->next || number > limit || (p < cursor->end && (*p == '.' || *p == 'e' || *p == 'E')))
        return false;
    cursor->next = p;
    *value = (uint32_t)number;
    return true;
}

/* Digits into *significand, which takes as many as fit; *dropped counts the others. Returns how many there are. */
static size_t read_digits(const char *p, const char *end, uint64_t *significand, int *dropped)
{
    const char *begin = p;
    for (; p < end && *p >= '0' && *p <= '9'; p++) {
        uint64_t digit = (uint64_t)(*p - '0');
        if (*dropped > 0 || *significand > (UINT64_MAX - digit) / 10)
            ++*dropped;
        else
            *significand = *significand * 10 + digit;
    }
    return (size_t)(p - begin);
}

/* The reference library's JSON reader rounds twice (the digits as a whole number, then their quotient by a power of
 * ten), and scores that differ in the last bit can tip a tie. So this does what it does, rather than what strtod
 * does. */
bool bb_json_read_number(struct bb_json_cursor *cursor, double *value)
{
    uint64_t significand = 0, exponent_digits = 0;
    int dropped = 0, none = 0, exponent = 0;
    bb_json_skip_space(cursor);
    const char *p = cursor->next, *end = cursor->end;
    bool is_negative = p < end && *p == '-';
    p += is_negative;
    size_t count = read_digits(p, end, &significand, &dropped);
    if (count == 0)
        return false;
    p += count;
    exponent = dropped;
    if (p < end && *p == '.') {
        int before = dropped;
        count = read_digits(++p, end, &significand, &dropped);
        if (count == 0 || count > 1000000)
            return false;
        p += count;
        exponent -= (int)count - (dropped - before);
    }
    if (p < end && (*p == 'e' || *p == 'E')) {
        bool is_small = ++p < end && *p == '-';
        if (p < end && (*p == '-' || *p == '+'))
            p++;
        count = read_digits(p, end, &exponent_digits, &none);
        if (count == 0 || exponent_digits > 100000)
            return false;
        p += count;
        exponent += is_small ? -(int)exponent_digits : (int)exponent_digits;
    }
    double number = (double)significand;
    for (; exponent < -308 && number != 0.0; exponent += 308)
        number /= 1e308;
    if (exponent > 308 && number != 0.0)
        return false;
    char power[16];
    snprintf(power, sizeof power, "1e%d", exponent < 0 ? -exponent : exponent);
    if (number != 0.0)
        number = exponent < 0 ? number / strtod(power, NULL) : number * strtod(power, NULL);
    cursor->next = p;
    *value = is_negative ? -number : number;
    return number <= 1.7976931348623157e308;
}

bool bb_json_skip_value(struct bb_json_cursor *cursor)
{
    size_t depth = 0, length;
    const char *begin;
    do {
        bb_json_skip_space(cursor);
        if (cursor->next == cursor->end)
            return false;
        char letter = *cursor->next;
        if (letter == '"') {
            if (!bb_json_skip_string(cursor, &begin, &length))
                return false;
        } else if (letter == '{' || letter == '[') {
            if (++depth > MAX_DEPTH)
                return false;
            cursor->next++;
        } else if (letter == '}' || letter == ']') {
            if (depth-- == 0)
                return false;
            cursor->next++;
        } else if (letter == ',' || letter == ':') {
            if (depth == 0)
                return false;
            cursor->next++;
        } else {
            begin = cursor->next;
            while (cursor->next < cursor->end && strchr(" \n\r\t,:{}[]\"", *cursor->next) == NULL)
                cursor->next++;
            if (cursor->next == begin)
                return false;
        }
    } while (depth > 0);
    return true;
}
