/* A pool of worker threads that share the chunks of one job at a time.
 *
 * A job is a counter of chunks not yet handed out (`waiting`) and one of chunks not yet done (`unfinished`). Who
 * takes a chunk, worker or caller, lowers the first by a compare-and-exchange; the caller returns when the second is
 * 0. So nobody waits for a worker that has taken no chunk: one that sleeps or lost its core merely finds nothing
 * left. A late worker cannot enter the wrong job: the fields of a job are read only after a chunk of it was taken,
 * and they change only after all taken chunks are done. */
#define _GNU_SOURCE 1 /* sched_getaffinity */
#include "base/threads.h"

#include "base/lock.h"
#include "base/memory.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    WORKER_SPIN_NS = 30000, /* bridges the gaps between the jobs of one token, then the worker sleeps */
    CALLER_SPIN_NS = 30000, /* for chunks that others are at; longer, and one of them has lost its core */
    SPINS_A_LOOK = 64,      /* pauses between looks at the clock */
    /* A stall is a wait this long, and longer than so many chunks take: a worker lost its core in the middle of one.
     * Stalls that are more than 1 / STALL_SHARE of the time eat what workers bring: the pool then goes on alone for
     * BACK_OFF times the stall, doubled each time that it happens again, up to the limit. */
    STALL_NS = 500000,
    STALL_CHUNKS = 4,
    STALL_SHARE = 4,
    BACK_OFF = 16,
    BACK_OFF_LIMIT = 256,
    MAX_THREADS = 1024
};

struct bb_pool {
    struct bb_lock run_lock; /* recursive; held by the thread whose jobs run */
    int32_t thread_count, started;
    pthread_t *threads; /* [thread_count - 1] */
    struct worker *workers;
    int64_t alone_until, together_since; /* ns; under run_lock, as is: */
    int32_t back_off;

    /* The job: written by the caller while waiting and unfinished are 0. */
    bb_pool_work work;
    void *context;
    int32_t chunk_count;

    _Alignas(64) atomic_int waiting;    /* chunks not handed out */
    _Alignas(64) atomic_int unfinished; /* chunks not done */
    _Alignas(64) atomic_int sleepers;   /* workers in (or about to enter) bb_signal_wait */
    atomic_bool caller_sleeps, is_closing;
    struct bb_lock sleep_lock;
    struct bb_signal work_came, work_done;
};

struct worker {
    struct bb_pool *pool;
    int32_t index;
};

static int64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Takes the next chunk; -1 if none is left. */
static int32_t take_chunk(struct bb_pool *pool)
{
    int waiting = atomic_load_explicit(&pool->waiting, memory_order_relaxed);
    do {
        if (waiting <= 0)
            return -1;
        /* Acquire pairs with the publishing store in bb_pool_run: the job's fields are read below. */
    } while (!atomic_compare_exchange_weak_explicit(&pool->waiting, &waiting, waiting - 1, memory_order_acquire,
                                                    memory_order_relaxed));
    return pool->chunk_count - waiting;
}

/* Runs chunks until none is left; how many it ran. */
static int32_t work_on(struct bb_pool *pool, int32_t worker)
{
    int32_t count = 0;
    for (int32_t chunk; (chunk = take_chunk(pool)) >= 0; count++) {
        pool->work(pool->context, chunk, worker);
        /* Release: the chunk's results, seen by the caller's acquire of 0. Sequentially consistent against
         * caller_sleeps. */
        if (atomic_fetch_sub_explicit(&pool->unfinished, 1, memory_order_seq_cst) == 1 && worker != 0 &&
            atomic_load_explicit(&pool->caller_sleeps, memory_order_seq_cst)) {
            bb_lock_take(&pool->sleep_lock);
            bb_signal_one(&pool->work_done);
            bb_lock_give(&pool->sleep_lock);
        }
    }
    return count;
}

/* Waits until *counter is 0 (or not 0, if `until_set`), at most `limit_ns`; whether it came. */
static bool spin_until(const atomic_int *counter, bool until_set, int64_t limit_ns)
{
    int64_t start = 0;
    for (;;) {
        for (int i = 0; i < SPINS_A_LOOK; i++) {
            if ((atomic_load_explicit(counter, memory_order_acquire) != 0) == until_set)
                return true;
            pause_briefly();
        }
        int64_t now = now_ns();
        if (start == 0)
            start = now;
        else if (now - start > limit_ns)
            return false;
    }
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    struct bb_pool *pool = worker->pool;
    for (;;) {
        work_on(pool, worker->index);
        if (spin_until(&pool->waiting, true, WORKER_SPIN_NS))
            continue;
        bb_lock_take(&pool->sleep_lock);
        /* Sequentially consistent against bb_pool_run: either it sees this sleeper, or this thread sees its job. */
        atomic_fetch_add_explicit(&pool->sleepers, 1, memory_order_seq_cst);
        while (atomic_load_explicit(&pool->waiting, memory_order_seq_cst) == 0 &&
               !atomic_load_explicit(&pool->is_closing, memory_order_relaxed))
            bb_signal_wait(&pool->work_came, &pool->sleep_lock);
        atomic_fetch_sub_explicit(&pool->sleepers, 1, memory_order_relaxed);
        bool is_closing = atomic_load_explicit(&pool->is_closing, memory_order_relaxed);
        bb_lock_give(&pool->sleep_lock);
        if (is_closing)
            return NULL;
    }
}

