/* Locks, and signals that threads wait for while they hold one. */
#ifndef BB_LOCK_H
#define BB_LOCK_H

#include "base/compiler.h"
#include "base/error.h"

#include <pthread.h>

/* Zeroed struct = none, which may be cleared. */
struct bb_lock {
    pthread_mutex_t mutex;
    bool is_made;
};

struct bb_signal {
    pthread_cond_t condition;
    bool is_made;
};

/* is_recursive: the thread that holds it may take it again, and gives it back as often. */
BB_RESULT bombus_status bb_lock_init(struct bb_lock *lock, bool is_recursive, bombus_error *error);
void bb_lock_clear(struct bb_lock *lock);
static inline void bb_lock_take(struct bb_lock *lock)
{
    pthread_mutex_lock(&lock->mutex);
}
static inline void bb_lock_give(struct bb_lock *lock)
{
    pthread_mutex_unlock(&lock->mutex);
}

BB_RESULT bombus_status bb_signal_init(struct bb_signal *signal, bombus_error *error);
void bb_signal_clear(struct bb_signal *signal);
/* Gives the lock back, sleeps, and takes it again. May end without a signal: the caller looks whether what it waits
 * for is there. */
static inline void bb_signal_wait(struct bb_signal *signal, struct bb_lock *lock)
{
    pthread_cond_wait(&signal->condition, &lock->mutex);
}
static inline void bb_signal_one(struct bb_signal *signal)
{
    pthread_cond_signal(&signal->condition);
}
static inline void bb_signal_all(struct bb_signal *signal)
{
    pthread_cond_broadcast(&signal->condition);
}

#endif
