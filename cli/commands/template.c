/* bombus template: messages to prompt text. */
#include "cli/command.h"
#include "cli/json_output.h"
#include "cli/model_options.h"
#include "cli/report.h"
#include "cli/text_input.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

struct template_settings {
    struct folder_settings folder;
    const char *template_, *messages, *tools, *kwargs;
    bool add_generation_prompt, jsonl;
};

static const struct option options[] = {
    {"template", 0, OPTION_FILE, offsetof(struct template_settings, template_), "FILE",
     .help = "a Jinja template instead of the model's"},
    {"messages", 0, OPTION_FILE, offsetof(struct template_settings, messages), "FILE",
     .help = "JSON array of messages; - reads standard input"},
    {"tools", 0, OPTION_FILE, offsetof(struct template_settings, tools), "FILE", .help = "JSON array of tools"},
    {"kwargs", 0, OPTION_TEXT, offsetof(struct template_settings, kwargs), "JSON",
     .help = "an object of further variables"},
    {"add-generation-prompt", 0, OPTION_FLAG, offsetof(struct template_settings, add_generation_prompt), NULL,
     .help = "end with the beginning of an answer"},
    {"jsonl", 0, OPTION_FLAG, offsetof(struct template_settings, jsonl), NULL,
     .help = "standard input holds an object of variables a line; answer with a JSON string a line, or "
             "{\"error\", \"line\", \"column\"}"},
};

static const struct option_group groups[] = {
    {"Model", folder_options, BB_COUNT(folder_options), offsetof(struct template_settings, folder)},
    {"Template and variables", options, BB_COUNT(options), 0},
};

/* The template, and what tokenizer_config.json says of special tokens (NULL without a model). */
struct source {
    bombus_template *template_;
    json_t *special_tokens;
};

static bombus_status open_model_template(struct source *source, const struct folder_settings *settings,
                                         bombus_error *error)
{
    static const char *const names[] = {"bos_token", "eos_token"};
    char *folder = NULL;
    bombus_tokenizer *tokenizer = NULL;
    bombus_status status = model_find_folder(&folder, settings, error);
    if (status == BOMBUS_OK)
        status = bombus_template_open(&source->template_, folder, NULL, error);
    if (status == BOMBUS_OK)
        status = model_open_tokenizer(&tokenizer, folder, error);
    for (size_t i = 0; status == BOMBUS_OK && i < BB_COUNT(names); i++) {
        const char *token = bombus_tokenizer_special_token(tokenizer, names[i]);
        if (token != NULL)
            json_object_set_new(source->special_tokens, names[i], json_output_text(token, strlen(token)));
    }
    bombus_tokenizer_close(tokenizer);
    bombus_free(folder);
    return status;
}

static bombus_status open_source(struct source *source, const struct template_settings *settings, bombus_error *error)
{
    *source = (struct source){.special_tokens = report_if_null(json_object())};
    if (settings->template_ == NULL)
        return open_model_template(source, &settings->folder, error);
    struct bb_buffer text = {0};
    bombus_status status = text_input_read(&text, settings->template_, error);
    if (status == BOMBUS_OK)
        status = bombus_template_create(&source->template_, text.data, text.length, error);
    bb_buffer_clear(&text);
    return status;
}

static bombus_status render_lines(const struct source *source, bombus_error *error)
{
    struct bb_buffer line = {0};
    while (text_input_line(&line, stdin)) {
        char *text = NULL;
        size_t length = 0;
        *error = (bombus_error){0};
        if (bombus_template_render(source->template_, line.data, line.length, &text, &length, NULL, NULL, error) ==
            BOMBUS_OK)
            json_output_print(json_output_text(text, length));
        else
            json_output_print(json_pack("{s:o, s:i, s:i}", "error",
                                        json_output_text(error->message, strlen(error->message)), "line",
                                        (int)error->line, "column", (int)error->column));
        bombus_free(text);
    }
    bb_buffer_clear(&line);
    return BOMBUS_OK;
}

