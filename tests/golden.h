/* Models of the reference data and of tests/fixtures, and ids to feed them. */
#ifndef GOLDEN_H
#define GOLDEN_H

#include "test.h"

#include <jansson.h>
#include <string.h>

struct golden_ids {
    int32_t ids[512];
    size_t count;
};

/* The ids at reference/`model`/reference.json: prompt `name`, or the perplexity text (name NULL); for models of the fixtures, which have none, 200 ids
 * of no meaning. False where the model is absent. */
static inline bool golden_ids(struct golden_ids *result, const char *model, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "tests/fixtures/models/%s", model);
    if (access(path, R_OK) == 0) {
        for (result->count = 0; result->count < 200; result->count++)
            result->ids[result->count] = (int32_t)(result->count * 37 % 89 + result->count % 5);
        return true;
    }
    snprintf(path, sizeof path, "reference/%s/reference.json", model);
    const char *found = golden_path(path);
    json_t *json = found != NULL ? json_load_file(found, 0, NULL) : NULL;
    if (json == NULL)
        return false;
    json_t *ids = json_object_get(json_object_get(json, "perplexity"), "ids"), *prompt;
    size_t index;
    if (name != NULL)
        json_array_foreach(json_object_get(json, "prompts"), index,
                           prompt) if (strcmp(json_string_value(json_object_get(prompt, "name")), name) == 0) ids =
            json_object_get(prompt, "ids");
    result->count = json_array_size(ids);
    assert_in_range(result->count, 1, 512);
    for (size_t i = 0; i < result->count; i++)
        result->ids[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    json_decref(json);
    return true;
}

/* Folder of a model; NULL where absent. */
static inline const char *golden_model(const char *model)
{
    static char fixture[128];
    char path[128];
    snprintf(fixture, sizeof fixture, "tests/fixtures/models/%s", model);
    if (access(fixture, R_OK) == 0)
        return fixture;
    snprintf(path, sizeof path, "models/%s/config.json", model);
    if (golden_path(path) == NULL)
        return NULL;
    snprintf(path, sizeof path, "models/%s", model);
    return golden_path(path);
}

#endif
