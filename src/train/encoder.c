/* One row of data as tokens: fields, chat template, tokenizer, truncation, and what is learnt. */
#include "train/encoder.h"

#include "base/memory.h"
#include "text/tokenizer.h"
#include "train/turns.h"

#include <string.h>

static const char *feature(const char *given, const char *fallback)
{
    return given != NULL ? given : fallback;
}

bombus_status bb_encoder_create(struct bb_encoder **encoder, const struct bb_dataset_options *options,
                                bombus_error *error)
{
    struct bb_encoder *made = bb_allocate(1, sizeof *made);
    *encoder = NULL;
    if (made == NULL)
        return bb_fail_memory(error, sizeof *made, "an encoder");
    *made = (struct bb_encoder){.options = options};
    bombus_status status =
        bb_renderer_init(&made->renderer, options->template_, options->tokenizer, options->template_arguments, error);
    if (status == BOMBUS_OK)
        *encoder = made;
    else
        bb_encoder_free(made);
    return status;
}

void bb_encoder_free(struct bb_encoder *encoder)
{
    if (encoder == NULL)
        return;
    bb_renderer_clear(&encoder->renderer);
    bb_release(encoder);
}

/* ---- fields ---- */

bombus_status bb_encoder_parse(json_t **row, const char *line, size_t length, bombus_error *error)
{
    json_error_t place;
    *row = json_loadb(line, length, JSON_ALLOW_NUL, &place);
    if (*row == NULL)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "no valid JSON: %s (column %d)", place.text, place.column);
    if (json_is_object(*row))
        return BOMBUS_OK;
    json_decref(*row);
    *row = NULL;
    return bb_fail(error, BOMBUS_ERROR_FORMAT, "a JSON object was expected");
}

bombus_status bb_encoder_find_kind(const struct bb_encoder *encoder, const json_t *row, enum bb_row_kind *kind,
                                   bombus_error *error)
{
    const struct bb_dataset_options *options = encoder->options;
    const char *prompt = feature(options->prompt_feature, "prompt"), *text = feature(options->text_feature, "text");
    const char *completion = feature(options->completion_feature, "completion");
    const char *chat = feature(options->chat_feature, "messages");
    const char *chosen = feature(options->chosen_feature, "chosen"),
               *rejected = feature(options->rejected_feature, "rejected");
    if (options->is_preference) {
        *kind = BB_ROW_PREFERENCE;
        if (json_object_get(row, chosen) != NULL && json_object_get(row, rejected) != NULL)
            return BOMBUS_OK;
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "the fields \"%s\", \"%s\" and \"%s\" were expected", prompt, chosen,
                       rejected);
    }
    if (json_object_get(row, prompt) != NULL && json_object_get(row, completion) != NULL)
        *kind = BB_ROW_COMPLETION;
    else if (json_object_get(row, chat) != NULL)
        *kind = BB_ROW_CHAT;
    else if (json_object_get(row, text) != NULL)
        *kind = BB_ROW_TEXT;
    else
        return bb_fail(error, BOMBUS_ERROR_FORMAT,
                       "the field \"%s\" (a list of messages), or \"%s\" and \"%s\", or \"%s\" was expected", chat,
                       prompt, completion, text);
    return BOMBUS_OK;
}

static bombus_status check_text(const json_t *row, const char *name, bombus_error *error)
{
    return json_is_string(json_object_get(row, name))
               ? BOMBUS_OK
               : bb_fail(error, BOMBUS_ERROR_FORMAT, "the field \"%s\" must be a text", name);
}

static bombus_status check_messages(const json_t *messages, const char *name, bombus_error *error)
{
    size_t i;
    json_t *message;
    if (json_array_size(messages) == 0)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "the field \"%s\" must be a list of messages", name);
    json_array_foreach(messages, i, message) {
        if (!json_is_string(json_object_get(message, "role")))
            return bb_fail(error, BOMBUS_ERROR_FORMAT, "\"%s\": message %zu must be an object with a \"role\"", name,
                           i + 1);
    }
    return BOMBUS_OK;
}

