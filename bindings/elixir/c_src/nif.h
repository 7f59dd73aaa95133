/* What the files of the NIF share: counted objects behind Erlang's resources, and terms made and read.
 *
 * An object is a handle of the library with a count of holders (memory) and a count of users (calls in it).
 * Closing it refuses new users; once the last one has left, the reaper, a thread of this library, lets the handle
 * go. So nothing that may take time runs where Erlang collects garbage, and what is unloaded is given back as soon
 * as no call is inside it. Children (engines, sessions, training jobs) are closed with their model. */
#ifndef BOMBUS_NIF_H
#define BOMBUS_NIF_H

#include "bombus.h"
#include <erl_nif.h>
#include <stdatomic.h>

enum object_kind {
    OBJECT_MODEL,
    OBJECT_TOKENIZER,
    OBJECT_ADAPTER,
    OBJECT_SESSION,
    OBJECT_ENGINE,
    OBJECT_TRAINING,
    OBJECT_CONSTRAINT,
    OBJECT_KIND_COUNT
};

struct object {
    atomic_int holders;
    enum object_kind kind;
    ErlNifMutex *mutex; /* of all below */
    ErlNifCond *ended;
    int users;
    bool is_closed, is_ended;
    struct object *parent;                 /* held; NULL for models, tokenizers, adapters and constraints */
    struct object *children;               /* not held: a child leaves the list before it ends */
    struct object *next, *previous;        /* among the parent's children, under the parent's mutex */
    struct object *next_ended;             /* in the reaper's queue */
    void (*stop)(struct object *object);   /* asks users inside to hurry, may be NULL; called once, when it is closed */
    void (*finish)(struct object *object); /* lets the handle go; called by the reaper */
};

/* ---- objects (object.c) ---- */

/* Zeroed memory of `size` whose first member is a struct object, held and entered by the caller until object_opened
 * or object_abandon. NULL: no memory. */
void *object_create(size_t size, enum object_kind kind, void (*finish)(struct object *object));
/* Makes it a child, held to end with the parent; what `stop` and `finish` need is there. False: the parent is
 * closed. */
bool object_join(struct object *object, struct object *parent);
void object_hold(struct object *object);
void object_release(struct object *object);
/* False if it is closed. */
bool object_enter(struct object *object);
void object_leave(struct object *object);
/* Closes it and its children; `waits`: until all have let go. */
void object_close(struct object *object, bool waits);
/* A term that holds the object; takes over the caller's hold. */
ERL_NIF_TERM object_term(ErlNifEnv *env, struct object *object);
/* The caller, who made the object, has no use for it: it is closed, left and released. */
void object_abandon(struct object *object);
/* {:ok, term of the object}, which is left; or the error, and the object is abandoned. */
ERL_NIF_TERM object_opened(ErlNifEnv *env, struct object *object, bombus_status status, const bombus_error *error);
/* The object of a term, borrowed from it; NULL if it is none of that kind. */
void *object_of_term(ErlNifEnv *env, ERL_NIF_TERM term, enum object_kind kind);
/* The same, entered; NULL: *result says why, badarg or that it is closed. */
void *object_enter_term(ErlNifEnv *env, ERL_NIF_TERM term, enum object_kind kind, ERL_NIF_TERM *result);
/* The error of an object of that kind that is closed. */
ERL_NIF_TERM object_closed(ErlNifEnv *env, enum object_kind kind);
bool objects_start(ErlNifEnv *env); /* when the library is loaded */
void objects_end(void);             /* when it is purged */

ERL_NIF_TERM nif_object_close(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);
ERL_NIF_TERM nif_object_counts(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[]);

/* ---- terms (terms.c) ---- */

ERL_NIF_TERM term_atom(ErlNifEnv *env, const char *name);
ERL_NIF_TERM term_ok(ErlNifEnv *env, ERL_NIF_TERM value);
ERL_NIF_TERM term_text(ErlNifEnv *env, const char *text, size_t length);
ERL_NIF_TERM term_string(ErlNifEnv *env, const char *text); /* NULL: nil */
/* {:error, {status, message}} */
ERL_NIF_TERM term_error(ErlNifEnv *env, const bombus_error *error);
ERL_NIF_TERM term_failure(ErlNifEnv *env, bombus_status status, const char *message);
ERL_NIF_TERM term_no_memory(ErlNifEnv *env);
ERL_NIF_TERM status_atom(ErlNifEnv *env, bombus_status status);
/* A map with atoms as keys. */
struct term_field {
    const char *name;
    ERL_NIF_TERM value;
};
ERL_NIF_TERM term_map(ErlNifEnv *env, const struct term_field *fields, size_t count);

