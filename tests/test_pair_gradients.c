/* Gradients of low-rank pairs, at projections, embeddings and heads, and of the cross entropy: every level against differences of the reference level. */
#include "test.h"

#include "backend/cpu/kernels/kernels.h"
#include "backend_fixture.h"
#include "slope.h"

enum { X_ROWS = 6, HIDDEN = 24, RANK = 3, MOST_VOCAB = 4300, MOST = 60 };

static const double TOLERANCE = 1e-3;

/* A weight [rows, HIDDEN] with a pair, used as a projection, as an embedding, as a head, or as both of these. */
struct probe {
    struct bb_backend *reference;
    int64_t rows;
    struct bb_linear linear;
    struct bb_low_rank pair;
    struct bb_low_rank_term terms[2];
    int32_t term_count;
    struct bb_batch batch;
    int32_t tokens[X_ROWS], targets[X_ROWS];
    bool drops; /* the pairs have an input of their own; of an embedding, what they add is dropped out */
    float x[X_ROWS * HIDDEN], pair_x[X_ROWS * HIDDEN], added[X_ROWS * HIDDEN], nll[X_ROWS], weights[X_ROWS], scale,
        softcap, embedding_scale;
    float values[MOST_VOCAB * HIDDEN], bias[MOST_VOCAB], gains[MOST_VOCAB], lengths[MOST_VOCAB];
    float trained[RANK * (MOST_VOCAB + HIDDEN) + MOST_VOCAB], gradients[RANK * (MOST_VOCAB + HIDDEN) + MOST_VOCAB];
    float out[X_ROWS * MOST_VOCAB], d_out[X_ROWS * MOST_VOCAB];
};

static struct probe probe;

/* DoRA's gains follow its magnitudes; the lengths of rows are held fixed, as training holds them. */
static void set_gains(void)
{
    for (int64_t i = 0; i < probe.rows && probe.pair.gains != NULL; i++)
        probe.gains[i] = probe.pair.magnitudes[i] / probe.lengths[i];
}

static void set_up(struct bb_backend *reference, int64_t rows, bool has_gains)
{
    memset(&probe, 0, sizeof probe);
    probe.reference = reference;
    probe.rows = rows;
    probe.scale = 1.0f;
    fill_random(probe.values, (size_t)(rows * HIDDEN), 1, 0.5f);
    fill_random(probe.bias, (size_t)rows, 2, 0.5f);
    fill_random(probe.trained, BB_COUNT(probe.trained), 3, 0.4f);
    fill_random(probe.x, X_ROWS * HIDDEN, 4, 1.0f);
    fill_random(probe.pair_x, X_ROWS * HIDDEN, 7, 1.0f);
    fill_random(probe.d_out, BB_COUNT(probe.d_out), 5, 1.0f);
    fill_random(probe.weights, X_ROWS, 6, 1.0f);
    probe.weights[4] = 0.0f;
    for (int64_t i = 0; i < rows; i++) {
        probe.lengths[i] = 1.0f + 0.001f * (float)(i % 400);
        probe.trained[RANK * (rows + HIDDEN) + i] = 0.7f * probe.lengths[i] + 0.0005f * (float)(i % 300);
    }
    for (int32_t i = 0; i < X_ROWS; i++) {
        probe.tokens[i] = (int32_t)((i % 4 * 1733 + 5) % rows); /* some twice */
        probe.targets[i] = (int32_t)((i * 1151 + 17) % rows);
    }
    probe.linear = (struct bb_linear){.weight = {.data = probe.values, .dtype = BB_F32, .rows = rows, .cols = HIDDEN}, .slot = -1};
    probe.pair = (struct bb_low_rank){
        .a = probe.trained, .b = probe.trained + RANK * HIDDEN, .b_stride = rows, .rank = RANK, .scale = 1.5f};
    if (has_gains) {
        probe.pair.gains = probe.gains;
        probe.pair.magnitudes = probe.trained + RANK * (rows + HIDDEN);
    }
    probe.batch = (struct bb_batch){.row_count = X_ROWS, .tokens = probe.tokens};
    /* Row 3 takes none; LoRA's second part a weight. */
    probe.terms[0] = (struct bb_low_rank_term){.pair = &probe.pair, .weight = 1.0f, .row_count = 3};
    probe.terms[1] = (struct bb_low_rank_term){.pair = &probe.pair, .weight = has_gains ? 1.0f : 0.6f, .first_row = 4, .row_count = 2};
    probe.term_count = 2;
    set_gains();
}

