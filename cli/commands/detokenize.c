/* bombus detokenize: ids to text. */
#include "cli/command.h"
#include "cli/json_output.h"
#include "cli/model_options.h"
#include "cli/report.h"
#include "cli/text_input.h"

#include "base/error.h"
#include "base/memory.h"

struct detokenize_settings {
    struct folder_settings folder;
    const char *tokens;
    bool jsonl, skip_special, json;
};

static const struct option options[] = {
    {"tokens", 0, OPTION_TEXT, offsetof(struct detokenize_settings, tokens), "IDS",
     .help = "the ids, 1,2,3; - reads standard input"},
    {"jsonl", 0, OPTION_FLAG, offsetof(struct detokenize_settings, jsonl), NULL,
     .help = "standard input holds an array of ids a line; answer with a JSON string a line"},
    {"skip-special", 0, OPTION_FLAG, offsetof(struct detokenize_settings, skip_special), NULL,
     .help = "leave special tokens out"},
    {"json", 0, OPTION_FLAG, offsetof(struct detokenize_settings, json), NULL, .help = "print {\"text\": ...}"},
};

static const struct option_group groups[] = {
    {"Model", folder_options, BB_COUNT(folder_options), offsetof(struct detokenize_settings, folder)},
    {"Input and output", options, BB_COUNT(options), 0},
};

static bombus_status ids_of_json(const json_t *array, int32_t **ids, int32_t line, bombus_error *error)
{
    *ids = report_if_null(bb_allocate(json_array_size(array), sizeof **ids));
    for (size_t i = 0; i < json_array_size(array); i++) {
        const json_t *id = json_array_get(array, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX)
            return bb_fail_at(error, BOMBUS_ERROR_FORMAT, line, 1, "--jsonl: element %zu is not an id", i);
        (*ids)[i] = (int32_t)json_integer_value(id);
    }
    return BOMBUS_OK;
}

static bombus_status decode_lines(const bombus_tokenizer *tokenizer, bool skip_special, bombus_error *error)
{
    struct bb_buffer line = {0};
    bombus_status status = BOMBUS_OK;
    json_t *array;
    int32_t number = 0;
    while (status == BOMBUS_OK) {
        status = text_input_json_line(&array, &line, &number, JSON_ARRAY, "an array of ids", error);
        if (array == NULL)
            break;
        int32_t *ids = NULL;
        char *text = NULL;
        size_t length = 0;
        status = ids_of_json(array, &ids, number, error);
        if (status == BOMBUS_OK)
            status =
                bombus_tokenizer_decode(tokenizer, ids, json_array_size(array), skip_special, &text, &length, error);
        if (status == BOMBUS_OK)
            json_output_print(json_output_text(text, length));
        bombus_free(text);
        bb_release(ids);
        json_decref(array);
    }
    bb_buffer_clear(&line);
    return status;
}

static bombus_status decode_ids(const bombus_tokenizer *tokenizer, const struct detokenize_settings *settings,
                                const char *tokens, bombus_error *error)
{
    struct bb_buffer input = {0};
    bombus_status status = text_input_argument(&input, tokens, error);
    int32_t *ids = NULL;
    size_t count = 0, length = 0;
    char *text = NULL;
    if (status == BOMBUS_OK)
        status = text_input_ids(&ids, &count, input.data, "--tokens", error);
    if (status == BOMBUS_OK)
        status = bombus_tokenizer_decode(tokenizer, ids, count, settings->skip_special, &text, &length, error);
    if (status == BOMBUS_OK && settings->json) {
        json_output_print(json_pack("{s:o}", "text", json_output_text(text, length)));
    } else if (status == BOMBUS_OK) {
        fwrite(text, 1, length, stdout);
        putchar('\n');
    }
    bombus_free(text);
    bb_release(ids);
    bb_buffer_clear(&input);
    return status;
}

static int run(const void *given, const struct operands *operands)
{
    const struct detokenize_settings *settings = given;
    const char *tokens = settings->tokens != NULL ? settings->tokens : operands->count > 0 ? operands->values[0] : "-";
    if (settings->tokens != NULL && operands->count > 0)
        return report_usage(&command_detokenize, "the ids are given twice: as operand and with --tokens");
    if (settings->jsonl && (settings->tokens != NULL || operands->count > 0))
        return report_usage(&command_detokenize, "--jsonl reads standard input; leave --tokens out");
    bombus_error error = {0};
    bombus_tokenizer *tokenizer;
    bombus_status status = model_find_tokenizer(&tokenizer, &settings->folder, &error);
    if (status == BOMBUS_OK && settings->jsonl)
        status = decode_lines(tokenizer, settings->skip_special, &error);
    else if (status == BOMBUS_OK)
        status = decode_ids(tokenizer, settings, tokens, &error);
    bombus_tokenizer_close(tokenizer);
    return status == BOMBUS_OK ? EXIT_CODE_DONE : report_error(&error);
}

const struct command command_detokenize = {
    .name = "detokenize",
    .summary = "token ids to text",
    .description =
        "Prints the text of ids. They are the operand, --tokens, or standard input. Only the tokenizer's files "
        "are needed in the model folder.",
    .operand = "[IDS]",
    .operand_limit = 1,
    .groups = groups,
    .group_count = BB_COUNT(groups),
    .settings_size = sizeof(struct detokenize_settings),
    .examples = {{"bombus detokenize 304,280,279", "the text of three ids"},
                 {"bombus detokenize -m Qwen/Qwen3-8B --jsonl --skip-special < ids.jsonl",
                  "a JSON string for each array of a file"}},
    .run = run,
};
