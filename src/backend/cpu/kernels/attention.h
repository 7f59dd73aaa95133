/* The shape of the attention kernels: online softmax over a block of keys for a tile of query heads that share a key
 * head.
 *
 * What a row (one query head of one token) gets must not depend on the rows beside it, so that a token's text is the
 * same alone, in a batch or in any cut of the prompt. So the order of every sum is fixed: a score sums over head_dim
 * in order, one chain a key; a row's denominator sums a vector at a time in key order; an output entry sums over the
 * keys in order, one chain; masked keys add exact zeros. */
#ifndef BB_KERNELS_ATTENTION_H
#define BB_KERNELS_ATTENTION_H

#include "backend/cpu/kernels/ahead.h"
#include "tensor/batch.h"

enum {
    BB_ATTENTION_BLOCK = 64, /* keys a block at most; blocks begin at multiples of it (or of the page size below it) */
    BB_ATTENTION_ROWS = 48,  /* rows of a tile at most: a multiple of BB_ATTENTION_FEW */
    BB_ATTENTION_FEW = 6,    /* rows that the fast kernels keep in registers: up to so many, every entry is read once */
    BB_ATTENTION_DIRECT = 2 * BB_ATTENTION_FEW, /* rows up to which entries are best read as they lie; more want them as f32 first */
    BB_ATTENTION_PIECES = 3  /* of memory that the keys of a block lie in: codes, scales, biases */
};

/* A tile of rows and its running softmax: outputs are sums of exp(score - maxima) * value, sums the same of 1. */
struct bb_attention_tile {
    int32_t row_count, head_dim;
    int32_t width;            /* head_dim rounded up to 16: the length of rows of values and outputs */
    const float *queries;     /* [row_count, head_dim], already times the scale */
    const int32_t *positions; /* [row_count]: the last key that a row sees */
    const int32_t *begins;    /* [row_count]: the first key that it sees, those below `keep` apart */
    int32_t keep;
    float softcap;        /* > 0: scores become softcap * tanh(score / softcap) */
    float *scores;        /* [row_count, BB_ATTENTION_BLOCK], memory for the kernel */
    float *maxima, *sums; /* [row_count], -infinity and 0 at first */
    float *outputs;       /* [row_count, width], 0 at first */
};

/* Keys or values: entries of f32 or f16, or codes with scales and biases, as they lie in a page (tensor/batch.h). */
struct bb_attention_entries {
    const void *data;             /* keys [tiles, head_dim, 16], values [count, width] */
    const float *scales, *biases; /* NULL, but of Q8 and Q4: keys [tiles, groups, 16], values [count, groups]; width is head_dim there */
};

/* `count` keys and values from position `first` on, in (count + 15) / 16 tiles. Entries of keys that no row sees may hold anything. */
struct bb_attention_block {
    int32_t first, count;
    enum bb_kv_type type;
    int32_t group_size; /* Q8, Q4 */
    struct bb_attention_entries keys, values;
    /* Where those of the block that comes next lie, to be asked for meanwhile; next_count: pieces of each, 0: none. */
    struct bb_ahead next_keys[BB_ATTENTION_PIECES], next_values[BB_ATTENTION_PIECES];
    int32_t next_count;
};

struct bb_attention_kernels {
    /* Adds a block. A row that sees none of its keys stays as it is, bit for bit; f16 and codes give the same bits as the
     * same numbers in f32. */
    void (*attend)(const struct bb_attention_tile *tile, const struct bb_attention_block *block);
    void (*f16_to_f32)(float *out, const uint16_t *in, int64_t count);
    void (*f32_to_f16)(uint16_t *out, const float *in, int64_t count);
    /* One tile of 16 keys as f32 [head_dim, 16], from its codes, scales and biases (tensor/batch.h). */
    void (*unpack_keys)(float *out, const uint8_t *codes, const float *scales, const float *biases, int32_t head_dim,
                        int32_t group_size, int32_t bits);
    /* The value of one position as f32 [head_dim]. */
    void (*unpack_values)(float *out, const uint8_t *codes, const float *scales, const float *biases, int32_t head_dim,
                          int32_t group_size, int32_t bits);
};

void bb_kernels_fill_reference_attention(struct bb_attention_kernels *kernels);
void bb_kernels_fill_avx2_attention(struct bb_attention_kernels *kernels);
void bb_kernels_fill_avx512_attention(struct bb_attention_kernels *kernels);
void bb_kernels_fill_neon_attention(struct bb_attention_kernels *kernels);

#endif
