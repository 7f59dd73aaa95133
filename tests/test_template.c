/* Chat templates: reference cases, a table of small ones made with jinja2, errors, limits, spans, failing memory. */
#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "test.h"
#include "text/chat.h"

#include <jansson.h>
#include <pthread.h>
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

/* ---- cases of tools/make_template_fixtures.py ---- */

static bool fixture_holds(const json_t *one, const char *variables)
{
    bombus_error error = {0};
    const json_t *expected = json_object_get(one, "rendered"), *wrong = json_object_get(one, "error");
    char *text = render(json_string_value(json_object_get(one, "template")), variables, NULL, &error);
    bool holds;
    if (expected != NULL) {
        holds = text != NULL && strcmp(text, json_string_value(expected)) == 0;
    } else {
        int line = (int)json_integer_value(json_object_get(one, "line"));
        holds = text == NULL && error.line > 0 && error.column > 0 && (line == 0 || error.line == line) &&
                (!json_is_string(wrong) || strcmp(error.message, json_string_value(wrong)) == 0);
    }
    if (!holds)
        print_error("%s\n  expected %s\n  got      %s\n", json_string_value(json_object_get(one, "template")),
                    json_string_value(expected != NULL ? expected : wrong), text != NULL ? text : error.message);
    bb_release(text);
    return holds;
}

static void check_fixtures(const char *path, size_t least_count)
{
    json_t *root = json_load_file(path, JSON_DECODE_INT_AS_REAL, NULL);
    assert_non_null(root);
    /* The variables hold an integer of more than 64 bits, which jansson cannot: they are taken from the file's text. */
    char *data, *variables, *end;
    size_t size, wrong = 0;
    bombus_error error;
    CHECK_OK(bb_file_read(&data, &size, path, 1 << 20, &error), error);
    variables = strchr(data + 1, '{');
    end = strstr(variables, ", \"cases\": [");
    assert_non_null(end);
    *end = '\0';
    const json_t *cases = json_object_get(root, "cases");
    assert_true(json_array_size(cases) >= least_count);
    for (size_t i = 0; i < json_array_size(cases); i++)
        wrong += !fixture_holds(json_array_get(cases, i), variables);
    assert_int_equal(wrong, 0);
    bb_release(data);
    json_decref(root);
}

static void test_expressions(void **state)
{
    (void)state;
    check_fixtures("tests/fixtures/templates/expressions.json", 368);
}

static void test_statements(void **state)
{
    (void)state;
    check_fixtures("tests/fixtures/templates/statements.json", 120);
}

/* ---- errors ---- */

