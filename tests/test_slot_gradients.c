/* Gradient slots of every level against differences of the forward slots of the reference level. */
#include "test.h"

#include "backend/cpu/kernels/kernels.h"
#include "backend_fixture.h"
#include "slope.h"

enum { MOST = 60 }; /* entries checked of one input */

static const double TOLERANCE = 1e-3;

/* ---- norm, rope, gather ---- */

struct row_case {
    struct bb_backend *reference;
    struct bb_norm norm;
    struct bb_rope rope;
    struct bb_batch batch;
    const int32_t *rows;
    int32_t row_count;
    float x[240], out[240], d_out[240];
};

static double norm_value(void *context)
{
    struct row_case *given = context;
    CHECK_STATUS(given->reference->table->norm(given->reference, &given->norm, matrix(given->x, 3, 80), matrix(given->out, 3, 80), &fixture_error));
    return dot(given->out, given->d_out, 240);
}

static void check_norm(struct bb_backend *reference, struct bb_backend *backend)
{
    static struct row_case given;
    static const int32_t sizes[] = {40, 80};
    static float weight[80];
    for (int i = 0; i < 4; i++) { /* over heads and over rows; as they are and with 1 added */
        float d_x[240], d_weight[80] = {0};
        given = (struct row_case){.reference = reference};
        fill_random(given.x, 240, 1, 1.0f);
        fill_random(given.d_out, 240, 2, 1.0f);
        fill_random(weight, 80, 3, 1.0f);
        given.norm = (struct bb_norm){.weight = weight, .dtype = BB_F32, .size = sizes[i % 2], .eps = 1e-2f, .is_plus_one = i / 2 == 1};
        const struct bb_norm_grad_call call = {.norm = &given.norm,
                                               .x = matrix(given.x, 3, 80),
                                               .d_out = matrix(given.d_out, 3, 80),
                                               .d_x = matrix(d_x, 3, 80),
                                               .d_weight = d_weight};
        CHECK_STATUS(backend->table->norm_grad(backend, &call, &fixture_error));
        check_slopes(norm_value, &given, &(struct slope_input){"norm x", given.x, d_x, 240}, 1e-2f, TOLERANCE, MOST);
        check_slopes(norm_value, &given, &(struct slope_input){"norm weight", weight, d_weight, (size_t)sizes[i % 2]}, 1e-2f, TOLERANCE, MOST);
    }
}

static void test_norm(void **state)
{
    (void)state;
    on_levels(check_norm);
}

static double rope_value(void *context)
{
    struct row_case *given = context;
    memcpy(given->out, given->x, sizeof given->out);
    CHECK_STATUS(given->reference->table->rope(given->reference, &given->rope, 2, matrix(given->out, 3, 80), &given->batch, &fixture_error));
    return dot(given->out, given->d_out, 240);
}

static void check_rope(struct bb_backend *reference, struct bb_backend *backend)
{
    static struct row_case given;
    static const int32_t positions[] = {3, 4, 71}, dims[] = {40, 24};
    float frequencies[20], d_x[240];
    for (int i = 0; i < 20; i++)
        frequencies[i] = powf(10000.0f, -(float)i / 20.0f);
    const struct bb_span spans[] = {{.row_count = 2, .first_position = 3}, {.first_row = 2, .row_count = 1, .first_position = 71, .sequence = 1}};
    for (int i = 0; i < 4; i++) { /* whole heads and their beginnings; both orders of pairs */
        given = (struct row_case){.reference = reference};
        given.batch = (struct bb_batch){.row_count = 3, .positions = positions, .span_count = 2, .spans = spans};
        given.rope = (struct bb_rope){.inverse_frequencies = frequencies, .dims = dims[i % 2], .amplitude = 1.25f, .is_traditional = i / 2 == 1};
        fill_random(given.x, 240, 1, 1.0f);
        fill_random(given.d_out, 240, 2, 1.0f);
        memcpy(d_x, given.d_out, sizeof d_x);
        CHECK_STATUS(backend->table->rope_grad(backend, &given.rope, 2, matrix(d_x, 3, 80), &given.batch, &fixture_error));
        check_slopes(rope_value, &given, &(struct slope_input){"rope x", given.x, d_x, 240}, 0.1f, TOLERANCE, 240);
    }
}

