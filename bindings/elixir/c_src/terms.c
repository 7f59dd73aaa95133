/* Terms made and read. */
#include "c_src/nif.h"

#include <math.h>
#include <string.h>

ERL_NIF_TERM term_atom(ErlNifEnv *env, const char *name)
{
    return enif_make_atom(env, name);
}

ERL_NIF_TERM term_ok(ErlNifEnv *env, ERL_NIF_TERM value)
{
    return enif_make_tuple2(env, term_atom(env, "ok"), value);
}

ERL_NIF_TERM term_text(ErlNifEnv *env, const char *text, size_t length)
{
    ERL_NIF_TERM term;
    unsigned char *bytes = enif_make_new_binary(env, length, &term);
    if (length > 0)
        memcpy(bytes, text, length);
    return term;
}

ERL_NIF_TERM term_string(ErlNifEnv *env, const char *text)
{
    return text != NULL ? term_text(env, text, strlen(text)) : term_atom(env, "nil");
}

ERL_NIF_TERM status_atom(ErlNifEnv *env, bombus_status status)
{
    switch (status) {
    case BOMBUS_OK: return term_atom(env, "ok");
    case BOMBUS_ERROR_ARGUMENT: return term_atom(env, "argument");
    case BOMBUS_ERROR_MEMORY: return term_atom(env, "memory");
    case BOMBUS_ERROR_IO: return term_atom(env, "io");
    case BOMBUS_ERROR_NOT_FOUND: return term_atom(env, "not_found");
    case BOMBUS_ERROR_FORMAT: return term_atom(env, "format");
    case BOMBUS_ERROR_UNSUPPORTED: return term_atom(env, "unsupported");
    case BOMBUS_ERROR_MISMATCH: return term_atom(env, "mismatch");
    case BOMBUS_ERROR_CONTEXT_FULL: return term_atom(env, "context_full");
    case BOMBUS_ERROR_LIMIT: return term_atom(env, "limit");
    case BOMBUS_ERROR_NETWORK: return term_atom(env, "network");
    case BOMBUS_ERROR_CANCELLED: return term_atom(env, "cancelled");
    case BOMBUS_ERROR_TEMPLATE: return term_atom(env, "template");
    case BOMBUS_ERROR_DIVERGED: return term_atom(env, "diverged");
    }
    return term_atom(env, "unknown");
}

ERL_NIF_TERM term_failure(ErlNifEnv *env, bombus_status status, const char *message)
{
    return enif_make_tuple2(env, term_atom(env, "error"),
                            enif_make_tuple2(env, status_atom(env, status), term_string(env, message)));
}

ERL_NIF_TERM term_error(ErlNifEnv *env, const bombus_error *error)
{
    return term_failure(env, error->status, error->message);
}

ERL_NIF_TERM term_no_memory(ErlNifEnv *env)
{
    return term_failure(env, BOMBUS_ERROR_MEMORY, "out of memory");
}

ERL_NIF_TERM term_map(ErlNifEnv *env, const struct term_field *fields, size_t count)
{
    ERL_NIF_TERM map = enif_make_new_map(env);
    for (size_t i = 0; i < count; i++)
        enif_make_map_put(env, map, term_atom(env, fields[i].name), fields[i].value, &map);
    return map;
}

char *read_string(ErlNifEnv *env, ERL_NIF_TERM term)
{
    ErlNifBinary binary;
    if (!enif_inspect_binary(env, term, &binary) || (binary.size > 0 && memchr(binary.data, 0, binary.size) != NULL))
        return NULL;
    char *text = enif_alloc(binary.size + 1);
    if (text == NULL)
        return NULL;
    if (binary.size > 0)
        memcpy(text, binary.data, binary.size);
    text[binary.size] = '\0';
    return text;
}

void free_text(char *text)
{
    if (text != NULL)
        enif_free(text);
}

bool read_bool(ErlNifEnv *env, ERL_NIF_TERM term)
{
    return enif_is_identical(term, term_atom(env, "true"));
}

bool field(ErlNifEnv *env, ERL_NIF_TERM map, const char *name, ERL_NIF_TERM *value)
{
    return enif_get_map_value(env, map, term_atom(env, name), value) &&
           !enif_is_identical(*value, term_atom(env, "nil"));
}

bool field_double(ErlNifEnv *env, ERL_NIF_TERM map, const char *name, double *value)
{
    ERL_NIF_TERM term;
    ErlNifSInt64 whole;
    if (!field(env, map, name, &term) || enif_get_double(env, term, value))
        return true;
    if (!enif_get_int64(env, term, &whole))
        return false;
    *value = (double)whole;
    return true;
}

bool field_float(ErlNifEnv *env, ERL_NIF_TERM map, const char *name, float *value)
{
    double wide = (double)*value;
    bool is_right = field_double(env, map, name, &wide) && fabs(wide) < 3e38;
    *value = is_right ? (float)wide : *value;
    return is_right;
}

bool field_int64(ErlNifEnv *env, ERL_NIF_TERM map, const char *name, int64_t *value)
{
    ERL_NIF_TERM term;
    ErlNifSInt64 whole;
    if (!field(env, map, name, &term))
        return true;
    if (!enif_get_int64(env, term, &whole))
        return false;
    *value = whole;
    return true;
}

bool field_int32(ErlNifEnv *env, ERL_NIF_TERM map, const char *name, int32_t *value)
{
    int64_t wide = *value;
    if (!field_int64(env, map, name, &wide) || wide > INT32_MAX || wide < INT32_MIN)
        return false;
    *value = (int32_t)wide;
    return true;
}

bool field_uint64(ErlNifEnv *env, ERL_NIF_TERM map, const char *name, uint64_t *value)
{
    ERL_NIF_TERM term;
    ErlNifUInt64 whole;
    if (!field(env, map, name, &term))
        return true;
    if (!enif_get_uint64(env, term, &whole))
        return false;
    *value = whole;
    return true;
}

bool field_bool(ErlNifEnv *env, ERL_NIF_TERM map, const char *name, bool *value)
{
    ERL_NIF_TERM term;
    if (field(env, map, name, &term))
        *value = read_bool(env, term);
    return true;
}

bool field_string(ErlNifEnv *env, ERL_NIF_TERM map, const char *name, char **value)
{
    ERL_NIF_TERM term;
    return !field(env, map, name, &term) || (*value = read_string(env, term)) != NULL;
}

void free_strings(char **strings, size_t count)
{
    for (size_t i = 0; strings != NULL && i < count; i++)
        enif_free(strings[i]);
    if (strings != NULL)
        enif_free(strings);
}

bool field_strings(ErlNifEnv *env, ERL_NIF_TERM map, const char *name, char ***value, size_t *count)
{
    ERL_NIF_TERM list, head;
    unsigned length;
    if (!field(env, map, name, &list))
        return true;
    if (!enif_get_list_length(env, list, &length))
        return false;
    char **strings = enif_alloc((length + 1) * sizeof *strings);
    if (strings == NULL)
        return false;
    size_t read = 0;
    while (enif_get_list_cell(env, list, &head, &list)) {
        strings[read] = read_string(env, head);
        if (strings[read] == NULL) {
            free_strings(strings, read);
            return false;
        }
        read++;
    }
    strings[read] = NULL;
    *value = strings;
    *count = read;
    return true;
}
