/* Weights as they lie in their file: quantized triplets or plain floats, and the projections made of them. */
#include "tensor/weight.h"

struct bb_weight bb_weight_rows(const struct bb_weight *weight, int64_t first, int64_t count)
{
    struct bb_weight view = *weight;
    view.data = (const char *)weight->data + (size_t)first * bb_weight_row_bytes(weight);
    if (weight->scales != NULL)
        view.scales = (const char *)weight->scales + (size_t)first * bb_weight_scale_row_bytes(weight);
    if (weight->biases != NULL)
        view.biases = (const char *)weight->biases + (size_t)first * bb_weight_scale_row_bytes(weight);
    view.rows = count;
    return view;
}

size_t bb_weight_bytes(const struct bb_weight *weight)
{
    size_t scale_parts = (weight->scales != NULL) + (size_t)(weight->biases != NULL);
    return (size_t)weight->rows * (bb_weight_row_bytes(weight) + scale_parts * bb_weight_scale_row_bytes(weight));
}
