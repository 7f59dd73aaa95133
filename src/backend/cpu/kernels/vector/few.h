/* Rounded products of one to three rows of x: the ending that AVX2 and AVX-512 share. Each includes it behind its own
 *
 *     struct few            a task, with its x_rows and is_even
 *     multiply_form(...)    the product by groups of `rows` weight rows, all else constants: columns a unit, bits of a code, whether codes stand for
 *                           values, whether the weight is even, rows of x */
#ifndef BB_VECTOR_FEW_H
#define BB_VECTOR_FEW_H

#include "backend/cpu/kernels/kernel.h"

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
        if (x_rows == 1 && rows == BB_SHORT_ROWS)
            multiply_form(few, BB_SHORT_ROWS, 64, 4, false, true, x_rows);
        else if (few->is_even)
            multiply_form(few, BB_SET_ROWS, 64, 4, false, true, x_rows);
        else
            multiply_form(few, rows, 64, 4, false, false, x_rows);
        break;
    case 16 + 5: multiply_form(few, rows, 64, 5, false, false, x_rows); break;
    case 16 + 6: multiply_form(few, rows, 64, 6, false, false, x_rows); break;
    case 16 + 8: multiply_form(few, rows, 64, 8, false, false, x_rows); break;
    default: /* 4 bits, units of 32 or 16 */
        if (few->is_even)
            multiply_form(few, BB_SET_ROWS, 32, 4, false, true, x_rows);
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
