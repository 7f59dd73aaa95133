/* bombus generate: one prompt, one answer. */
#include "cli/adapter_options.h"
#include "cli/clock.h"
#include "cli/command.h"
#include "cli/conversation.h"
#include "cli/interrupt.h"
#include "cli/json_output.h"
#include "cli/model_options.h"
#include "cli/report.h"
#include "cli/sampler_options.h"
#include "cli/text_input.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#include <string.h>

struct prompt_settings {
    const char *prompt, *system, *tokens, *prefill_response, *chat_template_config;
    bool raw;
};

struct answer_settings {
    struct option_list stop, extra_eos_token;
    int64_t max_tokens, logprobs;
    bool ignore_eos, json;
};

struct speculation_settings {
    const char *draft_model;
    int64_t num_draft_tokens, ngram_size;
};

struct constraint_settings {
    const char *json_schema, *regex, *grammar;
};

struct generate_settings {
    struct folder_settings folder;
    struct device_settings device;
    struct adapter_settings adapter;
    struct cache_settings cache;
    const char *prompt_cache_file;
    struct sampler_settings sampler;
    struct prompt_settings prompt;
    struct answer_settings answer;
    struct speculation_settings speculation;
    struct constraint_settings constraint;
};

static const struct option prompt_options[] = {
    {"prompt", 'p', OPTION_TEXT, offsetof(struct prompt_settings, prompt), "TEXT",
     .help = "the prompt; - reads standard input"},
    {"system", 0, OPTION_TEXT, offsetof(struct prompt_settings, system), "TEXT", .help = "a system message before it",
     .also = "system-prompt"},
    {"raw", 0, OPTION_FLAG, offsetof(struct prompt_settings, raw), NULL,
     .help = "continue the text as it is, without chat template", .also = "ignore-chat-template"},
    {"tokens", 0, OPTION_TEXT, offsetof(struct prompt_settings, tokens), "IDS", .help = "the prompt as ids, 1,2,3"},
    {"prefill-response", 0, OPTION_TEXT, offsetof(struct prompt_settings, prefill_response), "TEXT",
     .help = "the answer begins with this text"},
    {"chat-template-config", 0, OPTION_TEXT, offsetof(struct prompt_settings, chat_template_config), "JSON",
     .help = "variables for the chat template: {\"enable_thinking\": false}"},
};

static const struct option answer_options[] = {
    {"max-tokens", 0, OPTION_INTEGER, offsetof(struct answer_settings, max_tokens), "N",
     .help = "end after so many tokens", .fallback = "256", .least = 1, .most = INT32_MAX},
    {"stop", 0, OPTION_LIST, offsetof(struct answer_settings, stop), "TEXT", .help = "end before this text"},
    {"extra-eos-token", 0, OPTION_LIST, offsetof(struct answer_settings, extra_eos_token), "TOKEN",
     .help = "end after this token too: as it stands in the vocabulary, or its id"},
    {"ignore-eos", 0, OPTION_FLAG, offsetof(struct answer_settings, ignore_eos), NULL,
     .help = "go on after the end of the turn"},
    {"logprobs", 0, OPTION_INTEGER, offsetof(struct answer_settings, logprobs), "N",
     .help = "with --json: log-probability of each token and of the N likeliest", .least = 0, .most = 1000},
    {"json", 0, OPTION_FLAG, offsetof(struct answer_settings, json), NULL, .help = "print one JSON object at the end"},
};

static const struct option cache_file_options[] = {
    {"prompt-cache-file", 0, OPTION_FILE, 0, "FILE",
     .help = "start from the tokens kept in this file, where they begin the prompt, and keep this prompt's there"},
};

static const struct option speculation_options[] = {
    {"draft-model", 0, OPTION_FILE, offsetof(struct speculation_settings, draft_model), "MODEL",
     .help = "a smaller model of the same vocabulary guesses ahead"},
    {"num-draft-tokens", 0, OPTION_INTEGER, offsetof(struct speculation_settings, num_draft_tokens), "N",
     .help = "tokens guessed at once", .fallback = "3", .least = 1, .most = 64},
    {"ngram-size", 0, OPTION_INTEGER, offsetof(struct speculation_settings, ngram_size), "N",
     .help = "guess ahead by looking up the latest N tokens in the text so far", .least = 1, .most = 64},
};

