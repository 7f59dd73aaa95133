/* A model with a backend of its own. */
#ifndef OPENED_H
#define OPENED_H

#include "golden.h"
#include "model/weights.h"
#include "open_or_skip.h"
#include "ops/backends.h"

struct opened {
    struct bb_backend *backend;
    struct bb_model *model;
};

static inline void open_folder(struct opened *opened, const char *folder, int32_t thread_count)
{
    bombus_error error;
    CHECK_OK(
        bb_backend_open(&opened->backend, "cpu", &(struct bb_backend_options){.thread_count = thread_count}, &error),
        error);
    CHECK_OK(bb_model_open(&opened->model, folder, opened->backend, &error), error);
}

/* A model of the reference data or the fixtures; false where it is absent. */
static inline bool open_model(struct opened *opened, const char *name, int32_t thread_count)
{
    const char *folder = golden_model(name);
    if (folder != NULL)
        open_folder(opened, folder, thread_count);
    return folder != NULL;
}

static inline void close_model(struct opened *opened)
{
    bb_model_close(opened->model);
    bb_backend_close(opened->backend);
}

#endif
