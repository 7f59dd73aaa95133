/* Chat templates: reference cases, a table of small ones made with jinja2, errors, limits, spans, failing memory. */
#include "base/file.h"
#include "base/memory.h"
#include "test.h"
#include "text/chat.h"

#include <jansson.h>
#include <string.h>

/* Renders source with variables; the text (released by bb_release) or NULL with the error. */
static char *render(const char *source, const char *variables, const struct bb_template_limits *limits,
                    bombus_error *error)
{
    struct bb_template *template_;
    char *text = NULL;
    size_t length;
    if (bb_template_create(&template_, source, strlen(source), limits, error) != BOMBUS_OK)
        return NULL;
    if (bb_template_render(template_, variables, strlen(variables), &text, &length, NULL, NULL, error) != BOMBUS_OK)
        text = NULL;
    bb_template_free(template_);
    return text;
}

/* ---- reference cases ---- */

static char *case_source(const json_t *one)
{
    char name[200], *source;
    size_t size;
    bombus_error error;
    const json_t *inline_text = json_object_get(one, "template_text");
    if (inline_text != NULL)
        return bb_copy_text(json_string_value(inline_text), json_string_length(inline_text));
    snprintf(name, sizeof name, "templates/jinja/%s.jinja", json_string_value(json_object_get(one, "template")));
    const char *path = golden_path(name);
    assert_non_null(path);
    CHECK_OK(bb_file_read(&source, &size, path, 1 << 20, &error), error);
    return source;
}

static bool case_holds(const json_t *one)
{
    static const char *const given[] = {"bos_token", "eos_token", "now"};
    const char *expected_error = json_string_value(json_object_get(one, "error"));
    json_t *variables = json_deep_copy(json_object_get(one, "input"));
    for (size_t i = 0; i < 3; i++)
        json_object_set(variables, given[i], json_object_get(one, given[i]));
    char *dump = json_dumps(variables, 0), *source = case_source(one);
    bombus_error error = {0};
    char *text = render(source, dump, NULL, &error);
    bool holds = expected_error != NULL
                     ? text == NULL && strcmp(error.message, strstr(expected_error, ": ") + 2) == 0
                     : text != NULL && strcmp(text, json_string_value(json_object_get(one, "rendered"))) == 0;
    if (!holds)
        print_error("%s, %s:\n%s\n", json_string_value(json_object_get(one, "template")),
                    json_string_value(json_object_get(one, "case")), text != NULL ? text : error.message);
    bb_release(text);
    bb_release(source);
    free(dump);
    json_decref(variables);
    return holds;
}

static void test_golden_cases(void **state)
{
    (void)state;
    const char *path = golden_path("templates/cases.json");
    SKIP_WITHOUT_GOLDEN(path);
    json_t *root = json_load_file(path, 0, NULL), *cases = json_object_get(root, "cases");
    size_t wrong = 0;
    assert_true(json_array_size(cases) >= 385);
    for (size_t i = 0; i < json_array_size(cases); i++)
        wrong += !case_holds(json_array_get(cases, i));
    print_message("%zu cases, %zu wrong\n", json_array_size(cases), wrong);
    assert_int_equal(wrong, 0);
    json_decref(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_cases),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
