/* Speed of the linear products beside what the machine can do, measured in the same run with the same threads: plain reading of the same
 * bytes (GB/s), int8 multiply-adds and f32 fused multiply-adds in registers (GOP/s, two a multiply-add).
 *
 * usage: bench_linear [THREADS [LEVEL [part of a shape's name]]] */
#include "backend/cpu/cpu.h"
#include "backend/cpu/kernels/kernels.h"
#include "base/memory.h"
#include "base/random.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { ROUNDS = 7, POOL_BYTES = 192 << 20 /* of weights: more than any cache */ };

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

/* ---- ceilings ---- */

struct reading {
    const char *memory;
    size_t chunk_bytes;
    uint64_t sums[256]; /* kept, so that the reading is */
};

#if defined(__x86_64__)
__attribute__((target("avx2"))) /* registers of 32 bytes: what memory gives, not what narrow loads do */
#endif
static void read_chunk(void *context, int32_t chunk, int32_t worker)
{
    struct reading *reading = context;
    const uint64_t *words = (const uint64_t *)(const void *)(reading->memory + (size_t)chunk * reading->chunk_bytes);
    uint64_t a[8] = { 0 }, b[8] = { 0 };
    for (size_t i = 0; i + 16 <= reading->chunk_bytes / 8; i += 16) {
        for (size_t j = 0; j < 8; j++) {
            a[j] ^= words[i + j];
            b[j] ^= words[i + 8 + j];
        }
    }
    for (size_t j = 0; j < 8; j++)
        reading->sums[worker] ^= a[j] ^ b[j];
}

static double measure_reading(struct bb_pool *pool, const void *memory, size_t bytes)
{
    struct reading reading = { .memory = memory, .chunk_bytes = 256 << 10 };
    const double start = now();
    bb_pool_run(pool, (int32_t)(bytes / reading.chunk_bytes), read_chunk, &reading);
    return (double)(bytes / reading.chunk_bytes * reading.chunk_bytes) / (now() - start) / 1e9;
}

