/* Heap memory and arenas: the only place of the library that calls malloc, so that tests can count calls and make
 * the Nth fail. */
#ifndef BB_MEMORY_H
#define BB_MEMORY_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* count * size bytes, zeroed; NULL if that overflows or memory is out. count or size 0 gives a pointer that may be
 * released. */
void *bb_allocate(size_t count, size_t size) BB_RESULT;

/* Grows or shrinks; new bytes are not zeroed. On failure NULL, and `memory` is as before. memory NULL allocates. */
void *bb_resize(void *memory, size_t count, size_t size) BB_RESULT;

/* Makes room for `extra` more items of `size` bytes behind the first `count` ones of a growing array, whose capacity at
 * least doubles. `array` is the address of the pointer to it (NULL: none yet). False, with all as it was, if memory is
 * out. */
bool bb_grow(void *array, size_t count, size_t extra, size_t *capacity, size_t size) BB_RESULT;

/* Like bb_allocate with an alignment, a power of two; also released by bb_release. */
void *bb_allocate_aligned(size_t alignment, size_t count, size_t size) BB_RESULT;

/* The same, not zeroed. */
void *bb_allocate_untouched(size_t alignment, size_t count, size_t size) BB_RESULT;

void bb_release(void *memory); /* NULL is allowed */

/* Address space, page-aligned: the system gives memory to the pages that are written, and does not count the others.
 * NULL if there is none. Given back by bb_unreserve with the same size. */
void *bb_reserve(size_t bytes) BB_RESULT;
void bb_unreserve(void *memory, size_t bytes);

/* A copy of length bytes with a NUL behind. */
char *bb_copy_text(const char *text, size_t length) BB_RESULT;

/* *result = a * b (a + b); false on overflow. */
bool bb_multiply_size(size_t a, size_t b, size_t *result) BB_RESULT;
bool bb_add_size(size_t a, size_t b, size_t *result) BB_RESULT;

/* For tests. fail_at: the Nth allocation from now fails (1 = the next; 0 = none fails), and all after it too if
 * `is_sticky`. Not for use while several threads allocate. */
void bb_memory_fail_at(uint64_t fail_at, bool is_sticky);
/* How many allocations were made (or tried) since the process began, over all threads. */
uint64_t bb_memory_count(void);

/* An arena: many small allocations, freed together. Zeroed struct = empty arena. One thread at a time. */
struct bb_arena {
    struct bb_arena_block *blocks; /* newest first */
    size_t used, capacity;         /* of the newest block */
};

/* count * size bytes, zeroed, 16-byte aligned; NULL if memory is out. Valid until clear. */
void *bb_arena_allocate(struct bb_arena *arena, size_t count, size_t size) BB_RESULT;
char *bb_arena_copy_text(struct bb_arena *arena, const char *text, size_t length) BB_RESULT;
void bb_arena_clear(struct bb_arena *arena);

#endif
