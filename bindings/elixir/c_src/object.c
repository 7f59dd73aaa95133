/* Counted objects, the resource that holds them, and the reaper that lets them go. */
#include "c_src/nif.h"

#include <stdio.h>
#include <string.h>

static ErlNifResourceType *object_type;
static atomic_int live_counts[OBJECT_KIND_COUNT];

static struct {
    ErlNifMutex *mutex;
    ErlNifCond *filled;
    ErlNifTid thread;
    struct object *first, *last;
    bool is_ending;
} reaper;

static void reap(struct object *object)
{
    enif_mutex_lock(reaper.mutex);
    object->next_ended = NULL;
    if (reaper.last != NULL)
        reaper.last->next_ended = object;
    else
        reaper.first = object;
    reaper.last = object;
    enif_cond_signal(reaper.filled);
    enif_mutex_unlock(reaper.mutex);
}

static void leave_parent(struct object *object)
{
    struct object *parent = object->parent;
    if (parent == NULL)
        return;
    enif_mutex_lock(parent->mutex);
    if (object->previous != NULL)
        object->previous->next = object->next;
    else if (parent->children == object)
        parent->children = object->next;
    if (object->next != NULL)
        object->next->previous = object->previous;
    enif_mutex_unlock(parent->mutex);
}

static void *reaper_main(void *unused)
{
    (void)unused;
    for (;;) {
        enif_mutex_lock(reaper.mutex);
        while (reaper.first == NULL && !reaper.is_ending)
            enif_cond_wait(reaper.filled, reaper.mutex);
        struct object *object = reaper.first;
        if (object != NULL && (reaper.first = object->next_ended) == NULL)
            reaper.last = NULL;
        enif_mutex_unlock(reaper.mutex);
        if (object == NULL)
            return NULL;
        object->finish(object);
        atomic_fetch_sub_explicit(&live_counts[object->kind], 1, memory_order_relaxed);
        leave_parent(object);
        enif_mutex_lock(object->mutex);
        object->is_ended = true;
        enif_cond_broadcast(object->ended);
        enif_mutex_unlock(object->mutex);
        object_release(object); /* the hold that closing took */
    }
}

void *object_create(size_t size, enum object_kind kind, void (*finish)(struct object *object))
{
    struct object *object = enif_alloc(size);
    if (object == NULL)
        return NULL;
    memset(object, 0, size);
    object->kind = kind;
    object->finish = finish;
    atomic_init(&object->holders, 1);
    object->users = 1;
    object->mutex = enif_mutex_create("bombus_object");
    object->ended = enif_cond_create("bombus_object");
    if (object->mutex == NULL || object->ended == NULL) {
        object_release(object);
        return NULL;
    }
    atomic_fetch_add_explicit(&live_counts[kind], 1, memory_order_relaxed);
    return object;
}

bool object_join(struct object *object, struct object *parent)
{
    enif_mutex_lock(parent->mutex);
    bool is_open = !parent->is_closed;
    if (is_open) {
        object->next = parent->children;
        if (object->next != NULL)
            object->next->previous = object;
        parent->children = object;
        object->parent = parent;
        object_hold(parent);
    }
    enif_mutex_unlock(parent->mutex);
    return is_open;
}

void object_hold(struct object *object)
{
    atomic_fetch_add_explicit(&object->holders, 1,
                              memory_order_relaxed); /* the caller has a hold, or a term that lives */
}

void object_release(struct object *object)
{
    /* acquire and release: all that other holders did comes before the end */
    while (object != NULL && atomic_fetch_sub_explicit(&object->holders, 1, memory_order_acq_rel) == 1) {
        struct object *parent = object->parent;
        if (object->mutex != NULL)
            enif_mutex_destroy(object->mutex);
        if (object->ended != NULL)
            enif_cond_destroy(object->ended);
        enif_free(object);
        object = parent;
    }
}

bool object_enter(struct object *object)
{
    enif_mutex_lock(object->mutex);
    bool is_open = !object->is_closed;
    object->users += is_open;
    enif_mutex_unlock(object->mutex);
    return is_open;
}

void object_leave(struct object *object)
{
    enif_mutex_lock(object->mutex);
    bool is_last = --object->users == 0 && object->is_closed;
    enif_mutex_unlock(object->mutex);
    if (is_last)
        reap(object);
}

/* The first child, entered so that it stays, if one is still open; the children's mutexes are taken inside the
 * parent's, never the other way. */
static struct object *open_child(struct object *object)
{
    struct object *child;
    enif_mutex_lock(object->mutex);
    for (child = object->children; child != NULL; child = child->next)
        if (object_enter(child))
            break;
    enif_mutex_unlock(object->mutex);
    return child;
}

void object_close(struct object *object, bool waits)
{
    enif_mutex_lock(object->mutex);
    bool was_closed = object->is_closed;
    object->is_closed = true;
    if (!was_closed) {
        object->users++;     /* ours, until the children are closed */
        object_hold(object); /* the reaper's */
    }
    enif_mutex_unlock(object->mutex);
    if (!was_closed) {
        if (object->stop != NULL)
            object->stop(object);
        for (struct object *child; (child = open_child(object)) != NULL;) {
            object_close(child, false);
            object_leave(child);
        }
        object_leave(object);
    }
    if (!waits)
        return;
    enif_mutex_lock(object->mutex);
    while (!object->is_ended)
        enif_cond_wait(object->ended, object->mutex);
    enif_mutex_unlock(object->mutex);
}

