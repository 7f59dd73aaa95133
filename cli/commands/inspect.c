/* bombus inspect: what a model folder holds. */
#include "cli/command.h"
#include "cli/json_output.h"
#include "cli/model_options.h"
#include "cli/report.h"

#include <stdlib.h>
#include <string.h>

enum { NAME_WIDTH = 40 };

struct inspect_settings {
    struct folder_settings folder;
    bool json;
};

static const struct option options[] = {
    {"json", 0, OPTION_FLAG, offsetof(struct inspect_settings, json), NULL, .help = "print one JSON object"},
};

static const struct option_group groups[] = {
    {"Model", folder_options, BB_COUNT(folder_options), offsetof(struct inspect_settings, folder)},
    {"Output", options, BB_COUNT(options), 0},
};

static bool is_plain(const json_t *value)
{
    return !json_is_object(value) && !json_is_array(value);
}

static void print_plain(const json_t *value)
{
    if (json_is_string(value)) {
        fwrite(json_string_value(value), 1, json_string_length(value), stdout);
        return;
    }
    char *text = report_if_null(json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(6)));
    fputs(text, stdout);
    free(text);
}

/* An object of plain values on one line: "NAME, bits 4, group_size 64". */
static void print_row(const json_t *object)
{
    const char *separator = "", *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        printf("%s%s", separator, strcmp(key, "name") == 0 ? "" : key);
        if (strcmp(key, "name") != 0)
            putchar(' ');
        if (is_plain(value)) {
            print_plain(value);
        } else {
            char *text = report_if_null(json_dumps(value, 0));
            fputs(text, stdout);
            free(text);
        }
        separator = ", ";
    }
    putchar('\n');
}

/* One line an entry, nested ones below it; rows of tables on a line of their own. */
static void print_object(const json_t *object, int depth)
{
    const char *key;
    json_t *value, *element;
    size_t i;
    json_object_foreach((json_t *)object, key, value)
    {
        printf("%*s%-*s", 2 * depth, "", NAME_WIDTH - 2 * depth, key);
        if (strlen(key) + 2 * (size_t)depth >= NAME_WIDTH)
            putchar(' ');
        if (is_plain(value)) {
            print_plain(value);
            if (json_is_integer(value) && strstr(key, "bytes") != NULL)
                printf(" (%s)", report_bytes((double)json_integer_value(value)).text);
            putchar('\n');
        } else if (json_is_object(value)) {
            if (depth > 0) {
                print_row(value);
            } else {
                putchar('\n');
                print_object(value, depth + 1);
            }
        } else {
            if (json_array_size(value) == 0)
                fputs("none", stdout);
            putchar('\n');
            json_array_foreach(value, i, element)
            {
                printf("%*s", 2 * depth + 2, "");
                if (json_is_object(element)) {
                    print_row(element);
                } else {
                    print_plain(element);
                    putchar('\n');
                }
            }
        }
    }
}

static int run(const void *given, const struct operands *operands)
{
    const struct inspect_settings *settings = given;
    struct folder_settings place = settings->folder;
    if (operands->count > 0 && place.model != NULL)
        return report_usage(&command_inspect, "the model is given twice: as operand and with --model");
    if (operands->count > 0)
        place.model = operands->values[0];
    bombus_error error = {0};
    char *folder = NULL, *text = NULL;
    bombus_status status = model_find_folder(&folder, &place, &error);
    if (status == BOMBUS_OK)
        status = bombus_inspect(&text, folder, &error);
    json_t *object = status == BOMBUS_OK ? report_if_null(json_loads(text, 0, NULL)) : NULL;
    if (status == BOMBUS_OK && settings->json)
        json_output_print(json_incref(object));
    else if (status == BOMBUS_OK)
        print_object(object, 0);
    json_decref(object);
    bombus_free(text);
    bombus_free(folder);
    return status == BOMBUS_OK ? EXIT_CODE_DONE : report_error(&error);
}

const struct command command_inspect = {
    .name = "inspect",
    .summary = "what a model folder holds",
    .description =
        "Prints architecture, sizes, quantization of each tensor, the memory needed, and what is unsupported, "
        "without loading the weights.",
    .operand = "[MODEL]",
    .operand_limit = 1,
    .groups = groups,
    .group_count = BB_COUNT(groups),
    .settings_size = sizeof(struct inspect_settings),
    .examples = {{"bombus inspect ./model", "a table of the folder's content"},
                 {"bombus inspect -m owner/name --json", "the same as JSON; the model is downloaded the first time"}},
    .run = run,
};
