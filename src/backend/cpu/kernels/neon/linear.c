/* Rounded products with base NEON: products of bytes in 16 bits, added by pairs. */
#include "base/compiler.h"

#include <arm_neon.h>
#include <string.h>

enum { TILE = 8, PANEL_PAIRS = 0 };

static inline int32x4_t dot_16(int32x4_t sums, int8x16_t codes, int8x16_t x)
{
    const int16x8_t low = vmull_s8(vget_low_s8(codes), vget_low_s8(x)), high = vmull_high_s8(codes, x);
    return vpadalq_s16(sums, vpaddq_s16(low, high)); /* two products of at most 128 * 127 fit 16 bits */
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
            sums[t][0] = dot_16(sums[t][0], rows0, spread);
            sums[t][1] = dot_16(sums[t][1], rows1, spread);
        }
    }
}

#include "backend/cpu/kernels/neon/product.h"

void bb_kernels_fill_neon_linear(struct bb_kernels *kernels)
{
    fill(kernels);
}
