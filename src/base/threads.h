/* A pool of worker threads that share the chunks of one job at a time. */
#ifndef BB_THREADS_H
#define BB_THREADS_H

#include "base/compiler.h"
#include "base/error.h"

#include <stdatomic.h>

struct bb_pool;

/* Work on chunk `chunk` of the job; `worker` in [0, thread_count) tells which thread runs it (for scratch memory). */
typedef void (*bb_pool_work)(void *context, int32_t chunk, int32_t worker);

/* thread_count counts the caller too: 1 makes no thread. 0: one a physical core that this process may use. */
BB_RESULT bombus_status bb_pool_create(struct bb_pool **pool, int32_t thread_count, bombus_error *error);
void bb_pool_free(struct bb_pool *pool); /* NULL is allowed */
int32_t bb_pool_thread_count(const struct bb_pool *pool);

/* Runs chunks 0 .. chunk_count - 1, each once, on any thread, the caller's too; returns when all are done. Chunks
 * are handed out by an atomic counter, so the share of a late thread is taken over. Calls from several threads at
 * once wait for each other. pool NULL: all of them on the calling thread. */
void bb_pool_run(struct bb_pool *pool, int32_t chunk_count, bb_pool_work work, void *context);

/* In a chunk of a job: waits until *counter is 0, which chunks that run by now bring about without waiting
 * themselves. */
void bb_pool_wait(const atomic_int *counter);

/* Takes the pool for several jobs and the memory they share: calls of other threads wait until the same thread has
 * unlocked as often as it locked. */
void bb_pool_lock(struct bb_pool *pool);
void bb_pool_unlock(struct bb_pool *pool);

/* Physical cores that this process may run on; at least 1. */
int32_t bb_physical_core_count(void);

#endif
