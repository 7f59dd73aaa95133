/* Finds and opens a model folder's chat template. */
#ifndef BB_CHAT_H
#define BB_CHAT_H

#include "text/template/template.h"

/* See bombus_template_open. The first of these that is there: chat_template.jinja (for another name than "default":
 * additional_chat_templates/NAME.jinja), chat_template.json, tokenizer_config.json. */
BB_RESULT bombus_status bb_chat_template_open(struct bb_template **template_, const char *folder, const char *name,
                                              bombus_error *error);
/* Its source, released by bb_release. */
BB_RESULT bombus_status bb_chat_template_source(char **source, size_t *length, const char *folder, const char *name,
                                                bombus_error *error);

#endif
