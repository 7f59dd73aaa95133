/* Locks and signals: making them, which can fail, and giving them back. */
#include "base/lock.h"

bombus_status bb_lock_init(struct bb_lock *lock, bool is_recursive, bombus_error *error)
{
    pthread_mutexattr_t kind;
    if (pthread_mutexattr_init(&kind) == 0) {
        lock->is_made =
            pthread_mutexattr_settype(&kind, is_recursive ? PTHREAD_MUTEX_RECURSIVE : PTHREAD_MUTEX_NORMAL) == 0 &&
            pthread_mutex_init(&lock->mutex, &kind) == 0;
        pthread_mutexattr_destroy(&kind);
    }
    return lock->is_made ? BOMBUS_OK : bb_fail(error, BOMBUS_ERROR_MEMORY, "a lock cannot be made");
}

void bb_lock_clear(struct bb_lock *lock)
{
    if (lock->is_made)
        pthread_mutex_destroy(&lock->mutex);
    lock->is_made = false;
}

bombus_status bb_signal_init(struct bb_signal *signal, bombus_error *error)
{
    signal->is_made = pthread_cond_init(&signal->condition, NULL) == 0;
    return signal->is_made ? BOMBUS_OK : bb_fail(error, BOMBUS_ERROR_MEMORY, "a signal cannot be made");
}

void bb_signal_clear(struct bb_signal *signal)
{
    if (signal->is_made)
        pthread_cond_destroy(&signal->condition);
    signal->is_made = false;
}
