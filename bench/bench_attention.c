/* Speed of the attention alone: prompts in chunks of 512 and one token at a time, by length, cache type, level and
 * threads. Prints GFLOP/s (two a multiply-add of the visible half) and, for one token, GB/s of cache read.
 * `bench_attention [level] [threads]`. */
#include "ops/backends.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { HEADS = 16, KV_HEADS = 8, HEAD_DIM = 128, LONGEST = 8192, PAGE = 64 };

static clockid_t timer = CLOCK_MONOTONIC;

static double now(void)
{
    struct timespec time;
    clock_gettime(timer, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static struct bb_tensor matrix(float *data, int64_t rows, int64_t columns)
{
    return (struct bb_tensor){.data = data, .shape = {rows, columns, 1, 1}, .dtype = BB_F32};
}

/* Best of some runs of `rows` rows that end at `length`. */
static double measure(struct bb_backend *backend, const struct bb_kv_view *view, float *q, float *k, float *out,
                      int32_t rows, int32_t length)
{
    static int32_t positions[LONGEST];
    struct bb_attention_shape shape = {.heads = HEADS, .kv_heads = KV_HEADS, .head_dim = HEAD_DIM, .scale = 0.09f};
    struct bb_span span = {.row_count = rows, .first_position = length - rows};
    struct bb_batch batch = {.row_count = rows, .positions = positions, .span_count = 1, .spans = &span};
    double best = 1e9;
    bombus_error error;
    for (int i = 0; i < (rows == 1 ? 50 : 4); i++) {
        bombus_status status = backend->table->write_cache(backend, view, matrix(k, rows, KV_HEADS * HEAD_DIM),
                                                           matrix(k, rows, KV_HEADS * HEAD_DIM), &batch, &error);
        double begin = now();
        if (status == BOMBUS_OK)
            status = backend->table->attention(backend, &shape, view, matrix(q, rows, HEADS * HEAD_DIM), &batch,
                                               matrix(out, rows, HEADS * HEAD_DIM), &error);
        double time = now() - begin;
        best = time < best ? time : best;
        if (status != BOMBUS_OK) {
            fprintf(stderr, "%s\n", error.message);
            exit(1);
        }
    }
    return best;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"f32", "f16", "q8", "q4"};
    struct bb_backend_options options = {.cpu_level = argc > 1 ? argv[1] : NULL,
                                         .thread_count = argc > 2 ? atoi(argv[2]) : 1};
    struct bb_backend *backend;
    bombus_error error;
    if (options.thread_count == 1)
        timer = CLOCK_THREAD_CPUTIME_ID; /* so that other programs disturb less */
    if (bb_backend_open(&backend, "cpu", &options, &error) != BOMBUS_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    printf("%s, %d heads on %d of %d\n", bb_backend_describe(backend), HEADS, KV_HEADS, HEAD_DIM);
    float *q = malloc(512 * HEADS * HEAD_DIM * sizeof *q), *k = malloc(512 * HEADS * HEAD_DIM * sizeof *k);
    float *out = malloc(512 * HEADS * HEAD_DIM * sizeof *out);
    for (int i = 0; i < 512 * HEADS * HEAD_DIM; i++)
        q[i] = k[i] = (float)((uint32_t)i * 2654435761u >> 8) * 0x1p-24f - 0.5f;
    for (int type = BB_KV_F32; type <= BB_KV_Q4; type++) {
        static int32_t pages[LONGEST / PAGE];
        const int32_t *table = pages;
        struct bb_kv_view view = {.type = (enum bb_kv_type)type,
                                  .group_size = 64,
                                  .page_size = PAGE,
                                  .kv_heads = KV_HEADS,
                                  .head_dim = HEAD_DIM};
        view.page_stride = bb_kv_page_bytes(view.type, 64, PAGE, KV_HEADS, HEAD_DIM);
        view.base = aligned_alloc(64, view.page_stride * (LONGEST / PAGE));
        view.page_tables = &table;
        memset(view.base, 0, view.page_stride * (LONGEST / PAGE));
        for (int i = 0; i < LONGEST / PAGE; i++)
            pages[i] = i;
        for (int32_t length = 512; length <= LONGEST; length *= 4) {
            double prompt = measure(backend, &view, q, k, out, 512, length),
                   one = measure(backend, &view, q, k, out, 1, length);
            double work = 4.0 * HEADS * HEAD_DIM * 512.0 * (length - 256.0),
                   bytes = (double)view.page_stride / PAGE * length;
            printf("%s %5d positions: 512 rows %8.2f ms %6.1f GFLOP/s, 1 row %7.1f us %5.1f GB/s\n", names[type],
                   length, prompt * 1e3, work / prompt * 1e-9, one * 1e6, bytes / one * 1e-9);
        }
        free(view.base);
    }
    free(q);
    free(k);
    free(out);
    bb_backend_close(backend);
    return 0;
}