/* Puts the JSON of a file under `name`. */
static bombus_status add_file(json_t *variables, const char *name, const char *path, bombus_error *error)
{
    struct bb_buffer text = {0};
    json_error_t place;
    bombus_status status = text_input_read(&text, path, error);
    json_t *value = status == BOMBUS_OK ? json_loadb(text.data, text.length, JSON_ALLOW_NUL, &place) : NULL;
    bb_buffer_clear(&text);
    if (status != BOMBUS_OK)
        return status;
    if (value == NULL)
        return bb_fail_at(error, BOMBUS_ERROR_FORMAT, place.line, place.column, "%s: %s", path, place.text);
    json_object_set_new(variables, name, value);
    return BOMBUS_OK;
}

static bombus_status render_files(const struct source *source, const struct template_settings *settings,
                                  bombus_error *error)
{
    json_t *variables = report_if_null(json_object());
    json_object_update(variables, source->special_tokens);
    json_object_set_new(variables, "add_generation_prompt", json_boolean(settings->add_generation_prompt));
    bombus_status status = add_file(variables, "messages", settings->messages, error);
    if (status == BOMBUS_OK && settings->tools != NULL)
        status = add_file(variables, "tools", settings->tools, error);
    if (status == BOMBUS_OK && settings->kwargs != NULL) {
        json_error_t place;
        json_t *more = json_loads(settings->kwargs, JSON_ALLOW_NUL, &place);
        if (more == NULL || json_object_update(variables, more) != 0)
            status = bb_fail(error, BOMBUS_ERROR_ARGUMENT, "--kwargs: not a JSON object: %s",
                             more == NULL ? place.text : settings->kwargs);
        json_decref(more);
    }
    char *text = NULL;
    size_t length = 0;
    if (status == BOMBUS_OK) {
        char *json = report_if_null(json_dumps(variables, 0));
        status = bombus_template_render(source->template_, json, strlen(json), &text, &length, NULL, NULL, error);
        free(json);
    }
    if (status == BOMBUS_OK)
        fwrite(text, 1, length, stdout);
    bombus_free(text);
    json_decref(variables);
    return status;
}

static int run(const void *given, const struct operands *operands)
{
    (void)operands;
    const struct template_settings *settings = given;
    if (settings->jsonl == (settings->messages != NULL))
        return report_usage(&command_template, "one of --messages and --jsonl is needed");
    if (settings->jsonl && (settings->tools != NULL || settings->kwargs != NULL || settings->add_generation_prompt))
        return report_usage(&command_template,
                            "with --jsonl the variables stand in the lines: leave --tools, --kwargs and "
                            "--add-generation-prompt out");
    if (settings->template_ != NULL && settings->folder.model != NULL)
        return report_usage(&command_template, "--template and --model exclude each other");
    struct source source;
    bombus_error error = {0};
    bombus_status status = open_source(&source, settings, &error);
    if (status == BOMBUS_OK)
        status = settings->jsonl ? render_lines(&source, &error) : render_files(&source, settings, &error);
    bombus_template_free(source.template_);
    json_decref(source.special_tokens);
    return status == BOMBUS_OK ? EXIT_CODE_DONE : report_error(&error);
}

const struct command command_template = {
    .name = "template",
    .summary = "messages to prompt text",
    .description =
        "Renders a chat template and prints the text, bytes as they are. With --jsonl the lines hold all "
        "variables of the template (messages, tools, add_generation_prompt, bos_token, eos_token, any other; "
        "\"now\" is the ISO time that strftime_now uses), and nothing is added to them. Only the tokenizer's "
        "files are needed in the model folder.",
    .groups = groups,
    .group_count = BB_COUNT(groups),
    .settings_size = sizeof(struct template_settings),
    .examples = {{"bombus template --messages talk.json --add-generation-prompt",
                  "the prompt that the default model would see"},
                 {"bombus template --template chat.jinja --jsonl < cases.jsonl",
                  "a rendered JSON string for each line"}},
    .run = run,
};
