/* JSON Schema: two schemas that must both hold, as one (allOf, and what stands beside anyOf and $ref). */
#include "generate/grammar/schema_parts.h"

#include <string.h>

json_t *bb_schema_keep(struct bb_schema *schema, json_t *json)
{
    if (json == NULL || json_array_append_new(schema->kept, json) != 0) {
        bb_schema_fail(schema, BOMBUS_ERROR_MEMORY, NULL, "out of memory");
        return NULL;
    }
    return json;
}

static bool has_type(json_t *types, const char *name)
{
    size_t i;
    json_t *type;
    if (json_is_string(types))
        return strcmp(json_string_value(types), name) == 0;
    json_array_foreach(types, i, type)
        if (json_is_string(type) && strcmp(json_string_value(type), name) == 0)
            return true;
    return false;
}

static json_t *merge_types(json_t *a, json_t *b)
{
    static const char *const names[] = {"null", "boolean", "integer", "number", "string", "array", "object"};
    json_t *both = json_array();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        bool is_integer = strcmp(names[i], "integer") == 0;
        bool in_a = has_type(a, names[i]) || (is_integer && has_type(a, "number"));
        bool in_b = has_type(b, names[i]) || (is_integer && has_type(b, "number"));
        if (in_a && in_b && !(is_integer && has_type(a, "number") && has_type(b, "number")))
            json_array_append_new(both, json_string(names[i]));
    }
    return both;
}

/* Values of both lists, or all of either. */
static json_t *merge_lists(json_t *a, json_t *b, bool is_union)
{
    json_t *result = is_union ? json_copy(a) : json_array(), *item, *other;
    size_t i, j;
    json_array_foreach(b, i, item) {
        bool is_common = false;
        json_array_foreach(a, j, other)
            is_common = is_common || json_equal(item, other);
        if (is_common != is_union)
            json_array_append(result, item);
    }
    return result;
}

static json_t *merge_properties(struct bb_schema *schema, json_t *a, json_t *b, json_t *a_rest, json_t *b_rest)
{
    json_t *result = bb_schema_keep(schema, json_object()), *value;
    const char *key;
    for (int side = 0; side < 2 && result != NULL; side++) {
        json_object_foreach(side == 0 ? a : b, key, value) {
            json_t *other = json_object_get(side == 0 ? b : a, key), *merged = value;
            other = other != NULL ? other : side == 0 ? b_rest : a_rest;
            if (json_object_get(result, key) != NULL)
                continue;
            if (other != NULL)
                merged = side == 0 ? bb_schema_merge(schema, value, other) : bb_schema_merge(schema, other, value);
            if (merged == NULL || json_object_set(result, key, merged) != 0)
                return NULL;
        }
    }
    return result;
}

/* `a` and `b` of one keyword in one; owned by nobody yet, NULL where that cannot be. */
static json_t *merge_keyword(struct bb_schema *schema, const char *keyword, json_t *a, json_t *b)
{
    static const char *const largest[] = {"minimum", "exclusiveMinimum", "minLength", "minItems", NULL};
    static const char *const smallest[] = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", NULL};
    static const char *const schemas[] = {"additionalProperties", "items", NULL};
    if (json_equal(a, b))
        return json_incref(a);
    if (strcmp(keyword, "type") == 0)
        return merge_types(a, b);
    if (strcmp(keyword, "required") == 0)
        return merge_lists(a, b, true);
    if (strcmp(keyword, "enum") == 0)
        return merge_lists(a, b, false);
    if (bb_schema_is_in(keyword, largest) || bb_schema_is_in(keyword, smallest)) {
        bool is_a = (json_number_value(a) > json_number_value(b)) == bb_schema_is_in(keyword, largest);
        return json_incref(is_a ? a : b);
    }
    if (bb_schema_is_in(keyword, schemas))
        return json_incref(bb_schema_merge(schema, a, b));
    bb_schema_fail(schema, BOMBUS_ERROR_UNSUPPORTED, keyword, "two of it that must hold at once");
    return NULL;
}

