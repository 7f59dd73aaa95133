/* Models, adapters and the folders they come from. */
#include "c_src/nif.h"

static void finish_model(struct object *object)
{
    bombus_model_close(((struct model_object *)object)->model);
}

static void finish_adapter(struct object *object)
{
    bombus_adapter_close(((struct adapter_object *)object)->adapter);
}

/* hub_resolve(reference, options) -> {:ok, folder} */
NIF(nif_hub_resolve)
{
    bombus_hub_options options = {0};
    char *reference, *cache = NULL, *endpoint = NULL, *token = NULL, *proxy = NULL, *no_proxy = NULL, *ca_file = NULL,
                     *folder;
    char **patterns = NULL;
    size_t pattern_count = 0;
    bombus_error error;
    if (argc != 2 || (reference = read_string(env, argv[0])) == NULL)
        return enif_make_badarg(env);
    bool is_right = field_string(env, argv[1], "cache_folder", &cache) &&
                    field_string(env, argv[1], "endpoint", &endpoint) && field_string(env, argv[1], "token", &token) &&
                    field_string(env, argv[1], "proxy", &proxy) && field_string(env, argv[1], "no_proxy", &no_proxy) &&
                    field_string(env, argv[1], "ca_file", &ca_file) &&
                    field_bool(env, argv[1], "is_offline", &options.is_offline) &&
                    field_strings(env, argv[1], "patterns", &patterns, &pattern_count);
    ERL_NIF_TERM result = is_right ? term_atom(env, "ok") : enif_make_badarg(env);
    if (is_right) {
        options.cache_folder = cache;
        options.endpoint = endpoint;
        options.token = token;
        options.proxy = proxy;
        options.no_proxy = no_proxy;
        options.ca_file = ca_file;
        options.patterns = (const char *const *)patterns;
        bombus_status status = bombus_hub_resolve(&folder, reference, &options, &error);
        result = status == BOMBUS_OK ? term_ok(env, term_string(env, folder)) : term_error(env, &error);
        if (status == BOMBUS_OK)
            bombus_free(folder);
    }
    free_strings(patterns, pattern_count);
    free_text(reference), free_text(cache), free_text(endpoint), free_text(token), free_text(proxy),
        free_text(no_proxy), free_text(ca_file);
    return result;
}

/* model_open(folder, %{device, threads, exact}) -> {:ok, model} */
NIF(nif_model_open)
{
    bombus_model_options options = {0};
    bombus_error error;
    char *folder, *device = NULL;
    bool is_exact = false;
    if (argc != 2 || (folder = read_string(env, argv[0])) == NULL)
        return enif_make_badarg(env);
    struct model_object *made;
    bool is_right = field_string(env, argv[1], "device", &device) &&
                    field_int32(env, argv[1], "threads", &options.thread_count) &&
                    field_bool(env, argv[1], "exact", &is_exact);
    ERL_NIF_TERM result;
    if (!is_right) {
        result = enif_make_badarg(env);
    } else if ((made = object_create(sizeof *made, OBJECT_MODEL, finish_model)) == NULL) {
        result = term_no_memory(env);
    } else {
        options.device = device;
        options.precision = is_exact ? BOMBUS_PRECISION_EXACT : BOMBUS_PRECISION_FAST;
        bombus_status status = bombus_model_open(&made->model, folder, &options, &error);
        result = object_opened(env, &made->object, status, &error);
    }
    free_text(folder);
    free_text(device);
    return result;
}

NIF(nif_model_info)
{
    bombus_model_info info;
    ERL_NIF_TERM result;
    if (argc != 1)
        return enif_make_badarg(env);
    struct model_object *model = object_enter_term(env, argv[0], OBJECT_MODEL, &result);
    if (model == NULL)
        return result;
    bombus_model_get_info(model->model, &info);
    const struct term_field fields[] = {
        {"architecture", term_string(env, info.architecture)},
        {"device", term_string(env, info.device)},
        {"parameter_count", enif_make_int64(env, info.parameter_count)},
        {"weight_bytes", enif_make_int64(env, info.weight_bytes)},
        {"vocab_size", enif_make_int(env, info.vocab_size)},
        {"hidden_size", enif_make_int(env, info.hidden_size)},
        {"layer_count", enif_make_int(env, info.layer_count)},
        {"max_position_embeddings", enif_make_int(env, info.max_position_embeddings)}};
    object_leave(&model->object);
    return term_ok(env, term_map(env, fields, sizeof fields / sizeof *fields));
}

/* model_weight(model, path) -> {:ok, %{mode, bits, group_size, dtype, rows, cols, data, scales, biases}}: the parts
 * as binaries */
NIF(nif_model_weight)
{
    char *path = argc == 2 ? read_string(env, argv[1]) : NULL;
    bombus_matrix matrix;
    bombus_error error;
    if (path == NULL)
        return enif_make_badarg(env);
    ERL_NIF_TERM result;
    struct model_object *model = object_enter_term(env, argv[0], OBJECT_MODEL, &result);
    if (model != NULL) {
        if (bombus_model_get_matrix(model->model, path, &matrix, &error) == BOMBUS_OK) {
            const struct term_field fields[] = {
                {"mode", term_string(env, matrix.mode)},
                {"bits", enif_make_int(env, matrix.bits)},
                {"group_size", enif_make_int(env, matrix.group_size)},
                {"dtype", term_string(env, matrix.dtype)},
                {"rows", enif_make_int64(env, matrix.rows)},
                {"cols", enif_make_int64(env, matrix.cols)},
                {"data", term_text(env, matrix.data, matrix.data_bytes)},
                {"scales", term_text(env, matrix.scales, matrix.scale_bytes)},
                {"biases", term_text(env, matrix.biases, matrix.bias_bytes)}};
            result = term_ok(env, term_map(env, fields, sizeof fields / sizeof *fields));
        } else {
            result = term_error(env, &error);
        }
        object_leave(&model->object);
    }
    free_text(path);
    return result;
}

/* device_names() -> ["cpu"] */
NIF(nif_device_names)
{
    ERL_NIF_TERM list = enif_make_list(env, 0);
    size_t count = 0;
    (void)argc;
    (void)argv;
    while (bombus_device_name(count) != NULL)
        count++;
    while (count > 0)
        list = enif_make_list_cell(env, term_string(env, bombus_device_name(--count)), list);
    return list;
}

/* adapter_open(model, folder, scale or nil) -> {:ok, adapter} */
NIF(nif_adapter_open)
{
    bombus_adapter_options options = {0};
    bombus_error error;
    double scale = 0.0;
    char *folder = argc == 3 ? read_string(env, argv[1]) : NULL;
    if (folder == NULL)
        return enif_make_badarg(env);
    options.has_scale = enif_get_double(env, argv[2], &scale) != 0;
    options.scale = (float)scale;
    ERL_NIF_TERM result;
    struct model_object *model = object_enter_term(env, argv[0], OBJECT_MODEL, &result);
    if (model != NULL) {
        struct adapter_object *made = object_create(sizeof *made, OBJECT_ADAPTER, finish_adapter);
        if (made == NULL) {
            result = term_no_memory(env);
        } else {
            bombus_status status = bombus_adapter_open(&made->adapter, model->model, folder, &options, &error);
            result = object_opened(env, &made->object, status, &error);
        }
        object_leave(&model->object);
    }
    free_text(folder);
    return result;
}
