/* bombus chat: a conversation in the terminal, with line editing and history by libedit where it was built in. */
#include "cli/adapter_options.h"
#include "cli/clock.h"
#include "cli/command.h"
#include "cli/conversation.h"
#include "cli/environment.h"
#include "cli/interrupt.h"
#include "cli/json_output.h"
#include "cli/model_options.h"
#include "cli/report.h"
#include "cli/sampler_options.h"
#include "cli/text_input.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"

#if HAVE_LIBEDIT
#include <editline/readline.h>
#endif
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct talk_settings {
    const char *system, *chat_template_config;
    struct option_list extra_eos_token;
    int64_t max_tokens;
};

struct chat_settings {
    struct folder_settings folder;
    struct device_settings device;
    struct adapter_settings adapter;
    struct cache_settings cache;
    struct sampler_settings sampler;
    struct talk_settings talk;
};

static const struct option talk_options[] = {
    {"system", 0, OPTION_TEXT, offsetof(struct talk_settings, system), "TEXT",
     .help = "a system message before the conversation", .also = "system-prompt"},
    {"chat-template-config", 0, OPTION_TEXT, offsetof(struct talk_settings, chat_template_config), "JSON",
     .help = "variables for the chat template: {\"enable_thinking\": false}"},
    {"max-tokens", 0, OPTION_INTEGER, offsetof(struct talk_settings, max_tokens), "N",
     .help = "end an answer after so many tokens", .fallback = "1024", .least = 1, .most = INT32_MAX},
    {"extra-eos-token", 0, OPTION_LIST, offsetof(struct talk_settings, extra_eos_token), "TOKEN",
     .help = "end after this token too: as it stands in the vocabulary, or its id"},
};

static const struct option_group groups[] = {
    {"Model", folder_options, BB_COUNT(folder_options), offsetof(struct chat_settings, folder)},
    {"Adapters", adapter_options, BB_COUNT(adapter_options), offsetof(struct chat_settings, adapter)},
    {"Device", device_options, BB_COUNT(device_options), offsetof(struct chat_settings, device)},
    {"Conversation", talk_options, BB_COUNT(talk_options), offsetof(struct chat_settings, talk)},
    {"Sampling (the model's own values where not given)", sampler_options, BB_COUNT(sampler_options),
     offsetof(struct chat_settings, sampler)},
    {"Cache", cache_options, BB_COUNT(cache_options), offsetof(struct chat_settings, cache)},
};

struct chat {
    const struct chat_settings *settings;
    char *folder;
    bombus_tokenizer *tokenizer;
    bombus_model *model;
    struct adapters adapters;
    char *adapter_line; /* what /adapter was given, which their names borrow from; NULL: the options */
    bombus_session *session;
    struct end_tokens ends;
    struct sampler sampler;
    struct conversation conversation;
    char *history_file; /* NULL: none is kept */
    bool is_terminal;   /* a person types, who wants a prompt */
};

static bombus_status chat_open(struct chat *chat, bombus_error *error)
{
    const struct chat_settings *settings = chat->settings;
    bombus_status status = model_find_folder(&chat->folder, &settings->folder, error);
    if (status == BOMBUS_OK)
        status = model_open_tokenizer(&chat->tokenizer, chat->folder, error);
    if (status == BOMBUS_OK)
        status = model_open(&chat->model, chat->folder, &settings->device, error);
    if (status == BOMBUS_OK)
        status = model_create_session(&chat->session, chat->model, &settings->cache, error);
    if (status == BOMBUS_OK)
        status = adapters_open(&chat->adapters, &settings->adapter, chat->model, error);
    if (status == BOMBUS_OK)
        status = adapters_apply(&chat->adapters, chat->session, error);
    if (status == BOMBUS_OK)
        status = end_tokens_find(&chat->ends, &settings->talk.extra_eos_token, chat->tokenizer, chat->model, error);
    if (status == BOMBUS_OK)
        status = sampler_init(&chat->sampler, &settings->sampler, chat->folder, chat->tokenizer, &chat->ends, error);
    if (status == BOMBUS_OK)
        status = conversation_open(&chat->conversation, chat->folder, chat->tokenizer,
                                   settings->talk.chat_template_config, error);
    return status;
}

