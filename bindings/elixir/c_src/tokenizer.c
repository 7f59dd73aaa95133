/* Tokenizers with the chat template that lies beside them. */
#include "c_src/nif.h"

#include <string.h>

static void finish_tokenizer(struct object *object)
{
    struct tokenizer_object *tokenizer = (struct tokenizer_object *)object;
    bombus_tokenizer_close(tokenizer->tokenizer);
    bombus_template_free(tokenizer->template_);
}

/* tokenizer_open(folder) -> {:ok, tokenizer} */
NIF(nif_tokenizer_open)
{
    bombus_error error;
    char *folder = argc == 1 ? read_string(env, argv[0]) : NULL;
    if (folder == NULL)
        return enif_make_badarg(env);
    struct tokenizer_object *made = object_create(sizeof *made, OBJECT_TOKENIZER, finish_tokenizer);
    bombus_status status = BOMBUS_ERROR_MEMORY;
    if (made != NULL) {
        status = bombus_tokenizer_open(&made->tokenizer, folder, NULL, &error);
        if (status == BOMBUS_OK) {
            status = bombus_template_open(&made->template_, folder, NULL, &error);
            status = status == BOMBUS_ERROR_NOT_FOUND ? BOMBUS_OK : status;
        }
    }
    free_text(folder);
    if (made == NULL)
        return term_no_memory(env);
    return object_opened(env, &made->object, status, &error);
}

/* tokenizer_info(tokenizer) -> {:ok, %{eos_ids, bos_token, eos_token, has_template}} */
NIF(nif_tokenizer_info)
{
    ERL_NIF_TERM result, list = enif_make_list(env, 0);
    if (argc != 1)
        return enif_make_badarg(env);
    struct tokenizer_object *tokenizer = object_enter_term(env, argv[0], OBJECT_TOKENIZER, &result);
    if (tokenizer == NULL)
        return result;
    size_t count;
    const int32_t *ids = bombus_tokenizer_eos_ids(tokenizer->tokenizer, &count);
    while (count > 0)
        list = enif_make_list_cell(env, enif_make_int(env, ids[--count]), list);
    const struct term_field fields[] = {
        {"eos_ids", list},
        {"bos_token", term_string(env, bombus_tokenizer_special_token(tokenizer->tokenizer, "bos_token"))},
        {"eos_token", term_string(env, bombus_tokenizer_special_token(tokenizer->tokenizer, "eos_token"))},
        {"has_template", term_atom(env, tokenizer->template_ != NULL ? "true" : "false")}};
    object_leave(&tokenizer->object);
    return term_ok(env, term_map(env, fields, sizeof fields / sizeof *fields));
}

/* encode(tokenizer, text, add_special) -> {:ok, ids as 32-bit integers in a binary} */
NIF(nif_encode)
{
    ERL_NIF_TERM result;
    ErlNifBinary text;
    bombus_error error;
    int32_t *ids;
    size_t count;
    if (argc != 3 || !enif_inspect_binary(env, argv[1], &text))
        return enif_make_badarg(env);
    struct tokenizer_object *tokenizer = object_enter_term(env, argv[0], OBJECT_TOKENIZER, &result);
    if (tokenizer == NULL)
        return result;
    bombus_status status = bombus_tokenizer_encode(tokenizer->tokenizer, (const char *)text.data, text.size,
                                                   read_bool(env, argv[2]), &ids, &count, &error);
    object_leave(&tokenizer->object);
    if (status != BOMBUS_OK)
        return term_error(env, &error);
    result = term_ok(env, term_text(env, (const char *)ids, count * sizeof *ids));
    bombus_free(ids);
    return result;
}

/* decode(tokenizer, ids in a binary, skip_special) -> {:ok, text} */
NIF(nif_decode)
{
    ERL_NIF_TERM result;
    ErlNifBinary ids;
    bombus_error error;
    char *text;
    size_t length;
    if (argc != 3 || !enif_inspect_binary(env, argv[1], &ids) || ids.size % sizeof(int32_t) != 0)
        return enif_make_badarg(env);
    struct tokenizer_object *tokenizer = object_enter_term(env, argv[0], OBJECT_TOKENIZER, &result);
    if (tokenizer == NULL)
        return result;
    int32_t *copy = enif_alloc(ids.size + 1); /* a binary need not be aligned */
    bombus_status status = BOMBUS_ERROR_MEMORY;
    if (copy != NULL) {
        if (ids.size > 0)
            memcpy(copy, ids.data, ids.size);
        status = bombus_tokenizer_decode(tokenizer->tokenizer, copy, ids.size / sizeof *copy, read_bool(env, argv[2]),
                                         &text, &length, &error);
        enif_free(copy);
    }
    object_leave(&tokenizer->object);
    if (copy == NULL)
        return term_no_memory(env);
    if (status != BOMBUS_OK)
        return term_error(env, &error);
    result = term_ok(env, term_text(env, text, length));
    bombus_free(text);
    return result;
}

/* token_id(tokenizer, token) -> id or nil */
NIF(nif_token_id)
{
    ERL_NIF_TERM result;
    char *token = argc == 2 ? read_string(env, argv[1]) : NULL;
    if (token == NULL)
        return enif_make_badarg(env);
    struct tokenizer_object *tokenizer = object_enter_term(env, argv[0], OBJECT_TOKENIZER, &result);
    if (tokenizer != NULL) {
        int32_t id = bombus_tokenizer_token_id(tokenizer->tokenizer, token);
        result = id < 0 ? term_atom(env, "nil") : enif_make_int(env, id);
        object_leave(&tokenizer->object);
    }
    free_text(token);
    return result;
}

/* render(tokenizer, JSON of the template's variables) -> {:ok, text} */
NIF(nif_render)
{
    ERL_NIF_TERM result;
    ErlNifBinary variables;
    bombus_error error;
    char *text;
    size_t length;
    if (argc != 2 || !enif_inspect_binary(env, argv[1], &variables))
        return enif_make_badarg(env);
    struct tokenizer_object *tokenizer = object_enter_term(env, argv[0], OBJECT_TOKENIZER, &result);
    if (tokenizer == NULL)
        return result;
    if (tokenizer->template_ == NULL) {
        object_leave(&tokenizer->object);
        return term_failure(env, BOMBUS_ERROR_NOT_FOUND, "there is no chat template in the tokenizer's folder");
    }
    bombus_status status = bombus_template_render(tokenizer->template_, (const char *)variables.data, variables.size,
                                                  &text, &length, NULL, NULL, &error);
    object_leave(&tokenizer->object);
    if (status != BOMBUS_OK)
        return term_error(env, &error);
    result = term_ok(env, term_text(env, text, length));
    bombus_free(text);
    return result;
}
