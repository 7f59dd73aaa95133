/* Fusing adapters, and whole weights, into a model. */
#include "api/handles.h"
#include "convert/fuse_full.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

static bombus_status make_json(char **json, const struct bb_fuse_report *report, bombus_error *error)
{
    json_t *matrices = json_array();
    bool is_good = matrices != NULL;
    for (size_t i = 0; i < report->count && is_good; i++) {
        const struct bb_fuse_result *result = &report->results[i];
        is_good =
            json_array_append_new(matrices, json_pack("{s:s, s:f, s:f, s:f, s:i}", "path", result->path, "survival",
                                                      result->survival, "projection", result->projection, "relative",
                                                      result->relative, "bits", (int)result->scheme.bits)) == 0;
    }
    json_t *object = json_pack("{s:f, s:o}", "survival", report->survival, "matrices", matrices);
    char *text = is_good && object != NULL ? json_dumps(object, JSON_INDENT(2)) : NULL;
    *json = text != NULL ? bb_copy_text(text, strlen(text)) : NULL;
    free(text);
    json_decref(object);
    return *json != NULL ? BOMBUS_OK : bb_fail_memory(error, report->count, "the report of a fused model");
}

static struct bb_fuse_options take_options(const bombus_fuse_options *options)
{
    static const bombus_fuse_options defaults;
    options = options != NULL ? options : &defaults;
    return (struct bb_fuse_options){.is_dequantized = options->is_dequantized,
                                    .bits = options->bits,
                                    .progress = options->progress,
                                    .context = options->context};
}

bombus_status bombus_fuse(const bombus_model *model, const bombus_adapter *const *adapters, const float *weights,
                          size_t count, const char *out_folder, const bombus_fuse_options *options, char **report_json,
                          bombus_error *error)
{
    bombus_status status = bb_check_pointer(report_json, "report_json", error);
    if (status != BOMBUS_OK)
        return status;
    *report_json = NULL;
    status = bb_check_pointer(model, "model", error);
    if (status == BOMBUS_OK)
        status = bb_check_pointer(out_folder, "out_folder", error);
    struct bb_adapter_choice *choice = NULL;
    if (status == BOMBUS_OK)
        status = bb_choose_adapters(&choice, model->model, adapters, weights, count, error);
    if (status != BOMBUS_OK)
        return status;
    const struct bb_fuse_options inner_options = take_options(options);
    struct bb_fuse_report report;
    status = bb_fuse(model->model, bb_adapter_choice_set(choice), out_folder, &inner_options, &report, error);
    if (status == BOMBUS_OK)
        status = make_json(report_json, &report, error);
    bb_fuse_report_clear(&report);
    bb_adapter_choice_free(choice);
    return status;
}

bombus_status bombus_fuse_full(const bombus_model *model, const char *folder, const char *out_folder,
                               const bombus_fuse_options *options, char **report_json, bombus_error *error)
{
    bombus_status status = bb_check_pointer(report_json, "report_json", error);
    if (status != BOMBUS_OK)
        return status;
    *report_json = NULL;
    status = bb_check_pointer(model, "model", error);
    if (status == BOMBUS_OK)
        status = bb_check_pointer(folder, "folder", error);
    if (status == BOMBUS_OK)
        status = bb_check_pointer(out_folder, "out_folder", error);
    if (status != BOMBUS_OK)
        return status;
    const struct bb_fuse_options inner_options = take_options(options);
    struct bb_fuse_report report;
    status = bb_fuse_full(model->model, folder, out_folder, &inner_options, &report, error);
    if (status == BOMBUS_OK)
        status = make_json(report_json, &report, error);
    bb_fuse_report_clear(&report);
    return status;
}