static void chat_close(struct chat *chat)
{
    conversation_close(&chat->conversation);
    sampler_clear(&chat->sampler);
    bombus_session_free(chat->session);
    adapters_close(&chat->adapters);
    bb_release(chat->adapter_line);
    bombus_model_close(chat->model);
    bombus_tokenizer_close(chat->tokenizer);
    bombus_free(chat->folder);
    bb_release(chat->history_file);
}

/* Forgets the conversation but the system message. */
static void reset(struct chat *chat)
{
    json_array_clear(chat->conversation.messages);
    if (chat->settings->talk.system != NULL)
        conversation_add(&chat->conversation, "system", chat->settings->talk.system,
                         strlen(chat->settings->talk.system));
}

static bool on_token(void *context, const bombus_token_event *event)
{
    (void)context;
    fwrite(event->text, 1, event->text_length, stdout);
    fflush(stdout);
    return !interrupt_is_pending();
}

/* One turn: the message, the answer as it comes. On failure the message is taken back. */
static bombus_status answer(struct chat *chat, const char *message, bombus_error *error)
{
    json_t *messages = chat->conversation.messages;
    size_t message_count = json_array_size(messages);
    conversation_add(&chat->conversation, "user", message, strlen(message));
    int32_t *prompt = NULL;
    size_t prompt_count = 0;
    bombus_generate_result result = {0};
    bombus_status status = conversation_encode(&chat->conversation, NULL, &prompt, &prompt_count, error);
    if (status == BOMBUS_OK) {
        bombus_generate_options options = {
            .sampler = chat->sampler.options,
            .max_tokens = (size_t)chat->settings->talk.max_tokens,
            .extra_eos_ids = chat->ends.ids,
            .extra_eos_count = chat->ends.count,
            .callback = on_token,
            .prompt_progress = interrupt_on_progress,
        };
        interrupt_catch();
        status = bombus_generate(chat->session, chat->tokenizer, prompt, prompt_count, &options, &result, error);
        interrupt_release();
        putchar('\n');
    }
    if (status == BOMBUS_OK) {
        conversation_add(&chat->conversation, "assistant", result.text != NULL ? result.text : "", result.text_length);
        chat->sampler.options.seed++; /* the same question again may have another answer */
        if (result.finish_reason == BOMBUS_FINISH_LENGTH)
            report_message("(the answer was cut: --max-tokens, or the context is full)");
    } else {
        while (json_array_size(messages) > message_count)
            json_array_remove(messages, json_array_size(messages) - 1);
    }
    bombus_generate_result_clear(&result);
    bombus_free(prompt);
    return status;
}

static void save(const struct chat *chat, const char *path)
{
    if (*path == '\0') {
        report_message("/save needs a file: /save talk.json");
        return;
    }
    char *text = report_if_null(json_dumps(chat->conversation.messages, JSON_INDENT(2)));
    bombus_error error = {0};
    if (bb_file_write(path, text, strlen(text), &error) != BOMBUS_OK)
        report_error(&error);
    else
        report_message("saved %zu messages to %s", json_array_size(chat->conversation.messages), path);
    free(text);
}

/* Puts the adapters that the line names, with blanks between them, to work in place of those there are; on failure these stay. */
static void change_adapters(struct chat *chat, const char *line)
{
    struct adapter_settings settings = {0};
    struct adapters adapters;
    bombus_error error = {0};
    char *copy = report_if_null(bb_copy_text(line, strlen(line))), *rest = NULL;
    bool is_none = strcmp(line, "none") == 0;
    for (char *word = strtok_r(copy, " ", &rest); word != NULL && !is_none && settings.adapters.count < OPTION_LIST_LIMIT;
         word = strtok_r(NULL, " ", &rest))
        settings.adapters.values[settings.adapters.count++] = word;
    bombus_status status = adapters_open(&adapters, &settings, chat->model, &error);
    if (status == BOMBUS_OK)
        status = adapters_apply(&adapters, chat->session, &error);
    if (status != BOMBUS_OK) {
        adapters_close(&adapters);
        bb_release(copy);
        report_error(&error);
        return;
    }
    adapters_close(&chat->adapters);
    bb_release(chat->adapter_line);
    chat->adapters = adapters;
    chat->adapter_line = copy;
}

