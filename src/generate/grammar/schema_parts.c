/* What the readers of a schema share: errors that name the place, its words, references into the document. */
#include "generate/grammar/schema_parts.h"

#include <stdlib.h>
#include <string.h>

bombus_status bb_schema_fail(struct bb_schema *schema, bombus_status status, const char *keyword, const char *message)
{
    const char *path = schema->path.length > 0 ? schema->path.data : "";
    if (schema->rules->status == BOMBUS_OK)
        schema->rules->status =
            keyword != NULL ? bb_fail(schema->error, status, "schema, %s/%s: '%s': %s", path, keyword, keyword, message)
                            : bb_fail(schema->error, status, "schema, at '%s': %s", path, message);
    return schema->rules->status;
}

size_t bb_schema_enter(struct bb_schema *schema, const char *key)
{
    size_t length = schema->path.length;
    bb_buffer_add_byte(&schema->path, '/');
    for (; *key != '\0'; key++) {
        if (*key == '~' || *key == '/')
            bb_buffer_add_text(&schema->path, *key == '~' ? "~0" : "~1");
        else
            bb_buffer_add_byte(&schema->path, *key);
    }
    if (schema->path.is_failed)
        bb_schema_fail(schema, BOMBUS_ERROR_MEMORY, NULL, "out of memory");
    return length;
}

void bb_schema_leave(struct bb_schema *schema, size_t length)
{
    schema->path.length = length;
    if (schema->path.data != NULL)
        schema->path.data[length] = '\0';
}

bool bb_schema_is_in(const char *word, const char *const *words)
{
    for (; *words != NULL; words++)
        if (strcmp(word, *words) == 0)
            return true;
    return false;
}

bool bb_schema_is_annotation(const char *keyword)
{
    static const char *const annotations[] = {"title", "description", "default",    "examples", "$schema",
                                              "$id",   "$comment",    "deprecated", "readOnly", "writeOnly",
                                              "$defs", "definitions", NULL};
    return bb_schema_is_in(keyword, annotations);
}

json_t *bb_schema_resolve(struct bb_schema *schema, const char *reference)
{
    json_t *found = schema->root;
    char key[256];
    if (reference == NULL || reference[0] != '#' || (reference[1] != '\0' && reference[1] != '/') ||
        strchr(reference, '%') != NULL) {
        bb_schema_fail(schema, BOMBUS_ERROR_UNSUPPORTED, "$ref", "expected # or #/ and a JSON pointer");
        return NULL;
    }
    for (const char *next = reference + 1; *next == '/' && found != NULL;) {
        size_t length = 0;
        for (next++; *next != '/' && *next != '\0' && length + 1 < sizeof key; next++) {
            bool is_escape = *next == '~' && (next[1] == '0' || next[1] == '1');
            key[length++] = is_escape ? (next[1] == '0' ? '~' : '/') : *next;
            next += is_escape;
        }
        key[length] = '\0';
        bool is_index = length > 0 && length < 10 && strspn(key, "0123456789") == length;
        if (*next != '/' && *next != '\0')
            found = NULL;
        else if (json_is_array(found))
            found = is_index ? json_array_get(found, (size_t)strtoul(key, NULL, 10)) : NULL;
        else
            found = json_object_get(found, key);
    }
    if (found == NULL)
        bb_schema_fail(schema, BOMBUS_ERROR_FORMAT, "$ref", "it points at nothing");
    return found;
}