static void test_error_places(void **state)
{
    (void)state;
    static const struct {
        const char *source;
        bombus_status status;
        int32_t line, column;
        const char *message;
    } cases[] = {
        {"a\nb {{ x.y.z }}", BOMBUS_ERROR_TEMPLATE, 2, 8, "'x' is undefined"},
        {"é{{ 1 + 'ä' + 2 }}", BOMBUS_ERROR_TEMPLATE, 1, 7, "unsupported operand type(s) for +: 'int' and 'str'"},
        {"{% if x %}\n{% endfor %}", BOMBUS_ERROR_TEMPLATE, 2, 4,
         "Encountered unknown tag 'endfor'. Jinja was looking for the following tags: 'elif' or 'else' or 'endif'. The innermost "
         "block that needs to be closed is 'if'."},
        {"{{ 'x'|nosuch }}", BOMBUS_ERROR_TEMPLATE, 1, 8, "No filter named 'nosuch'."},
        {"\r\n\r {{ ) }}", BOMBUS_ERROR_TEMPLATE, 3, 5, "unexpected ')'"},
        {"{{ raise_exception('50% of \\n it') }}", BOMBUS_ERROR_TEMPLATE, 1, 19, "50% of \n it"},
        {"{% include 'x' %}", BOMBUS_ERROR_UNSUPPORTED, 1, 4, "the tag 'include' is not supported in chat templates"},
        {"{% extends 'x' %}", BOMBUS_ERROR_UNSUPPORTED, 1, 4, "the tag 'extends' is not supported in chat templates"},
        {"a{% import 'x' as y %}", BOMBUS_ERROR_UNSUPPORTED, 1, 5,
         "the tag 'import' is not supported in chat templates"},
        {"{{ [1] | random }}", BOMBUS_ERROR_UNSUPPORTED, 1, 10, "the filter 'random' is not supported"},
        {"ab\xFFz", BOMBUS_ERROR_FORMAT, 1, 3, "chat template: the source is not UTF-8"},
        {"{{ 9223372036854775807 + 1 }}", BOMBUS_ERROR_TEMPLATE, 1, 24,
         "integer overflow: the result of '+' does not fit 64 bits"},
        {"{{ 2 ** 64 }}", BOMBUS_ERROR_TEMPLATE, 1, 6, "integer overflow: the result of '**' does not fit 64 bits"},
        {"{{ -(-9223372036854775807 - 1) }}", BOMBUS_ERROR_TEMPLATE, 1, 4,
         "integer overflow: the result of '-' does not fit 64 bits"},
        {"{{ range(0, 9000000000000000000, 5000000000000000000)[::3] }}", BOMBUS_ERROR_TEMPLATE, 1, 54,
         "integer overflow: the part of a range does not fit 64 bits"},
    };
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        bombus_error error = {0};
        char *text = render(cases[i].source, "{}", NULL, &error);
        assert_null(text);
        assert_string_equal(error.message, cases[i].message);
        assert_int_equal(error.status, cases[i].status);
        assert_int_equal(error.line, cases[i].line);
        assert_int_equal(error.column, cases[i].column);
        assert_null(render(cases[i].source, "{}", NULL, NULL)); /* nobody needs to listen */
    }
}

static void test_variables(void **state)
{
    (void)state;
    static const struct {
        const char *variables, *message;
        bombus_status status;
        int32_t line, column;
    } wrong[] = {
        {"", "template variables: a value was expected", BOMBUS_ERROR_FORMAT, 1, 1},
        {"[]", "template variables: a JSON object was expected", BOMBUS_ERROR_FORMAT, 0, 0},
        {"{\"a\":\n 1,}", "template variables: a key was expected", BOMBUS_ERROR_FORMAT, 2, 4},
        {"{\"a\": 01}", "template variables: a value was expected", BOMBUS_ERROR_FORMAT, 1, 9},
        {"{\"a\": \"\xC3\x28\"}", "template variables: not UTF-8", BOMBUS_ERROR_FORMAT, 1, 8},
        {"{\"a\": \"x\ny\"}", "template variables: control character in a string", BOMBUS_ERROR_FORMAT, 1, 9},
        {"{} x", "template variables: text behind the value", BOMBUS_ERROR_FORMAT, 1, 4},
        {"{\"now\": \"2025-02-29\"}",
         "template variables: \"now\" must be an ISO 8601 time such as \"2025-03-14T09:26:53\"", BOMBUS_ERROR_FORMAT, 0,
         0},
        {"{\"now\": \"yesterday\"}",
         "template variables: \"now\" must be an ISO 8601 time such as \"2025-03-14T09:26:53\"", BOMBUS_ERROR_FORMAT, 0,
         0},
    };
    bombus_error error;
    for (size_t i = 0; i < BB_COUNT(wrong); i++) {
        assert_null(render("{{ a }}", wrong[i].variables, NULL, &error));
        assert_string_equal(error.message, wrong[i].message);
        assert_int_equal(error.status, wrong[i].status);
        assert_int_equal(error.line, wrong[i].line);
        assert_int_equal(error.column, wrong[i].column);
    }
    /* Order kept, the later of equal keys wins in the earlier's place, half a surrogate pair has no UTF-8. */
    char *text = render(
        "{{ a }}{{ now is defined }}",
        "{\"a\": {\"z\": 1, \"b\": -2.5e3, \"z\": \"\\ud83d\\ude00\\ud800\\u0041\", \"n\": NaN}, \"now\": \"2024-02-29\"}",
        NULL, &error);
    assert_string_equal(text, "{'z': '\xF0\x9F\x98\x80\xEF\xBF\xBD"
                              "A', 'b': -2500.0, 'n': nan}False");
    bb_release(text);
}

