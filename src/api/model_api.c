/* The library itself, models and the machine. */
#include "api/handles.h"
#include "base/bandwidth.h"

#include <math.h>

const char *bombus_version(void)
{
    return BOMBUS_VERSION;
}

void bombus_free(void *memory)
{
    bb_release(memory);
}

const char *bombus_device_name(size_t index)
{
    return bb_backend_name(index);
}

static bombus_status check_options(const bombus_model_options *options, bombus_error *error)
{
    if (options->thread_count < 0)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "thread_count: %d, expected 0 (all cores) or more",
                       options->thread_count);
    if (options->precision != BOMBUS_PRECISION_FAST && options->precision != BOMBUS_PRECISION_EXACT)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "precision: %d is not one of BOMBUS_PRECISION_...",
                       (int)options->precision);
    return BOMBUS_OK;
}

static void release_model(bombus_model *model)
{
    bb_model_close(model->model);
    bb_backend_close(model->backend);
    bb_release(model);
}

bombus_status bombus_model_open(bombus_model **model, const char *folder, const bombus_model_options *options,
                                bombus_error *error)
{
    static const bombus_model_options defaults;
    bombus_status status = bb_check_pointer(model, "model", error);
    if (status != BOMBUS_OK)
        return status;
    *model = NULL;
    options = options != NULL ? options : &defaults;
    status = bb_check_pointer(folder, "folder", error);
    if (status == BOMBUS_OK)
        status = check_options(options, error);
    if (status != BOMBUS_OK)
        return status;
    bombus_model *made = bb_allocate(1, sizeof *made);
    if (made == NULL)
        return bb_fail_memory(error, sizeof *made, "a model");
    struct bb_backend_options backend_options = {.thread_count = options->thread_count,
                                                 .cpu_level = options->cpu_level};
    atomic_init(&made->holders, 1);
    made->thread_count = options->thread_count;
    made->is_exact = options->precision == BOMBUS_PRECISION_EXACT;
    status = bb_backend_open(&made->backend, options->device, &backend_options, error);
    if (status == BOMBUS_OK)
        status = bb_model_open(&made->model, folder, made->backend, error);
    if (status == BOMBUS_OK)
        *model = made;
    else
        release_model(made);
    return status;
}

void bombus_model_close(bombus_model *model)
{
    /* acquire and release: all that other holders did comes before the closing */
    if (model != NULL && atomic_fetch_sub_explicit(&model->holders, 1, memory_order_acq_rel) == 1)
        release_model(model);
}

void bombus_model_get_info(const bombus_model *model, bombus_model_info *info)
{
    if (info == NULL)
        return;
    *info = (bombus_model_info){0};
    if (model == NULL)
        return;
    const struct bb_recipe *recipe = &model->model->recipe;
    *info = (bombus_model_info){.architecture = recipe->model_type,
                                .device = bb_backend_describe(model->backend),
                                .parameter_count = model->model->parameter_count,
                                .weight_bytes = (int64_t)model->model->weight_bytes,
                                .bytes_per_token = (int64_t)model->model->bytes_per_token,
                                .vocab_size = recipe->vocab_size,
                                .hidden_size = recipe->hidden_size,
                                .layer_count = recipe->num_hidden_layers,
                                .max_position_embeddings = recipe->max_position_embeddings};
}

bombus_status bombus_measure_bandwidth(double *bytes_per_second, int32_t thread_count, size_t bytes, double seconds,
                                       bombus_error *error)
{
    bombus_status status = bb_check_pointer(bytes_per_second, "bytes_per_second", error);
    if (status != BOMBUS_OK)
        return status;
    *bytes_per_second = 0.0;
    if (thread_count < 0)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "thread_count: %d, expected 0 (all cores) or more", thread_count);
    if (!(seconds >= 0.0 && isfinite(seconds)))
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "seconds: %g, expected a number >= 0", seconds);
    return bb_measure_bandwidth(bytes_per_second, thread_count, bytes, seconds, error);
}
