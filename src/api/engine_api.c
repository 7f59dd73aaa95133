/* Engines. */
#include "api/handles.h"
#include "generate/engine.h"

struct bombus_engine {
    struct bb_engine *engine;
    bombus_model *model;
};

bombus_status bombus_engine_create(bombus_engine **engine, bombus_model *model, const bombus_tokenizer *tokenizer,
                                   const bombus_engine_options *options, bombus_error *error)
{
    static const bombus_engine_options defaults;
    bombus_status status = bb_check_pointer(engine, "engine", error);
    if (status != BOMBUS_OK)
        return status;
    *engine = NULL;
    status = bb_check_pointer(model, "model", error);
    if (status != BOMBUS_OK)
        return status;
    options = options != NULL ? options : &defaults;
    bombus_engine *made = bb_allocate(1, sizeof *made);
    if (made == NULL)
        return bb_fail_memory(error, sizeof *made, "an engine");
    bool is_exact = options->has_precision ? options->precision == BOMBUS_PRECISION_EXACT : model->is_exact;
    status = bb_engine_create(&made->engine, model->model, model->backend,
                              tokenizer != NULL ? tokenizer->tokenizer : NULL, options, is_exact, error);
    if (status != BOMBUS_OK) {
        bb_release(made);
        return status;
    }
    made->model = model;
    atomic_fetch_add_explicit(&model->holders, 1, memory_order_relaxed); /* the caller has a hold while this runs */
    *engine = made;
    return BOMBUS_OK;
}

void bombus_engine_free(bombus_engine *engine)
{
    if (engine == NULL)
        return;
    bb_engine_free(engine->engine);
    bombus_model_close(engine->model);
    bb_release(engine);
}

bombus_status bombus_engine_submit(bombus_engine *engine, const bombus_request *request, uint64_t *id,
                                   bombus_error *error)
{
    bombus_status status = bb_check_pointer(engine, "engine", error);
    if (status == BOMBUS_OK)
        status = bb_check_pointer(request, "request", error);
    struct bb_adapter_choice *adapters = NULL;
    if (status == BOMBUS_OK)
        status = bb_choose_adapters(&adapters, engine->model->model, request->adapters, request->adapter_weights,
                                    request->adapter_count, error);
    return status != BOMBUS_OK ? status : bb_engine_submit(engine->engine, request, adapters, id, error);
}

bool bombus_engine_cancel(bombus_engine *engine, uint64_t id)
{
    return engine != NULL && bb_engine_cancel(engine->engine, id);
}

void bombus_engine_get_stats(const bombus_engine *engine, bombus_engine_stats *stats)
{
    if (stats == NULL)
        return;
    *stats = (bombus_engine_stats){0};
    if (engine != NULL)
        bb_engine_get_stats(engine->engine, stats);
}
