/* The table of operations: the one interface that a device must fill.
 *
 * Activations are f32, row-major, contiguous: [rows, width]. A slot reads its inputs and writes `out`, which the caller allocated on the
 * device; unless a comment says so, `out` does not alias an input. Accumulation is f32 or better. Slots return BOMBUS_OK or fail with
 * *error filled; one thread at a time uses a backend's run, several runs may share a backend (it locks where it must). */
#ifndef BB_BACKEND_H
#define BB_BACKEND_H

#include "base/error.h"
#include "tensor/batch.h"
#include "tensor/tensor.h"
#include "tensor/trained.h"
#include "tensor/weight.h"

struct bb_norm {
    const void *weight;      /* [size]; NULL: all ones */
    enum bb_dtype dtype;
    int32_t size;            /* normalized over runs of this many entries (hidden_size, or head_dim for a norm a head) */
    float eps;
    bool is_plus_one;        /* multiplies by 1 + weight (gemma) */
};

/* Rotary embedding of the first `dims` entries of each head: pair i turns by position * inverse_frequencies[i].
 * Pairs are (i, i + dims / 2), or (2i, 2i + 1) if traditional. Rotated entries are multiplied by `amplitude` (yarn, longrope). */
struct bb_rope {
    const float *inverse_frequencies; /* [dims / 2] */
    int32_t dims;
    float amplitude;
    bool is_traditional;
};

enum bb_activation {
    BB_SILU,
    BB_GELU_TANH,     /* gelu_pytorch_tanh, gelu_new, mlx's gelu_approx */
    BB_GELU_ERF,
    BB_SWIGLU_CLIPPED /* gpt_oss: gate' = min(gate, 7), up' = clip(up, -7, 7): gate' * sigmoid(1.702 gate') * (up' + 1) */
};

struct bb_attention_shape {
    int32_t heads, kv_heads, head_dim;
    float scale;              /* of q . k */
    float softcap;            /* > 0: scores become softcap * tanh(score / softcap) */
    const void *sinks;        /* [heads]: a score a head that takes part in the softmax without a value (gpt_oss); NULL: none */
    enum bb_dtype sinks_dtype;
};

enum bb_routing {
    BB_ROUTE_SOFTMAX_TOP,           /* softmax over all experts, then the k largest as they are */
    BB_ROUTE_SOFTMAX_TOP_NORMALIZE, /* the same, divided by their sum (norm_topk_prob) */
    BB_ROUTE_TOP_SOFTMAX            /* the k largest logits, softmax over those (mixtral, gpt_oss) */
};

/* The experts of a block: arrays of `count` projections each. */
struct bb_experts {
    int32_t count, per_token;
    const struct bb_linear *gate, *up, *down;
    enum bb_activation activation;
};

struct bb_linear_call {
    const struct bb_linear *linear;
    struct bb_tensor x, out; /* [rows, cols] -> [rows, weight.rows] */
    bool is_exact;           /* f32 activations; else the backend may round them (cpu: int8 a group) */
};

struct bb_linear_add_call {
    const struct bb_linear *linear;
    struct bb_tensor x, residual, out; /* out = residual + scale * (W x + bias); out may be residual */
    float scale;
    bool is_exact;
    struct bb_low_rank_terms low_rank; /* added to W x + bias; without gains, for which W x would have to be known alone */
};

/* out[rows] += what each term adds, as low_rank.h says; out holds W x + bias of `linear` before. */
struct bb_low_rank_call {
    const struct bb_linear *linear;
    const struct bb_low_rank_term *terms; /* [term_count] */
    int32_t term_count;
    struct bb_tensor x, out; /* [rows, cols], [rows, weight.rows] */
    bool is_exact;           /* f32; else the numbers of packed pairs may be rounded (cpu: to bf16) */
};

/* out[i] += scale * what the terms on row i add to row tokens[i] of W; out holds scale * that row before. */
struct bb_embed_low_rank_call {
    const struct bb_low_rank_term *terms; /* [term_count] */
    int32_t term_count;
    const int32_t *tokens; /* [rows] */
    float scale;
    struct bb_tensor out; /* [rows, hidden] */
    /* data NULL: none; else [rows, hidden], to which what the pairs add is added, while out takes the gains alone. */
    struct bb_tensor added;
};

