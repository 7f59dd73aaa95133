/* bombus score: how likely a model finds a text. */
#include "cli/adapter_options.h"
#include "cli/command.h"
#include "cli/conversation.h"
#include "cli/json_output.h"
#include "cli/model_options.h"
#include "cli/report.h"
#include "cli/text_input.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <math.h>
#include <string.h>

struct score_settings {
    struct folder_settings folder;
    struct device_settings device;
    struct adapter_settings adapter;
    struct cache_settings cache;
    const char *tokens, *text, *file, *logits;
    bool json;
};

static const struct option options[] = {
    {"tokens", 0, OPTION_TEXT, offsetof(struct score_settings, tokens), "IDS", .help = "ids, 1,2,3"},
    {"text", 0, OPTION_TEXT, offsetof(struct score_settings, text), "TEXT", .help = "a text"},
    {"file", 0, OPTION_FILE, offsetof(struct score_settings, file), "FILE",
     .help = "a text file; - reads standard input"},
    {"logits", 0, OPTION_FILE, offsetof(struct score_settings, logits), "OUT.safetensors",
     .help = "write the logits of all tokens: float32 [tokens, vocab_size], named logits"},
    {"json", 0, OPTION_FLAG, offsetof(struct score_settings, json), NULL,
     .help = "print {\"tokens\", \"nll\", \"perplexity\", \"token_logprobs\"}"},
};

static const struct option_group groups[] = {
    {"Model", folder_options, BB_COUNT(folder_options), offsetof(struct score_settings, folder)},
    {"Adapters", adapter_options, BB_COUNT(adapter_options), offsetof(struct score_settings, adapter)},
    {"Device", device_options, BB_COUNT(device_options), offsetof(struct score_settings, device)},
    {"Text and output", options, BB_COUNT(options), 0},
    {"Cache", cache_options, BB_COUNT(cache_options), offsetof(struct score_settings, cache)},
};

/* The ids to score. *is_ours: released by bb_release, else by bombus_free. */
static bombus_status read_ids(const struct score_settings *settings, const char *folder, int32_t **ids, size_t *count,
                              bool *is_ours, bombus_error *error)
{
    *is_ours = settings->tokens != NULL;
    if (settings->tokens != NULL)
        return text_input_ids(ids, count, settings->tokens, "--tokens", error);
    struct bb_buffer text = {0};
    bombus_status status = BOMBUS_OK;
    if (settings->file != NULL)
        status = text_input_read(&text, settings->file, error);
    else
        bb_buffer_add_text(&text, settings->text);
    bombus_tokenizer *tokenizer = NULL;
    if (status == BOMBUS_OK)
        status = model_open_tokenizer(&tokenizer, folder, error);
    if (status == BOMBUS_OK)
        status = conversation_encode_raw(tokenizer, text.data, text.length, ids, count, error);
    bombus_tokenizer_close(tokenizer);
    bb_buffer_clear(&text);
    return status;
}

/* The file that takes the logits as they come. */
struct logits_file {
    struct bb_file_writer writer;
    bombus_error *error;
    bombus_status status;
};

static bombus_status logits_open(struct logits_file *file, const char *path, size_t count, int32_t vocab_size,
                                 bombus_error *error)
{
    char header[256];
    uint64_t bytes = (uint64_t)count * (uint64_t)vocab_size * sizeof(float);
    int length =
        snprintf(header, sizeof header, "{\"logits\":{\"dtype\":\"F32\",\"shape\":[%zu,%d],\"data_offsets\":[0,%llu]}}",
                 count, (int)vocab_size, (unsigned long long)bytes);
    while ((length + 8) % 16 != 0) /* the data begin aligned */
        header[length++] = ' ';
    uint64_t size = (uint64_t)length;
    *file = (struct logits_file){.error = error, .status = BOMBUS_OK};
    bombus_status status = bb_file_writer_open(&file->writer, path, error);
    if (status == BOMBUS_OK)
        status = bb_file_writer_add(&file->writer, &size, sizeof size, error);
    if (status == BOMBUS_OK)
        status = bb_file_writer_add(&file->writer, header, (size_t)length, error);
    return status;
}

static bool on_logits(void *context, size_t first, size_t count, const float *logits, int32_t vocab_size)
{
    (void)first;
    struct logits_file *file = context;
    file->status = bb_file_writer_add(&file->writer, logits, count * (size_t)vocab_size * sizeof *logits, file->error);
    return file->status == BOMBUS_OK;
}

