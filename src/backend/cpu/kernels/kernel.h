/* The shape of a set of CPU kernels: each instruction set fills the slots that it does better than the level below.
 *
 * Linear products come in two kinds. *Rounded* (precision fast): activations are int8 with a step a unit of columns, and the result is
 * defined to the last bit, the same on every level, for every number of tokens and threads:
 *     d = sum over the unit of code(w) * code(x)         whole numbers, exact
 *     q = fma(scale, d, bias * s)                        s = the unit's sum of code(x)
 *     total = fma(q, step, total)                        units in ascending order, from 0
 * so kernels are free to order the whole-number part as they like, and must keep to this order in the rest.
 *
 * *Exact* products of the same weights (precision exact) are three rounded ones: x is the sum of three rows of codes, the second rounding what
 * the first leaves, the third what the second leaves. Each takes 8 bits more; what is left in the end is below 2^-24 of the unit's largest |x|, as
 * f32 itself rounds. The result is total(first) + (total(second) + total(third)), again the same on every level. For other weights (plain floats,
 * mxfp8) exact products take f32 activations, in an order of the level's own that is the same whatever the number of tokens. */
#ifndef BB_KERNEL_H
#define BB_KERNEL_H

#include "backend/cpu/kernels/ahead.h"
#include "backend/cpu/kernels/attention.h"
#include "backend/cpu/kernels/gradients.h"
#include "backend/cpu/kernels/rows.h"
#include "base/compiler.h"
#include "tensor/weight.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    BB_UNIT_LIMIT = 64, /* columns a step of rounded activations: the weight's group, at most this */
    BB_EXACT_PARTS = 3  /* rows of codes that are one row of x, in exact products */
};

/* Rows of activations rounded to int8. Codes lie in tiles of `tile` rows (the last tile is narrower): in a tile of width w, columns
 * 4k .. 4k+3 of its row t are the four bytes at (k * w + t) * 4; tile i begins at i * tile * cols. Only a level's own kernels read the codes:
 * it may take 8 or 16 columns for 4. */
struct bb_rounded {
    int64_t rows, cols;
    int32_t parts; /* rows that are one row of x: 1, or BB_EXACT_PARTS in turn */
    int32_t unit;  /* columns a step, a multiple of 16 */
    int32_t tile;
    int8_t *codes; /* in [-127, 127] */
    float *steps;  /* [rows, cols / unit] */
    float *sums;   /* [rows, cols / unit]: sum of the unit's codes, a whole number */
};

/* Some rows of one product: out[t * out_stride + r] = residual[same place] + scale * (weight row r . x row t + bias[r]); without residual
 * weight row r . x row t + bias[r]. residual may be out. */
struct bb_linear_task {
    const struct bb_weight *weight; /* a view of the rows to do */
    const void *bias;               /* [weight->rows] of bias_dtype; NULL: none */
    enum bb_dtype bias_dtype;
    float scale;
    const float *x;                 /* [rows, weight->cols], for exact products */
    const struct bb_rounded *rounded; /* the same rows, for rounded products */
    int64_t first_row, row_count;   /* rows of x to do; first_row is a multiple of rounded->tile */
    float *out;                     /* of row 0 of x */
    const float *residual;          /* of row 0 of x; NULL: none */
    int64_t out_stride;
    int64_t read_ahead;             /* the kernels' own, below */
    const struct bb_ahead *ahead; /* [ahead_count] */
    int32_t ahead_count;
    void *scratch;                  /* the worker's own, linear_scratch bytes, 64-byte aligned */
};

struct bb_kernels {
    const char *level; /* "avx512" */

    /* ---- linear products ---- */
    int32_t rounded_tile; /* rows a tile of rounded activations; */
    int32_t rounded_few;  /* of so few rows each is a tile of its own */
    int32_t linear_rows;  /* weight rows that a task is best a multiple of */
    int64_t read_ahead;   /* bytes of weights that products of few rows ask for early; 0: the processor reads ahead better by itself */
    /* Bytes of scratch for a task of so many columns and rows of x. */
    size_t (*linear_scratch)(int64_t cols, int64_t row_count);
    /* Rounds rows [first, first + count) of x [rounded->rows / rounded->parts, rounded->cols].
     * m = max |x| of the unit: step = m / 127, code = x * (127 / m) to nearest, ties to even; all 0 if m < 1e-30; if m is infinite or no
     * number, the codes are 0 and the step is NaN, so that the product is. The next part rounds fma(-code, step, x). */
    void (*round_rows)(const struct bb_rounded *rounded, const float *x, int64_t first, int64_t count);
    /* Weights for which bb_linear_is_rounded; "rows of x" are rows of codes. */
    void (*multiply_rounded)(const struct bb_linear_task *task);
    /* The other weights. */
    void (*multiply_floats)(const struct bb_linear_task *task);