struct bb_attention_input_call {
    const struct bb_norm *norm;            /* NULL: x as it is */
    const struct bb_linear *q, *k, *v;
    const struct bb_norm *q_norm, *k_norm; /* NULL: none; norm->size tells if over a head or over the whole projection */
    const struct bb_rope *rope;            /* NULL: none */
    const struct bb_batch *batch;
    const struct bb_kv_view *cache;        /* k (rotated) and v are written at the rows' positions */
    struct bb_tensor x, out;               /* out: q, rotated, [rows, heads * head_dim] */
    bool is_exact;
    struct bb_low_rank_terms q_low_rank, k_low_rank, v_low_rank;
};

struct bb_gated_input_call {
    const struct bb_norm *norm; /* NULL: x as it is */
    const struct bb_linear *gate, *up;
    enum bb_activation activation;
    struct bb_tensor x, out; /* out: [rows, intermediate_size] */
    bool is_exact;
    struct bb_low_rank_terms gate_low_rank, up_low_rank;
};

struct bb_experts_call {
    const struct bb_experts *experts;
    struct bb_tensor x;       /* [rows, hidden_size] */
    struct bb_tensor indices; /* I32 [rows, per_token] */
    struct bb_tensor weights; /* F32 [rows, per_token] */
    struct bb_tensor out;     /* [rows, hidden_size] = sum over the chosen of weight * expert(x) */
    bool is_exact;
    const struct bb_adapter_set *const *adapters; /* [rows], of the experts' slots; NULL: no row takes an adapter */
    int32_t use_limit;        /* uses of the largest of them */
    float dropout; /* of the inputs of their pairs, as the slot dropout has it for a row and a slot; 0: none */
    uint64_t seed;
};

/* ---- gradients ----
 *
 * d_NAME is the gradient of the loss by NAME, f32 of NAME's shape. Where a call says `adds`, its input gradient is added to what is there, else written;
 * gradients of parameters are always added. A pointer to a parameter's gradient that is NULL is not wanted. Sums run in an order that does not depend on
 * the number of threads. */

/* Of out = W x + bias: d_x [rows, cols] (+)= d_out W. */
struct bb_linear_grad_call {
    const struct bb_linear *linear;
    struct bb_tensor d_out, d_x;
    bool adds;
    bool is_exact; /* f32; else the backend may round weights and d_out (cpu: to bf16 where it has products of them) */
};

/* The same product's parameters: d_weight [weight.rows, cols] += d_out^T x, d_bias [weight.rows] += the column sums of d_out. */
struct bb_linear_weight_grad_call {
    struct bb_tensor x, d_out;
    float *d_weight, *d_bias;
};

/* Of out[rows] = bias + gain * (W x + scale * B (A x)) (without gains: 1), for the rows of one term. d_x (data NULL: not wanted) += what comes through A
 * and B; with gains the rows of d_out become those by W x, and `out` [rows, weight.rows] is the product's result. */
struct bb_low_rank_grad_call {
    const struct bb_linear *linear;
    struct bb_low_rank_term term;
    struct bb_tensor x, out, d_out, d_x;
    float *d_a, *d_b;     /* laid out as the pair's a and b */
    float *d_magnitudes;  /* through the pair's magnitudes; row lengths are held fixed */
};

/* Of out[i] = scale * (row tokens[i] of W, with the term's additions), for the rows of one term. */
struct bb_embed_grad_call {
    struct bb_low_rank_term term;
    const int32_t *tokens;
    float scale;
    struct bb_tensor out, d_out;
    struct bb_tensor d_added; /* by what the pair adds; data NULL: d_out */
    float *d_a, *d_b, *d_magnitudes;
};

struct bb_norm_grad_call {
    const struct bb_norm *norm;
    struct bb_tensor x, d_out, d_x; /* d_x.data NULL: not wanted */
    bool adds;
    float *d_weight;
};

/* Rows of spans from position 0 on, keys and values as rows beside the queries. All three gradients are written. */
struct bb_attention_grad_call {
    const struct bb_attention_shape *shape;
    int32_t window; /* as in bb_kv_view */
    const struct bb_batch *batch;
    struct bb_tensor q, k, v, out, d_out;
    struct bb_tensor d_q, d_k, d_v;
};

/* The choice of experts is held fixed. d_x (+)=; d_weights [rows, per_token] is written. */
struct bb_experts_grad_call {
    struct bb_experts_call forward; /* its out is not looked at */
    struct bb_tensor d_out, d_x, d_weights;
    bool adds;
    struct bb_trained trained;
};

