/* Attention kernels for NEON: the shared source on this level's vectors. */
#include "backend/cpu/kernels/neon/vector.h"

#include "backend/cpu/kernels/vector/attention.h"

void bb_kernels_fill_neon_attention(struct bb_attention_kernels *kernels)
{
    fill_attention(kernels);
}