/* Texts, or lists of messages (then the prompt may be left out: it is what both lists begin with). */
static bombus_status check_preference(const struct bb_dataset_options *options, const json_t *row, bombus_error *error)
{
    const char *names[] = {feature(options->prompt_feature, "prompt"), feature(options->chosen_feature, "chosen"),
                           feature(options->rejected_feature, "rejected")};
    const json_t *prompt = json_object_get(row, names[0]), *chosen = json_object_get(row, names[1]);
    bool is_text = json_is_string(chosen);
    bombus_status status = BOMBUS_OK;
    for (size_t i = prompt == NULL && !is_text ? 1 : 0; i < BB_COUNT(names) && status == BOMBUS_OK; i++)
        status = is_text ? check_text(row, names[i], error)
                         : check_messages(json_object_get(row, names[i]), names[i], error);
    return status;
}

bombus_status bb_encoder_check(const struct bb_encoder *encoder, enum bb_row_kind kind, const json_t *row,
                               bombus_error *error)
{
    const struct bb_dataset_options *options = encoder->options;
    const char *chat = feature(options->chat_feature, "messages");
    if (kind == BB_ROW_TEXT)
        return check_text(row, feature(options->text_feature, "text"), error);
    if (kind == BB_ROW_CHAT)
        return check_messages(json_object_get(row, chat), chat, error);
    if (kind == BB_ROW_PREFERENCE)
        return check_preference(options, row, error);
    bombus_status status = check_text(row, feature(options->prompt_feature, "prompt"), error);
    return status != BOMBUS_OK ? status : check_text(row, feature(options->completion_feature, "completion"), error);
}

/* ---- tokens ---- */

static bombus_status encode_text(const struct bb_encoder *encoder, const char *text, size_t length, bool add_special,
                                 struct bb_example_part *part, bombus_error *error)
{
    int32_t *ids = NULL;
    size_t count = 0;
    bombus_status status =
        bb_tokenizer_encode(encoder->options->tokenizer, text, length, add_special, &ids, &count, error);
    if (status == BOMBUS_OK && count == 0)
        status = bb_fail(error, BOMBUS_ERROR_FORMAT, "there is no token in it");
    if (status == BOMBUS_OK && count >= INT32_MAX)
        status = bb_fail(error, BOMBUS_ERROR_LIMIT, "%zu tokens are too many", count);
    if (status == BOMBUS_OK && (int32_t)count + 1 > part->capacity) {
        size_t capacity = count + count / 2 + 16;
        int32_t *tokens = bb_resize(part->tokens, capacity, sizeof *tokens);
        part->tokens = tokens != NULL ? tokens : part->tokens;
        bool *is_learnt = tokens != NULL ? bb_resize(part->is_learnt, capacity, sizeof *is_learnt) : NULL;
        part->is_learnt = is_learnt != NULL ? is_learnt : part->is_learnt;
        if (is_learnt == NULL)
            status = bb_fail_memory(error, capacity * sizeof *tokens, "an example");
        else
            part->capacity = (int32_t)capacity;
    }
    if (status == BOMBUS_OK) {
        memcpy(part->tokens, ids, count * sizeof *ids);
        part->count = (int32_t)count;
    }
    bb_release(ids);
    return status;
}

static void learn(struct bb_example_part *part, int32_t begin, int32_t end)
{
    for (int32_t i = begin > 1 ? begin : 1; i < end; i++)
        part->is_learnt[i] = true;
}

/* How many tokens the first `length` bytes of a text become, and how many of these begin the part's. */
static bombus_status count_beginning(const struct bb_encoder *encoder, const char *text, size_t length,
                                     const struct bb_example_part *part, int32_t *count, int32_t *common,
                                     bombus_error *error)
{
    int32_t *ids = NULL;
    size_t found = 0;
    bombus_status status = bb_tokenizer_encode(encoder->options->tokenizer, text, length, false, &ids, &found, error);
    *count = (int32_t)(found < INT32_MAX ? found : INT32_MAX);
    for (*common = 0; status == BOMBUS_OK && *common < *count && *common < part->count; ++*common)
        if (ids[*common] != part->tokens[*common])
            break;
    bb_release(ids);
    return status;
}

