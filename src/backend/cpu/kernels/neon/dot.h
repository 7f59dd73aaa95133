/* Sums of products of signed bytes with plain NEON. */
#ifndef BB_NEON_DOT_H
#define BB_NEON_DOT_H

#include "base/compiler.h"

#include <arm_neon.h>

/* Registers of 16 codes whose products surely fit in 8 sums of 16 bits: 2 * largest code * 127 each (largest: 128, 63, 31). */
BB_INLINE int32_t bb_held_registers(int32_t bits)
{
    return bits == 8 ? 1 : bits == 6 ? 2 : 4;
}

/* Adds the products of `held` registers to 4 sums of 32 bits. */
BB_INLINE int32x4_t bb_add_dot(int32x4_t sums, const int8x16_t *codes, const int8x16_t *x, const int32_t held)
{
    int16x8_t small = vmull_s8(vget_low_s8(codes[0]), vget_low_s8(x[0]));
    small = vmlal_high_s8(small, codes[0], x[0]);
    BB_UNROLL
    for (int32_t i = 1; i < held; i++) {
        small = vmlal_s8(small, vget_low_s8(codes[i]), vget_low_s8(x[i]));
        small = vmlal_high_s8(small, codes[i], x[i]);
    }
    return vpadalq_s16(sums, small);
}

#endif
