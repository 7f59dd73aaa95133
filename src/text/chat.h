/* Finds and opens a model folder's chat template. */
#ifndef BB_CHAT_H
#define BB_CHAT_H

#include "text/template/template.h"

/* See bombus_template_open. */
BB_RESULT bombus_status bb_chat_template_open(struct bb_template **template_, const char *folder, const char *name,
                                              bombus_error *error);

#endif
