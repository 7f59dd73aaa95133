/* The plain value that travels between the model code and a device: a pointer, a shape, a type. */
#ifndef BB_TENSOR_H
#define BB_TENSOR_H

#include "tensor/dtype.h"

/* Row-major and contiguous; unused dimensions are 1. Owns nothing: whoever owns the memory says how long it lives. */
struct bb_tensor {
    void *data;
    int64_t shape[4];
    enum bb_dtype dtype;
};

static inline int64_t bb_tensor_count(struct bb_tensor tensor)
{
    return tensor.shape[0] * tensor.shape[1] * tensor.shape[2] * tensor.shape[3];
}

#endif
