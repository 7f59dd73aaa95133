/* config.json by paths of keys. */
#include "files/config.h"
#include "scratch.h"

static struct bb_config *parse(const char *text)
{
    struct bb_config *config;
    bombus_error error;
    CHECK_OK(bb_config_parse(&config, text, strlen(text), "test.json", &error), error);
    return config;
}

static void test_getters(void **state)
{
    (void)state;
    struct bb_config *config =
        parse("{\"n\": 3, \"whole\": 7.0, \"big\": 1000000000000000019884624838656, \"half\": 0.5, \"yes\": true, "
              "\"none\": null,"
              " \"text\": \"\xC3\xA9\", \"list\": [1, 2.5, \"x\"], \"deep\": {\"a.b\": {\"c\": -4}}, \"n\": 5}");
    bombus_error error;
    int64_t integer;
    double number;
    bool boolean;
    const char *text;
    CHECK_OK(bb_config_integer(config, "n", 1, 0, 10, &integer, &error), error);
    assert_int_equal(integer, 5); /* the last of two */
    CHECK_OK(bb_config_integer(config, "whole", 1, 0, 10, &integer, &error), error);
    assert_int_equal(integer, 7);
    CHECK_OK(bb_config_integer(config, "deep/a.b/c", 1, -10, 10, &integer, &error), error);
    assert_int_equal(integer, -4);
    CHECK_OK(bb_config_integer(config, "absent/a", 42, 0, 10, &integer, &error), error);
    assert_int_equal(integer, 42);
    CHECK_OK(bb_config_integer(config, "none", 43, 0, 10, &integer, &error), error);
    assert_int_equal(integer, 43);
    assert_int_equal(bb_config_integer(config, "n", 1, 6, 10, &integer, &error), BOMBUS_ERROR_FORMAT);
    assert_string_equal(error.message, "test.json: 'n' is 5, must be within 6 and 10");
    assert_int_equal(bb_config_integer(config, "half", 1, 0, 10, &integer, &error), BOMBUS_ERROR_FORMAT);
    assert_int_equal(bb_config_integer(config, "big", 1, INT64_MIN, INT64_MAX, &integer, &error), BOMBUS_ERROR_FORMAT);
    assert_int_equal(bb_config_integer(config, "text", 1, 0, 10, &integer, &error), BOMBUS_ERROR_FORMAT);
    assert_string_equal(error.message, "test.json: 'text' must be a whole number");
    assert_int_equal(bb_config_integer(config, "yes", 1, 0, 10, &integer, &error), BOMBUS_ERROR_FORMAT);
    CHECK_OK(bb_config_number(config, "big", 1, &number, &error), error);
    assert_true(number == 1e30);
    CHECK_OK(bb_config_number(config, "none", 0.25, &number, &error), error);
    assert_true(number == 0.25);
    assert_int_equal(bb_config_number(config, "yes", 1, &number, &error), BOMBUS_ERROR_FORMAT);
    CHECK_OK(bb_config_boolean(config, "yes", false, &boolean, &error), error);
    assert_true(boolean);
    CHECK_OK(bb_config_boolean(config, "none", true, &boolean, &error), error);
    assert_true(boolean);
    assert_int_equal(bb_config_boolean(config, "n", false, &boolean, &error), BOMBUS_ERROR_FORMAT);
    CHECK_OK(bb_config_text(config, "text", NULL, &text, &error), error);
    assert_string_equal(text, "\xC3\xA9");
    CHECK_OK(bb_config_text(config, "none", NULL, &text, &error), error);
    assert_null(text);
    assert_int_equal(bb_config_text(config, "list", "x", &text, &error), BOMBUS_ERROR_FORMAT);
    assert_string_equal(bb_config_path(config), "test.json");
    bb_config_close(config);
}

