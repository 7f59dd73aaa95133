/* ops: composites against their expansion, mixtures against plain sums, the run's scratch memory and sticky errors,
 * and no allocation a token. */
#include "test.h"

#include "backend_fixture.h"
#include "base/memory.h"
#include "ops/ops.h"

#include <pthread.h>

/* A 4-bit projection with random weights; free with free_linear. */
static struct bb_linear make_linear(int64_t rows, int64_t cols, uint64_t seed, bool has_bias)
{
    struct bb_scheme scheme = {.mode = BB_QUANT_AFFINE, .bits = 4, .group_size = 32};
    size_t groups = (size_t)(cols / 32);
    float *row = malloc((size_t)cols * sizeof *row), *bias = malloc((size_t)rows * sizeof *bias);
    float *scales = malloc((size_t)rows * groups * sizeof *scales),
          *biases = malloc((size_t)rows * groups * sizeof *biases);
    uint8_t *codes = malloc((size_t)(rows * cols / 2));
    for (int64_t i = 0; i < rows; i++) {
        fill_random(row, (size_t)cols, seed * 1000 + (uint64_t)i, 0.2f);
        bb_quant_affine.pack_row(scheme, row, cols,
                                 (struct bb_packed_row){codes + i * cols / 2, scales + (size_t)i * groups,
                                                        biases + (size_t)i * groups, BB_F32});
    }
    fill_random(bias, (size_t)rows, seed + 7, 0.5f);
    free(row);
    if (!has_bias) {
        free(bias);
        bias = NULL;
    }
    return (struct bb_linear){.weight = {.data = codes,
                                         .scales = scales,
                                         .biases = biases,
                                         .dtype = BB_F32,
                                         .scheme = scheme,
                                         .rows = rows,
                                         .cols = cols},
                              .bias = bias,
                              .bias_dtype = BB_F32,
                              .slot = -1};
}

static void free_linear(struct bb_linear *linear)
{
    free((void *)(uintptr_t)linear->weight.data);
    free((void *)(uintptr_t)linear->weight.scales);
    free((void *)(uintptr_t)linear->weight.biases);
    free((void *)(uintptr_t)linear->bias);
}

enum { HIDDEN = 96, HEADS = 6, KV_HEADS = 2, HEAD_DIM = 48, WIDTH = 160, ROWS = 40, EXPERTS = 6, PER_TOKEN = 3 };

/* A block's worth of parameters, and a batch of two sequences. */
struct fixture {
    struct bb_linear q, k, v, gate, up, down, expert_gate[EXPERTS], expert_up[EXPERTS], expert_down[EXPERTS];
    struct bb_norm norm, head_norm, q_whole_norm, k_whole_norm;
    struct bb_rope rope;
    struct bb_experts experts;
    float weights[HEADS * HEAD_DIM], frequencies[HEAD_DIM / 2], x[ROWS * HIDDEN], logits[ROWS * EXPERTS];
    struct bb_kv_view view;
    int32_t pages[2][2], positions[ROWS];
    const int32_t *tables[2];
    struct bb_span spans[2];
    struct bb_batch batch;
};

