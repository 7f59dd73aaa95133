/* Constraints: what grammars, regular expressions and schemas accept, masks against brute force, generation under them. */
#include "base/compiler.h"
#include "base/random.h"
#include "generate/grammar/matcher.h"
#include "golden.h"
#include "scratch.h"
#include "text/byte_level.h"
#include "text/unicode.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <pthread.h>

static struct bb_tokenizer *tokenizer; /* all bytes, some longer tokens, <eos> */

static void add_token(json_t *vocab, const char *bytes, size_t length)
{
    struct bb_buffer name = {0};
    bb_byte_level_add(&name, bytes, length);
    json_object_set_new(vocab, name.data, json_integer((json_int_t)json_object_size(vocab)));
    bb_buffer_clear(&name);
}

static int setup(void **state)
{
    static const char *const longer[] = {"{\"", "\":", "\": ", ", ", "\",", "\"}", "}}", "]}", "[[", "]]", "true", "null",
                                         "ab", "abc", "aaaa", "12", "100", "\\\"", "\\n", "\xC3\xA9", "\xE2\x82", "\",\"",
                                         "\"},", "  ", "name", "\": \"", "a\"", "1,", "1}", "-1"};
    bombus_error error;
    if (scratch_setup(state) != 0)
        return -1;
    json_t *vocab = json_object();
    for (int byte = 0; byte < 256; byte++)
        add_token(vocab, &(char){(char)byte}, 1);
    for (size_t i = 0; i < BB_COUNT(longer); i++)
        add_token(vocab, longer[i], strlen(longer[i]));
    json_t *json = json_pack(
        "{s:{s:s, s:o, s:[]}, s:{s:s, s:b, s:b}, s:{s:s, s:b, s:b}, s:[{s:i, s:s, s:b, s:b, s:b, s:b, s:b}]}", "model",
        "type", "BPE", "vocab", json_incref(vocab), "merges", "decoder", "type", "ByteLevel", "add_prefix_space", 0,
        "trim_offsets", 0, "pre_tokenizer", "type", "ByteLevel", "add_prefix_space", 0, "trim_offsets", 0, "added_tokens",
        "id", (int)json_object_size(vocab), "content", "<eos>", "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized",
        0, "special", 1);
    assert_int_equal(json_dump_file(json, scratch_path("tokenizer.json"), 0), 0);
    json_decref(json);
    json_decref(vocab);
    CHECK_OK(bb_file_write(scratch_path("tokenizer_config.json"), "{\"eos_token\":\"<eos>\"}", 21, &error), error);
    CHECK_OK(bb_tokenizer_open(&tokenizer, scratch_folder, NULL, &error), error);
    return 0;
}

static int teardown(void **state)
{
    bb_tokenizer_close(tokenizer);
    return scratch_teardown(state);
}

static struct bombus_constraint *compile(bombus_constraint_kind kind, const char *source)
{
    struct bombus_constraint *constraint;
    bombus_error error;
    bombus_status status = bb_constraint_create(&constraint, kind, source, strlen(source), tokenizer, &error);
    if (status != BOMBUS_OK)
        print_error("%s\n", source);
    CHECK_OK(status, error);
    return constraint;
}

static bool accepts(const struct bombus_constraint *constraint, const char *text, size_t length)
{
    struct bb_grammar_matcher matcher;
    bombus_error error;
    CHECK_OK(bb_grammar_matcher_init(&matcher, constraint, &error), error);
    matcher.now.is_first = false; /* a space at the beginning is a space here */
    bombus_status status = bb_grammar_matcher_advance_bytes(&matcher, text, length, &error);
    assert_true(status == BOMBUS_OK || status == BOMBUS_ERROR_MISMATCH);
    bool result = status == BOMBUS_OK && matcher.may_end;
    bb_grammar_matcher_clear(&matcher);
    return result;
}

struct vector {
    const char *source;
    const char *good[8], *bad[8];
};

static void check_vectors(bombus_constraint_kind kind, const struct vector *vectors, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct bombus_constraint *constraint = compile(kind, vectors[i].source);
        for (size_t j = 0; j < 8 && vectors[i].good[j] != NULL; j++)
            if (!accepts(constraint, vectors[i].good[j], strlen(vectors[i].good[j])))
                fail_msg("%s refuses %s", vectors[i].source, vectors[i].good[j]);
        for (size_t j = 0; j < 8 && vectors[i].bad[j] != NULL; j++)
            if (accepts(constraint, vectors[i].bad[j], strlen(vectors[i].bad[j])))
                fail_msg("%s accepts %s", vectors[i].source, vectors[i].bad[j]);
        bb_constraint_free(constraint);
    }
}

static const char json_gbnf[] = "root   ::= object\n"
                                "value  ::= object | array | string | number | (\"true\" | \"false\" | \"null\") ws\n"
                                "object ::=\n  \"{\" ws (\n    string \":\" ws value\n    (\",\" ws string \":\" ws value)*\n  )? \"}\" ws\n"
                                "array  ::= \"[\" ws ( value (\",\" ws value)* )? \"]\" ws # arrays\n"
                                "string ::= \"\\\"\" ( [^\"\\\\\\x7F\\x00-\\x1F] | \"\\\\\" ([\"\\\\bfnrt] | \"u\" [0-9a-fA-F]{4}) )* \"\\\"\" ws\n"
                                "number ::= (\"-\"? ([0-9] | [1-9] [0-9]{0,15})) (\".\" [0-9]+)? ([eE] [-+]? [0-9] [1-9]{0,15})? ws\n"
                                "ws ::= | \" \" | \"\\n\" [ \\t]{0,20}\n";

