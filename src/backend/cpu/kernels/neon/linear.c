/* Rounded products of many rows of x with plain NEON: smull and smlal give products of 16 columns in 8 lanes of 16 bits, where as many are
 * added as surely fit; sadalp takes them to 32 bits. Bound, 4 bits: 9 instructions for 64 multiply-adds. */
#include "backend/cpu/kernels/neon/unpack.h"

#include "backend/cpu/kernels/neon/dot.h"

enum {
    DEPTH = 16,
    TILE = 8 /* rows of x */
};

#define MULTIPLY_ONE bb_neon_multiply_one

/* rows[r][i]: columns 16 i .. 16 i + 15 of row r. */
BB_INLINE void place_codes(int8_t *to, int8x16_t rows[4][4])
{
    for (int32_t i = 0; i < 4; i++) {
        for (int32_t r = 0; r < 4; r++)
            vst1q_s8(to + (i * 8 + r) * DEPTH, rows[r][i]);
    }
}

/* A unit of 8 weight rows and x_rows (1 or 2) rows of x. */
BB_INLINE void few_dots(const int8_t *codes, const int8_t *x, int32_t unit, int32x4_t dots[][2], int32_t width, const int32_t x_rows,
                        const int32_t held)
{
    for (int32_t i = 0; i < 2; i++, codes += 4 * DEPTH) {
        int32x4_t sums[2][4];
        BB_UNROLL
        for (int32_t j = 0; j < 4; j++)
            sums[0][j] = sums[1][j] = vdupq_n_s32(0);
        for (int32_t k = 0; k < unit / DEPTH; k += held) {
            BB_UNROLL
            for (int32_t j = 0; j < 4; j++) {
                int8x16_t row[4], in[4];
                BB_UNROLL
                for (int32_t h = 0; h < held; h++)
                    row[h] = vld1q_s8(codes + ((k + h) * 8 + j) * DEPTH);
                BB_UNROLL
                for (int32_t t = 0; t < x_rows; t++) {
                    BB_UNROLL
                    for (int32_t h = 0; h < held; h++)
                        in[h] = vld1q_s8(x + ((k + h) * width + t) * DEPTH);
                    sums[t][j] = bb_add_dot(sums[t][j], row, in, held);
                }
            }
        }
        BB_UNROLL
        for (int32_t t = 0; t < x_rows; t++)
            dots[t][i] = bb_fold_four(sums[t][0], sums[t][1], sums[t][2], sums[t][3]);
    }
}

BB_INLINE void held_dots(const int8_t *codes, const int8_t *x, int32_t unit, int32x4_t dots[TILE][2], int32_t width, const int32_t held)
{
    int32_t t = 0;
    for (; t + 2 <= width; t += 2)
        few_dots(codes, x + t * DEPTH, unit, dots + t, width, 2, held);
    if (t < width)
        few_dots(codes, x + t * DEPTH, unit, dots + t, width, 1, held);
}

static void unit_dots(const int8_t *codes, const int8_t *x, int32_t unit, int32_t bits, int32x4_t dots[TILE][2], int32_t width)
{
    const int32_t held = bb_held_registers(bits), registers = unit / DEPTH;
    switch (held < registers ? held : registers) {
    case 4: held_dots(codes, x, unit, dots, width, 4); break;
    case 2: held_dots(codes, x, unit, dots, width, 2); break;
    default: held_dots(codes, x, unit, dots, width, 1); break;
    }
}

#include "backend/cpu/kernels/neon/panel.h"

void bb_kernels_fill_neon_linear(struct bb_kernels *kernels)
{
    fill_linear(kernels);
    kernels->multiply_floats = bb_neon_multiply_floats;
}