static void make_fixture(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    f->q = make_linear(HEADS * HEAD_DIM, HIDDEN, 1, true);
    f->k = make_linear(KV_HEADS * HEAD_DIM, HIDDEN, 2, true);
    f->v = make_linear(KV_HEADS * HEAD_DIM, HIDDEN, 3, false);
    f->gate = make_linear(WIDTH, HIDDEN, 4, false);
    f->up = make_linear(WIDTH, HIDDEN, 5, true);
    f->down = make_linear(HIDDEN, WIDTH, 6, true);
    for (uint64_t i = 0; i < EXPERTS; i++) {
        f->expert_gate[i] = make_linear(WIDTH, HIDDEN, 20 + i, i % 2 == 0);
        f->expert_up[i] = make_linear(WIDTH, HIDDEN, 40 + i, false);
        f->expert_down[i] = make_linear(HIDDEN, WIDTH, 60 + i, i % 2 == 1);
    }
    f->experts = (struct bb_experts){.count = EXPERTS,
                                     .per_token = PER_TOKEN,
                                     .gate = f->expert_gate,
                                     .up = f->expert_up,
                                     .down = f->expert_down,
                                     .activation = BB_SWIGLU_CLIPPED};
    fill_random(f->weights, BB_COUNT(f->weights), 8, 1.0f);
    fill_random(f->x, BB_COUNT(f->x), 9, 1.0f);
    fill_random(f->logits, BB_COUNT(f->logits), 10, 3.0f);
    f->norm = (struct bb_norm){.weight = f->weights, .dtype = BB_F32, .size = HIDDEN, .eps = 1e-6f};
    f->head_norm = f->q_whole_norm = f->k_whole_norm = f->norm;
    f->head_norm.size = HEAD_DIM;
    f->q_whole_norm.size = HEADS * HEAD_DIM;
    f->k_whole_norm.size = KV_HEADS * HEAD_DIM;
    for (int32_t i = 0; i < HEAD_DIM / 2; i++)
        f->frequencies[i] = 1.0f / (float)(i + 1);
    f->rope = (struct bb_rope){.inverse_frequencies = f->frequencies, .dims = 32, .amplitude = 1.0f};
    f->view =
        (struct bb_kv_view){.page_size = 64, .kv_heads = KV_HEADS, .head_dim = HEAD_DIM, .page_tables = f->tables};
    f->view.page_stride = bb_kv_page_bytes(BB_KV_F32, 0, 64, KV_HEADS, HEAD_DIM);
    f->view.base = aligned_alloc(64, 4 * f->view.page_stride);
    memset(f->view.base, 0, 4 * f->view.page_stride);
    for (int32_t i = 0; i < 4; i++)
        f->pages[i / 2][i % 2] = 3 - i;
    f->tables[0] = f->pages[0];
    f->tables[1] = f->pages[1];
    /* 39 rows of one sequence over a page's end, one row of the other. */
    f->spans[0] = (struct bb_span){.first_row = 0, .row_count = ROWS - 1, .first_position = 37, .sequence = 1};
    f->spans[1] = (struct bb_span){.first_row = ROWS - 1, .row_count = 1, .first_position = 5, .sequence = 0};
    for (int32_t i = 0; i < ROWS; i++)
        f->positions[i] = i < ROWS - 1 ? 37 + i : 5;
    f->batch = (struct bb_batch){.row_count = ROWS, .positions = f->positions, .span_count = 2, .spans = f->spans};
}

static void free_fixture(struct fixture *f)
{
    struct bb_linear *single[] = {&f->q, &f->k, &f->v, &f->gate, &f->up, &f->down};
    for (size_t i = 0; i < BB_COUNT(single); i++)
        free_linear(single[i]);
    for (size_t i = 0; i < EXPERTS; i++) {
        free_linear(&f->expert_gate[i]);
        free_linear(&f->expert_up[i]);
        free_linear(&f->expert_down[i]);
    }
    free(f->view.base);
}

static void open_run(struct bb_run *run, struct bb_backend *backend, bool is_exact)
{
    bb_run_init(run, backend, is_exact);
    CHECK_STATUS(bb_run_reserve(run, 8 << 20, &fixture_error));
}

static void copy(float *out, struct bb_tensor tensor)
{
    memcpy(out, tensor.data, (size_t)bb_tensor_count(tensor) * sizeof(float));
}

/* Outputs of the three composites, and the cache, on this table. */
struct outputs {
    float q[4][ROWS * HEADS * HEAD_DIM], gated[ROWS * WIDTH], added[ROWS * HIDDEN];
    char cache[1 << 18];
};

