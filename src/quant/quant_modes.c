/* The list of quantization modes. */
#include "quant/quant_modes.h"

#include "base/compiler.h"

#include <string.h>

static const struct bb_quant_mode *const modes[] = { &bb_quant_affine, &bb_quant_mxfp4, &bb_quant_mxfp8, &bb_quant_nvfp4 };

const struct bb_quant_mode *bb_quant_mode_of(enum bb_quant mode)
{
    for (size_t i = 0; i < BB_COUNT(modes); i++) {
        if (modes[i]->mode == mode)
            return modes[i];
    }
    return NULL;
}

const struct bb_quant_mode *bb_quant_mode_find(const char *name)
{
    for (size_t i = 0; i < BB_COUNT(modes); i++) {
        if (strcmp(modes[i]->name, name) == 0)
            return modes[i];
    }
    return NULL;
}

const char *bb_quant_mode_name(size_t index)
{
    return index < BB_COUNT(modes) ? modes[index]->name : NULL;
}

void bb_quant_unpack_row(const struct bb_weight *weight, int64_t row, float *out)
{
    const struct bb_quant_mode *mode = bb_quant_mode_of(weight->scheme.mode);
    if (mode != NULL)
        mode->unpack_row(weight, row, out);
    else
        bb_dtype_load_row(out, weight->data, weight->dtype, (size_t)(row * weight->cols), (size_t)weight->cols);
}
