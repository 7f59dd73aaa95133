/* X / |X|, then so many times X = a X + (b S + c S S) X with S = X X^T, on the side that makes S small. */
#include "train/orthogonalize.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

static const float A = 3.4445f, B = -4.7750f, C = 2.0315f;

enum { WIDTH = 512 }; /* columns of a chunk in the last product: rows of X that stay in the first cache */

struct iteration {
    float *x, *square, *polynomial, *result;
    size_t side, length; /* of X: side is the shorter one */
};

size_t bb_orthogonalize_scratch(struct bb_matrix_shape shape)
{
    size_t side = shape.rows < shape.columns ? shape.rows : shape.columns;
    return 2 * side * side + shape.rows * shape.columns;
}

/* Row `chunk` of S = X X^T; only what is left of the diagonal, and mirrored. */
static void multiply_square(void *context, int32_t chunk, int32_t worker)
{
    (void)worker;
    const struct iteration *iteration = context;
    size_t i = (size_t)chunk, side = iteration->side;
    const float *x = iteration->x + i * iteration->length;
    for (size_t j = 0; j <= i; j++) {
        const float *y = iteration->x + j * iteration->length;
        float lanes[16] = {0};
        size_t k = 0;
        for (; k + 16 <= iteration->length; k += 16) {
            for (size_t lane = 0; lane < 16; lane++)
                lanes[lane] += x[k + lane] * y[k + lane];
        }
        double sum = 0.0;
        for (size_t lane = 0; lane < 16; lane++)
            sum += (double)lanes[lane];
        for (; k < iteration->length; k++)
            sum += (double)(x[k] * y[k]);
        iteration->square[i * side + j] = iteration->square[j * side + i] = (float)sum;
    }
}

/* Row `chunk` of b S + c S S. */
static void multiply_polynomial(void *context, int32_t chunk, int32_t worker)
{
    (void)worker;
    const struct iteration *iteration = context;
    size_t i = (size_t)chunk, side = iteration->side;
    float *out = iteration->polynomial + i * side;
    const float *row = iteration->square + i * side;
    for (size_t j = 0; j < side; j++)
        out[j] = B * row[j];
    for (size_t k = 0; k < side; k++) {
        const float factor = C * row[k], *other = iteration->square + k * side;
        for (size_t j = 0; j < side; j++)
            out[j] += factor * other[j];
    }
}

/* Columns of chunk `chunk` of a X + P X. */
static void multiply_result(void *context, int32_t chunk, int32_t worker)
{
    (void)worker;
    const struct iteration *iteration = context;
    size_t begin = (size_t)chunk * WIDTH, length = iteration->length;
    size_t width = length - begin < WIDTH ? length - begin : WIDTH;
    for (size_t i = 0; i < iteration->side; i++) {
        float *out = iteration->result + i * length + begin;
        const float *same = iteration->x + i * length + begin;
        for (size_t k = 0; k < width; k++)
            out[k] = A * same[k];
        for (size_t j = 0; j < iteration->side; j++) {
            const float factor = iteration->polynomial[i * iteration->side + j];
            const float *other = iteration->x + j * length + begin;
            for (size_t k = 0; k < width; k++)
                out[k] += factor * other[k];
        }
    }
}

static void transpose(float *out, const float *in, size_t rows, size_t columns)
{
    for (size_t i = 0; i < rows; i++) {
        for (size_t j = 0; j < columns; j++)
            out[j * rows + i] = in[i * columns + j];
    }
}

void bb_orthogonalize(float *matrix, struct bb_matrix_shape shape, int32_t step_count, float *scratch,
                      struct bb_pool *pool)
{
    bool is_tall = shape.rows > shape.columns;
    size_t count = shape.rows * shape.columns;
    struct iteration iteration = {.side = is_tall ? shape.columns : shape.rows,
                                  .length = is_tall ? shape.rows : shape.columns};
    iteration.square = scratch;
    iteration.polynomial = scratch + iteration.side * iteration.side;
    float *spare = iteration.polynomial + iteration.side * iteration.side;
    if (is_tall) {
        transpose(spare, matrix, shape.rows, shape.columns);
        memcpy(matrix, spare, count * sizeof *matrix);
    }
    double sum = 0.0;
    for (size_t i = 0; i < count; i++)
        sum += (double)matrix[i] * (double)matrix[i];
    float factor = (float)(1.0 / (sqrt(sum) + 1e-7));
    for (size_t i = 0; i < count; i++)
        matrix[i] *= factor;
    iteration.x = matrix;
    iteration.result = spare;
    for (int32_t step = 0; step < step_count; step++) {
        bb_pool_run(pool, (int32_t)(iteration.side), multiply_square, &iteration);
        bb_pool_run(pool, (int32_t)(iteration.side), multiply_polynomial, &iteration);
        bb_pool_run(pool, (int32_t)((iteration.length + WIDTH - 1) / WIDTH), multiply_result, &iteration);
        float *next = iteration.result;
        iteration.result = iteration.x;
        iteration.x = next;
    }
    if (is_tall) {
        transpose(iteration.result, iteration.x, shape.columns, shape.rows);
        iteration.x = iteration.result;
    }
    if (iteration.x != matrix)
        memcpy(matrix, iteration.x, count * sizeof *matrix);
}
