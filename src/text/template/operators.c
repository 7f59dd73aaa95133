/* Arithmetic and membership with Python's meaning. */
#include "text/template/operators.h"

#include "text/template/ast.h"
#include "text/template/builder.h"
#include "text/template/compare.h"
#include "text/template/format.h"
#include "text/template/list.h"
#include "text/template/repr.h"
#include "text/template/text.h"
#include "text/template/undefined.h"

#include <math.h>
#include <string.h>

const char *bb_operation_name(int32_t operation)
{
    static const char *const names[] = {
        "+", "-", "*", "/", "//", "%", "** or pow()", "==", "!=", "<", "<=", ">", ">=", "in", "not in"};
    return names[operation];
}

static struct bb_value raise_operands(struct bb_work *work, int32_t operation, struct bb_value a, struct bb_value b)
{
    return bb_raise(work, "unsupported operand type(s) for %s: '%s' and '%s'", bb_operation_name(operation),
                    bb_value_type_name(a), bb_value_type_name(b));
}

static struct bb_value raise_overflow(struct bb_work *work, int32_t operation)
{
    return bb_raise(work, "integer overflow: the result of '%s' does not fit 64 bits",
                    operation == BB_OPERATION_POWER ? "**" : bb_operation_name(operation));
}

static struct bb_value power_of_reals(struct bb_work *work, double a, double b)
{
    if (a == 0.0 && b < 0.0)
        return bb_raise(work, "0.0 cannot be raised to a negative power");
    if (a < 0.0 && isfinite(a) && isfinite(b) && floor(b) != b)
        return bb_raise(work, "complex numbers are not supported");
    double result = pow(a, b);
    if (isinf(result) && isfinite(a) && isfinite(b))
        return bb_raise(work, "(34, 'Numerical result out of range')");
    return bb_value_float(result);
}

static struct bb_value power_of_integers(struct bb_work *work, int64_t base, int64_t exponent)
{
    if (exponent < 0)
        return power_of_reals(work, (double)base, (double)exponent);
    int64_t result = 1;
    while (exponent > 0) {
        if ((exponent & 1) && __builtin_mul_overflow(result, base, &result))
            return raise_overflow(work, BB_OPERATION_POWER);
        exponent >>= 1;
        if (exponent > 0 && __builtin_mul_overflow(base, base, &base))
            return raise_overflow(work, BB_OPERATION_POWER);
    }
    return bb_value_int(result);
}

static struct bb_value integer_arithmetic(struct bb_work *work, int32_t operation, int64_t a, int64_t b)
{
    int64_t result;
    bool has_overflow = false;
    switch (operation) {
    case BB_OPERATION_ADD: has_overflow = __builtin_add_overflow(a, b, &result); break;
    case BB_OPERATION_SUBTRACT: has_overflow = __builtin_sub_overflow(a, b, &result); break;
    case BB_OPERATION_MULTIPLY: has_overflow = __builtin_mul_overflow(a, b, &result); break;
    case BB_OPERATION_POWER: return power_of_integers(work, a, b);
    case BB_OPERATION_DIVIDE:
        return b == 0 ? bb_raise(work, "division by zero") : bb_value_float((double)a / (double)b);
    default:
        if (b == 0)
            return bb_raise(work, operation == BB_OPERATION_REMAINDER ? "integer modulo by zero"
                                                                      : "integer division or modulo by zero");
        if (b == -1) { /* INT64_MIN / -1 traps */
            has_overflow = __builtin_sub_overflow((int64_t)0, a, &result) && operation == BB_OPERATION_FLOOR_DIVIDE;
            if (operation == BB_OPERATION_REMAINDER)
                result = 0;
            break;
        }
        result = operation == BB_OPERATION_REMAINDER ? a % b : a / b;
        if (a % b != 0 && (a % b < 0) != (b < 0))
            result += operation == BB_OPERATION_REMAINDER ? b : -1;
    }
    return has_overflow ? raise_overflow(work, operation) : bb_value_int(result);
}

