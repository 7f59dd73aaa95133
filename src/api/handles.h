/* The wall behind bombus.h: what the public handles hold, and the checks of arguments that every function makes. */
#ifndef BB_HANDLES_H
#define BB_HANDLES_H

#include "base/memory.h"
#include "generate/grammar/constraint_cache.h"
#include "generate/session.h"
#include "ops/backends.h"
#include "text/chat.h"
#include "text/tokenizer.h"

#include <stdatomic.h>

/* The caller's handle is one hold, each session has another; whoever lets the last one go closes the model. */
struct bombus_model {
    atomic_size_t holders;
    struct bb_backend *backend;
    struct bb_model *model;
    bool is_exact;
    int32_t thread_count; /* as asked for */
};

struct bombus_session {
    struct bb_session *session;
    bombus_model *model;
};

/* A hold of the adapter, which is counted itself. */
struct bombus_adapter {
    struct bb_adapter *adapter;
};

/* What the adapters' handles hold, with their weights (NULL: each 1), as one choice for a model (api/adapter_api.c). */
BB_RESULT bombus_status bb_choose_adapters(struct bb_adapter_choice **choice, const struct bb_model *model,
                                           const bombus_adapter *const *adapters, const float *weights, size_t count,
                                           bombus_error *error);

struct bombus_tokenizer {
    struct bb_tokenizer *tokenizer;
    struct bb_constraint_cache *constraints;
};

struct bombus_template {
    struct bb_template *compiled;
};

/* BOMBUS_ERROR_ARGUMENT with the argument's name if it is NULL. */
BB_RESULT static inline bombus_status bb_check_pointer(const void *pointer, const char *name, bombus_error *error)
{
    return pointer != NULL ? BOMBUS_OK : bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: NULL", name);
}

/* The same for an array, which may be NULL if it is empty. */
BB_RESULT static inline bombus_status bb_check_array(const void *array, size_t count, const char *name,
                                                     bombus_error *error)
{
    return count == 0 ? BOMBUS_OK : bb_check_pointer(array, name, error);
}

#endif