static bombus_status init_locks(struct bb_pool *pool, bombus_error *error)
{
    bombus_status status = bb_lock_init(&pool->run_lock, true, error);
    if (status == BOMBUS_OK)
        status = bb_lock_init(&pool->sleep_lock, false, error);
    if (status == BOMBUS_OK)
        status = bb_signal_init(&pool->work_came, error);
    return status == BOMBUS_OK ? bb_signal_init(&pool->work_done, error) : status;
}

static void clear_locks(struct bb_pool *pool)
{
    bb_signal_clear(&pool->work_done);
    bb_signal_clear(&pool->work_came);
    bb_lock_clear(&pool->sleep_lock);
    bb_lock_clear(&pool->run_lock);
}

bombus_status bb_pool_create(struct bb_pool **result, int32_t thread_count, bombus_error *error)
{
    *result = NULL;
    if (thread_count < 0 || thread_count > MAX_THREADS)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "thread count %d: expected 0 to %d", thread_count, MAX_THREADS);
    if (thread_count == 0)
        thread_count = bb_physical_core_count();
    size_t worker_count = (size_t)thread_count - 1;
    struct bb_pool *pool = bb_allocate_aligned(64, 1, sizeof *pool);
    if (pool == NULL)
        return bb_fail_memory(error, sizeof *pool, "the thread pool");
    bombus_status status = init_locks(pool, error);
    if (status != BOMBUS_OK) {
        clear_locks(pool);
        bb_release(pool);
        return status;
    }
    pool->thread_count = thread_count;
    pool->threads = bb_allocate(worker_count, sizeof *pool->threads);
    pool->workers = bb_allocate(worker_count, sizeof *pool->workers);
    if (pool->threads == NULL || pool->workers == NULL) {
        bb_pool_free(pool);
        return bb_fail_memory(error, worker_count * sizeof *pool->workers, "the thread pool");
    }
    for (; pool->started < thread_count - 1; pool->started++) {
        struct worker *worker = &pool->workers[pool->started];
        *worker = (struct worker){.pool = pool, .index = pool->started + 1};
        int failure = pthread_create(&pool->threads[pool->started], NULL, worker_main, worker);
        if (failure != 0) {
            bb_fail(error, BOMBUS_ERROR_MEMORY,
                    "thread %d of %d could not be started: %s; a smaller thread count may work", pool->started + 2,
                    thread_count, strerror(failure));
            bb_pool_free(pool);
            return BOMBUS_ERROR_MEMORY;
        }
    }
    *result = pool;
    return BOMBUS_OK;
}

void bb_pool_free(struct bb_pool *pool)
{
    if (pool == NULL)
        return;
    bb_lock_take(&pool->sleep_lock);
    atomic_store_explicit(&pool->is_closing, true, memory_order_relaxed);
    bb_signal_all(&pool->work_came);
    bb_lock_give(&pool->sleep_lock);
    for (int32_t i = 0; i < pool->started; i++)
        pthread_join(pool->threads[i], NULL);
    clear_locks(pool);
    bb_release(pool->workers);
    bb_release(pool->threads);
    bb_release(pool);
}

int32_t bb_pool_thread_count(const struct bb_pool *pool)
{
    return pool->thread_count;
}

void bb_pool_lock(struct bb_pool *pool)
{
    bb_lock_take(&pool->run_lock);
}

void bb_pool_unlock(struct bb_pool *pool)
{
    bb_lock_give(&pool->run_lock);
}

void bb_pool_wait(const atomic_int *counter)
{
    while (!spin_until(counter, false, CALLER_SPIN_NS))
        sched_yield();
}

static void wake_workers(struct bb_pool *pool, int32_t chunk_count)
{
    int sleepers = atomic_load_explicit(&pool->sleepers, memory_order_seq_cst);
    if (sleepers == 0)
        return;
    bb_lock_take(&pool->sleep_lock);
    if (sleepers <= chunk_count - 1)
        bb_signal_all(&pool->work_came);
    else
        for (int32_t i = 1; i < chunk_count; i++)
            bb_signal_one(&pool->work_came);
    bb_lock_give(&pool->sleep_lock);
}

/* A worker that lost its core in the middle of a chunk makes everybody wait. Now and then that is the price of
 * sharing a machine; all the time, and another program wants the core. */
static void note_stall(struct bb_pool *pool, int64_t time_together, int64_t stall, int64_t now)
{
    if (time_together < STALL_SHARE * stall) {
        pool->back_off = pool->back_off == 0               ? BACK_OFF
                         : pool->back_off < BACK_OFF_LIMIT ? pool->back_off * 2
                                                           : BACK_OFF_LIMIT;
        pool->alone_until = now + pool->back_off * stall;
    } else {
        pool->back_off = 0;
    }
    pool->together_since = now;
}

