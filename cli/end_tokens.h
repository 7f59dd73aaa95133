/* --extra-eos-token, named as in mlx_lm, and its way to ids. */
#ifndef CLI_END_TOKENS_H
#define CLI_END_TOKENS_H

#include "cli/options.h"

#include "bombus.h"

struct end_tokens {
    int32_t ids[OPTION_LIST_LIMIT];
    size_t count;
};

/* As mlx_lm: a whole number is an id, everything else must stand in the vocabulary just so. `tokenizer` may be NULL:
 * only ids are known then. */
bombus_status end_tokens_find(struct end_tokens *ends, const struct option_list *names,
                              const bombus_tokenizer *tokenizer, const bombus_model *model, bombus_error *error);

#endif
