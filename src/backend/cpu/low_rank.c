/* Low-rank additions to products (LoRA, DoRA), in the product's own job: behind the product of a chunk of weight rows,
 * or of all chunks of a thread, it takes pieces of A x while some are left, then adds its rows of B to what was stored.
 * Nothing is read twice, and while a thread's last product is made its kernel asks for the lines of A and B. Each entry
 * is a sum in an order of its own, whatever the rows beside it. */
#include "backend/cpu/cpu.h"

#include "backend/cpu/kernels/kernel.h"
#include "base/memory.h"

enum {
    SUM_ROWS = 16, /* of x a piece */
    SUM_RANKS = 4, /* of A in f32 a piece: two pieces or more a term, so that threads share even one */
    RANK_BLOCK = 64
};

/* Ranks a piece; a panel where A is packed, which is read as one stream. */
static int32_t sum_ranks(const struct bb_low_rank *pair)
{
    return bb_low_rank_is_packed(pair) ? BB_PACKED_RANKS : SUM_RANKS;
}

static int32_t rank_pieces(const struct bb_low_rank_term *term)
{
    return (term->pair->rank + sum_ranks(term->pair) - 1) / sum_ranks(term->pair);
}

static int64_t term_pieces(const struct bb_low_rank_term *term)
{
    return (int64_t)rank_pieces(term) * ((term->row_count + SUM_ROWS - 1) / SUM_ROWS);
}

bombus_status bb_cpu_low_rank_begin(struct bb_cpu *cpu, struct bb_cpu_low_rank *work,
                                    const struct bb_cpu_product *products, int32_t product_count, const float *x,
                                    bool is_exact, bombus_error *error)
{
    size_t floats = 0;
    int64_t pieces = 0;
    *work = (struct bb_cpu_low_rank){.kernels = &cpu->kernels->rows,
                                     .products = products,
                                     .product_count = product_count,
                                     .x = x,
                                     .thread_count = bb_pool_thread_count(cpu->pool),
                                     .is_exact = is_exact};
    for (int32_t i = 0; i < product_count; i++)
        for (int32_t k = 0; k < products[i].low_rank.count; k++) {
            floats +=
                (size_t)products[i].low_rank.terms[k].row_count * (size_t)products[i].low_rank.terms[k].pair->rank;
            pieces += term_pieces(&products[i].low_rank.terms[k]);
        }
    if (pieces == 0)
        return BOMBUS_OK;
    if (pieces > INT32_MAX / 2)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "a product with %lld pieces of low-rank terms is too large",
                       (long long)pieces);
    work->sums = bb_cpu_scratch(cpu, BB_SCRATCH_LOW_RANK, floats * sizeof(float), error);
    if (work->sums == NULL)
        return BOMBUS_ERROR_MEMORY;
    work->sum_count = (int32_t)pieces;
    atomic_init(&work->next, 0);
    atomic_init(&work->pending, work->sum_count);
    return BOMBUS_OK;
}

/* The numbers of a packed matrix from `place` on, as far as the precision reads them. */
static struct bb_packed view(const struct bb_packed *matrix, int64_t place, bool is_exact)
{
    return (struct bb_packed){
        .high = matrix->high + place, .low = is_exact ? matrix->low + place : NULL, .columns = matrix->columns};
}

/* sums [row_count, ranks] of A's ranks from the first on, at the pair's rank. */
static void sum(const struct bb_cpu_low_rank *work, const struct bb_low_rank *pair, float *sums, const float *x,
                int32_t first_rank, int32_t ranks, int64_t row_count, int64_t cols)
{
    if (bb_low_rank_is_packed(pair)) {
        const int64_t place = bb_packed_place(&pair->packed_a, pair->rank, first_rank, 0);
        work->kernels->packed_sums(&(struct bb_packed_sums){.sums = sums,
                                                            .panel = view(&pair->packed_a, place, work->is_exact),
                                                            .x = x,
                                                            .sums_stride = pair->rank,
                                                            .row_count = row_count,
                                                            .cols = cols,
                                                            .rank = ranks});
        return;
    }
    for (int64_t row = 0; row < row_count; row++)
        work->kernels->low_rank_sums(sums + row * pair->rank, pair->a + first_rank * cols, x + row * cols, ranks, cols);
}

/* One piece of A x: some ranks of a term for some of its rows. */
struct piece {
    const struct bb_cpu_product *product;
    const struct bb_low_rank_term *term;
    float *sums;                                     /* of the term */
    int32_t first_rank, ranks, first_row, row_count; /* rows of the term */
};