static float *gradient_of(const float *value)
{
    return value != NULL ? probe.gradients + (value - probe.trained) : NULL;
}

static void check_trained(slope_function function, float step)
{
    const size_t rows = (size_t)probe.rows;
    const float *b = probe.gradients + RANK * HIDDEN;
    check_slopes(function, NULL, &(struct slope_input){"a", probe.trained, probe.gradients, RANK * HIDDEN}, step, TOLERANCE, MOST);
    check_slopes(function, NULL, &(struct slope_input){"b", probe.trained + RANK * HIDDEN, b, RANK * rows}, step, TOLERANCE, MOST);
    if (probe.pair.gains != NULL)
        check_slopes(function, NULL, &(struct slope_input){"magnitudes", probe.trained + RANK * (HIDDEN + rows), b + RANK * rows, rows}, step, TOLERANCE,
                     MOST);
}

/* ---- projections ---- */

static double projection_value(void *context)
{
    const struct bb_tensor x = matrix(probe.x, X_ROWS, HIDDEN), out = matrix(probe.out, X_ROWS, probe.rows);
    const struct bb_linear_call product = {.linear = &probe.linear, .x = x, .out = out, .is_exact = true};
    const struct bb_low_rank_call pairs = {.linear = &probe.linear, .terms = probe.terms, .term_count = probe.term_count, .x = x, .out = out};
    (void)context;
    set_gains();
    CHECK_STATUS(probe.reference->table->linear(probe.reference, &product, &fixture_error));
    CHECK_STATUS(probe.reference->table->low_rank(probe.reference, &pairs, &fixture_error));
    return dot(probe.out, probe.d_out, (size_t)(X_ROWS * probe.rows));
}

static void check_projection(struct bb_backend *reference, struct bb_backend *backend)
{
    static float d_out[X_ROWS * MOST_VOCAB];
    for (int i = 0; i < 4; i++) { /* LoRA and DoRA, without and with a bias */
        float d_x[X_ROWS * HIDDEN] = {0};
        set_up(reference, 203, i % 2 == 1);
        if (i / 2 == 1) {
            probe.linear.bias = probe.bias;
            probe.linear.bias_dtype = BB_F32;
        }
        (void)projection_value(NULL);
        memcpy(d_out, probe.d_out, sizeof d_out);
        struct bb_low_rank_grad_call call = {.linear = &probe.linear,
                                             .x = matrix(probe.x, X_ROWS, HIDDEN),
                                             .out = matrix(probe.out, X_ROWS, probe.rows),
                                             .d_out = matrix(d_out, X_ROWS, probe.rows),
                                             .d_x = matrix(d_x, X_ROWS, HIDDEN),
                                             .d_a = gradient_of(probe.pair.a),
                                             .d_b = gradient_of(probe.pair.b),
                                             .d_magnitudes = gradient_of(probe.pair.magnitudes)};
        for (int32_t k = 0; k < probe.term_count; k++) {
            call.term = probe.terms[k];
            CHECK_STATUS(backend->table->low_rank_grad(backend, &call, &fixture_error));
        }
        const struct bb_linear_grad_call product = {.linear = &probe.linear, .d_out = call.d_out, .d_x = call.d_x, .adds = true, .is_exact = true};
        CHECK_STATUS(backend->table->linear_grad(backend, &product, &fixture_error));
        check_slopes(projection_value, NULL, &(struct slope_input){"x", probe.x, d_x, X_ROWS * HIDDEN}, 0.1f, TOLERANCE, MOST);
        check_trained(projection_value, 0.1f);
    }
}

static void test_projection(void **state)
{
    (void)state;
    on_levels(check_projection);
}

/* ---- embeddings ---- */

static const float DROPOUT = 0.4f;

static void drop_out(struct bb_backend *backend, float *x, bool adds, float *out)
{
    CHECK_STATUS(backend->table->dropout(backend, matrix(x, X_ROWS, HIDDEN), DROPOUT, 11, 3, adds,
                                         matrix(out, X_ROWS, HIDDEN), &fixture_error));
}