static void test_gbnf(void **state)
{
    (void)state;
    const struct vector vectors[] = {
        {json_gbnf, {"{}", "{\"a\": [1, {\"b\":null}]}", "{ \"\\u00e9\": -1.5e3}"}, {"", "[1]", "{\"a\"}", "{\"a\":1,}", "{\"\xC3\": 1}"}},
        {"root ::= \"a\"{2,3} | [x-z]+ \"\\u00e9\"?", {"aa", "aaa", "x", "zyx\xC3\xA9"}, {"a", "aaaa", "", "\xC3\xA9"}},
        {"root ::= a\na ::= \"(\" a \")\" | \"x\" a | \"\"", {"", "()", "(())", "xx(x)", "x()"}, {"(", "())", "()x"}},
        {"root ::= (ws \"x\"? ws)* \"!\"\nws ::= \" \"*", {"!", "x!", "  x x!"}, {"", "x"}},
        {"root ::= (\"ab\" | \"a\"){3,400} \".\"", {"aabab.", "aaa.", "ababab.", "abaa."}, {"aa.", "."}},
        {"root ::= .{100,200}", {NULL}, {"abc"}},
    };
    check_vectors(BOMBUS_CONSTRAINT_GBNF, vectors, BB_COUNT(vectors));
    struct bombus_constraint *counted = compile(BOMBUS_CONSTRAINT_GBNF, "root ::= .{100,200}");
    char text[300];
    memset(text, 'a', sizeof text);
    for (size_t length = 95; length < 210; length++)
        assert_int_equal(accepts(counted, text, length), length >= 100 && length <= 200);
    bb_constraint_free(counted);
}

/* Random texts of the patterns' letters: what PCRE2 says of the whole text. */
static void test_regex_beside_pcre2(void **state)
{
    (void)state;
    static const char *const patterns[] = {
        "a*b+c?", "(a|b)*abb", "[a-c]{2,4}", "(ab|a)(bc|c)?", "a{0}b", "(a*)*b", "(a?){5}", "(a|b|ab){3,70}c?", "[^ab]+",
        "\\w+\\s\\d*", "a.c", "(?:a|(?<x>b))+?", "\\x61[\\]\\-b]", "[a\\d]*", "\xC3\xA9+|a", "(a+b?){2,}", "((a|b){2}c){1,90}",
        "[\\w-]+", "\\p{L}+", "(\\p{Ll}|\\p{Nd}){1,3}", "a|", "(|a)b", "[b-]", "\\.\\n?", "(aa|aab){0,99}b*"};
    static const char *const letters[] = {"a", "b", "c", "1", " ", "-", "]", "\xC3\xA9", "\n", "."};
    struct bb_random random = {.seed = 5};
    for (size_t i = 0; i < BB_COUNT(patterns); i++) {
        int code;
        PCRE2_SIZE offset;
        struct bb_buffer anchored = {0};
        bb_buffer_format(&anchored, "\\A(?:%s)\\z", patterns[i]);
        pcre2_code *peer = pcre2_compile((PCRE2_SPTR)anchored.data, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &offset, NULL);
        assert_non_null(peer);
        pcre2_match_data *data = pcre2_match_data_create_from_pattern(peer, NULL);
        struct bombus_constraint *constraint = compile(BOMBUS_CONSTRAINT_REGEX, patterns[i]);
        for (int round = 0; round < 600; round++) {
            char text[64] = "";
            size_t length = (size_t)(bb_random_next(&random) % 9), kinds = 2 + (size_t)(bb_random_next(&random) % 9);
            for (size_t j = 0; j < length; j++)
                strcat(text, letters[bb_random_next(&random) % (kinds < 10 ? kinds : 10)]);
            bool expected = pcre2_match(peer, (PCRE2_SPTR)text, strlen(text), 0, 0, data, NULL) >= 0;
            if (accepts(constraint, text, strlen(text)) != expected)
                fail_msg("%s on '%s': expected %d", patterns[i], text, expected);
        }
        bb_constraint_free(constraint);
        pcre2_match_data_free(data);
        pcre2_code_free(peer);
        bb_buffer_clear(&anchored);
    }
}