static void run_composites(struct fixture *f, struct bb_backend *backend, bool is_exact, struct outputs *out)
{
    struct bb_run run;
    open_run(&run, backend, is_exact);
    struct bb_tensor x = matrix(f->x, ROWS, HIDDEN);
    for (int variant = 0; variant < 4; variant++) {
        const struct bb_attention_input_call call = {.norm = variant == 1 ? NULL : &f->norm,
                                                     .q = &f->q,
                                                     .k = &f->k,
                                                     .v = &f->v,
                                                     .q_norm = variant == 0   ? NULL
                                                               : variant == 1 ? &f->q_whole_norm
                                                                              : &f->head_norm,
                                                     .k_norm = variant == 0   ? NULL
                                                               : variant == 1 ? &f->k_whole_norm
                                                                              : &f->head_norm,
                                                     .rope = variant == 3 ? NULL : &f->rope,
                                                     .batch = &f->batch,
                                                     .cache = &f->view,
                                                     .x = x};
        copy(out->q[variant], bb_op_attention_input(&run, &call));
    }
    const struct bb_gated_input_call gated = {
        .norm = &f->norm, .gate = &f->gate, .up = &f->up, .activation = BB_GELU_TANH, .x = x};
    struct bb_tensor inner = bb_op_gated_input(&run, &gated), residual = bb_op_norm(&run, &f->norm, x);
    copy(out->gated, inner);
    copy(out->added, bb_op_linear_add(&run, &f->down, inner, residual, 0.5f));
    assert_int_equal(run.status, BOMBUS_OK);
    assert_true(4 * f->view.page_stride <= sizeof out->cache);
    memcpy(out->cache, f->view.base, 4 * f->view.page_stride);
    memset(f->view.base, 0, 4 * f->view.page_stride);
    bb_run_clear(&run);
}

static void test_composites_are_their_expansions(void **state)
{
    (void)state;
    static struct outputs composite, expanded;
    struct fixture f;
    make_fixture(&f);
    for (int variant = 0; variant < 4; variant++) {
        struct bb_backend *backend = open_cpu(NULL, 1 + variant);
        memset(&composite, 0, sizeof composite);
        memset(&expanded, 0, sizeof expanded);
        run_composites(&f, backend, variant % 2 == 0, &composite);
        const struct bb_backend_table *table = backend->table;
        struct bb_backend_table primitives = *table;
        primitives.attention_input = NULL;
        primitives.gated_input = NULL;
        primitives.linear_add = NULL;
        backend->table = &primitives;
        run_composites(&f, backend, variant % 2 == 0, &expanded);
        backend->table = table;
        for (int i = 0; i < 4; i++)
            CHECK_NEAR(composite.q[i], expanded.q[i], BB_COUNT(composite.q[i]), 1e-5);
        CHECK_NEAR(composite.gated, expanded.gated, BB_COUNT(composite.gated), 1e-5);
        CHECK_NEAR(composite.added, expanded.added, BB_COUNT(composite.added), 1e-5);
        CHECK_NEAR((float *)(void *)composite.cache, (float *)(void *)expanded.cache,
                   sizeof composite.cache / sizeof(float), 1e-5);
        bb_backend_close(backend);
    }
    free_fixture(&f);
}

/* The sum over the chosen experts in the simplest words: products of one expert and one row. */
static void expect_experts(const struct fixture *f, struct bb_backend *backend, enum bb_routing routing,
                           float *expected)
{
    for (int row = 0; row < ROWS; row++) {
        const float *logits = f->logits + row * EXPERTS;
        double all = 0.0, chosen = 0.0;
        bool takes[EXPERTS];
        for (int e = 0; e < EXPERTS; e++) {
            int larger = 0;
            for (int other = 0; other < EXPERTS; other++)
                larger += logits[other] > logits[e];
            takes[e] = larger < PER_TOKEN;
            all += exp((double)logits[e]);
            chosen += takes[e] ? exp((double)logits[e]) : 0.0;
        }
        double sum[HIDDEN] = {0};
        for (int e = 0; e < EXPERTS; e++) {
            float gate[WIDTH], up[WIDTH], result[HIDDEN], x[HIDDEN];
            if (!takes[e])
                continue;
            memcpy(x, f->x + row * HIDDEN, sizeof x);
            struct bb_linear_call calls[] = {
                {.linear = &f->expert_gate[e],
                 .x = matrix(x, 1, HIDDEN),
                 .out = matrix(gate, 1, WIDTH),
                 .is_exact = true},
                {.linear = &f->expert_up[e], .x = matrix(x, 1, HIDDEN), .out = matrix(up, 1, WIDTH), .is_exact = true},
                {.linear = &f->expert_down[e],
                 .x = matrix(gate, 1, WIDTH),
                 .out = matrix(result, 1, HIDDEN),
                 .is_exact = true}};
            CHECK_STATUS(backend->table->linear(backend, &calls[0], &fixture_error));
            CHECK_STATUS(backend->table->linear(backend, &calls[1], &fixture_error));
            CHECK_STATUS(backend->table->glu(backend, BB_SWIGLU_CLIPPED, matrix(gate, 1, WIDTH), matrix(up, 1, WIDTH),
                                             matrix(gate, 1, WIDTH), &fixture_error));
            CHECK_STATUS(backend->table->linear(backend, &calls[2], &fixture_error));
            for (int i = 0; i < HIDDEN; i++)
                sum[i] += exp((double)logits[e]) / (routing == BB_ROUTE_SOFTMAX_TOP ? all : chosen) * (double)result[i];
        }
        for (int i = 0; i < HIDDEN; i++)
            expected[row * HIDDEN + i] = (float)sum[i];
    }
}

