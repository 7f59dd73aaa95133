/* Affine rows packed as near as the mode allows, for weights that differ little from quantized ones. */
#ifndef BB_AFFINE_H
#define BB_AFFINE_H

#include "quant/quant_mode.h"

/* Packs a row of cols values, group by group on the nearest of several grids (sum of squares): the one of row `row` of `original` (NULL: none; the
 * same scheme), MLX's own choice, and narrower ones, the best of them refined by least squares. At least as near as pack_row, and many times
 * slower. */
void bb_affine_pack_nearest(struct bb_scheme scheme, const float *in, int64_t cols, const struct bb_weight *original, int64_t row,
                            struct bb_packed_row out);

#endif
