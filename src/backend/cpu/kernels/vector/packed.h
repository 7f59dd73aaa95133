/* The kernels on packed low-rank pairs (tensor/low_rank.h), written once for all vectors; see vector/rows.h. Bound by
 * reading: a panel is one stream. Halves widen to f32 in registers, once for up to two or four rows of x. */
#ifndef BB_VECTOR_PACKED_H
#define BB_VECTOR_PACKED_H

#include "backend/cpu/kernels/rows.h"

#include <math.h>

enum { PACKED_TOTALS = 8, PACKED_VECTORS = 4 };

/* Numbers of two ranks, from column `column` of a tile on; `place` is that of the first rank's column 0. */
BB_INLINE void load_packed(vec numbers[2], const struct bb_packed *matrix, int64_t place, int32_t column, bool is_exact)
{
    place += 2 * column;
    if (is_exact)
        vec_load_joined_pair(matrix->high + place, matrix->low + place, &numbers[0], &numbers[1]);
    else
        vec_load_high_pair(matrix->high + place, &numbers[0], &numbers[1]);
}

/* A tile's columns of x, of which `count` are there, into the totals of `rows` rows and `ranks` ranks: one total each,
 * which takes the vectors in their order. */
BB_INLINE void sum_tile(vec *totals, const struct bb_packed *panel, int64_t place, const float *x, int64_t x_stride,
                        int64_t count, int32_t rows, int32_t ranks, bool is_exact)
{
    BB_UNROLL
    for (int32_t column = 0; column < BB_PACKED_COLUMNS; column += LANES) {
        vec entries[2];
        if (count <= column)
            break;
        BB_UNROLL
        for (int32_t t = 0; t < rows; t++)
            entries[t] = count - column >= LANES ? vec_load(x + t * x_stride + column)
                                                 : vec_load_part(x + t * x_stride + column, count - column);
        BB_UNROLL
        for (int32_t r = 0; r < ranks; r += 2) {
            vec numbers[2];
            load_packed(numbers, panel, place + r * BB_PACKED_COLUMNS, column, is_exact);
            BB_UNROLL
            for (int32_t t = 0; t < rows; t++) {
                vec *total = &totals[t * ranks + r];
                total[0] = vec_fma(numbers[0], entries[t], total[0]);
                if (r + 1 < ranks)
                    total[1] = vec_fma(numbers[1], entries[t], total[1]);
            }
        }
    }
}

/* `ranks` ranks from `first` on, which is even, for `rows` rows from `row` on. */
BB_INLINE void sum_panel(const struct bb_packed_sums *call, int64_t row, int32_t first, int32_t rows, int32_t ranks,
                         bool is_exact)
{
    const float *x = call->x + row * call->cols;
    const int64_t step = bb_packed_width(call->rank, 0) * BB_PACKED_COLUMNS;
    int64_t place = first * BB_PACKED_COLUMNS, i = 0;
    vec totals[PACKED_TOTALS];
    BB_UNROLL
    for (int32_t k = 0; k < rows * ranks; k++)
        totals[k] = vec_set(0.0f);
    for (; i + BB_PACKED_COLUMNS <= call->cols; i += BB_PACKED_COLUMNS, place += step)
        sum_tile(totals, &call->panel, place, x + i, call->cols, BB_PACKED_COLUMNS, rows, ranks, is_exact);
    if (i < call->cols)
        sum_tile(totals, &call->panel, place, x + i, call->cols, call->cols - i, rows, ranks, is_exact);
    BB_UNROLL
    for (int32_t t = 0; t < rows; t++)
        BB_UNROLL
    for (int32_t r = 0; r < ranks; r++)
        call->sums[(row + t) * call->sums_stride + first + r] = vec_sum(totals[t * ranks + r]);
}

BB_INLINE void sum_rows_of(const struct bb_packed_sums *call, int64_t row, int32_t rows, bool is_exact)
{
    int32_t first = 0;
    if (rows == 1 && call->rank == PACKED_TOTALS) {
        sum_panel(call, row, 0, 1, PACKED_TOTALS, is_exact);
        return;
    }
    for (; first + 4 <= call->rank; first += 4)
        sum_panel(call, row, first, rows, 4, is_exact);
    for (; first + 2 <= call->rank; first += 2)
        sum_panel(call, row, first, rows, 2, is_exact);
    if (first < call->rank)
        sum_panel(call, row, first, rows, 1, is_exact);
}

BB_INLINE void packed_sums_with(const struct bb_packed_sums *call, bool is_exact)
{
    int64_t row = 0;
    for (; row + 2 <= call->row_count; row += 2)
        sum_rows_of(call, row, 2, is_exact);
    if (row < call->row_count)
        sum_rows_of(call, row, 1, is_exact);
}

static void packed_sums(const struct bb_packed_sums *call)
{
    if (call->panel.low != NULL)
        packed_sums_with(call, true);
    else
        packed_sums_with(call, false);
}

