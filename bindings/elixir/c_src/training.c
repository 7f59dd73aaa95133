/* Training jobs: a thread of its own each, which tells its owner how it goes by messages {ref, event}. The owner's death cancels it. */
#include "c_src/nif.h"

#include <math.h>
#include <string.h>

struct training_object {
    struct object object; /* entered by the thread */
    struct model_object *model;         /* entered; held as the parent */
    struct tokenizer_object *tokenizer; /* held and entered */
    ErlNifTid thread;
    bool has_thread;
    ErlNifMutex *mutex;       /* of trainer and is_cancelled */
    bombus_trainer *trainer;  /* while it runs */
    bool is_cancelled;
    ErlNifPid owner;
    ErlNifEnv *env;           /* of ref */
    ERL_NIF_TERM ref;
    ErlNifEnv *message;
    bool wants_steps;
    bombus_train_options options;
    char *data, *adapter_path, *resume_adapter_file, *template_arguments, *model_name;
    char **keys;
    size_t key_count;
};

static void stop(struct object *object)
{
    struct training_object *training = (struct training_object *)object;
    enif_mutex_lock(training->mutex);
    training->is_cancelled = true;
    bombus_trainer_cancel(training->trainer);
    enif_mutex_unlock(training->mutex);
}

static void finish_training(struct object *object)
{
    struct training_object *training = (struct training_object *)object;
    if (training->has_thread)
        enif_thread_join(training->thread, NULL);
    if (training->env != NULL)
        enif_free_env(training->env);
    if (training->message != NULL)
        enif_free_env(training->message);
    free_text(training->data), free_text(training->adapter_path), free_text(training->resume_adapter_file);
    free_text(training->template_arguments), free_text(training->model_name);
    free_strings(training->keys, training->key_count);
    enif_mutex_destroy(training->mutex);
    object_leave(&training->model->object);
    object_leave(&training->tokenizer->object);
    object_release(&training->tokenizer->object);
}

/* ---- the thread ---- */

/* False: the owner is dead. */
static bool send_event(struct training_object *training, ERL_NIF_TERM event)
{
    ErlNifEnv *env = training->message;
    ERL_NIF_TERM message = enif_make_tuple2(env, enif_make_copy(env, training->ref), event);
    bool is_sent = enif_send(NULL, &training->owner, env, message) != 0;
    enif_clear_env(env);
    return is_sent;
}

static ERL_NIF_TERM number(ErlNifEnv *env, double value)
{
    return isfinite(value) ? enif_make_double(env, value) : term_atom(env, "nil");
}

static const char *event_name(bombus_train_event_type type)
{
    switch (type) {
    case BOMBUS_TRAIN_BEGIN: return "begin";
    case BOMBUS_TRAIN_ESTIMATE: return "estimate";
    case BOMBUS_TRAIN_STEP: return "step";
    case BOMBUS_TRAIN_REPORT: return "train";
    case BOMBUS_TRAIN_VALIDATION: return "validation";
    case BOMBUS_TRAIN_TEST: return "test";
    case BOMBUS_TRAIN_SAVED: return "saved";
    case BOMBUS_TRAIN_SAMPLE: return "sample";
    case BOMBUS_TRAIN_LINE: return "line";
    }
    return "unknown";
}

static bool on_event(void *context, const bombus_train_event *event)
{
    static const char *const names[] = {"type", "iter", "loss", "learning_rate", "tokens_per_second", "iterations_per_second", "seconds",
                                        "trained_tokens", "best", "estimated_seconds", "estimated_bytes", "parameter_count", "example_count",
                                        "text", "prompt"};
    struct training_object *training = context;
    ErlNifEnv *env = training->message;
    if (event->type == BOMBUS_TRAIN_STEP && !training->wants_steps)
        return true;
    const ERL_NIF_TERM values[] = {term_atom(env, event_name(event->type)), enif_make_int64(env, event->iteration), number(env, event->loss),
                                   number(env, event->learning_rate), number(env, event->tokens_per_second),
                                   number(env, event->iterations_per_second), number(env, event->seconds),
                                   enif_make_int64(env, event->trained_tokens), term_atom(env, event->is_best ? "true" : "false"),
                                   number(env, event->estimated_seconds), enif_make_int64(env, event->estimated_bytes),
                                   enif_make_int64(env, event->parameter_count), enif_make_int64(env, event->example_count),
                                   term_string(env, event->text), term_string(env, event->prompt)};
    ERL_NIF_TERM map = term_map(env, names, values, sizeof values / sizeof *values);
    return send_event(training, enif_make_tuple2(env, term_atom(env, "progress"), map));
}