static const struct option constraint_options[] = {
    {"json-schema", 0, OPTION_TEXT, offsetof(struct constraint_settings, json_schema), "JSON",
     .help = "answer in JSON by this schema; a text that begins with { or the name of a file"},
    {"regex", 0, OPTION_TEXT, offsetof(struct constraint_settings, regex), "REGEX",
     .help = "an answer that matches this regular expression as a whole"},
    {"grammar", 0, OPTION_FILE, offsetof(struct constraint_settings, grammar), "FILE",
     .help = "an answer by this grammar (GBNF)"},
};

static const struct option_group groups[] = {
    {"Model", folder_options, BB_COUNT(folder_options), offsetof(struct generate_settings, folder)},
    {"Adapters", adapter_options, BB_COUNT(adapter_options), offsetof(struct generate_settings, adapter)},
    {"Device", device_options, BB_COUNT(device_options), offsetof(struct generate_settings, device)},
    {"Prompt", prompt_options, BB_COUNT(prompt_options), offsetof(struct generate_settings, prompt)},
    {"Answer", answer_options, BB_COUNT(answer_options), offsetof(struct generate_settings, answer)},
    {"Sampling (the model's own values where not given)", sampler_options, BB_COUNT(sampler_options),
     offsetof(struct generate_settings, sampler)},
    {"Cache", cache_options, BB_COUNT(cache_options), offsetof(struct generate_settings, cache)},
    {"Prompt cache", cache_file_options, BB_COUNT(cache_file_options),
     offsetof(struct generate_settings, prompt_cache_file)},
    {"Speculation", speculation_options, BB_COUNT(speculation_options),
     offsetof(struct generate_settings, speculation)},
    {"Form of the answer", constraint_options, BB_COUNT(constraint_options),
     offsetof(struct generate_settings, constraint)},
};

/* What a run holds; zeroed = nothing. */
struct generation {
    const struct generate_settings *settings;
    char *folder, *draft_folder;
    bombus_tokenizer *tokenizer; /* NULL where --tokens is given and the folder has none */
    bombus_model *model, *draft_model;
    struct adapters adapters;
    bombus_session *session, *draft_session;
    bombus_constraint *constraint;
    struct end_tokens ends;
    struct sampler sampler;
    int32_t *prompt; /* released by bb_release or bombus_free as `is_prompt_ours` says */
    size_t prompt_count;
    bool is_prompt_ours;
    json_t *logprobs;
    bool has_newline; /* the text on the terminal ends with a line end */
    double load_seconds;
};

static void generation_clear(struct generation *generation)
{
    sampler_clear(&generation->sampler);
    bombus_session_free(generation->draft_session);
    bombus_model_close(generation->draft_model);
    bombus_session_free(generation->session);
    adapters_close(&generation->adapters);
    bombus_model_close(generation->model);
    bombus_constraint_free(generation->constraint);
    bombus_tokenizer_close(generation->tokenizer);
    if (generation->is_prompt_ours)
        bb_release(generation->prompt);
    else
        bombus_free(generation->prompt);
    json_decref(generation->logprobs);
    bombus_free(generation->folder);
    bombus_free(generation->draft_folder);
}

static bombus_status open_model(struct generation *generation, bombus_error *error)
{
    const struct generate_settings *settings = generation->settings;
    bombus_status status = model_find_folder(&generation->folder, &settings->folder, error);
    double start = clock_seconds(); /* a download is no part of loading */
    if (status == BOMBUS_OK) {
        status = model_open_tokenizer(&generation->tokenizer, generation->folder, error);
        if (status == BOMBUS_ERROR_NOT_FOUND && settings->prompt.tokens != NULL)
            status = BOMBUS_OK;
    }
    if (status == BOMBUS_OK)
        status = model_open(&generation->model, generation->folder, &settings->device, error);
    if (status == BOMBUS_OK)
        status = adapters_open(&generation->adapters, &settings->adapter, generation->model, error);
    if (status == BOMBUS_OK)
        status = model_create_session(&generation->session, generation->model, &settings->cache, error);
    if (status == BOMBUS_OK)
        status = adapters_apply(&generation->adapters, generation->session, error);
    generation->load_seconds = clock_seconds() - start;
    if (status == BOMBUS_OK && settings->speculation.draft_model != NULL) {
        struct folder_settings draft = {settings->speculation.draft_model};
        status = model_find_folder(&generation->draft_folder, &draft, error);
        if (status == BOMBUS_OK)
            status = model_open(&generation->draft_model, generation->draft_folder, &settings->device, error);
        if (status == BOMBUS_OK)
            status = model_create_session(&generation->draft_session, generation->draft_model, &settings->cache, error);
    }
    if (status == BOMBUS_OK)
        status = end_tokens_find(&generation->ends, &settings->answer.extra_eos_token, generation->tokenizer,
                                 generation->model, error);
    if (status == BOMBUS_OK)
        status = sampler_init(&generation->sampler, &settings->sampler, generation->folder, generation->tokenizer,
                              &generation->ends, error);
    return status;
}

