/* Element types of tensors, and the conversions between the short floats and f32. */
#ifndef BB_DTYPE_H
#define BB_DTYPE_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum bb_dtype {
    BB_DTYPE_NONE = 0, /* absent */
    BB_F64,
    BB_F32,
    BB_F16,
    BB_BF16,
    BB_F8_E4M3,
    BB_F8_E5M2,
    BB_F8_E8M0,
    BB_F8_E4M3FNUZ,
    BB_F8_E5M2FNUZ,
    BB_I64,
    BB_I32,
    BB_I16,
    BB_I8,
    BB_U64,
    BB_U32,
    BB_U16,
    BB_U8,
    BB_BOOL,
    BB_C64,
    BB_F4,      /* two elements a byte, as are F6's four elements in three bytes: sizes come from bb_dtype_bits */
    BB_F6_E2M3,
    BB_F6_E3M2,
    BB_DTYPE_COUNT
};

size_t bb_dtype_bits(enum bb_dtype dtype);       /* bits an element */
const char *bb_dtype_name(enum bb_dtype dtype);  /* safetensors' names: "BF16" */

static inline float bb_bf16_to_f32(uint16_t value)
{
    uint32_t bits = (uint32_t)value << 16;
    float result;
    memcpy(&result, &bits, sizeof result);
    return result;
}

/* A scale: 2^(code - 127); 255 is no number. */
static inline float bb_e8m0_to_f32(uint8_t code)
{
    uint32_t bits = (uint32_t)code << 23;
    float result;
    if (BB_UNLIKELY(code == 0 || code == 255))
        bits = code == 0 ? 0x00400000u : 0x7FC00000u;
    memcpy(&result, &bits, sizeof result);
    return result;
}

uint16_t bb_f32_to_bf16(float value); /* to nearest, ties to even; NaN stays NaN */
float bb_f16_to_f32(uint16_t value);
uint16_t bb_f32_to_f16(float value);

/* Element `index` of a run of F32, F16, BF16 or F64 elements as f32. */
float bb_dtype_load(const void *data, enum bb_dtype dtype, size_t index);
/* Stores a value as element `index` of a run of F32, F16 or BF16 elements. */
void bb_dtype_store(void *data, enum bb_dtype dtype, size_t index, float value);
/* The floats that weights, scales and adapters may have: F32, F16 and BF16. */
static inline bool bb_dtype_is_weight_float(enum bb_dtype dtype)
{
    return dtype == BB_F32 || dtype == BB_F16 || dtype == BB_BF16;
}
/* count elements from `first` on, as f32. */
void bb_dtype_load_row(float *out, const void *data, enum bb_dtype dtype, size_t first, size_t count);

#endif