static void embed(void)
{
    const struct bb_tensor x = matrix(probe.x, X_ROWS, HIDDEN);
    struct bb_embed_low_rank_call pairs = {.terms = probe.terms,
                                           .term_count = probe.term_count,
                                           .tokens = probe.tokens,
                                           .scale = probe.embedding_scale,
                                           .out = x};
    if (probe.drops) {
        memset(probe.added, 0, sizeof probe.added);
        pairs.added = matrix(probe.added, X_ROWS, HIDDEN);
    }
    set_gains();
    CHECK_STATUS(probe.reference->table->embed(probe.reference, &probe.linear.weight, &probe.batch, probe.embedding_scale, x, &fixture_error));
    CHECK_STATUS(probe.reference->table->embed_low_rank(probe.reference, &pairs, &fixture_error));
    if (probe.drops)
        drop_out(probe.reference, probe.added, true, probe.x);
}

static double embedding_value(void *context)
{
    (void)context;
    embed();
    return dot(probe.x, probe.d_out, (size_t)(X_ROWS * HIDDEN));
}

static void embed_grad(struct bb_backend *backend, float *d_out)
{
    struct bb_embed_grad_call call = {.tokens = probe.tokens,
                                      .scale = probe.embedding_scale,
                                      .out = matrix(probe.x, X_ROWS, HIDDEN),
                                      .d_out = matrix(d_out, X_ROWS, HIDDEN),
                                      .d_a = gradient_of(probe.pair.a),
                                      .d_b = gradient_of(probe.pair.b),
                                      .d_magnitudes = gradient_of(probe.pair.magnitudes)};
    float d_added[X_ROWS * HIDDEN];
    if (probe.drops) {
        drop_out(backend, d_out, false, d_added);
        call.d_added = matrix(d_added, X_ROWS, HIDDEN);
    }
    for (int32_t k = 0; k < probe.term_count; k++) {
        call.term = probe.terms[k];
        CHECK_STATUS(backend->table->embed_grad(backend, &call, &fixture_error));
    }
}

static void check_embedding(struct bb_backend *reference, struct bb_backend *backend)
{
    for (int i = 0; i < 4; i++) { /* LoRA and DoRA, without and with dropout */
        set_up(reference, 40, i % 2 == 1);
        probe.embedding_scale = 2.5f;
        probe.drops = i / 2 == 1;
        embed();
        embed_grad(backend, probe.d_out);
        const size_t rows = (size_t)probe.rows;
        const float *b = probe.gradients + RANK * HIDDEN;
        check_slopes(embedding_value, NULL, &(struct slope_input){"a", probe.trained, probe.gradients, RANK * HIDDEN}, 0.1f, TOLERANCE, 99);
        check_slopes(embedding_value, NULL, &(struct slope_input){"b", probe.trained + RANK * HIDDEN, b, RANK * rows}, 0.1f, TOLERANCE, 199);
        if (i % 2 == 1)
            check_slopes(embedding_value, NULL, &(struct slope_input){"m", probe.trained + RANK * (HIDDEN + rows), b + RANK * rows, rows}, 0.1f, TOLERANCE,
                         99);
    }
}

static void test_embedding(void **state)
{
    (void)state;
    on_levels(check_embedding);
}

/* ---- cross entropy ---- */

static struct bb_cross_entropy_call entropy_call(void)
{
    return (struct bb_cross_entropy_call){.head = &probe.linear,
                                          .pair_x = matrix(probe.drops ? probe.pair_x : NULL, X_ROWS, HIDDEN),
                                          .low_rank = {.terms = probe.terms, .count = probe.term_count},
                                          .x = matrix(probe.x, X_ROWS, HIDDEN),
                                          .targets = probe.targets,
                                          .scale = probe.scale,
                                          .softcap = probe.softcap,
                                          .is_exact = true,
                                          .nll = probe.nll};
}

static double entropy_value(void *context)
{
    const struct bb_cross_entropy_call call = entropy_call();
    (void)context;
    set_gains();
    CHECK_STATUS(probe.reference->table->cross_entropy(probe.reference, &call, &fixture_error));
    return dot(probe.nll, probe.weights, (size_t)(X_ROWS));
}

static double tied_value(void *context)
{
    embed();
    return entropy_value(context);
}

/* d_x and the pair's gradients, as the backend gives them. */
static void entropy_grad(struct bb_backend *backend, float *d_x, float *d_pair_x)
{
    struct bb_cross_entropy_call call = entropy_call();
    call.d_pair_x = matrix(d_pair_x, X_ROWS, HIDDEN);
    call.weights = probe.weights;
    call.d_x = matrix(d_x, X_ROWS, HIDDEN);
    call.trained = (struct bb_trained){.values = probe.trained, .gradients = probe.gradients, .count = BB_COUNT(probe.trained)};
    CHECK_STATUS(backend->table->cross_entropy(backend, &call, &fixture_error));
}

