/* The list of quantization modes. */
#ifndef BB_QUANT_MODES_H
#define BB_QUANT_MODES_H

#include "quant/quant_mode.h"

/* By number; NULL for BB_QUANT_NONE. */
const struct bb_quant_mode *bb_quant_mode_of(enum bb_quant mode);
/* By config.json's name; NULL if unknown. */
const struct bb_quant_mode *bb_quant_mode_find(const char *name);
/* Name of mode number `index` in the list, NULL behind the last. */
const char *bb_quant_mode_name(size_t index);

/* Row `row` of any weight, plain ones too, as cols values of f32. */
void bb_quant_unpack_row(const struct bb_weight *weight, int64_t row, float *out);

#endif