static void test_schema(void **state)
{
    (void)state;
    const struct vector vectors[] = {
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"string\"}},\"required\":[\"b\"]}",
         {"{\"a\":1,\"b\":\"x\"}", "{\"b\": \"\"}", "{\"a\": -5, \"b\":\"\\n\"}"},
         {"{}", "{\"a\":1}", "{\"b\":1}", "{\"b\":\"x\",\"a\":1}", "{\"b\":\"\n\"}", "{\"b\":\"x\",\"c\":1}"}},
        {"{\"type\":\"integer\",\"minimum\":-12,\"exclusiveMaximum\":345}", {"-12", "0", "344", "99", "-1"}, {"-13", "345", "00", "-0", "1.0", "400"}},
        {"{\"type\":\"number\",\"exclusiveMinimum\":0,\"maximum\":2.5}", {"0.1", "2.5", "2.50", "1", "2", "0.00000000000001"}, {"0", "0.0", "2.51", "3", "-1", "1e0", "2.500000000000001"}},
        {"{\"minimum\":-0.5}", {"-0.5", "0", "12.25", "999999999999999"}, {"-0.51", "-1", "-0", "-0.0", "1000000000000000"}},
        {"{\"type\":[\"string\",\"null\"],\"minLength\":2,\"maxLength\":3}",
         {"null", "\"ab\"", "\"\xC3\xA9\\n\"", "\"\\ud83d\\ude00x\""}, {"\"a\"", "\"abcd\"", "\"\\ud83dx\"", "1"}},
        {"{\"enum\":[1,\"a\\\"\",null,{\"x\":[0.1]}]}", {"1", "\"a\\\"\"", "null", "{\"x\":[0.1]}"}, {"2", "\"a\"", "{}"}},
        {"{\"type\":\"array\",\"items\":{\"type\":\"boolean\"},\"minItems\":1,\"maxItems\":2}", {"[true]", "[true, false]"}, {"[]", "[true,true,true]", "[1]"}},
        {"{\"type\":\"array\",\"prefixItems\":[{\"const\":1},{\"const\":2}],\"items\":{\"const\":3},\"minItems\":1,\"maxItems\":4}",
         {"[1]", "[1,2]", "[1,2,3]", "[1,2,3,3]"}, {"[]", "[2]", "[1,3]", "[1,2,3,3,3]"}},
        {"{\"$ref\":\"#/$defs/node\",\"$defs\":{\"node\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":\"number\"},\"next\":{\"anyOf\":"
         "[{\"type\":\"null\"},{\"$ref\":\"#/$defs/node\"}]}},\"required\":[\"v\",\"next\"],\"additionalProperties\":false}}}",
         {"{\"v\":1.5,\"next\":null}", "{\"v\":1,\"next\":{\"v\":-2e3,\"next\":null}}"}, {"{\"v\":1}", "{\"v\":1,\"next\":{}}", "{\"v\":01,\"next\":null}"}},
        {"{\"type\":\"object\",\"properties\":{\"ab\":{\"const\":1},\"ac\":{\"const\":2}},\"additionalProperties\":{\"const\":3}}",
         {"{}", "{\"ab\":1}", "{\"a\":3}", "{\"ab\":1,\"ac\":2,\"abc\":3,\"x\":3}", "{\"\":3}"},
         {"{\"ab\":3}", "{\"ac\":3}", "{\"x\":1}", "{\"ab\":1,}"}},
        {"{\"type\":\"string\",\"pattern\":\"^a\\\\\\\\[\\\"\\\\n]{2}$\"}", {"\"a\\\\\\\"\\n\"", "\"a\\\\\\n\\n\""}, {"\"a\"", "\"a\\\\\"\""}},
        {"{\"type\":\"string\",\"pattern\":\"b\"}", {"\"b\"", "\"abc\""}, {"\"a\"", "\"\""}},
        {"{\"type\":\"string\",\"format\":\"date\"}", {"\"2024-02-29\"", "\"1999-12-31\""}, {"\"2023-02-29\"", "\"2024-13-01\"", "\"2024-04-31\""}},
        {"{\"type\":\"string\",\"format\":\"date-time\"}", {"\"2024-02-29T23:59:59Z\"", "\"1999-12-31T00:00:00.5+01:30\""}, {"\"2024-02-29\"", "\"2024-02-29T24:00:00Z\""}},
        {"{\"type\":\"string\",\"format\":\"ipv4\"}", {"\"127.0.0.1\"", "\"255.1.10.99\""}, {"\"256.0.0.1\"", "\"1.2.3\""}},
        {"{\"allOf\":[{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":[\"a\"]},{\"properties\":{\"b\":{\"const\":1},\"a\":{\"minimum\":3}}}]}",
         {"{\"a\":3}", "{\"a\":5,\"b\":1}"}, {"{}", "{\"a\":2}", "{\"b\":1}"}},
        {"{\"type\":\"object\",\"oneOf\":[{\"properties\":{\"k\":{\"const\":\"x\"}}},{\"properties\":{\"k\":{\"const\":\"y\"},\"n\":{\"type\":\"null\"}}}],\"required\":[\"k\"]}",
         {"{\"k\":\"x\"}", "{\"k\":\"y\"}", "{\"k\":\"y\",\"n\":null}"}, {"{}", "{\"k\":\"z\"}", "{\"k\":\"x\",\"n\":null}"}},
        {"{\"type\":\"object\",\"patternProperties\":{\"^[a-z]{2,3}$\":{\"type\":\"integer\"}},\"additionalProperties\":false}",
         {"{}", "{\"ab\":1}", "{\"ab\":1,\"xyz\": -2}"}, {"{\"a\":1}", "{\"abcd\":1}", "{\"ab\":\"x\"}", "{\"ab\":1,}", "{\"AB\":1}"}},
        {"{\"patternProperties\":{\"^S_\":{\"type\":\"string\"},\"^I_\":{\"type\":\"integer\"}}}",
         {"{\"S_25\":\"x\"}", "{\"I_0\":42}", "{\"I_\":1,\"S_\\n\":\"\"}"}, {"{\"S_0\":42}", "{\"I_42\":\"x\"}", "{\"keyword\":1}", "{\"xS_\":\"x\"}"}},
        {"{\"properties\":{\"id\":{\"type\":\"null\"}},\"patternProperties\":{\"x\\\\d\":{\"const\":0}},\"required\":[\"id\",\"x7\",\"y\"]}",
         {"{\"id\":null,\"x7\":0,\"y\":[]}", "{\"id\":null,\"x7\":0,\"y\":1,\"ax1b\":0}"},
         {"{\"id\":null}", "{\"id\":null,\"x7\":1,\"y\":1}", "{\"id\":null,\"x7\":0,\"y\":1,\"b\":0}", "{\"x1\":0}", "{\"id\":null,\"x7\":0,\"y\":1,\"x1\":1}"}},
        {"{\"patternProperties\":{\"[\\\"\\\\\\\\]\":true},\"properties\":{\"a/b\":true}}", {"{\"\\\"\":1}", "{\"a/b\":1,\"c\\\\\":2}"}, {"{\"c\":1}"}},
        {"{\"type\":\"object\",\"required\":[\"a\"]}", {"{\"a\":1}", "{\"a\": {\"b\":[]}}"}, {"{}", "{\"b\":1}"}},
        {"true", {"1", "{\"a\":[true,null,\"x\",-1e9]}", "[]", "\"\""}, {"", "[1,]", "{1:2}", "nul"}},
        {"{\"type\":\"object\",\"properties\":{\"a\":false,\"b\":{\"type\":\"null\",\"default\":null,\"title\":\"t\"}}}", {"{}", "{\"b\":null}"}, {"{\"a\":1}"}},
    };
    check_vectors(BOMBUS_CONSTRAINT_JSON_SCHEMA, vectors, BB_COUNT(vectors));
}