/* Waits for the chunks that workers are at; the caller ran `own_count` chunks since `begin`. */
static void wait_for_others(struct bb_pool *pool, int64_t begin, int32_t own_count)
{
    if (atomic_load_explicit(&pool->unfinished, memory_order_acquire) == 0)
        return;
    int64_t start = now_ns();
    if (!spin_until(&pool->unfinished, false, CALLER_SPIN_NS)) {
        bb_lock_take(&pool->sleep_lock);
        /* Sequentially consistent against work_on: either it sees that the caller sleeps, or the caller sees its
         * count. */
        atomic_store_explicit(&pool->caller_sleeps, true, memory_order_seq_cst);
        while (atomic_load_explicit(&pool->unfinished, memory_order_seq_cst) != 0)
            bb_signal_wait(&pool->work_done, &pool->sleep_lock);
        atomic_store_explicit(&pool->caller_sleeps, false, memory_order_relaxed);
        bb_lock_give(&pool->sleep_lock);
    }
    int64_t end = now_ns(), stall = end - start;
    if (own_count > 0 && stall > STALL_NS && stall > STALL_CHUNKS * (start - begin) / own_count)
        note_stall(pool, start - pool->together_since, stall, end);
}

void bb_pool_run(struct bb_pool *pool, int32_t chunk_count, bb_pool_work work, void *context)
{
    if (pool == NULL)
        for (int32_t chunk = 0; chunk < chunk_count; chunk++)
            work(context, chunk, 0);
    if (pool == NULL || chunk_count <= 0)
        return;
    bb_pool_lock(pool);
    bool is_alone = chunk_count == 1 || pool->thread_count == 1;
    int64_t begin = is_alone ? 0 : now_ns();
    is_alone = is_alone || begin < pool->alone_until;
    if (!is_alone && pool->together_since < pool->alone_until)
        pool->together_since = begin;
    if (is_alone) {
        for (int32_t chunk = 0; chunk < chunk_count; chunk++)
            work(context, chunk, 0);
    } else {
        pool->work = work;
        pool->context = context;
        pool->chunk_count = chunk_count;
        atomic_store_explicit(&pool->unfinished, chunk_count, memory_order_relaxed);
        /* Release publishes the fields above to take_chunk; sequentially consistent against a worker that goes to
         * sleep. */
        atomic_store_explicit(&pool->waiting, chunk_count, memory_order_seq_cst);
        wake_workers(pool, chunk_count);
        int32_t own_count = work_on(pool, 0);
        wait_for_others(pool, begin, own_count);
    }
    bb_pool_unlock(pool);
}

#if defined(__linux__)
/* The number at the beginning of a small file; -1 if there is none. */
static long read_number(const char *path)
{
    long number;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -1;
    if (fscanf(file, "%ld", &number) != 1)
        number = -1;
    fclose(file);
    return number;
}

/* Whole cores of the control group's quota (cgroup v2), rounded up; `limit` if it sets none. */
static int32_t quota_cores(int32_t limit)
{
    char path[600], group[400] = "/";
    long quota, period;
    FILE *file = fopen("/proc/self/cgroup", "re");
    if (file != NULL) {
        while (fgets(path, sizeof path, file) != NULL)
            if (sscanf(path, "0::%399[^\n]", group) == 1)
                break;
        fclose(file);
    }
    /* Every level above may set a quota too. */
    for (;;) {
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", strcmp(group, "/") == 0 ? "" : group);
        file = fopen(path, "re");
        if (file != NULL) {
            if (fscanf(file, "%ld %ld", &quota, &period) == 2 && quota > 0 && period > 0) {
                long cores = (quota + period - 1) / period;
                limit = cores < limit ? (int32_t)cores : limit;
            }
            fclose(file);
        }
        char *slash = strrchr(group, '/');
        if (slash == NULL || group[1] == '\0')
            return limit;
        slash[slash == group ? 1 : 0] = '\0';
    }
}

/* A number that the hardware threads of one core share; its own for each if the system does not tell. */
static int64_t core_key(int cpu)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/core_id", cpu);
    int64_t core = read_number(path);
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/physical_package_id", cpu);
    int64_t package = read_number(path);
    return core < 0 ? -1 - cpu : package * (INT64_C(1) << 32) + core;
}

int32_t bb_physical_core_count(void)
{
    int64_t seen[CPU_SETSIZE];
    cpu_set_t usable;
    int32_t count = 0;
    CPU_ZERO(&usable);
    if (sched_getaffinity(0, sizeof usable, &usable) != 0)
        return 1;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &usable))
            continue;
        int32_t known = 0;
        seen[count] = core_key((int)cpu);
        while (seen[known] != seen[count])
            known++;
        if (known == count)
            count++;
    }
    count = quota_cores(count);
    return count > 0 ? count : 1;
}
#else
int32_t bb_physical_core_count(void)
{
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count > 0 ? (int32_t)count : 1;
}
#endif