static void test_experts(void **state)
{
    (void)state;
    static float expected[ROWS * HIDDEN], together[ROWS * HIDDEN];
    struct fixture f;
    make_fixture(&f);
    struct bb_backend *backend = open_cpu(NULL, 3);
    for (int routing = BB_ROUTE_SOFTMAX_TOP; routing <= BB_ROUTE_TOP_SOFTMAX; routing++)
        for (int exact = 0; exact < 2; exact++) {
            struct bb_run run;
            open_run(&run, backend, exact);
            copy(together, bb_op_experts(&run, &f.experts, (enum bb_routing)routing, matrix(f.logits, ROWS, EXPERTS),
                                         matrix(f.x, ROWS, HIDDEN)));
            assert_int_equal(run.status, BOMBUS_OK);
            expect_experts(&f, backend, (enum bb_routing)routing, expected);
            CHECK_NEAR(together, expected, BB_COUNT(expected), exact ? 2e-5 : 0.1);
            /* Alone or in a batch: the same bits. */
            for (int row = 0; row < ROWS; row++) {
                bb_run_reset(&run);
                struct bb_tensor alone =
                    bb_op_experts(&run, &f.experts, (enum bb_routing)routing,
                                  matrix(f.logits + row * EXPERTS, 1, EXPERTS), matrix(f.x + row * HIDDEN, 1, HIDDEN));
                assert_memory_equal(alone.data, together + row * HIDDEN, HIDDEN * sizeof(float));
            }
            bb_run_clear(&run);
        }
    bb_backend_close(backend);
    free_fixture(&f);
}

static void test_run_counts_memory(void **state)
{
    (void)state;
    struct bb_backend *backend = open_cpu(NULL, 1);
    struct bb_run run;
    bb_run_init(&run, backend, true);
    run.is_measuring = true;
    assert_null(bb_run_allocate(&run, 3, 5, BB_F32).data);
    assert_int_equal(run.scratch_used, 64);
    size_t mark = bb_run_mark(&run);
    assert_null(bb_run_allocate(&run, 1, 17, BB_F32).data);
    bb_run_release(&run, mark);
    assert_int_equal(run.scratch_used, 64);
    assert_int_equal(run.scratch_peak, 192);
    run.is_measuring = false;
    CHECK_STATUS(bb_run_reserve(&run, 192, &fixture_error));
    bb_run_reset(&run);
    struct bb_tensor first = bb_run_allocate(&run, 3, 5, BB_F32), second = bb_run_allocate(&run, 1, 17, BB_F32);
    assert_int_equal((uintptr_t)first.data % 64, 0);
    assert_ptr_equal((char *)second.data, (char *)first.data + 64);
    assert_int_equal(run.status, BOMBUS_OK);
    assert_null(bb_run_allocate(&run, 1, 1, BB_F32).data);
    assert_int_equal(run.status, BOMBUS_ERROR_MEMORY);
    assert_null(bb_run_allocate(&run, 0, 0, BB_F32).data);
    bb_run_reset(&run);
    assert_int_equal(run.status, BOMBUS_OK);
    assert_null(bb_run_allocate(&run, INT64_MAX, 8, BB_F32).data);
    assert_int_equal(run.status, BOMBUS_ERROR_MEMORY);
    bb_memory_fail_at(1, false);
    assert_int_equal(bb_run_reserve(&run, 10000, &fixture_error), BOMBUS_ERROR_MEMORY);
    bb_memory_fail_at(0, false);
    assert_int_equal(run.scratch_size, 192);
    bb_run_clear(&run);
    bb_backend_close(backend);
}