/* Learns the tokens that lie wholly in the turns. One that straddles a turn's beginning belongs to the prompt, as in mlx-lm's rule. */
static bombus_status learn_turns(const struct bb_encoder *encoder, json_t *messages, const json_t *tools,
                                 const struct bb_rendered *whole, struct bb_example_part *part, bombus_error *error)
{
    struct bb_turns turns;
    bombus_status status = bb_turns_find(&turns, &encoder->renderer, messages, tools, whole, error);
    for (size_t i = 0; i < turns.count && status == BOMBUS_OK; i++) {
        int32_t count, begin, end = part->count;
        status = count_beginning(encoder, whole->text, turns.spans[i].begin, part, &count, &begin, error);
        begin = begin == count ? begin : begin + 1;
        if (status == BOMBUS_OK && turns.spans[i].end < whole->length)
            status = count_beginning(encoder, whole->text, turns.spans[i].end, part, &count, &end, error);
        if (status == BOMBUS_OK)
            learn(part, begin, end);
    }
    bb_turns_clear(&turns);
    return status;
}

/* mlx-lm: the tokens of the first messages with the prompt for the next; the rest is learnt. */
static bombus_status learn_answer(const struct bb_encoder *encoder, json_t *messages, const json_t *tools,
                                  size_t prompt_messages, struct bb_example_part *part, bombus_error *error)
{
    json_t *next = json_array_get(messages, prompt_messages), *prompt = json_array();
    const char *role = json_string_value(json_object_get(next, "role"));
    struct bb_rendering rendering = {.tools = tools, .adds_prompt = role != NULL && strcmp(role, "assistant") == 0};
    struct bb_rendered rendered = {0};
    int32_t common;
    for (size_t i = 0; i < prompt_messages; i++)
        json_array_append(prompt, json_array_get(messages, i));
    bombus_status status = bb_render_messages(&encoder->renderer, prompt, &rendering, &rendered, error);
    if (status == BOMBUS_OK)
        status = count_beginning(encoder, rendered.text, rendered.length, part, &part->prompt_count, &common, error);
    if (status == BOMBUS_OK)
        learn(part, part->prompt_count, part->count);
    bb_rendered_clear(&rendered);
    json_decref(prompt);
    return status;
}

/* `prompt_messages` > 0: what follows them is learnt, whatever the mask. */
static bombus_status encode_messages(const struct bb_encoder *encoder, json_t *messages, const json_t *tools,
                                     size_t prompt_messages, struct bb_example_part *part, bombus_error *error)
{
    const struct bb_dataset_options *options = encoder->options;
    struct bb_rendering rendering = {.tools = tools};
    struct bb_rendered whole = {0};
    bombus_status status = bb_render_messages(&encoder->renderer, messages, &rendering, &whole, error);
    if (status == BOMBUS_OK)
        status = encode_text(encoder, whole.text, whole.length, false, part, error);
    if (status == BOMBUS_OK)
        memset(part->is_learnt, 0, (size_t)part->count * sizeof *part->is_learnt);
    bool learns_last =
        options->mask == BB_MASK_HISTORY || (options->mask == BB_MASK_PROMPT && options->is_mlx_compatible);
    if (status != BOMBUS_OK)
        ;
    else if (prompt_messages > 0)
        status = learn_answer(encoder, messages, tools, prompt_messages, part, error);
    else if (options->mask == BB_MASK_NONE)
        learn(part, 0, part->count);
    else if (learns_last)
        status = learn_answer(encoder, messages, tools, json_array_size(messages) - 1, part, error);
    else
        status = learn_turns(encoder, messages, tools, &whole, part, error);
    bb_rendered_clear(&whole);
    return status;
}

/* ---- rows ---- */

static bombus_status encode_plain(const struct bb_encoder *encoder, const json_t *text, struct bb_example_part *part,
                                  bombus_error *error)
{
    const struct bb_tokenizer *tokenizer = encoder->options->tokenizer;
    const char *eos = bb_tokenizer_eos_token(tokenizer);
    int32_t eos_id = eos != NULL ? bb_tokenizer_id(tokenizer, eos, strlen(eos)) : -1;
    bombus_status status = encode_text(encoder, json_string_value(text), json_string_length(text), true, part, error);
    if (status != BOMBUS_OK)
        return status;
    if (eos_id >= 0 && part->tokens[part->count - 1] != eos_id)
        part->tokens[part->count++] = eos_id;
    memset(part->is_learnt, 0, (size_t)part->count * sizeof *part->is_learnt);
    learn(part, 0, part->count);
    return BOMBUS_OK;
}