void object_abandon(struct object *object)
{
    object_close(object, false);
    object_leave(object);
    object_release(object);
}

/* ---- the resource ---- */

static void collect(ErlNifEnv *env, void *memory)
{
    (void)env;
    struct object *object = *(struct object **)memory;
    object_close(object, false);
    object_release(object);
}

ERL_NIF_TERM object_term(ErlNifEnv *env, struct object *object)
{
    struct object **memory = enif_alloc_resource(object_type, sizeof *memory);
    *memory = object;
    ERL_NIF_TERM term = enif_make_resource(env, memory);
    enif_release_resource(memory);
    return term;
}

ERL_NIF_TERM object_opened(ErlNifEnv *env, struct object *object, bombus_status status, const bombus_error *error)
{
    if (status != BOMBUS_OK) {
        object_abandon(object);
        return term_error(env, error);
    }
    ERL_NIF_TERM term = object_term(env, object); /* holds it from here on */
    object_leave(object);
    return term_ok(env, term);
}

ERL_NIF_TERM object_closed(ErlNifEnv *env, enum object_kind kind)
{
    static const char *const names[OBJECT_KIND_COUNT] = {"model",  "tokenizer", "adapter",   "session",
                                                         "engine", "training",  "constraint"};
    char message[100];
    snprintf(message, sizeof message, "the %s has been unloaded", names[kind]);
    return enif_make_tuple2(env, term_atom(env, "error"),
                            enif_make_tuple2(env, term_atom(env, "closed"), term_string(env, message)));
}

void *object_of_term(ErlNifEnv *env, ERL_NIF_TERM term, enum object_kind kind)
{
    void *memory;
    if (!enif_get_resource(env, term, object_type, &memory))
        return NULL;
    struct object *object = *(struct object **)memory;
    return object->kind == kind ? object : NULL;
}

void *object_enter_term(ErlNifEnv *env, ERL_NIF_TERM term, enum object_kind kind, ERL_NIF_TERM *result)
{
    struct object *object = object_of_term(env, term, kind);
    if (object == NULL)
        *result = enif_make_badarg(env);
    else if (!object_enter(object))
        *result = object_closed(env, kind);
    else
        return object;
    return NULL;
}

bool objects_start(ErlNifEnv *env)
{
    object_type =
        enif_open_resource_type(env, NULL, "bombus_object", collect, ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER, NULL);
    reaper.mutex = enif_mutex_create("bombus_reaper");
    reaper.filled = enif_cond_create("bombus_reaper");
    return object_type != NULL && reaper.mutex != NULL && reaper.filled != NULL &&
           enif_thread_create("bombus_reaper", &reaper.thread, reaper_main, NULL, NULL) == 0;
}

void objects_end(void)
{
    enif_mutex_lock(reaper.mutex);
    reaper.is_ending = true;
    enif_cond_signal(reaper.filled);
    enif_mutex_unlock(reaper.mutex);
    enif_thread_join(reaper.thread, NULL);
    enif_cond_destroy(reaper.filled);
    enif_mutex_destroy(reaper.mutex);
}

/* ---- what works with a model and a tokenizer ---- */

void *pair_create(ErlNifEnv *env, size_t size, enum object_kind kind, void (*finish)(struct object *object),
                  ERL_NIF_TERM model_term, ERL_NIF_TERM tokenizer_term, ERL_NIF_TERM *result)
{
    struct model_object *model = object_enter_term(env, model_term, OBJECT_MODEL, result);
    if (model == NULL)
        return NULL;
    struct tokenizer_object *tokenizer = object_enter_term(env, tokenizer_term, OBJECT_TOKENIZER, result);
    if (tokenizer == NULL) {
        object_leave(&model->object);
        return NULL;
    }
    struct pair_object *pair = object_create(size, kind, finish);
    if (pair == NULL) {
        object_leave(&tokenizer->object);
        object_leave(&model->object);
        *result = term_no_memory(env);
        return NULL;
    }
    pair->model = model;
    pair->tokenizer = tokenizer;
    object_hold(&tokenizer->object);
    return pair;
}

void pair_leave(struct pair_object *pair)
{
    object_leave(&pair->model->object);
    object_leave(&pair->tokenizer->object);
    object_release(&pair->tokenizer->object);
}

/* ---- called from Elixir ---- */

/* object_close(object): once it returns, the library has let it and all that was made of it go; but a tokenizer goes
 * with the last engine that needs it. */
NIF(nif_object_close)
{
    void *memory;
    if (argc != 1 || !enif_get_resource(env, argv[0], object_type, &memory))
        return enif_make_badarg(env);
    struct object *object = *(struct object **)memory;
    object_close(object, object->kind != OBJECT_TOKENIZER && object->kind != OBJECT_CONSTRAINT);
    return term_atom(env, "ok");
}

/* object_counts(): how many of each kind are not let go yet. */
NIF(nif_object_counts)
{
    static const char *const names[OBJECT_KIND_COUNT] = {"models",  "tokenizers", "adapters",   "sessions",
                                                         "engines", "trainings",  "constraints"};
    struct term_field fields[OBJECT_KIND_COUNT];
    (void)argc;
    (void)argv;
    for (size_t i = 0; i < OBJECT_KIND_COUNT; i++)
        fields[i] = (struct term_field){
            names[i], enif_make_int(env, atomic_load_explicit(&live_counts[i], memory_order_relaxed))};
    return term_map(env, fields, OBJECT_KIND_COUNT);
}
