/* JSON Schema: strings, literals, keys. */
#include "generate/grammar/schema_parts.h"

#include "base/memory.h"
#include "text/unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DATE                                                                                                           \
    "([12][0-9]{3}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|"    \
    "2[0-8]))|[12][0-9](0[48]|[2468][048]|[13579][26])-02-29)"
#define TIME  "([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"

static const struct {
    const char *name, *pattern;
} formats[] = {
    {"date", DATE},
    {"time", TIME},
    {"date-time", DATE "T" TIME},
    {"uuid", "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"},
    {"email", "[A-Za-z0-9_+-]{1,32}(\\.[A-Za-z0-9_+-]{1,31})?@" LABEL "(\\." LABEL "){1,3}"},
    {"ipv4", "((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"},
};

static const char *const terminal_patterns[BB_TERMINAL_COUNT] = {
    /* One character of a string: as it is, or escaped; surrogates in pairs, no zero byte. */
    [BB_TERMINAL_CHARACTER] =
        ("[^\"\\\\\\x00-\\x1f]|\\\\([\"\\\\/bfnrt]|u(000[1-9a-fA-F]|00[1-9a-fA-F][0-9a-fA-F]|0[1-9a-fA-F][0-9a-fA-F]{2}"
         "|[1-9a-cefA-CEF][0-9a-fA-F]{3}|[dD][0-7][0-9a-fA-F]{2}"
         "|[dD][89abAB][0-9a-fA-F]{2}\\\\u[dD][c-fC-F][0-9a-fA-F]{2}))"),
    [BB_TERMINAL_INTEGER] = "0|-?[1-9][0-9]{0,17}",
    /* Within what a double holds. */
    [BB_TERMINAL_NUMBER] = "-?(0|[1-9][0-9]{0,17})(\\.[0-9]{1,17})?([eE][+-]?[0-9]{1,2})?",
};

static uint32_t add_pattern(struct bb_schema *schema, const char *pattern)
{
    uint32_t node = 0;
    bombus_status status =
        bb_pattern_add(schema->rules, pattern, strlen(pattern), BB_PATTERN_WHOLE, &node, schema->error);
    return status == BOMBUS_OK ? node : 0;
}

uint32_t bb_schema_terminal(struct bb_schema *schema, enum bb_schema_terminal terminal)
{
    if (schema->terminals[terminal] == 0) {
        uint32_t rule = bb_rules_add(schema->rules);
        schema->terminals[terminal] = rule + 1;
        bb_rules_define(schema->rules, rule, add_pattern(schema, terminal_patterns[terminal]));
    }
    return bb_rules_call(schema->rules, schema->terminals[terminal] - 1);
}

uint32_t bb_schema_literal(struct bb_schema *schema, json_t *value)
{
    char *text = NULL;
    for (size_t digits = 15; digits <= 17; digits++) { /* as few as mean the same number */
        free(text);
        text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(digits));
        json_t *read = text != NULL ? json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
        bool is_same = read != NULL && json_equal(read, value);
        json_decref(read);
        if (is_same)
            break;
    }
    if (text == NULL)
        bb_schema_fail(schema, BOMBUS_ERROR_MEMORY, NULL, "out of memory");
    uint32_t node = bb_rules_literal(schema->rules, text != NULL ? text : "", text != NULL ? strlen(text) : 0);
    free(text);
    return node;
}

uint32_t bb_schema_count(struct bb_schema *schema, json_t *json, const char *keyword, uint32_t fallback)
{
    json_t *value = json_object_get(json, keyword);
    if (value == NULL)
        return fallback;
    double number = json_is_number(value) ? json_number_value(value) : -1.0;
    if (number < 0.0 || number != floor(number))
        bb_schema_fail(schema, BOMBUS_ERROR_FORMAT, keyword, "expected a whole number, 0 or more");
    else if (number > (double)(1 << 30))
        bb_schema_fail(schema, BOMBUS_ERROR_LIMIT, keyword, "expected at most 1073741824");
    else
        return (uint32_t)number;
    return fallback;
}

uint32_t bb_schema_pattern(struct bb_schema *schema, const char *keyword, const char *pattern, size_t length)
{
    uint32_t node = 0;
    bombus_status status =
        bb_pattern_add(schema->rules, pattern, length, BB_PATTERN_FOUND_IN_JSON, &node, schema->error);
    if (status != BOMBUS_OK && schema->error != NULL) {
        char message[300];
        snprintf(message, sizeof message, "%.*s", (int)sizeof message - 1, schema->error->message);
        schema->rules->status = BOMBUS_OK;
        bb_schema_fail(schema, status, keyword, message);
    }
    return node;
}

