/* Rounded products with NEON's int8 matrix instructions: smmla multiplies 2 weight rows x 8 columns by 2 rows of x x 8 columns. */
#include "base/compiler.h"

#include <arm_neon.h>
#include <string.h>

enum { TILE = 8, PANEL_PAIRS = 1 };

static inline int32x4_t dot_16(int32x4_t sums, int8x16_t codes, int8x16_t x)
{
    return vdotq_s32(sums, codes, x);
}

/* 8 columns of rows t and t + 1 of x, from two steps of [width][4 bytes]; the last row of an odd width stands twice. */
BB_INLINE int8x16_t load_pair(const int8_t *x, int32_t t, const int32_t width)
{
    const int32_t other = t + 1 < width ? t + 1 : t;
    int32_t words[4];
    memcpy(&words[0], x + 4 * t, 4);
    memcpy(&words[1], x + 4 * (width + t), 4);
    memcpy(&words[2], x + 4 * other, 4);
    memcpy(&words[3], x + 4 * (width + other), 4);
    return vreinterpretq_s8_s32(vld1q_s32(words));
}

/* products[p][q]: rows 2p, 2p + 1 of the panel by rows 2q, 2q + 1 of x. */
BB_INLINE void add_unit(const int8_t *codes, const int8_t *x, int32_t steps, int32x4_t sums[TILE][2], const int32_t width)
{
    const int32_t pairs = (width + 1) / 2;
    int32x4_t products[4][TILE / 2];
    BB_UNROLL
    for (int32_t i = 0; i < 4 * pairs; i++)
        products[i % 4][i / 4] = vdupq_n_s32(0);
    for (int32_t k = 0; k < steps; k += 2, codes += 64, x += 8 * width) {
        int8x16_t in[TILE / 2];
        if (width == 8) {
            const int32x4_t a = vreinterpretq_s32_s8(vld1q_s8(x)), b = vreinterpretq_s32_s8(vld1q_s8(x + 16));
            const int32x4_t c = vreinterpretq_s32_s8(vld1q_s8(x + 32)), d = vreinterpretq_s32_s8(vld1q_s8(x + 48));
            in[0] = vreinterpretq_s8_s32(vzip1q_s32(a, c));
            in[1] = vreinterpretq_s8_s32(vzip2q_s32(a, c));
            in[2] = vreinterpretq_s8_s32(vzip1q_s32(b, d));
            in[3] = vreinterpretq_s8_s32(vzip2q_s32(b, d));
        } else {
            BB_UNROLL
            for (int32_t q = 0; q < pairs; q++)
                in[q] = load_pair(x, 2 * q, width);
        }
        BB_UNROLL
        for (int32_t p = 0; p < 4; p++) {
            const int8x16_t rows = vld1q_s8(codes + 16 * p);
            BB_UNROLL
            for (int32_t q = 0; q < pairs; q++)
                products[p][q] = vmmlaq_s32(products[p][q], rows, in[q]);
        }
    }
    BB_UNROLL
    for (int32_t q = 0; q < pairs; q++) {
        BB_UNROLL
        for (int32_t half = 0; half < 2; half++) {
            sums[2 * q][half] = vuzp1q_s32(products[2 * half][q], products[2 * half + 1][q]);
            if (2 * q + 1 < width)
                sums[2 * q + 1][half] = vuzp2q_s32(products[2 * half][q], products[2 * half + 1][q]);
        }
    }
}

#include "backend/cpu/kernels/neon/product.h"

void bb_kernels_fill_neon_i8mm_linear(struct bb_kernels *kernels)
{
    fill(kernels);
}
