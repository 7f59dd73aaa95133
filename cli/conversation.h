/* Messages to prompt ids, as mlx_lm makes them: the model's chat template over the messages, then the tokenizer. */
#ifndef CLI_CONVERSATION_H
#define CLI_CONVERSATION_H

#include "bombus.h"

#include <jansson.h>

struct conversation {
    bombus_template *template_;        /* NULL: the model has none, texts are joined as they are */
    const bombus_tokenizer *tokenizer; /* borrowed */
    json_t *variables;                 /* of the template, but the messages */
    json_t *messages;                  /* [{"role", "content"}] */
};

/* `template_config` is --chat-template-config: a JSON object of further variables, or NULL. */
bombus_status conversation_open(struct conversation *conversation, const char *folder,
                                const bombus_tokenizer *tokenizer, const char *template_config, bombus_error *error);
void conversation_close(struct conversation *conversation);

void conversation_add(struct conversation *conversation, const char *role, const char *text, size_t length);

/* Ids of the prompt for an answer that begins with `prefill` (may be NULL). *ids: free with bombus_free. */
bombus_status conversation_encode(const struct conversation *conversation, const char *prefill, int32_t **ids,
                                  size_t *count, bombus_error *error);

/* Ids of a text without template: with the tokens that the tokenizer adds, unless the text begins with the first of
 * them. */
bombus_status conversation_encode_raw(const bombus_tokenizer *tokenizer, const char *text, size_t length, int32_t **ids,
                                      size_t *count, bombus_error *error);

#endif