static json_t *question_and_answer(const json_t *prompt, const json_t *answer)
{
    json_t *user = json_object(), *assistant = json_object(), *messages = json_array();
    json_object_set_new(user, "role", json_string("user"));
    json_object_set(user, "content", (json_t *)(uintptr_t)prompt);
    json_object_set_new(assistant, "role", json_string("assistant"));
    json_object_set(assistant, "content", (json_t *)(uintptr_t)answer);
    json_array_append_new(messages, user);
    json_array_append_new(messages, assistant);
    return messages;
}

static json_t *joined(const json_t *prompt, const json_t *answer)
{
    json_t *messages = json_array();
    json_array_extend(messages, (json_t *)(uintptr_t)prompt);
    json_array_extend(messages, (json_t *)(uintptr_t)answer);
    return messages;
}

/* How many messages two lists begin with alike, leaving one of each. */
static size_t shared_messages(const json_t *a, const json_t *b)
{
    size_t i = 0;
    while (i + 1 < json_array_size(a) && i + 1 < json_array_size(b) &&
           json_equal(json_array_get(a, i), json_array_get(b, i)))
        i++;
    return i;
}

static bombus_status encode_preference(const struct bb_encoder *encoder, const json_t *row, struct bb_example *example,
                                       bombus_error *error)
{
    const struct bb_dataset_options *options = encoder->options;
    const json_t *prompt = json_object_get(row, feature(options->prompt_feature, "prompt"));
    const json_t *answers[] = {json_object_get(row, feature(options->chosen_feature, "chosen")),
                               json_object_get(row, feature(options->rejected_feature, "rejected"))};
    size_t prompt_count = json_is_array(prompt) ? json_array_size(prompt) : 1;
    bombus_status status = BOMBUS_OK;
    example->part_count = 2;
    if (prompt == NULL)
        prompt_count = shared_messages(answers[0], answers[1]);
    if (prompt_count == 0)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "the two conversations share no prompt");
    for (size_t i = 0; i < 2 && status == BOMBUS_OK; i++) {
        json_t *messages =
            json_is_string(answers[i]) ? question_and_answer(prompt, answers[i]) : joined(prompt, answers[i]);
        status =
            encode_messages(encoder, messages, json_object_get(row, "tools"), prompt_count, &example->parts[i], error);
        json_decref(messages);
    }
    return status;
}

/* Cuts to max_seq_length, and says whether the padding behind is learnt (mlx-lm counts targets offset .. length, one beyond the last). */
static bool finish_part(const struct bb_dataset_options *options, struct bb_example_part *part)
{
    bool is_truncated = part->count > options->max_seq_length;
    part->count = is_truncated ? options->max_seq_length : part->count;
    part->learns_padding =
        options->is_mlx_compatible && part->count < options->max_seq_length && part->prompt_count <= part->count;
    return is_truncated;
}

bombus_status bb_encoder_encode(const struct bb_encoder *encoder, enum bb_row_kind kind, const json_t *row,
                                struct bb_example *example, bool *is_truncated, bombus_error *error)
{
    const struct bb_dataset_options *options = encoder->options;
    const json_t *tools = json_object_get(row, "tools");
    bombus_status status = BOMBUS_OK;
    *is_truncated = false;
    example->part_count = 1;
    example->parts[0].prompt_count = example->parts[1].prompt_count = 0;
    if (kind == BB_ROW_TEXT) {
        status = encode_plain(encoder, json_object_get(row, feature(options->text_feature, "text")), &example->parts[0],
                              error);
    } else if (kind == BB_ROW_PREFERENCE) {
        status = encode_preference(encoder, row, example, error);
    } else if (kind == BB_ROW_COMPLETION) {
        json_t *messages =
            question_and_answer(json_object_get(row, feature(options->prompt_feature, "prompt")),
                                json_object_get(row, feature(options->completion_feature, "completion")));
        status = encode_messages(encoder, messages, tools, 0, &example->parts[0], error);
        json_decref(messages);
    } else {
        json_t *messages = json_object_get(row, feature(options->chat_feature, "messages"));
        status = encode_messages(encoder, messages, tools, 0, &example->parts[0], error);
    }
    for (int32_t i = 0; i < example->part_count && status == BOMBUS_OK; i++)
        *is_truncated |= finish_part(options, &example->parts[i]);
    return status;
}