    struct bb_row_kernels rows;
    struct bb_attention_kernels attention;
    struct bb_gradient_kernels gradients;
};

/* Rows a tile of so many rows. */
static inline int32_t bb_rounded_tile(const struct bb_kernels *kernels, int64_t rows)
{
    return rows <= kernels->rounded_few ? 1 : kernels->rounded_tile;
}

/* Whether products of this weight take int8 activations: one row of them when speed is wanted, else BB_EXACT_PARTS. The others (plain floats, mxfp8)
 * always run in f32. */
static inline bool bb_linear_is_rounded(const struct bb_weight *weight)
{
    return weight->scheme.mode == BB_QUANT_AFFINE || weight->scheme.mode == BB_QUANT_MXFP4 || weight->scheme.mode == BB_QUANT_NVFP4;
}

/* Columns a step of activations for a weight. */
static inline int32_t bb_linear_unit(const struct bb_weight *weight)
{
    return weight->scheme.group_size < BB_UNIT_LIMIT ? weight->scheme.group_size : BB_UNIT_LIMIT;
}

/* Rows of the tile that holds row `row`; rows are rounded->rows. */
static inline int64_t bb_rounded_tile_rows(const struct bb_rounded *rounded, int64_t row)
{
    const int64_t rest = rounded->rows - row / rounded->tile * rounded->tile;
    return rest < rounded->tile ? rest : rounded->tile;
}

/* The first four codes of row `row`; the next four lie 4 * bb_rounded_tile_rows further. */
static inline int8_t *bb_rounded_row(const struct bb_rounded *rounded, int64_t row)
{
    const int64_t in_tile = row % rounded->tile;
    return rounded->codes + (row - in_tile) * rounded->cols + in_tile * 4;
}

/* One unit of at most BB_UNIT_LIMIT columns, as round_rows says; its codes lie in runs of 4 (or of what the level takes for 4), width runs apart.
 * rest, unless NULL: what the codes leave of x; may be x. */
typedef void bb_round_unit(const float *x, int32_t unit, int8_t *codes, int64_t width, float *step, float *sum, float *rest);

/* The slot round_rows, from a level's function for a unit and the number of columns that it takes for 4. */
BB_INLINE void bb_round_rows(const struct bb_rounded *rounded, const float *x, int64_t first, int64_t count, const int32_t depth,
                             bb_round_unit *const round_unit)
{
    const int64_t units = rounded->cols / rounded->unit, parts = rounded->parts;
    for (int64_t row = first; row < first + count; row++) {
        int8_t *codes[BB_EXACT_PARTS];
        int64_t widths[BB_EXACT_PARTS];
        for (int64_t part = 0; part < parts; part++) {
            const int64_t place = row * parts + part, in_tile = place % rounded->tile;
            widths[part] = bb_rounded_tile_rows(rounded, place);
            codes[part] = rounded->codes + (place - in_tile) * rounded->cols + in_tile * depth;
        }
        for (int64_t i = 0; i < units; i++) {
            const float *from = x + row * rounded->cols + i * rounded->unit;
            float rest[BB_UNIT_LIMIT];
            for (int64_t part = 0; part < parts; part++, from = rest) {
                const int64_t place = (row * parts + part) * units + i;
                round_unit(from, rounded->unit, codes[part] + i * rounded->unit * widths[part], widths[part], rounded->steps + place,
                           rounded->sums + place, part + 1 < parts ? rest : NULL);
            }
        }
    }
}

/* Where a task's result of weight row `row` and x row `x_row` goes, after bias, scale and residual. */
static inline void bb_linear_store(const struct bb_linear_task *task, int64_t row, int64_t x_row, float value)
{
    const int64_t place = x_row * task->out_stride + row;
    if (task->bias != NULL)
        value += bb_dtype_load(task->bias, task->bias_dtype, (size_t)row);
    if (task->residual != NULL)
        value = task->residual[place] + task->scale * value;
    task->out[place] = value;
}