static struct piece find_piece(const struct bb_cpu_low_rank *work, int32_t index)
{
    struct piece piece = {.product = work->products, .sums = work->sums};
    for (int32_t k = 0;;) {
        if (k == piece.product->low_rank.count) {
            piece.product++;
            k = 0;
            continue;
        }
        piece.term = &piece.product->low_rank.terms[k];
        if (index < term_pieces(piece.term))
            break;
        index -= (int32_t)term_pieces(piece.term);
        piece.sums += (int64_t)piece.term->row_count * piece.term->pair->rank;
        k++;
    }
    const int32_t step = sum_ranks(piece.term->pair), rank = piece.term->pair->rank, rows = piece.term->row_count;
    piece.first_rank = index % rank_pieces(piece.term) * step;
    piece.first_row = index / rank_pieces(piece.term) * SUM_ROWS;
    piece.ranks = rank - piece.first_rank < step ? rank - piece.first_rank : step;
    piece.row_count = rows - piece.first_row < SUM_ROWS ? rows - piece.first_row : SUM_ROWS;
    return piece;
}

static void run_piece(struct bb_cpu_low_rank *work, int32_t index)
{
    const struct piece piece = find_piece(work, index);
    const struct bb_low_rank *pair = piece.term->pair;
    const int64_t cols = piece.product->linear->weight.cols;
    const float factor =
        pair->scale * (piece.term->weight * piece.product->scale); /* as with the scale in the weight: ops/low_rank.c */
    float *out = piece.sums + (int64_t)piece.first_row * pair->rank + piece.first_rank;
    sum(work, pair, out, work->x + (piece.term->first_row + piece.first_row) * cols, piece.first_rank, piece.ranks,
        piece.row_count, cols);
    for (int32_t row = 0; row < piece.row_count; row++, out += pair->rank)
        for (int32_t r = 0; r < piece.ranks; r++)
            out[r] *= factor;
    /* release: the sums, read behind bb_pool_wait's acquire of 0 */
    atomic_fetch_sub_explicit(&work->pending, 1, memory_order_release);
}

/* All of A x: the pieces that nobody has taken, then waits for those that others have. */
static void make_sums(struct bb_cpu_low_rank *work)
{
    /* relaxed: who takes a piece tells nothing with it */
    while (atomic_load_explicit(&work->next, memory_order_relaxed) < work->sum_count) {
        const int32_t piece = atomic_fetch_add_explicit(&work->next, 1, memory_order_relaxed);
        if (piece < work->sum_count)
            run_piece(work, piece);
    }
    bb_pool_wait(&work->pending);
}

/* One more piece of memory, where there is room. */
static int32_t add_ahead(struct bb_ahead *ahead, int32_t count, const uint16_t *begin, int64_t entries)
{
    if (count < BB_CPU_AHEAD_LIMIT)
        ahead[count++] = (struct bb_ahead){.begin = (const char *)begin, .size = (size_t)entries * sizeof *begin};
    return count;
}

int32_t bb_cpu_low_rank_ahead_sums(const struct bb_cpu_low_rank *work, struct bb_ahead *ahead, int32_t share)
{
    int32_t count = 0;
    for (int32_t i = share; i < work->sum_count && !work->is_exact; i += work->thread_count) {
        const struct piece piece = find_piece(work, i);
        const struct bb_packed *a = &piece.term->pair->packed_a;
        if (bb_low_rank_is_packed(piece.term->pair))
            count = add_ahead(ahead, count, a->high + bb_packed_place(a, piece.term->pair->rank, piece.first_rank, 0),
                              a->columns * bb_packed_width(piece.ranks, 0));
    }
    return count;
}

int32_t bb_cpu_low_rank_ahead_rows(const struct bb_cpu_low_rank *work, struct bb_ahead *ahead, int32_t count,
                                   const struct bb_cpu_product *product, int64_t first, int64_t row_count)
{
    for (int32_t k = 0; k < product->low_rank.count && !work->is_exact; k++) {
        const struct bb_low_rank *pair = product->low_rank.terms[k].pair;
        for (int32_t r = 0; r < pair->rank && bb_low_rank_is_packed(pair); r += BB_PACKED_RANKS)
            count =
                add_ahead(ahead, count, pair->packed_b.high + bb_packed_place(&pair->packed_b, pair->rank, r, first),
                          row_count * bb_packed_width(pair->rank, r));
    }
    return count;
}

