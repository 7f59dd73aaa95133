/* Finds and opens a model folder's chat template. */
#include "text/chat.h"

#include "base/file.h"
#include "base/memory.h"

#include <jansson.h>
#include <string.h>

enum { MAX_TEMPLATE_FILE = 64 << 20 }; /* bytes; tokenizer_config.json lists added tokens too */

/* Reads folder/file; BOMBUS_ERROR_NOT_FOUND if it is not there. */
static bombus_status read_file(char **data, size_t *size, const char *folder, const char *file, bombus_error *error)
{
    char *path = bb_path_join(folder, file);
    *data = NULL;
    if (path == NULL)
        return bb_fail_memory(error, strlen(folder), "a path");
    bombus_status status = bb_file_exists(path) ? bb_file_read(data, size, path, MAX_TEMPLATE_FILE, error)
                                                : bb_fail(error, BOMBUS_ERROR_NOT_FOUND, "%s: no such file", path);
    bb_release(path);
    return status;
}

/* The entry `name` of [{"name": ..., "template": ...}, ...]. */
static const json_t *find_entry(const json_t *entries, const char *name)
{
    for (size_t i = 0; i < json_array_size(entries); i++) {
        const json_t *entry = json_array_get(entries, i);
        const char *entry_name = json_string_value(json_object_get(entry, "name"));
        if (entry_name != NULL && strcmp(entry_name, name) == 0)
            return json_object_get(entry, "template");
    }
    return NULL;
}

static bombus_status copy_source(char **source, size_t *length, const json_t *text, bombus_error *error)
{
    *length = json_string_length(text);
    *source = bb_copy_text(json_string_value(text), *length);
    return *source != NULL ? BOMBUS_OK : bb_fail_memory(error, *length, "a chat template");
}

/* chat_template of a JSON file: text, or a list of named ones. */
static bombus_status read_json(char **source, size_t *length, const char *folder, const char *file, const char *name,
                               bombus_error *error)
{
    char *data;
    size_t size;
    json_error_t json_error;
    bombus_status status = read_file(&data, &size, folder, file, error);
    if (status != BOMBUS_OK)
        return status;
    json_t *root = json_loadb(data, size, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &json_error);
    bb_release(data);
    if (root == NULL)
        return bb_fail_at(error, BOMBUS_ERROR_FORMAT, json_error.line, json_error.column, "%s/%s: %s", folder, file,
                          json_error.text);
    const json_t *text = json_object_get(root, "chat_template");
    const char *wanted = name != NULL ? name : "default";
    bool is_named = json_is_array(text);
    if (is_named)
        text = find_entry(text, wanted);
    if (json_is_string(text) && (is_named || strcmp(wanted, "default") == 0))
        status = copy_source(source, length, text, error);
    else if (text != NULL && !json_is_null(text) && !json_is_string(text))
        status = bb_fail(error, BOMBUS_ERROR_FORMAT, "%s/%s: chat_template must be text or a list of {name, template}",
                         folder, file);
    else
        status = bb_fail(error, BOMBUS_ERROR_NOT_FOUND, "%s: no chat template \"%s\" in %s", folder, wanted, file);
    json_decref(root);
    return status;
}

/* additional_chat_templates/NAME.jinja, as transformers saves named ones beside chat_template.jinja. */
static bombus_status read_named(char **source, size_t *length, const char *folder, const char *name,
                                bombus_error *error)
{
    char *file = NULL;
    size_t size = strlen(name) + sizeof "additional_chat_templates/.jinja";
    if (strchr(name, '/') != NULL)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "chat template \"%s\": a name has no '/'", name);
    if ((file = bb_allocate(size, 1)) == NULL)
        return bb_fail_memory(error, size, "a path");
    strcat(strcat(strcpy(file, "additional_chat_templates/"), name), ".jinja");
    bombus_status status = read_file(source, length, folder, file, error);
    bb_release(file);
    return status;
}

bombus_status bb_chat_template_source(char **source, size_t *length, const char *folder, const char *name,
                                      bombus_error *error)
{
    static const char *const files[] = {"chat_template.json", "tokenizer_config.json"};
    bool wants_default = name == NULL || strcmp(name, "default") == 0;
    bombus_status status = wants_default ? read_file(source, length, folder, "chat_template.jinja", error)
                                         : read_named(source, length, folder, name, error);
    for (size_t i = 0; i < BB_COUNT(files) && status == BOMBUS_ERROR_NOT_FOUND; i++)
        status = read_json(source, length, folder, files[i], name, error);
    if (status == BOMBUS_ERROR_NOT_FOUND && wants_default)
        return bb_fail(error, status,
                       "%s: no chat template (chat_template.jinja, chat_template.json, or chat_template in "
                       "tokenizer_config.json)",
                       folder);
    return status == BOMBUS_ERROR_NOT_FOUND ? bb_fail(error, status, "%s: no chat template named \"%s\"", folder, name)
                                            : status;
}

bombus_status bb_chat_template_open(struct bb_template **template_, const char *folder, const char *name,
                                    bombus_error *error)
{
    char *source;
    size_t length;
    *template_ = NULL;
    bombus_status status = bb_chat_template_source(&source, &length, folder, name, error);
    if (status != BOMBUS_OK)
        return status;
    status = bb_template_create(template_, source, length, NULL, error);
    bb_release(source);
    return status;
}