static void check_entropy(struct bb_backend *reference, struct bb_backend *backend)
{
    /* No pair, LoRA, DoRA, these with an input of their own; capped; of one chunk of the vocabulary, and of two. */
    for (int i = 0; i < 20; i++) {
        float d_x[X_ROWS * HIDDEN], d_pair_x[X_ROWS * HIDDEN];
        const int kind = i % 5;
        set_up(reference, i / 10 == 0 ? 203 : MOST_VOCAB, kind == 2 || kind == 4);
        probe.term_count = kind == 0 ? 0 : 2;
        probe.drops = kind > 2;
        if (i / 5 % 2 == 1) {
            probe.scale = 0.7f;
            probe.softcap = 2.0f;
        }
        entropy_grad(backend, d_x, d_pair_x);
        check_slopes(entropy_value, NULL, &(struct slope_input){"x", probe.x, d_x, X_ROWS * HIDDEN}, 0.05f, 2.0 * TOLERANCE, 24);
        if (probe.drops)
            check_slopes(entropy_value, NULL, &(struct slope_input){"pair x", probe.pair_x, d_pair_x, X_ROWS * HIDDEN},
                         0.05f, 2.0 * TOLERANCE, 24);
        if (kind > 0 && probe.rows == 203)
            check_trained(entropy_value, 0.05f);
    }
}

static void test_entropy(void **state)
{
    (void)state;
    on_levels(check_entropy);
}

/* One pair under the embedding and the head: the gradients of both add up. */
static void check_tied(struct bb_backend *reference, struct bb_backend *backend)
{
    for (int i = 0; i < 2; i++) {
        float d_x[X_ROWS * HIDDEN];
        set_up(reference, 203, i == 1);
        probe.embedding_scale = 1.5f;
        embed();
        entropy_grad(backend, d_x, NULL);
        embed_grad(backend, d_x);
        check_trained(tied_value, 0.05f);
    }
}

static void test_tied(void **state)
{
    (void)state;
    on_levels(check_tied);
}

/* ---- dropout, in the formulas of mlx-lm's LoRAEmbedding and DoRAEmbedding ---- */

/* What the term on row i adds at column k of a token: scale * B^T A. */
static double added_to(const struct bb_low_rank_term *term, int64_t token, int64_t k)
{
    double sum = 0.0;
    for (int32_t r = 0; r < RANK; r++)
        sum += (double)term->pair->b[r * probe.rows + token] * (double)term->pair->a[r * HIDDEN + k];
    return sum * (double)term->pair->scale * (double)term->weight;
}

static const struct bb_low_rank_term *term_of(int32_t row)
{
    return row < 3 ? &probe.terms[0] : row > 3 ? &probe.terms[1] : NULL;
}

/* m[x] / norm * (embedding(x) + dropout(scale * lora_a[x] @ lora_b)); LoRA: without the factor. */
static void check_lookup_formula(struct bb_backend *reference, bool has_gains)
{
    float mask[X_ROWS * HIDDEN], expected[X_ROWS * HIDDEN];
    set_up(reference, 203, has_gains);
    probe.embedding_scale = 2.5f;
    probe.drops = true;
    for (int32_t i = 0; i < X_ROWS * HIDDEN; i++)
        probe.added[i] = 1.0f;
    drop_out(reference, probe.added, false, mask);
    for (int64_t i = 0; i < X_ROWS * HIDDEN; i++) {
        const struct bb_low_rank_term *term = term_of((int32_t)(i / HIDDEN));
        const int32_t token = probe.tokens[i / HIDDEN];
        const double gain = has_gains && term != NULL ? (double)probe.gains[token] : 1.0,
                     weight = (double)probe.values[token * HIDDEN + i % HIDDEN];
        assert_true(mask[i] == 0.0f || mask[i] == 1.0f / (1.0f - DROPOUT));
        expected[i] =
            (float)(2.5 * gain * (weight + (term != NULL ? (double)mask[i] * added_to(term, token, i % HIDDEN) : 0.0)));
    }
    embed();
    CHECK_NEAR(probe.x, expected, X_ROWS * HIDDEN, 1e-5);
}