/* What strtod says of a number that is written as those with bounds are: no exponent, at most 15 digits, no minus zero. */
static bool is_between(const char *text, const char *const *bounds)
{
    size_t digits = 0;
    double value = strtod(text, NULL);
    for (const char *at = text; *at != '\0'; at++)
        digits += *at >= '0' && *at <= '9';
    return digits <= 15 && !(text[0] == '-' && !(value < 0.0)) && (bounds[0] == NULL || value >= strtod(bounds[0], NULL)) &&
           (bounds[1] == NULL || value > strtod(bounds[1], NULL)) && (bounds[2] == NULL || value <= strtod(bounds[2], NULL)) &&
           (bounds[3] == NULL || value < strtod(bounds[3], NULL));
}

/* Numbers near the bounds, of all lengths, beside strtod. */
static void test_number_bounds(void **state)
{
    (void)state;
    static const char *const words[] = {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"};
    static const char *const values[] = {"0", "1", "-1", "0.1", "-0.1", "0.3", "9.99", "10", "12.5", "-12.5", "99", "100.001", "1e-7", "-3e-14", "2e-20",
                                         "1e15", "999999999999999", "-1e300", "123.45678901234567", "-0.000123", "5e3", "0.0", "-2.50", "4999.5"};
    struct bb_random random = {.seed = 11};
    size_t good = 0, bad = 0;
    for (int round = 0; round < 300; round++) {
        const char *bounds[4] = {NULL};
        struct bb_buffer schema = {0};
        struct bombus_constraint *constraint;
        bombus_error error;
        bb_buffer_add_text(&schema, round % 3 == 0 ? "{" : "{\"type\":\"number\",");
        for (size_t i = 0; i < 4; i++)
            bounds[i] = bb_random_next(&random) % 2 == 0 ? values[bb_random_next(&random) % BB_COUNT(values)] : NULL;
        bounds[2] = bounds[0] == NULL && bounds[1] == NULL && bounds[3] == NULL ? "7.25" : bounds[2];
        for (size_t i = 0; i < 4; i++)
            if (bounds[i] != NULL)
                bb_buffer_format(&schema, "\"%s\":%s,", words[i], bounds[i]);
        schema.data[schema.length - 1] = '}';
        bombus_status status = bb_constraint_create(&constraint, BOMBUS_CONSTRAINT_JSON_SCHEMA, schema.data, schema.length, tokenizer, &error);
        assert_true(status == BOMBUS_OK || status == BOMBUS_ERROR_FORMAT); /* no number is between them */
        for (int i = 0; i < 400; i++) {
            char text[400];
            double near = strtod(values[bb_random_next(&random) % BB_COUNT(values)], NULL);
            for (uint64_t steps = bb_random_next(&random) % 4; steps > 0; steps--)
                near = nextafter(near, bb_random_next(&random) % 2 == 0 ? (double)INFINITY : -(double)INFINITY);
            near = i % 5 == 0 ? near * 10.0 : i % 7 == 0 ? near + 0.001 : near;
            snprintf(text, sizeof text, "%.*f", (int)(bb_random_next(&random) % 18), near);
            bool expected = is_between(text, bounds);
            if (status == BOMBUS_OK ? accepts(constraint, text, strlen(text)) != expected : expected)
                fail_msg("%s on '%s': expected %d", schema.data, text, expected);
            *(expected ? &good : &bad) += 1;
        }
        if (status == BOMBUS_OK)
            assert_false(accepts(constraint, "01", 2) || accepts(constraint, "1.", 2) || accepts(constraint, ".5", 2) || accepts(constraint, "", 0));
        bb_constraint_free(constraint);
        bb_buffer_clear(&schema);
    }
    assert_true(good > 1000 && bad > 1000);
}

static void check_refused(bombus_constraint_kind kind, const char *source, bombus_status expected, const char *part)
{
    struct bombus_constraint *constraint;
    bombus_error error;
    bombus_status status = bb_constraint_create(&constraint, kind, source, strlen(source), tokenizer, &error);
    if (status != expected || strstr(error.message, part) == NULL)
        fail_msg("%s: %s '%s', expected %s '%s'", source, bombus_status_name(status), status != BOMBUS_OK ? error.message : "",
                 bombus_status_name(expected), part);
    assert_null(constraint);
    assert_int_equal(bb_constraint_create(&constraint, kind, source, strlen(source), tokenizer, NULL), expected);
}

static void test_refusals(void **state)
{
    (void)state;
    const bombus_constraint_kind schema = BOMBUS_CONSTRAINT_JSON_SCHEMA, regex = BOMBUS_CONSTRAINT_REGEX, gbnf = BOMBUS_CONSTRAINT_GBNF;
    check_refused(schema, "{\"properties\":{\"a/b\":{\"not\":{}}}}", BOMBUS_ERROR_UNSUPPORTED, "/properties/a~1b/not");
    check_refused(schema, "{\"type\":\"number\",\"multipleOf\":1}", BOMBUS_ERROR_UNSUPPORTED, "'multipleOf'");
    check_refused(schema, "{\"type\":\"number\",\"minimum\":1.5,\"exclusiveMaximum\":1.5}", BOMBUS_ERROR_FORMAT, "no text");
    check_refused(schema, "{\"type\":\"number\",\"minimum\":\"1\"}", BOMBUS_ERROR_FORMAT, "'minimum'");
    check_refused(schema, "{\"type\":\"string\",\"nullable\":true}", BOMBUS_ERROR_UNSUPPORTED, "'nullable'");
    check_refused(schema, "{\"type\":\"string\",\"format\":\"uri\"}", BOMBUS_ERROR_UNSUPPORTED, "'format'");
    check_refused(schema, "{\"propertyNames\":{}}", BOMBUS_ERROR_UNSUPPORTED, "propertyNames");
    check_refused(schema, "{\"patternProperties\":1}", BOMBUS_ERROR_FORMAT, "patternProperties");
    check_refused(schema, "{\"patternProperties\":{\"a(\":{}}}", BOMBUS_ERROR_FORMAT, "without )");
    check_refused(schema, "{\"patternProperties\":{\"^a/b\":{\"not\":{}}}}", BOMBUS_ERROR_UNSUPPORTED, "/patternProperties/^a~1b/not");
    check_refused(schema, "{\"patternProperties\":{\"^a\":{},\"^ab\":{}}}", BOMBUS_ERROR_UNSUPPORTED, "different text");
    check_refused(schema, "{\"patternProperties\":{\"^ab?\":{},\"^ac\":{}}}", BOMBUS_ERROR_UNSUPPORTED, "different text");
    check_refused(schema, "{\"patternProperties\":{\"^a|b\":{},\"^c\":{}}}", BOMBUS_ERROR_UNSUPPORTED, "different text");
    check_refused(schema, "{\"patternProperties\":{\"b\":{}},\"properties\":{\"abc\":{}}}", BOMBUS_ERROR_UNSUPPORTED, "key of properties");
    check_refused(schema, "{\"patternProperties\":{\"b\":{}},\"additionalProperties\":{}}", BOMBUS_ERROR_UNSUPPORTED, "only false");
    check_refused(schema, "{\"allOf\":[{\"patternProperties\":{\"b\":{}}},{\"required\":[\"a\"]}]}", BOMBUS_ERROR_UNSUPPORTED, "at once");
    check_refused(schema, "{\"$ref\":\"http://x\"}", BOMBUS_ERROR_UNSUPPORTED, "$ref");
    check_refused(schema, "{\"$ref\":\"#/nowhere\"}", BOMBUS_ERROR_FORMAT, "$ref");
    check_refused(schema, "{\"$ref\":\"#/anyOf/x\",\"anyOf\":[{\"type\":\"null\"}]}", BOMBUS_ERROR_FORMAT, "nothing");
    check_refused(schema, "{\"$ref\":\"#/anyOf/\",\"anyOf\":[{\"type\":\"null\"}]}", BOMBUS_ERROR_FORMAT, "nothing");
    check_refused(schema, "{\"type\":\"string\",\"pattern\":\"(?=a)\"}", BOMBUS_ERROR_UNSUPPORTED, "lookaround");
    check_refused(schema, "{\"type\":", BOMBUS_ERROR_FORMAT, "line 1");
    check_refused(schema, "{\"minItems\":1,\"maxItems\":0}", BOMBUS_ERROR_FORMAT, "no text");
    check_refused(schema, "{\"allOf\":[{\"$ref\":\"#\"},{\"type\":\"object\"}]}", BOMBUS_ERROR_LIMIT, "at once");
    check_refused(regex, "a(?!b)", BOMBUS_ERROR_UNSUPPORTED, "lookaround");
    check_refused(regex, "(a)\\1", BOMBUS_ERROR_UNSUPPORTED, "column 4");
    check_refused(regex, "a(b", BOMBUS_ERROR_FORMAT, "column 2");
    check_refused(regex, "a)", BOMBUS_ERROR_FORMAT, "column 2");
    check_refused(regex, "[z-a]", BOMBUS_ERROR_FORMAT, "range");
    check_refused(regex, "(a[ ro[.", BOMBUS_ERROR_UNSUPPORTED, "POSIX");
    check_refused(regex, "a^b", BOMBUS_ERROR_UNSUPPORTED, "anchor");
    check_refused(regex, "(((((a?){60}){60}){60}){60}){60}", BOMBUS_ERROR_LIMIT, "large");
    check_refused(gbnf, "root ::= root \"a\" | \"b\"", BOMBUS_ERROR_UNSUPPORTED, "left recursion");
    check_refused(gbnf, "root ::= a\na ::= \"x\"? a \"y\" | \"z\"", BOMBUS_ERROR_UNSUPPORTED, "left recursion");
    check_refused(gbnf, "root ::= \"a\"\n\nroot2 ::= b", BOMBUS_ERROR_FORMAT, "line 3, column 11");
    check_refused(gbnf, "a ::= \"x\"", BOMBUS_ERROR_FORMAT, "root");
    check_refused(gbnf, "root ::= \"x", BOMBUS_ERROR_FORMAT, "column 10");
    check_refused(gbnf, "root ::= a\na ::= \"x\" a", BOMBUS_ERROR_FORMAT, "no text");
    char deep[3000] = "";
    for (int i = 0; i < 1000; i++)
        strcat(deep, "(");
    check_refused(regex, deep, BOMBUS_ERROR_LIMIT, "nested");
    struct bombus_constraint *huge = compile(regex, "(ab|c){1,1000000}"); /* counted, not written out */
    assert_true(accepts(huge, "abcab", 5));
    bb_constraint_free(huge);
}

/* The mask at a place is what trying each token gives; walks by random allowed tokens end, and are what they should be. */
static void check_walks(bombus_constraint_kind kind, const char *source, bool is_json, int walks, uint64_t seed)
{
    struct bombus_constraint *constraint = compile(kind, source);
    struct bb_grammar_matcher matcher, trial;
    struct bb_random random = {.seed = seed};
    bombus_error error;
    CHECK_OK(bb_grammar_matcher_init(&matcher, constraint, &error), error);
    CHECK_OK(bb_grammar_matcher_init(&trial, constraint, &error), error);
    for (int walk = 0; walk < walks; walk++) {
        struct bb_buffer text = {0};
        CHECK_OK(bb_grammar_matcher_reset(&matcher, &error), error);
        for (int step = 0; step < 3000 && !matcher.must_end; step++) {
            int32_t chosen = -1;
            size_t count, seen = 0;
            CHECK_OK(bb_grammar_matcher_find_mask(&matcher, &count, &error), error);
            assert_true(count > 0);
            for (int32_t id = 0; id < constraint->trie->size; id++) {
                if (walk < 3 && step < 60) {
                    CHECK_OK(bb_grammar_matcher_copy(&trial, &matcher, &error), error);
                    bool expected = bb_grammar_matcher_advance(&trial, id, NULL) == BOMBUS_OK;
                    if (bb_grammar_matcher_allows(&matcher, id) != expected)
                        fail_msg("%s: token %d behind '%s': expected %d", source, id, text.data != NULL ? text.data : "", expected);
                }
                /* Later closing is likelier than opening, so that walks end. */
                bool closes = id < 256 && (id == constraint->trie->size - 1 || strchr("\"]},:", constraint->trie->text[constraint->trie->offsets[id]]) != NULL);
                if (bb_grammar_matcher_allows(&matcher, id) && bb_random_next(&random) % ++seen == 0 &&
                    (chosen < 0 || step < 40 || closes))
                    chosen = id;
            }
            if (chosen == constraint->trie->size - 1)
                break;
            bb_buffer_add(&text, constraint->trie->text + constraint->trie->offsets[chosen],
                          constraint->trie->offsets[chosen + 1] - constraint->trie->offsets[chosen]);
            CHECK_OK(bb_grammar_matcher_advance(&matcher, chosen, &error), error);
        }
        if (matcher.may_end && is_json && text.length > 0) {
            json_error_t fault;
            json_t *json = json_loadb(text.data, text.length, JSON_DECODE_ANY, &fault);
            if (json == NULL)
                fail_msg("%s wrote %s: %s", source, text.data, fault.text);
            json_decref(json);
        }
        bb_buffer_clear(&text);
    }
    bb_grammar_matcher_clear(&matcher);
    bb_grammar_matcher_clear(&trial);
    bb_constraint_free(constraint);
}

static void test_masks(void **state)
{
    (void)state;
    check_walks(BOMBUS_CONSTRAINT_GBNF, json_gbnf, false, 12, 1);
    check_walks(BOMBUS_CONSTRAINT_GBNF, "root ::= a\na ::= \"(\" a \")\" | \"a\" a \"b\" | \"\"", false, 6, 2);
    check_walks(BOMBUS_CONSTRAINT_GBNF, "root ::= (\"a\" | \"ab\" | \"b\"{2,50}){3,80} \"c\"", false, 6, 3);
    check_walks(BOMBUS_CONSTRAINT_REGEX, "(a|b|ab){3,70}c?[\xC3\xA9\xE2\x82\xAC]+", false, 6, 4);
    check_walks(BOMBUS_CONSTRAINT_JSON_SCHEMA, "true", true, 20, 5);
    check_walks(BOMBUS_CONSTRAINT_JSON_SCHEMA,
                "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":9},\"n\":{\"type\":\"integer\",\"minimum\":3,"
                "\"maximum\":1234},\"l\":{\"type\":\"array\",\"items\":{\"$ref\":\"#\"},\"maxItems\":2}},\"additionalProperties\":{\"type\":\"boolean\"}}",
                true, 20, 6);
    check_walks(BOMBUS_CONSTRAINT_JSON_SCHEMA,
                "{\"type\":\"object\",\"patternProperties\":{\"^a.b$\":{\"type\":\"number\",\"minimum\":-1.5,\"maximum\":12},\"^n\\\\\\\\\":{\"$ref\":\"#\"}}}",
                true, 20, 7);
}