/* What --json-schema, --regex or --grammar asks for. */
static bombus_status make_constraint(struct generation *generation, bombus_error *error)
{
    const struct constraint_settings *settings = &generation->settings->constraint;
    bombus_constraint_kind kind = settings->regex != NULL     ? BOMBUS_CONSTRAINT_REGEX
                                  : settings->grammar != NULL ? BOMBUS_CONSTRAINT_GBNF
                                                              : BOMBUS_CONSTRAINT_JSON_SCHEMA;
    const char *source = settings->regex != NULL     ? settings->regex
                         : settings->grammar != NULL ? settings->grammar
                                                     : settings->json_schema;
    if (source == NULL)
        return BOMBUS_OK;
    struct bb_buffer text = {0};
    bombus_status status = BOMBUS_OK;
    bool is_file = settings->grammar != NULL || (settings->json_schema != NULL && source[strspn(source, " \t\n")] != '{');
    if (is_file)
        status = text_input_read(&text, source, error);
    else
        bb_buffer_add_text(&text, source);
    if (text.is_failed)
        report_if_null(NULL);
    if (status == BOMBUS_OK)
        status = bombus_constraint_create(&generation->constraint, kind, text.data != NULL ? text.data : "", text.length,
                                          generation->tokenizer, error);
    bb_buffer_clear(&text);
    return status;
}

static bombus_status encode_text(struct generation *generation, const char *text, size_t length, bombus_error *error)
{
    const struct prompt_settings *settings = &generation->settings->prompt;
    if (settings->raw)
        return conversation_encode_raw(generation->tokenizer, text, length, &generation->prompt,
                                       &generation->prompt_count, error);
    struct conversation conversation;
    bombus_status status = conversation_open(&conversation, generation->folder, generation->tokenizer,
                                             settings->chat_template_config, error);
    if (status != BOMBUS_OK)
        return status;
    if (conversation.template_ == NULL)
        report_message("note: the model has no chat template; the text is continued as it is");
    if (settings->system != NULL)
        conversation_add(&conversation, "system", settings->system, strlen(settings->system));
    conversation_add(&conversation, "user", text, length);
    status = conversation_encode(&conversation, settings->prefill_response, &generation->prompt,
                                 &generation->prompt_count, error);
    conversation_close(&conversation);
    return status;
}

static bombus_status make_prompt(struct generation *generation, const char *text, bombus_error *error)
{
    const struct prompt_settings *settings = &generation->settings->prompt;
    struct bb_buffer input = {0};
    bombus_status status = text_input_argument(&input, text, error);
    if (status == BOMBUS_OK && settings->tokens != NULL) {
        generation->is_prompt_ours = true;
        status = text_input_ids(&generation->prompt, &generation->prompt_count, input.data, "--tokens", error);
    } else if (status == BOMBUS_OK) {
        status = encode_text(generation, input.data, input.length, error);
    }
    bb_buffer_clear(&input);
    if (status == BOMBUS_OK && generation->prompt_count == 0)
        status = bb_fail(error, BOMBUS_ERROR_ARGUMENT, "the prompt is empty: at least one token is needed");
    return status;
}

