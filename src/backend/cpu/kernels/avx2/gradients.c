/* Kernels of the backward pass with AVX2. */
#include "backend/cpu/kernels/avx2/vector.h"

#include "backend/cpu/kernels/vector/gradients.h"

void bb_kernels_fill_avx2_gradients(struct bb_gradient_kernels *kernels)
{
    fill_gradients(kernels);
}