/* ---- limits ---- */

static void test_limits(void **state)
{
    (void)state;
    static const char *const hostile[] = {
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 'x' * 10**18 }}",
        "{{ [0] * 10**15 }}",
        "{{ 'a'.center(10**17) }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:>9999999999}'.format(1) }}",
        "{{ 'x' | indent(10**12) }}",
        "{% set ns = namespace(s='aaaaaaaaaaaaaaaa') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
        "{% set ns = namespace(s=[0]) %}{% for i in range(2000) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s }}{{ ns.s == ns.s }}",
        "{% set ns = namespace(s=[0]) %}{% for i in range(2000) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s | tojson }}",
        "{% set ns = namespace(s=[0]) %}{% for i in range(60) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s | tojson | length }}",
        ("{% set n = namespace(a=[0], b=[0]) %}{% for i in range(60) %}{% set n.a = [n.a, n.a] %}{% set n.b = [n.b, n.b] %}{% endfor %}"
         "{{ n.a == n.b }}"),
        "{% set n = namespace() %}{% set n.n = n %}{{ n }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{% macro m(x) %}{{ caller() }}{% endmacro %}{% macro r() %}{% call m() %}{{ r() }}{% endcall %}{% endmacro %}{{ r() }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
        "{% for i in range(99999) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' * 1000 }}{% endfor %}",
        "{% set s = 'a' * 3000000 %}{% set t = 'a' * 1500000 ~ 'b' %}{{ t in s }}",
        "{{ ('a' * 1000000).replace('', 'b' * 1000) }}",
        "{{ range(99999) | list | tojson(indent='x' * 100000) }}",
        "{{ [1] | batch(10**9, 0) }}",
        "{{ [1] | slice(10**9) }}",
        "{% set ns = namespace(d={}) %}{% for i in range(99999) %}{% set ns.d = dict(ns.d, **{'k' ~ i: i}) %}{% endfor %}",
        "{{ 'x' | map('map', 'map', 'map', 'upper') | list }}{{ 'x' * 10**12 }}",
    };
    for (size_t i = 0; i < BB_COUNT(hostile); i++) {
        bombus_error error = {0};
        struct bb_template_limits limits = {.steps = 3000000, .memory_bytes = 64 << 20, .output_bytes = 1 << 20};
        char *text = render(hostile[i], "{}", &limits, &error);
        if (error.status != BOMBUS_ERROR_LIMIT)
            print_error("%s: %s\n", hostile[i], error.message);
        assert_null(text);
        assert_int_equal(error.status, BOMBUS_ERROR_LIMIT);
        assert_true(error.line == 1 && error.column > 1);
    }
}

/* `open` so many times, `middle`, `close` as often. */
static char *repeated(const char *open, const char *middle, const char *close, size_t count)
{
    struct bb_buffer buffer = {0};
    for (size_t i = 0; i < count; i++)
        bb_buffer_add_text(&buffer, open);
    bb_buffer_add_text(&buffer, middle);
    for (size_t i = 0; i < count; i++)
        bb_buffer_add_text(&buffer, close);
    return bb_buffer_take(&buffer, NULL);
}

