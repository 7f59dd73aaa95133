/* JSON Schema (a part of draft 2020-12) as rules. What a schema allows is generated without white space but one
 * optional space behind colons and commas, keys in the order of the schema. */
#include "generate/grammar/schema_parts.h"

#include "base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_JSON_BYTES = 1 << 22 };

static uint32_t read_schema(struct bb_schema *schema, json_t *json);

static size_t enter_index(struct bb_schema *schema, const char *keyword, size_t index)
{
    char text[64];
    size_t length = bb_schema_enter(schema, keyword);
    snprintf(text, sizeof text, "%zu", index);
    bb_schema_enter(schema, text);
    return length;
}

static const char *const object_words[] = {"properties", "required", "additionalProperties", "patternProperties", NULL};
static const char *const array_words[] = {"items", "prefixItems", "minItems", "maxItems", NULL};
static const char *const string_words[] = {"pattern", "format", "minLength", "maxLength", NULL};
static const char *const number_words[] = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", NULL};
static const char *const other_words[] = {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", NULL};

static void check_keywords(struct bb_schema *schema, json_t *json)
{
    static const char *const schema_lists[] = {"anyOf", "oneOf", "allOf", "prefixItems", NULL};
    const char *key;
    json_t *value;
    json_object_foreach(json, key, value) {
        bool is_known = bb_schema_is_annotation(key) || bb_schema_is_in(key, object_words) ||
                        bb_schema_is_in(key, array_words) || bb_schema_is_in(key, string_words) ||
                        bb_schema_is_in(key, number_words) || bb_schema_is_in(key, other_words) ||
                        (strcmp(key, "uniqueItems") == 0 && json_is_false(value));
        if (!is_known)
            bb_schema_fail(schema, BOMBUS_ERROR_UNSUPPORTED, key, "this keyword is not supported");
        if (bb_schema_is_in(key, schema_lists) && (!json_is_array(value) || json_array_size(value) == 0))
            bb_schema_fail(schema, BOMBUS_ERROR_FORMAT, key, "expected an array of schemas");
        if (bb_schema_is_in(key, number_words) && !json_is_number(value))
            bb_schema_fail(schema, BOMBUS_ERROR_FORMAT, key, "expected a number");
        if ((strcmp(key, "enum") == 0 || strcmp(key, "required") == 0) && !json_is_array(value))
            bb_schema_fail(schema, BOMBUS_ERROR_FORMAT, key, "expected an array");
        if ((strcmp(key, "properties") == 0 || strcmp(key, "patternProperties") == 0) && !json_is_object(value))
            bb_schema_fail(schema, BOMBUS_ERROR_FORMAT, key, "expected an object");
        if (strcmp(key, "$ref") == 0 && !json_is_string(value))
            bb_schema_fail(schema, BOMBUS_ERROR_FORMAT, key, "expected a string");
    }
}

/* ---- small parts ---- */

static uint32_t nothing(struct bb_schema *schema)
{
    return bb_rules_list(schema->rules, BB_RULE_CHOICE);
}

static uint32_t empty(struct bb_schema *schema)
{
    return bb_rules_list(schema->rules, BB_RULE_SEQUENCE);
}

static uint32_t text(struct bb_schema *schema, const char *literal)
{
    return bb_rules_literal(schema->rules, literal, strlen(literal));
}

/* A comma or colon with the space that may follow it. */
static uint32_t separator(struct bb_schema *schema, char letter)
{
    uint32_t list = bb_rules_list(schema->rules, BB_RULE_SEQUENCE), byte = (uint8_t)letter;
    bb_rules_append(schema->rules, list, bb_rules_byte(schema->rules, byte, byte));
    return bb_rules_append(schema->rules, list,
                           bb_rules_repeat(schema->rules, bb_rules_byte(schema->rules, ' ', ' '), 0, 1));
}

static uint32_t sequence(struct bb_schema *schema, uint32_t a, uint32_t b)
{
    uint32_t list = bb_rules_list(schema->rules, BB_RULE_SEQUENCE);
    bb_rules_append(schema->rules, list, a);
    return bb_rules_append(schema->rules, list, b);
}

static uint32_t sequence3(struct bb_schema *schema, uint32_t a, uint32_t b, uint32_t c)
{
    return bb_rules_append(schema->rules, sequence(schema, a, b), c);
}

static uint32_t choice(struct bb_schema *schema, uint32_t a, uint32_t b)
{
    uint32_t list = bb_rules_list(schema->rules, BB_RULE_CHOICE);
    bb_rules_append(schema->rules, list, a);
    return bb_rules_append(schema->rules, list, b);
}

static uint32_t add_rule(struct bb_schema *schema, uint32_t body)
{
    uint32_t rule = bb_rules_add(schema->rules);
    bb_rules_define(schema->rules, rule, body);
    return rule;
}

/* `begin` item (, item){least - 1, most - 1} `end`, or nothing between where least is 0. */
static uint32_t list_of(struct bb_schema *schema, const char *begin, uint32_t rule, uint32_t least, uint32_t most,
                        const char *end)
{
    struct bb_rules *rules = schema->rules;
    if (least > most)
        return nothing(schema);
    uint32_t more = bb_rules_repeat(rules, sequence(schema, separator(schema, ','), bb_rules_call(rules, rule)),
                                    least > 0 ? least - 1 : 0,
                                    most == BB_UNLIMITED ? most
                                    : most > 0           ? most - 1
                                                         : 0);
    uint32_t items = sequence(schema, bb_rules_call(rules, rule), more);
    if (most == 0)
        items = empty(schema);
    else if (least == 0)
        items = choice(schema, items, empty(schema));
    return sequence3(schema, text(schema, begin), items, text(schema, end));
}

/* ---- any value ---- */

static uint32_t any_value(struct bb_schema *schema)
{
    static const char *const words[] = {"true", "false", "null", NULL};
    struct bb_rules *rules = schema->rules;
    if (schema->any != 0)
        return bb_rules_call(rules, schema->any - 1);
    uint32_t rule = bb_rules_add(rules), list = bb_rules_list(rules, BB_RULE_CHOICE);
    schema->any = rule + 1;
    uint32_t member =
        add_rule(schema, sequence3(schema, bb_schema_string(schema, NULL), separator(schema, ':'), any_value(schema)));
    bb_rules_append(rules, list, bb_schema_string(schema, NULL));
    bb_rules_append(rules, list, bb_schema_terminal(schema, BB_TERMINAL_NUMBER));
    bb_rules_append(rules, list, list_of(schema, "{", member, 0, BB_UNLIMITED, "}"));
    bb_rules_append(rules, list, list_of(schema, "[", rule, 0, BB_UNLIMITED, "]"));
    for (size_t i = 0; words[i] != NULL; i++)
        bb_rules_append(rules, list, text(schema, words[i]));
    bb_rules_define(rules, rule, list);
    return bb_rules_call(rules, rule);
}

/* ---- objects ---- */

static bool is_required(json_t *required, const char *key)
{
    size_t i;
    json_t *name;
    json_array_foreach(required, i, name)
        if (json_is_string(name) && strcmp(json_string_value(name), key) == 0)
            return true;
    return false;
}

/* The rule of a member with a key of several; value NULL: anything. */
static uint32_t other_member(struct bb_schema *schema, uint32_t key, json_t *value)
{
    uint32_t node = value != NULL ? read_schema(schema, value) : any_value(schema);
    return add_rule(schema, sequence3(schema, key, separator(schema, ':'), node));
}

/* The rule of a member by any of the patterns. */
static uint32_t pattern_member(struct bb_schema *schema, json_t *patterns)
{
    uint32_t list = bb_rules_list(schema->rules, BB_RULE_CHOICE);
    size_t length = bb_schema_enter(schema, "patternProperties");
    const char *pattern;
    json_t *value;
    json_object_foreach(patterns, pattern, value) {
        size_t inner = bb_schema_enter(schema, pattern);
        uint32_t content = bb_schema_pattern(schema, "patternProperties", pattern, strlen(pattern));
        uint32_t key = sequence3(schema, text(schema, "\""), content, text(schema, "\""));
        bb_rules_append(schema->rules, list, bb_rules_call(schema->rules, other_member(schema, key, value)));
        bb_schema_leave(schema, inner);
    }
    bb_schema_leave(schema, length);
    return add_rule(schema, list);
}

/* The rule of a member that no property names; *exists: there may be any. */
static uint32_t additional_member(struct bb_schema *schema, json_t *json, json_t *properties, bool *exists)
{
    json_t *rest = json_object_get(json, "additionalProperties"),
           *patterns = json_object_get(json, "patternProperties");
    bool has_patterns = json_object_size(patterns) > 0;
    /* Not said: allowed. They are made where the schema names no property, else left out. */
    *exists = has_patterns || (rest != NULL ? !json_is_false(rest) : json_object_size(properties) == 0);
    if (has_patterns)
        return pattern_member(schema, patterns);
    if (!*exists)
        return 0;
    size_t length = bb_schema_enter(schema, "additionalProperties");
    uint32_t rule = other_member(schema, bb_schema_other_key(schema, properties), rest);
    bb_schema_leave(schema, length);
    return rule;
}

/* The rule of a named member. */
static uint32_t named_member(struct bb_schema *schema, const char *key, json_t *value)
{
    size_t length = bb_schema_enter(schema, key);
    json_t *name = json_string(key);
    uint32_t literal = bb_schema_literal(schema, name);
    json_decref(name);
    uint32_t rule = add_rule(schema, sequence3(schema, literal, separator(schema, ':'), read_schema(schema, value)));
    bb_schema_leave(schema, length);
    return rule;
}

/* The schema of a required key that no property names: of the pattern that is found in it, or of additional ones. */
static json_t *schema_of_required(struct bb_schema *schema, json_t *json, const char *name)
{
    json_t *rest = json_object_get(json, "additionalProperties"), *value;
    json_t *keys = bb_schema_keep(schema, json_pack("{s:n}", name));
    const char *pattern;
    json_object_foreach(json_object_get(json, "patternProperties"), pattern, value)
        if (keys != NULL && schema->rules->status == BOMBUS_OK && bb_schema_matches_any(schema, pattern, keys))
            return json_incref(value);
    return rest != NULL ? json_incref(rest) : json_true();
}

/* The named properties, and the required keys that are not among them. */
static json_t *all_properties(struct bb_schema *schema, json_t *json)
{
    json_t *properties = json_object_get(json, "properties"), *name;
    json_t *all = properties != NULL ? json_copy(properties) : json_object();
    size_t i;
    if (bb_schema_keep(schema, all) == NULL)
        return NULL;
    json_array_foreach(json_object_get(json, "required"), i, name) {
        const char *key = json_string_value(name);
        if (key == NULL)
            bb_schema_fail(schema, BOMBUS_ERROR_FORMAT, "required", "expected an array of strings");
        else if (json_object_get(all, key) == NULL)
            json_object_set_new(all, key, schema_of_required(schema, json, key));
    }
    return all;
}

/* Members in order. `tails[i]` is the rule of what follows when a member stands before member i. */
static uint32_t read_object(struct bb_schema *schema, json_t *json)
{
    struct bb_rules *rules = schema->rules;
    json_t *properties = all_properties(schema, json), *value;
    size_t count = json_object_size(properties), i = 0;
    uint32_t *members = bb_allocate(count, sizeof *members), *tails = bb_allocate(count + 1, sizeof *tails);
    bool has_rest, *required = bb_allocate(count, sizeof *required);
    const char *key;
    bb_schema_check_patterns(schema, json);
    if (members == NULL || tails == NULL || required == NULL)
        bb_schema_fail(schema, BOMBUS_ERROR_MEMORY, NULL, "out of memory");
    uint32_t rest = additional_member(schema, json, properties, &has_rest), inside = 0;
    size_t length = bb_schema_enter(schema, "properties");
    if (rules->status == BOMBUS_OK) {
        json_object_foreach(properties, key, value) {
            required[i] = is_required(json_object_get(json, "required"), key);
            members[i++] = named_member(schema, key, value);
        }
        uint32_t more = empty(schema);
        if (has_rest)
            more = bb_rules_repeat(rules, sequence(schema, separator(schema, ','), bb_rules_call(rules, rest)), 0,
                                   BB_UNLIMITED);
        tails[count] = add_rule(schema, more);
        for (i = count; i-- > 0;) {
            uint32_t member = sequence(schema, separator(schema, ','), bb_rules_call(rules, members[i]));
            if (!required[i])
                member = choice(schema, member, empty(schema));
            tails[i] = add_rule(schema, sequence(schema, member, bb_rules_call(rules, tails[i + 1])));
        }
        inside = bb_rules_list(rules, BB_RULE_CHOICE);
        for (i = 0; i < count && (i == 0 || !required[i - 1]); i++)
            bb_rules_append(rules, inside,
                            sequence(schema, bb_rules_call(rules, members[i]), bb_rules_call(rules, tails[i + 1])));
        bool may_be_empty = i == count && (count == 0 || !required[count - 1]);
        if (may_be_empty && has_rest)
            bb_rules_append(rules, inside,
                            sequence(schema, bb_rules_call(rules, rest), bb_rules_call(rules, tails[count])));
        if (may_be_empty)
            bb_rules_append(rules, inside, empty(schema));
    }
    bb_schema_leave(schema, length);
    bb_release(members);
    bb_release(tails);
    bb_release(required);
    return sequence3(schema, text(schema, "{"), inside, text(schema, "}"));
}

/* ---- arrays ---- */

static uint32_t read_item(struct bb_schema *schema, json_t *items, const char *keyword)
{
    size_t length = bb_schema_enter(schema, keyword);
    uint32_t rule = add_rule(schema, items != NULL ? read_schema(schema, items) : any_value(schema));
    bb_schema_leave(schema, length);
    return rule;
}

/* What follows item i - 1 of an array with prefixItems: nested from the last one. */
static uint32_t read_prefix(struct bb_schema *schema, json_t *json, uint32_t least, uint32_t most)
{
    struct bb_rules *rules = schema->rules;
    json_t *prefix = json_object_get(json, "prefixItems"), *items = json_object_get(json, "items");
    uint32_t count = (uint32_t)json_array_size(prefix), node = empty(schema);
    if (items != NULL || least > count) { /* not said: made only where there must be more */
        uint32_t item =
            sequence(schema, separator(schema, ','), bb_rules_call(rules, read_item(schema, items, "items")));
        uint32_t more = most == BB_UNLIMITED ? most : most > count ? most - count : 0;
        node = bb_rules_repeat(rules, item, least > count ? least - count : 0, items != NULL ? more : least - count);
    }
    for (uint32_t i = count; i-- > 0;) {
        size_t length = enter_index(schema, "prefixItems", i);
        uint32_t item = read_schema(schema, json_array_get(prefix, i));
        bb_schema_leave(schema, length);
        if (i > 0)
            item = sequence(schema, separator(schema, ','), item);
        node = i < most ? sequence(schema, item, node) : nothing(schema);
        if (i >= least)
            node = choice(schema, node, empty(schema));
    }
    return sequence3(schema, text(schema, "["), node, text(schema, "]"));
}

static uint32_t read_array(struct bb_schema *schema, json_t *json)
{
    uint32_t least = bb_schema_count(schema, json, "minItems", 0);
    uint32_t most = bb_schema_count(schema, json, "maxItems", BB_UNLIMITED);
    if (json_is_array(json_object_get(json, "items")))
        bb_schema_fail(schema, BOMBUS_ERROR_UNSUPPORTED, "items", "an array of schemas; write prefixItems");
    if (least > most)
        return nothing(schema);
    if (json_object_get(json, "prefixItems") != NULL)
        return read_prefix(schema, json, least, most);
    return list_of(schema, "[", read_item(schema, json_object_get(json, "items"), "items"), least, most, "]");
}

/* ---- types ---- */

static uint32_t read_type(struct bb_schema *schema, json_t *json, const char *type)
{
    if (strcmp(type, "object") == 0)
        return read_object(schema, json);
    if (strcmp(type, "array") == 0)
        return read_array(schema, json);
    if (strcmp(type, "string") == 0)
        return bb_schema_string(schema, json);
    if (strcmp(type, "integer") == 0)
        return bb_schema_integer(schema, json);
    if (strcmp(type, "null") == 0)
        return text(schema, "null");
    if (strcmp(type, "boolean") == 0)
        return choice(schema, text(schema, "true"), text(schema, "false"));
    if (strcmp(type, "number") != 0) {
        bb_schema_fail(schema, BOMBUS_ERROR_FORMAT, "type",
                       "expected null, boolean, integer, number, string, array or object");
        return 0;
    }
    return bb_schema_number(schema, json);
}

static bool has_any(json_t *json, const char *const *words)
{
    for (; *words != NULL; words++)
        if (json_object_get(json, *words) != NULL)
            return true;
    return false;
}

/* By `type`; where that is not said, of the types that other keywords speak about. */
static uint32_t read_types(struct bb_schema *schema, json_t *json)
{
    json_t *types = json_object_get(json, "type"), *type;
    size_t i;
    if (json_is_string(types))
        return read_type(schema, json, json_string_value(types));
    uint32_t list = bb_rules_list(schema->rules, BB_RULE_CHOICE);
    if (types != NULL && !json_is_array(types))
        bb_schema_fail(schema, BOMBUS_ERROR_FORMAT, "type", "expected a string or an array of strings");
    json_array_foreach(types, i, type)
        bb_rules_append(schema->rules, list,
                        read_type(schema, json, json_is_string(type) ? json_string_value(type) : ""));
    if (types != NULL)
        return list;
    if (has_any(json, object_words))
        bb_rules_append(schema->rules, list, read_object(schema, json));
    if (has_any(json, array_words))
        bb_rules_append(schema->rules, list, read_array(schema, json));
    if (has_any(json, string_words))
        bb_rules_append(schema->rules, list, bb_schema_string(schema, json));
    if (has_any(json, number_words))
        bb_rules_append(schema->rules, list, bb_schema_number(schema, json));
    bool is_any = !has_any(json, object_words) && !has_any(json, array_words) && !has_any(json, string_words) &&
                  !has_any(json, number_words);
    return is_any ? any_value(schema) : list;
}

static bool is_of_type(json_t *value, const char *type)
{
    static const char *const names[] = {
        [JSON_OBJECT] = "object", [JSON_ARRAY] = "array",  [JSON_STRING] = "string", [JSON_INTEGER] = "integer",
        [JSON_REAL] = "number",   [JSON_TRUE] = "boolean", [JSON_FALSE] = "boolean", [JSON_NULL] = "null"};
    return strcmp(type, names[json_typeof(value)]) == 0 || (json_is_integer(value) && strcmp(type, "number") == 0);
}

static uint32_t read_enum(struct bb_schema *schema, json_t *json, json_t *values)
{
    json_t *types = json_object_get(json, "type"), *value, *type;
    uint32_t list = bb_rules_list(schema->rules, BB_RULE_CHOICE);
    size_t i, j;
    if (has_any(json, object_words) || has_any(json, array_words) || has_any(json, string_words) ||
        has_any(json, number_words))
        bb_schema_fail(schema, BOMBUS_ERROR_UNSUPPORTED, json_object_get(json, "enum") != NULL ? "enum" : "const",
                       "no other keyword than type may stand beside it");
    json_array_foreach(values, i, value) {
        bool is_allowed = types == NULL || (json_is_string(types) && is_of_type(value, json_string_value(types)));
        json_array_foreach(types, j, type)
            is_allowed = is_allowed || (json_is_string(type) && is_of_type(value, json_string_value(type)));
        if (is_allowed)
            bb_rules_append(schema->rules, list, bb_schema_literal(schema, value));
    }
    return list;
}

/* ---- references and combinations ---- */

static uint32_t read_reference(struct bb_schema *schema, const char *reference)
{
    size_t length = strlen(reference);
    const uint64_t *known = bb_map_find(&schema->refs, reference, length);
    if (known != NULL)
        return bb_rules_call(schema->rules, (uint32_t)*known);
    json_t *target = bb_schema_resolve(schema, reference);
    if (target == NULL)
        return 0;
    uint32_t rule = bb_rules_add(schema->rules);
    if (!bb_map_set(&schema->refs, reference, length, rule, NULL))
        bb_schema_fail(schema, BOMBUS_ERROR_MEMORY, NULL, "out of memory");
    struct bb_buffer path = schema->path; /* what is wrong behind it is told by its own place */
    schema->path = (struct bb_buffer){0};
    bb_buffer_add_text(&schema->path, reference + 1);
    bb_rules_define(schema->rules, rule, read_schema(schema, target));
    bb_buffer_clear(&schema->path);
    schema->path = path;
    return bb_rules_call(schema->rules, rule);
}

/* Does anything but annotations stand beside a keyword? */
static bool stands_alone(json_t *json, const char *keyword)
{
    const char *key;
    json_t *value;
    json_object_foreach(json, key, value)
        if (!bb_schema_is_annotation(key) && strcmp(key, keyword) != 0)
            return false;
    return true;
}

static uint32_t read_branches(struct bb_schema *schema, json_t *json, const char *keyword)
{
    json_t *base = json_copy(json), *branch;
    uint32_t list = bb_rules_list(schema->rules, BB_RULE_CHOICE);
    size_t i;
    if (bb_schema_keep(schema, base) == NULL)
        return 0;
    bool is_alone = stands_alone(json, keyword);
    json_object_del(base, keyword);
    json_array_foreach(json_object_get(json, keyword), i, branch) {
        size_t length = enter_index(schema, keyword, i);
        if (!is_alone)
            branch = bb_schema_merge(schema, base, branch);
        if (branch != NULL)
            bb_rules_append(schema->rules, list, read_schema(schema, branch));
        bb_schema_leave(schema, length);
    }
    return list;
}

static uint32_t read_object_schema(struct bb_schema *schema, json_t *json)
{
    json_t *value;
    check_keywords(schema, json);
    if (schema->rules->status != BOMBUS_OK)
        return 0;
    if ((value = json_object_get(json, "$ref")) != NULL && stands_alone(json, "$ref"))
        return read_reference(schema, json_string_value(value));
    if (value != NULL || json_object_get(json, "allOf") != NULL) {
        json_t *no_more = bb_schema_keep(schema, json_object());
        json_t *merged = no_more != NULL ? bb_schema_merge(schema, json, no_more) : NULL;
        return merged != NULL ? read_schema(schema, merged) : 0;
    }
    if (json_object_get(json, "anyOf") != NULL)
        return read_branches(schema, json, "anyOf");
    if (json_object_get(json, "oneOf") != NULL)
        return read_branches(schema, json, "oneOf");
    if ((value = json_object_get(json, "enum")) != NULL)
        return read_enum(schema, json, value);
    if ((value = json_object_get(json, "const")) != NULL) {
        json_t *values = bb_schema_keep(schema, json_pack("[O]", value));
        return values != NULL ? read_enum(schema, json, values) : 0;
    }
    return read_types(schema, json);
}

static uint32_t read_schema(struct bb_schema *schema, json_t *json)
{
    uint32_t node = 0;
    if (schema->rules->status != BOMBUS_OK)
        return 0;
    if (json_is_true(json))
        return any_value(schema);
    if (json_is_false(json))
        return nothing(schema);
    if (!json_is_object(json))
        bb_schema_fail(schema, BOMBUS_ERROR_FORMAT, NULL, "expected an object or a boolean");
    else if (++schema->depth > BB_MAX_NESTING)
        bb_schema_fail(schema, BOMBUS_ERROR_LIMIT, NULL, "schemas nested too deeply");
    else
        node = read_object_schema(schema, json);
    schema->depth--;
    return node;
}

bombus_status bb_schema_read(struct bb_rules *rules, const char *source, size_t length, bombus_error *error)
{
    struct bb_schema schema = {.rules = rules, .error = error};
    json_error_t fault;
    if (length > MAX_JSON_BYTES)
        return bb_fail(error, BOMBUS_ERROR_LIMIT, "schema: %zu bytes, expected at most %d", length, MAX_JSON_BYTES);
    schema.root = json_loadb(source, length, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &fault);
    if (schema.root == NULL)
        return bb_fail_at(error, BOMBUS_ERROR_FORMAT, fault.line, fault.column, "schema, line %d, column %d: %s",
                          fault.line, fault.column, fault.text);
    schema.kept = json_array();
    uint32_t root = bb_rules_add(rules);
    if (schema.kept == NULL || !bb_map_set(&schema.refs, "#", 1, root, NULL))
        bb_schema_fail(&schema, BOMBUS_ERROR_MEMORY, NULL, "out of memory");
    bb_rules_define(rules, root, read_schema(&schema, schema.root));
    json_decref(schema.root);
    json_decref(schema.kept);
    bb_map_clear(&schema.refs);
    bb_buffer_clear(&schema.path);
    return rules->status;
}