/* The schema without annotations, its const as enum, its $ref and allOf merged in. */
static json_t *flatten(struct bb_schema *schema, json_t *json)
{
    json_t *result = bb_schema_keep(schema, json_object()), *value, *part;
    const char *key;
    size_t i;
    if (result == NULL)
        return NULL;
    json_object_foreach(json, key, value) {
        if (bb_schema_is_annotation(key) || strcmp(key, "$ref") == 0 || strcmp(key, "allOf") == 0)
            continue;
        if (strcmp(key, "const") == 0)
            json_object_set_new(result, "enum", json_pack("[O]", value));
        else
            json_object_set(result, key, value);
    }
    value = json_object_get(json, "$ref");
    if (value != NULL) {
        part = bb_schema_resolve(schema, json_string_value(value));
        result = part != NULL ? bb_schema_merge(schema, result, part) : NULL;
    }
    json_array_foreach(json_object_get(json, "allOf"), i, part)
        result = result != NULL ? bb_schema_merge(schema, result, part) : NULL;
    return result;
}

static bool speaks_of_objects(json_t *json)
{
    return json_object_get(json, "properties") != NULL || json_object_get(json, "required") != NULL ||
           json_object_get(json, "additionalProperties") != NULL || json_object_get(json, "patternProperties") != NULL;
}

static json_t *merge_objects(struct bb_schema *schema, json_t *a, json_t *b)
{
    json_t *result = NULL, *value;
    const char *key;
    if ((a = flatten(schema, a)) == NULL || (b = flatten(schema, b)) == NULL ||
        (result = bb_schema_keep(schema, json_object())) == NULL)
        return NULL;
    if (json_is_false(a) || json_is_false(b))
        return json_is_false(a) ? a : b;
    if ((json_object_get(a, "patternProperties") != NULL && speaks_of_objects(b)) ||
        (json_object_get(b, "patternProperties") != NULL && speaks_of_objects(a))) {
        bb_schema_fail(schema, BOMBUS_ERROR_UNSUPPORTED, "patternProperties",
                       "not where another schema of objects must hold at once");
        return NULL;
    }
    json_t *a_properties = json_object_get(a, "properties"), *b_properties = json_object_get(b, "properties");
    if (a_properties != NULL || b_properties != NULL) {
        json_t *merged =
            merge_properties(schema, a_properties, b_properties, json_object_get(a, "additionalProperties"),
                             json_object_get(b, "additionalProperties"));
        if (merged == NULL)
            return NULL;
        json_object_set(result, "properties", merged);
    }
    for (int side = 0; side < 2; side++) {
        json_object_foreach(side == 0 ? a : b, key, value) {
            json_t *other = json_object_get(side == 0 ? b : a, key);
            if (json_object_get(result, key) != NULL)
                continue;
            json_t *merged = other != NULL ? merge_keyword(schema, key, value, other) : json_incref(value);
            if (merged == NULL || json_object_set_new(result, key, merged) != 0)
                return NULL;
        }
    }
    return result;
}

json_t *bb_schema_merge(struct bb_schema *schema, json_t *a, json_t *b)
{
    json_t *result = NULL;
    if (json_is_true(a) || json_is_false(b))
        return b;
    if (json_is_true(b) || json_is_false(a))
        return a;
    if (!json_is_object(a) || !json_is_object(b))
        bb_schema_fail(schema, BOMBUS_ERROR_FORMAT, NULL, "expected an object or a boolean");
    else if (++schema->depth > BB_MAX_NESTING || json_array_size(schema->kept) > 1 << 14)
        bb_schema_fail(schema, BOMBUS_ERROR_LIMIT, NULL, "too many schemas that must hold at once");
    else
        result = merge_objects(schema, a, b);
    schema->depth--;
    return schema->rules->status == BOMBUS_OK ? result : NULL;
}
