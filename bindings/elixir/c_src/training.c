/* Training jobs: a thread of its own each, which tells its owner how it goes by messages {ref, event}. The owner's
 * death cancels it. */
#include "c_src/nif.h"

#include <math.h>
#include <string.h>

struct training_object {
    struct pair_object pair; /* entered by the thread */
    ErlNifTid thread;
    bool has_thread;
    ErlNifMutex *mutex;      /* of trainer and is_cancelled */
    bombus_trainer *trainer; /* while it runs */
    bool is_cancelled;
    struct mailbox mailbox; /* of the owner */
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
    mailbox_clear(&training->mailbox);
    free_text(training->data), free_text(training->adapter_path), free_text(training->resume_adapter_file);
    free_text(training->template_arguments), free_text(training->model_name);
    free_strings(training->keys, training->key_count);
    if (training->mutex != NULL)
        enif_mutex_destroy(training->mutex);
    pair_leave(&training->pair);
}

/* ---- the thread ---- */

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
    case BOMBUS_TRAIN_EVALUATION: return "evaluation";
    }
    return "unknown";
}

static bool on_event(void *context, const bombus_train_event *event)
{
    struct training_object *training = context;
    ErlNifEnv *env = training->mailbox.message;
    if (event->type == BOMBUS_TRAIN_EVALUATION || (event->type == BOMBUS_TRAIN_STEP && !training->wants_steps))
        return true;
    const struct term_field fields[] = {
        {"type", term_atom(env, event_name(event->type))},
        {"iter", enif_make_int64(env, event->iteration)},
        {"loss", number(env, event->loss)},
        {"learning_rate", number(env, event->learning_rate)},
        {"tokens_per_second", number(env, event->tokens_per_second)},
        {"iterations_per_second", number(env, event->iterations_per_second)},
        {"seconds", number(env, event->seconds)},
        {"trained_tokens", enif_make_int64(env, event->trained_tokens)},
        {"best", term_atom(env, event->is_best ? "true" : "false")},
        {"estimated_seconds", number(env, event->estimated_seconds)},
        {"estimated_bytes", enif_make_int64(env, event->estimated_bytes)},
        {"parameter_count", enif_make_int64(env, event->parameter_count)},
        {"example_count", enif_make_int64(env, event->example_count)},
        {"text", term_string(env, event->text)},
        {"prompt", term_string(env, event->prompt)}};
    ERL_NIF_TERM map = term_map(env, fields, sizeof fields / sizeof *fields);
    return mailbox_send(&training->mailbox, enif_make_tuple2(env, term_atom(env, "progress"),
                                                             map)); /* false, and training ends: the owner is dead */
}

static void send_result(struct training_object *training, bombus_status status, const bombus_train_result *result,
                        const bombus_error *error)
{
    static const char *const ends[] = {"finished", "stopped_early", "cancelled"};
    ErlNifEnv *env = training->mailbox.message;
    if (status != BOMBUS_OK) {
        (void)mailbox_send(&training->mailbox, term_error(env, error));
        return;
    }
    const struct term_field fields[] = {
        {"end", term_atom(env, ends[result->end])},
        {"iter", enif_make_int64(env, result->iteration)},
        {"trained_tokens", enif_make_int64(env, result->trained_tokens)},
        {"train_loss", number(env, result->train_loss)},
        {"validation_loss", number(env, result->validation_loss)},
        {"best_loss", number(env, result->best_loss)},
        {"best_iter", enif_make_int64(env, result->best_iteration)},
        {"seconds", number(env, result->seconds)}};
    ERL_NIF_TERM map = term_map(env, fields, sizeof fields / sizeof *fields);
    (void)mailbox_send(&training->mailbox, enif_make_tuple2(env, term_atom(env, "done"), map));
}

static void *training_main(void *context)
{
    struct training_object *training = context;
    bombus_train_result result = {0};
    bombus_error error;
    bombus_trainer *trainer;
    struct tokenizer_object *tokenizer = training->pair.tokenizer;
    bombus_status status = bombus_trainer_create(&trainer, training->pair.model->model, tokenizer->tokenizer,
                                                 tokenizer->template_, &training->options, &error);
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
    object_close(&training->pair.object, false);
    object_leave(&training->pair.object);
    return NULL;
}

/* ---- starting and stopping ---- */

static bool read_texts(ErlNifEnv *env, ERL_NIF_TERM map, struct training_object *training)
{
    bombus_train_options *options = &training->options;
    if (!field_string(env, map, "training_data", &training->data) ||
        !field_string(env, map, "output_path", &training->adapter_path) ||
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
           field_double(env, map, "learning_rate", &options->learning_rate) &&
           field_int32(env, map, "batch_size", &options->batch_size) &&
           field_int32(env, map, "grad_accumulation", &options->grad_accumulation_steps) &&
           field_int32(env, map, "num_layers", &options->num_layers) &&
           field_int32(env, map, "max_seq_length", &options->max_seq_length) &&
           field_int64(env, map, "save_every", &options->save_every) &&
           field_int64(env, map, "steps_per_report", &options->steps_per_report) &&
           field_int64(env, map, "steps_per_eval", &options->steps_per_eval) &&
           field_int64(env, map, "val_batches", &options->val_batches) &&
           field_int64(env, map, "patience", &options->patience) &&
           field_double(env, map, "max_grad_norm", &options->max_grad_norm) &&
           field_uint64(env, map, "seed", &options->seed) &&
           field_bool(env, map, "mask_prompt", &options->mask_prompt) &&
           field_bool(env, map, "use_rslora", &options->use_rslora) &&
           field_bool(env, map, "resume", &options->resume) && field_bool(env, map, "force", &options->force) &&
           field_int32(env, map, "sample_tokens", &options->sample_tokens);
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
    return read_texts(env, map, training) && read_numbers(env, map, &training->options) &&
           read_choices(env, map, training);
}

/* What a training needs before it may join the model's children; false: the arguments are wrong. */
static bool fill(struct training_object *training, ErlNifEnv *env, const ERL_NIF_TERM argv[])
{
    training->pair.object.stop = stop;
    return mailbox_open(&training->mailbox, env, argv[2], argv[3]) && read_options(env, argv[4], training);
}

/* train_start(model, tokenizer, owner, ref, options) -> {:ok, training} */
NIF(nif_train_start)
{
    ERL_NIF_TERM result;
    if (argc != 5)
        return enif_make_badarg(env);
    struct training_object *made =
        pair_create(env, sizeof *made, OBJECT_TRAINING, finish_training, argv[0], argv[1], &result);
    if (made == NULL)
        return result;
    struct object *object = &made->pair.object;
    made->mutex = enif_mutex_create("bombus_training");
    if (made->mutex == NULL || !fill(made, env, argv)) {
        result = made->mutex == NULL ? term_no_memory(env) : enif_make_badarg(env);
        object_abandon(object);
        return result;
    }
    if (!object_join(object, &made->pair.model->object) || !object_enter(object)) { /* entered for the thread */
        object_abandon(object);
        return object_closed(env, OBJECT_MODEL);
    }
    if (enif_thread_create("bombus_training", &made->thread, training_main, made, NULL) != 0) {
        object_leave(object);
        object_abandon(object);
        return term_failure(env, BOMBUS_ERROR_MEMORY, "no thread could be started");
    }
    made->has_thread = true;
    return object_opened(env, object, BOMBUS_OK, NULL);
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
