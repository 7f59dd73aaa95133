/* The tape: what the operations of a block computed from what, for the way back (reverse accumulation; Griewank and Walther 2008). While a run has one,
 * composites are expanded, nothing is overwritten or released, and each primitive appends a record. Records that no gradient is wanted of are left out. */
#ifndef BB_TAPE_H
#define BB_TAPE_H

#include "backend/backend.h"
#include "ops/run.h"

enum { BB_TAPE_RECORDS = 64, BB_TAPE_NODES = 96 /* of one block */ };

enum bb_record_kind {
    BB_RECORD_EMBED,
    BB_RECORD_LINEAR,
    BB_RECORD_DROPOUT,
    BB_RECORD_LOW_RANK, /* over the output of a linear */
    BB_RECORD_NORM,
    BB_RECORD_ROPE,
    BB_RECORD_ATTENTION,
    BB_RECORD_GLU,
    BB_RECORD_ADD,
    BB_RECORD_GATHER,
    BB_RECORD_EXPERTS
};

/* A tensor of the forward pass and, on the way back, its gradient. */
struct bb_node {
    struct bb_tensor value, gradient; /* gradient.data NULL: none has come */
    bool is_wanted;
};

struct bb_record {
    enum bb_record_kind kind;
    int32_t inputs[3], output; /* nodes; -1: none */
    bool is_exact;
    union {
        const struct bb_linear *linear;
        const struct bb_norm *norm;
        struct {
            const struct bb_rope *rope;
            int32_t heads;
        } rope;
        struct {
            const struct bb_attention_shape *shape;
            int32_t window;
        } attention;
        enum bb_activation activation;
        float scale; /* of add */
        struct {
            const int32_t *rows;
            int32_t count;
        } gather;
        struct {
            float scale;
            int32_t slot;
        } embed;
        struct {
            const struct bb_experts *experts;
            enum bb_routing routing;
            struct bb_tensor indices, weights;
        } experts;
    } of;
};

struct bb_tape {
    const struct bb_batch *batch;
    struct bb_trained trained;
    float dropout;               /* of the inputs of low-rank pairs, and of what an embedding's adds; 0: none */
    uint64_t seed;               /* of dropout */
    int32_t keys, values;        /* nodes that the latest write of the cache took */
    int32_t node_count, record_count;
    struct bb_node nodes[BB_TAPE_NODES];
    struct bb_record records[BB_TAPE_RECORDS];
};

/* Empties the tape, and makes the run record on it until bb_tape_end. */
void bb_tape_begin(struct bb_tape *tape, struct bb_run *run, const struct bb_batch *batch);
void bb_tape_end(struct bb_run *run);

/* The node of a tensor, a new one if it has none; -1, and a sticky error, if there are too many. `is_wanted` is of a new one: whether its gradient is. */
int32_t bb_tape_node(struct bb_run *run, struct bb_tensor tensor, bool is_wanted);

/* For operations: appends a record of out = kind(inputs), whose details the caller fills in; NULL if the run has no tape, measures or has failed, or if no
 * gradient is wanted: neither of an input (data NULL: none) nor, by has_parameters, of a parameter. */
struct bb_record *bb_tape_add(struct bb_run *run, enum bb_record_kind kind, struct bb_tensor first, struct bb_tensor second, struct bb_tensor third,
                              struct bb_tensor out, bool has_parameters);

#endif
