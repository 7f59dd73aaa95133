/* Messages, template variables, and the ids of both. */
#include "cli/conversation.h"

#include "base/buffer.h"
#include "base/error.h"
#include "cli/json_output.h"
#include "cli/report.h"

#include <stdlib.h>
#include <string.h>

/* What a template is told beside the messages. */
static json_t *create_variables(const bombus_tokenizer *tokenizer)
{
    static const char *const names[] = {"bos_token", "eos_token"};
    json_t *variables = report_if_null(json_object());
    json_object_set_new(variables, "add_generation_prompt", json_true());
    for (size_t i = 0; i < BB_COUNT(names); i++) {
        const char *token = bombus_tokenizer_special_token(tokenizer, names[i]);
        if (token != NULL)
            json_object_set_new(variables, names[i], json_output_text(token, strlen(token)));
    }
    /* mlx_lm: a model that has the tokens for it thinks, unless told otherwise */
    if (bombus_tokenizer_token_id(tokenizer, "<think>") >= 0 && bombus_tokenizer_token_id(tokenizer, "</think>") >= 0)
        json_object_set_new(variables, "enable_thinking", json_true());
    return variables;
}

bombus_status conversation_open(struct conversation *conversation, const char *folder,
                                const bombus_tokenizer *tokenizer, const char *template_config, bombus_error *error)
{
    *conversation = (struct conversation){.tokenizer = tokenizer};
    conversation->messages = report_if_null(json_array());
    conversation->variables = create_variables(tokenizer);
    bombus_error local;
    bombus_status status = bombus_template_open(&conversation->template_, folder, NULL, error == NULL ? &local : error);
    if (status == BOMBUS_ERROR_NOT_FOUND)
        status = BOMBUS_OK;
    if (status == BOMBUS_OK && template_config != NULL) {
        json_error_t place;
        json_t *config = json_loads(template_config, JSON_ALLOW_NUL, &place);
        if (config == NULL)
            status = bb_fail(error, BOMBUS_ERROR_ARGUMENT, "--chat-template-config: %s", place.text);
        else if (json_object_update(conversation->variables, config) != 0)
            status =
                bb_fail(error, BOMBUS_ERROR_ARGUMENT, "--chat-template-config: not a JSON object: %s", template_config);
        json_decref(config);
    }
    if (status != BOMBUS_OK)
        conversation_close(conversation);
    return status;
}

void conversation_close(struct conversation *conversation)
{
    bombus_template_free(conversation->template_);
    json_decref(conversation->variables);
    json_decref(conversation->messages);
    *conversation = (struct conversation){0};
}

void conversation_add(struct conversation *conversation, const char *role, const char *text, size_t length)
{
    json_t *message = json_pack("{s:s, s:o}", "role", role, "content", json_output_text(text, length));
    if (json_array_append_new(conversation->messages, message) != 0)
        report_if_null(NULL);
}

/* The template's text. */
static bombus_status render(const struct conversation *conversation, struct bb_buffer *prompt, bombus_error *error)
{
    json_object_set(conversation->variables, "messages", conversation->messages);
    char *variables = report_if_null(json_dumps(conversation->variables, 0)), *text = NULL;
    size_t length = 0;
    bombus_status status = bombus_template_render(conversation->template_, variables, strlen(variables), &text, &length,
                                                  NULL, NULL, error);
    free(variables);
    if (status == BOMBUS_OK)
        bb_buffer_add(prompt, text, length);
    bombus_free(text);
    return status;
}

bombus_status conversation_encode(const struct conversation *conversation, const char *prefill, int32_t **ids,
                                  size_t *count, bombus_error *error)
{
    *ids = NULL;
    *count = 0;
    struct bb_buffer prompt = {0};
    bombus_status status = BOMBUS_OK;
    if (conversation->template_ != NULL) {
        status = render(conversation, &prompt, error);
    } else {
        json_t *message;
        size_t i;
        json_array_foreach(conversation->messages, i, message)
        {
            json_t *content = json_object_get(message, "content");
            bb_buffer_add(&prompt, json_string_value(content), json_string_length(content));
        }
    }
    bb_buffer_add_text(&prompt, prefill != NULL ? prefill : "");
    if (prompt.is_failed)
        report_if_null(NULL);
    if (status == BOMBUS_OK && conversation->template_ != NULL) /* the template wrote the special tokens itself */
        status = bombus_tokenizer_encode(conversation->tokenizer, prompt.data, prompt.length, false, ids, count, error);
    else if (status == BOMBUS_OK)
        status = conversation_encode_raw(conversation->tokenizer, prompt.data, prompt.length, ids, count, error);
    bb_buffer_clear(&prompt);
    return status;
}

bombus_status conversation_encode_raw(const bombus_tokenizer *tokenizer, const char *text, size_t length, int32_t **ids,
                                      size_t *count, bombus_error *error)
{
    const char *bos = bombus_tokenizer_special_token(tokenizer, "bos_token");
    bool has_bos = bos != NULL && *bos != '\0' && strncmp(text, bos, strlen(bos)) == 0;
    return bombus_tokenizer_encode(tokenizer, text, length, !has_bos, ids, count, error);
}
