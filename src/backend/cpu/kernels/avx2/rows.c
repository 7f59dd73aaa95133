/* Kernels on rows for AVX2: the shared source on this level's vectors. */
#include "backend/cpu/kernels/avx2/vector.h"

#include "backend/cpu/kernels/vector/rows.h"

void bb_kernels_fill_avx2_rows(struct bb_row_kernels *kernels)
{
    fill_rows(kernels);
}
