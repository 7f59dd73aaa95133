/* Kernels on rows for AVX-512: the shared source on this level's vectors. */
#include "backend/cpu/kernels/avx512/vector.h"

#include "backend/cpu/kernels/vector/rows.h"

void bb_kernels_fill_avx512_rows(struct bb_row_kernels *kernels)
{
    fill_rows(kernels);
}
