/* Kernels of the backward pass with NEON. */
#include "backend/cpu/kernels/neon/vector.h"

#include "backend/cpu/kernels/vector/gradients.h"

void bb_kernels_fill_neon_gradients(struct bb_gradient_kernels *kernels)
{
    fill_gradients(kernels);
}