static void test_deep_nesting(void **state)
{
    (void)state;
    static const char *const nests[][3] = {
        {"(", "1", ")"},          {"[", "", "]"},          {"{1:", "1", "}"},         {"-", "1", ""},
        {"not ", "1", ""},        {"a[", "1", "]"},        {"f(", "", ")"},           {"1 if 1 else ", "1", ""},
        {"x|default(", "1", ")"}, {"", "1", " is in [1]"}, {"1 is in ([", "1", "])"},
    };
    static const char *const chains[][2] = {
        {"1", " + 1"}, {"'a'", " ~ 'a'"}, {"1", " and 1"}, {"1", " or 1"}, {"'a'", "|upper"}, {"nested", ".a"},
        {"1", " < 2"}, {"0", " if 0"},    {"a", "[0]"},    {"1", " * 1"},  {"1", " ** 1"},
    };
    static const char *const blocks[][3] = {
        {"{% if 1 %}", "x", "{% endif %}"},         {"{% for a in [1] %}", "x", "{% endfor %}"},
        {"{% set a %}", "x", "{% endset %}"},       {"{% filter upper %}", "x", "{% endfilter %}"},
        {"{% macro m() %}", "x", "{% endmacro %}"}, {"{% generation %}", "x", "{% endgeneration %}"},
    };
    bombus_error error;
    for (size_t i = 0; i < BB_COUNT(nests); i++) {
        char *source = repeated(nests[i][0], nests[i][1], nests[i][2], 50000), *tag = repeated("{{ ", source, " }}", 1);
        bb_release(render(tag, "{}", NULL, &error)); /* an error or not, but no crash */
        bb_release(tag);
        bb_release(source);
    }
    for (size_t i = 0; i < BB_COUNT(chains); i++) {
        char *source = repeated("", chains[i][0], chains[i][1], 50000), *tag = repeated("{{ ", source, " }}", 1);
        bb_release(render(tag, "{\"a\": [1], \"nested\": {}}", NULL, &error));
        bb_release(tag);
        bb_release(source);
    }
    for (size_t i = 0; i < BB_COUNT(blocks); i++) {
        char *source = repeated(blocks[i][0], blocks[i][1], blocks[i][2], 5000);
        assert_null(render(source, "{}", NULL, &error));
        assert_int_equal(error.status, BOMBUS_ERROR_LIMIT);
        bb_release(source);
        source = repeated(blocks[i][0], blocks[i][1], blocks[i][2], 60);
        char *text = render(source, "{}", NULL, &error);
        assert_non_null(text);
        bb_release(text);
        bb_release(source);
    }
    char *values = repeated("[", "", "]", 50000), *object = repeated("{\"a\": ", values, "}", 1);
    assert_null(render("{{ a }}", object, NULL, &error));
    assert_int_equal(error.status, BOMBUS_ERROR_LIMIT);
    bb_release(object);
    bb_release(values);
    char *elifs = repeated("", "{% if 0 %}", "{% elif 0 %}", 20000),
         *whole = repeated("", elifs, "{% else %}z{% endif %}", 1);
    char *text = render(whole, "{}", NULL, &error);
    assert_string_equal(text, "z");
    bb_release(text);
    bb_release(whole);
    bb_release(elifs);
}

/* ---- spans ---- */

