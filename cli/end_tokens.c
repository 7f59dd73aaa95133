/* --extra-eos-token: from names or numbers to ids. */
#include "cli/end_tokens.h"

#include "base/error.h"

#include <stdlib.h>
#include <string.h>

static bombus_status find(int32_t *id, const char *name, const bombus_tokenizer *tokenizer, int32_t vocab_size,
                          bombus_error *error)
{
    if (*name != '\0' && name[strspn(name, "0123456789")] == '\0') {
        long long number = strtoll(name, NULL, 10); /* LLONG_MAX where it is larger */
        if (number >= vocab_size)
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "--extra-eos-token: %s, expected an id in [0, %d)", name,
                           vocab_size);
        *id = (int32_t)number;
        return BOMBUS_OK;
    }
    if (tokenizer == NULL)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT,
                       "--extra-eos-token: '%s' needs a tokenizer, which the model's folder has not; expected an id", name);
    *id = bombus_tokenizer_token_id(tokenizer, name);
    if (*id < 0)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT,
                       "--extra-eos-token: '%s' is no token of the model's vocabulary, expected one, or an id", name);
    return BOMBUS_OK;
}

bombus_status end_tokens_find(struct end_tokens *ends, const struct option_list *names,
                              const bombus_tokenizer *tokenizer, const bombus_model *model, bombus_error *error)
{
    bombus_model_info info;
    bombus_model_get_info(model, &info);
    bombus_status status = BOMBUS_OK;
    ends->count = names->count;
    for (size_t i = 0; i < names->count && status == BOMBUS_OK; i++)
        status = find(&ends->ids[i], names->values[i], tokenizer, info.vocab_size, error);
    return status;
}