static bool on_token(void *context, const bombus_token_event *event)
{
    struct generation *generation = context;
    if (generation->logprobs != NULL) {
        json_t *top = report_if_null(json_array());
        for (size_t i = 0; i < event->top_count; i++)
            json_array_append_new(top, json_pack("{s:i, s:o}", "id", (int)event->top[i].id, "logprob",
                                                 json_output_number((double)event->top[i].logprob)));
        json_array_append_new(generation->logprobs, json_pack("{s:i, s:o, s:o}", "id", (int)event->id, "logprob",
                                                              json_output_number((double)event->logprob), "top", top));
    }
    if (!generation->settings->answer.json && event->text_length > 0) {
        fwrite(event->text, 1, event->text_length, stdout);
        fflush(stdout);
        generation->has_newline = event->text[event->text_length - 1] == '\n';
    }
    return !interrupt_is_pending();
}

static double per_second(size_t count, double seconds)
{
    return seconds > 0.0 ? (double)count / seconds : 0.0;
}

static void print_json(const struct generation *generation, const bombus_generate_result *result)
{
    static const char *const reasons[] = {
        [BOMBUS_FINISH_LENGTH] = "length", [BOMBUS_FINISH_STOP] = "stop", [BOMBUS_FINISH_CANCELLED] = "cancelled"};
    const char *model =
        generation->settings->folder.model != NULL ? generation->settings->folder.model : generation->folder;
    bombus_model_info info;
    bombus_model_get_info(generation->model, &info);
    json_t *object = report_if_null(json_object());
    json_object_set_new(object, "model", json_output_text(model, strlen(model)));
    json_object_set_new(object, "device", json_string(info.device));
    json_object_set_new(object, "text",
                        json_output_text(result->text != NULL ? result->text : "", result->text_length));
    json_object_set_new(object, "token_ids", json_output_ids(result->ids, result->count));
    json_object_set_new(object, "prompt_token_ids", json_output_ids(generation->prompt, generation->prompt_count));
    json_object_set_new(object, "finish_reason", json_string(reasons[result->finish_reason]));
    if (generation->logprobs != NULL)
        json_object_set(object, "logprobs", generation->logprobs);
    json_object_set_new(object, "usage",
                        json_pack("{s:I, s:I}", "prompt_tokens", (json_int_t)generation->prompt_count,
                                  "completion_tokens", (json_int_t)result->count));
    size_t computed = result->prompt_count - result->reused_count;
    json_object_set_new(object, "timings",
                        json_pack("{s:f, s:f, s:f, s:f, s:f, s:I}", "load_s", generation->load_seconds, "prompt_s",
                                  result->prompt_seconds, "prompt_tokens_per_s",
                                  per_second(computed, result->prompt_seconds), "generation_s",
                                  result->generation_seconds, "generation_tokens_per_s",
                                  per_second(result->count, result->generation_seconds), "peak_memory_bytes",
                                  (json_int_t)clock_peak_memory_bytes()));
    json_output_print(object);
}

static void print_timings(const struct generation *generation, const bombus_generate_result *result)
{
    if (!generation->has_newline)
        putchar('\n');
    fflush(stdout);
    size_t computed = result->prompt_count - result->reused_count;
    char seed[40] = "";
    if (generation->sampler.options.temperature > 0.0f)
        snprintf(seed, sizeof seed, "; seed %llu", (unsigned long long)generation->sampler.options.seed);
    report_message("prompt: %zu tokens (%zu kept), %.1f tokens/s; answer: %zu tokens, %.1f tokens/s; load %.2f s; memory %s%s",
                   result->prompt_count, result->reused_count, per_second(computed, result->prompt_seconds), result->count,
                   per_second(result->count, result->generation_seconds), generation->load_seconds,
                   report_bytes((double)clock_peak_memory_bytes()).text, seed);
    if (result->draft_count > 0)
        report_message("speculation: %zu of %zu guessed tokens were right", result->accepted_count, result->draft_count);
}