/* Wrong shapes are sticky errors that name the operation, and touch nothing. */
static void test_errors_are_sticky(void **state)
{
    (void)state;
    struct fixture f;
    make_fixture(&f);
    struct bb_backend *backend = open_cpu(NULL, 1);
    struct bb_run run;
    open_run(&run, backend, true);
    struct bb_tensor x = matrix(f.x, ROWS, HIDDEN), narrow = matrix(f.x, ROWS, HIDDEN - 1);
    for (int i = 0; i < 13; i++) {
        struct bb_attention_shape shape = {.heads = HEADS, .kv_heads = KV_HEADS, .head_dim = HEAD_DIM, .scale = 1.0f};
        struct bb_attention_input_call input = {
            .q = &f.q, .k = &f.k, .v = &f.v, .batch = &f.batch, .cache = &f.view, .x = x};
        struct bb_gated_input_call gated = {.gate = &f.gate, .up = &f.up, .x = x};
        struct bb_kv_view wrong_view = f.view;
        bombus_status expected = BOMBUS_ERROR_ARGUMENT;
        bb_run_reset(&run);
        switch (i) {
        case 0: bb_op_linear(&run, &f.q, narrow); break;
        case 1: bb_op_linear_add(&run, &f.down, x, x, 1.0f); break;
        case 2: bb_op_add(&run, x, narrow, 1.0f); break;
        case 3: bb_op_add(&run, x, matrix(f.x, ROWS - 1, HIDDEN), 1.0f); break;
        case 4: bb_op_norm(&run, &f.q_whole_norm, x); break;
        case 5:
            input.k = &f.q;
            bb_op_attention_input(&run, &input);
            break;
        case 6:
            input.x = narrow;
            bb_op_attention_input(&run, &input);
            break;
        case 7:
            shape.kv_heads = 3;
            bb_op_attention(&run, &shape, &f.view, matrix(f.x, ROWS, HEADS * HEAD_DIM), &f.batch);
            break;
        case 8:
            wrong_view.page_size = 48;
            bb_op_attention(&run, &shape, &wrong_view, matrix(f.x, ROWS, HEADS * HEAD_DIM), &f.batch);
            break;
        case 9:
            wrong_view.type = BB_KV_Q8;
            wrong_view.group_size = 64;
            expected = BOMBUS_ERROR_UNSUPPORTED;
            bb_op_attention(&run, &shape, &wrong_view, matrix(f.x, ROWS, HEADS * HEAD_DIM), &f.batch);
            break;
        case 10:
            gated.up = &f.down;
            bb_op_gated_input(&run, &gated);
            break;
        case 11: bb_op_experts(&run, &f.experts, BB_ROUTE_SOFTMAX_TOP, matrix(f.logits, ROWS, EXPERTS - 1), x); break;
        case 12: /* groups of a size that kernels do not take */
            wrong_view.type = BB_KV_Q4;
            wrong_view.group_size = 16;
            expected = BOMBUS_ERROR_UNSUPPORTED;
            bb_op_attention(&run, &shape, &wrong_view, matrix(f.x, ROWS, HEADS * HEAD_DIM), &f.batch);
            break;
        }
        assert_int_equal(run.status, expected);
        assert_true(run.error.message[0] != '\0');
        float before = f.x[0];
        bb_op_scale(&run, x, 2.0f, 0.0f);
        bb_op_add(&run, x, x, 1.0f);
        assert_true(f.x[0] == before);
        assert_int_equal(run.status, expected);
    }
    bb_run_clear(&run);
    bb_backend_close(backend);
    free_fixture(&f);
}

/* A step as the model makes it. */
static void step(struct bb_run *run, struct fixture *f)
{
    struct bb_attention_shape shape = {.heads = HEADS, .kv_heads = KV_HEADS, .head_dim = HEAD_DIM, .scale = 0.2f};
    bb_run_reset(run);
    struct bb_tensor x = bb_run_allocate(run, ROWS, HIDDEN, BB_F32);
    if (run->status == BOMBUS_OK && !run->is_measuring)
        memcpy(x.data, f->x, sizeof f->x);
    const struct bb_attention_input_call input = {.norm = &f->norm,
                                                  .q = &f->q,
                                                  .k = &f->k,
                                                  .v = &f->v,
                                                  .rope = &f->rope,
                                                  .batch = &f->batch,
                                                  .cache = &f->view,
                                                  .x = x};
    struct bb_tensor q = bb_op_attention_input(run, &input);
    bb_op_attention(run, &shape, &f->view, q, &f->batch);
    const struct bb_gated_input_call gated = {
        .norm = &f->norm, .gate = &f->gate, .up = &f->up, .activation = BB_SILU, .x = x};
    bb_op_linear_add(run, &f->down, bb_op_gated_input(run, &gated), x, 1.0f);
    struct bb_tensor mixed = bb_op_experts(run, &f->experts, BB_ROUTE_TOP_SOFTMAX, matrix(f->logits, ROWS, EXPERTS), x);
    bb_op_add(run, x, mixed, 1.0f);
    bb_op_scale(run, x, 1.0f, 30.0f);
}