/* Sums over all ranks for `vectors` vectors of `rows` rows, from `column` on: a multiple of 16, or of the lanes where
 * there is one vector. */
BB_INLINE void total_columns(vec *totals, const struct bb_packed_add *call, int64_t row, int64_t column, int32_t rows,
                             int32_t vectors, bool is_exact)
{
    BB_UNROLL
    for (int32_t k = 0; k < rows * vectors; k++)
        totals[k] = vec_set(0.0f);
    for (int32_t first = 0; first < call->rank; first += BB_PACKED_RANKS) {
        const int32_t ranks = bb_packed_ranks(call->rank, first);
        const float *sums = call->sums + row * call->rank + first;
        const int32_t width = bb_packed_width(call->rank, first);
        int64_t place = first * call->matrix.columns + column / BB_PACKED_COLUMNS * BB_PACKED_COLUMNS * width;
        for (int32_t r = 0; r < ranks; r += 2, place += 2 * BB_PACKED_COLUMNS) {
            const bool has_other = r + 1 < ranks;
            BB_UNROLL
            for (int32_t v = 0; v < vectors; v++) {
                const int32_t in_tile = (int32_t)(column % BB_PACKED_COLUMNS) + v * LANES;
                vec numbers[2];
                load_packed(numbers, &call->matrix, place + in_tile / BB_PACKED_COLUMNS * BB_PACKED_COLUMNS * width,
                            in_tile % BB_PACKED_COLUMNS, is_exact);
                BB_UNROLL
                for (int32_t t = 0; t < rows; t++) {
                    vec *total = &totals[t * vectors + v];
                    *total = vec_fma(vec_set(sums[t * call->rank + r]), numbers[0], *total);
                    if (has_other)
                        *total = vec_fma(vec_set(sums[t * call->rank + r + 1]), numbers[1], *total);
                }
            }
        }
    }
}

BB_INLINE void add_columns(const struct bb_packed_add *call, int64_t row, int64_t column, int32_t rows, int32_t vectors,
                           bool is_exact)
{
    vec totals[PACKED_VECTORS];
    total_columns(totals, call, row, column, rows, vectors, is_exact);
    BB_UNROLL
    for (int32_t k = 0; k < rows * vectors; k++) {
        const int64_t i = column - call->first + k % vectors * LANES;
        float *place = call->out + (row + k / vectors) * call->out_stride + i;
        const vec gain = call->gains != NULL ? vec_load(call->gains + i) : vec_set(1.0f);
        vec_store(place, vec_fma(gain, totals[k], vec_load(place)));
    }
}

/* Columns [begin, end) of one tile. */
BB_INLINE void add_part_of_tile(const struct bb_packed_add *call, int64_t begin, int64_t end, bool is_exact)
{
    const int64_t tile = begin / BB_PACKED_COLUMNS * BB_PACKED_COLUMNS;
    for (int64_t row = 0; row < call->row_count; row++) {
        float *out = call->out + row * call->out_stride - call->first;
        float totals[BB_PACKED_COLUMNS];
        for (int32_t column = 0; column < BB_PACKED_COLUMNS; column += LANES) {
            vec total;
            total_columns(&total, call, row, tile + column, 1, 1, is_exact);
            vec_store(totals + column, total);
        }
        for (int64_t i = begin; i < end; i++)
            out[i] = fmaf(call->gains != NULL ? call->gains[i - call->first] : 1.0f, totals[i - tile], out[i]);
    }
}

BB_INLINE void packed_add_with(const struct bb_packed_add *call, bool is_exact)
{
    const int64_t end = call->first + call->count, first_tile = bb_packed_columns(call->first);
    int64_t i = call->first;
    if (i < first_tile) {
        i = end < first_tile ? end : first_tile;
        add_part_of_tile(call, call->first, i, is_exact);
    }
    for (; i + PACKED_VECTORS * LANES <= end && call->row_count == 1; i += PACKED_VECTORS * LANES)
        add_columns(call, 0, i, 1, PACKED_VECTORS, is_exact);
    for (; i + BB_PACKED_COLUMNS <= end; i += BB_PACKED_COLUMNS)
        for (int64_t column = i; column < i + BB_PACKED_COLUMNS; column += LANES) {
            int64_t row = 0;
            for (; row + PACKED_VECTORS <= call->row_count; row += PACKED_VECTORS)
                add_columns(call, row, column, PACKED_VECTORS, 1, is_exact);
            for (; row < call->row_count; row++)
                add_columns(call, row, column, 1, 1, is_exact);
        }
    if (i < end)
        add_part_of_tile(call, i, end, is_exact);
}

static void packed_add(const struct bb_packed_add *call)
{
    if (call->matrix.low != NULL)
        packed_add_with(call, true);
    else
        packed_add_with(call, false);
}

#endif