#if defined(__x86_64__)
/* Eight independent sums in named registers, so that no compiler spills them. */
#define EIGHT(operation, width)                                                                                          \
    __asm__ volatile(operation " %%" width "mm0, %%" width "mm1, %%" width "mm2\n" operation " %%" width "mm0, %%" width "mm1, %%" width "mm3\n" \
                     operation " %%" width "mm0, %%" width "mm1, %%" width "mm4\n" operation " %%" width "mm0, %%" width "mm1, %%" width "mm5\n" \
                     operation " %%" width "mm0, %%" width "mm1, %%" width "mm6\n" operation " %%" width "mm0, %%" width "mm1, %%" width "mm7\n" \
                     operation " %%" width "mm0, %%" width "mm1, %%" width "mm8\n" operation " %%" width "mm0, %%" width "mm1, %%" width "mm9\n" \
                     : : : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9")

static void peak_avx512(int64_t rounds, bool is_int8)
{
    for (int64_t k = 0; k < rounds && is_int8; k++)
        EIGHT("vpdpbusd", "z");
    for (int64_t k = 0; k < rounds && !is_int8; k++)
        EIGHT("vfmadd231ps", "z");
}

/* int8: vpmaddubsw and vpaddw, the least that a sum of int8 products takes. */
static void peak_avx2(int64_t rounds, bool is_int8)
{
    for (int64_t k = 0; k < rounds && is_int8; k++) {
        EIGHT("vpmaddubsw", "y");
        EIGHT("vpaddw", "y");
    }
    for (int64_t k = 0; k < rounds && !is_int8; k++)
        EIGHT("vfmadd231ps", "y");
}
#endif

struct peak {
    bool is_int8, is_avx512;
};

static void peak_chunk(void *context, int32_t chunk, int32_t worker)
{
    (void)chunk;
    (void)worker;
#if defined(__x86_64__)
    const struct peak *peak = context;
    if (peak->is_avx512)
        peak_avx512(200000, peak->is_int8);
    else
        peak_avx2(200000, peak->is_int8);
#else
    (void)context;
#endif
}

/* GOP/s, 0 where unknown. */
static double measure_peak(struct bb_pool *pool, const char *level, bool is_int8)
{
#if defined(__x86_64__)
    struct peak peak = { .is_int8 = is_int8, .is_avx512 = strcmp(level, "avx512") == 0 };
    const int32_t chunks = 8 * bb_pool_thread_count(pool);
    const double lanes = (peak.is_avx512 ? 16.0 : 8.0) * (is_int8 ? 4.0 : 1.0), start = now();
    bb_pool_run(pool, chunks, peak_chunk, &peak);
    return 2.0 * 1.6e6 * lanes * chunks / (now() - start) / 1e9;
#else
    (void)pool;
    (void)level;
    (void)is_int8;
    return 0.0;
#endif
}

/* ---- products ---- */

struct shape {
    const char *name;
    struct bb_scheme scheme;
    enum bb_dtype dtype;
    int64_t rows, cols;
};

static const struct shape shapes[] = {
    { "affine 4 g64", { BB_QUANT_AFFINE, 4, 64 }, BB_BF16, 3072, 1024 }, { "affine 4 g64", { BB_QUANT_AFFINE, 4, 64 }, BB_BF16, 1024, 3072 },
    { "affine 4 g64", { BB_QUANT_AFFINE, 4, 64 }, BB_BF16, 4096, 4096 }, { "affine 4 g64", { BB_QUANT_AFFINE, 4, 64 }, BB_BF16, 4096, 12288 },
    { "affine 4 g32", { BB_QUANT_AFFINE, 4, 32 }, BB_BF16, 4096, 4096 }, { "affine 4 g128", { BB_QUANT_AFFINE, 4, 128 }, BB_F16, 4096, 4096 },
    { "affine 2 g64", { BB_QUANT_AFFINE, 2, 64 }, BB_BF16, 4096, 4096 }, { "affine 3 g64", { BB_QUANT_AFFINE, 3, 64 }, BB_BF16, 4096, 4096 },
    { "affine 5 g64", { BB_QUANT_AFFINE, 5, 64 }, BB_BF16, 4096, 4096 }, { "affine 6 g64", { BB_QUANT_AFFINE, 6, 64 }, BB_BF16, 4096, 4096 },
    { "affine 8 g64", { BB_QUANT_AFFINE, 8, 64 }, BB_BF16, 4096, 4096 }, { "mxfp4", { BB_QUANT_MXFP4, 4, 32 }, BB_U8, 4096, 4096 },
    { "nvfp4", { BB_QUANT_NVFP4, 4, 16 }, BB_U8, 4096, 4096 }, { "mxfp8", { BB_QUANT_MXFP8, 8, 32 }, BB_U8, 4096, 4096 },
    { "bf16", { BB_QUANT_NONE, 0, 0 }, BB_BF16, 4096, 4096 },
};

/* A weight at a place of the pool, so that successive calls read memory and not a cache. */
static struct bb_weight weight_at(const struct shape *shape, char *pool, size_t index)
{
    struct bb_weight weight = { .dtype = shape->dtype, .scheme = shape->scheme, .rows = shape->rows, .cols = shape->cols };
    const size_t codes = (size_t)shape->rows * bb_weight_row_bytes(&weight), scales = (size_t)shape->rows * bb_weight_scale_row_bytes(&weight);
    const size_t all = (codes + 2 * scales + 4095) & ~(size_t)4095, place = index % (POOL_BYTES / all) * all;
    weight.data = pool + place;
    weight.scales = scales != 0 ? pool + place + codes : NULL;
    weight.biases = shape->scheme.mode == BB_QUANT_AFFINE ? pool + place + codes + scales : NULL;
    return weight;
}

/* Seconds a call of `batch` rows, the best of a few. */
static double measure(struct bb_cpu *cpu, const struct shape *shape, char *pool, const float *x, float *out, int64_t batch, bool is_exact)
{
    double best = 1e9;
    size_t index = 0;
    struct bb_linear linear = { .weight = weight_at(shape, pool, 0), .slot = -1 };
    const double bytes = (double)bb_weight_bytes(&linear.weight);
    const int calls = batch == 1 ? (int)(64e6 / bytes) + 1 : batch < 64 ? 4 : 1;
    for (int round = 0; round < ROUNDS; round++) {
        const double start = now();
        for (int call = 0; call < calls; call++) {
            linear.weight = weight_at(shape, pool, index++);
            const struct bb_cpu_product product = { .linear = &linear, .out = out, .out_stride = shape->rows, .scale = 1.0f };
            bombus_error error;
            if (bb_cpu_multiply(cpu, &product, 1, x, batch, is_exact, &error) != BOMBUS_OK) {
                fprintf(stderr, "%s\n", error.message);
                exit(1);
            }
        }
        const double seconds = (now() - start) / calls;
        best = seconds < best ? seconds : best;
    }
    return best;
}

static void bench_shape(struct bb_cpu *cpu, const struct shape *shape, char *pool, const float *x, float *out)
{
    const int64_t batches[] = { 1, 2, 4, 8, 16, 64, 512 };
    const struct bb_weight weight = weight_at(shape, pool, 0);
    for (int is_exact = 0; is_exact < 2; is_exact++) {
        printf("%-14s %5lld x %5lld %-5s", shape->name, (long long)shape->rows, (long long)shape->cols, is_exact ? "exact" : "fast");
        for (size_t i = 0; i < BB_COUNT(batches); i++) {
            if (is_exact && batches[i] > 64)
                continue;
            const double seconds = measure(cpu, shape, pool, x, out, batches[i], is_exact);
            const double reading = measure_reading(cpu->pool, pool, POOL_BYTES), gigabytes = (double)bb_weight_bytes(&weight) / seconds / 1e9;
            if (batches[i] == 1)
                printf(" | 1: %5.1f GB/s, %3.0f %% of reading", gigabytes, 100.0 * gigabytes / reading);
            else
                printf(" | %lld: %4.0f", (long long)batches[i], 2.0 * (double)(shape->rows * shape->cols * batches[i]) / seconds / 1e9);
        }
        printf("\n");
        fflush(stdout);
    }
}

int main(int argc, char **argv)
{
    struct bb_backend_options options = { .thread_count = argc > 1 ? atoi(argv[1]) : 0, .cpu_level = argc > 2 ? argv[2] : NULL };
    const char *only = argc > 3 ? argv[3] : NULL;
    struct bb_backend *backend;
    bombus_error error;
    if (bb_cpu_open(&backend, &options, &error) != BOMBUS_OK) {
        fprintf(stderr, "%s\n", error.message);
        return 1;
    }
    struct bb_cpu *cpu = (struct bb_cpu *)backend;
    char *pool = bb_allocate_aligned(4096, POOL_BYTES, 1);
    float *x = bb_allocate(512 * 12288, sizeof(float)), *out = bb_allocate(512 * 12288, sizeof(float));
    if (pool == NULL || x == NULL || out == NULL)
        return 1;
    struct bb_random random = { 1, 0 };
    for (size_t i = 0; i < POOL_BYTES / 8; i++)
        /* Scales are positive numbers, none of them denormal: those cost Intel's cores hundreds of cycles each. */
        ((uint64_t *)(void *)pool)[i] = (bb_random_next(&random) & UINT64_C(0x3FFF3FFF3FFF3FFF)) | UINT64_C(0x2000200020002000);
    for (size_t i = 0; i < 512 * 12288; i++)
        x[i] = (float)bb_random_uniform(&random) - 0.5f;
    const char *level = cpu->kernels->level;
    printf("%s\nreading %.1f GB/s, int8 peak %.0f GOP/s, f32 peak %.0f GOP/s; columns: GOP/s for so many rows of x\n", backend->table->describe(backend),
           measure_reading(cpu->pool, pool, POOL_BYTES), measure_peak(cpu->pool, level, true), measure_peak(cpu->pool, level, false));
    for (size_t i = 0; i < BB_COUNT(shapes); i++) {
        if (only == NULL || strstr(shapes[i].name, only) != NULL)
            bench_shape(cpu, &shapes[i], pool, x, out);
    }
    bb_release(pool);
    bb_release(x);
    bb_release(out);
    backend->table->close(backend);
    return 0;
}