/* A Unigram tokenizer whose decoder is Metaspace alone; `scheme`: always, first or never. */
static struct bb_tokenizer *open_unigram(const char *scheme)
{
    static const char *const tokens[] = {"<unk>", "\xE2\x96\x81", "\xE2\x96\x81" "a", "a", "b", "c", "\xE2\x96\x81" "ab", "a\xE2\x96\x81" "b", "\xE2\x96\x81\xE2\x96\x81",
                                         "\xE2\x96\x81\xE2\x96\x81" "a", "\xC3\xA9", "x", "\n", "a\n", "<0x61>", "b\xE2\x96\x81", "-", "ab c", " ", "{", "}", "\"", ":", "1", "</s>"};
    struct bb_tokenizer *opened;
    bombus_error error;
    json_t *vocab = json_array();
    for (size_t i = 0; i < BB_COUNT(tokens); i++)
        json_array_append_new(vocab, json_pack("[s, f]", tokens[i], -(double)i));
    json_t *json = json_pack(
        "{s:{s:s, s:i, s:o, s:b}, s:{s:s, s:s, s:s, s:b}, s:{s:s, s:s, s:s, s:b}, s:[{s:i, s:s, s:b, s:b, s:b, s:b, s:b}]}", "model", "type", "Unigram",
        "unk_id", 0, "vocab", vocab, "byte_fallback", 0, "decoder", "type", "Metaspace", "replacement", "\xE2\x96\x81", "prepend_scheme", scheme,
        "add_prefix_space", 1, "pre_tokenizer", "type", "Metaspace", "replacement", "\xE2\x96\x81", "prepend_scheme", scheme, "add_prefix_space", 1,
        "added_tokens", "id", (int)BB_COUNT(tokens) - 1, "content", "</s>", "single_word", 0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1);
    assert_non_null(json);
    CHECK_OK(bb_folder_create(scratch_path("unigram"), &error), error);
    assert_int_equal(json_dump_file(json, scratch_path("unigram/tokenizer.json"), 0), 0);
    json_decref(json);
    CHECK_OK(bb_file_write(scratch_path("unigram/tokenizer_config.json"), "{\"eos_token\":\"</s>\"}", 20, &error), error);
    CHECK_OK(bb_tokenizer_open(&opened, scratch_path("unigram"), NULL, &error), error);
    return opened;
}

