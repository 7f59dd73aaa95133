/* Packing of low-rank pairs, and what a pair adds to one row of a matrix. */
#include "tensor/low_rank.h"

#include <math.h>

struct bb_packed bb_pack(uint16_t *memory, const float *matrix, int64_t stride, int32_t rank, int64_t count)
{
    const size_t size = bb_packed_size(rank, count);
    uint16_t *high = memory;
    int16_t *low = (int16_t *)(memory + size); /* a signed type may look at it */
    const struct bb_packed packed = {.high = high, .low = low, .columns = bb_packed_columns(count)};
    memset(memory, 0, 2 * size * sizeof *memory);
    for (int32_t r = 0; r < rank; r++)
        for (int64_t i = 0; i < count; i++) {
            const int64_t place = bb_packed_place(&packed, rank, r, i);
            uint32_t bits = 0x7FC00000u;
            if (!isnan(matrix[r * stride + i]))
                memcpy(&bits, &matrix[r * stride + i], sizeof bits);
            high[place] = (uint16_t)((bits + 0x8000u) >> 16); /* half a step goes away from 0 */
            low[place] = (int16_t)(uint16_t)bits;
        }
    return packed;
}

static void add_packed_row(float *out, const struct bb_low_rank *pair, int64_t cols, int64_t row)
{
    for (int32_t r = 0; r < pair->rank; r++) {
        const int64_t step = bb_packed_width(pair->rank, r - r % BB_PACKED_RANKS) * BB_PACKED_COLUMNS;
        int64_t place = bb_packed_place(&pair->packed_a, pair->rank, r, 0);
        const float factor =
            pair->scale * bb_packed_load(&pair->packed_b, bb_packed_place(&pair->packed_b, pair->rank, r, row));
        for (int64_t first = 0; first < cols; first += BB_PACKED_COLUMNS, place += step) {
            const int64_t count = cols - first < BB_PACKED_COLUMNS ? cols - first : BB_PACKED_COLUMNS;
            for (int64_t i = 0; i < count; i++)
                out[first + i] += factor * bb_packed_load(&pair->packed_a, place + 2 * i);
        }
    }
}

void bb_low_rank_add_row(float *out, const struct bb_low_rank *pair, int64_t cols, int64_t row)
{
    if (bb_low_rank_is_packed(pair)) {
        add_packed_row(out, pair, cols, row);
        return;
    }
    for (int32_t r = 0; r < pair->rank; r++) {
        const float *a = pair->a + r * cols, factor = pair->scale * pair->b[r * pair->b_stride + row];
        for (int64_t i = 0; i < cols; i++)
            out[i] += factor * a[i];
    }
}