static void test_types_and_arrays(void **state)
{
    (void)state;
    struct bb_config *config =
        parse("{\"list\": [1, 2.5, \"x\", {}], \"n\": 5, \"text\": \"t\", \"none\": null, \"no\": false, \"empty\": {},"
              " \"nul\": \"a\\u0000b\"}");
    bombus_error error;
    double number;
    const char *text;
    assert_int_equal(bb_config_type(config, "list"), BB_CONFIG_ARRAY);
    assert_int_equal(bb_config_type(config, "n"), BB_CONFIG_NUMBER);
    assert_int_equal(bb_config_type(config, "text"), BB_CONFIG_TEXT);
    assert_int_equal(bb_config_type(config, "none"), BB_CONFIG_NULL);
    assert_int_equal(bb_config_type(config, "no"), BB_CONFIG_BOOLEAN);
    assert_int_equal(bb_config_type(config, "empty"), BB_CONFIG_OBJECT);
    assert_int_equal(bb_config_type(config, "absent"), BB_CONFIG_ABSENT);
    assert_int_equal(bb_config_type(config, "n/deeper"), BB_CONFIG_ABSENT);
    assert_int_equal(bb_config_type(config, ""), BB_CONFIG_OBJECT);
    assert_int_equal(bb_config_array_length(config, "list"), 4);
    assert_int_equal(bb_config_array_length(config, "n"), 1);
    assert_int_equal(bb_config_array_length(config, "text"), 1);
    assert_int_equal(bb_config_array_length(config, "none"), 0);
    assert_int_equal(bb_config_array_length(config, "absent"), 0);
    CHECK_OK(bb_config_array_number(config, "list", 1, &number, &error), error);
    assert_true(number == 2.5);
    CHECK_OK(bb_config_array_number(config, "n", 0, &number, &error), error);
    assert_true(number == 5);
    CHECK_OK(bb_config_array_text(config, "list", 2, &text, &error), error);
    assert_string_equal(text, "x");
    assert_int_equal(bb_config_array_text(config, "list", 0, &text, &error), BOMBUS_ERROR_FORMAT);
    assert_string_equal(error.message, "test.json: element 0 of 'list' must be text");
    assert_int_equal(bb_config_array_number(config, "list", 3, &number, &error), BOMBUS_ERROR_FORMAT);
    assert_int_equal(bb_config_array_number(config, "list", 4, &number, &error), BOMBUS_ERROR_FORMAT);
    assert_int_equal(bb_config_array_number(config, "n", 1, &number, &error), BOMBUS_ERROR_FORMAT);
    assert_int_equal(bb_config_text(config, "nul", NULL, &text, &error), BOMBUS_ERROR_FORMAT);
    size_t count = 0;
    while (bb_config_object_key(config, "", count) != NULL)
        count++;
    assert_int_equal(count, 7);
    assert_null(bb_config_object_key(config, "empty", 0));
    assert_null(bb_config_object_key(config, "n", 0));
    bb_config_close(config);
}

static void test_refuses(void **state)
{
    (void)state;
    static const char *const cases[] = {
        "", "{", "[]", "3", "{\"a\": nan}", "{\"a\": 1e999}", "{} {}", "{\"a\": \"\xFF\"}"};
    bombus_error error;
    struct bb_config *config;
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        assert_int_equal(bb_config_parse(&config, cases[i], strlen(cases[i]), "test.json", &error),
                         BOMBUS_ERROR_FORMAT);
        assert_null(config);
        assert_non_null(strstr(error.message, "test.json"));
    }
    assert_int_equal(bb_config_open(&config, scratch_text("c.json", "{\n \"a\": ,\n}"), &error), BOMBUS_ERROR_FORMAT);
    assert_int_equal(error.line, 2);
    assert_true(error.column > 1);
    assert_int_equal(bb_config_open(&config, scratch_path("none.json"), &error), BOMBUS_ERROR_NOT_FOUND);
    assert_null(config);
    bb_config_close(NULL);
    struct bb_buffer deep = {0};
    bb_buffer_add_text(&deep, "{\"a\":");
    for (int i = 0; i < 1000000; i++)
        bb_buffer_add_byte(&deep, '[');
    assert_int_equal(bb_config_parse(&config, deep.data, deep.length, "test.json", &error), BOMBUS_ERROR_FORMAT);
    bb_buffer_clear(&deep);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    bombus_error error;
    const char *path = scratch_text("memory.json", "{\"a\": 1}");
    for (uint64_t i = 1;; i++) {
        struct bb_config *config;
        bb_memory_fail_at(i, false);
        bombus_status status = bb_config_open(&config, path, &error);
        bb_memory_fail_at(0, false);
        bb_config_close(config);
        if (status == BOMBUS_OK) {
            assert_true(i > 3);
            break;
        }
        assert_int_equal(status, BOMBUS_ERROR_MEMORY);
        assert_null(config);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_getters),
        cmocka_unit_test(test_types_and_arrays),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_failing_allocations),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
