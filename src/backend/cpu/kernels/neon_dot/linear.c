/* Rounded products with NEON's dot products: sdot adds 4 products in each of 4 lanes. */
#include "base/compiler.h"

#include <arm_neon.h>
#include <string.h>

enum { TILE = 8, PANEL_PAIRS = 0 };

static inline int32x4_t dot_16(int32x4_t sums, int8x16_t codes, int8x16_t x)
{
    return vdotq_s32(sums, codes, x);
}

BB_INLINE void add_unit(const int8_t *codes, const int8_t *x, int32_t steps, int32x4_t sums[TILE][2], const int32_t width)
{
    BB_UNROLL
    for (int32_t t = 0; t < width; t++)
        sums[t][0] = sums[t][1] = vdupq_n_s32(0);
    for (int32_t k = 0; k < steps; k++, codes += 32, x += 4 * width) {
        const int8x16_t rows0 = vld1q_s8(codes), rows1 = vld1q_s8(codes + 16);
        BB_UNROLL
        for (int32_t t = 0; t < width; t++) {
            int32_t four;
            memcpy(&four, x + 4 * t, sizeof four);
            const int8x16_t spread = vreinterpretq_s8_s32(vdupq_n_s32(four));
            sums[t][0] = vdotq_s32(sums[t][0], rows0, spread);
            sums[t][1] = vdotq_s32(sums[t][1], rows1, spread);
        }
    }
}

#include "backend/cpu/kernels/neon/product.h"

void bb_kernels_fill_neon_dot_linear(struct bb_kernels *kernels)
{
    fill(kernels);
}
