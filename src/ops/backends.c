/* The list of devices. */
#include "ops/backends.h"

#include <string.h>

bombus_status bb_backend_open(struct bb_backend **backend, const char *name, const struct bb_backend_options *options,
                              bombus_error *error)
{
    *backend = NULL;
    if (name == NULL || strcmp(name, "auto") == 0 || strcmp(name, "cpu") == 0)
        return bb_cpu_open(backend, options, error);
    return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED, "device \"%s\": this build has auto, cpu", name);
}

const char *bb_backend_name(size_t index)
{
    return index == 0 ? "cpu" : NULL;
}

void bb_backend_close(struct bb_backend *backend)
{
    if (backend != NULL)
        backend->table->close(backend);
}

const char *bb_backend_describe(const struct bb_backend *backend)
{
    return backend->table->describe(backend);
}