static void test_spans(void **state)
{
    (void)state;
    static const struct {
        const char *source, *text;
        size_t count;
        bombus_span spans[3];
    } cases[] = {
        {"é{% generation %}a{% endgeneration %}b{% generation %}{% endgeneration %}", "éab", 2, {{2, 3}, {4, 4}}},
        {"{% for x in [1, 2] %}<{% generation %}{{ x }}{% endgeneration %}>{% endfor %}",
         "<1><2>",
         2,
         {{1, 2}, {4, 5}}},
        {"{% generation %}a{% generation %}b{% endgeneration %}c{% endgeneration %}", "abc", 2, {{0, 3}, {1, 2}}},
        /* Through a macro's result, a set block and a caller, as long as the text is not changed. */
        {"{% macro m() %}[{% generation %}x{% endgeneration %}]{% endmacro %}ab{{ m() }}{{ m() }}",
         "ab[x][x]",
         2,
         {{3, 4}, {6, 7}}},
        {"{% set s %}.{% generation %}x{% endgeneration %}{% endset %}{{ s }}{{ s ~ s }}{{ s | upper }}",
         ".x.x.x.X",
         3,
         {{1, 2}, {3, 4}, {5, 6}}},
        {"{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}{% generation %}x{% endgeneration %}{% endcall %}",
         "<x>",
         1,
         {{1, 2}}},
        {"none", "none", 0, {{0, 0}}},
    };
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        struct bb_template *template_;
        bombus_error error;
        bombus_span *spans;
        char *text;
        size_t length, count;
        CHECK_OK(bb_template_create(&template_, cases[i].source, strlen(cases[i].source), NULL, &error), error);
        CHECK_OK(bb_template_render(template_, "{}", 2, &text, &length, &spans, &count, &error), error);
        assert_string_equal(text, cases[i].text);
        assert_int_equal(count, cases[i].count);
        assert_memory_equal(spans, cases[i].spans, count * sizeof *spans);
        bb_release(text);
        bb_release(spans);
        bb_template_free(template_);
    }
}

static void test_continuation(void **state)
{
    (void)state;
    static const char source[] =
        "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ end }}"
        "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}";
    static const char trimming[] = "{% for m in messages %}{{ m.content | trim }};{% endfor %}";
    static const char variables[] =
        "{\"end\": \"<end>\", \"continue_final_message\": true, \"messages\": [{\"role\": \"user\", \"content\": "
        "\"u\"}, {\"role\": \"assistant\", \"content\": \"so \"}]}";
    struct bb_template *template_;
    bombus_error error;
    bombus_span *spans;
    char *text;
    size_t length, count;
    CHECK_OK(bb_template_create(&template_, source, strlen(source), NULL, &error), error);
    CHECK_OK(bb_template_render(template_, variables, strlen(variables), &text, &length, &spans, &count, &error),
             error);
    assert_string_equal(text, "<user>u<assistant>so ");
    assert_int_equal(count, 1);
    assert_int_equal(spans[0].begin, 18);
    assert_int_equal(spans[0].end, length);
    bb_release(text);
    bb_release(spans);
    bb_template_free(template_);
    text = render(trimming, variables, NULL, &error);
    assert_string_equal(text, "u;so");
    bb_release(text);
    text = render(
        "{{ messages[0].content[0].text }}|{{ messages[0].content[1] }}",
        "{\"continue_final_message\": true, \"messages\": [{\"role\": \"user\", \"content\": [{\"text\": \"ab\"}, {\"image\": 1}]}]}",
        NULL, &error);
    assert_string_equal(text, "ab");
    bb_release(text);
    static const char *const wrong[] = {
        "{\"continue_final_message\": true, \"add_generation_prompt\": true, \"messages\": [{\"role\": \"user\", \"content\": \"x\"}]}",
        "{\"continue_final_message\": true, \"messages\": []}",
        "{\"continue_final_message\": true, \"messages\": [{\"role\": \"user\"}]}",
        "{\"continue_final_message\": \"nosuch\", \"messages\": [{\"nosuch\": \"user\"}]}",
        "{\"continue_final_message\": true, \"messages\": [{\"content\": [1]}]}",
        "{\"continue_final_message\": true, \"messages\": [{\"content\": 5}]}",
    };
    for (size_t i = 0; i < BB_COUNT(wrong); i++) {
        assert_null(render("{{ messages[-1].content }}", wrong[i], NULL, &error));
        assert_int_equal(error.status, BOMBUS_ERROR_ARGUMENT);
    }
    assert_null(render("no content here", "{\"continue_final_message\": true, \"messages\": [{\"content\": \"x\"}]}",
                       NULL, &error));
    assert_int_equal(error.status, BOMBUS_ERROR_TEMPLATE);
}