/* CPython's float_divmod: the remainder has the divisor's sign, the quotient is a whole number. */
static struct bb_value divide_reals(struct bb_work *work, int32_t operation, double a, double b)
{
    if (b == 0.0)
        return bb_raise(work, operation == BB_OPERATION_DIVIDE      ? "float division by zero"
                              : operation == BB_OPERATION_REMAINDER ? "float modulo"
                                                                    : "float floor division by zero");
    if (operation == BB_OPERATION_DIVIDE)
        return bb_value_float(a / b);
    double remainder = fmod(a, b), quotient = (a - remainder) / b;
    if (remainder != 0.0) {
        if ((b < 0.0) != (remainder < 0.0)) {
            remainder += b;
            quotient -= 1.0;
        }
    } else {
        remainder = copysign(0.0, b);
    }
    if (operation == BB_OPERATION_REMAINDER)
        return bb_value_float(remainder);
    if (quotient == 0.0)
        return bb_value_float(copysign(0.0, a / b));
    double whole = floor(quotient);
    return bb_value_float(quotient - whole > 0.5 ? whole + 1.0 : whole);
}

static struct bb_value real_arithmetic(struct bb_work *work, int32_t operation, double a, double b)
{
    switch (operation) {
    case BB_OPERATION_ADD: return bb_value_float(a + b);
    case BB_OPERATION_SUBTRACT: return bb_value_float(a - b);
    case BB_OPERATION_MULTIPLY: return bb_value_float(a * b);
    case BB_OPERATION_POWER: return power_of_reals(work, a, b);
    default: return divide_reals(work, operation, a, b);
    }
}

static struct bb_value repeat(struct bb_work *work, struct bb_value sequence, int64_t count)
{
    if (sequence.kind == BB_VALUE_TEXT) {
        struct bb_builder text = {.work = work};
        bb_build_repeated(&text, sequence.text, count);
        struct bb_value result = bb_build_finish(&text);
        return sequence.text->is_markup ? bb_value_markup(work, result) : result;
    }
    struct bb_list_builder items = {.work = work};
    for (int64_t i = 0; i < count && sequence.list->count > 0 && work->status == BOMBUS_OK; i++)
        for (size_t j = 0; j < sequence.list->count && work->status == BOMBUS_OK; j++)
            bb_list_add(&items, sequence.list->items[j]);
    return bb_list_finish(&items, sequence.kind);
}

static bool is_sequence(struct bb_value value)
{
    return value.kind == BB_VALUE_TEXT || value.kind == BB_VALUE_LIST || value.kind == BB_VALUE_TUPLE;
}

static struct bb_value multiply(struct bb_work *work, struct bb_value a, struct bb_value b)
{
    if (is_sequence(a) && bb_value_is_integer(b))
        return repeat(work, a, bb_value_to_integer(b));
    if (is_sequence(b) && bb_value_is_integer(a))
        return repeat(work, b, bb_value_to_integer(a));
    if (is_sequence(a) || is_sequence(b))
        return bb_raise(work, "can't multiply sequence by non-int of type '%s'",
                        bb_value_type_name(is_sequence(a) ? b : a));
    return raise_operands(work, BB_OPERATION_MULTIPLY, a, b);
}

static struct bb_value add(struct bb_work *work, struct bb_value a, struct bb_value b)
{
    if (a.kind == BB_VALUE_TEXT && b.kind == BB_VALUE_TEXT) {
        bool is_markup = a.text->is_markup || b.text->is_markup;
        if (is_markup) {
            struct bb_value escaped = bb_text_escape_for(work, b.text, a);
            b = bb_text_escape_for(work, a.text, b);
            a = escaped;
        }
        struct bb_builder text = {.work = work};
        if (work->status == BOMBUS_OK) {
            bb_build_value(&text, a);
            bb_build_value(&text, b);
        }
        struct bb_value sum = bb_build_finish(&text);
        return is_markup ? bb_value_markup(work, sum) : sum;
    }
    if (is_sequence(a) && a.kind == b.kind) {
        struct bb_list_builder items = {.work = work};
        for (size_t i = 0; i < a.list->count && work->status == BOMBUS_OK; i++)
            bb_list_add(&items, a.list->items[i]);
        for (size_t i = 0; i < b.list->count && work->status == BOMBUS_OK; i++)
            bb_list_add(&items, b.list->items[i]);
        return bb_list_finish(&items, a.kind);
    }
    if (is_sequence(a)) {
        const char *type = a.kind == BB_VALUE_TEXT ? "str" : bb_value_type_name(a);
        return bb_raise(work, "can only concatenate %s (not \"%s\") to %s", type, bb_value_type_name(b), type);
    }
    return raise_operands(work, BB_OPERATION_ADD, a, b);
}

