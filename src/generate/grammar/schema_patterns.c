/* JSON Schema: patternProperties. A key takes the schema of each pattern that is found in it; here a key must belong to
 * one pattern or name alone, and what cannot be told apart is refused. */
#include "generate/grammar/schema_parts.h"

#include "generate/grammar/configurations.h"

#include <string.h>

enum { PREFIX_SIZE = 64 };

/* The plain text that all keys of a pattern begin with: what stands between ^ and the first character of meaning. */
static size_t read_prefix(const char *pattern, char *prefix)
{
    size_t length = 0;
    if (pattern[0] != '^' || strchr(pattern, '|') != NULL)
        return 0;
    for (pattern++; *pattern != '\0' && strchr("\\^$.[](){}*+?", *pattern) == NULL && length < PREFIX_SIZE; pattern++)
        prefix[length++] = *pattern;
    if (length > 0 && *pattern != '\0' && strchr("*?{", *pattern) != NULL)
        length--; /* may be there or not */
    return length;
}

/* No key has both patterns: their beginnings differ. */
static bool are_apart(const char *a, const char *b)
{
    char prefixes[2][PREFIX_SIZE];
    size_t a_length = read_prefix(a, prefixes[0]), b_length = read_prefix(b, prefixes[1]);
    return memcmp(prefixes[0], prefixes[1], a_length < b_length ? a_length : b_length) != 0;
}

/* The automaton's way through the bytes of a key. */
static bool accepts(const struct bb_automaton *automaton, const char *key, bombus_status *status)
{
    struct bb_mover mover = {.automaton = automaton};
    struct bb_configurations now = {0}, next = {0};
    if (bb_frames_reset(&mover.frames))
        bb_mover_land(&mover, &now, automaton->root, 0);
    else
        now.status = BOMBUS_ERROR_MEMORY;
    bb_mover_close(&mover, &now);
    for (; *key != '\0' && now.status == BOMBUS_OK; key++) {
        bb_mover_step(&mover, &now, (uint8_t)*key, &next);
        struct bb_configurations kept = now;
        now = next;
        next = kept;
        bb_mover_close(&mover, &now);
    }
    bool is_accepted = now.ends;
    *status = now.status;
    bb_frames_clear(&mover.frames);
    bb_configurations_clear(&now);
    bb_configurations_clear(&next);
    return is_accepted;
}

bool bb_schema_matches_any(struct bb_schema *schema, const char *pattern, json_t *keys)
{
    struct bb_rules rules = {.error = schema->error};
    struct bb_automaton automaton = {0};
    uint32_t rule = bb_rules_add(&rules), node;
    bool is_found = false;
    const char *key;
    json_t *value;
    bombus_status status = bb_pattern_add(&rules, pattern, strlen(pattern), BB_PATTERN_FOUND, &node, schema->error);
    if (status == BOMBUS_OK) {
        bb_rules_define(&rules, rule, node);
        status = bb_automaton_create(&automaton, &rules, schema->error);
    }
    json_object_foreach(keys, key, value)
        if (status == BOMBUS_OK && !is_found)
            is_found = accepts(&automaton, key, &status);
    if (status != BOMBUS_OK)
        bb_schema_fail(schema, status, "patternProperties", "a pattern that cannot be compared with keys");
    bb_automaton_clear(&automaton);
    bb_rules_clear(&rules);
    return is_found;
}

void bb_schema_check_patterns(struct bb_schema *schema, json_t *json)
{
    json_t *patterns = json_object_get(json, "patternProperties"), *properties = json_object_get(json, "properties");
    json_t *rest = json_object_get(json, "additionalProperties"), *value;
    const char *pattern, *other;
    if (rest != NULL && !json_is_false(rest) && json_object_size(patterns) > 0)
        bb_schema_fail(schema, BOMBUS_ERROR_UNSUPPORTED, "additionalProperties",
                       "beside patternProperties only false is supported");
    json_object_foreach(patterns, pattern, value) {
        for (void *next = json_object_iter_at(patterns, pattern); next != NULL;
             next = json_object_iter_next(patterns, next)) {
            other = json_object_iter_key(next);
            if (strcmp(other, pattern) != 0 && !are_apart(pattern, other))
                bb_schema_fail(schema, BOMBUS_ERROR_UNSUPPORTED, "patternProperties",
                               "several patterns are supported where they begin with ^ and different text");
        }
        if (json_object_size(properties) > 0 && schema->rules->status == BOMBUS_OK &&
            bb_schema_matches_any(schema, pattern, properties))
            bb_schema_fail(schema, BOMBUS_ERROR_UNSUPPORTED, "patternProperties",
                           "a pattern that is found in a key of properties is not supported");
    }
}
