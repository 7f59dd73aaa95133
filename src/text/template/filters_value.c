/* Filters of single values: defaults, attributes, numbers. */
#include "text/template/access.h"
#include "text/template/arguments.h"
#include "text/template/builder.h"
#include "text/template/functions.h"
#include "text/template/list.h"
#include "text/template/number.h"
#include "text/template/operators.h"
#include "text/template/real.h"
#include "text/template/repr.h"
#include "text/template/undefined.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define FILTER(name)                                                                                                   \
    static struct bb_value filter_##name(struct bb_work *work, struct bb_value value, const struct bb_value *bound,    \
                                         const struct bb_arguments *arguments)

FILTER(default)
{
    (void)arguments;
    bool replaces_false = bound[1].kind != BB_VALUE_MISSING && bb_value_is_true(work, bound[1]);
    if (value.kind != BB_VALUE_UNDEFINED && !(replaces_false && !bb_value_is_true(work, value)))
        return value;
    return bound[0].kind != BB_VALUE_MISSING ? bound[0] : bb_value_string(work, "");
}

FILTER(attr)
{
    (void)arguments;
    struct bb_value name = bb_value_to_text(work, bound[0]);
    if (work->status != BOMBUS_OK || value.kind == BB_VALUE_UNDEFINED)
        return value.kind == BB_VALUE_UNDEFINED ? bb_raise_undefined(work, value) : BB_NONE;
    /* Attributes only: the keys of a dict are not seen. */
    struct bb_value found = value.kind == BB_VALUE_DICT || value.kind == BB_VALUE_LIST || value.kind == BB_VALUE_TEXT
                                ? bb_value_method(work, value, name)
                                : bb_value_attribute(work, value, name);
    return found.kind != BB_VALUE_MISSING || work->status != BOMBUS_OK
               ? found
               : bb_value_undefined(work, NULL, bb_value_owner_name(value), name);
}

FILTER(abs)
{
    (void)bound, (void)arguments;
    if (value.kind == BB_VALUE_UNDEFINED)
        return bb_raise(work, "bad operand type for abs(): 'Undefined'");
    if (value.kind == BB_VALUE_FLOAT)
        return bb_value_float(fabs(value.real));
    if (value.kind == BB_VALUE_LONG)
        return bb_value_negate(work, value, value.text->bytes[0] == '-');
    if (!bb_value_is_integer(value))
        return bb_raise(work, "bad operand type for abs(): '%s'", bb_value_type_name(value));
    return bb_value_negate(work, value, bb_value_to_integer(value) < 0);
}

FILTER(int)
{
    (void)arguments;
    struct bb_value result, missing = bound[0].kind != BB_VALUE_MISSING ? bound[0] : bb_value_int(0);
    double real;
    if (value.kind == BB_VALUE_UNDEFINED)
        return bb_raise_undefined(work, value);
    if (bb_value_is_integer(value))
        return bb_value_int(bb_value_to_integer(value));
    if (value.kind == BB_VALUE_LONG)
        return value;
    if (value.kind == BB_VALUE_FLOAT) {
        /* int(inf) raises OverflowError, which the filter lets through; int(nan) gives the default. */
        return isnan(value.real) ? missing : bb_integer_of_real(work, value.real);
    }
    if (value.kind != BB_VALUE_TEXT || !bb_work_scan(work, value.text->length))
        return missing;
    if (bb_parse_integer(work, value.text, bb_require_integer(work, bound[1], 10), &result))
        return result;
    if (!bb_parse_real(value.text, &real) || !isfinite(real))
        return missing;
    return bb_integer_of_real(work, real);
}

FILTER(float)
{
    (void)arguments;
    double real;
    if (value.kind == BB_VALUE_UNDEFINED)
        return bb_raise_undefined(work, value);
    if (bb_value_is_number(value))
        return bb_value_float(bb_value_to_real(value));
    if (value.kind == BB_VALUE_TEXT && bb_work_scan(work, value.text->length) && bb_parse_real(value.text, &real))
        return bb_value_float(real);
    return bound[0].kind != BB_VALUE_MISSING ? bound[0] : bb_value_float(0.0);
}

/* round(): halves to even, in decimal, as the exact value of the float has them. */
static struct bb_value round_common(struct bb_work *work, struct bb_value value, int64_t precision)
{
    char text[800];
    if (bb_value_is_integer(value) && precision >= 0)
        return bb_value_int(bb_value_to_integer(value));
    if (bb_value_is_integer(value)) {
        int64_t unit = 1, integer = bb_value_to_integer(value);
        for (int64_t i = precision; i < 0; i++)
            if (__builtin_mul_overflow(unit, 10, &unit))
                return bb_value_int(0);
        int64_t remainder = ((integer % unit) + unit) % unit, floor = integer - remainder;
        bool goes_up = remainder > unit - remainder || (remainder == unit - remainder && (floor / unit) % 2 != 0);
        return bb_value_int(goes_up ? floor + unit : floor);
    }
    if (!isfinite(value.real) || precision > 350)
        return value;
    if (precision < -310)
        return bb_value_float(copysign(0.0, value.real));
    if (precision < 0) {
        double unit = pow(10.0, (double)-precision);
        double scaled = value.real / unit;
        double whole = nearbyint(scaled);
        return bb_value_float(whole * unit);
    }
    snprintf(text, sizeof text, "%.*f", (int)precision, fabs(value.real));
    bb_fix_decimal_point(text);
    double rounded = bb_real_parse(text, strlen(text));
    (void)work;
    return bb_value_float(copysign(rounded, value.real));
}

FILTER(round)
{
    (void)arguments;
    int64_t precision = bb_require_integer(work, bound[0], 0);
    bool is_common = bound[1].kind == BB_VALUE_MISSING ||
                     (bound[1].kind == BB_VALUE_TEXT && bb_text_equals(bound[1].text, "common"));
    bool is_ceil = bound[1].kind == BB_VALUE_TEXT && bb_text_equals(bound[1].text, "ceil");
    if (!is_common && !is_ceil && (bound[1].kind != BB_VALUE_TEXT || !bb_text_equals(bound[1].text, "floor")))
        return bb_raise(work, "method must be common, ceil or floor");
    if (value.kind == BB_VALUE_UNDEFINED)
        return bb_raise(work, "type Undefined doesn't define __round__ method");
    if (value.kind == BB_VALUE_LONG && is_common && precision >= 0)
        return value;
    if (value.kind == BB_VALUE_LONG)
        return bb_raise(work, "integer overflow: a number of more than 64 bits cannot be rounded");
    if (!bb_value_is_number(value))
        return bb_raise(work, "type %s doesn't define __round__ method", bb_value_type_name(value));
    if (work->status != BOMBUS_OK)
        return BB_NONE;
    if (is_common)
        return round_common(work, value, precision);
    double scale = pow(10.0, (double)precision), scaled = bb_value_to_real(value) * scale;
    return bb_value_float(((is_ceil ? ceil(scaled) : floor(scaled)) + 0.0) / scale); /* never -0.0: an int between */
}

const struct bb_function bb_value_filters[] = {
    {"abs", "", filter_abs, {0}},
    {"attr", "name", filter_attr, {0}},
    {"d", "default_value? boolean?", filter_default, {0}},
    {"default", "default_value? boolean?", filter_default, {0}},
    {"float", "default?", filter_float, {0}},
    {"int", "default? base?", filter_int, {0}},
    {"round", "precision? method?", filter_round, {0}},
    {NULL, NULL, NULL, {0}},
};
