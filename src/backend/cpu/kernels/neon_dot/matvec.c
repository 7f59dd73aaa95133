/* Rounded product of one row of x with dotprod. */
#include "backend/cpu/kernels/neon/unpack.h"

/* Lane sums of the products of `count` registers. */
BB_INLINE int32x4_t dot_registers(const int8x16_t *codes, const int8_t *x, const int32_t count, const int32_t bits)
{
    (void)bits;
    int32x4_t sums = vdupq_n_s32(0);
    BB_UNROLL
    for (int32_t i = 0; i < count; i++)
        sums = vdotq_s32(sums, codes[i], vld1q_s8(x + 16 * i));
    return sums;
}

#include "backend/cpu/kernels/neon/one.h"

void bb_neon_dot_multiply_one(const struct bb_linear_task *task)
{
    multiply_one(task);
}
