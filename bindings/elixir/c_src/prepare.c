/* Posts made into training data. */
#include "c_src/nif.h"

static ERL_NIF_TERM prepare(ErlNifEnv *env, char **posts, size_t count, const char *folder,
                            const bombus_prepare_options *options)
{
    bombus_prepare_result result;
    bombus_error error;
    if (bombus_prepare_data((const char *const *)posts, NULL, count, folder, options, &result, &error) != BOMBUS_OK)
        return term_error(env, &error);
    const struct term_field fields[] = {
        {"found", enif_make_int64(env, result.found)},
        {"empty", enif_make_int64(env, result.empty)},
        {"too_short", enif_make_int64(env, result.too_short)},
        {"too_long", enif_make_int64(env, result.too_long)},
        {"duplicates", enif_make_int64(env, result.duplicates)},
        {"train", enif_make_int64(env, result.train)},
        {"valid", enif_make_int64(env, result.valid)}};
    return term_ok(env, term_map(env, fields, sizeof fields / sizeof *fields));
}

/* prepare_data(folder, %{posts, prompt, system, min_length, valid_share, shuffle_seed}) -> {:ok, counts} */
NIF(nif_prepare_data)
{
    bombus_prepare_options options = {.overwrite = true};
    char *prompt = NULL, *system = NULL, **posts = NULL;
    size_t count = 0;
    uint64_t min_length = 0;
    ERL_NIF_TERM ignored;
    char *folder = argc == 2 ? read_string(env, argv[0]) : NULL;
    if (folder == NULL)
        return enif_make_badarg(env);
    options.shuffle = field(env, argv[1], "shuffle_seed", &ignored);
    bool is_right = field_string(env, argv[1], "prompt", &prompt) && field_string(env, argv[1], "system", &system) &&
                    field_strings(env, argv[1], "posts", &posts, &count) &&
                    field_uint64(env, argv[1], "min_length", &min_length) &&
                    field_double(env, argv[1], "valid_share", &options.valid_share) &&
                    field_uint64(env, argv[1], "shuffle_seed", &options.seed);
    options.prompt = prompt;
    options.system = system;
    options.min_length = min_length;
    ERL_NIF_TERM result = is_right ? prepare(env, posts, count, folder, &options) : enif_make_badarg(env);
    free_strings(posts, count);
    free_text(folder), free_text(prompt), free_text(system);
    return result;
}
