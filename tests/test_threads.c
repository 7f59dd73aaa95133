/* base/threads: every chunk once, whatever the counts, callers and lateness; creation survives lack of memory. */
#include "test.h"

#include "base/memory.h"
#include "base/threads.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum { MAX_CHUNKS = 4096 };

struct job {
    int32_t *runs; /* [chunk_count], plain: a chunk run twice at once is a race that TSan sees */
    int32_t chunk_count, thread_count;
    int32_t round;
    atomic_int bad;
    int32_t uneven; /* every this many chunks one takes long; 0: none */
};

static void count_chunk(void *context, int32_t chunk, int32_t worker)
{
    struct job *job = context;
    if (chunk < 0 || chunk >= job->chunk_count || worker < 0 || worker >= job->thread_count)
        atomic_fetch_add(&job->bad, 1);
    else
        job->runs[chunk]++;
    if (job->uneven > 0 && chunk % job->uneven == 0)
        for (volatile int i = 0; i < 3000; i++)
            continue;
}

static void run_and_check(struct bb_pool *pool, struct job *job)
{
    memset(job->runs, 0, (size_t)job->chunk_count * sizeof *job->runs);
    bb_pool_run(pool, job->chunk_count, count_chunk, job);
    for (int32_t i = 0; i < job->chunk_count; i++)
        if (job->runs[i] != 1)
            atomic_fetch_add(&job->bad, 1);
}

static void test_every_chunk_once(void **state)
{
    (void)state;
    static const int32_t thread_counts[] = {1, 2, 3, 8};
    static const int32_t chunk_counts[] = {0, 1, 2, 3, 7, 64, 1000};
    static int32_t runs[MAX_CHUNKS];
    for (size_t t = 0; t < BB_COUNT(thread_counts); t++) {
        struct bb_pool *pool;
        bombus_error error;
        CHECK_OK(bb_pool_create(&pool, thread_counts[t], &error), error);
        assert_int_equal(bb_pool_thread_count(pool), thread_counts[t]);
        struct job job = {.runs = runs, .thread_count = thread_counts[t]};
        for (int32_t round = 0; round < 300; round++)
            for (size_t c = 0; c < BB_COUNT(chunk_counts); c++) {
                job.chunk_count = chunk_counts[c];
                job.uneven = round % 3;
                run_and_check(pool, &job);
            }
        assert_int_equal(atomic_load(&job.bad), 0);
        bb_pool_free(pool);
    }
}

/* Short jobs back to back: a worker late for one must not disturb the next. */
static void test_many_short_jobs(void **state)
{
    (void)state;
    static int32_t runs[2][4];
    struct bb_pool *pool;
    bombus_error error;
    CHECK_OK(bb_pool_create(&pool, 4, &error), error);
    struct job jobs[2] = {{.runs = runs[0], .thread_count = 4, .chunk_count = 2},
                          {.runs = runs[1], .thread_count = 4, .chunk_count = 4}};
    for (int32_t i = 0; i < 20000; i++) {
        run_and_check(pool, &jobs[i & 1]);
        /* Now and then let the workers fall asleep. */
        if (i % 2000 == 0)
            nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    assert_int_equal(atomic_load(&jobs[0].bad) + atomic_load(&jobs[1].bad), 0);
    bb_pool_free(pool);
}

struct caller {
    struct bb_pool *pool;
    int32_t *shared; /* guarded by the pool's lock */
    struct job job;
};

static void *call_often(void *argument)
{
    struct caller *caller = argument;
    for (int32_t i = 0; i < 500; i++) {
        caller->job.chunk_count = 1 + i % 50;
        bb_pool_lock(caller->pool);
        int32_t before = ++*caller->shared;
        run_and_check(caller->pool, &caller->job);
        bb_pool_lock(caller->pool);
        run_and_check(caller->pool, &caller->job);
        bb_pool_unlock(caller->pool);
        if (*caller->shared != before)
            atomic_fetch_add(&caller->job.bad, 1);
        bb_pool_unlock(caller->pool);
        run_and_check(caller->pool, &caller->job);
    }
    return NULL;
}

static void test_many_callers(void **state)
{
    (void)state;
    enum { CALLERS = 4 };
    static int32_t runs[CALLERS][64];
    int32_t shared = 0;
    pthread_t threads[CALLERS];
    struct caller callers[CALLERS];
    struct bb_pool *pool;
    bombus_error error;
    CHECK_OK(bb_pool_create(&pool, 3, &error), error);
    for (int i = 0; i < CALLERS; i++) {
        callers[i] =
            (struct caller){.pool = pool, .shared = &shared, .job = {.runs = runs[i], .thread_count = 3, .uneven = 5}};
        assert_int_equal(pthread_create(&threads[i], NULL, call_often, &callers[i]), 0);
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(atomic_load(&callers[i].job.bad), 0);
    }
    assert_int_equal(shared, CALLERS * 500);
    bb_pool_free(pool);
}

static void test_create_fails_cleanly(void **state)
{
    (void)state;
    struct bb_pool *pool;
    bombus_error error;
    assert_int_equal(bb_pool_create(&pool, -1, &error), BOMBUS_ERROR_ARGUMENT);
    assert_int_equal(bb_pool_create(&pool, 1 << 20, NULL), BOMBUS_ERROR_ARGUMENT);
    for (uint64_t n = 1;; n++) {
        bb_memory_fail_at(n, n % 2 == 0);
        bombus_status status = bb_pool_create(&pool, 3, &error);
        bb_memory_fail_at(0, false);
        if (status == BOMBUS_OK) {
            assert_true(n > 1);
            break;
        }
        assert_int_equal(status, BOMBUS_ERROR_MEMORY);
        assert_null(pool);
    }
    bb_pool_free(pool);
    bb_pool_free(NULL);
}

static void test_default_is_the_core_count(void **state)
{
    (void)state;
    struct bb_pool *pool;
    bombus_error error;
    int32_t cores = bb_physical_core_count();
    assert_in_range(cores, 1, sysconf(_SC_NPROCESSORS_ONLN));
    CHECK_OK(bb_pool_create(&pool, 0, &error), error);
    assert_int_equal(bb_pool_thread_count(pool), cores);
    bb_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_chunk_once),
        cmocka_unit_test(test_many_short_jobs),
        cmocka_unit_test(test_many_callers),
        cmocka_unit_test(test_create_fails_cleanly),
        cmocka_unit_test(test_default_is_the_core_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
