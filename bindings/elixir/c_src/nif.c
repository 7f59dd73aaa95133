/* The NIF's table of functions. What opens, reads or waits runs on dirty schedulers; generation and training on
 * threads of their own. */
#include "c_src/nif.h"

static int load(ErlNifEnv *env, void **private_data, ERL_NIF_TERM info)
{
    (void)private_data;
    (void)info;
    return requests_start(env) && objects_start(env) ? 0 : 1;
}

static void unload(ErlNifEnv *env, void *private_data)
{
    (void)env;
    (void)private_data;
    objects_end();
}

static NIF(nif_version)
{
    (void)argc;
    (void)argv;
    return term_string(env, bombus_version());
}

static ErlNifFunc functions[] = {
    {"version", 0, nif_version, 0},
    {"object_close", 1, nif_object_close, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"object_counts", 0, nif_object_counts, 0},
    {"hub_resolve", 2, nif_hub_resolve, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"model_open", 2, nif_model_open, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"model_info", 1, nif_model_info, 0},
    {"model_weight", 2, nif_model_weight, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"device_names", 0, nif_device_names, 0},
    {"tokenizer_open", 1, nif_tokenizer_open, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"tokenizer_info", 1, nif_tokenizer_info, 0},
    {"encode", 3, nif_encode, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"decode", 3, nif_decode, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"token_id", 2, nif_token_id, 0},
    {"render", 2, nif_render, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"adapter_open", 3, nif_adapter_open, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"engine_create", 3, nif_engine_create, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"engine_submit", 6, nif_engine_submit, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"engine_stats", 1, nif_engine_stats, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"request_cancel", 1, nif_request_cancel, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"sampler_defaults", 1, nif_sampler_defaults, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"constraint_create", 3, nif_constraint_create, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"session_create", 2, nif_session_create, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"session_forward", 4, nif_session_forward, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"train_start", 5, nif_train_start, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"train_cancel", 1, nif_train_cancel, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"prepare_data", 2, nif_prepare_data, ERL_NIF_DIRTY_JOB_IO_BOUND},
    {"quantize", 2, nif_quantize, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"dequantize", 1, nif_dequantize, ERL_NIF_DIRTY_JOB_CPU_BOUND},
    {"quantized_matmul", 2, nif_quantized_matmul, ERL_NIF_DIRTY_JOB_CPU_BOUND},
};

ERL_NIF_INIT(Elixir.Bombus.NIF, functions, load, NULL, NULL, unload)
