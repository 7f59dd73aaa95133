/* bombus fuse: adapters, or the whole weights of full fine-tuning, into a new model folder. */
#include "cli/adapter_options.h"
#include "cli/command.h"
#include "cli/interrupt.h"
#include "cli/model_options.h"
#include "cli/report.h"

#include "base/error.h"
#include "base/memory.h"

#include <jansson.h>
#include <string.h>

struct fuse_settings {
    struct folder_settings folder;
    struct adapter_settings adapter;
    const char *out;
    int64_t bits;
    bool dequantize, json;
};

static const struct option options[] = {
    {"out", 0, OPTION_FILE, offsetof(struct fuse_settings, out), "DIR", .help = "the model folder to write",
     .also = "save-path"},
    {"dequantize", 0, OPTION_FLAG, offsetof(struct fuse_settings, dequantize), NULL,
     .help = "write all quantized matrices as bf16", .also = "de-quantize"},
    {"bits", 0, OPTION_INTEGER, offsetof(struct fuse_settings, bits), "N",
     .help = "new bits of the matrices that change: 2, 3, 4, 5, 6 or 8", .least = 2, .most = 8},
    {"json", 0, OPTION_FLAG, offsetof(struct fuse_settings, json), NULL, .help = "print the report as one JSON object"},
};

static const struct option_group groups[] = {
    {"Model", folder_options, BB_COUNT(folder_options), offsetof(struct fuse_settings, folder)},
    {"Adapters", adapter_options, BB_COUNT(adapter_options), offsetof(struct fuse_settings, adapter)},
    {"Output", options, BB_COUNT(options), 0},
};

static const double low_survival = 0.8;

static void warn(size_t low_count, size_t count, bool is_full)
{
    if (is_full)
        report_message(
            "warning: less than %.0f %% of what training changed survives in %zu of %zu tensors: its changes are smaller than the steps of the model's "
            "dtype. A larger --learning-rate or more steps make larger ones, and a model in f32 keeps all",
            100.0 * low_survival, low_count, count);
    else
        report_message(
            "warning: less than %.0f %% of the adapter's effect survives in %zu of %zu matrices: its changes are smaller than the steps of the grid. "
            "More --bits or --dequantize keep them, and so does running the adapter with -a",
            100.0 * low_survival, low_count, count);
}

static void print_report(const char *text, bool is_full)
{
    json_t *object = report_if_null(json_loads(text, 0, NULL));
    const json_t *matrix;
    size_t index, low_count = 0;
    printf("%-48s %10s %10s %12s %5s\n", "matrix", "survives", "along D", "|D| / |W|", "bits");
    json_array_foreach(json_object_get(object, "matrices"), index, matrix)
    {
        double survival = json_real_value(json_object_get(matrix, "survival"));
        low_count += survival < low_survival;
        printf("%-48s %8.1f %% %8.1f %% %12.2e %5lld\n", json_string_value(json_object_get(matrix, "path")),
               100.0 * survival, 100.0 * json_real_value(json_object_get(matrix, "projection")),
               json_real_value(json_object_get(matrix, "relative")),
               (long long)json_integer_value(json_object_get(matrix, "bits")));
    }
    printf("%-48s %8.1f %%\n", "all", 100.0 * json_real_value(json_object_get(object, "survival")));
    if (low_count > 0)
        warn(low_count, json_array_size(json_object_get(object, "matrices")), is_full);
    json_decref(object);
}

