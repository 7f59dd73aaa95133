/* int() and float() of text and numbers. */
#include "text/template/number.h"

#include "text/template/builder.h"
#include "text/template/real.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The text without white space around it and underscores between digits, NUL-terminated; false if it is too long or odd. */
static bool plain_digits(const struct bb_text *text, char *digits, size_t size)
{
    size_t count = 0, begin = 0, end = text->length, length;
    while (begin < end && bb_code_is_space(bb_code_read(text->bytes + begin, &length)))
        begin += length;
    while (end > begin && bb_code_is_space((unsigned char)text->bytes[end - 1]) &&
           (unsigned char)text->bytes[end - 1] < 0x80)
        end--;
    for (size_t i = begin; i < end; i++) {
        char c = text->bytes[i];
        bool is_between = i > begin && i + 1 < end && text->bytes[i - 1] != '_' && text->bytes[i + 1] != '_';
        if (c == '\0' || count + 1 >= size || (c == '_' && !is_between))
            return false;
        if (c != '_')
            digits[count++] = c;
    }
    digits[count] = '\0';
    return count > 0;
}

bool bb_parse_integer(struct bb_work *work, const struct bb_text *text, int64_t base, struct bb_value *value)
{
    char digits[400], *rest;
    if (!plain_digits(text, digits, sizeof digits) || (base != 0 && (base < 2 || base > 36)))
        return false;
    const char *first = digits + (digits[0] == '-' || digits[0] == '+');
    char letter = (char)(first[0] == '0' ? first[1] | 32 : '\0');
    int64_t prefix_base = letter == 'x' ? 16 : letter == 'o' ? 8 : letter == 'b' ? 2 : 0;
    if (!((*first >= '0' && *first <= '9') || ((*first | 32) >= 'a' && (*first | 32) <= 'z')))
        return false;
    if (prefix_base != 0 && (base == 0 || base == prefix_base)) {
        base = prefix_base;
        /* strtoll knows no 0o and 0b: take the prefix out, keep the sign. */
        memmove(digits + (first - digits), first + 2, strlen(first + 2) + 1);
        if (*first == '\0' || *first == '-' || *first == '+')
            return false;
    } else if (base == 0) {
        base = 10;
        if (*first == '0' && strspn(first, "0") != strlen(first))
            return false;
    } else if (letter == 'x' && base != 16 && base <= 33) {
        return false;
    }
    errno = 0;
    long long integer = strtoll(digits, &rest, (int)base);
    if (*rest != '\0' || rest == digits)
        return false;
    if (errno == 0) {
        *value = bb_value_int(integer);
    } else if (base != 10) {
        *value = bb_raise(work, "integer overflow: the number does not fit 64 bits");
    } else {
        const char *significant = first + strspn(first, "0");
        struct bb_builder builder = {.work = work};
        if (digits[0] == '-')
            bb_build_byte(&builder, '-');
        bb_build_string(&builder, significant);
        *value = bb_build_finish(&builder);
        if (value->kind == BB_VALUE_TEXT)
            value->kind = BB_VALUE_LONG;
    }
    return true;
}

bool bb_parse_real(const struct bb_text *text, double *real)
{
    char digits[800], word[16];
    if (!plain_digits(text, digits, sizeof digits))
        return false;
    const char *c = digits + (digits[0] == '-' || digits[0] == '+');
    size_t whole = strspn(c, "0123456789"), end = whole, fraction = 0;
    if (c[end] == '.') {
        fraction = strspn(c + end + 1, "0123456789");
        end += 1 + fraction;
    }
    if (whole + fraction > 0) {
        if (c[end] == 'e' || c[end] == 'E') {
            size_t sign = c[end + 1] == '+' || c[end + 1] == '-', exponent = strspn(c + end + 1 + sign, "0123456789");
            end += exponent > 0 ? 1 + sign + exponent : 0;
        }
        *real = bb_real_parse(c, end);
    } else {
        size_t length = strlen(c);
        for (size_t i = 0; i <= length && length < sizeof word; i++)
            word[i] = (char)(c[i] >= 'A' && c[i] <= 'Z' ? c[i] | 32 : c[i]);
        if (length >= sizeof word)
            return false;
        if (strcmp(word, "inf") == 0 || strcmp(word, "infinity") == 0)
            *real = HUGE_VAL;
        else if (strcmp(word, "nan") == 0)
            *real = (double)NAN;
        else
            return false;
        end = length;
    }
    if (digits[0] == '-')
        *real = -*real;
    return c[end] == '\0';
}

struct bb_value bb_integer_of_real(struct bb_work *work, double real)
{
    if (isnan(real))
        return bb_raise(work, "cannot convert float NaN to integer");
    if (isinf(real))
        return bb_raise(work, "cannot convert float infinity to integer");
    if (real >= -0x1p63 && real < 0x1p63)
        return bb_value_int((int64_t)real);
    char digits[400];
    snprintf(digits, sizeof digits, "%.0f", real);
    struct bb_value value = bb_value_string(work, digits);
    if (value.kind == BB_VALUE_TEXT)
        value.kind = BB_VALUE_LONG;
    return value;
}