/* A text, NUL-terminated, free with enif_free; NULL if the term is no binary, or holds a NUL. */
char *read_string(ErlNifEnv *env, ERL_NIF_TERM term);
void free_text(char *text); /* NULL is allowed */
bool read_bool(ErlNifEnv *env, ERL_NIF_TERM term);
/* Fields of a map with atoms as keys. What is absent or nil leaves *value as it is; false: there, but no such thing. */
bool field(ErlNifEnv *env, ERL_NIF_TERM map, const char *name, ERL_NIF_TERM *value); /* false: absent or nil */
bool field_double(ErlNifEnv *env, ERL_NIF_TERM map, const char *name, double *value);
bool field_float(ErlNifEnv *env, ERL_NIF_TERM map, const char *name, float *value);
bool field_int64(ErlNifEnv *env, ERL_NIF_TERM map, const char *name, int64_t *value);
bool field_int32(ErlNifEnv *env, ERL_NIF_TERM map, const char *name, int32_t *value);
bool field_uint64(ErlNifEnv *env, ERL_NIF_TERM map, const char *name, uint64_t *value);
bool field_bool(ErlNifEnv *env, ERL_NIF_TERM map, const char *name, bool *value);
bool field_string(ErlNifEnv *env, ERL_NIF_TERM map, const char *name, char **value); /* free with enif_free */
/* A list of texts as [*count] strings; free with free_strings. */
bool field_strings(ErlNifEnv *env, ERL_NIF_TERM map, const char *name, char ***value, size_t *count);
void free_strings(char **strings, size_t count);

/* ---- mailboxes (mailbox.c) ---- */

/* Zeroed until it is open; one thread at a time may make events and send them. */
struct mailbox {
    ErlNifPid owner;
    ErlNifEnv *own; /* of ref */
    ERL_NIF_TERM ref;
    ErlNifEnv *message; /* what events are made in; cleared by each send */
};

/* False: the terms are no process of this node and no reference. */
bool mailbox_open(struct mailbox *mailbox, ErlNifEnv *env, ERL_NIF_TERM owner, ERL_NIF_TERM ref);
void mailbox_clear(struct mailbox *mailbox);
/* Sends {ref, event}, the event made in the mailbox's `message`. False: the owner is dead. */
bool mailbox_send(struct mailbox *mailbox, ERL_NIF_TERM event);

/* ---- handles ---- */

struct model_object {
    struct object object;
    bombus_model *model;
};

struct tokenizer_object {
    struct object object;
    bombus_tokenizer *tokenizer;
    bombus_template *template_; /* NULL: the folder has none */
};

struct adapter_object {
    struct object object;
    bombus_adapter *adapter;
};

struct constraint_object {
    struct object object;
    struct tokenizer_object *tokenizer; /* held and entered */
    bombus_constraint *constraint;
};

/* What works with a model and a tokenizer: its first member. */
struct pair_object {
    struct object object;
    struct model_object *model;         /* entered; held as the parent */
    struct tokenizer_object *tokenizer; /* held and entered */
};

/* object_create for memory whose first member is a struct pair_object, of the terms of both; not joined yet. NULL:
 * *result says why. (object.c) */
void *pair_create(ErlNifEnv *env, size_t size, enum object_kind kind, void (*finish)(struct object *object),
                  ERL_NIF_TERM model, ERL_NIF_TERM tokenizer, ERL_NIF_TERM *result);
/* Lets both go, when the object ends. */
void pair_leave(struct pair_object *pair);

#define NIF(name) ERL_NIF_TERM name(ErlNifEnv *env, int argc, const ERL_NIF_TERM argv[])
NIF(nif_hub_resolve); /* model.c */
NIF(nif_model_open);
NIF(nif_model_info);
NIF(nif_model_weight);
NIF(nif_device_names);
NIF(nif_tokenizer_open); /* tokenizer.c */
NIF(nif_tokenizer_info);
NIF(nif_encode);
NIF(nif_decode);
NIF(nif_token_id);
NIF(nif_render);
NIF(nif_adapter_open);  /* model.c */
NIF(nif_engine_create); /* engine.c */
NIF(nif_engine_submit);
NIF(nif_engine_stats);
NIF(nif_request_cancel);
bool requests_start(ErlNifEnv *env);
NIF(nif_sampler_defaults);
NIF(nif_constraint_create); /* constraint.c */
NIF(nif_session_create);    /* session.c */
NIF(nif_session_forward);
NIF(nif_train_start); /* training.c */
NIF(nif_train_cancel);
NIF(nif_prepare_data); /* prepare.c */
NIF(nif_quantize);     /* matrix.c */
NIF(nif_dequantize);
NIF(nif_quantized_matmul);

#endif
