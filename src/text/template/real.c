/* The text form of floating-point numbers, whatever the locale. */
#include "text/template/real.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bb_fix_decimal_point(char *text)
{
    /* Whatever stands behind the first digits and is not a digit, an exponent or the end is the separator, maybe of several bytes. */
    char *end = text;
    while (*end == ' ' || *end == '+' || *end == '-' || (*end >= '0' && *end <= '9'))
        end++;
    if (end == text || *end == '\0' || *end == 'e' || *end == 'E' || *end == '.' || end[-1] < '0' || end[-1] > '9')
        return;
    char *rest = end + 1;
    while (*rest != '\0' && (*rest < '0' || *rest > '9'))
        rest++;
    *end = '.';
    memmove(end + 1, rest, strlen(rest) + 1);
}

/* Without a decimal point strtod does not depend on the locale: digits of the fraction are moved into the exponent. */
double bb_real_parse(const char *text, size_t length)
{
    char digits[1100];
    size_t count = 0, i = 0;
    long exponent = 0;
    bool is_fraction = false;
    for (; i < length && text[i] != 'e' && text[i] != 'E'; i++) {
        if (text[i] == '.') {
            is_fraction = true;
        } else if (text[i] != '_') {
            /* Beyond 1000 digits only the size matters. */
            if (count < 1000)
                digits[count++] = text[i];
            else
                exponent++;
            exponent -= is_fraction;
        }
    }
    if (i + 1 < length) {
        char number[24] = "";
        size_t used = 0;
        for (i++; i < length && used < sizeof number - 1; i++)
            if (text[i] != '_')
                number[used++] = text[i];
        long given = strtol(number, NULL, 10);
        exponent += given > 1000000 ? 1000000 : given < -1000000 ? -1000000 : given;
    }
    snprintf(digits + count, sizeof digits - count, "e%ld", exponent);
    return strtod(digits, NULL);
}

/* Python's repr: the fewest digits that give the same number back. */
size_t bb_real_repr(char text[40], double real)
{
    if (isnan(real))
        return (size_t)snprintf(text, 40, "nan");
    if (isinf(real))
        return (size_t)snprintf(text, 40, real < 0 ? "-inf" : "inf");
    char scientific[64], digits[24];
    int precision = 0;
    do
        snprintf(scientific, sizeof scientific, "%.*e", precision, real);
    while (strtod(scientific, NULL) != real && ++precision < 17);
    size_t count = 0;
    const char *c = scientific;
    for (; *c != 'e'; c++)
        if (*c >= '0' && *c <= '9')
            digits[count++] = *c;
    int exponent = (int)strtol(c + 1, NULL, 10);
    while (count > 1 && digits[count - 1] == '0')
        count--;
    char *out = text;
    if (signbit(real))
        *out++ = '-';
    if (exponent < -4 || exponent >= 16) {
        *out++ = digits[0];
        if (count > 1)
            *out++ = '.';
        memcpy(out, digits + 1, count - 1);
        out += count - 1;
        return (size_t)(out - text) + (size_t)snprintf(out, 8, "e%c%02d", exponent < 0 ? '-' : '+', abs(exponent));
    }
    int position = 0;
    for (int place = exponent < 0 ? exponent : 0; place < (int)count || place <= exponent + 1; place++, position++) {
        if (position == 1 && exponent < 0)
            *out++ = '.';
        else if (exponent >= 0 && place == exponent + 1)
            *out++ = '.';
        *out++ = place < 0 || place >= (int)count ? '0' : digits[place];
    }
    *out = '\0';
    return (size_t)(out - text);
}
