/* Prompt cache files: any bytes as a file; and, past the checksum, any bytes as a cache. Whatever comes of it, the session must be able to go on. Uses
 * a model of tests/fixtures, so it runs from the root of the repository. */
#include "generate/prompt_cache.h"
#include "ops/backends.h"

#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct bb_session *sessions[2]; /* plain; quantized, with the windows of max_kv_size */
static char path[] = "/tmp/bombus-fuzz-XXXXXX";
static int file = -1;

static void forget_file(void)
{
    unlink(path);
}

static void open_once(void)
{
    static const bombus_session_options options[2] = {{.context_size = 300}, {.context_size = 300, .kv_bits = 4, .max_kv_size = 20}};
    struct bb_backend *backend;
    struct bb_model *model;
    bombus_error error;
    if (file >= 0)
        return;
    file = mkstemp(path);
    atexit(forget_file);
    if (file < 0 || bb_backend_open(&backend, "cpu", &(struct bb_backend_options){.thread_count = 1}, &error) != BOMBUS_OK ||
        bb_model_open(&model, "tests/fixtures/models/qwen3-yarn-mixed", backend, &error) != BOMBUS_OK ||
        bb_sessions_create(&sessions[0], 1, model, backend, &options[0], false, &error) != BOMBUS_OK ||
        bb_sessions_create(&sessions[1], 1, model, backend, &options[1], false, &error) != BOMBUS_OK)
        abort();
}

/* A refused file leaves the session as it was (empty, here); one that was read can be gone on with. */
static void go_on(struct bb_session *session, bombus_status status)
{
    int32_t token = 5, before = session->count;
    if (status != BOMBUS_OK && before != 0)
        abort();
    if (status == BOMBUS_OK && before < bb_session_context_size(session) &&
        (bb_session_step(session, &token, 1, NULL) != BOMBUS_OK || session->count != before + 1))
        abort();
    if (bb_session_truncate(session, 0, NULL) != BOMBUS_OK)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int32_t tokens[256];
    open_once();
    if (ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != (ssize_t)size)
        abort();
    for (int i = 0; i < 2; i++) {
        bombus_error error;
        go_on(sessions[i], bb_prompt_cache_load(sessions[i], path, &error));
        int32_t count = size > 0 ? data[0] : 0; /* the low byte of the length that the bytes give */
        go_on(sessions[i], bb_session_replace(sessions[i], tokens, count, data, size, NULL, &error));
    }
    return 0;
}
