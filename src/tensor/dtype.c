/* Element types of tensors, and the conversions between the short floats and f32. */
#include "tensor/dtype.h"

size_t bb_dtype_bits(enum bb_dtype dtype)
{
    switch (dtype) {
    case BB_F64: case BB_I64: case BB_U64: case BB_C64: return 64;
    case BB_F32: case BB_I32: case BB_U32: return 32;
    case BB_F16: case BB_BF16: case BB_I16: case BB_U16: return 16;
    case BB_F8_E4M3: case BB_F8_E5M2: case BB_F8_E8M0: case BB_F8_E4M3FNUZ: case BB_F8_E5M2FNUZ: case BB_I8: case BB_U8: case BB_BOOL: return 8;
    case BB_F6_E2M3: case BB_F6_E3M2: return 6;
    case BB_F4: return 4;
    case BB_DTYPE_NONE: case BB_DTYPE_COUNT: break;
    }
    return 0;
}

const char *bb_dtype_name(enum bb_dtype dtype)
{
    static const char *const names[] = {
        [BB_DTYPE_NONE] = "none", [BB_F64] = "F64", [BB_F32] = "F32", [BB_F16] = "F16", [BB_BF16] = "BF16",
        [BB_F8_E4M3] = "F8_E4M3", [BB_F8_E5M2] = "F8_E5M2", [BB_F8_E8M0] = "F8_E8M0",
        [BB_F8_E4M3FNUZ] = "F8_E4M3FNUZ", [BB_F8_E5M2FNUZ] = "F8_E5M2FNUZ", [BB_I64] = "I64", [BB_I32] = "I32",
        [BB_I16] = "I16", [BB_I8] = "I8", [BB_U64] = "U64", [BB_U32] = "U32", [BB_U16] = "U16", [BB_U8] = "U8",
        [BB_BOOL] = "BOOL", [BB_C64] = "C64", [BB_F4] = "F4", [BB_F6_E2M3] = "F6_E2M3", [BB_F6_E3M2] = "F6_E3M2",
    };
    return names[dtype];
}

uint16_t bb_f32_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u)
        return (uint16_t)((bits >> 16) | 0x40u);
    return (uint16_t)((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

float bb_f16_to_f32(uint16_t value)
{
    uint32_t sign = (uint32_t)(value & 0x8000u) << 16, exponent = (value >> 10) & 31u, mantissa = value & 1023u, bits;
    float result;
    if (exponent == 31) {
        bits = sign | 0x7F800000u | (mantissa << 13);
    } else if (exponent != 0) {
        bits = sign | ((exponent + 112u) << 23) | (mantissa << 13);
    } else { /* zero or subnormal: mantissa * 2^-24 is exact in f32 */
        result = (float)mantissa * 0x1p-24f;
        memcpy(&bits, &result, sizeof bits);
        bits |= sign;
    }
    memcpy(&result, &bits, sizeof result);
    return result;
}

uint16_t bb_f32_to_f16(float value)
{
    uint32_t bits, sign;
    memcpy(&bits, &value, sizeof bits);
    sign = (bits >> 16) & 0x8000u;
    bits &= 0x7FFFFFFFu;
    if (bits > 0x7F800000u)
        return (uint16_t)(sign | 0x7E00u | ((bits >> 13) & 0x3FFu));
    if (bits >= 0x477FF000u) /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7C00u);
    if (bits < 0x38800000u) { /* below 2^-14: the sum with 0.5 rounds to a multiple of 2^-24, half to even */
        float magnitude;
        memcpy(&magnitude, &bits, sizeof magnitude);
        magnitude += 0.5f;
        memcpy(&bits, &magnitude, sizeof bits);
        return (uint16_t)(sign | (bits - 0x3F000000u));
    }
    bits += 0xFFFu + ((bits >> 13) & 1u);
    return (uint16_t)(sign | ((bits - 0x38000000u) >> 13));
}

float bb_dtype_load(const void *data, enum bb_dtype dtype, size_t index)
{
    const size_t size = bb_dtype_bits(dtype) / 8;
    const char *place = (const char *)data + index * size; /* of a file: not aligned in general */
    uint16_t half = 0;
    float single = 0.0f;
    double wide = 0.0;
    if (dtype == BB_BF16 || dtype == BB_F16)
        memcpy(&half, place, sizeof half);
    else if (dtype == BB_F32)
        memcpy(&single, place, sizeof single);
    else if (dtype == BB_F64)
        memcpy(&wide, place, sizeof wide);
    return dtype == BB_BF16 ? bb_bf16_to_f32(half) : dtype == BB_F16 ? bb_f16_to_f32(half) : dtype == BB_F64 ? (float)wide : single;
}

void bb_dtype_store(void *data, enum bb_dtype dtype, size_t index, float value)
{
    if (dtype == BB_F32)
        ((float *)data)[index] = value;
    else
        ((uint16_t *)data)[index] = dtype == BB_BF16 ? bb_f32_to_bf16(value) : bb_f32_to_f16(value);
}

void bb_dtype_load_row(float *out, const void *data, enum bb_dtype dtype, size_t first, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = bb_dtype_load(data, dtype, first + i);
}