static bombus_status generate(struct generation *generation, bombus_error *error)
{
    const struct generate_settings *settings = generation->settings;
    const char *cache_file = settings->prompt_cache_file;
    bombus_generate_options options = {
        .sampler = generation->sampler.options,
        .max_tokens = (size_t)settings->answer.max_tokens,
        .stop = settings->answer.stop.values,
        .stop_count = settings->answer.stop.count,
        .ignore_eos = settings->answer.ignore_eos,
        .extra_eos_ids = generation->ends.ids,
        .extra_eos_count = generation->ends.count,
        .wants_logprobs = settings->answer.logprobs != OPTION_UNSET,
        .top_logprobs = settings->answer.logprobs != OPTION_UNSET ? (int32_t)settings->answer.logprobs : 0,
        .draft = generation->draft_session,
        .num_draft_tokens = (int32_t)settings->speculation.num_draft_tokens,
        .ngram_size = settings->speculation.ngram_size != OPTION_UNSET ? (int32_t)settings->speculation.ngram_size : 0,
        .constraint = generation->constraint,
        .callback = on_token,
        .prompt_progress = interrupt_on_progress,
        .context = generation,
    };
    if (options.wants_logprobs)
        generation->logprobs = report_if_null(json_array());
    if (cache_file != NULL && bb_file_exists(cache_file)) {
        bombus_status status = bombus_session_load(generation->session, cache_file, error);
        if (status != BOMBUS_OK)
            return status;
    }
    bombus_generate_result result = {0};
    interrupt_catch();
    bombus_status status = bombus_generate(generation->session, generation->tokenizer, generation->prompt,
                                           generation->prompt_count, &options, &result, error);
    interrupt_release();
    if (status == BOMBUS_OK && settings->answer.json)
        print_json(generation, &result);
    else if (status == BOMBUS_OK)
        print_timings(generation, &result);
    bombus_generate_result_clear(&result);
    if (status == BOMBUS_OK && cache_file != NULL)
        status = bombus_session_save(generation->session, cache_file, error);
    return status;
}

static int run(const void *given, const struct operands *operands)
{
    const struct generate_settings *settings = given;
    const struct prompt_settings *prompt = &settings->prompt;
    const char *text = prompt->tokens != NULL ? prompt->tokens : prompt->prompt;
    if ((prompt->tokens != NULL) + (prompt->prompt != NULL) + (operands->count > 0) != 1)
        return report_usage(&command_generate, "one prompt is needed: as operand, with --prompt or with --tokens");
    if (text == NULL)
        text = operands->values[0];
    bool is_plain = prompt->raw || prompt->tokens != NULL;
    if (is_plain &&
        (prompt->system != NULL || prompt->prefill_response != NULL || prompt->chat_template_config != NULL))
        return report_usage(&command_generate,
                            "--system, --prefill-response and --chat-template-config need the chat template: "
                            "leave --raw and --tokens out");
    if (settings->answer.logprobs != OPTION_UNSET && !settings->answer.json)
        return report_usage(&command_generate, "--logprobs needs --json");
    if (settings->speculation.draft_model != NULL && settings->speculation.ngram_size != OPTION_UNSET)
        return report_usage(&command_generate, "--draft-model and --ngram-size exclude each other");
    const struct constraint_settings *constraint = &settings->constraint;
    if ((constraint->json_schema != NULL) + (constraint->regex != NULL) + (constraint->grammar != NULL) > 1)
        return report_usage(&command_generate, "--json-schema, --regex and --grammar exclude each other");
    struct generation generation = {.settings = settings};
    bombus_error error = {0};
    bombus_status status = open_model(&generation, &error);
    if (status == BOMBUS_OK)
        status = make_constraint(&generation, &error);
    if (status == BOMBUS_OK)
        status = make_prompt(&generation, text, &error);
    if (status == BOMBUS_OK)
        status = generate(&generation, &error);
    generation_clear(&generation);
    return status == BOMBUS_OK ? EXIT_CODE_DONE : report_error(&error);
}

const struct command command_generate = {
    .name = "generate",
    .summary = "answer one prompt",
    .description =
        "Prints the model's answer to a prompt, as it comes. The prompt goes through the model's chat template "
        "unless --raw or --tokens is given. Sampling options that are not given take the values of the model's "
        "generation_config.json where it samples; else the likeliest token is taken. Ctrl-C ends the answer and "
        "keeps what is there.",
    .operand = "[PROMPT]",
    .operand_limit = 1,
    .groups = groups,
    .group_count = BB_COUNT(groups),
    .settings_size = sizeof(struct generate_settings),
    .examples = {{"bombus generate \"Write a story about a fox\"", "a story by the default model"},
                 {"bombus generate -m lmstudio-community/Qwen3-8B-MLX-4bit -p - --temp 0 --json < question.txt",
                  "the likeliest answer to a file as JSON; the model is downloaded the first time"}},
    .run = run,
};
