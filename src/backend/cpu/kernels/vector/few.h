/* Rounded products of one to three rows of x: the part that AVX2 and AVX-512 share. Each includes it behind its own
 *
 *     UNITS, BLOCK, ROWS    of a run, of rows that are stored at once, of a set
 *     struct few            a task, with its x_rows, is_even, units, padded_units, row_bytes, read_ahead and dots
 *     struct form           what the loops know of a scheme and a weight
 *     form_of(...)          such a form
 *     next_run(...)         sums of the run whose codes come next, for `x_rows` rows of x
 *     add_run(...)          a run's terms added to the totals of a set's rows, for one row of x
 *     store_block(...)      a block's results
 *     finishes_later(...)   whether groups of `rows` rows, for one row of x, are finished while the next one is read
 *     multiply_form(...)    the product by groups of `rows` weight rows, all else constants: columns a unit, bits of a code, whether codes stand for
 *                           values, whether the weight is even, rows of x */
#ifndef BB_VECTOR_FEW_H
#define BB_VECTOR_FEW_H

#include "backend/cpu/kernels/kernel.h"

enum { SETS = BB_SHORT_ROWS / BB_SET_ROWS /* of a group at most */ };

/* A group whose codes are read: its totals, of the units before `first`. Before the first group one from a row below 0. */
struct unfinished {
    struct bb_row_group group;
    int64_t first;
    __m128 totals[SETS];
};

/* Set `set` of a group. */
BB_INLINE struct bb_row_group set_of(const struct few *few, struct bb_row_group group, int32_t set)
{
    return (struct bb_row_group){ group.row + set * ROWS, group.count < ROWS ? group.count : ROWS, group.dots + set * ROWS * few->padded_units };
}

/* Whether scales are asked for a line of each row at a time, as rows fill lines, else those of a group at once. */
BB_INLINE bool asks_by_line(const struct few *few)
{
    return few->units >= BB_LINE_UNITS;
}

/* Adds the next run to the totals. Now and then it asks for a line of each row's scales and biases two groups behind. */
BB_INLINE void finish_run(const struct few *few, const struct form form, struct unfinished *unfinished, const bool is_whole)
{
    const struct bb_row_group group = unfinished->group;
    if (asks_by_line(few) && unfinished->first % BB_LINE_UNITS == 0)
        bb_prefetch_units(few->task->weight, group.row + 2 * group.count, group.count, unfinished->first, few->units);
    BB_UNROLL
    for (int32_t i = 0; i < SETS; i++)
        if (i * ROWS < group.count)
            unfinished->totals[i] = add_run(few, form, set_of(few, group, i), unfinished->first, is_whole, unfinished->totals[i]);
    unfinished->first += UNITS;
}

/* Reads the codes of a group of an even weight, for one row of x, and finishes the one before: a run for every `count` runs that are read. All at once
 * they would take longer than the codes of a row, and the processor's reading ahead would wait. */
BB_INLINE void read_group(const struct few *few, const struct form form, struct bb_reader *reader, struct bb_row_group group, struct unfinished *before)
{
    const int64_t whole = few->units / UNITS * UNITS;
    int64_t wait = before->group.row < 0 ? INT64_MAX : group.count * UNITS; /* units to read before the next run is finished */
    for (int64_t i = 0; i < group.count; i++) {
        int32_t *dots = group.dots + i * few->padded_units;
        int64_t first = 0;
        while (first < whole) {
            const int64_t end = whole - first < wait ? whole : first + wait;
            wait -= end - first;
            for (; first < end; first += UNITS)
                next_run(few, form, reader, first, dots + first, true, 1);
            if (wait == 0) {
                finish_run(few, form, before, true);
                wait = group.count * UNITS;
            }
        }
        if (first == few->units)
            continue;
        next_run(few, form, reader, first, dots + first, false, 1);
        wait -= UNITS;
        if (wait == 0) {
            finish_run(few, form, before, false);
            wait = group.count * UNITS;
        }
    }
}

/* Keeps a group's totals among those of its block of rows, which are stored behind the last. */
BB_INLINE void store_group(const struct few *few, const struct unfinished *finished, float totals[BLOCK])
{
    const int64_t row = finished->group.row, count = finished->group.count, place = row % BLOCK;
    BB_UNROLL
    for (int32_t i = 0; i < SETS; i++) {
        if (count < ROWS && i == 0)
            _mm_storel_pi((__m64 *)(void *)(totals + place), finished->totals[0]);
        else if (i * ROWS < count)
            _mm_storeu_ps(totals + place + i * ROWS, finished->totals[i]);
    }
    if (place + count == BLOCK || row + count == few->task->weight->rows)
        store_block(few, row - place, totals);
}

