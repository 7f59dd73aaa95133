/* From --adapter-path to adapters at work in a session. */
#include "cli/adapter_options.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/model_options.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const struct option adapter_options[1] = {
    {"adapter-path", 'a', OPTION_LIST, offsetof(struct adapter_settings, adapters), "DIR[=SCALE]",
     .help = "LoRA adapter: folder or hf:owner/name; SCALE multiplies its own scale, 1 if not given"},
};

bombus_status adapter_split(const char *text, char **reference, float *factor, bombus_error *error)
{
    const char *sign = bb_folder_exists(text) ? NULL : strrchr(text, '=');
    size_t length = sign != NULL ? (size_t)(sign - text) : strlen(text);
    char *end = NULL;
    *factor = sign != NULL ? strtof(sign + 1, &end) : 1.0f;
    *reference = NULL;
    if (length == 0 || (sign != NULL && (end == sign + 1 || *end != '\0' || !isfinite(*factor))))
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "--adapter-path: '%.200s', expected DIR or DIR=SCALE with a number", text);
    *reference = bb_copy_text(text, length);
    return *reference != NULL ? BOMBUS_OK : bb_fail_memory(error, length, "--adapter-path");
}

static bombus_status open_one(struct adapters *adapters, const char *text, const bombus_model *model, bombus_error *error)
{
    char *reference, *folder = NULL;
    bombus_status status = adapter_split(text, &reference, &adapters->factors[adapters->count], error);
    if (status == BOMBUS_OK)
        status = model_resolve(&folder, reference, error);
    if (status == BOMBUS_OK)
        status = bombus_adapter_open(&adapters->list[adapters->count], model, folder, NULL, error);
    if (status == BOMBUS_OK)
        adapters->names[adapters->count++] = text;
    bombus_free(folder);
    bb_release(reference);
    return status;
}

bombus_status adapters_open(struct adapters *adapters, const struct adapter_settings *settings, const bombus_model *model, bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    *adapters = (struct adapters){0};
    for (size_t i = 0; i < settings->adapters.count && status == BOMBUS_OK; i++)
        status = open_one(adapters, settings->adapters.values[i], model, error);
    return status;
}

void adapters_close(struct adapters *adapters)
{
    for (size_t i = 0; i < adapters->count; i++)
        bombus_adapter_close(adapters->list[i]);
    adapters->count = 0;
}

bombus_status adapters_apply(const struct adapters *adapters, bombus_session *session, bombus_error *error)
{
    return bombus_session_set_adapters(session, (const bombus_adapter *const *)adapters->list, adapters->factors, adapters->count, error);
}
