/* Adam, AdamW, SGD and Muon over the arrays of a trainable, as mlx.optimizers defines them.
 *
 * Adam      m = b1 m + (1 - b1) g,  v = b2 v + (1 - b2) g^2,  w -= rate m / (sqrt(v) + eps)      Kingma and Ba 2015, without bias correction
 *           (mlx's default and ours; with it, m / (1 - b1^t) and v / (1 - b2^t) stand in their places)
 * AdamW     w *= 1 - rate decay first                                                            Loshchilov and Hutter 2019
 * SGD       v = momentum v + (1 - dampening) g,  w -= rate v (nesterov: g + momentum v)
 * Muon      v as a running mean, made orthogonal by Newton and Schulz's iteration where it is a matrix   Jordan et al. 2024
 *
 * Sums and updates are cut into chunks whose bounds depend on nothing but the count: the same bits for every number of threads. */
#ifndef BB_OPTIMIZER_H
#define BB_OPTIMIZER_H

#include "base/threads.h"
#include "model/trainable.h"

struct bb_optimizer {
    bombus_optimizer kind;
    bombus_optimizer_options options;
    size_t count;       /* of values */
    float *first;       /* [count]: m, or v of SGD and Muon; NULL: SGD without momentum */
    float *second;      /* [count]: v of Adam; NULL: not used */
    int64_t updates;    /* made so far */
    float *scratch;     /* of Muon: room for the largest parameter and three squares of its short side */
    struct bb_pool *pool; /* borrowed; NULL: the calling thread alone */
};

/* The defaults of a kind. */
bombus_optimizer_options bb_optimizer_defaults(bombus_optimizer kind);
/* Names the field that is out of its range. */
BB_RESULT bombus_status bb_optimizer_check(bombus_optimizer kind, const bombus_optimizer_options *options,
                                           bombus_error *error);

/* State of zeros for a trainable's values. The pool is borrowed. */
BB_RESULT bombus_status bb_optimizer_init(struct bb_optimizer *optimizer, bombus_optimizer kind,
                                          const bombus_optimizer_options *options,
                                          const struct bb_parameter *parameters, size_t parameter_count,
                                          struct bb_pool *pool, bombus_error *error);
void bb_optimizer_clear(struct bb_optimizer *optimizer); /* a zeroed one too */

/* values -= what the gradients, times `gradient_scale`, ask for. Parameters lie one after the other in values and gradients. */
void bb_optimizer_step(struct bb_optimizer *optimizer, const struct bb_parameter *parameters, size_t parameter_count,
                       double learning_rate, double gradient_scale);

/* Sum of squares in f64; NaN or infinite where an entry is. */
double bb_sum_squares(struct bb_pool *pool, const float *values, size_t count);

/* Bytes of state and scratch memory. */
size_t bb_optimizer_bytes(bombus_optimizer kind, const bombus_optimizer_options *options,
                          const struct bb_parameter *parameters, size_t parameter_count);

#endif