/* The end of exact products: the task's results from the totals [rounded->rows, weight->rows] of the parts. */
static inline void bb_linear_join(const struct bb_linear_task *task, const float *totals)
{
    const int64_t rows = task->weight->rows;
    for (int64_t t = task->first_row; t < task->first_row + task->row_count; t++) {
        const float *first = totals + t * BB_EXACT_PARTS * rows, *second = first + rows, *third = second + rows;
        for (int64_t r = 0; r < rows; r++)
            bb_linear_store(task, r, t, first[r] + (second[r] + third[r]));
    }
}

/* Asks the second cache for the bytes that come `ahead` behind [data, data + bytes), whatever lies there. Inlined always: gcc 12 takes a
 * function of prefetches alone for one without effect, and drops the calls. */
BB_INLINE void bb_read_ahead(const void *data, int64_t bytes, int64_t ahead)
{
    if (ahead == 0)
        return;
    for (int64_t i = 0; i < bytes; i += 64)
        __builtin_prefetch((const char *)data + ahead + i, 0, 2);
}

/* Asks the second cache for the scales and biases of `count` rows from `row` on, before products of few rows read them: nearer, and mixed among the
 * codes, their lines would upset the reading ahead of these. Inlined as bb_read_ahead is. */
BB_INLINE void bb_prefetch_groups(const struct bb_weight *weight, int64_t row, int64_t count)
{
    const size_t row_bytes = bb_weight_scale_row_bytes(weight), begin = (size_t)row * row_bytes, bytes = (size_t)count * row_bytes;
    for (size_t i = 0; i < bytes; i += BB_LINE_BYTES)
        __builtin_prefetch((const char *)weight->scales + begin + i, 0, 2);
    for (size_t i = 0; i < bytes && weight->biases != NULL; i += BB_LINE_BYTES)
        __builtin_prefetch((const char *)weight->biases + begin + i, 0, 2);
}

enum { BB_LINE_UNITS = BB_LINE_BYTES / 2 /* whose scales in bf16 are a line */ };

/* The same a line of each row at a time, of an even weight of `units` units a row: those of the units from `first` on. */
BB_INLINE void bb_prefetch_units(const struct bb_weight *weight, int64_t row, const int64_t count, int64_t first, int64_t units)
{
    BB_UNROLL
    for (int64_t i = 0; i < count; i++) {
        __builtin_prefetch((const uint16_t *)weight->scales + (row + i) * units + first, 0, 2);
        __builtin_prefetch((const uint16_t *)weight->biases + (row + i) * units + first, 0, 2);
    }
}

enum {
    BB_NEAR_BYTES = 20 << 10, /* of x, codes and sums that stay in the first cache (32 KB and more) while weights pass through it, */
    BB_NEAR_X_BYTES = 6 << 10 /* at most so many of them codes of x */
};

/* How far ahead products of few rows ask for their weights. What they use besides and the first cache does not keep interrupts the processor's
 * reading ahead (Zen 4), so that the codes had better be asked for. */
static inline int64_t bb_read_ahead_beside(const struct bb_linear_task *task, bool is_near)
{
    return task->read_ahead == 0 && !is_near ? 8 << 10 : task->read_ahead;
}

/* How products of few rows of x go over a weight, each level's constants given: `most` rows whose sums are kept until the last of them is read,
 * `wide` of them beside a row of x that the first cache does not keep (beside others `most` or 2, as it keeps them); `block_cols` columns that they
 * take in turn where several rows of x would not stay there, `ahead` bytes to ask for then. */
struct bb_few_plan {
    int64_t rows, block_units, read_ahead;
};

static inline struct bb_few_plan bb_few_plan(const struct bb_linear_task *task, int64_t padded_cols, int64_t most, int64_t wide, int64_t block_cols,
                                              int64_t ahead)
{
    const int64_t padded_units = padded_cols / task->rounded->unit, row_bytes = (int64_t)bb_weight_row_bytes(task->weight);
    const int64_t kept_bytes = row_bytes + padded_units * (int64_t)sizeof(int32_t);
    if (task->rounded->rows == 1) {
        const bool is_wide = padded_cols > BB_NEAR_X_BYTES;
        const int64_t rows = is_wide ? wide : padded_cols + most * kept_bytes <= BB_NEAR_BYTES ? most : 2;
        const bool is_near = !is_wide && padded_cols + rows * kept_bytes <= BB_NEAR_BYTES;
        return (struct bb_few_plan){ rows, padded_units, bb_read_ahead_beside(task, is_near) };
    }
    if (padded_cols <= block_cols) /* several rows compute more than they read: the processor sees no stream */
        return (struct bb_few_plan){ most, padded_units, ahead };
    return (struct bb_few_plan){ most, block_cols / task->rounded->unit, most * row_bytes };
}