/* The product of one row of x and an even weight, `rows` weight rows at a time. */
BB_INLINE void multiply_one_even(const struct few *few, const int64_t rows, const int32_t unit)
{
    const struct bb_linear_task *task = few->task;
    const int64_t all = task->weight->rows;
    const struct form form = form_of(few, unit, 4, false, true);
    struct bb_reader reader = bb_reader_of(task->weight, 0, few->row_bytes, few->read_ahead);
    struct bb_ahead_place ahead = bb_ahead_begin(task->ahead, task->ahead_count, (all + BLOCK - 1) / BLOCK);
    struct unfinished before = { .group = { -rows, rows, NULL } };
    float totals[BLOCK] = { 0 };
    bb_prefetch_groups(task->weight, 0, 2 * rows);
    for (int64_t row = 0; row < all; row += rows) {
        if (row % BLOCK == 0)
            bb_ahead_ask(&ahead);
        if (!asks_by_line(few))
            bb_prefetch_groups(task->weight, row + 2 * rows, rows);
        const struct bb_row_group group = { row, rows, few->dots + row / rows % 2 * rows * few->padded_units };
        read_group(few, form, &reader, group, &before);
        if (row > 0)
            store_group(few, &before, totals);
        before = (struct unfinished){ .group = group, .totals = { _mm_setzero_ps(), _mm_setzero_ps() } };
    }
    while (before.first < few->units)
        finish_run(few, form, &before, false);
    store_group(few, &before, totals);
}

/* The product of an even weight. */
BB_INLINE void multiply_even(const struct few *few, int64_t rows, const int32_t unit, const int32_t x_rows)
{
    if (x_rows > 1 || !finishes_later(few, rows))
        multiply_form(few, BB_SET_ROWS, unit, 4, false, true, x_rows);
    else if (unit == 64 && rows == BB_SHORT_ROWS)
        multiply_one_even(few, BB_SHORT_ROWS, unit);
    else if (rows == BB_SET_ROWS)
        multiply_one_even(few, BB_SET_ROWS, unit);
    else
        multiply_one_even(few, BB_PART_ROWS, unit);
}

/* The product with the constants of the scheme. */
BB_INLINE void multiply_scheme(const struct few *few, int64_t rows, const int32_t x_rows)
{
    const struct bb_scheme scheme = few->task->weight->scheme;
    const int32_t unit = few->task->rounded->unit;
    switch (scheme.bits + (unit == 64 ? 16 : 0)) {
    case 1: multiply_form(few, rows, 32, 1, false, false, x_rows); break;
    case 2: multiply_form(few, rows, 32, 2, false, false, x_rows); break;
    case 3: multiply_form(few, rows, 32, 3, false, false, x_rows); break;
    case 5: multiply_form(few, rows, 32, 5, false, false, x_rows); break;
    case 6: multiply_form(few, rows, 32, 6, false, false, x_rows); break;
    case 8: multiply_form(few, rows, 32, 8, false, false, x_rows); break;
    case 16 + 1: multiply_form(few, rows, 64, 1, false, false, x_rows); break;
    case 16 + 2: multiply_form(few, rows, 64, 2, false, false, x_rows); break;
    case 16 + 3: multiply_form(few, rows, 64, 3, false, false, x_rows); break;
    case 16 + 4:
        if (few->is_even)
            multiply_even(few, rows, 64, x_rows);
        else
            multiply_form(few, rows, 64, 4, false, false, x_rows);
        break;
    case 16 + 5: multiply_form(few, rows, 64, 5, false, false, x_rows); break;
    case 16 + 6: multiply_form(few, rows, 64, 6, false, false, x_rows); break;
    case 16 + 8: multiply_form(few, rows, 64, 8, false, false, x_rows); break;
    default: /* 4 bits, units of 32 or 16 */
        if (few->is_even)
            multiply_even(few, rows, 32, x_rows);
        else if (scheme.mode == BB_QUANT_AFFINE)
            multiply_form(few, rows, 32, 4, false, false, x_rows);
        else if (unit == 32)
            multiply_form(few, rows, 32, 4, true, false, x_rows);
        else
            multiply_form(few, rows, 16, 4, true, false, x_rows);
    }
}

static void multiply_one(const struct few *few, int64_t rows)
{
    multiply_scheme(few, rows, 1);
}

static void multiply_two(const struct few *few, int64_t rows)
{
    multiply_scheme(few, rows, 2);
}

static void multiply_three(const struct few *few, int64_t rows)
{
    multiply_scheme(few, rows, 3);
}

/* The product of all rows of x, by groups of `rows` weight rows. */
static void multiply(const struct few *few, int64_t rows)
{
    if (few->x_rows == 1)
        multiply_one(few, rows);
    else if (few->x_rows == 2)
        multiply_two(few, rows);
    else
        multiply_three(few, rows);
}

#endif