/* m / norm * (x @ W^T + scale * (dropout(x) @ lora_b.T) @ lora_a.T), here with any pair_x in place of dropout(x). */
static void check_head_formula(struct bb_backend *reference, bool has_gains)
{
    float expected[X_ROWS];
    set_up(reference, 203, has_gains);
    probe.drops = true;
    (void)entropy_value(NULL);
    for (int32_t i = 0; i < X_ROWS; i++) {
        const struct bb_low_rank_term *term = term_of(i);
        double total = 0.0, target = 0.0;
        for (int64_t row = 0; row < probe.rows; row++) {
            double logit = 0.0;
            for (int64_t k = 0; k < HIDDEN; k++)
                logit += (double)probe.x[i * HIDDEN + k] * (double)probe.values[row * HIDDEN + k] +
                         (term != NULL ? (double)probe.pair_x[i * HIDDEN + k] * added_to(term, row, k) : 0.0);
            logit *= has_gains && term != NULL ? (double)probe.gains[row] : 1.0;
            total += exp(logit);
            target = row == probe.targets[i] ? logit : target;
        }
        expected[i] = (float)(log(total) - target);
    }
    CHECK_NEAR(probe.nll, expected, X_ROWS, 1e-5);
}

static void test_dropout_formulas(void **state)
{
    struct bb_backend *reference = open_cpu("reference", 1);
    (void)state;
    for (int i = 0; i < 2; i++) {
        check_lookup_formula(reference, i == 1);
        check_head_formula(reference, i == 1);
    }
    bb_backend_close(reference);
}

/* ---- products of bf16 ---- */

/* Against f32. Rounding to bf16 changes a number by at most 2^-9 of it, so a product by at most 2^-8 + 2^-18: of no entry may the sum be off by more than
 * that share of the sum of its products' sizes. Errors are as often up as down, so that all entries' are much smaller: 0.0016 of their size is expected
 * (each factor's error spread evenly over +-2^-9 at most), 0.003 allowed. An error of nothing at all would mean that f32 was compared with itself. */
static void test_short_products(void **state)
{
    (void)state;
    enum { ROWS = 517, COLS = 352, BATCH = 37 };
    static float values[ROWS * COLS], d_out[BATCH * ROWS], found[2][BATCH * COLS];
    static const char *const levels[] = {"avx512", "avx512_bf16"};
    bool is_there = false;
    for (int32_t level = 0; bb_kernels_level_name(level) != NULL; level++)
        is_there = is_there || strcmp(bb_kernels_level_name(level), levels[1]) == 0;
    if (!is_there) {
        print_message("this processor has no products of bf16\n");
        skip();
    }
    fill_random(values, ROWS * COLS, 1, 1.0f);
    fill_random(d_out, BATCH * ROWS, 2, 1.0f);
    const struct bb_linear linear = {.weight = {.data = values, .dtype = BB_F32, .rows = ROWS, .cols = COLS}, .slot = -1};
    for (int i = 0; i < 2; i++) {
        struct bb_backend *backend = open_cpu(levels[i], 2);
        const struct bb_linear_grad_call call = {.linear = &linear, .d_out = matrix(d_out, BATCH, ROWS), .d_x = matrix(found[i], BATCH, COLS)};
        CHECK_STATUS(backend->table->linear_grad(backend, &call, &fixture_error));
        bb_backend_close(backend);
    }
    double errors = 0.0, squares = 0.0;
    for (int64_t i = 0; i < BATCH * COLS; i++) {
        double size = 0.0;
        for (int64_t r = 0; r < ROWS; r++)
            size += fabs((double)d_out[i / COLS * ROWS + r] * (double)values[r * COLS + i % COLS]);
        const double error = (double)found[1][i] - (double)found[0][i];
        if (fabs(error) > (0x1p-8 + 0x1p-16) * size)
            fail_msg("entry %lld: %.7g in bf16, %.7g in f32, products of %.7g", (long long)i, (double)found[1][i], (double)found[0][i], size);
        errors += error * error;
        squares += (double)found[0][i] * (double)found[0][i];
    }
    const double share = sqrt(errors / squares);
    if (share > 0.003 || share < 0.0005)
        fail_msg("bf16 is off by %.5f of the size of what f32 gives", share);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_projection),       cmocka_unit_test(test_embedding),
                                       cmocka_unit_test(test_entropy),          cmocka_unit_test(test_tied),
                                       cmocka_unit_test(test_dropout_formulas), cmocka_unit_test(test_short_products)};
    return cmocka_run_group_tests_name("pair gradients", tests, NULL, NULL);
}