/* ---- memory ---- */

static void test_failing_allocations(void **state)
{
    (void)state;
    static const char source[] =
        "{% macro m(a, b=1) %}{% generation %}{{ a | upper }}{% endgeneration %}{{ varargs }}{{ kwargs }}{% endmacro %}"
        "{{ m('x', 2, 3, z=4) }}{% set ns = namespace(l=[]) %}{% for x, y in d.items() %}{% set ns.l = ns.l + [x ~ y] "
        "%}{% endfor %}{{ ns.l | sort | join(',') | replace('a', 'bb') }}{{ d | tojson(indent=1) }}"
        "{{ '%5.1f|%s' % (1.25, d) }}{{ '{:>4}'.format('q') }}{{ strftime_now('%Y') }}{{ range(300) | list }}"
        "{% set long = 'abc' * 20000 %}{{ long[::2] | length }}{{ messages[0].thinking }}";
    static const char variables[] =
        "{\"d\": {\"a\": 1, \"b\": [2.5, \"\\u00e9\"], \"c\": {}, \"d\": 1, \"e\": 1, \"f\": 1, \"g\": 1, \"h\": 1, "
        "\"i\": 12345678901234567890}, \"messages\": [{\"content\": \"x\", \"reasoning\": \"r\"}]}";
    bombus_error error;
    bool is_done = false;
    uint64_t failures = 0;
    for (uint64_t n = 1; !is_done; n++) {
        struct bb_template *template_ = NULL;
        bombus_span *spans = NULL;
        char *text = NULL;
        size_t length, count;
        bb_memory_fail_at(n, n % 2 == 0);
        bombus_status status = bb_template_create(&template_, source, strlen(source), NULL, &error);
        if (status == BOMBUS_OK)
            status =
                bb_template_render(template_, variables, strlen(variables), &text, &length, &spans, &count, &error);
        bb_memory_fail_at(0, false);
        is_done = status == BOMBUS_OK;
        failures += !is_done;
        if (!is_done) {
            assert_int_equal(status, BOMBUS_ERROR_MEMORY);
            assert_int_equal(error.status, BOMBUS_ERROR_MEMORY);
            assert_true(text == NULL && spans == NULL);
        }
        bb_release(text);
        bb_release(spans);
        bb_template_free(template_);
    }
    assert_true(failures > 20);
}

/* ---- threads ---- */

static const char thread_source[] =
    "{% macro m(x) %}{{ x | tojson }}{% endmacro %}{% set ns = namespace(n=0) %}{% for w in words if w | length > "
    "0 %}{% set ns.n = ns.n + loop.index %}{{ m([w, ns.n, 1.5]) }}{% endfor %}{{ strftime_now('%Y') }}";

/* Renders a shared template many times; NULL if all came out right. */
static void *render_often(void *context)
{
    static const char variables[] = "{\"words\": [\"a\", \"\", \"b\"], \"now\": \"2025-03-14T09:26:53\"}";
    bool holds = true;
    for (int i = 0; i < 200 && holds; i++) {
        char *text = NULL;
        size_t length;
        holds =
            bb_template_render(context, variables, strlen(variables), &text, &length, NULL, NULL, NULL) == BOMBUS_OK &&
            strcmp(text, "[\"a\", 1, 1.5][\"b\", 3, 1.5]2025") == 0;
        bb_release(text);
    }
    return holds ? NULL : context;
}

static void test_threads(void **state)
{
    (void)state;
    struct bb_template *template_;
    bombus_error error;
    pthread_t threads[4];
    CHECK_OK(bb_template_create(&template_, thread_source, strlen(thread_source), NULL, &error), error);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, render_often, template_), 0);
    for (size_t i = 0; i < 4; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    bb_template_free(template_);
}

/* ---- folders ---- */

