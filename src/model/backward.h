/* Loss and gradients of a batch: the forward pass, keeping each block's input; then block by block from the last, the block again under a tape
 * and the tape walked back (activation recomputation, Chen et al. 2016). Cross entropy goes over the vocabulary in chunks: all logits are never
 * there at once. */
#ifndef BB_BACKWARD_H
#define BB_BACKWARD_H

#include "model/trainable.h"

struct bb_backward;

struct bb_backward_options {
    bool is_exact;            /* forward products in f32 (BOMBUS_PRECISION_EXACT); gradients are f32 or better in any case */
    bool is_kept;             /* keep the blocks' activations instead of computing them again: more memory, less time */
    int32_t row_limit;        /* rows a step */
    int32_t sequence_limit;   /* spans a step */
    float neftune_alpha;      /* > 0: noise on the embedding, uniform in +-alpha / sqrt(row_count of the span * hidden_size) (Jain et al. 2023) */
};

/* Trainable and backend are borrowed. A backend without gradients is BOMBUS_ERROR_UNSUPPORTED. */
BB_RESULT bombus_status bb_backward_create(struct bb_backward **backward, struct bb_trainable *trainable, struct bb_backend *backend,
                                           const struct bb_backward_options *options, bombus_error *error);
void bb_backward_free(struct bb_backward *backward); /* NULL is allowed */

/* What a step computes besides its batch (whose output_rows are not looked at; spans name sequences 0 .. sequence_limit - 1, positions from 0 on). */
struct bb_backward_call {
    const struct bb_batch *batch;
    const int32_t *targets;  /* [row_count]: the id that follows row i; -1: none */
    const float *weights;    /* [row_count]: d loss / d nll of the row; NULL: no gradients are wanted */
    uint64_t seed;           /* of dropout and noise; the same seed gives the same bits */
    bool is_training;        /* dropout and noise are on */
    float *nll;              /* [row_count], out: -ln p(target), 0 where there is none */
};

/* Adds d (sum of weights[i] * nll[i]) to the trainable's gradients. The adapters of the spans are as the caller set them (trainable->set, or NULL for
 * the model alone). Bit-identical for every thread count. */
BB_RESULT bombus_status bb_backward_step(struct bb_backward *backward, const struct bb_backward_call *call, bombus_error *error);

/* Bytes that a step needs beside the weights, as reserved. */
size_t bb_backward_bytes(const struct bb_backward *backward);

#endif
