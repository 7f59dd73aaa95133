/* Reads the fields of tokenizer.json's components. */
#include "text/component.h"

#include <string.h>

bombus_status bb_component_fail(const struct bb_component *component, const char *key, const char *expected)
{
    return bb_fail(component->error, BOMBUS_ERROR_FORMAT, "%s: %s: '%s' must be %s", component->path, component->where,
                   key, expected);
}

bombus_status bb_component_kind(const struct bb_component *component, const char *const *names, size_t name_count,
                                size_t *kind)
{
    struct bb_buffer known = {0};
    const char *type = json_string_value(json_object_get(component->json, "type"));
    if (type == NULL)
        return bb_component_fail(component, "type", "a text");
    for (*kind = 0; *kind < name_count; ++*kind)
        if (strcmp(names[*kind], type) == 0)
            return BOMBUS_OK;
    for (size_t i = 0; i < name_count; i++)
        bb_buffer_format(&known, "%s%s", i > 0 ? ", " : "", names[i]);
    bombus_status status =
        bb_fail(component->error, BOMBUS_ERROR_UNSUPPORTED, "%s: %s of type '%.100s' is not supported; known are %s",
                component->path, component->where, type, known.data != NULL ? known.data : "others");
    bb_buffer_clear(&known);
    return status;
}

bombus_status bb_component_text(const struct bb_component *component, const char *key, const char **text,
                                size_t *length)
{
    json_t *value = json_object_get(component->json, key);
    if (!json_is_string(value))
        return bb_component_fail(component, key, "a text");
    *text = json_string_value(value);
    *length = json_string_length(value);
    return BOMBUS_OK;
}

bombus_status bb_component_list(const struct bb_component *component, const char *key, json_t **list)
{
    *list = json_object_get(component->json, key);
    return json_is_array(*list) ? BOMBUS_OK : bb_component_fail(component, key, "a list");
}

bombus_status bb_component_flag(const struct bb_component *component, const char *key, bool absent, bool *flag)
{
    json_t *value = json_object_get(component->json, key);
    *flag = absent;
    if (value == NULL || json_is_null(value))
        return BOMBUS_OK;
    if (!json_is_boolean(value))
        return bb_component_fail(component, key, "true or false");
    *flag = json_is_true(value);
    return BOMBUS_OK;
}

bombus_status bb_component_count(const struct bb_component *component, const char *key, size_t *count)
{
    json_t *value = json_object_get(component->json, key);
    *count = 0;
    if (value == NULL || json_is_null(value))
        return BOMBUS_OK;
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return bb_component_fail(component, key, "a whole number");
    *count = (size_t)json_integer_value(value);
    return BOMBUS_OK;
}

bombus_status bb_component_pattern(const struct bb_component *component, struct bb_regex **regex)
{
    json_t *pattern = json_object_get(component->json, "pattern");
    json_t *literal = json_object_get(pattern, "String"), *expression = json_object_get(pattern, "Regex");
    json_t *text = literal != NULL ? literal : expression;
    if (!json_is_string(text))
        return bb_component_fail(component, "pattern", "{\"String\": text} or {\"Regex\": text}");
    bombus_status status =
        bb_regex_create(regex, json_string_value(text), json_string_length(text), literal != NULL, component->error);
    return status;
}

/* The component for an item of a sequence. */
static bombus_status enter_item(const struct bb_component *component, json_t *item, struct bb_component *inner)
{
    *inner = *component;
    inner->json = item;
    inner->depth++;
    if (inner->depth > BB_MAX_COMPONENT_DEPTH)
        return bb_fail(component->error, BOMBUS_ERROR_LIMIT, "%s: %s: more than %d sequences inside of each other",
                       component->path, component->where, BB_MAX_COMPONENT_DEPTH);
    return BOMBUS_OK;
}

bombus_status bb_component_walk(const struct bb_component *component, const char *const *names, size_t name_count,
                                const char *key, bb_component_visit visit, void *context)
{
    size_t kind;
    json_t *list;
    struct bb_component inner;
    bombus_status status = bb_component_kind(component, names, name_count, &kind);
    if (status != BOMBUS_OK)
        return status;
    if (strcmp(names[kind], "Sequence") != 0)
        return visit(context, kind, component);
    status = bb_component_list(component, key, &list);
    for (size_t i = 0; status == BOMBUS_OK && i < json_array_size(list); i++) {
        status = enter_item(component, json_array_get(list, i), &inner);
        if (status == BOMBUS_OK)
            status = bb_component_walk(&inner, names, name_count, key, visit, context);
    }
    return status;
}
