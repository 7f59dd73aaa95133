/* The CPU backend: opening, memory, and the table put together. */
#include "backend/cpu/cpu.h"

#include "backend/cpu/kernels/kernels.h"
#include "base/memory.h"

#include <stdio.h>
#include <string.h>

enum { MEMORY_ALIGNMENT = 64, RESERVE_FROM = 1 << 20 };

static void close_cpu(struct bb_backend *backend)
{
    struct bb_cpu *cpu = (struct bb_cpu *)backend;
    if (cpu == NULL)
        return;
    bb_pool_free(cpu->pool);
    for (int i = 0; i < BB_SCRATCH_COUNT; i++)
        bb_release(cpu->scratch[i].memory);
    bb_release(cpu);
}

static const char *describe(const struct bb_backend *backend)
{
    return ((const struct bb_cpu *)backend)->description;
}

/* Stands before each piece of memory. Large ones are reserved address space: a cache takes its full length at once
 * and fills it over time. */
struct header {
    size_t reserved_bytes; /* 0: from the heap */
    char unused[MEMORY_ALIGNMENT - sizeof(size_t)];
};

static bombus_status allocate(struct bb_backend *backend, size_t bytes, void **memory, bombus_error *error)
{
    struct header *header = NULL;
    size_t total;
    (void)backend;
    *memory = NULL;
    if (bb_add_size(bytes, sizeof *header, &total))
        header = total >= RESERVE_FROM ? bb_reserve(total) : bb_allocate_untouched(MEMORY_ALIGNMENT, total, 1);
    if (header == NULL)
        return bb_fail_memory(error, bytes, "an array of the CPU backend");
    header->reserved_bytes = total >= RESERVE_FROM ? total : 0;
    *memory = header + 1;
    return BOMBUS_OK;
}

static void release(struct bb_backend *backend, void *memory)
{
    (void)backend;
    if (memory == NULL)
        return;
    struct header *header = (struct header *)memory - 1;
    if (header->reserved_bytes > 0)
        bb_unreserve(header, header->reserved_bytes);
    else
        bb_release(header);
}

static bombus_status upload(struct bb_backend *backend, void *device, const void *host, size_t bytes,
                            bombus_error *error)
{
    (void)backend, (void)error;
    memcpy(device, host, bytes);
    return BOMBUS_OK;
}

static bombus_status download(struct bb_backend *backend, void *host, const void *device, size_t bytes,
                              bombus_error *error)
{
    (void)backend, (void)error;
    memcpy(host, device, bytes);
    return BOMBUS_OK;
}

static bombus_status copy(struct bb_backend *backend, void *to, const void *from, size_t bytes, bombus_error *error)
{
    (void)backend, (void)error;
    if (from != NULL)
        memcpy(to, from, bytes);
    else
        memset(to, 0, bytes);
    return BOMBUS_OK;
}

/* The backend and the kernels that it points at, in one allocation. */
struct opened_cpu {
    struct bb_cpu cpu;
    struct bb_kernels kernels;
};

bombus_status bb_cpu_open(struct bb_backend **backend, const struct bb_backend_options *options, bombus_error *error)
{
    static const struct bb_backend_options defaults;
    *backend = NULL;
    if (options == NULL)
        options = &defaults;
    struct opened_cpu *opened = bb_allocate(1, sizeof *opened);
    if (opened == NULL)
        return bb_fail_memory(error, sizeof *opened, "the CPU backend");
    struct bb_cpu *cpu = &opened->cpu;
    cpu->kernels = &opened->kernels;
    cpu->backend.table = &cpu->table;
    bombus_status status = bb_kernels_choose(&opened->kernels, options->cpu_level, error);
    if (status == BOMBUS_OK)
        status = bb_pool_create(&cpu->pool, options->thread_count, error);
    if (status != BOMBUS_OK) {
        close_cpu(&cpu->backend);
        return status;
    }
    int32_t threads = bb_pool_thread_count(cpu->pool);
    snprintf(cpu->description, sizeof cpu->description, "cpu (%s, %d thread%s)", cpu->kernels->level, threads,
             threads > 1 ? "s" : "");
    cpu->table = (struct bb_backend_table){.name = "cpu",
                                           .close = close_cpu,
                                           .describe = describe,
                                           .allocate = allocate,
                                           .release = release,
                                           .upload = upload,
                                           .download = download,
                                           .copy = copy};
    bb_cpu_fill_linear(&cpu->table);
    bb_cpu_fill_low_rank(&cpu->table);
    bb_cpu_fill_rows(&cpu->table);
    bb_cpu_fill_attention(&cpu->table);
    bb_cpu_fill_experts(&cpu->table);
    bb_cpu_fill_composites(&cpu->table);
    bb_cpu_fill_gradients(&cpu->table);
    bb_cpu_fill_row_gradients(&cpu->table);
    bb_cpu_fill_attention_gradients(&cpu->table);
    bb_cpu_fill_expert_gradients(&cpu->table);
    bb_cpu_fill_cross_entropy(&cpu->table);
    *backend = &cpu->backend;
    return BOMBUS_OK;
}
