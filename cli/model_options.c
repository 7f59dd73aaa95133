/* From --model, --device and their like to open handles. */
#include "cli/model_options.h"

#include "base/error.h"
#include "base/memory.h"
#include "cli/environment.h"
#include "cli/interrupt.h"
#include "cli/report.h"

#include <stdlib.h>
#include <string.h>

const struct option folder_options[1] = {
    {"model", 'm', OPTION_FILE, offsetof(struct folder_settings, model), "MODEL",
     .help = "model folder, hf:owner/name[@revision] or owner/name; the story model if not given"},
};

const struct option device_options[3] = {
    {"device", 0, OPTION_TEXT, offsetof(struct device_settings, device), "DEVICE", .help = "auto or cpu",
     .fallback = "auto"},
    {"precision", 0, OPTION_CHOICE, offsetof(struct device_settings, precision), "fast|exact",
     .help = "fast rounds the inputs of quantized products to 8 bits; exact to 24, as float32 does", .fallback = "fast"},
    {"threads", 0, OPTION_INTEGER, offsetof(struct device_settings, threads), "N",
     .help = "threads to use; all physical cores if not given", .least = 1, .most = 1024},
};

const struct option cache_options[4] = {
    {"max-kv-size", 0, OPTION_INTEGER, offsetof(struct cache_settings, max_kv_size), "N",
     .help = "keep the first 4 and the latest tokens, N in all; every token if not given", .least = 5, .most = 1 << 30},
    {"kv-bits", 0, OPTION_CHOICE, offsetof(struct cache_settings, kv_bits), "8|4",
     .help = "keep keys and values in this many bits, from the first on; not quantized if not given"},
    {"kv-group-size", 0, OPTION_CHOICE, offsetof(struct cache_settings, kv_group_size), "64|32|128",
     .help = "with --kv-bits: values that share scale and bias; 64 if not given, or 32 where head_dim needs it"},
    {"prefill-step-size", 0, OPTION_INTEGER, offsetof(struct cache_settings, prefill_step_size), "N",
     .help = "prompt tokens computed at once", .fallback = "512", .least = 1, .most = 1 << 16},
};

bombus_status model_resolve(char **folder, const char *reference, bombus_error *error)
{
    struct environment_hub hub;
    struct report_progress progress = {0};
    environment_hub_read(&hub);
    hub.options.progress = report_download;
    hub.options.progress_context = &progress;
    interrupt_catch();
    bombus_status status = bombus_hub_resolve(folder, reference, &hub.options, error);
    interrupt_release();
    report_download_end(&progress);
    environment_hub_clear(&hub);
    return status;
}

bombus_status model_find_folder(char **folder, const struct folder_settings *settings, bombus_error *error)
{
    *folder = NULL;
    if (settings->model != NULL)
        return model_resolve(folder, settings->model, error);
    char *default_model = environment_default_model();
    if (default_model == NULL)
        return bb_fail(error, BOMBUS_ERROR_NOT_FOUND,
                       "--model: not given, and the story model that comes with bombus was not found");
    bombus_status status = model_resolve(folder, default_model, error);
    bb_release(default_model);
    return status;
}

bombus_status model_open_tokenizer(bombus_tokenizer **tokenizer, const char *folder, bombus_error *error)
{
    char *cache_folder = environment_cache_folder();
    bombus_status status = bombus_tokenizer_open(tokenizer, folder, cache_folder, error);
    bb_release(cache_folder);
    return status;
}

bombus_status model_find_tokenizer(bombus_tokenizer **tokenizer, const struct folder_settings *settings, bombus_error *error)
{
    char *folder = NULL;
    *tokenizer = NULL;
    bombus_status status = model_find_folder(&folder, settings, error);
    if (status == BOMBUS_OK)
        status = model_open_tokenizer(tokenizer, folder, error);
    bombus_free(folder);
    return status;
}

bombus_status model_open(bombus_model **model, const char *folder, const struct device_settings *settings,
                         bombus_error *error)
{
    bombus_model_options options = {
        .device = settings->device,
        .precision = strcmp(settings->precision, "exact") == 0 ? BOMBUS_PRECISION_EXACT : BOMBUS_PRECISION_FAST,
        .thread_count = settings->threads == OPTION_UNSET ? 0 : (int32_t)settings->threads,
        .cpu_level = environment_cpu_level(),
    };
    return bombus_model_open(model, folder, &options, error);
}

bombus_session_options model_session_options(const struct cache_settings *settings)
{
    return (bombus_session_options){
        .max_kv_size = settings->max_kv_size == OPTION_UNSET ? 0 : (int32_t)settings->max_kv_size,
        .kv_bits = settings->kv_bits == NULL ? 0 : (int32_t)atoi(settings->kv_bits),
        .kv_group_size = settings->kv_group_size == NULL ? 0 : (int32_t)atoi(settings->kv_group_size),
        .prefill_step_size = (int32_t)settings->prefill_step_size,
    };
}

bombus_status model_create_session(bombus_session **session, bombus_model *model, const struct cache_settings *settings,
                                   bombus_error *error)
{
    bombus_session_options options = model_session_options(settings);
    return bombus_session_create(session, model, &options, error);
}
