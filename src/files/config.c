/* config.json (or any JSON object file) by dotted path, with errors that name file, key and what was expected. */
#include "files/config.h"

#include "base/file.h"
#include "base/memory.h"

#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

enum { MAX_CONFIG_SIZE = 64 << 20, MAX_KEY_LENGTH = 1024 };

struct bb_config {
    json_t *root;
    char *path;
};

bombus_status bb_config_parse(struct bb_config **config, const char *text, size_t length, const char *path,
                              bombus_error *error)
{
    *config = NULL;
    struct bb_config *made = bb_allocate(1, sizeof *made);
    bombus_status status = BOMBUS_OK;
    json_error_t place;
    if (made == NULL || (made->path = bb_copy_text(path, strlen(path))) == NULL) {
        status = bb_fail_memory(error, sizeof *made + strlen(path), path);
        goto done;
    }
    /* Numbers as doubles: "model_max_length" of 10^30 is a usual value and no int64. Keys given twice: the last counts,
     * as in Python. */
    made->root = json_loadb(text, length, JSON_DECODE_INT_AS_REAL | JSON_ALLOW_NUL, &place);
    if (made->root == NULL && json_error_code(&place) == json_error_out_of_memory)
        status = bb_fail_memory(error, length, path);
    else if (made->root == NULL)
        status = bb_fail_at(error, BOMBUS_ERROR_FORMAT, place.line, place.column, "%s: line %d, column %d: %s", path,
                            place.line, place.column, place.text);
    else if (!json_is_object(made->root))
        status = bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: must hold a JSON object", path);
done:
    if (status != BOMBUS_OK)
        bb_config_close(made);
    else
        *config = made;
    return status;
}

bombus_status bb_config_open(struct bb_config **config, const char *path, bombus_error *error)
{
    char *text;
    size_t length;
    *config = NULL;
    bombus_status status = bb_file_read(&text, &length, path, MAX_CONFIG_SIZE, error);
    if (status != BOMBUS_OK)
        return status;
    status = bb_config_parse(config, text, length, path, error);
    bb_release(text);
    return status;
}

void bb_config_close(struct bb_config *config)
{
    if (config == NULL)
        return;
    json_decref(config->root);
    bb_release(config->path);
    bb_release(config);
}

const char *bb_config_path(const struct bb_config *config)
{
    return config->path;
}

/* The value at a path of keys; NULL if absent. */
static json_t *find(const struct bb_config *config, const char *key)
{
    json_t *value = config->root;
    while (*key != '\0' && value != NULL) {
        char part[MAX_KEY_LENGTH];
        size_t length = strcspn(key, "/");
        if (length >= sizeof part)
            return NULL;
        memcpy(part, key, length);
        part[length] = '\0';
        value = json_object_get(value, part);
        key += length + (key[length] == '/');
    }
    return value;
}

static bool is_absent(const json_t *value)
{
    return value == NULL || json_is_null(value);
}

static bombus_status fail_type(const struct bb_config *config, const char *key, const char *expected,
                               bombus_error *error)
{
    return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: '%s' must be %s", config->path, key, expected);
}

bombus_status bb_config_integer(const struct bb_config *config, const char *key, int64_t fallback, int64_t minimum,
                                int64_t maximum, int64_t *value, bombus_error *error)
{
    const json_t *found = find(config, key);
    *value = fallback;
    if (is_absent(found))
        return BOMBUS_OK;
    double number = json_real_value(found);
    /* 2^63 itself is no int64: the comparison is by < */
    if (!json_is_real(found) || number != floor(number) || !(number >= -0x1p63 && number < 0x1p63))
        return fail_type(config, key, "a whole number", error);
    if ((int64_t)number < minimum || (int64_t)number > maximum)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: '%s' is %" PRId64 ", must be within %" PRId64 " and %" PRId64,
                       config->path, key, (int64_t)number, minimum, maximum);
    *value = (int64_t)number;
    return BOMBUS_OK;
}

bombus_status bb_config_number(const struct bb_config *config, const char *key, double fallback, double *value,
                               bombus_error *error)
{
    const json_t *found = find(config, key);
    *value = is_absent(found) ? fallback : json_real_value(found);
    return is_absent(found) || json_is_real(found) ? BOMBUS_OK : fail_type(config, key, "a number", error);
}

bombus_status bb_config_boolean(const struct bb_config *config, const char *key, bool fallback, bool *value,
                                bombus_error *error)
{
    const json_t *found = find(config, key);
    *value = is_absent(found) ? fallback : json_is_true(found);
    return is_absent(found) || json_is_boolean(found) ? BOMBUS_OK : fail_type(config, key, "true or false", error);
}

/* Text with a NUL inside would be read by its beginning alone. */
static bool is_text(const json_t *value)
{
    return json_is_string(value) && strlen(json_string_value(value)) == json_string_length(value);
}

bombus_status bb_config_text(const struct bb_config *config, const char *key, const char *fallback, const char **value,
                             bombus_error *error)
{
    const json_t *found = find(config, key);
    *value = is_absent(found) ? fallback : json_string_value(found);
    return is_absent(found) || is_text(found) ? BOMBUS_OK : fail_type(config, key, "text", error);
}

enum bb_config_type bb_config_type(const struct bb_config *config, const char *key)
{
    const json_t *found = find(config, key);
    if (found == NULL)
        return BB_CONFIG_ABSENT;
    switch (json_typeof(found)) {
    case JSON_OBJECT: return BB_CONFIG_OBJECT;
    case JSON_ARRAY: return BB_CONFIG_ARRAY;
    case JSON_STRING: return BB_CONFIG_TEXT;
    case JSON_INTEGER:
    case JSON_REAL: return BB_CONFIG_NUMBER;
    case JSON_TRUE:
    case JSON_FALSE: return BB_CONFIG_BOOLEAN;
    case JSON_NULL: break;
    }
    return BB_CONFIG_NULL;
}

size_t bb_config_array_length(const struct bb_config *config, const char *key)
{
    const json_t *found = find(config, key);
    if (json_is_array(found))
        return json_array_size(found);
    return json_is_real(found) || json_is_string(found) ? 1 : 0;
}

static const json_t *find_element(const struct bb_config *config, const char *key, size_t index)
{
    const json_t *found = find(config, key);
    return json_is_array(found) ? json_array_get(found, index) : index == 0 ? found : NULL;
}

bombus_status bb_config_array_number(const struct bb_config *config, const char *key, size_t index, double *value,
                                     bombus_error *error)
{
    const json_t *element = find_element(config, key, index);
    *value = json_real_value(element);
    if (!json_is_real(element))
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: element %zu of '%s' must be a number", config->path, index,
                       key);
    return BOMBUS_OK;
}

bombus_status bb_config_array_text(const struct bb_config *config, const char *key, size_t index, const char **value,
                                   bombus_error *error)
{
    const json_t *element = find_element(config, key, index);
    *value = NULL;
    if (!is_text(element))
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: element %zu of '%s' must be text", config->path, index, key);
    *value = json_string_value(element);
    return BOMBUS_OK;
}

const char *bb_config_object_key(const struct bb_config *config, const char *key, size_t index)
{
    json_t *found = find(config, key);
    void *place = json_object_iter(found);
    while (place != NULL && index-- > 0)
        place = json_object_iter_next(found, place);
    return place != NULL ? json_object_iter_key(place) : NULL;
}
