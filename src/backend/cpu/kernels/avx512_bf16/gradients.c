/* Products of the backward pass with AVX-512's dot products of bf16 pairs: twice the products of f32 an instruction. */
#include "backend/cpu/kernels/avx512/vector.h"

#include "backend/cpu/kernels/gradients.h"

#include <string.h>

enum { ROWS = 6, VECTORS = 4 }; /* a tile of out: 24 registers */

static void round_row(uint16_t *out, const float *x, int64_t count)
{
    for (int64_t i = 0; i < count; i += LANES) {
        const int64_t part = count - i < LANES ? count - i : LANES;
        _mm256_mask_storeu_epi16(out + i, (__mmask16)((1u << part) - 1), (__m256i)_mm512_cvtneps_pbh(vec_load_part(x + i, part)));
    }
}

static void round_pair(uint16_t *out, const float *even, const float *odd, int64_t count)
{
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1,
                                           16, 0);
    for (int64_t i = 0; i < count; i += LANES) {
        const __m512i both = (__m512i)_mm512_cvtne2ps_pbh(vec_load(odd + i), vec_load(even + i));
        _mm512_storeu_si512(out + 2 * i, _mm512_permutexvar_epi16(order, both));
    }
}

BB_INLINE void product_tile(const struct bb_short_product_task *task, int64_t row, int64_t column, const int32_t rows, const int32_t vectors)
{
    vec sums[ROWS][VECTORS];
    float *out = task->out + row * task->out_stride + column;
    const uint16_t *a = task->a + row * task->a_stride, *b = task->b + 2 * column;
    BB_UNROLL
    for (int32_t i = 0; i < rows * vectors; i++)
        sums[i / vectors][i % vectors] = vec_load(out + i / vectors * task->out_stride + i % vectors * LANES);
    for (int64_t k = 0; k < task->inner; k += 2) {
        __m512bh values[VECTORS];
        BB_UNROLL
        for (int32_t v = 0; v < vectors; v++)
            values[v] = (__m512bh)_mm512_loadu_si512(b + 2 * v * LANES);
        BB_UNROLL
        for (int32_t i = 0; i < rows; i++) {
            int32_t pair;
            memcpy(&pair, a + i * task->a_stride + k, sizeof pair);
            const __m512bh factor = (__m512bh)_mm512_set1_epi32(pair);
            BB_UNROLL
            for (int32_t v = 0; v < vectors; v++)
                sums[i][v] = _mm512_dpbf16_ps(sums[i][v], factor, values[v]);
        }
        b += task->b_stride;
    }
    BB_UNROLL
    for (int32_t i = 0; i < rows * vectors; i++)
        vec_store(out + i / vectors * task->out_stride + i % vectors * LANES, sums[i / vectors][i % vectors]);
}

BB_INLINE void product_columns(const struct bb_short_product_task *task, int64_t column, const int32_t vectors)
{
    int64_t row = 0;
    for (; row + ROWS <= task->rows; row += ROWS)
        product_tile(task, row, column, ROWS, vectors);
    switch (task->rows - row) {
    case 5: product_tile(task, row, column, 5, vectors); break;
    case 4: product_tile(task, row, column, 4, vectors); break;
    case 3: product_tile(task, row, column, 3, vectors); break;
    case 2: product_tile(task, row, column, 2, vectors); break;
    case 1: product_tile(task, row, column, 1, vectors); break;
    default: break;
    }
}

static void multiply_add_short(const struct bb_short_product_task *task)
{
    int64_t column = 0;
    for (; column + VECTORS * LANES <= task->cols; column += VECTORS * LANES)
        product_columns(task, column, VECTORS);
    for (; column < task->cols; column += LANES)
        product_columns(task, column, 1);
}

void bb_kernels_fill_avx512_bf16_gradients(struct bb_gradient_kernels *kernels)
{
    kernels->round_row = round_row;
    kernels->round_pair = round_pair;
    kernels->multiply_add_short = multiply_add_short;
}