/* W x of one row times 1 + what the terms with gains make of it, without the bias. */
static void apply_gains(const struct bb_linear *linear, const struct bb_low_rank_term *terms, int32_t count,
                        int64_t first, int64_t row_count, float *out)
{
    bool has_gains = false;
    for (int32_t k = 0; k < count; k++)
        has_gains = has_gains || terms[k].pair->gains != NULL;
    for (int64_t i = 0; i < row_count && has_gains; i++) {
        float factor = 1.0f,
              bias = linear->bias != NULL ? bb_dtype_load(linear->bias, linear->bias_dtype, (size_t)(first + i)) : 0.0f;
        for (int32_t k = 0; k < count; k++)
            factor += terms[k].pair->gains != NULL ? terms[k].weight * (terms[k].pair->gains[first + i] - 1.0f) : 0.0f;
        out[i] = bias + factor * (out[i] - bias);
    }
}

/* How many terms from `terms` on are of the same rows. */
static int32_t same_rows(const struct bb_low_rank_term *terms, int32_t limit)
{
    int32_t count = 1;
    while (count < limit && terms[count].first_row == terms->first_row)
        count++;
    return count;
}

/* Over entries of out [row_count, count], at `first` of their row: sums [row_count, rank] times B. */
static void add(const struct bb_cpu_low_rank *work, const struct bb_cpu_product *product,
                const struct bb_low_rank *pair, const float *sums, float *out, int64_t row_count, int64_t first,
                int64_t count)
{
    const float *gains = pair->gains != NULL ? pair->gains + first : NULL;
    if (bb_low_rank_is_packed(pair))
        work->kernels->packed_add(&(struct bb_packed_add){.out = out,
                                                          .matrix = view(&pair->packed_b, 0, work->is_exact),
                                                          .sums = sums,
                                                          .gains = gains,
                                                          .out_stride = product->out_stride,
                                                          .row_count = row_count,
                                                          .first = first,
                                                          .count = count,
                                                          .rank = pair->rank});
    else
        work->kernels->low_rank_add(&(struct bb_low_rank_add){.out = out,
                                                              .b = pair->b + first,
                                                              .sums = sums,
                                                              .gains = gains,
                                                              .out_stride = product->out_stride,
                                                              .b_stride = pair->b_stride,
                                                              .row_count = row_count,
                                                              .count = count,
                                                              .rank = pair->rank});
}

void bb_cpu_low_rank_add(struct bb_cpu_low_rank *work, const struct bb_cpu_product *product, int64_t first_weight_row,
                         int64_t weight_row_count, int64_t first_row, int64_t row_count)
{
    if (product->low_rank.count == 0)
        return;
    const float *sums = work->sums;
    make_sums(work);
    for (const struct bb_cpu_product *before = work->products; before < product; before++)
        for (int32_t k = 0; k < before->low_rank.count; k++)
            sums += (int64_t)before->low_rank.terms[k].row_count * before->low_rank.terms[k].pair->rank;
    for (int32_t k = 0, count; k < product->low_rank.count; k += count) {
        const struct bb_low_rank_term *terms = &product->low_rank.terms[k];
        count = same_rows(terms, product->low_rank.count - k);
        const int64_t begin = terms->first_row > first_row ? terms->first_row : first_row;
        const int64_t term_end = terms->first_row + terms->row_count,
                      end = term_end < first_row + row_count ? term_end : first_row + row_count;
        for (int64_t row = begin; row < end; row++)
            apply_gains(product->linear, terms, count, first_weight_row, weight_row_count,
                        product->out + row * product->out_stride + first_weight_row);
        for (int32_t i = 0; i < count; i++) {
            const struct bb_low_rank *pair = terms[i].pair;
            add(work, product, pair, sums + (begin - terms->first_row) * pair->rank,
                product->out + begin * product->out_stride + first_weight_row, end - begin, first_weight_row,
                weight_row_count);
            sums += (int64_t)terms->row_count * pair->rank;
        }
    }
}

/* The slot low_rank: the same over a product that is there. */
struct job {
    struct bb_cpu_low_rank low_rank;
    struct bb_cpu_product product;
    int64_t chunk_rows, row_count; /* rows of the weight a chunk; rows of x */
};

static void chunk(void *context, int32_t index, int32_t worker)
{
    struct job *job = context;
    (void)worker;
    const int64_t first = index * job->chunk_rows, rest = job->product.linear->weight.rows - first;
    bb_cpu_low_rank_add(&job->low_rank, &job->product, first, rest < job->chunk_rows ? rest : job->chunk_rows, 0,
                        job->row_count);
}

bombus_status bb_cpu_low_rank_apply(struct bb_cpu *cpu, const struct bb_cpu_product *product, const float *x,
                                    int64_t row_count, bool is_exact, bombus_error *error)
{
    const int64_t weight_rows = product->linear->weight.rows, chunk_rows = BB_CPU_CHUNK / row_count / 64 * 64;
    struct job job = {.product = *product, .chunk_rows = chunk_rows > 64 ? chunk_rows : 64, .row_count = row_count};
    bombus_status status = bb_cpu_low_rank_begin(cpu, &job.low_rank, &job.product, 1, x, is_exact, error);
    if (status == BOMBUS_OK && job.low_rank.sum_count > 0)
        bb_pool_run(cpu->pool, (int32_t)((weight_rows + job.chunk_rows - 1) / job.chunk_rows), chunk, &job);
    return status;
}

