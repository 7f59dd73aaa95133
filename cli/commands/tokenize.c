/* bombus tokenize: text to ids. */
#include "cli/command.h"
#include "cli/json_output.h"
#include "cli/model_options.h"
#include "cli/report.h"
#include "cli/text_input.h"

#include "base/error.h"

struct tokenize_settings {
    struct folder_settings folder;
    const char *text;
    bool jsonl, no_special, json;
};

static const struct option options[] = {
    {"text", 0, OPTION_TEXT, offsetof(struct tokenize_settings, text), "TEXT",
     .help = "the text; - reads standard input"},
    {"jsonl", 0, OPTION_FLAG, offsetof(struct tokenize_settings, jsonl), NULL,
     .help = "standard input holds a JSON string a line; answer with an array of ids a line"},
    {"no-special", 0, OPTION_FLAG, offsetof(struct tokenize_settings, no_special), NULL,
     .help = "without the tokens that the tokenizer puts around a text"},
    {"json", 0, OPTION_FLAG, offsetof(struct tokenize_settings, json), NULL, .help = "print {\"ids\": [...]}"},
};

static const struct option_group groups[] = {
    {"Model", folder_options, BB_COUNT(folder_options), offsetof(struct tokenize_settings, folder)},
    {"Input and output", options, BB_COUNT(options), 0},
};

static bombus_status encode_lines(const bombus_tokenizer *tokenizer, bool add_special, bombus_error *error)
{
    struct bb_buffer line = {0};
    bombus_status status = BOMBUS_OK;
    json_t *text;
    int32_t number = 0;
    while (status == BOMBUS_OK) {
        status = text_input_json_line(&text, &line, &number, JSON_STRING, "a JSON string", error);
        if (text == NULL)
            break;
        int32_t *ids = NULL;
        size_t count = 0;
        status = bombus_tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text), add_special,
                                         &ids, &count, error);
        if (status == BOMBUS_OK)
            json_output_print(json_output_ids(ids, count));
        bombus_free(ids);
        json_decref(text);
    }
    bb_buffer_clear(&line);
    return status;
}

static bombus_status encode_text(const bombus_tokenizer *tokenizer, const struct tokenize_settings *settings,
                                 const char *text, bombus_error *error)
{
    struct bb_buffer input = {0};
    bombus_status status = text_input_argument(&input, text, error);
    int32_t *ids = NULL;
    size_t count = 0;
    if (status == BOMBUS_OK)
        status =
            bombus_tokenizer_encode(tokenizer, input.data, input.length, !settings->no_special, &ids, &count, error);
    if (status == BOMBUS_OK && settings->json) {
        json_output_print(json_pack("{s:o}", "ids", json_output_ids(ids, count)));
    } else if (status == BOMBUS_OK) {
        for (size_t i = 0; i < count; i++)
            printf(i == 0 ? "%d" : ",%d", (int)ids[i]);
        putchar('\n');
    }
    bombus_free(ids);
    bb_buffer_clear(&input);
    return status;
}

static int run(const void *given, const struct operands *operands)
{
    const struct tokenize_settings *settings = given;
    const char *text = settings->text != NULL ? settings->text : operands->count > 0 ? operands->values[0] : "-";
    if (settings->text != NULL && operands->count > 0)
        return report_usage(&command_tokenize, "the text is given twice: as operand and with --text");
    if (settings->jsonl && (settings->text != NULL || operands->count > 0))
        return report_usage(&command_tokenize, "--jsonl reads standard input; leave --text out");
    bombus_error error = {0};
    bombus_tokenizer *tokenizer;
    bombus_status status = model_find_tokenizer(&tokenizer, &settings->folder, &error);
    if (status == BOMBUS_OK && settings->jsonl)
        status = encode_lines(tokenizer, !settings->no_special, &error);
    else if (status == BOMBUS_OK)
        status = encode_text(tokenizer, settings, text, &error);
    bombus_tokenizer_close(tokenizer);
    return status == BOMBUS_OK ? EXIT_CODE_DONE : report_error(&error);
}

const struct command command_tokenize = {
    .name = "tokenize",
    .summary = "text to token ids",
    .description =
        "Prints the ids of a text, separated by commas as --tokens of other commands takes them. The text is the "
        "operand, --text, or standard input. Only the tokenizer's files are needed in the model folder.",
    .operand = "[TEXT]",
    .operand_limit = 1,
    .groups = groups,
    .group_count = BB_COUNT(groups),
    .settings_size = sizeof(struct tokenize_settings),
    .examples = {{"bombus tokenize \"once upon a time\"", "ids in the vocabulary of the default model"},
                 {"bombus tokenize -m Qwen/Qwen3-8B --jsonl < texts.jsonl",
                  "an array of ids for each JSON string of a file"}},
    .run = run,
};
