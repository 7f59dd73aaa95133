/* Constraints: what a text must look like. They hold their tokenizer, and are held by the requests that follow them. */
#include "c_src/nif.h"

static void finish_constraint(struct object *object)
{
    struct constraint_object *constraint = (struct constraint_object *)object;
    bombus_constraint_free(constraint->constraint);
    object_leave(&constraint->tokenizer->object);
    object_release(&constraint->tokenizer->object);
}

static bool read_kind(ErlNifEnv *env, ERL_NIF_TERM term, bombus_constraint_kind *kind)
{
    static const char *const names[] = {"schema", "regex", "grammar"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (enif_is_identical(term, term_atom(env, names[i]))) {
            *kind = (bombus_constraint_kind)i;
            return true;
        }
    return false;
}

/* constraint_create(tokenizer, :schema | :regex | :grammar, source) -> {:ok, constraint} */
NIF(nif_constraint_create)
{
    bombus_constraint_kind kind;
    ErlNifBinary source;
    bombus_error error;
    ERL_NIF_TERM result;
    if (argc != 3 || !read_kind(env, argv[1], &kind) || !enif_inspect_binary(env, argv[2], &source))
        return enif_make_badarg(env);
    struct tokenizer_object *tokenizer = object_enter_term(env, argv[0], OBJECT_TOKENIZER, &result);
    if (tokenizer == NULL)
        return result;
    struct constraint_object *made = object_create(sizeof *made, OBJECT_CONSTRAINT, finish_constraint);
    if (made == NULL) {
        object_leave(&tokenizer->object);
        return term_no_memory(env);
    }
    made->tokenizer = tokenizer;
    object_hold(&tokenizer->object);
    bombus_status status = bombus_constraint_create(&made->constraint, kind, (const char *)source.data, source.size,
                                                    tokenizer->tokenizer, &error);
    return object_opened(env, &made->object, status, &error);
}
