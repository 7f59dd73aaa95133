/* Adapters, and the sessions that use them. */
#include "api/handles.h"
#include "convert/adapter_convert.h"

#include <string.h>

bombus_status bombus_adapter_open(bombus_adapter **adapter, const bombus_model *model, const char *folder,
                                  const bombus_adapter_options *options, bombus_error *error)
{
    bombus_status status = bb_check_pointer(adapter, "adapter", error);
    if (status != BOMBUS_OK)
        return status;
    *adapter = NULL;
    status = bb_check_pointer(model, "model", error);
    if (status == BOMBUS_OK)
        status = bb_check_pointer(folder, "folder", error);
    if (status != BOMBUS_OK)
        return status;
    bombus_adapter *made = bb_allocate(1, sizeof *made);
    if (made == NULL)
        return bb_fail_memory(error, sizeof *made, "an adapter");
    struct bb_adapter_options inner = {0};
    if (options != NULL)
        inner = (struct bb_adapter_options){.has_scale = options->has_scale, .scale = options->scale};
    status = bb_adapter_open(&made->adapter, model->model, folder, &inner, error);
    if (status == BOMBUS_OK)
        *adapter = made;
    else
        bb_release(made);
    return status;
}

void bombus_adapter_close(bombus_adapter *adapter)
{
    if (adapter == NULL)
        return;
    bb_adapter_close(adapter->adapter);
    bb_release(adapter);
}

void bombus_adapter_get_info(const bombus_adapter *adapter, bombus_adapter_info *info)
{
    if (info == NULL)
        return;
    *info = (bombus_adapter_info){.type = "lora", .format = "mlx"};
    if (adapter == NULL)
        return;
    const struct bb_adapter *inner = adapter->adapter;
    *info = (bombus_adapter_info){.type = inner->is_dora ? "dora" : "lora",
                                  .format = inner->format == BB_ADAPTER_PEFT ? "peft" : "mlx",
                                  .rank = inner->rank,
                                  .scale = inner->scale,
                                  .layer_count = inner->layer_count,
                                  .module_count = inner->module_count,
                                  .parameter_count = inner->parameter_count};
}

/* What the handles hold, in an array of [count], and the weights; both are released by the caller, also after failure. */
static bombus_status unwrap(const bombus_adapter *const *adapters, const float *weights, size_t count, struct bb_adapter ***inner,
                            float **factors, bombus_error *error)
{
    *inner = bb_allocate(count, sizeof **inner);
    *factors = bb_allocate(count, sizeof **factors);
    if (*inner == NULL || *factors == NULL)
        return bb_fail_memory(error, count * sizeof **inner, "a set of adapters");
    for (size_t i = 0; i < count; i++) {
        if (adapters[i] == NULL)
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "adapters[%zu]: NULL", i);
        (*inner)[i] = adapters[i]->adapter;
        (*factors)[i] = weights != NULL ? weights[i] : 1.0f;
    }
    return BOMBUS_OK;
}

bombus_status bb_choose_adapters(struct bb_adapter_choice **choice, const struct bb_model *model,
                                 const bombus_adapter *const *adapters, const float *weights, size_t count,
                                 bombus_error *error)
{
    struct bb_adapter **inner;
    float *factors;
    *choice = NULL;
    bombus_status status = bb_check_array(adapters, count, "adapters", error);
    if (status != BOMBUS_OK || count == 0)
        return status;
    status = unwrap(adapters, weights, count, &inner, &factors, error);
    if (status == BOMBUS_OK)
        status = bb_adapter_choice_create(choice, model, inner, factors, count, error);
    bb_release(inner);
    bb_release(factors);
    return status;
}

bombus_status bombus_session_set_adapters(bombus_session *session, const bombus_adapter *const *adapters,
                                          const float *weights, size_t count, bombus_error *error)
{
    struct bb_adapter **inner;
    float *factors;
    bombus_status status = bb_check_pointer(session, "session", error);
    if (status == BOMBUS_OK)
        status = bb_check_array(adapters, count, "adapters", error);
    if (status != BOMBUS_OK)
        return status;
    status = unwrap(adapters, weights, count, &inner, &factors, error);
    if (status == BOMBUS_OK)
        status = bb_session_set_adapters(session->session, inner, factors, count, error);
    bb_release(inner);
    bb_release(factors);
    return status;
}

bombus_status bombus_adapter_is_full(bool *is_full, const char *folder, bombus_error *error)
{
    char *path;
    bombus_status status = bb_check_pointer(is_full, "is_full", error);
    if (status != BOMBUS_OK)
        return status;
    *is_full = false;
    status = bb_check_pointer(folder, "folder", error);
    if (status == BOMBUS_OK)
        status = bb_adapter_file_find_full(&path, folder, error);
    if (status != BOMBUS_OK)
        return status;
    *is_full = path != NULL;
    bb_release(path);
    return BOMBUS_OK;
}

bombus_status bombus_adapter_inspect(char **json, const char *folder, bombus_error *error)
{
    struct bb_adapter_file file;
    bombus_status status = bb_check_pointer(json, "json", error);
    if (status != BOMBUS_OK)
        return status;
    *json = NULL;
    status = bb_check_pointer(folder, "folder", error);
    if (status == BOMBUS_OK)
        status = bb_adapter_file_open(&file, folder, error);
    if (status != BOMBUS_OK)
        return status;
    status = bb_adapter_file_inspect(json, &file, error);
    bb_adapter_file_close(&file);
    return status;
}

bombus_status bombus_adapter_convert(const char *folder, const char *format, const char *out_folder,
                                     bombus_error *error)
{
    bombus_status status = bb_check_pointer(folder, "folder", error);
    if (status == BOMBUS_OK)
        status = bb_check_pointer(format, "format", error);
    if (status == BOMBUS_OK)
        status = bb_check_pointer(out_folder, "out_folder", error);
    if (status != BOMBUS_OK)
        return status;
    bool is_peft = strcmp(format, "peft") == 0;
    if (!is_peft && strcmp(format, "mlx") != 0)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "format: \"%.40s\", expected mlx or peft", format);
    return bb_adapter_convert(folder, is_peft ? BB_ADAPTER_PEFT : BB_ADAPTER_MLX, out_folder, error);
}

bombus_status bombus_adapter_merge(const char *const *folders, const float *weights, size_t count,
                                   const char *out_folder, bombus_error *error)
{
    bombus_status status = bb_check_pointer(folders, "folders", error);
    if (status == BOMBUS_OK)
        status = bb_check_pointer(weights, "weights", error);
    if (status == BOMBUS_OK)
        status = bb_check_pointer(out_folder, "out_folder", error);
    for (size_t i = 0; i < count && status == BOMBUS_OK; i++)
        if (folders[i] == NULL)
            status = bb_fail(error, BOMBUS_ERROR_ARGUMENT, "folders[%zu]: NULL", i);
    return status != BOMBUS_OK ? status : bb_adapter_merge(folders, weights, count, out_folder, error);
}
