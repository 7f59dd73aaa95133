/* bombus adapter: what is in an adapter, adapters in another format, several in one. */
#include "cli/adapter_options.h"
#include "cli/command.h"
#include "cli/model_options.h"
#include "cli/report.h"

#include "base/error.h"
#include "base/memory.h"

#include <jansson.h>
#include <string.h>

struct adapter_command_settings {
    const char *to, *out;
    bool json;
};

static const struct option options[] = {
    {"to", 0, OPTION_CHOICE, offsetof(struct adapter_command_settings, to), "mlx|peft",
     .help = "convert: the format to write"},
    {"out", 0, OPTION_FILE, offsetof(struct adapter_command_settings, out), "DIR",
     .help = "convert, merge: the folder to write"},
    {"json", 0, OPTION_FLAG, offsetof(struct adapter_command_settings, json), NULL,
     .help = "inspect: print one JSON object"},
};

static const struct option_group groups[] = {{"Options", options, BB_COUNT(options), 0}};

static void print_modules(const json_t *object)
{
    const json_t *module;
    size_t index;
    printf("%s of %s, rank %lld, scale %g, %lld parameters, %s\n", json_string_value(json_object_get(object, "type")),
           json_string_value(json_object_get(object, "format")),
           (long long)json_integer_value(json_object_get(object, "rank")),
           json_real_value(json_object_get(object, "scale")),
           (long long)json_integer_value(json_object_get(object, "parameters")),
           report_bytes((double)json_integer_value(json_object_get(object, "bytes"))).text);
    json_array_foreach(json_object_get(object, "modules"), index, module)
    {
        long long experts = (long long)json_integer_value(json_object_get(module, "experts"));
        printf("%-48s rank %-4lld scale %-8g %s [%lld, %lld]", json_string_value(json_object_get(module, "path")),
               (long long)json_integer_value(json_object_get(module, "rank")),
               json_real_value(json_object_get(module, "scale")), json_string_value(json_object_get(module, "dtype")),
               (long long)json_integer_value(json_object_get(module, "rows")),
               (long long)json_integer_value(json_object_get(module, "cols")));
        if (experts > 0)
            printf(", %lld experts", experts);
        putchar('\n');
    }
}

static bombus_status inspect(const char *folder, bool is_json, bombus_error *error)
{
    char *text;
    bombus_status status = bombus_adapter_inspect(&text, folder, error);
    if (status != BOMBUS_OK)
        return status;
    if (is_json) {
        puts(text);
    } else {
        json_t *object = report_if_null(json_loads(text, 0, NULL));
        print_modules(object);
        json_decref(object);
    }
    bombus_free(text);
    return BOMBUS_OK;
}

/* The folders of all operands behind the verb, with their factors. */
static bombus_status resolve_all(const struct operands *operands, char **folders, float *factors, bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    for (size_t i = 1; i < operands->count && status == BOMBUS_OK; i++) {
        char *reference = NULL;
        status = adapter_split(operands->values[i], &reference, &factors[i - 1], error);
        if (status == BOMBUS_OK)
            status = model_resolve(&folders[i - 1], reference, error);
        bb_release(reference);
    }
    return status;
}

static int run(const void *given, const struct operands *operands)
{
    const struct adapter_command_settings *settings = given;
    char *folders[OPTION_LIST_LIMIT] = {NULL};
    float factors[OPTION_LIST_LIMIT];
    const char *verb = operands->count > 0 ? operands->values[0] : "";
    bool is_inspect = strcmp(verb, "inspect") == 0, is_convert = strcmp(verb, "convert") == 0,
         is_merge = strcmp(verb, "merge") == 0;
    if (!is_inspect && !is_convert && !is_merge)
        return report_usage(&command_adapter, "one of inspect, convert and merge is needed");
    if (operands->count < 2 || (!is_merge && operands->count > 2))
        return report_usage(&command_adapter,
                            is_merge ? "merge needs adapters: DIR[=SCALE] ..." : "one adapter is needed");
    if (!is_inspect && settings->out == NULL)
        return report_usage(&command_adapter, "--out is needed: the folder to write");
    if (is_convert != (settings->to != NULL))
        return report_usage(&command_adapter, is_convert ? "--to is needed: mlx or peft" : "--to belongs to convert");
    if (is_inspect && settings->out != NULL)
        return report_usage(&command_adapter, "--out belongs to convert and merge");
    if (!is_inspect && settings->json)
        return report_usage(&command_adapter, "--json belongs to inspect");
    bombus_error error = {0};
    bombus_status status = resolve_all(operands, folders, factors, &error);
    if (status == BOMBUS_OK && !is_merge && factors[0] != 1.0f)
        status = bb_fail(&error, BOMBUS_ERROR_ARGUMENT, "%s: a SCALE belongs to merge", operands->values[1]);
    if (status == BOMBUS_OK && is_inspect)
        status = inspect(folders[0], settings->json, &error);
    else if (status == BOMBUS_OK && is_convert)
        status = bombus_adapter_convert(folders[0], settings->to, settings->out, &error);
    else if (status == BOMBUS_OK)
        status =
            bombus_adapter_merge((const char *const *)folders, factors, operands->count - 1, settings->out, &error);
    if (status == BOMBUS_OK && !is_inspect)
        report_message("wrote %s", settings->out);
    for (size_t i = 0; i < BB_COUNT(folders); i++)
        bombus_free(folders[i]);
    return status == BOMBUS_OK ? EXIT_CODE_DONE : report_error(&error);
}

const struct command command_adapter = {
    .name = "adapter",
    .summary = "look into LoRA adapters, convert and merge them",
    .description =
        "inspect lists what an adapter changes. convert writes it in the format of mlx-lm or of PEFT, with every number as it is. merge writes "
        "one adapter that does what the weighted sum of several does, by putting their ranks one behind the other.",
    .operand = "inspect|convert|merge DIR[=SCALE]...",
    .operand_limit = OPTION_LIST_LIMIT,
    .groups = groups,
    .group_count = BB_COUNT(groups),
    .settings_size = sizeof(struct adapter_command_settings),
    .examples = {{"bombus adapter convert my-adapter --to peft --out my-adapter-peft", "for PEFT and transformers"},
                 {"bombus adapter merge one=0.7 two=0.5 --out both", "a sum of two as one adapter"}},
    .run = run,
};
