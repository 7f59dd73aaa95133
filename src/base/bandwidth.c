/* Reads a buffer much larger than the caches again and again, in chunks that the threads of a pool take as they come: as
 * the products of one token read the weights. Every second pass asks for the lines that come AHEAD, without which some
 * cores keep too few reads under way (Sapphire Rapids: up to a third less). The best pass counts: what disturbs can only
 * make a pass slower. */
#include "base/bandwidth.h"

#include "base/clock.h"
#include "base/memory.h"
#include "base/threads.h"

#include <stdatomic.h>
#include <string.h>

enum { CHUNK = 1 << 18, WORDS = CHUNK / 8, STREAMS = 16, LINE = 64, AHEAD = 8192, DEFAULT_BYTES = 256 << 20 };
static const double default_seconds = 0.5;

struct reading {
    const uint64_t *words;
    bool is_helped;
    atomic_uint_fast64_t sum; /* relaxed: exists so that the reads are needed */
};

static void read_chunk(void *context, int32_t chunk, int32_t worker)
{
    struct reading *reading = context;
    const uint64_t *words = reading->words + (size_t)chunk * WORDS;
    uint64_t sums[STREAMS] = {0}, sum = 0;
    (void)worker;
    for (size_t i = 0; i < WORDS; i += STREAMS) {
        const char *ahead = (const char *)(words + i) + AHEAD;
        for (size_t byte = 0; byte < STREAMS * sizeof *words && reading->is_helped; byte += LINE)
            __builtin_prefetch(ahead + byte, 0, 2);
        for (size_t j = 0; j < STREAMS; j++)
            sums[j] ^= words[i + j];
    }
    for (size_t j = 0; j < STREAMS; j++)
        sum ^= sums[j];
    atomic_fetch_add_explicit(&reading->sum, sum, memory_order_relaxed);
}

bombus_status bb_measure_bandwidth(double *bytes_per_second, int32_t thread_count, size_t bytes, double seconds,
                                   bombus_error *error)
{
    struct bb_pool *pool;
    size_t chunks = (bytes != 0 ? bytes : DEFAULT_BYTES) / CHUNK;
    seconds = seconds > 0.0 ? seconds : default_seconds;
    if (chunks < 1 || chunks > INT32_MAX)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "bytes: %zu, expected 0 (256 MiB) or at least %d", bytes, CHUNK);
    bombus_status status = bb_pool_create(&pool, thread_count, error);
    if (status != BOMBUS_OK)
        return status;
    char *memory = bb_allocate_aligned(4096, chunks, CHUNK);
    if (memory == NULL) {
        bb_pool_free(pool);
        return bb_fail_memory(error, chunks * CHUNK, "measuring the bandwidth");
    }
    memset(memory, 1, chunks * CHUNK); /* pages never written may all be one page of zeros */
    struct reading reading = {.words = (const uint64_t *)(const void *)memory};
    double best = 0.0, end = bb_clock_seconds() + seconds, now;
    do {
        double begin = bb_clock_seconds();
        bb_pool_run(pool, (int32_t)chunks, read_chunk, &reading);
        now = bb_clock_seconds();
        double rate = (double)(chunks * CHUNK) / (now - begin);
        best = rate > best ? rate : best;
        reading.is_helped = !reading.is_helped;
    } while (now < end);
    bb_release(memory);
    bb_pool_free(pool);
    *bytes_per_second = best;
    return BOMBUS_OK;
}
