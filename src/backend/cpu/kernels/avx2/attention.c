/* Attention kernels for AVX2: the shared source on this level's vectors. */
#include "backend/cpu/kernels/avx2/vector.h"

#include "backend/cpu/kernels/vector/attention.h"

void bb_kernels_fill_avx2_attention(struct bb_attention_kernels *kernels)
{
    fill_attention(kernels);
}
