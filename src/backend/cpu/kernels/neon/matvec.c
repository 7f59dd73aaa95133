/* Rounded product of one row of x with plain NEON. */
#include "backend/cpu/kernels/neon/dot.h"
#include "backend/cpu/kernels/neon/unpack.h"

/* Lane sums of the products of `count` registers. */
BB_INLINE int32x4_t dot_registers(const int8x16_t *codes, const int8_t *x, const int32_t count, const int32_t bits)
{
    const int32_t most = bb_held_registers(bits), held = most < count ? most : count;
    int8x16_t in[4];
    BB_UNROLL
    for (int32_t i = 0; i < count; i++)
        in[i] = vld1q_s8(x + 16 * i);
    int32x4_t sums = vdupq_n_s32(0);
    BB_UNROLL
    for (int32_t i = 0; i < count; i += held)
        sums = bb_add_dot(sums, codes + i, in + i, held);
    return sums;
}

#include "backend/cpu/kernels/neon/one.h"

size_t bb_neon_one_scratch(int64_t cols)
{
    const size_t padded = padded_cols_of(cols), units = padded / 16;
    return padded + units * sizeof(float) + ROWS * units * sizeof(int32_t);
}

void bb_neon_multiply_one(const struct bb_linear_task *task)
{
    multiply_one(task);
}