static void test_rope(void **state)
{
    (void)state;
    on_levels(check_rope);
}

static double gather_value(void *context)
{
    struct row_case *given = context;
    CHECK_STATUS(given->reference->table->gather(given->reference, matrix(given->x, 6, 40), given->rows, given->row_count,
                                                 matrix(given->out, given->row_count, 40), &fixture_error));
    return dot(given->out, given->d_out, (size_t)given->row_count * 40);
}

static void check_gather(struct bb_backend *reference, struct bb_backend *backend)
{
    static struct row_case given;
    static const int32_t rows[] = {1, 2, 5};
    float d_x[240];
    given = (struct row_case){.reference = reference, .rows = rows, .row_count = 3};
    fill_random(given.x, 240, 1, 1.0f);
    fill_random(given.d_out, 240, 2, 1.0f);
    memset(d_x, 0xFF, sizeof d_x); /* NaN, to be written over */
    CHECK_STATUS(backend->table->gather_grad(backend, matrix(given.d_out, 3, 40), rows, 3, matrix(d_x, 6, 40), &fixture_error));
    check_slopes(gather_value, &given, &(struct slope_input){"gather x", given.x, d_x, 240}, 0.1f, TOLERANCE, 240);
}

static void test_gather(void **state)
{
    (void)state;
    on_levels(check_gather);
}

/* ---- attention ---- */

struct attention_probe {
    struct bb_backend *reference;
    struct attention_data data;
    float *d_out;
};

static double attention_value(void *context)
{
    struct attention_probe *probe = context;
    run_attention(&probe->data, probe->reference, 0, probe->data.length, probe->data.length);
    return dot(probe->data.out, probe->d_out, probe->data.q_count);
}

static void check_attention_case(struct bb_backend *reference, struct bb_backend *backend, const struct attention_case *given)
{
    struct attention_probe probe = {.reference = reference};
    create_attention(&probe.data, given);
    struct attention_data *data = &probe.data;
    const int64_t rows = given->length, q_width = given->heads * given->head_dim, kv_width = given->kv_heads * given->head_dim;
    float *memory = malloc((2 * data->q_count + 2 * data->kv_count) * sizeof *memory);
    float *d_q = memory, *d_k = d_q + data->q_count, *d_v = d_k + data->kv_count;
    probe.d_out = d_v + data->kv_count;
    fill_random(probe.d_out, data->q_count, 4, 1.0f);
    (void)attention_value(&probe);
    const struct bb_span span = {.row_count = given->length};
    const struct bb_batch batch = {.row_count = given->length, .positions = data->positions, .span_count = 1, .spans = &span};
    const struct bb_attention_grad_call call = {.shape = &data->shape,
                                                .window = given->window,
                                                .batch = &batch,
                                                .q = matrix(data->q, rows, q_width),
                                                .k = matrix(data->k, rows, kv_width),
                                                .v = matrix(data->v, rows, kv_width),
                                                .out = matrix(data->out, rows, q_width),
                                                .d_out = matrix(probe.d_out, rows, q_width),
                                                .d_q = matrix(d_q, rows, q_width),
                                                .d_k = matrix(d_k, rows, kv_width),
                                                .d_v = matrix(d_v, rows, kv_width)};
    CHECK_STATUS(backend->table->attention_grad(backend, &call, &fixture_error));
    check_slopes(attention_value, &probe, &(struct slope_input){"attention q", data->q, d_q, data->q_count}, 2e-2f, TOLERANCE, MOST);
    check_slopes(attention_value, &probe, &(struct slope_input){"attention k", data->k, d_k, data->kv_count}, 2e-2f, TOLERANCE, MOST);
    check_slopes(attention_value, &probe, &(struct slope_input){"attention v", data->v, d_v, data->kv_count}, 2e-2f, TOLERANCE, MOST);
    free(memory);
    free_attention(data);
}

