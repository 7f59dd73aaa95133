/* The CPU backend's own state, and the pieces its files share. */
#ifndef BB_CPU_H
#define BB_CPU_H

#include "backend/backend.h"
#include "base/threads.h"

struct bb_ahead;
struct bb_kernels;

/* Who uses a piece of scratch memory: an operation keeps its own while another that it calls uses another. */
enum bb_cpu_scratch_use {
    BB_SCRATCH_MULTIPLY, /* bb_cpu_multiply: rounded activations */
    BB_SCRATCH_LOW_RANK, /* bb_cpu_multiply: A x of low-rank terms */
    BB_SCRATCH_INPUT,    /* composites: normalized rows, k and v */
    BB_SCRATCH_ATTENTION,
    BB_SCRATCH_EXPERTS,
    BB_SCRATCH_PANELS,    /* bb_cpu_linear_grad: unpacked weights */
    BB_SCRATCH_PAIRS,     /* bb_cpu_low_rank_grad */
    BB_SCRATCH_GRADIENTS, /* norm_grad, attention_grad, experts_grad */
    BB_SCRATCH_ENTROPY,
    BB_SCRATCH_COUNT
};

struct bb_cpu {
    struct bb_backend backend; /* first, so that a bb_backend * is a bb_cpu * */
    struct bb_backend_table table;
    struct bb_pool *pool;
    const struct bb_kernels *kernels; /* the chosen instruction set */
    char description[64];
    struct {
        void *memory; /* grown as needed, kept: steps after the first of a size allocate nothing */
        size_t size;
    } scratch[BB_SCRATCH_COUNT];
};

/* At least `bytes` of scratch memory, 64-byte aligned, not zeroed; valid until the next call with the same `use`.
 * The caller holds the pool's lock (bb_pool_lock), since several runs share a backend. NULL, and *error filled, if
 * memory is out. */
void *bb_cpu_scratch(struct bb_cpu *cpu, enum bb_cpu_scratch_use use, size_t bytes, bombus_error *error);

/* One product of a group that shares its input: out row i is at out + i * out_stride; out = residual + scale * (W x
 * + bias). */
struct bb_cpu_product {
    const struct bb_linear *linear;
    float *out;
    int64_t out_stride;    /* floats */
    const float *residual; /* same stride as out; NULL: none (0 is added); may be out */
    float scale;           /* 1 without a residual */
    struct bb_low_rank_terms low_rank; /* on rows of x, added to W x + bias; with gains only where there is no residual */
};

/* Several products of the same rows x [row_count, cols] in one job over the pool: the activations are rounded once
 * (unless is_exact), weight rows are handed out in chunks, large ones first (architecture.md, section 4). linear.c */
bombus_status bb_cpu_multiply(struct bb_cpu *cpu, const struct bb_cpu_product *products, int32_t product_count,
                              const float *x, int64_t row_count, bool is_exact, bombus_error *error);

/* The low-rank terms of some products of the same rows: behind its products a thread helps with A x of all terms while
 * some of that is left, and adds its part of B A x. low_rank.c */
struct bb_cpu_low_rank {
    const struct bb_row_kernels *kernels;
    const struct bb_cpu_product *products;
    int32_t product_count, sum_count; /* pieces of A x; 0: no terms */
    int32_t thread_count;
    const float *x;
    bool is_exact;      /* packed pairs are read in full, not their upper halves alone */
    float *sums;        /* scale * weight * A x: of each product, term, row [rank] */
    atomic_int next;    /* the first piece that nobody has taken */
    atomic_int pending; /* pieces that are not done */
};

/* Counts the pieces and takes memory; the caller holds the pool's lock. */
bombus_status bb_cpu_low_rank_begin(struct bb_cpu *cpu, struct bb_cpu_low_rank *work,
                                    const struct bb_cpu_product *products, int32_t product_count, const float *x,
                                    bool is_exact, bombus_error *error);
/* What is read of pairs, at most BB_CPU_AHEAD_LIMIT pieces of memory; how many. None where all of a pair is read: computing is the bound there.
 * `share` of the threads' shares of A: */
int32_t bb_cpu_low_rank_ahead_sums(const struct bb_cpu_low_rank *work, struct bb_ahead *ahead, int32_t share);
/* and behind `count` pieces, B for weight rows [first, first + row_count) of a product. */
int32_t bb_cpu_low_rank_ahead_rows(const struct bb_cpu_low_rank *work, struct bb_ahead *ahead, int32_t count,
                                   const struct bb_cpu_product *product, int64_t first, int64_t row_count);
/* Over the product's entries for weight rows and rows of x from the first on, which this thread has stored. */
void bb_cpu_low_rank_add(struct bb_cpu_low_rank *work, const struct bb_cpu_product *product, int64_t first_weight_row, int64_t weight_row_count,
                         int64_t first_row, int64_t row_count);
/* A product's terms over W x + bias, which its out holds; x [row_count, cols] is what the pairs take. The caller holds
 * the pool's lock. */
bombus_status bb_cpu_low_rank_apply(struct bb_cpu *cpu, const struct bb_cpu_product *product, const float *x,
                                    int64_t row_count, bool is_exact, bombus_error *error);

