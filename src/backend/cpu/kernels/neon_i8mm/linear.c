/* Rounded products of many rows of x with i8mm: smmla multiplies 8 columns of 2 rows of x by those of 2 weight rows. 8 x 8 sums are 16
 * registers; each 8 columns take 8 loads and 16 smmla. Bound: one smmla for 32 multiply-adds. One row of x gains nothing here: neon_dot's. */
#include "backend/cpu/kernels/neon/unpack.h"

enum {
    DEPTH = 8,
    TILE = 8 /* rows of x */
};

#define MULTIPLY_ONE bb_neon_dot_multiply_one

/* rows[r][i]: columns 16 i .. 16 i + 15 of row r. */
BB_INLINE void place_codes(int8_t *to, int8x16_t rows[4][4])
{
    for (int32_t i = 0; i < 4; i++) {
        for (int32_t r = 0; r < 4; r++) {
            vst1_s8(to + (2 * i * 8 + r) * DEPTH, vget_low_s8(rows[r][i]));
            vst1_s8(to + ((2 * i + 1) * 8 + r) * DEPTH, vget_high_s8(rows[r][i]));
        }
    }
}

BB_INLINE int32x4_t join_low(int32x4_t a, int32x4_t b)
{
    return vreinterpretq_s32_s64(vzip1q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}

BB_INLINE int32x4_t join_high(int32x4_t a, int32x4_t b)
{
    return vreinterpretq_s32_s64(vzip2q_s64(vreinterpretq_s64_s32(a), vreinterpretq_s64_s32(b)));
}

BB_INLINE void unit_dots(const int8_t *codes, const int8_t *x, int32_t unit, int32_t bits, int32x4_t dots[TILE][2], const int32_t width)
{
    (void)bits;
    int32x4_t sums[TILE / 2][4]; /* pairs of rows of x, pairs of weight rows: {x0 w0, x0 w1, x1 w0, x1 w1} */
    BB_UNROLL
    for (int32_t t = 0; t < width; t += 2)
        sums[t / 2][0] = sums[t / 2][1] = sums[t / 2][2] = sums[t / 2][3] = vdupq_n_s32(0);
    for (int32_t k = 0; k < unit; k += DEPTH, codes += 8 * DEPTH, x += width * DEPTH) {
        int8x16_t pairs[4];
        BB_UNROLL
        for (int32_t i = 0; i < 4; i++)
            pairs[i] = vld1q_s8(codes + 16 * i);
        BB_UNROLL
        for (int32_t t = 0; t < width; t += 2) {
            const int8x16_t two = t + 1 < width ? vld1q_s8(x + t * DEPTH) : vcombine_s8(vld1_s8(x + t * DEPTH), vdup_n_s8(0));
            BB_UNROLL
            for (int32_t i = 0; i < 4; i++)
                sums[t / 2][i] = vmmlaq_s32(sums[t / 2][i], two, pairs[i]);
        }
    }
    BB_UNROLL
    for (int32_t t = 0; t < width; t += 2) {
        BB_UNROLL
        for (int32_t i = 0; i < 2; i++) {
            dots[t][i] = join_low(sums[t / 2][2 * i], sums[t / 2][2 * i + 1]);
            if (t + 1 < width)
                dots[t + 1][i] = join_high(sums[t / 2][2 * i], sums[t / 2][2 * i + 1]);
        }
    }
}

#include "backend/cpu/kernels/neon/panel.h"

void bb_kernels_fill_neon_i8mm_linear(struct bb_kernels *kernels)
{
    fill_linear(kernels);
}