static void test_steps_allocate_nothing(void **state)
{
    (void)state;
    struct fixture f;
    make_fixture(&f);
    struct bb_backend *backend = open_cpu(NULL, 2);
    struct bb_run run;
    bb_run_init(&run, backend, false);
    run.is_measuring = true;
    step(&run, &f);
    assert_int_equal(run.status, BOMBUS_OK);
    size_t peak = run.scratch_peak;
    run.is_measuring = false;
    CHECK_STATUS(bb_run_reserve(&run, peak, &fixture_error));
    /* The first step grows the backend's scratch memory: each allocation of it may fail, and the next try gets on. */
    int failures = 0;
    for (uint64_t n = 1;; n++) {
        bb_memory_fail_at(1, false);
        step(&run, &f);
        bb_memory_fail_at(0, false);
        if (run.status == BOMBUS_OK)
            break;
        assert_int_equal(run.status, BOMBUS_ERROR_MEMORY);
        failures++;
        bb_memory_fail_at(n + 1, true);
        step(&run, &f);
        bb_memory_fail_at(0, false);
    }
    assert_true(failures > 0);
    step(&run, &f);
    assert_int_equal(run.status, BOMBUS_OK);
    assert_true(run.scratch_peak <= peak);
    uint64_t before = bb_memory_count();
    for (int i = 0; i < 100; i++)
        step(&run, &f);
    assert_int_equal(run.status, BOMBUS_OK);
    assert_int_equal(bb_memory_count(), before);
    bb_run_clear(&run);
    bb_backend_close(backend);
    free_fixture(&f);
}

/* A run of its own, with a cache of its own, over a shared backend. */
struct concurrent {
    struct fixture f;
    struct bb_backend *backend;
    float expected[ROWS * HIDDEN];
    int wrong;
};

static void *run_steps(void *argument)
{
    struct concurrent *own = argument;
    struct bb_run run;
    bombus_error error;
    bb_run_init(&run, own->backend, false);
    own->wrong += bb_run_reserve(&run, 8 << 20, &error) != BOMBUS_OK;
    for (int i = 0; i < 60; i++) {
        step(&run, &own->f);
        own->wrong += run.status != BOMBUS_OK;
        /* The step's x is its first output; what it held is the sum of all parts. */
        if (i == 0)
            memcpy(own->expected, run.scratch, sizeof own->expected);
        own->wrong += memcmp(own->expected, run.scratch, sizeof own->expected) != 0;
    }
    bb_run_clear(&run);
    return NULL;
}

static void test_runs_share_a_backend(void **state)
{
    (void)state;
    enum { RUNS = 3 };
    static struct concurrent runs[RUNS], alone;
    pthread_t threads[RUNS];
    struct bb_backend *backend = open_cpu(NULL, 2);
    make_fixture(&alone.f);
    alone.backend = backend;
    run_steps(&alone);
    for (int i = 0; i < RUNS; i++) {
        runs[i].backend = backend;
        make_fixture(&runs[i].f);
        assert_int_equal(pthread_create(&threads[i], NULL, run_steps, &runs[i]), 0);
    }
    for (int i = 0; i < RUNS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(runs[i].wrong, 0);
        assert_memory_equal(runs[i].expected, alone.expected, sizeof alone.expected);
        free_fixture(&runs[i].f);
    }
    free_fixture(&alone.f);
    bb_backend_close(backend);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_composites_are_their_expansions),
        cmocka_unit_test(test_experts),
        cmocka_unit_test(test_run_counts_memory),
        cmocka_unit_test(test_errors_are_sticky),
        cmocka_unit_test(test_steps_allocate_nothing),
        cmocka_unit_test(test_runs_share_a_backend),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