/* Where products of few rows read a weight's codes, one behind another. */
struct bb_reader {
    const uint8_t *codes, *end; /* of the weight */
    int64_t ahead;              /* bytes to ask for early */
};

static inline struct bb_reader bb_reader_of(const struct bb_weight *weight, int64_t row, size_t row_bytes, int64_t ahead)
{
    const uint8_t *codes = weight->data;
    return (struct bb_reader){ codes + (size_t)row * row_bytes, codes + (size_t)weight->rows * row_bytes, ahead };
}

/* The next `bytes`, of a run of run_bytes or, unless is_whole, a part of one. Behind that come the next row's codes; behind the weight's last row nothing
 * may be read: its part is copied to `tail`. */
BB_INLINE const uint8_t *bb_next_codes(struct bb_reader *reader, int64_t bytes, const int64_t run_bytes, const bool is_whole, uint8_t *tail)
{
    const uint8_t *codes = reader->codes;
    bb_read_ahead(codes, bytes, reader->ahead);
    reader->codes += bytes;
    return !is_whole && reader->end - codes < run_bytes ? memcpy(tail, codes, (size_t)bytes) : codes;
}

/* `count` rows of a weight from `row` on, whose sums of code(w) * code(x) they keep. */
struct bb_row_group {
    int64_t row, count;
    int32_t *dots;
};

/* Whether a weight has bf16 scales and biases, a group of them a unit: nearly every model. */
static inline bool bb_linear_is_usual(const struct bb_linear_task *task)
{
    const struct bb_weight *weight = task->weight;
    return weight->scheme.mode == BB_QUANT_AFFINE && weight->dtype == BB_BF16 && weight->scheme.group_size == task->rounded->unit;
}

enum {
    BB_SET_ROWS = 4,      /* whose terms products of few rows transpose at once: a group of rows is a set, */
    BB_PART_ROWS = 2,     /* half of one, */
    BB_SHORT_ROWS = 8,    /* or, for one row of x, two, where a row is no longer than */
    BB_SHORT_BYTES = 1024 /* codes: less to do between groups */
};

/* Rows of a group of an *even* weight, which has a form of its own: usual, 4 bits in units of 64 or 32, whole groups of the planned rows. Else 0. */
static inline int64_t bb_even_rows(const struct bb_linear_task *task, const struct bb_few_plan *plan)
{
    const struct bb_weight *weight = task->weight;
    if (!bb_linear_is_usual(task) || weight->scheme.bits != 4 || weight->rows % plan->rows != 0)
        return 0;
    const bool is_short = task->rounded->rows == 1 && task->rounded->unit == 64 && bb_weight_row_bytes(weight) <= BB_SHORT_BYTES &&
                          weight->rows % BB_SHORT_ROWS == 0;
    return is_short ? BB_SHORT_ROWS : plan->rows;
}

/* A row of a weight that takes f32 activations. */
struct bb_float_row {
    const uint8_t *data, *scales; /* scales: mxfp8 only */
    int64_t cols;
};

static inline struct bb_float_row bb_float_row_of(const struct bb_weight *weight, int64_t row)
{
    struct bb_float_row found = { .data = (const uint8_t *)weight->data + (size_t)row * bb_weight_row_bytes(weight), .cols = weight->cols };
    if (weight->scales != NULL)
        found.scales = (const uint8_t *)weight->scales + (size_t)row * bb_weight_scale_row_bytes(weight);
    return found;
}

/* Each level sets the slots that it does better; called in the order of the list in kernels.c, as far as the machine goes. */
void bb_kernels_fill_reference_linear(struct bb_kernels *kernels);
void bb_kernels_fill_avx2_linear(struct bb_kernels *kernels);
void bb_kernels_fill_avx512_linear(struct bb_kernels *kernels);
void bb_kernels_fill_neon_linear(struct bb_kernels *kernels);
void bb_kernels_fill_neon_dot_linear(struct bb_kernels *kernels);
void bb_kernels_fill_neon_i8mm_linear(struct bb_kernels *kernels);

#endif