/* nll[i] = -log softmax(y[i])[targets[i]] with y = softcap * tanh(scale * head(x) / softcap) (0: scale * head(x)), and, unless `weights` is NULL,
 * d_x[i] = weights[i] * d nll[i] / d x[i], written. Memory is bounded: logits exist for a chunk of the vocabulary at a time. */
struct bb_cross_entropy_call {
    const struct bb_linear *head;
    struct bb_low_rank_terms low_rank;
    struct bb_tensor x, d_x;  /* [rows, hidden] */
    struct bb_tensor pair_x, d_pair_x; /* the same of what the pairs take in place of x; data NULL: x */
    const int32_t *targets;   /* [rows], each in [0, head rows) */
    const float *weights;     /* [rows] */
    float scale, softcap;
    bool is_exact;
    float *nll;               /* [rows] */
    struct bb_trained trained; /* pairs of the head may be */
};

struct bb_backend;

struct bb_backend_table {
    const char *name; /* "cpu" */
    void (*close)(struct bb_backend *backend);
    /* "cpu (avx512, 2 threads)"; lives as long as the backend. */
    const char *(*describe)(const struct bb_backend *backend);

    /* Memory of the device, 64-byte aligned, not zeroed. */
    bombus_status (*allocate)(struct bb_backend *backend, size_t bytes, void **memory, bombus_error *error);
    void (*release)(struct bb_backend *backend, void *memory);
    bombus_status (*upload)(struct bb_backend *backend, void *device, const void *host, size_t bytes, bombus_error *error);
    bombus_status (*download)(struct bb_backend *backend, void *host, const void *device, size_t bytes, bombus_error *error);
    bombus_status (*copy)(struct bb_backend *backend, void *to, const void *from, size_t bytes, bombus_error *error); /* from NULL: zeros */
    /* Places or repacks a weight once; NULL: weights are used where they lie. */
    bombus_status (*prepare_weight)(struct bb_backend *backend, struct bb_weight *weight, bombus_error *error);

    /* Forward primitives. */
    /* out [rows, hidden]: scale * row tokens[i] of the embedding. */
    bombus_status (*embed)(struct bb_backend *backend, const struct bb_weight *embedding, const struct bb_batch *batch, float scale,
                           struct bb_tensor out, bombus_error *error);
    bombus_status (*linear)(struct bb_backend *backend, const struct bb_linear_call *call, bombus_error *error);
    /* Over out = linear(x): adds what adapters add. */
    bombus_status (*low_rank)(struct bb_backend *backend, const struct bb_low_rank_call *call, bombus_error *error);
    bombus_status (*embed_low_rank)(struct bb_backend *backend, const struct bb_embed_low_rank_call *call, bombus_error *error);
    bombus_status (*norm)(struct bb_backend *backend, const struct bb_norm *norm, struct bb_tensor x, struct bb_tensor out,
                          bombus_error *error); /* out may be x */
    /* In place on x [rows, heads * head_dim]. */
    bombus_status (*rope)(struct bb_backend *backend, const struct bb_rope *rope, int32_t heads, struct bb_tensor x,
                          const struct bb_batch *batch, bombus_error *error);
    /* k, v: [rows, kv_heads * head_dim], written (quantized if the view is) at the rows' positions. */
    bombus_status (*write_cache)(struct bb_backend *backend, const struct bb_kv_view *cache, struct bb_tensor k, struct bb_tensor v,
                                 const struct bb_batch *batch, bombus_error *error);
    /* q, out: [rows, heads * head_dim]; a row sees its sequence's positions up to its own that the view's window lets it see. */
    bombus_status (*attention)(struct bb_backend *backend, const struct bb_attention_shape *shape, const struct bb_kv_view *cache,
                               struct bb_tensor q, const struct bb_batch *batch, struct bb_tensor out, bombus_error *error);
    /* out = activation(gate) * up; out may be gate. */
    bombus_status (*glu)(struct bb_backend *backend, enum bb_activation activation, struct bb_tensor gate, struct bb_tensor up,
                         struct bb_tensor out, bombus_error *error);
    /* out = a + scale * b; out may be a. */
    bombus_status (*add)(struct bb_backend *backend, struct bb_tensor a, struct bb_tensor b, float scale, struct bb_tensor out,
                         bombus_error *error);
    /* out[i] = x[rows[i]]; rows lie on the host. */
    bombus_status (*gather)(struct bb_backend *backend, struct bb_tensor x, const int32_t *rows, int32_t count, struct bb_tensor out,
                            bombus_error *error);
    /* In place: x = scale * x, then softcap * tanh(x / softcap) if softcap > 0. */
    bombus_status (*scale)(struct bb_backend *backend, float scale, float softcap, struct bb_tensor x, bombus_error *error);
    /* logits [rows, experts] -> indices I32 and weights F32 [rows, k]; NULL: no mixture models. */
    bombus_status (*route)(struct bb_backend *backend, enum bb_routing routing, struct bb_tensor logits, struct bb_tensor indices,
                           struct bb_tensor weights, bombus_error *error);
    bombus_status (*experts)(struct bb_backend *backend, const struct bb_experts_call *call, bombus_error *error); /* may be NULL */

