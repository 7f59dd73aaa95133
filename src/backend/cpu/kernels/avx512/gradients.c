/* Kernels of the backward pass with AVX-512. */
#include "backend/cpu/kernels/avx512/vector.h"

#include "backend/cpu/kernels/vector/gradients.h"

void bb_kernels_fill_avx512_gradients(struct bb_gradient_kernels *kernels)
{
    fill_gradients(kernels);
}