static uint32_t string_content(struct bb_schema *schema, json_t *json)
{
    json_t *pattern = json_object_get(json, "pattern"), *format = json_object_get(json, "format");
    bool has_length = json_object_get(json, "minLength") != NULL || json_object_get(json, "maxLength") != NULL;
    uint32_t node = 0;
    if ((pattern != NULL) + (format != NULL) + has_length > 1) {
        bb_schema_fail(schema, BOMBUS_ERROR_UNSUPPORTED, pattern != NULL ? "pattern" : "format",
                       "not together with another of pattern, format, minLength and maxLength");
    } else if (pattern != NULL) {
        if (!json_is_string(pattern))
            bb_schema_fail(schema, BOMBUS_ERROR_FORMAT, "pattern", "expected a string");
        else
            node = bb_schema_pattern(schema, "pattern", json_string_value(pattern), json_string_length(pattern));
    } else if (format != NULL) {
        for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
            if (json_is_string(format) && strcmp(json_string_value(format), formats[i].name) == 0)
                return add_pattern(schema, formats[i].pattern);
        bb_schema_fail(schema, BOMBUS_ERROR_UNSUPPORTED, "format",
                       "expected date, time, date-time, uuid, email or ipv4");
    } else {
        uint32_t least = bb_schema_count(schema, json, "minLength", 0);
        uint32_t most = bb_schema_count(schema, json, "maxLength", BB_UNLIMITED);
        if (least > most)
            return bb_rules_list(schema->rules, BB_RULE_CHOICE);
        node = bb_rules_repeat(schema->rules, bb_schema_terminal(schema, BB_TERMINAL_CHARACTER), least, most);
    }
    return node;
}

uint32_t bb_schema_string(struct bb_schema *schema, json_t *json)
{
    uint32_t list = bb_rules_list(schema->rules, BB_RULE_SEQUENCE);
    bb_rules_append(schema->rules, list, bb_rules_byte(schema->rules, '"', '"'));
    bb_rules_append(schema->rules, list, string_content(schema, json));
    bb_rules_append(schema->rules, list, bb_rules_byte(schema->rules, '"', '"'));
    return list;
}

/* ---- keys that are not named ---- */

/* Strings that go on behind the first `done` bytes of those keys, [count], which share them, and are none of
 * the keys. */
static uint32_t unlike(struct bb_schema *schema, const char **keys, size_t count, size_t done)
{
    struct bb_rules *rules = schema->rules;
    uint32_t choice = bb_rules_list(rules, BB_RULE_CHOICE);
    struct bb_character_set others = {0};
    bool is_key = false;
    if (++schema->depth > BB_MAX_NESTING) {
        bb_schema_fail(schema, BOMBUS_ERROR_LIMIT, "properties",
                       "keys this long cannot be kept apart from additional ones");
        return choice;
    }
    bb_character_set_add(&others, 0, 0x1F);
    bb_character_set_add(&others, '"', '"');
    bb_character_set_add(&others, '\\', '\\');
    for (size_t i = 0, end; i < count; i = end) {
        uint32_t character, next;
        end = i + 1;
        is_key = is_key || keys[i][done] == '\0';
        if (keys[i][done] == '\0')
            continue;
        size_t size = bb_utf8_next(keys[i] + done, &character);
        for (; end < count && keys[end][done] != '\0'; end++) {
            bb_utf8_next(keys[end] + done, &next);
            if (next != character)
                break;
        }
        bb_character_set_add(&others, character, character);
        if (character < 0x20 || character == '"' || character == '\\')
            continue; /* such keys need escapes, which these strings have not */
        uint32_t list = bb_rules_literal(rules, keys[i] + done, size);
        bb_rules_append(rules, list, unlike(schema, keys + i, end - i, done + size));
        bb_rules_append(rules, choice, list);
    }
    bb_character_set_tidy(&others, true);
    uint32_t list = bb_rules_list(rules, BB_RULE_SEQUENCE);
    struct bb_character_set plain = {0};
    bb_rules_append(rules, list, bb_rules_characters(rules, &others));
    bb_character_set_add(&plain, 0x20, 0x21);
    bb_character_set_add(&plain, 0x23, 0x5B);
    bb_character_set_add(&plain, 0x5D, 0x10FFFF);
    bb_character_set_tidy(&plain, false);
    bb_rules_append(rules, list, bb_rules_repeat(rules, bb_rules_characters(rules, &plain), 0, BB_UNLIMITED));
    bb_rules_append(rules, choice, list);
    if (!is_key)
        bb_rules_append(rules, choice, bb_rules_list(rules, BB_RULE_SEQUENCE));
    bb_character_set_clear(&others);
    bb_character_set_clear(&plain);
    schema->depth--;
    return choice;
}

static int compare_keys(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

uint32_t bb_schema_other_key(struct bb_schema *schema, json_t *keys)
{
    struct bb_rules *rules = schema->rules;
    size_t count = 0;
    const char *key, **names = bb_allocate(json_object_size(keys), sizeof *names);
    json_t *value;
    if (names == NULL) {
        bb_schema_fail(schema, BOMBUS_ERROR_MEMORY, NULL, "out of memory");
        return 0;
    }
    json_object_foreach(keys, key, value)
        names[count++] = key;
    if (count > 1)
        qsort(names, count, sizeof *names, compare_keys);
    uint32_t list = bb_rules_list(rules, BB_RULE_SEQUENCE);
    bb_rules_append(rules, list, bb_rules_byte(rules, '"', '"'));
    bb_rules_append(rules, list, unlike(schema, names, count, 0));
    bb_rules_append(rules, list, bb_rules_byte(rules, '"', '"'));
    bb_release(names);
    return list;
}
