/* Adapters: the first line of the bytes is adapter_config.json, the rest the tensors, in both formats. What opens must take part in a step; patterns of
 * PEFT's config are matched too. Uses a model of tests/fixtures, so it runs from the root of the repository. */
#include "base/file.h"
#include "files/module_pattern.h"
#include "generate/session.h"
#include "ops/backends.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct bb_model *model;
static struct bb_session *session;
static char folders[2][64]; /* mlx, peft */
static const char *const files[2] = {"adapters.safetensors", "adapter_model.safetensors"};

static void forget_folders(void)
{
    for (int i = 0; i < 2; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", folders[i], files[i]);
        unlink(path);
        snprintf(path, sizeof path, "%s/adapter_config.json", folders[i]);
        unlink(path);
        rmdir(folders[i]);
    }
}

static void open_once(void)
{
    static const bombus_session_options options = {.context_size = 16};
    struct bb_backend *backend;
    bombus_error error;
    if (model != NULL)
        return;
    for (int i = 0; i < 2; i++) {
        snprintf(folders[i], sizeof folders[i], "/tmp/bombus-fuzz-XXXXXX");
        if (mkdtemp(folders[i]) == NULL)
            abort();
    }
    atexit(forget_folders);
    if (bb_backend_open(&backend, "cpu", &(struct bb_backend_options){.thread_count = 1}, &error) != BOMBUS_OK ||
        bb_model_open(&model, "tests/fixtures/models/mixtral", backend, &error) != BOMBUS_OK ||
        bb_sessions_create(&session, 1, model, backend, &options, false, &error) != BOMBUS_OK)
        abort();
}

static void write_file(const char *folder, const char *name, const void *data, size_t size)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0)
        abort();
}

static void match_pattern(const uint8_t *data, size_t size)
{
    char pattern[64];
    bool is_match;
    bombus_error error;
    size_t length = size < sizeof pattern - 1 ? size : sizeof pattern - 1;
    if (length > 0)
        memcpy(pattern, data, length);
    pattern[length] = '\0';
    bombus_status status = bb_module_pattern_match(pattern, "model.layers.11.self_attn.q_proj", &is_match, &error);
    if (status != BOMBUS_OK && status != BOMBUS_ERROR_UNSUPPORTED)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *line = size > 0 ? memchr(data, '\n', size) : NULL;
    size_t config_size = line != NULL ? (size_t)(line - data) : size, rest = line != NULL ? size - config_size - 1 : 0;
    open_once();
    match_pattern(data, size);
    for (int i = 0; i < 2; i++) {
        struct bb_adapter *adapter;
        bombus_error error;
        const float weight = 0.5f;
        int32_t token = 1;
        write_file(folders[i], "adapter_config.json", data, config_size);
        write_file(folders[i], files[i], line != NULL ? line + 1 : data, rest);
        if (bb_adapter_open(&adapter, model, folders[i], NULL, &error) != BOMBUS_OK)
            continue;
        if (bb_session_set_adapters(session, &adapter, &weight, 1, NULL) != BOMBUS_OK ||
            bb_session_truncate(session, 0, NULL) != BOMBUS_OK ||
            bb_session_step(session, &token, 1, NULL) != BOMBUS_OK)
            abort();
        bb_adapter_close(adapter);
    }
    return 0;
}