static void send_result(struct training_object *training, bombus_status status, const bombus_train_result *result, const bombus_error *error)
{
    static const char *const names[] = {"end", "iter", "trained_tokens", "train_loss", "validation_loss", "best_loss", "best_iter", "seconds"};
    static const char *const ends[] = {"finished", "stopped_early", "cancelled"};
    ErlNifEnv *env = training->message;
    if (status != BOMBUS_OK) {
        (void)send_event(training, term_error(env, error));
        return;
    }
    const ERL_NIF_TERM values[] = {term_atom(env, ends[result->end]), enif_make_int64(env, result->iteration),
                                   enif_make_int64(env, result->trained_tokens), number(env, result->train_loss),
                                   number(env, result->validation_loss), number(env, result->best_loss),
                                   enif_make_int64(env, result->best_iteration), number(env, result->seconds)};
    ERL_NIF_TERM map = term_map(env, names, values, sizeof values / sizeof *values);
    (void)send_event(training, enif_make_tuple2(env, term_atom(env, "done"), map));
}

static void *training_main(void *context)
{
    struct training_object *training = context;
    bombus_train_result result = {0};
    bombus_error error;
    bombus_trainer *trainer;
    bombus_status status = bombus_trainer_create(&trainer, training->model->model, training->tokenizer->tokenizer,
                                                 training->tokenizer->template_, &training->options, &error);
    if (status == BOMBUS_OK) {
        enif_mutex_lock(training->mutex);
        training->trainer = trainer;
        if (training->is_cancelled)
            bombus_trainer_cancel(trainer);
        enif_mutex_unlock(training->mutex);
        status = bombus_trainer_run(trainer, &result, &error);
        enif_mutex_lock(training->mutex);
        training->trainer = NULL;
        enif_mutex_unlock(training->mutex);
        bombus_trainer_free(trainer);
    }
    send_result(training, status, &result, &error);
    object_close(&training->object, false);
    object_leave(&training->object);
    return NULL;
}

/* ---- starting and stopping ---- */

static bool read_texts(ErlNifEnv *env, ERL_NIF_TERM map, struct training_object *training)
{
    bombus_train_options *options = &training->options;
    if (!field_string(env, map, "training_data", &training->data) || !field_string(env, map, "output_path", &training->adapter_path) ||
        !field_string(env, map, "resume_adapter_file", &training->resume_adapter_file) ||
        !field_string(env, map, "template_arguments", &training->template_arguments) ||
        !field_string(env, map, "model_name", &training->model_name) ||
        !field_strings(env, map, "keys", &training->keys, &training->key_count))
        return false;
    options->data = training->data;
    options->adapter_path = training->adapter_path;
    options->resume_adapter_file = training->resume_adapter_file;
    options->template_arguments = training->template_arguments;
    options->model_name = training->model_name;
    options->keys = (const char *const *)training->keys;
    options->key_count = training->key_count;
    return options->data != NULL && options->adapter_path != NULL;
}