/* Consecutive rows of one sequence whose positions lie in one tile of the cache: what one thread writes, for two
 * must not share a tile. */
struct bb_cpu_row_tile {
    int32_t first_row, row_count, first_position, sequence;
};

int32_t bb_cpu_row_tile_count(const struct bb_batch *batch);
struct bb_cpu_row_tile bb_cpu_row_tile(const struct bb_batch *batch, int32_t index);
/* Writes the tile's rows of k and v [rows, kv_heads * head_dim], of heads from first_head on. attention.c */
void bb_cpu_write_tile(const struct bb_cpu *cpu, const struct bb_kv_view *cache, const float *k, const float *v,
                       const struct bb_cpu_row_tile *tile, int32_t first_head, int32_t head_count);

/* Calls work for 0 .. chunk_count - 1: by the pool, or at once if there is one chunk. */
static inline void bb_cpu_run(struct bb_cpu *cpu, int32_t chunk_count, bb_pool_work work, void *context)
{
    if (chunk_count == 1)
        work(context, 0, 0);
    else
        bb_pool_run(cpu->pool, chunk_count, work, context);
}

enum {
    BB_CPU_AHEAD_LIMIT = 16,
    BB_CPU_CHUNK =
        16384, /* f32 entries of row work a chunk: some microseconds, enough to be worth handing to a thread */
    BB_ROPE_DIMS_LIMIT = BB_KV_HEAD_DIM_LIMIT
};

/* Row work is cut into chunks: how many things of `width` entries make one. */
static inline int64_t bb_cpu_chunk_size(int64_t width)
{
    const int64_t size = BB_CPU_CHUNK / (width > 0 ? width : 1);
    return size > 0 ? size : 1;
}

/* How many chunks of `size` things hold `count`. */
static inline int32_t bb_cpu_chunk_count(int64_t count, int64_t size)
{
    return (int32_t)((count + size - 1) / size);
}

static inline int64_t bb_cpu_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* The rotary embedding of x [rows, width], or, with `turns_back`, by the negated angles. rows.c */
BB_RESULT bombus_status bb_cpu_rope(struct bb_cpu *cpu, const struct bb_rope *rope, int32_t heads, struct bb_tensor x,
                                    const struct bb_batch *batch, bool turns_back, bombus_error *error);

/* Rows to drop out: x [row_count, width]; row i by the mask of row rows[i] (NULL: i) of the slot. */
struct bb_cpu_dropout {
    float rate;
    uint64_t seed;
    int32_t slot;
    const int32_t *rows;
    int64_t row_count, width;
    bool adds;
};

/* The slot dropout, for rows of choice. gradients_rows.c */
void bb_cpu_drop_out(struct bb_cpu *cpu, const struct bb_cpu_dropout *dropout, const float *x, float *out);

/* The same as the slots norm and glu; for composites. rows.c */
void bb_cpu_norm(struct bb_cpu *cpu, const struct bb_norm *norm, const float *x, float *out, int64_t row_count,
                 int64_t width);
void bb_cpu_glu(struct bb_cpu *cpu, enum bb_activation activation, const float *gate, const float *up, float *out,
                int64_t count);

/* Each file of the backend sets its own slots. */
void bb_cpu_fill_linear(struct bb_backend_table *table);     /* linear.c: linear, linear_add, embed */
void bb_cpu_fill_low_rank(struct bb_backend_table *table);   /* low_rank.c: low_rank, embed_low_rank */
void bb_cpu_fill_rows(struct bb_backend_table *table);       /* rows.c: norm, rope, glu, add, gather, scale */
void bb_cpu_fill_attention(struct bb_backend_table *table);  /* attention.c: write_cache, attention */
void bb_cpu_fill_experts(struct bb_backend_table *table);    /* experts.c: route, experts */
void bb_cpu_fill_composites(struct bb_backend_table *table); /* composites.c: attention_input, gated_input */

/* Gradients. gradients.c: d_x (+)= d_out W, and what one low-rank term gives (backend.h). The caller holds the pool's lock. */
bombus_status bb_cpu_linear_grad(struct bb_cpu *cpu, const struct bb_weight *weight, const float *d_out, int64_t d_out_stride, float *d_x,
                                 int64_t row_count, bool adds, bool is_exact, bombus_error *error);
bombus_status bb_cpu_low_rank_grad(struct bb_cpu *cpu, const struct bb_low_rank_grad_call *call, bombus_error *error);

void bb_cpu_fill_gradients(struct bb_backend_table *table);           /* gradients.c: linear_grad, linear_weight_grad, low_rank_grad, embed_grad */
void bb_cpu_fill_row_gradients(struct bb_backend_table *table);       /* gradients_rows.c: norm_grad, rope_grad, glu_grad, gather_grad, dropout, noise */
void bb_cpu_fill_attention_gradients(struct bb_backend_table *table); /* gradients_attention.c: attention_grad */
void bb_cpu_fill_expert_gradients(struct bb_backend_table *table);    /* gradients_experts.c: route_grad, experts_grad */
void bb_cpu_fill_cross_entropy(struct bb_backend_table *table);       /* cross_entropy.c: cross_entropy */

#endif