static void run_adapter(struct chat *chat, const char *argument)
{
    if (*argument != '\0')
        change_adapters(chat, argument);
    for (size_t i = 0; i < chat->adapters.count; i++)
        report_message("adapter %s", chat->adapters.names[i]);
    if (chat->adapters.count == 0)
        report_message("no adapter is at work");
}

/* Runs "/word argument"; false to leave the conversation. */
static bool run_slash(struct chat *chat, const char *line)
{
    size_t length = strcspn(line, " ");
    const char *argument = line + length + strspn(line + length, " ");
    if (strncmp(line, "/save", length) == 0 && length == 5) {
        save(chat, argument);
    } else if (strncmp(line, "/adapter", length) == 0 && length == 8) {
        run_adapter(chat, argument);
    } else if (strcmp(line, "/reset") == 0) {
        reset(chat);
        report_message("the conversation begins anew");
    } else if (strcmp(line, "/exit") == 0 || strcmp(line, "/quit") == 0) {
        return false;
    } else {
        if (strcmp(line, "/help") != 0)
            report_message("%.*s: no such command", (int)length, line);
        report_message("/adapter [DIR[=SCALE] ...|none]\n"
                       "            put these adapters to work from the next answer on, or say which are\n"
                       "/reset      begin anew\n/save FILE  write the conversation as JSON messages\n/exit       leave, as "
                       "Ctrl-D does\n"
                       "/help       this text\nCtrl-C stops an answer.");
    }
    return true;
}

/* The next line without its end in `line`; false at the end. */
static bool read_line(const struct chat *chat, struct bb_buffer *line)
{
#if HAVE_LIBEDIT
    if (chat->is_terminal) {
        char *typed = readline("> ");
        if (typed == NULL)
            return false;
        if (*typed != '\0')
            add_history(typed);
        line->length = 0;
        bb_buffer_add_text(line, typed);
        free(typed);
        return true;
    }
#endif
    if (chat->is_terminal) {
        fputs("> ", stderr);
        fflush(stderr);
    }
    return text_input_line(line, stdin);
}

static void talk(struct chat *chat)
{
    struct bb_buffer line = {0};
    while (read_line(chat, &line)) {
        if (line.length == 0)
            continue;
        if (line.data[0] == '/') {
            if (!run_slash(chat, line.data))
                break;
            continue;
        }
        bombus_error error = {0};
        if (answer(chat, line.data, &error) != BOMBUS_OK)
            report_error(&error);
    }
    bb_buffer_clear(&line);
}

static int run(const void *given, const struct operands *operands)
{
    (void)operands;
    struct chat chat = {.settings = given, .is_terminal = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO)};
    bombus_error error = {0};
    bombus_status status = chat_open(&chat, &error);
    if (status == BOMBUS_OK) {
        reset(&chat);
        if (chat.is_terminal) {
            report_message("%s. /help lists commands, Ctrl-D leaves.", chat.folder);
            chat.history_file = environment_state_file("history");
        }
#if HAVE_LIBEDIT
        if (chat.history_file != NULL)
            read_history(chat.history_file);
#endif
        talk(&chat);
#if HAVE_LIBEDIT
        if (chat.history_file != NULL)
            write_history(chat.history_file);
#endif
    }
    chat_close(&chat);
    return status == BOMBUS_OK ? EXIT_CODE_DONE : report_error(&error);
}

const struct command command_chat = {
    .name = "chat",
    .summary = "talk with a model in the terminal",
    .description =
        "Reads messages line by line and prints the answers as they come; what was said stays in the model's "
        "cache. Lines that begin with a slash are commands: /help, /adapter, /reset, /save FILE, /exit. Ctrl-C stops an "
        "answer. Where standard input is no terminal its lines are the messages.",
    .groups = groups,
    .group_count = BB_COUNT(groups),
    .settings_size = sizeof(struct chat_settings),
    .examples = {{"bombus chat", "talk with the story model"},
                 {"bombus chat -m lmstudio-community/Qwen3-8B-MLX-4bit --system \"Answer in one sentence.\"",
                  "short answers of a larger one"}},
    .run = run,
};