static bool read_numbers(ErlNifEnv *env, ERL_NIF_TERM map, bombus_train_options *options)
{
    return field_int64(env, map, "iterations", &options->iters) && field_int32(env, map, "rank", &options->rank) &&
           field_double(env, map, "scale", &options->scale) && field_double(env, map, "dropout", &options->dropout) &&
           field_double(env, map, "learning_rate", &options->learning_rate) && field_int32(env, map, "batch_size", &options->batch_size) &&
           field_int32(env, map, "grad_accumulation", &options->grad_accumulation_steps) &&
           field_int32(env, map, "num_layers", &options->num_layers) && field_int32(env, map, "max_seq_length", &options->max_seq_length) &&
           field_int64(env, map, "save_every", &options->save_every) && field_int64(env, map, "steps_per_report", &options->steps_per_report) &&
           field_int64(env, map, "steps_per_eval", &options->steps_per_eval) && field_int64(env, map, "val_batches", &options->val_batches) &&
           field_int64(env, map, "patience", &options->patience) && field_double(env, map, "max_grad_norm", &options->max_grad_norm) &&
           field_uint64(env, map, "seed", &options->seed) && field_bool(env, map, "mask_prompt", &options->mask_prompt) &&
           field_bool(env, map, "use_rslora", &options->use_rslora) && field_bool(env, map, "resume", &options->resume) &&
           field_bool(env, map, "force", &options->force) && field_int32(env, map, "sample_tokens", &options->sample_tokens);
}

static bool read_choices(ErlNifEnv *env, ERL_NIF_TERM map, struct training_object *training)
{
    ERL_NIF_TERM term;
    bombus_train_options *options = &training->options;
    if (field(env, map, "fine_tune", &term) && enif_is_identical(term, term_atom(env, "dora")))
        options->fine_tune = BOMBUS_FINE_TUNE_DORA;
    if (field(env, map, "optimizer", &term)) {
        static const char *const names[] = {"adam", "adamw", "sgd", "muon"};
        for (size_t i = 0; i < sizeof names / sizeof *names; i++)
            if (enif_is_identical(term, term_atom(env, names[i])))
                options->optimizer = (bombus_optimizer)i;
    }
    return field_bool(env, map, "steps", &training->wants_steps);
}

static bool read_options(ErlNifEnv *env, ERL_NIF_TERM map, struct training_object *training)
{
    training->options.callback = on_event;
    training->options.context = training;
    return read_texts(env, map, training) && read_numbers(env, map, &training->options) && read_choices(env, map, training);
}

/* train_start(model, tokenizer, owner, ref, options) -> {:ok, training} */
NIF(nif_train_start)
{
    struct model_object *model = argc == 5 ? (struct model_object *)object_of_term(env, argv[0], OBJECT_MODEL) : NULL;
    struct tokenizer_object *tokenizer = argc == 5 ? (struct tokenizer_object *)object_of_term(env, argv[1], OBJECT_TOKENIZER) : NULL;
    ErlNifPid owner;
    if (model == NULL || tokenizer == NULL || !enif_get_local_pid(env, argv[2], &owner) || !enif_is_ref(env, argv[3]))
        return enif_make_badarg(env);
    ERL_NIF_TERM result;
    struct training_object *made = object_create_of_pair(env, sizeof *made, OBJECT_TRAINING, model, tokenizer, &result);
    if (made == NULL)
        return result;
    made->model = model;
    made->tokenizer = tokenizer;
    made->owner = owner;
    made->mutex = enif_mutex_create("bombus_training");
    made->env = enif_alloc_env();
    made->message = enif_alloc_env();
    made->ref = enif_make_copy(made->env, argv[3]);
    made->object.finish = finish_training;
    made->object.stop = stop;
    if (!read_options(env, argv[4], made)) {
        result = enif_make_badarg(env);
    } else if (!object_enter(&made->object)) {
        result = term_closed(env, "model");
    } else {
        if (enif_thread_create("bombus_training", &made->thread, training_main, made, NULL) == 0) {
            made->has_thread = true;
            return term_ok(env, object_term(env, &made->object));
        }
        object_leave(&made->object);
        result = term_failure(env, BOMBUS_ERROR_MEMORY, "no thread could be started");
    }
    object_close(&made->object, false);
    object_release(&made->object);
    return result;
}

/* train_cancel(training): it saves and ends, with a last message as ever. */
NIF(nif_train_cancel)
{
    struct object *training = argc == 1 ? object_of_term(env, argv[0], OBJECT_TRAINING) : NULL;
    if (training == NULL)
        return enif_make_badarg(env);
    if (object_enter(training)) {
        stop(training);
        object_leave(training);
    }
    return term_atom(env, "ok");
}