struct bb_value bb_value_arithmetic(struct bb_work *work, int32_t operation, struct bb_value a, struct bb_value b)
{
    if (operation == BB_OPERATION_REMAINDER && a.kind == BB_VALUE_TEXT)
        return bb_format_percent(work, a.text, b);
    if (a.kind == BB_VALUE_UNDEFINED || b.kind == BB_VALUE_UNDEFINED)
        return bb_raise_undefined(work, a.kind == BB_VALUE_UNDEFINED ? a : b);
    if (bb_value_is_integer(a) && bb_value_is_integer(b))
        return integer_arithmetic(work, operation, bb_value_to_integer(a), bb_value_to_integer(b));
    if ((a.kind == BB_VALUE_LONG || b.kind == BB_VALUE_LONG) && bb_value_is_number(a) && bb_value_is_number(b))
        return bb_raise(work, "integer overflow: an operand of '%s' does not fit 64 bits",
                        bb_operation_name(operation));
    if (bb_value_is_number(a) && bb_value_is_number(b))
        return real_arithmetic(work, operation, bb_value_to_real(a), bb_value_to_real(b));
    if (operation == BB_OPERATION_ADD)
        return add(work, a, b);
    if (operation == BB_OPERATION_MULTIPLY)
        return multiply(work, a, b);
    return raise_operands(work, operation, a, b);
}

struct bb_value bb_value_negate(struct bb_work *work, struct bb_value value, bool is_negative)
{
    if (value.kind == BB_VALUE_UNDEFINED)
        return bb_raise_undefined(work, value);
    if (bb_value_is_integer(value))
        return is_negative ? integer_arithmetic(work, BB_OPERATION_SUBTRACT, 0, bb_value_to_integer(value))
                           : bb_value_int(bb_value_to_integer(value));
    if (value.kind == BB_VALUE_FLOAT)
        return bb_value_float(is_negative ? -value.real : value.real);
    if (value.kind == BB_VALUE_LONG && !is_negative)
        return value;
    if (value.kind == BB_VALUE_LONG) {
        /* Only 2^63 comes back into range; the rest gets or loses its sign. */
        struct bb_builder digits = {.work = work};
        if (value.text->bytes[0] != '-')
            bb_build_byte(&digits, '-');
        size_t skip = value.text->bytes[0] == '-';
        bb_build(&digits, value.text->bytes + skip, value.text->length - skip);
        struct bb_value result = bb_build_finish(&digits);
        if (result.kind != BB_VALUE_TEXT)
            return result;
        if (bb_text_equals(result.text, "-9223372036854775808"))
            return bb_value_int(INT64_MIN);
        result.kind = BB_VALUE_LONG;
        return result;
    }
    return bb_raise(work, "bad operand type for unary %s: '%s'", is_negative ? "-" : "+", bb_value_type_name(value));
}

bool bb_value_contains(struct bb_work *work, struct bb_value container, struct bb_value value)
{
    switch (container.kind) {
    case BB_VALUE_TEXT:
        if (value.kind == BB_VALUE_TEXT)
            return bb_text_find(work, container.text, value.text, 0, container.text->length) != SIZE_MAX;
        bb_raise(work, "'in <string>' requires string as left operand, not %s", bb_value_type_name(value));
        return false;
    case BB_VALUE_DICT: return bb_dict_find(work, container.dict, value) != NULL;
    case BB_VALUE_RANGE:
        if (value.kind == BB_VALUE_INT || value.kind == BB_VALUE_BOOL) {
            int64_t distance;
            const struct bb_range *range = container.range;
            return range->count > 0 && !__builtin_sub_overflow(bb_value_to_integer(value), range->start, &distance) &&
                   distance % range->step == 0 && distance / range->step >= 0 && distance / range->step < range->count;
        }
        break;
    case BB_VALUE_VIEW:
        if (container.view->kind == BB_VIEW_KEYS)
            return bb_dict_find(work, container.view->dict, value) != NULL;
        break;
    default:
        if (!bb_value_is_iterable(container)) {
            bb_raise(work, "argument of type '%s' is not iterable", bb_value_type_name(container));
            return false;
        }
    }
    struct bb_list items = bb_value_iterate(work, container);
    for (size_t i = 0; i < items.count && work->status == BOMBUS_OK; i++)
        if (bb_value_is_same(items.items[i], value) || bb_value_is_equal(work, items.items[i], value))
            return work->status == BOMBUS_OK;
    return false;
}