/* What the streaming decoder writes. */
static void stream_text(const struct bb_tokenizer *words, const int32_t *ids, size_t count, struct bb_buffer *text)
{
    struct bb_stream_decoder *stream;
    bombus_error error;
    const char *piece;
    size_t length;
    CHECK_OK(bb_stream_decoder_create(&stream, words, &error), error);
    for (size_t i = 0; i < count; i++) {
        CHECK_OK(bb_stream_decoder_add(stream, ids[i], &piece, &length, &error), error);
        bb_buffer_add(text, piece, length);
    }
    CHECK_OK(bb_stream_decoder_finish(stream, &piece, &length, &error), error);
    bb_buffer_add(text, piece, length);
    bb_stream_decoder_free(stream);
}

/* The trie's bytes of random ids beside the decoders; then masks, and texts that walks write. */
static void test_metaspace(void **state)
{
    (void)state;
    static const char *const schemes[] = {"always", "first", "never"};
    struct bb_tokenizer *kept = tokenizer;
    struct bb_random random = {.seed = 9};
    for (size_t i = 0; i < BB_COUNT(schemes); i++) {
        const struct bb_token_trie *trie;
        bombus_error error;
        size_t late = 0, compared = 0;
        tokenizer = open_unigram(schemes[i]);
        CHECK_OK(bb_tokenizer_trie(tokenizer, &trie, &error), error);
        assert_int_equal(trie->drops_first_space, i < 2);
        for (int round = 0; round < 4000; round++) {
            struct bb_buffer expected = {0}, decoded = {0}, streamed = {0};
            int32_t ids[9];
            size_t count = 1 + bb_random_next(&random) % BB_COUNT(ids);
            bool has_text = true;
            for (size_t j = 0; j < count; j++) {
                ids[j] = (int32_t)(bb_random_next(&random) % (uint64_t)trie->size);
                has_text = has_text && trie->offsets[ids[j]] < trie->offsets[ids[j] + 1];
                bb_buffer_add(&expected, trie->text + trie->offsets[ids[j]], trie->offsets[ids[j] + 1] - trie->offsets[ids[j]]);
            }
            CHECK_OK(bb_tokenizer_decode(tokenizer, ids, count, true, &decoded, &error), error);
            stream_text(tokenizer, ids, count, &streamed);
            bb_buffer_reserve(&expected, 0);
            bb_buffer_reserve(&decoded, 0);
            size_t dropped = i < 2 && expected.length > 0 && expected.data[0] == ' ';
            bool is_same = decoded.length == expected.length - dropped && memcmp(decoded.data, expected.data + dropped, decoded.length) == 0;
            if (has_text && bb_token_trie_may_begin(trie, ids[0])) {
                if (!is_same || strcmp(decoded.data, streamed.data) != 0)
                    fail_msg("%s: '%s', decoded '%s', streamed '%s'", schemes[i], expected.data, decoded.data, streamed.data);
                compared++;
            } else if (has_text) {
                assert_false(is_same);
                late++;
            }
            bb_buffer_clear(&expected);
            bb_buffer_clear(&decoded);
            bb_buffer_clear(&streamed);
        }
        assert_true(compared > 500 && (i < 2) == (late > 0));
        check_walks(BOMBUS_CONSTRAINT_REGEX, "[abc ]{3,30}(x|\xC3\xA9)( a)*", false, 30, 3);
        check_walks(BOMBUS_CONSTRAINT_JSON_SCHEMA, "{\"type\":\"object\",\"additionalProperties\":{\"enum\":[1,\"a b\"]}}", true, 30, 4);
        bb_tokenizer_close(tokenizer);
    }
    tokenizer = kept;
}

