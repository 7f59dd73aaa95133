/* Attention kernels for AVX-512: the shared source on this level's vectors. */
#include "backend/cpu/kernels/avx512/vector.h"

#include "backend/cpu/kernels/vector/attention.h"

void bb_kernels_fill_avx512_attention(struct bb_attention_kernels *kernels)
{
    fill_attention(kernels);
}