static void write_text(const char *folder, const char *name, const char *text)
{
    bombus_error error;
    char *path = bb_path_join(folder, name);
    CHECK_OK(bb_file_write(path, text, strlen(text), &error), error);
    bb_release(path);
}

static void check_folder(const char *folder, const char *name, const char *expected, bombus_status expected_status)
{
    struct bb_template *template_;
    bombus_error error;
    char *text;
    size_t length;
    bombus_status status = bb_chat_template_open(&template_, folder, name, &error);
    assert_int_equal(status, expected_status);
    if (status != BOMBUS_OK) {
        assert_non_null(strstr(error.message, folder));
        return;
    }
    CHECK_OK(bb_template_render(template_, "{}", 2, &text, &length, NULL, NULL, &error), error);
    assert_string_equal(text, expected);
    bb_release(text);
    bb_template_free(template_);
}

static void check_failing_open(const char *folder)
{
    struct bb_template *template_ = NULL;
    bombus_error error;
    bombus_status status = BOMBUS_ERROR_MEMORY;
    for (uint64_t n = 1; status != BOMBUS_OK; n++) {
        bb_memory_fail_at(n, false);
        status = bb_chat_template_open(&template_, folder, NULL, &error);
        bb_memory_fail_at(0, false);
        assert_true(status == BOMBUS_OK || (status == BOMBUS_ERROR_MEMORY && template_ == NULL));
    }
    bb_template_free(template_);
}

static void test_folders(void **state)
{
    (void)state;
    char folder[] = "/tmp/bombus-test-XXXXXX";
    assert_non_null(mkdtemp(folder));
    check_folder(folder, NULL, NULL, BOMBUS_ERROR_NOT_FOUND);
    write_text(folder, "tokenizer_config.json", "{\"model_max_length\": 1000000000000000019884624838656}");
    check_folder(folder, NULL, NULL, BOMBUS_ERROR_NOT_FOUND);
    write_text(folder, "tokenizer_config.json", "{\"chat_template\": 5}");
    check_folder(folder, NULL, NULL, BOMBUS_ERROR_FORMAT);
    write_text(folder, "tokenizer_config.json", "{\"chat_template\": \"config\"}");
    check_folder(folder, NULL, "config", BOMBUS_OK);
    check_failing_open(folder);
    check_folder(folder, "tool_use", NULL, BOMBUS_ERROR_NOT_FOUND);
    write_text(
        folder, "tokenizer_config.json",
        "{\"chat_template\": [{\"name\": \"tool_use\", \"template\": \"tools\"}, {\"name\": \"default\", \"template\": \"plain\"}]}");
    check_folder(folder, NULL, "plain", BOMBUS_OK);
    check_folder(folder, "tool_use", "tools", BOMBUS_OK);
    check_folder(folder, "rag", NULL, BOMBUS_ERROR_NOT_FOUND);
    write_text(folder, "chat_template.json", "{\"chat_template\": \"json\"}");
    check_folder(folder, NULL, "json", BOMBUS_OK);
    write_text(folder, "chat_template.jinja", "jinja\n");
    check_folder(folder, NULL, "jinja", BOMBUS_OK);
    write_text(folder, "chat_template.json", "{");
    check_folder(folder, "rag", NULL, BOMBUS_ERROR_FORMAT);
    static const char *const files[] = {"tokenizer_config.json", "chat_template.json", "chat_template.jinja"};
    for (size_t i = 0; i < 3; i++) {
        char *path = bb_path_join(folder, files[i]);
        unlink(path);
        bb_release(path);
    }
    rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_cases), cmocka_unit_test(test_expressions),
        cmocka_unit_test(test_statements),   cmocka_unit_test(test_error_places),
        cmocka_unit_test(test_variables),    cmocka_unit_test(test_limits),
        cmocka_unit_test(test_deep_nesting), cmocka_unit_test(test_spans),
        cmocka_unit_test(test_continuation), cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_threads),      cmocka_unit_test(test_folders),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