/* An end of turn that is text elsewhere: it may stand where the text may end, and nowhere else. */
static void test_ends_of_turn(void **state)
{
    (void)state;
    struct bombus_constraint *constraint = compile(BOMBUS_CONSTRAINT_REGEX, "[xy]z+[xy]?");
    struct bb_grammar_matcher matcher;
    bombus_error error;
    size_t count;
    int32_t x = bb_tokenizer_id(tokenizer, "x", 1), y = bb_tokenizer_id(tokenizer, "y", 1), z = bb_tokenizer_id(tokenizer, "z", 1);
    int32_t eos = bb_tokenizer_id(tokenizer, "<eos>", 5), ends[] = {y, constraint->trie->size, -1};
    CHECK_OK(bb_grammar_matcher_init(&matcher, constraint, &error), error);
    matcher.now.is_first = false; /* a space at the beginning is a space here */
    CHECK_OK(bb_grammar_matcher_find_mask(&matcher, &count, &error), error);
    assert_int_equal(count, 2); /* x, y */
    matcher.eos_ids = ends;
    matcher.eos_count = BB_COUNT(ends);
    CHECK_OK(bb_grammar_matcher_find_mask(&matcher, &count, &error), error);
    assert_true(count == 1 && bb_grammar_matcher_allows(&matcher, x));
    assert_int_equal(bb_grammar_matcher_advance(&matcher, y, &error), BOMBUS_ERROR_MISMATCH);
    CHECK_OK(bb_grammar_matcher_advance(&matcher, x, &error), error);
    CHECK_OK(bb_grammar_matcher_find_mask(&matcher, &count, &error), error);
    assert_true(count == 1 && bb_grammar_matcher_allows(&matcher, z));
    CHECK_OK(bb_grammar_matcher_advance(&matcher, z, &error), error);
    CHECK_OK(bb_grammar_matcher_find_mask(&matcher, &count, &error), error);
    assert_true(count == 3 && bb_grammar_matcher_allows(&matcher, y) && !bb_grammar_matcher_allows(&matcher, eos)); /* x, y, z */
    CHECK_OK(bb_grammar_matcher_advance(&matcher, y, &error), error);
    assert_false(matcher.must_end); /* the end is no text */
    CHECK_OK(bb_grammar_matcher_advance(&matcher, x, &error), error);
    assert_true(matcher.must_end);
    bb_grammar_matcher_clear(&matcher);
    bb_constraint_free(constraint);
}