/* The folder of whole weights among what --adapter-path names, which stand alone (NULL: all are adapters). */
static bombus_status find_full(char **folder, const struct adapter_settings *settings, bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    *folder = NULL;
    for (size_t i = 0; i < settings->adapters.count && *folder == NULL && status == BOMBUS_OK; i++) {
        char *reference, *found = NULL;
        bool is_full = false;
        float factor;
        status = adapter_split(settings->adapters.values[i], &reference, &factor, error);
        if (status == BOMBUS_OK)
            status = model_resolve(&found, reference, error);
        if (status == BOMBUS_OK)
            status = bombus_adapter_is_full(&is_full, found, error);
        if (is_full && settings->adapters.count > 1)
            status = bb_fail(error, BOMBUS_ERROR_ARGUMENT,
                             "--adapter-path: '%.200s' holds whole weights (fine_tune_type full), expected no other "
                             "beside it: they replace the model's and are no part of a sum",
                             reference);
        else if (is_full && factor != 1.0f)
            status = bb_fail(error, BOMBUS_ERROR_ARGUMENT,
                             "--adapter-path: '%.200s' holds whole weights (fine_tune_type full), expected no scale "
                             "(=%g): they replace the model's",
                             reference, (double)factor);
        if (is_full && status == BOMBUS_OK)
            *folder = found;
        else
            bombus_free(found);
        bb_release(reference);
    }
    return status;
}

static int run(const void *given, const struct operands *operands)
{
    const struct fuse_settings *settings = given;
    (void)operands;
    if (settings->adapter.adapters.count == 0)
        return report_usage(&command_fuse, "--adapter-path is needed: what to fuse");
    if (settings->out == NULL)
        return report_usage(&command_fuse, "--out is needed: the folder to write");
    bombus_error error = {0};
    struct adapters adapters = {0};
    bombus_model *model = NULL;
    char *folder = NULL, *full = NULL, *json = NULL;
    bombus_fuse_options fuse_options = {.is_dequantized = settings->dequantize,
                                        .bits = settings->bits != OPTION_UNSET ? (int32_t)settings->bits : 0,
                                        .progress = interrupt_on_progress};
    bombus_status status = model_find_folder(&folder, &settings->folder, &error);
    if (status == BOMBUS_OK)
        status = bombus_model_open(&model, folder, NULL, &error);
    if (status == BOMBUS_OK)
        status = find_full(&full, &settings->adapter, &error);
    if (status == BOMBUS_OK && full == NULL)
        status = adapters_open(&adapters, &settings->adapter, model, &error);
    if (status == BOMBUS_OK) {
        interrupt_catch();
        status = full != NULL
                     ? bombus_fuse_full(model, full, settings->out, &fuse_options, &json, &error)
                     : bombus_fuse(model, (const bombus_adapter *const *)adapters.list, adapters.factors,
                                   adapters.count, settings->out, &fuse_options, &json, &error);
        interrupt_release();
    }
    if (status == BOMBUS_OK && settings->json)
        puts(json);
    else if (status == BOMBUS_OK)
        print_report(json, full != NULL);
    if (status == BOMBUS_OK)
        report_message("wrote %s", settings->out);
    bombus_free(json);
    adapters_close(&adapters);
    bombus_model_close(model);
    bombus_free(full);
    bombus_free(folder);
    return status == BOMBUS_OK ? EXIT_CODE_DONE : report_error(&error);
}

const struct command command_fuse = {
    .name = "fuse",
    .summary = "write a model with adapters in its weights",
    .description =
        "Writes a whole model folder in which the adapters are part of the weights. Quantized matrices go back into their grid, each group on the "
        "nearest one that is found; a change smaller than a step of the grid is lost all the same. The report says for every matrix which share of "
        "the adapter's effect survives. A folder of bombus train --fine-tune-type full holds whole weights: they replace the model's of their names, "
        "rounded to its dtype; such a folder stands alone, without SCALE, --bits and --dequantize.",
    .groups = groups,
    .group_count = BB_COUNT(groups),
    .settings_size = sizeof(struct fuse_settings),
    .examples = {{"bombus fuse -a my-adapter --out fused", "the default model with an adapter"},
                 {"bombus fuse -m ./model -a one=0.7 -a two --bits 8 --out fused",
                  "a sum of two, in 8 bits where they change the model"}},
    .run = run,
};
