/* The options that name a model and say how to run it, and what opens it. Shared by most commands. */
#ifndef CLI_MODEL_OPTIONS_H
#define CLI_MODEL_OPTIONS_H

#include "cli/options.h"

#include "bombus.h"

/* --model */
struct folder_settings {
    const char *model;
};
extern const struct option folder_options[1];

/* --device, --precision, --threads */
struct device_settings {
    const char *device, *precision;
    int64_t threads;
};
extern const struct option device_options[3];

/* --max-kv-size, --kv-bits, --kv-group-size, --prefill-step-size */
struct cache_settings {
    int64_t max_kv_size, prefill_step_size;
    const char *kv_bits, *kv_group_size;
};
extern const struct option cache_options[4];

/* The folder of a model or an adapter, downloaded where it is not there. Free with bombus_free. */
bombus_status model_resolve(char **folder, const char *reference, bombus_error *error);

/* The model's folder: of --model, downloaded where it is not there, or of the default model. Free with bombus_free. */
bombus_status model_find_folder(char **folder, const struct folder_settings *settings, bombus_error *error);

/* Opens the tokenizer of a folder with its cache of compiled vocabularies. */
bombus_status model_open_tokenizer(bombus_tokenizer **tokenizer, const char *folder, bombus_error *error);

/* Both, for commands that need no more of the model. */
bombus_status model_find_tokenizer(bombus_tokenizer **tokenizer, const struct folder_settings *settings, bombus_error *error);

/* Opens the model in `folder`. */
bombus_status model_open(bombus_model **model, const char *folder, const struct device_settings *settings,
                         bombus_error *error);

bombus_session_options model_session_options(const struct cache_settings *settings);
bombus_status model_create_session(bombus_session **session, bombus_model *model, const struct cache_settings *settings,
                                   bombus_error *error);

#endif
