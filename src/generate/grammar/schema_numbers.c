/* JSON Schema: integers and numbers between bounds. */
#include "generate/grammar/schema_parts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- fractions ---- */

/* Where a fraction must not go below or above: its digits, without zeros at the end; open: nor be. */
struct edge {
    const char *digits;
    bool is_open;
};

static uint32_t more_digits(struct bb_rules *rules, const struct edge *low, const struct edge *high, uint32_t room);

/* A digit from first to last, and what may follow it. */
static uint32_t digit_and_more(struct bb_rules *rules, char first, char last, const struct edge *low,
                               const struct edge *high, uint32_t room)
{
    struct edge low_rest, high_rest;
    uint32_t list = bb_rules_list(rules, BB_RULE_SEQUENCE);
    if (low != NULL)
        low_rest = (struct edge){low->digits + (*low->digits != '\0'), low->is_open};
    if (high != NULL)
        high_rest = (struct edge){high->digits + (*high->digits != '\0'), high->is_open};
    bb_rules_append(rules, list, bb_rules_byte(rules, (uint8_t)first, (uint8_t)last));
    return bb_rules_append(rules, list,
                           more_digits(rules, low != NULL ? &low_rest : NULL, high != NULL ? &high_rest : NULL, room));
}

/* 1 to `room` digits of a fraction between two edges (NULL: no edge). */
static uint32_t some_digits(struct bb_rules *rules, const struct edge *low, const struct edge *high, uint32_t room)
{
    uint32_t choice = bb_rules_list(rules, BB_RULE_CHOICE);
    char first = low != NULL && *low->digits != '\0' ? *low->digits : '0';
    char last = high == NULL ? '9' : *high->digits != '\0' ? *high->digits : '0';
    if (room == 0 || first > last)
        return choice;
    if (first == last)
        return digit_and_more(rules, first, last, low, high, room - 1);
    if (low != NULL) {
        bb_rules_append(rules, choice, digit_and_more(rules, first, first, low, NULL, room - 1));
        first++;
    }
    if (high != NULL) {
        bb_rules_append(rules, choice, digit_and_more(rules, last, last, NULL, high, room - 1));
        last--;
    }
    if (first <= last)
        bb_rules_append(rules, choice, digit_and_more(rules, first, last, NULL, NULL, room - 1));
    return choice;
}

/* May a fraction end here, with nothing but zeros to come? */
static bool may_end(const struct edge *low, const struct edge *high)
{
    return (low == NULL || (*low->digits == '\0' && !low->is_open)) &&
           (high == NULL || *high->digits != '\0' || !high->is_open);
}

static uint32_t more_digits(struct bb_rules *rules, const struct edge *low, const struct edge *high, uint32_t room)
{
    if (low != NULL && *low->digits == '\0' && !low->is_open)
        low = NULL; /* nothing that follows goes below it */
    if (low == NULL && high == NULL)
        return bb_rules_repeat(rules, bb_rules_byte(rules, '0', '9'), 0, room);
    uint32_t choice = bb_rules_list(rules, BB_RULE_CHOICE);
    bb_rules_append(rules, choice, some_digits(rules, low, high, room));
    if (may_end(low, high))
        bb_rules_append(rules, choice, bb_rules_list(rules, BB_RULE_SEQUENCE));
    return choice;
}

/* The point with 1 to `room` digits, or nothing where that is within the edges. */
static uint32_t fraction(struct bb_rules *rules, const struct edge *low, const struct edge *high, uint32_t room)
{
    uint32_t choice = bb_rules_list(rules, BB_RULE_CHOICE), list = bb_rules_list(rules, BB_RULE_SEQUENCE);
    bb_rules_append(rules, list, bb_rules_byte(rules, '.', '.'));
    bb_rules_append(rules, list, some_digits(rules, low, high, room));
    bb_rules_append(rules, choice, list);
    if (may_end(low, high))
        bb_rules_append(rules, choice, bb_rules_list(rules, BB_RULE_SEQUENCE));
    return choice;
}

/* ---- ranges of integers ---- */

#define MOST_INTEGER INT64_C(999999999999999999)

static uint32_t digits_between(struct bb_rules *rules, char low, char high, uint32_t more)
{
    uint32_t list = bb_rules_list(rules, BB_RULE_SEQUENCE);
    bb_rules_append(rules, list, bb_rules_byte(rules, (uint8_t)low, (uint8_t)high));
    return bb_rules_append(rules, list, bb_rules_repeat(rules, bb_rules_byte(rules, '0', '9'), more, more));
}

