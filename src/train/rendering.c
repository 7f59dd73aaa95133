/* Conversations as the model's chat template writes them. */
#include "train/rendering.h"

#include "base/memory.h"
#include "text/template/template.h"

#include <stdlib.h>
#include <string.h>

static bool has_token(const struct bb_tokenizer *tokenizer, const char *token)
{
    return bb_tokenizer_id(tokenizer, token, strlen(token)) >= 0;
}

/* mlx-lm: enable_thinking is whether the vocabulary has a pair of thinking tokens. */
static bool thinks(const struct bb_tokenizer *tokenizer)
{
    return (has_token(tokenizer, "<think>") && has_token(tokenizer, "</think>")) ||
           (has_token(tokenizer, "<longcat_think>") && has_token(tokenizer, "</longcat_think>")) ||
           (has_token(tokenizer, "<|think:start|>") && has_token(tokenizer, "<|think:end|>")) ||
           (has_token(tokenizer, "<|channel>") && has_token(tokenizer, "<channel|>"));
}

bombus_status bb_renderer_init(struct bb_renderer *renderer, const struct bb_template *template_,
                               const struct bb_tokenizer *tokenizer, const char *arguments, bombus_error *error)
{
    const char *bos = bb_tokenizer_bos_token(tokenizer), *eos = bb_tokenizer_eos_token(tokenizer);
    *renderer = (struct bb_renderer){.template_ = template_, .variables = json_object()};
    if (bos != NULL)
        json_object_set_new(renderer->variables, "bos_token", json_string(bos));
    if (eos != NULL)
        json_object_set_new(renderer->variables, "eos_token", json_string(eos));
    json_object_set_new(renderer->variables, "enable_thinking", json_boolean(thinks(tokenizer)));
    if (arguments == NULL)
        return BOMBUS_OK;
    json_error_t place;
    json_t *given = json_loads(arguments, JSON_ALLOW_NUL, &place);
    bombus_status status = BOMBUS_OK;
    if (given == NULL || json_object_update(renderer->variables, given) != 0)
        status =
            bb_fail(error, BOMBUS_ERROR_ARGUMENT, "chat template arguments: a JSON object was expected: %s", arguments);
    json_decref(given);
    return status;
}

void bb_renderer_clear(struct bb_renderer *renderer)
{
    json_decref(renderer->variables);
    *renderer = (struct bb_renderer){0};
}

bombus_status bb_render_messages(const struct bb_renderer *renderer, json_t *messages,
                                 const struct bb_rendering *rendering, struct bb_rendered *rendered,
                                 bombus_error *error)
{
    *rendered = (struct bb_rendered){0};
    if (renderer->template_ == NULL)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                       "the model has no chat template: only rows of text can be read");
    json_t *variables = json_copy(renderer->variables);
    json_object_set(variables, "messages", messages);
    if (rendering->tools != NULL)
        json_object_set(variables, "tools", (json_t *)(uintptr_t)rendering->tools);
    json_object_set_new(variables, "add_generation_prompt", json_boolean(rendering->adds_prompt));
    if (rendering->flips_thinking)
        json_object_set_new(variables, "enable_thinking",
                            json_boolean(!json_is_true(json_object_get(variables, "enable_thinking"))));
    char *text = variables != NULL ? json_dumps(variables, JSON_COMPACT) : NULL;
    json_decref(variables);
    if (text == NULL)
        return bb_fail_memory(error, 0, "a template's variables");
    bombus_status status = bb_template_render(renderer->template_, text, strlen(text), &rendered->text,
                                              &rendered->length, &rendered->spans, &rendered->span_count, error);
    free(text);
    if (status != BOMBUS_OK)
        *rendered = (struct bb_rendered){0};
    return status;
}

void bb_rendered_clear(struct bb_rendered *rendered)
{
    bb_release(rendered->text);
    bb_release(rendered->spans);
    *rendered = (struct bb_rendered){0};
}
