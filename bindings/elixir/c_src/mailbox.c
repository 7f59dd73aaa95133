/* Mailboxes: where the events of a request or a training go, from whatever thread, as messages {ref, event}. */
#include "c_src/nif.h"

bool mailbox_open(struct mailbox *mailbox, ErlNifEnv *env, ERL_NIF_TERM owner, ERL_NIF_TERM ref)
{
    if (!enif_is_ref(env, ref) || !enif_get_local_pid(env, owner, &mailbox->owner))
        return false;
    mailbox->own = enif_alloc_env();
    mailbox->message = enif_alloc_env();
    mailbox->ref = enif_make_copy(mailbox->own, ref);
    return true;
}

void mailbox_clear(struct mailbox *mailbox)
{
    if (mailbox->own != NULL)
        enif_free_env(mailbox->own);
    if (mailbox->message != NULL)
        enif_free_env(mailbox->message);
}

bool mailbox_send(struct mailbox *mailbox, ERL_NIF_TERM event)
{
    ErlNifEnv *env = mailbox->message;
    ERL_NIF_TERM message = enif_make_tuple2(env, enif_make_copy(env, mailbox->ref), event);
    bool is_sent = enif_send(NULL, &mailbox->owner, env, message) != 0;
    enif_clear_env(env);
    return is_sent;
}