static void check_attention(struct bb_backend *reference, struct bb_backend *backend)
{
    static const struct attention_case cases[] = {
        {.heads = 2, .kv_heads = 2, .head_dim = 16, .length = 19},
        {.heads = 6, .kv_heads = 2, .head_dim = 12, .length = 53}, /* more rows than a tile */
        {.heads = 4, .kv_heads = 1, .head_dim = 16, .length = 53, .window = 7},
        {.heads = 4, .kv_heads = 2, .head_dim = 16, .length = 21, .has_sinks = true},
        {.heads = 4, .kv_heads = 2, .head_dim = 16, .length = 21, .softcap = 2.0f},
        {.heads = 4, .kv_heads = 2, .head_dim = 20, .length = 53, .window = 5, .softcap = 3.0f, .has_sinks = true},
    };
    for (size_t i = 0; i < BB_COUNT(cases); i++)
        check_attention_case(reference, backend, &cases[i]);
}

static void test_attention(void **state)
{
    (void)state;
    on_levels(check_attention);
}

/* ---- routes and experts ---- */

enum { EXPERTS = 5, CHOSEN = 2, X_ROWS = 7, HIDDEN = 24, WIDTH = 16, RANK = 3, SLOTS = 3 * EXPERTS };

struct mixture {
    struct bb_backend *reference;
    enum bb_routing routing;
    float dropout;
    float logits[X_ROWS * EXPERTS], x[X_ROWS * HIDDEN], weights[X_ROWS * CHOSEN], out[X_ROWS * HIDDEN], d_out[X_ROWS * HIDDEN];
    int32_t indices[X_ROWS * CHOSEN], chosen[X_ROWS * CHOSEN];
    float values[SLOTS * HIDDEN * WIDTH], trained[SLOTS * RANK * (HIDDEN + WIDTH)];
    struct bb_linear linears[SLOTS];
    struct bb_low_rank pairs[SLOTS];
    struct bb_adapter_use use;
    struct bb_adapter_set set;
    const struct bb_adapter_set *adapters[X_ROWS];
    struct bb_experts experts;
};

static struct bb_tensor indices_of(struct mixture *mixture)
{
    return (struct bb_tensor){.data = mixture->indices, .shape = {X_ROWS, CHOSEN, 1, 1}, .dtype = BB_I32};
}

static double route_value(void *context)
{
    struct mixture *mixture = context;
    CHECK_STATUS(mixture->reference->table->route(mixture->reference, mixture->routing, matrix(mixture->logits, X_ROWS, EXPERTS), indices_of(mixture),
                                                  matrix(mixture->weights, X_ROWS, CHOSEN), &fixture_error));
    assert_memory_equal(mixture->indices, mixture->chosen, sizeof mixture->chosen);
    return dot(mixture->weights, mixture->d_out, X_ROWS * CHOSEN);
}

/* Logits far enough from one another that no step changes the choice. */
static void choose(struct mixture *mixture)
{
    for (int32_t i = 0; i < X_ROWS * EXPERTS; i++)
        mixture->logits[i] = 0.4f * (float)((i * 7 + i / EXPERTS * 3) % EXPERTS) - 0.3f * (float)(i / EXPERTS % 3);
    CHECK_STATUS(mixture->reference->table->route(mixture->reference, mixture->routing, matrix(mixture->logits, X_ROWS, EXPERTS), indices_of(mixture),
                                                  matrix(mixture->weights, X_ROWS, CHOSEN), &fixture_error));
    memcpy(mixture->chosen, mixture->indices, sizeof mixture->chosen);
}

static void check_route(struct bb_backend *reference, struct bb_backend *backend)
{
    static struct mixture mixture;
    for (enum bb_routing routing = BB_ROUTE_SOFTMAX_TOP; routing <= BB_ROUTE_TOP_SOFTMAX; routing++) {
        float d_logits[X_ROWS * EXPERTS];
        mixture = (struct mixture){.reference = reference, .routing = routing};
        choose(&mixture);
        fill_random(mixture.d_out, X_ROWS * CHOSEN, 5, 1.0f);
        CHECK_STATUS(backend->table->route_grad(backend, routing, matrix(mixture.logits, X_ROWS, EXPERTS), indices_of(&mixture),
                                                matrix(mixture.weights, X_ROWS, CHOSEN), matrix(mixture.d_out, X_ROWS, CHOSEN),
                                                matrix(d_logits, X_ROWS, EXPERTS), &fixture_error));
        check_slopes(route_value, &mixture, &(struct slope_input){"route logits", mixture.logits, d_logits, X_ROWS * EXPERTS}, 3e-2f, TOLERANCE, 99);
    }
}