static bombus_status low_rank(struct bb_backend *backend, const struct bb_low_rank_call *call, bombus_error *error)
{
    struct bb_cpu *cpu = (struct bb_cpu *)backend;
    const struct bb_cpu_product product = {.linear = call->linear,
                                           .out = call->out.data,
                                           .out_stride = call->linear->weight.rows,
                                           .scale = 1.0f,
                                           .low_rank = {.terms = call->terms, .count = call->term_count}};
    bb_pool_lock(cpu->pool);
    bombus_status status =
        bb_cpu_low_rank_apply(cpu, &product, call->x.data, call->out.shape[0], call->is_exact, error);
    bb_pool_unlock(cpu->pool);
    return status;
}

/* The same of a packed pair, whose numbers are read in full: it is a row of a table, not a product. */
static void add_packed_to_token(const struct bb_row_kernels *kernels, const struct bb_low_rank *pair, int32_t token,
                                float factor, float *out, int64_t cols)
{
    float sums[BB_PACKED_RANKS];
    for (int32_t first = 0; first < pair->rank; first += BB_PACKED_RANKS) {
        const int32_t count = bb_packed_ranks(pair->rank, first);
        for (int32_t r = 0; r < count; r++)
            sums[r] = factor *
                      bb_packed_load(&pair->packed_b, bb_packed_place(&pair->packed_b, pair->rank, first + r, token));
        kernels->packed_add(&(struct bb_packed_add){
            .out = out,
            .matrix = view(&pair->packed_a, bb_packed_place(&pair->packed_a, pair->rank, first, 0), true),
            .sums = sums,
            .row_count = 1,
            .count = cols,
            .rank = count});
    }
}

/* What one term adds to a token's row: the token's entries of B times A. */
static void add_to_token(const struct bb_row_kernels *kernels, const struct bb_low_rank_term *term, int32_t token,
                         float scale, float *out, int64_t cols)
{
    const struct bb_low_rank *pair = term->pair;
    const float factor = scale * term->weight * pair->scale * (pair->gains != NULL ? pair->gains[token] : 1.0f);
    if (bb_low_rank_is_packed(pair)) {
        add_packed_to_token(kernels, pair, token, factor, out, cols);
        return;
    }
    float sums[RANK_BLOCK];
    for (int32_t first = 0; first < pair->rank; first += RANK_BLOCK) {
        const int32_t count = pair->rank - first < RANK_BLOCK ? pair->rank - first : RANK_BLOCK;
        for (int32_t r = 0; r < count; r++)
            sums[r] = factor * pair->b[(first + r) * pair->b_stride + token];
        kernels->low_rank_add(&(struct bb_low_rank_add){.out = out,
                                                        .b = pair->a + first * cols,
                                                        .sums = sums,
                                                        .b_stride = cols,
                                                        .row_count = 1,
                                                        .count = cols,
                                                        .rank = count});
    }
}

static bombus_status embed_low_rank(struct bb_backend *backend, const struct bb_embed_low_rank_call *call,
                                    bombus_error *error)
{
    const struct bb_row_kernels *kernels = &((struct bb_cpu *)backend)->kernels->rows;
    const int64_t cols = call->out.shape[1];
    (void)error;
    for (int32_t k = 0, count; k < call->term_count; k += count) {
        const struct bb_low_rank_term *terms = &call->terms[k];
        count = same_rows(terms, call->term_count - k);
        for (int32_t row = terms->first_row; row < terms->first_row + terms->row_count; row++) {
            float *out = (float *)call->out.data + row * cols, factor = 1.0f;
            float *added = call->added.data != NULL ? (float *)call->added.data + row * cols : out;
            for (int32_t i = 0; i < count; i++)
                factor += terms[i].pair->gains != NULL
                              ? terms[i].weight * (terms[i].pair->gains[call->tokens[row]] - 1.0f)
                              : 0.0f;
            for (int64_t i = 0; i < cols && factor != 1.0f; i++)
                out[i] *= factor;
            for (int32_t i = 0; i < count; i++)
                add_to_token(kernels, &terms[i], call->tokens[row], call->scale, added, cols);
        }
    }
    return BOMBUS_OK;
}

void bb_cpu_fill_low_rank(struct bb_backend_table *table)
{
    table->low_rank = low_rank;
    table->embed_low_rank = embed_low_rank;
}
