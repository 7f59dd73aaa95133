/* Tests: what stands behind `is`. */
#include "text/template/arguments.h"
#include "text/template/ast.h"
#include "text/template/call.h"
#include "text/template/compare.h"
#include "text/template/functions.h"
#include "text/template/operators.h"
#include "text/template/text.h"

#define TEST(name)                                                                                                     \
    static struct bb_value test_##name(struct bb_work *work, struct bb_value value, const struct bb_value *bound,      \
                                       const struct bb_arguments *arguments)
#define UNUSED_PARAMETERS (void)work, (void)bound, (void)arguments
#define KIND_TEST(name, condition)                                                                                     \
    TEST(name)                                                                                                         \
    {                                                                                                                  \
        UNUSED_PARAMETERS;                                                                                             \
        return bb_value_bool(condition);                                                                               \
    }

KIND_TEST(boolean, value.kind == BB_VALUE_BOOL)
KIND_TEST(callable, value.kind == BB_VALUE_MACRO || value.kind == BB_VALUE_FUNCTION || value.kind == BB_VALUE_LOOP ||
                        value.kind == BB_VALUE_JOINER || value.kind == BB_VALUE_UNDEFINED)
KIND_TEST(defined, value.kind != BB_VALUE_UNDEFINED)
KIND_TEST(escaped, value.kind == BB_VALUE_TEXT && value.text->is_markup)
KIND_TEST(is_false, value.kind == BB_VALUE_BOOL && !value.boolean)
KIND_TEST(float, value.kind == BB_VALUE_FLOAT)
KIND_TEST(integer, value.kind == BB_VALUE_INT || value.kind == BB_VALUE_LONG)
KIND_TEST(iterable, bb_value_is_iterable(value))
KIND_TEST(mapping, value.kind == BB_VALUE_DICT)
KIND_TEST(none, value.kind == BB_VALUE_NONE)
KIND_TEST(number, bb_value_is_number(value))
KIND_TEST(sequence, value.kind == BB_VALUE_UNDEFINED || value.kind == BB_VALUE_TEXT || value.kind == BB_VALUE_LIST ||
                        value.kind == BB_VALUE_TUPLE || value.kind == BB_VALUE_DICT || value.kind == BB_VALUE_RANGE)
KIND_TEST(string, value.kind == BB_VALUE_TEXT)
KIND_TEST(is_true, value.kind == BB_VALUE_BOOL && value.boolean)
KIND_TEST(undefined, value.kind == BB_VALUE_UNDEFINED)
KIND_TEST(sameas, bb_value_is_same(value, bound[0]))
KIND_TEST(eq, bb_value_is_equal(work, value, bound[0]))
KIND_TEST(ne, !bb_value_is_equal(work, value, bound[0]))
KIND_TEST(in, bb_value_contains(work, bound[0], value))
KIND_TEST(lower, bb_text_is_cased(work, bb_text_argument(work, value), false))
KIND_TEST(upper, bb_text_is_cased(work, bb_text_argument(work, value), true))
KIND_TEST(filter, value.kind == BB_VALUE_TEXT && bb_find_filter(value.text) != NULL)
KIND_TEST(test, value.kind == BB_VALUE_TEXT && bb_find_test(value.text) != NULL)

/* value % divisor == remainder */
static struct bb_value has_remainder(struct bb_work *work, struct bb_value value, struct bb_value divisor,
                                     int64_t remainder)
{
    struct bb_value rest = bb_value_arithmetic(work, BB_OPERATION_REMAINDER, value, divisor);
    return bb_value_bool(work->status == BOMBUS_OK && bb_value_is_equal(work, rest, bb_value_int(remainder)));
}

TEST(divisibleby)
{
    (void)arguments;
    return has_remainder(work, value, bound[0], 0);
}
TEST(even)
{
    UNUSED_PARAMETERS;
    return has_remainder(work, value, bb_value_int(2), 0);
}
TEST(odd)
{
    UNUSED_PARAMETERS;
    return has_remainder(work, value, bb_value_int(2), 1);
}

KIND_TEST(lt, bb_value_compare(work, value, bound[0], "<") == -1)
KIND_TEST(gt, bb_value_compare(work, value, bound[0], ">") == 1)

TEST(le)
{
    (void)arguments;
    int order = bb_value_compare(work, value, bound[0], "<=");
    return bb_value_bool(order == -1 || order == 0);
}

TEST(ge)
{
    (void)arguments;
    int order = bb_value_compare(work, value, bound[0], ">=");
    return bb_value_bool(order == 1 || order == 0);
}

const struct bb_function bb_tests[] = {
    {"!=", "other", test_ne, {0}},
    {"<", "other", test_lt, {0}},
    {"<=", "other", test_le, {0}},
    {"==", "other", test_eq, {0}},
    {">", "other", test_gt, {0}},
    {">=", "other", test_ge, {0}},
    {"boolean", "", test_boolean, {0}},
    {"callable", "", test_callable, {0}},
    {"defined", "", test_defined, {0}},
    {"divisibleby", "num", test_divisibleby, {0}},
    {"eq", "other", test_eq, {0}},
    {"equalto", "other", test_eq, {0}},
    {"escaped", "", test_escaped, {0}},
    {"even", "", test_even, {0}},
    {"false", "", test_is_false, {0}},
    {"filter", "", test_filter, {0}},
    {"float", "", test_float, {0}},
    {"ge", "other", test_ge, {0}},
    {"greaterthan", "other", test_gt, {0}},
    {"gt", "other", test_gt, {0}},
    {"in", "seq", test_in, {0}},
    {"integer", "", test_integer, {0}},
    {"iterable", "", test_iterable, {0}},
    {"le", "other", test_le, {0}},
    {"lessthan", "other", test_lt, {0}},
    {"lower", "", test_lower, {0}},
    {"lt", "other", test_lt, {0}},
    {"mapping", "", test_mapping, {0}},
    {"ne", "other", test_ne, {0}},
    {"none", "", test_none, {0}},
    {"number", "", test_number, {0}},
    {"odd", "", test_odd, {0}},
    {"sameas", "other", test_sameas, {0}},
    {"sequence", "", test_sequence, {0}},
    {"string", "", test_string, {0}},
    {"test", "", test_test, {0}},
    {"true", "", test_is_true, {0}},
    {"undefined", "", test_undefined, {0}},
    {"upper", "", test_upper, {0}},
    {NULL, NULL, NULL, {0}},
};