/* Numbers of `length` digits from low to high. */
static uint32_t equal_lengths(struct bb_rules *rules, const char *low, const char *high, uint32_t length)
{
    char edge[24] = {0};
    uint32_t choice = bb_rules_list(rules, BB_RULE_CHOICE), list = bb_rules_list(rules, BB_RULE_SEQUENCE);
    if (length == 0)
        return list;
    if (strspn(low, "0") >= length && strspn(high, "9") >= length)
        return digits_between(rules, '0', '9', length - 1);
    if (low[0] == high[0]) {
        bb_rules_append(rules, list, bb_rules_byte(rules, (uint8_t)low[0], (uint8_t)low[0]));
        return bb_rules_append(rules, list, equal_lengths(rules, low + 1, high + 1, length - 1));
    }
    memset(edge, '9', sizeof edge - 1);
    bb_rules_append(rules, list, bb_rules_byte(rules, (uint8_t)low[0], (uint8_t)low[0]));
    bb_rules_append(rules, list, equal_lengths(rules, low + 1, edge, length - 1));
    bb_rules_append(rules, choice, list);
    if (high[0] - low[0] > 1)
        bb_rules_append(rules, choice, digits_between(rules, (char)(low[0] + 1), (char)(high[0] - 1), length - 1));
    memset(edge, '0', sizeof edge - 1);
    list = bb_rules_list(rules, BB_RULE_SEQUENCE);
    bb_rules_append(rules, list, bb_rules_byte(rules, (uint8_t)high[0], (uint8_t)high[0]));
    bb_rules_append(rules, list, equal_lengths(rules, edge, high + 1, length - 1));
    return bb_rules_append(rules, choice, list);
}

/* 0 <= low; nothing where high is below it. With `most_digits`, each may have a fraction behind it, as long as the
 * number has no more digits; 0: none has. */
static uint32_t positive_range(struct bb_rules *rules, int64_t low, int64_t high, uint32_t most_digits)
{
    uint32_t choice = bb_rules_list(rules, BB_RULE_CHOICE);
    int64_t begin = 0, end = 9;
    for (uint32_t length = 1; length <= 18; length++) {
        int64_t first = low > begin ? low : begin, last = high < end ? high : end;
        if (first <= last) {
            char from[24], to[24];
            snprintf(from, sizeof from, "%lld", (long long)first);
            snprintf(to, sizeof to, "%lld", (long long)last);
            uint32_t list = bb_rules_list(rules, BB_RULE_SEQUENCE);
            bb_rules_append(rules, list, equal_lengths(rules, from, to, length));
            if (length < most_digits)
                bb_rules_append(rules, list, fraction(rules, NULL, NULL, most_digits - length));
            bb_rules_append(rules, choice, list);
        }
        begin = end + 1;
        end = length < 18 ? end * 10 + 9 : end;
    }
    return choice;
}

/* The bound that a keyword sets, rounded into the range; its exclusive form moves by one. */
static int64_t read_bound(struct bb_schema *schema, json_t *json, const char *keyword, int64_t fallback, int direction,
                          bool is_exclusive)
{
    json_t *value = json_object_get(json, keyword);
    if (value == NULL)
        return fallback;
    if (!json_is_number(value)) {
        bb_schema_fail(schema, BOMBUS_ERROR_FORMAT, keyword, "expected a number");
        return fallback;
    }
    double number = json_number_value(value), whole = direction > 0 ? ceil(number) : floor(number);
    if (fabs(whole) > (double)MOST_INTEGER)
        return (whole > 0.0) == (direction > 0) ? direction * (MOST_INTEGER + 1) : fallback;
    int64_t bound = json_is_integer(value) ? (int64_t)json_integer_value(value) : (int64_t)whole;
    return is_exclusive && whole == number ? bound + direction : bound;
}

uint32_t bb_schema_integer(struct bb_schema *schema, json_t *json)
{
    struct bb_rules *rules = schema->rules;
    int64_t low = read_bound(schema, json, "minimum", -MOST_INTEGER, 1, false);
    int64_t above = read_bound(schema, json, "exclusiveMinimum", -MOST_INTEGER, 1, true);
    int64_t high = read_bound(schema, json, "maximum", MOST_INTEGER, -1, false);
    int64_t below = read_bound(schema, json, "exclusiveMaximum", MOST_INTEGER, -1, true);
    low = low > above ? low : above;
    high = high < below ? high : below;
    if (low == -MOST_INTEGER && high == MOST_INTEGER)
        return bb_schema_terminal(schema, BB_TERMINAL_INTEGER);
    uint32_t choice = bb_rules_list(rules, BB_RULE_CHOICE);
    if (low < 0) {
        uint32_t list = bb_rules_list(rules, BB_RULE_SEQUENCE);
        bb_rules_append(rules, list, bb_rules_byte(rules, '-', '-'));
        bb_rules_append(rules, list, positive_range(rules, high < 0 ? -high : 1, -low, 0));
        bb_rules_append(rules, choice, list);
    }
    if (high >= 0)
        bb_rules_append(rules, choice, positive_range(rules, low > 0 ? low : 0, high, 0));
    return choice;
}

/* ---- ranges of numbers ---- */

/* Fifteen digits are told apart by every double. So what is within a bound as it is written is so as a double too, also
 * where the bound itself is excluded. */
enum { NUMBER_DIGITS = 15 };
#define MOST_WHOLE INT64_C(999999999999999)

struct bound {
    double value;
    int64_t whole;   /* of its magnitude; MOST_WHOLE + 1: beyond */
    char digits[48]; /* behind the point, without zeros at the end */
    bool is_open;
};