    /* Composites, each may be NULL: ops then expands them into primitives. */
    bombus_status (*attention_input)(struct bb_backend *backend, const struct bb_attention_input_call *call, bombus_error *error);
    bombus_status (*gated_input)(struct bb_backend *backend, const struct bb_gated_input_call *call, bombus_error *error);
    bombus_status (*linear_add)(struct bb_backend *backend, const struct bb_linear_add_call *call, bombus_error *error);

    /* Gradients, for training: all, or linear_grad NULL. */
    /* out = x with a share `rate` of its entries 0 and the others divided by 1 - rate; which ones follows from seed, slot, row and column alone. As its own
     * gradient: of d_out. Adds to out if `adds`. */
    bombus_status (*dropout)(struct bb_backend *backend, struct bb_tensor x, float rate, uint64_t seed, int32_t slot, bool adds, struct bb_tensor out,
                             bombus_error *error);
    /* x += uniform noise in +-alpha / sqrt(rows of its span * columns), by seed, row and column. */
    bombus_status (*noise)(struct bb_backend *backend, const struct bb_batch *batch, float alpha, uint64_t seed, struct bb_tensor x, bombus_error *error);
    bombus_status (*linear_grad)(struct bb_backend *backend, const struct bb_linear_grad_call *call, bombus_error *error);
    bombus_status (*linear_weight_grad)(struct bb_backend *backend, const struct bb_linear_weight_grad_call *call, bombus_error *error);
    bombus_status (*low_rank_grad)(struct bb_backend *backend, const struct bb_low_rank_grad_call *call, bombus_error *error);
    bombus_status (*embed_grad)(struct bb_backend *backend, const struct bb_embed_grad_call *call, bombus_error *error);
    bombus_status (*norm_grad)(struct bb_backend *backend, const struct bb_norm_grad_call *call, bombus_error *error);
    /* In place on d_x [rows, heads * head_dim]: turned back. */
    bombus_status (*rope_grad)(struct bb_backend *backend, const struct bb_rope *rope, int32_t heads, struct bb_tensor d_x, const struct bb_batch *batch,
                               bombus_error *error);
    bombus_status (*attention_grad)(struct bb_backend *backend, const struct bb_attention_grad_call *call, bombus_error *error);
    /* d_gate and d_up are written; d_up may be d_out. */
    bombus_status (*glu_grad)(struct bb_backend *backend, enum bb_activation activation, struct bb_tensor gate, struct bb_tensor up, struct bb_tensor d_out,
                              struct bb_tensor d_gate, struct bb_tensor d_up, bombus_error *error);
    /* Of out = gather(x, rows): d_x is 0 but for the rows named (each once), which are d_out's. */
    bombus_status (*gather_grad)(struct bb_backend *backend, struct bb_tensor d_out, const int32_t *rows, int32_t count, struct bb_tensor d_x,
                                 bombus_error *error);
    /* d_logits is written. */
    bombus_status (*route_grad)(struct bb_backend *backend, enum bb_routing routing, struct bb_tensor logits, struct bb_tensor indices,
                                struct bb_tensor weights, struct bb_tensor d_weights, struct bb_tensor d_logits, bombus_error *error);
    bombus_status (*experts_grad)(struct bb_backend *backend, const struct bb_experts_grad_call *call, bombus_error *error);
    bombus_status (*cross_entropy)(struct bb_backend *backend, const struct bb_cross_entropy_call *call, bombus_error *error);
};

/* An open device; a backend's own struct begins with this. */
struct bb_backend {
    const struct bb_backend_table *table;
};

struct bb_backend_options {
    int32_t thread_count;  /* 0: one a physical core */
    const char *cpu_level; /* NULL: the best */
    int32_t device_index;
};

/* One a device. */
bombus_status bb_cpu_open(struct bb_backend **backend, const struct bb_backend_options *options, bombus_error *error);

#endif
