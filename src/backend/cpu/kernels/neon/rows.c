/* Kernels on rows for NEON: the shared source on this level's vectors. */
#include "backend/cpu/kernels/neon/vector.h"

#include "backend/cpu/kernels/vector/rows.h"

void bb_kernels_fill_neon_rows(struct bb_row_kernels *kernels)
{
    fill_rows(kernels);
}