/* The magnitude of a double by the fewest digits that mean it. */
static void read_real(struct bound *bound, double value)
{
    char text[64], digits[20] = "";
    size_t count = 0, length = 0;
    const char *at = text;
    for (int precision = NUMBER_DIGITS - 1; precision <= 16; precision++) {
        snprintf(text, sizeof text, "%.*e", precision, value);
        if (strtod(text, NULL) == value)
            break;
    }
    for (; *at != 'e' && *at != '\0'; at++) /* the point may be another character */
        if (*at >= '0' && *at <= '9' && count + 1 < sizeof digits)
            digits[count++] = *at;
    long exponent = *at == 'e' ? strtol(at + 1, NULL, 10) : 0;
    for (long i = 0; i <= exponent && bound->whole <= MOST_WHOLE; i++)
        bound->whole = bound->whole * 10 + (i < (long)count ? digits[i] - '0' : 0);
    for (long i = exponent + 1; i < 0 && length < NUMBER_DIGITS + 1; i++)
        bound->digits[length++] = '0';
    for (long i = exponent + 1 > 0 ? exponent + 1 : 0; i < (long)count; i++)
        bound->digits[length++] = digits[i];
    while (length > 0 && bound->digits[length - 1] == '0')
        bound->digits[--length] = '\0';
}

/* The stronger one of the bounds that two keywords set, the second of which excludes itself; false: none. */
static bool read_bounds(struct bound *bound, json_t *json, const char *keyword, const char *open, double direction)
{
    json_t *closed = json_object_get(json, keyword), *other = json_object_get(json, open);
    *bound = (struct bound){.is_open = other != NULL};
    if (closed != NULL && other != NULL)
        bound->is_open = (json_number_value(other) - json_number_value(closed)) * direction >= 0.0;
    json_t *value = bound->is_open ? other : closed;
    if (value == NULL)
        return false;
    bound->value = json_number_value(value);
    if (json_is_integer(value) && fabs(bound->value) <= (double)MOST_WHOLE)
        bound->whole = json_integer_value(value) < 0 ? -json_integer_value(value) : json_integer_value(value);
    else
        read_real(bound, fabs(bound->value));
    return true;
}

static uint32_t with_fraction(struct bb_rules *rules, int64_t whole, const struct edge *low, const struct edge *high)
{
    char text[24];
    uint32_t list = bb_rules_list(rules, BB_RULE_SEQUENCE);
    size_t length = (size_t)snprintf(text, sizeof text, "%lld", (long long)whole);
    bb_rules_append(rules, list, bb_rules_literal(rules, text, length));
    return bb_rules_append(rules, list, fraction(rules, low, high, NUMBER_DIGITS - (uint32_t)length));
}

/* By their magnitudes. */
static uint32_t positive_numbers(struct bb_rules *rules, const struct bound *from, const struct bound *to)
{
    static const struct bound most = {.whole = MOST_WHOLE};
    uint32_t choice = bb_rules_list(rules, BB_RULE_CHOICE);
    to = to->whole > MOST_WHOLE ? &most : to;
    const struct edge low = {from->digits, from->is_open}, high = {to->digits, to->is_open};
    if (from->whole == to->whole)
        return with_fraction(rules, from->whole, &low, &high);
    if (from->whole > to->whole)
        return choice;
    bb_rules_append(rules, choice, with_fraction(rules, from->whole, &low, NULL));
    bb_rules_append(rules, choice, positive_range(rules, from->whole + 1, to->whole - 1, NUMBER_DIGITS));
    return bb_rules_append(rules, choice, with_fraction(rules, to->whole, NULL, &high));
}

uint32_t bb_schema_number(struct bb_schema *schema, json_t *json)
{
    static const struct bound zero = {.whole = 0}, above_zero = {.is_open = true}, most = {.whole = MOST_WHOLE};
    struct bb_rules *rules = schema->rules;
    struct bound low, high;
    bool has_low = read_bounds(&low, json, "minimum", "exclusiveMinimum", 1.0);
    bool has_high = read_bounds(&high, json, "maximum", "exclusiveMaximum", -1.0);
    if (!has_low && !has_high)
        return bb_schema_terminal(schema, BB_TERMINAL_NUMBER);
    uint32_t choice = bb_rules_list(rules, BB_RULE_CHOICE);
    if (!has_low || low.value < 0.0) {
        uint32_t list = bb_rules_list(rules, BB_RULE_SEQUENCE);
        bb_rules_append(rules, list, bb_rules_byte(rules, '-', '-'));
        bb_rules_append(
            rules, list,
            positive_numbers(rules, has_high && high.value < 0.0 ? &high : &above_zero, has_low ? &low : &most));
        bb_rules_append(rules, choice, list);
    }
    if (!has_high || high.value >= 0.0)
        bb_rules_append(rules, choice,
                        positive_numbers(rules, has_low && low.value >= 0.0 ? &low : &zero, has_high ? &high : &most));
    return choice;
}