static void test_route(void **state)
{
    (void)state;
    on_levels(check_route);
}

static struct bb_experts_call experts_call(struct mixture *mixture)
{
    return (struct bb_experts_call){.experts = &mixture->experts,
                                    .x = matrix(mixture->x, X_ROWS, HIDDEN),
                                    .indices = indices_of(mixture),
                                    .weights = matrix(mixture->weights, X_ROWS, CHOSEN),
                                    .out = matrix(mixture->out, X_ROWS, HIDDEN),
                                    .is_exact = true,
                                    .adapters = mixture->adapters,
                                    .use_limit = 1,
                                    .dropout = mixture->dropout,
                                    .seed = 21};
}

static double experts_value(void *context)
{
    struct mixture *mixture = context;
    const struct bb_experts_call call = experts_call(mixture);
    CHECK_STATUS(mixture->reference->table->experts(mixture->reference, &call, &fixture_error));
    return dot(mixture->out, mixture->d_out, X_ROWS * HIDDEN);
}

/* Plain weights; a pair at each projection, for all rows but two. */
static void fill_mixture(struct mixture *mixture)
{
    float *trained = mixture->trained;
    fill_random(mixture->values, BB_COUNT(mixture->values), 1, 0.5f);
    fill_random(mixture->trained, BB_COUNT(mixture->trained), 2, 0.5f);
    fill_random(mixture->x, X_ROWS * HIDDEN, 3, 1.0f);
    fill_random(mixture->d_out, X_ROWS * HIDDEN, 4, 1.0f);
    for (int32_t i = 0; i < SLOTS; i++) {
        const int64_t rows = i < 2 * EXPERTS ? WIDTH : HIDDEN, cols = i < 2 * EXPERTS ? HIDDEN : WIDTH;
        mixture->linears[i] = (struct bb_linear){
            .weight = {.data = mixture->values + (ptrdiff_t)i * HIDDEN * WIDTH, .dtype = BB_F32, .rows = rows, .cols = cols}, .slot = i};
        mixture->pairs[i] = (struct bb_low_rank){.a = trained, .b = trained + RANK * cols, .b_stride = rows, .rank = RANK, .scale = 1.5f};
        trained += RANK * (rows + cols);
    }
    mixture->use = (struct bb_adapter_use){.pairs = mixture->pairs, .slot_count = SLOTS, .weight = 1.0f};
    mixture->set = (struct bb_adapter_set){.uses = &mixture->use, .count = 1};
    for (int32_t i = 0; i < X_ROWS; i++)
        mixture->adapters[i] = i == 2 || i == 3 ? NULL : &mixture->set;
    mixture->experts = (struct bb_experts){.count = EXPERTS,
                                           .per_token = CHOSEN,
                                           .gate = mixture->linears,
                                           .up = mixture->linears + EXPERTS,
                                           .down = mixture->linears + 2 * EXPERTS,
                                           .activation = BB_SILU};
}

static void check_experts_with(struct bb_backend *reference, struct bb_backend *backend, float dropout)
{
    static struct mixture mixture;
    static float gradients[BB_COUNT(mixture.trained)], d_x[X_ROWS * HIDDEN], d_weights[X_ROWS * CHOSEN];
    mixture = (struct mixture){.reference = reference, .routing = BB_ROUTE_TOP_SOFTMAX, .dropout = dropout};
    fill_mixture(&mixture);
    choose(&mixture);
    memset(gradients, 0, sizeof gradients);
    const struct bb_experts_grad_call call = {
        .forward = experts_call(&mixture),
        .d_out = matrix(mixture.d_out, X_ROWS, HIDDEN),
        .d_x = matrix(d_x, X_ROWS, HIDDEN),
        .d_weights = matrix(d_weights, X_ROWS, CHOSEN),
        .trained = {.values = mixture.trained, .gradients = gradients, .count = BB_COUNT(mixture.trained)}};
    CHECK_STATUS(backend->table->experts_grad(backend, &call, &fixture_error));
    check_slopes(experts_value, &mixture, &(struct slope_input){"experts x", mixture.x, d_x, X_ROWS * HIDDEN}, 3e-2f, TOLERANCE, MOST);
    check_slopes(experts_value, &mixture, &(struct slope_input){"experts weights", mixture.weights, d_weights, X_ROWS * CHOSEN}, 3e-2f, TOLERANCE, MOST);
    check_slopes(experts_value, &mixture, &(struct slope_input){"experts pairs", mixture.trained, gradients, BB_COUNT(gradients)}, 3e-2f, TOLERANCE, 300);
}

