/* Heap memory and arenas: the only place of the library that calls malloc, so that tests can count calls and make the Nth fail. */
#include "base/memory.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0 /* the system never counts untouched pages */
#endif

enum { ARENA_ALIGNMENT = 16, ARENA_FIRST_BLOCK = 4096, GROW_FIRST = 64 };

struct bb_arena_block {
    struct bb_arena_block *next;
    size_t unused; /* keeps the payload 16-byte aligned */
};

static atomic_uint_fast64_t allocation_count; /* relaxed: only a counter */
static atomic_uint_fast64_t failing_call;     /* 0: none */
static atomic_bool failure_is_sticky;

static bool may_allocate(void)
{
    uint64_t call = atomic_fetch_add_explicit(&allocation_count, 1, memory_order_relaxed) + 1;
    uint64_t failing = atomic_load_explicit(&failing_call, memory_order_relaxed);
    if (BB_LIKELY(failing == 0))
        return true;
    return atomic_load_explicit(&failure_is_sticky, memory_order_relaxed) ? call < failing : call != failing;
}

void bb_memory_fail_at(uint64_t fail_at, bool is_sticky)
{
    uint64_t now = atomic_load_explicit(&allocation_count, memory_order_relaxed);
    atomic_store_explicit(&failure_is_sticky, is_sticky, memory_order_relaxed);
    atomic_store_explicit(&failing_call, fail_at == 0 ? 0 : now + fail_at, memory_order_relaxed);
}

uint64_t bb_memory_count(void)
{
    return atomic_load_explicit(&allocation_count, memory_order_relaxed);
}

void *bb_allocate(size_t count, size_t size)
{
    size_t bytes;
    if (!may_allocate() || !bb_multiply_size(count, size, &bytes))
        return NULL;
    return calloc(count > 0 ? count : 1, size > 0 ? size : 1);
}

void *bb_resize(void *memory, size_t count, size_t size)
{
    size_t bytes;
    if (!may_allocate() || !bb_multiply_size(count, size, &bytes))
        return NULL;
    return realloc(memory, bytes > 0 ? bytes : 1);
}

bool bb_grow(void *array, size_t count, size_t extra, size_t *capacity, size_t size)
{
    size_t wanted, doubled = *capacity > SIZE_MAX / 2 ? SIZE_MAX : *capacity * 2;
    void *memory;
    if (!bb_add_size(count, extra, &wanted))
        return false;
    if (wanted <= *capacity)
        return true;
    wanted = wanted < doubled ? doubled : wanted;
    wanted = wanted < GROW_FIRST ? GROW_FIRST : wanted;
    memcpy(&memory, array, sizeof memory); /* the pointer may be of any type */
    memory = bb_resize(memory, wanted, size);
    if (memory == NULL)
        return false;
    memcpy(array, &memory, sizeof memory);
    *capacity = wanted;
    return true;
}

void *bb_allocate_untouched(size_t alignment, size_t count, size_t size)
{
    size_t bytes;
    void *memory = NULL;
    if (!may_allocate() || !bb_multiply_size(count, size, &bytes))
        return NULL;
    if (alignment < sizeof(void *))
        alignment = sizeof(void *);
    return posix_memalign(&memory, alignment, bytes > 0 ? bytes : 1) == 0 ? memory : NULL;
}

void *bb_allocate_aligned(size_t alignment, size_t count, size_t size)
{
    void *memory = bb_allocate_untouched(alignment, count, size);
    if (memory != NULL)
        memset(memory, 0, count * size);
    return memory;
}

void bb_release(void *memory)
{
    free(memory);
}

void *bb_reserve(size_t bytes)
{
    if (!may_allocate() || bytes == 0)
        return NULL;
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory != MAP_FAILED ? memory : NULL;
}

void bb_unreserve(void *memory, size_t bytes)
{
    if (memory != NULL)
        munmap(memory, bytes);
}

char *bb_copy_text(const char *text, size_t length)
{
    size_t bytes;
    char *copy;
    if (!bb_add_size(length, 1, &bytes) || (copy = bb_allocate(bytes, 1)) == NULL)
        return NULL;
    if (length > 0)
        memcpy(copy, text, length);
    return copy;
}

bool bb_multiply_size(size_t a, size_t b, size_t *result)
{
    return !__builtin_mul_overflow(a, b, result);
}

bool bb_add_size(size_t a, size_t b, size_t *result)
{
    return !__builtin_add_overflow(a, b, result);
}

void *bb_arena_allocate(struct bb_arena *arena, size_t count, size_t size)
{
    size_t bytes;
    if (!bb_multiply_size(count, size, &bytes) || !bb_add_size(bytes, ARENA_ALIGNMENT - 1, &bytes))
        return NULL;
    bytes &= ~(size_t)(ARENA_ALIGNMENT - 1);
    if (arena->blocks == NULL || arena->capacity - arena->used < bytes) {
        /* Blocks double, so that a large parse makes few of them. */
        size_t capacity = arena->capacity > 0 ? arena->capacity * 2 : ARENA_FIRST_BLOCK;
        if (capacity < bytes)
            capacity = bytes;
        struct bb_arena_block *block = bb_allocate(1, sizeof *block + capacity);
        if (block == NULL)
            return NULL;
        block->next = arena->blocks;
        arena->blocks = block;
        arena->capacity = capacity;
        arena->used = 0;
    }
    void *memory = (char *)(arena->blocks + 1) + arena->used;
    arena->used += bytes;
    return memory;
}

char *bb_arena_copy_text(struct bb_arena *arena, const char *text, size_t length)
{
    size_t bytes;
    char *copy;
    if (!bb_add_size(length, 1, &bytes) || (copy = bb_arena_allocate(arena, bytes, 1)) == NULL)
        return NULL;
    if (length > 0)
        memcpy(copy, text, length);
    return copy;
}

void bb_arena_clear(struct bb_arena *arena)
{
    for (struct bb_arena_block *block = arena->blocks; block != NULL;) {
        struct bb_arena_block *next = block->next;
        bb_release(block);
        block = next;
    }
    *arena = (struct bb_arena){0};
}
