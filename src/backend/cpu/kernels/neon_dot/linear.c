/* Rounded products of many rows of x with dotprod: sdot adds 4 products in each of 4 lanes, 4 columns of 4 weight rows times those of one
 * row of x. 8 x 8 sums are 16 registers; each 4 columns take 4 loads and 16 sdot. Bound: one sdot for 16 multiply-adds. */
#include "backend/cpu/kernels/neon/unpack.h"

enum {
    DEPTH = 4,
    TILE = 8 /* rows of x */
};

#define MULTIPLY_ONE bb_neon_dot_multiply_one

/* rows[r][i]: columns 16 i .. 16 i + 15 of row r. */
BB_INLINE void place_codes(int8_t *to, int8x16_t rows[4][4])
{
    for (int32_t i = 0; i < 4; i++) {
        int32x4_t quads[4] = { vreinterpretq_s32_s8(rows[0][i]), vreinterpretq_s32_s8(rows[1][i]), vreinterpretq_s32_s8(rows[2][i]),
            vreinterpretq_s32_s8(rows[3][i]) };
        bb_transpose(quads);
        for (int32_t j = 0; j < 4; j++)
            vst1q_s8(to + (4 * i + j) * 8 * DEPTH, vreinterpretq_s8_s32(quads[j]));
    }
}

/* 4 columns of `count` (at most 4) rows of x; nothing behind them is read. */
BB_INLINE int8x16_t load_x(const int8_t *x, const int32_t count)
{
    if (count >= 4)
        return vld1q_s8(x);
    int32x4_t rows = vdupq_n_s32(0);
    int32_t four;
    memcpy(&four, x, sizeof four);
    rows = vsetq_lane_s32(four, rows, 0);
    if (count > 1) {
        memcpy(&four, x + 4, sizeof four);
        rows = vsetq_lane_s32(four, rows, 1);
    }
    if (count > 2) {
        memcpy(&four, x + 8, sizeof four);
        rows = vsetq_lane_s32(four, rows, 2);
    }
    return vreinterpretq_s8_s32(rows);
}

/* 4 columns of 8 weight rows times `count` (at most 4) rows of x. */
BB_INLINE void add_four(int32x4_t dots[][2], int8x16_t low, int8x16_t high, int8x16_t x, const int32_t count)
{
    dots[0][0] = vdotq_laneq_s32(dots[0][0], low, x, 0);
    dots[0][1] = vdotq_laneq_s32(dots[0][1], high, x, 0);
    if (count > 1) {
        dots[1][0] = vdotq_laneq_s32(dots[1][0], low, x, 1);
        dots[1][1] = vdotq_laneq_s32(dots[1][1], high, x, 1);
    }
    if (count > 2) {
        dots[2][0] = vdotq_laneq_s32(dots[2][0], low, x, 2);
        dots[2][1] = vdotq_laneq_s32(dots[2][1], high, x, 2);
    }
    if (count > 3) {
        dots[3][0] = vdotq_laneq_s32(dots[3][0], low, x, 3);
        dots[3][1] = vdotq_laneq_s32(dots[3][1], high, x, 3);
    }
}

BB_INLINE void unit_dots(const int8_t *codes, const int8_t *x, int32_t unit, int32_t bits, int32x4_t dots[TILE][2], const int32_t width)
{
    (void)bits;
    BB_UNROLL
    for (int32_t t = 0; t < width; t++)
        dots[t][0] = dots[t][1] = vdupq_n_s32(0);
    for (int32_t k = 0; k < unit; k += DEPTH, codes += 8 * DEPTH, x += width * DEPTH) {
        const int8x16_t low = vld1q_s8(codes), high = vld1q_s8(codes + 16);
        add_four(dots, low, high, load_x(x, width), width);
        if (width > 4)
            add_four(dots + 4, low, high, load_x(x + 16, width - 4), width - 4);
    }
}

#include "backend/cpu/kernels/neon/panel.h"

void bb_kernels_fill_neon_dot_linear(struct bb_kernels *kernels)
{
    fill_linear(kernels);
}