static void check_experts(struct bb_backend *reference, struct bb_backend *backend)
{
    check_experts_with(reference, backend, 0.0f);
    check_experts_with(reference, backend, 0.4f);
}

static void test_experts(void **state)
{
    (void)state;
    on_levels(check_experts);
}

/* W x + scale * B (A dropout(x)) of one row at one projection of an expert. */
static void multiply_plainly(struct mixture *mixture, int32_t slot, int64_t row, const double *x, double *out)
{
    const struct bb_linear *linear = &mixture->linears[slot];
    const struct bb_low_rank *pair = &mixture->pairs[slot];
    const int64_t rows = linear->weight.rows, cols = linear->weight.cols;
    static float ones[X_ROWS * HIDDEN], mask[X_ROWS * HIDDEN];
    for (int64_t i = 0; i < X_ROWS * cols; i++)
        ones[i] = 1.0f;
    CHECK_STATUS(mixture->reference->table->dropout(mixture->reference, matrix(ones, X_ROWS, cols), mixture->dropout,
                                                    21, slot, false, matrix(mask, X_ROWS, cols), &fixture_error));
    for (int64_t i = 0; i < rows; i++) {
        out[i] = 0.0;
        for (int64_t k = 0; k < cols; k++) {
            double delta = 0.0;
            for (int32_t r = 0; r < RANK && mixture->adapters[row] != NULL; r++)
                delta += (double)pair->b[r * rows + i] * (double)pair->a[r * cols + k];
            out[i] += ((double)((const float *)linear->weight.data)[i * cols + k] +
                       (double)pair->scale * delta * (double)mask[row * cols + k]) *
                      x[k];
        }
    }
}

/* mlx-lm's LoRASwitchLinear in gate, up and down of each chosen expert, row by row. */
static void test_experts_dropout(void **state)
{
    static struct mixture mixture;
    struct bb_backend *reference = open_cpu("reference", 1);
    float expected[X_ROWS * HIDDEN];
    (void)state;
    mixture = (struct mixture){.reference = reference, .routing = BB_ROUTE_TOP_SOFTMAX, .dropout = 0.4f};
    fill_mixture(&mixture);
    choose(&mixture);
    for (int64_t row = 0; row < X_ROWS; row++) {
        double sum[HIDDEN] = {0}, x[HIDDEN], gate[WIDTH], up[WIDTH], down[HIDDEN];
        for (int64_t k = 0; k < HIDDEN; k++)
            x[k] = (double)mixture.x[row * HIDDEN + k];
        for (int64_t i = 0; i < CHOSEN; i++) {
            const int32_t expert = mixture.indices[row * CHOSEN + i];
            multiply_plainly(&mixture, expert, row, x, gate);
            multiply_plainly(&mixture, EXPERTS + expert, row, x, up);
            for (int64_t k = 0; k < WIDTH; k++)
                gate[k] *= up[k] / (1.0 + exp(-gate[k]));
            multiply_plainly(&mixture, 2 * EXPERTS + expert, row, gate, down);
            for (int64_t k = 0; k < HIDDEN; k++)
                sum[k] += (double)mixture.weights[row * CHOSEN + i] * down[k];
        }
        for (int64_t k = 0; k < HIDDEN; k++)
            expected[row * HIDDEN + k] = (float)sum[k];
    }
    (void)experts_value(&mixture);
    CHECK_NEAR(mixture.out, expected, X_ROWS * HIDDEN, 1e-4);
    bb_backend_close(reference);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_norm),           cmocka_unit_test(test_rope),
                                       cmocka_unit_test(test_gather),         cmocka_unit_test(test_attention),
                                       cmocka_unit_test(test_route),          cmocka_unit_test(test_experts),
                                       cmocka_unit_test(test_experts_dropout)};
    return cmocka_run_group_tests_name("slot gradients", tests, NULL, NULL);
}
