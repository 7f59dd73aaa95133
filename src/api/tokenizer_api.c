/* Tokenizers. */
#include "api/handles.h"

#include <string.h>

enum { CACHED_CONSTRAINTS = 32, CACHED_CONSTRAINT_BYTES = 256 << 20 };

bombus_status bombus_tokenizer_open(bombus_tokenizer **tokenizer, const char *folder, const char *cache_folder,
                                    bombus_error *error)
{
    bombus_status status = bb_check_pointer(tokenizer, "tokenizer", error);
    if (status != BOMBUS_OK)
        return status;
    *tokenizer = NULL;
    status = bb_check_pointer(folder, "folder", error);
    if (status != BOMBUS_OK)
        return status;
    bombus_tokenizer *made = bb_allocate(1, sizeof *made);
    if (made == NULL)
        return bb_fail_memory(error, sizeof *made, "a tokenizer");
    status = bb_tokenizer_open(&made->tokenizer, folder, cache_folder, error);
    if (status == BOMBUS_OK)
        status = bb_constraint_cache_create(&made->constraints, made->tokenizer, CACHED_CONSTRAINTS,
                                            CACHED_CONSTRAINT_BYTES, error);
    if (status == BOMBUS_OK)
        *tokenizer = made;
    else
        bombus_tokenizer_close(made);
    return status;
}

void bombus_tokenizer_close(bombus_tokenizer *tokenizer)
{
    if (tokenizer == NULL)
        return;
    bb_constraint_cache_free(tokenizer->constraints);
    bb_tokenizer_close(tokenizer->tokenizer);
    bb_release(tokenizer);
}

bombus_status bombus_tokenizer_encode(const bombus_tokenizer *tokenizer, const char *text, size_t length,
                                      bool add_special, int32_t **ids, size_t *count, bombus_error *error)
{
    bombus_status status = bb_check_pointer(ids, "ids", error);
    if (status == BOMBUS_OK)
        status = bb_check_pointer(count, "count", error);
    if (status != BOMBUS_OK)
        return status;
    *ids = NULL;
    *count = 0;
    status = bb_check_pointer(tokenizer, "tokenizer", error);
    if (status == BOMBUS_OK)
        status = bb_check_array(text, length, "text", error);
    if (status != BOMBUS_OK)
        return status;
    status =
        bb_tokenizer_encode(tokenizer->tokenizer, text != NULL ? text : "", length, add_special, ids, count, error);
    if (status != BOMBUS_OK) {
        bb_release(*ids);
        *ids = NULL;
        *count = 0;
    }
    return status;
}

bombus_status bombus_tokenizer_decode(const bombus_tokenizer *tokenizer, const int32_t *ids, size_t count,
                                      bool skip_special, char **text, size_t *length, bombus_error *error)
{
    bombus_status status = bb_check_pointer(text, "text", error);
    if (status == BOMBUS_OK)
        status = bb_check_pointer(length, "length", error);
    if (status != BOMBUS_OK)
        return status;
    *text = NULL;
    *length = 0;
    status = bb_check_pointer(tokenizer, "tokenizer", error);
    if (status == BOMBUS_OK)
        status = bb_check_array(ids, count, "ids", error);
    if (status != BOMBUS_OK)
        return status;
    struct bb_buffer buffer = {0};
    status = bb_tokenizer_decode(tokenizer->tokenizer, ids, count, skip_special, &buffer, error);
    if (status == BOMBUS_OK && (*text = bb_buffer_take(&buffer, length)) == NULL)
        status = bb_fail_memory(error, buffer.length, "text");
    bb_buffer_clear(&buffer);
    return status;
}

const int32_t *bombus_tokenizer_eos_ids(const bombus_tokenizer *tokenizer, size_t *count)
{
    size_t unused;
    count = count != NULL ? count : &unused;
    *count = 0;
    return tokenizer != NULL ? bb_tokenizer_eos_ids(tokenizer->tokenizer, count) : NULL;
}

int32_t bombus_tokenizer_token_id(const bombus_tokenizer *tokenizer, const char *token)
{
    return tokenizer != NULL && token != NULL ? bb_tokenizer_id(tokenizer->tokenizer, token, strlen(token)) : -1;
}

const char *bombus_tokenizer_special_token(const bombus_tokenizer *tokenizer, const char *name)
{
    if (tokenizer == NULL || name == NULL)
        return NULL;
    if (strcmp(name, "bos_token") == 0)
        return bb_tokenizer_bos_token(tokenizer->tokenizer);
    return strcmp(name, "eos_token") == 0 ? bb_tokenizer_eos_token(tokenizer->tokenizer) : NULL;
}
