/* What one compilation or rendering carries along: memory, work and nesting counted against their limits, and the first error.
 *
 * Errors are sticky: the first stays, later calls return NULL or none at once, loops end by looking at `status`. */
#ifndef BB_TEMPLATE_WORK_H
#define BB_TEMPLATE_WORK_H

#include "base/memory.h"
#include "text/template/limits.h"
#include "text/template/value.h"

#include <time.h>

struct bb_scope;
struct bb_builder;

struct bb_work {
    const char *source; /* borrowed: for line and column of errors */
    size_t source_length;
    struct bb_template_limits limits; /* no zeros: defaults are filled in */
    struct bb_arena arena;
    size_t memory_used; /* arena and unfinished builders */
    uint64_t steps;
    int32_t nesting; /* of evaluation, statements and values; bounded by BB_NESTING_PER_DEPTH * limits.depth */
    int32_t calls;   /* of macros, callers and recursive loops; bounded by limits.depth */
    uint32_t place;  /* byte offset in the source of what is being done */
    bombus_status status;
    bombus_error *error; /* may be NULL */

    /* Rendering only. */
    struct bb_builder *output; /* where text goes: the result, or what a macro or block captures */
    struct bb_scope *scope;
    struct bb_value *globals; /* by name: variables given, then built-in functions; BB_VALUE_MISSING where neither */
    struct bb_value captured; /* text that a filter block or set block hands to its filters */
    struct tm now;
    int32_t now_microsecond;
    bool is_leaving_turn, is_leaving_loop; /* continue, break: seen, and on the way to the loop */
};

/* One macro call takes about ten nested C calls of rendering; so this bounds the C stack to about a megabyte. */
enum { BB_NESTING_PER_DEPTH = 10 };

/* count * size zeroed bytes that live as long as the work; NULL after an error. */
void *bb_work_allocate(struct bb_work *work, size_t count, size_t size) BB_RESULT;
bool bb_work_charge_memory(struct bb_work *work, size_t bytes); /* false, and an error, if that is too much */

/* Counts work; false, and an error, if that was too much or an error was there already. */
bool bb_work_step(struct bb_work *work, uint64_t steps);
/* Work on so many bytes of text. */
bool bb_work_scan(struct bb_work *work, size_t bytes);
/* One level deeper; false, and an error, if that is too deep; then bb_work_leave must not be called. */
bool bb_work_enter(struct bb_work *work);
void bb_work_leave(struct bb_work *work);

/* The one way to make an error while compiling or rendering: BOMBUS_ERROR_TEMPLATE at work->place. Gives none, to be returned. */
struct bb_value bb_raise(struct bb_work *work, const char *format, ...) BB_PRINTF(2, 3);
struct bb_value bb_raise_status(struct bb_work *work, bombus_status status, const char *format, ...) BB_PRINTF(3, 4);
struct bb_value bb_raise_text(struct bb_work *work, const struct bb_text *message); /* raise_exception's: as it is */

/* 1-based line and column (in characters) of a byte offset. */
void bb_find_place(const char *source, size_t length, size_t offset, int32_t *line, int32_t *column);

#endif