/* Generation with a model: text by the schema, the same with speculation, with another thread's use of the constraint, and for any sampler. */
static void test_generation(void **state)
{
    (void)state;
    const char *folder = golden_path("models/qwen3-4bit");
    SKIP_WITHOUT_GOLDEN(folder);
    static const char schema[] = "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":12},\"tags\":{\"type\":\"array\",\"items\":"
                                 "{\"enum\":[\"red\",\"green\"]},\"maxItems\":3}},\"required\":[\"name\",\"tags\"],\"additionalProperties\":false}";
    bombus_model *model;
    bombus_tokenizer *words;
    bombus_constraint *constraint;
    bombus_error error;
    CHECK_OK(bombus_model_open(&model, folder, &(bombus_model_options){.thread_count = 1}, &error), error);
    CHECK_OK(bombus_tokenizer_open(&words, folder, NULL, &error), error);
    CHECK_OK(bombus_constraint_create(&constraint, BOMBUS_CONSTRAINT_JSON_SCHEMA, schema, strlen(schema), words, &error), error);
    const int32_t prompt[] = {5, 6, 7, 8, 5, 6, 7, 8};
    for (uint64_t seed = 0; seed < 6; seed++) {
        bombus_generate_result results[2];
        for (int i = 0; i < 2; i++) {
            bombus_session *session;
            CHECK_OK(bombus_session_create(&session, model, NULL, &error), error);
            bombus_generate_options options = {.sampler = {.temperature = seed > 0 ? 0.9f : 0.0f, .top_p = seed > 3 ? 0.8f : 0.0f, .seed = seed},
                                               .max_tokens = 200, .constraint = constraint, .ngram_size = i, .ignore_eos = seed == 5};
            CHECK_OK(bombus_generate(session, words, prompt, BB_COUNT(prompt), &options, &results[i], &error), error);
            bombus_session_free(session);
        }
        assert_int_equal(results[0].finish_reason, BOMBUS_FINISH_STOP);
        assert_string_equal(results[0].text, results[1].text);
        assert_int_equal(results[0].count, results[1].count);
        json_t *json = json_loads(results[0].text, 0, NULL);
        assert_non_null(json);
        assert_true(json_is_string(json_object_get(json, "name")) && json_is_array(json_object_get(json, "tags")));
        assert_int_equal(json_object_size(json), 2);
        json_decref(json);
        bombus_generate_result_clear(&results[0]);
        bombus_generate_result_clear(&results[1]);
    }
    bombus_constraint_free(constraint);
    bombus_tokenizer_close(words);
    bombus_model_close(model);
}

static void test_memory(void **state)
{
    (void)state;
    static const char *const sources[] = {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"maxLength\":500},\"b\":{\"$ref\":\"#\"}},"
                                          "\"patternProperties\":{\"^x\":{\"minimum\":0.5}},\"required\":[\"x1\"]}",
                                          "(a|\\p{Lu}){2,99}", json_gbnf};
    for (int kind = 0; kind < 3; kind++) {
        bombus_status status = BOMBUS_ERROR_MEMORY;
        for (uint64_t nth = 1; status != BOMBUS_OK; nth++) {
            struct bombus_constraint *constraint;
            struct bb_grammar_matcher matcher = {0};
            size_t count;
            bb_memory_fail_at(nth, nth % 2 == 0);
            status = bb_constraint_create(&constraint, (bombus_constraint_kind)kind, sources[kind], strlen(sources[kind]), tokenizer, NULL);
            if (status == BOMBUS_OK)
                status = bb_grammar_matcher_init(&matcher, constraint, NULL);
            if (status == BOMBUS_OK)
                status = bb_grammar_matcher_find_mask(&matcher, &count, NULL);
            if (status == BOMBUS_OK)
                status = bb_grammar_matcher_advance(&matcher, kind == 1 ? 'a' : '{', NULL);
            bb_memory_fail_at(0, false);
            assert_true(status == BOMBUS_OK || status == BOMBUS_ERROR_MEMORY);
            bb_grammar_matcher_clear(&matcher);
            bb_constraint_free(constraint);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gbnf),     cmocka_unit_test(test_regex_beside_pcre2), cmocka_unit_test(test_schema),
        cmocka_unit_test(test_number_bounds),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_masks), cmocka_unit_test(test_metaspace),              cmocka_unit_test(test_generation),
        cmocka_unit_test(test_ends_of_turn),
        cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
