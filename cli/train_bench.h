/* Speed of training steps, for bombus bench --train. */
#ifndef CLI_TRAIN_BENCH_H
#define CLI_TRAIN_BENCH_H

#include "bombus.h"

/* Tokens per second of `count` steps, after one that is not counted: a sequence of `length` random tokens, pairs of rank 8 at all projections of the
 * last 16 blocks, Adam. Works in a temporary folder that is removed. */
bombus_status train_bench_run(double *speeds, size_t count, bombus_model *model, const bombus_tokenizer *tokenizer, int32_t length,
                              bombus_error *error);

#endif