static bombus_status score(const struct score_settings *settings, bombus_model *model, const int32_t *ids, size_t count,
                           double *logprobs, bombus_error *error)
{
    bombus_model_info info;
    bombus_model_get_info(model, &info);
    bombus_session *session = NULL;
    struct logits_file file = {0};
    struct adapters adapters;
    bombus_status status = adapters_open(&adapters, &settings->adapter, model, error);
    if (status == BOMBUS_OK)
        status = model_create_session(&session, model, &settings->cache, error);
    if (status == BOMBUS_OK)
        status = adapters_apply(&adapters, session, error);
    if (status == BOMBUS_OK && settings->logits != NULL)
        status = logits_open(&file, settings->logits, count, info.vocab_size, error);
    if (status == BOMBUS_OK) {
        bombus_error own;
        status = bombus_session_score(session, ids, count, logprobs, settings->logits != NULL ? on_logits : NULL, &file,
                                      &own);
        if (status != BOMBUS_OK && file.status == BOMBUS_OK) /* else the writer told in *error why it stopped */
            *error = own;
    }
    if (status == BOMBUS_OK && settings->logits != NULL)
        status = bb_file_writer_finish(&file.writer, error);
    bb_file_writer_cancel(&file.writer);
    bombus_session_free(session);
    adapters_close(&adapters);
    return status;
}

/* The first token has nothing before it: count - 1 tokens are scored. */
static void print_scores(const double *logprobs, size_t count, bool is_json)
{
    double sum = 0.0;
    for (size_t i = 1; i < count; i++)
        sum -= logprobs[i];
    double nll = count > 1 ? sum / (double)(count - 1) : (double)NAN;
    if (!is_json) {
        printf("tokens      %zu\nnll         %.6f\nperplexity  %.6f\n", count, nll, exp(nll));
        return;
    }
    json_t *array = report_if_null(json_array());
    for (size_t i = 1; i < count; i++)
        json_array_append_new(array, json_output_number(logprobs[i]));
    json_output_print(json_pack("{s:I, s:o, s:o, s:o}", "tokens", (json_int_t)count, "nll", json_output_number(nll),
                                "perplexity", json_output_number(exp(nll)), "token_logprobs", array));
}

static int run(const void *given, const struct operands *operands)
{
    (void)operands;
    const struct score_settings *settings = given;
    if ((settings->tokens != NULL) + (settings->text != NULL) + (settings->file != NULL) != 1)
        return report_usage(&command_score, "one of --tokens, --text and --file is needed");
    bombus_error error = {0};
    char *folder = NULL;
    bombus_model *model = NULL;
    int32_t *ids = NULL;
    size_t count = 0;
    bool is_ours = false;
    bombus_status status = model_find_folder(&folder, &settings->folder, &error);
    if (status == BOMBUS_OK)
        status = read_ids(settings, folder, &ids, &count, &is_ours, &error);
    if (status == BOMBUS_OK && count == 0)
        status = bb_fail(&error, BOMBUS_ERROR_ARGUMENT, "there is nothing to score: the text has no tokens");
    if (status == BOMBUS_OK)
        status = model_open(&model, folder, &settings->device, &error);
    double *logprobs = report_if_null(bb_allocate(count, sizeof *logprobs));
    if (status == BOMBUS_OK)
        status = score(settings, model, ids, count, logprobs, &error);
    if (status == BOMBUS_OK)
        print_scores(logprobs, count, settings->json);
    bb_release(logprobs);
    bombus_model_close(model);
    if (is_ours)
        bb_release(ids);
    else
        bombus_free(ids);
    bombus_free(folder);
    return status == BOMBUS_OK ? EXIT_CODE_DONE : report_error(&error);
}

const struct command command_score = {
    .name = "score",
    .summary = "log-probabilities and perplexity of a text",
    .description =
        "Prints how likely the model finds each token of a text after those before it: the mean negative log-"
        "likelihood in nats, and its exponential, the perplexity. The first token has nothing before it and is "
        "not scored, so token_logprobs has one entry less than there are tokens.",
    .groups = groups,
    .group_count = BB_COUNT(groups),
    .settings_size = sizeof(struct score_settings),
    .examples = {{"bombus score --text \"The fox ran into the wood.\"", "perplexity of a sentence"},
                 {"bombus score -m ./model --tokens 1,2,3 --precision exact --logits out.safetensors --json",
                  "all logits of three ids in a file, the scores as JSON"}},
    .run = run,
};
