/* The optimizers' steps. */
#include "train/optimizer.h"

#include "base/memory.h"
#include "train/orthogonalize.h"

#include <math.h>
#include <string.h>

enum { CHUNK = 16384 };

bombus_optimizer_options bb_optimizer_defaults(bombus_optimizer kind)
{
    bombus_optimizer_options options = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    if (kind == BOMBUS_ADAMW || kind == BOMBUS_MUON)
        options.weight_decay = 0.01;
    if (kind == BOMBUS_MUON) {
        options.momentum = 0.95;
        options.nesterov = true;
        options.ns_steps = 5;
    }
    return options;
}

static bool has_second(bombus_optimizer kind)
{
    return kind == BOMBUS_ADAM || kind == BOMBUS_ADAMW;
}

static bombus_status check_range(double value, double least, double below, const char *name, bombus_error *error)
{
    if (value >= least && value < below)
        return BOMBUS_OK;
    return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "optimizer: %s is %g, expected a number in [%g, %g)", name, value, least,
                   below);
}

bombus_status bb_optimizer_check(bombus_optimizer kind, const bombus_optimizer_options *options, bombus_error *error)
{
    if ((int)kind < 0 || kind > BOMBUS_MUON)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "optimizer: %d is not one of adam, adamw, sgd, muon", (int)kind);
    bombus_status status = check_range(options->weight_decay, 0.0, 1e6, "weight_decay", error);
    if (status == BOMBUS_OK)
        status = check_range(options->momentum, 0.0, 1.0, "momentum", error);
    if (status == BOMBUS_OK)
        status = check_range(options->dampening, 0.0, 1.0 + 1e-12, "dampening", error);
    if (status != BOMBUS_OK)
        return status;
    if (kind == BOMBUS_SGD && options->nesterov && (options->momentum <= 0.0 || options->dampening != 0.0))
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "optimizer: nesterov needs a momentum and no dampening");
    if (kind == BOMBUS_MUON && (options->ns_steps < 0 || options->ns_steps > 100))
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "optimizer: ns_steps is %d, expected 0 to 100", options->ns_steps);
    if (options->bias_correction && !has_second(kind))
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "optimizer: bias_correction is of adam and adamw");
    if (!has_second(kind))
        return BOMBUS_OK;
    status = check_range(options->beta1, 0.0, 1.0, "beta1", error);
    if (status == BOMBUS_OK)
        status = check_range(options->beta2, 0.0, 1.0, "beta2", error);
    if (status == BOMBUS_OK)
        status = check_range(options->eps, 0.0, 1.0, "eps", error);
    return status;
}

static bool has_first(bombus_optimizer kind, const bombus_optimizer_options *options)
{
    return kind != BOMBUS_SGD || options->momentum > 0.0;
}

/* Rows and columns in which memory holds a parameter for Muon: the first dimension of the file, and all others. */
static struct bb_matrix_shape matrix_shape(const struct bb_parameter *parameter)
{
    struct bb_matrix_shape shape = {.rows = (size_t)parameter->shape[0]};
    shape.columns = parameter->count / shape.rows;
    if (parameter->rank == 2 && parameter->is_transposed)
        shape = (struct bb_matrix_shape){.rows = shape.columns, .columns = shape.rows};
    return shape;
}

static size_t count_values(const struct bb_parameter *parameters, size_t parameter_count)
{
    size_t count = 0;
    for (size_t i = 0; i < parameter_count; i++)
        count += parameters[i].count;
    return count;
}

static size_t scratch_count(bombus_optimizer kind, const struct bb_parameter *parameters, size_t parameter_count)
{
    size_t most = 0;
    for (size_t i = 0; i < parameter_count && kind == BOMBUS_MUON; i++) {
        size_t count = parameters[i].count;
        if (parameters[i].rank >= 2)
            count += bb_orthogonalize_scratch(matrix_shape(&parameters[i]));
        most = count > most ? count : most;
    }
    return most;
}

size_t bb_optimizer_bytes(bombus_optimizer kind, const bombus_optimizer_options *options,
                          const struct bb_parameter *parameters, size_t parameter_count)
{
    size_t arrays = (has_first(kind, options) ? 1u : 0u) + (has_second(kind) ? 1u : 0u);
    return sizeof(float) *
           (arrays * count_values(parameters, parameter_count) + scratch_count(kind, parameters, parameter_count));
}

bombus_status bb_optimizer_init(struct bb_optimizer *optimizer, bombus_optimizer kind,
                                const bombus_optimizer_options *options, const struct bb_parameter *parameters,
                                size_t parameter_count, struct bb_pool *pool, bombus_error *error)
{
    size_t scratch = scratch_count(kind, parameters, parameter_count);
    *optimizer = (struct bb_optimizer){.kind = kind, .options = *options, .pool = pool};
    optimizer->count = count_values(parameters, parameter_count);
    bool is_made = true;
    if (has_first(kind, options))
        is_made = (optimizer->first = bb_allocate(optimizer->count, sizeof(float))) != NULL;
    if (is_made && has_second(kind))
        is_made = (optimizer->second = bb_allocate(optimizer->count, sizeof(float))) != NULL;
    if (is_made && scratch > 0)
        is_made = (optimizer->scratch = bb_allocate(scratch, sizeof(float))) != NULL;
    if (is_made)
        return BOMBUS_OK;
    bb_optimizer_clear(optimizer);
    return bb_fail_memory(error, bb_optimizer_bytes(kind, options, parameters, parameter_count), "the optimizer's state");
}

void bb_optimizer_clear(struct bb_optimizer *optimizer)
{
    bb_release(optimizer->first);
    bb_release(optimizer->second);
    bb_release(optimizer->scratch);
    *optimizer = (struct bb_optimizer){0};
}

/* ---- entry by entry ---- */

struct update {
    const struct bb_optimizer *optimizer;
    float *values, *first, *second; /* of the parameter */
    const float *gradients;
    float *direction; /* Muon: what is to be made orthogonal */
    size_t count;
    float rate, scale;
    float first_factor, second_factor; /* Adam: rate / (1 - b1^t), 1 / sqrt(1 - b2^t) */
};

static void step_adam(const struct update *update, size_t begin, size_t end)
{
    const bombus_optimizer_options *options = &update->optimizer->options;
    const float beta1 = (float)options->beta1, beta2 = (float)options->beta2, eps = (float)options->eps;
    const float rest1 = (float)(1.0 - options->beta1), rest2 = (float)(1.0 - options->beta2);
    const bool decays = update->optimizer->kind == BOMBUS_ADAMW;
    const float keep = decays ? 1.0f - update->rate * (float)options->weight_decay : 1.0f;
    float *values = update->values, *first = update->first, *second = update->second;
    for (size_t i = begin; i < end; i++) {
        float gradient = update->gradients[i] * update->scale;
        first[i] = beta1 * first[i] + rest1 * gradient;
        second[i] = beta2 * second[i] + rest2 * (gradient * gradient);
        values[i] = values[i] * keep -
                    update->first_factor * first[i] / (sqrtf(second[i]) * update->second_factor + eps);
    }
}

static void step_sgd(const struct update *update, size_t begin, size_t end)
{
    const bombus_optimizer_options *options = &update->optimizer->options;
    const float decay = (float)options->weight_decay, momentum = (float)options->momentum;
    const float rest = (float)(1.0 - options->dampening);
    float *values = update->values, *first = update->first;
    for (size_t i = begin; i < end; i++) {
        float gradient = update->gradients[i] * update->scale + decay * values[i], change = gradient;
        if (first != NULL) {
            first[i] = momentum * first[i] + rest * gradient;
            change = options->nesterov ? gradient + momentum * first[i] : first[i];
        }
        values[i] -= update->rate * change;
    }
}

static void step_muon(const struct update *update, size_t begin, size_t end)
{
    const bombus_optimizer_options *options = &update->optimizer->options;
    const float decay = (float)options->weight_decay, momentum = (float)options->momentum;
    const float rest = (float)(1.0 - options->momentum);
    float *first = update->first;
    for (size_t i = begin; i < end; i++) {
        float gradient = update->gradients[i] * update->scale + decay * update->values[i];
        first[i] = momentum * first[i] + rest * gradient;
        update->direction[i] = options->nesterov ? gradient * rest + first[i] * momentum : first[i];
    }
}

static void subtract_direction(const struct update *update, size_t begin, size_t end)
{
    for (size_t i = begin; i < end; i++)
        update->values[i] -= update->rate * update->direction[i];
}

struct job {
    const struct update *update;
    void (*step)(const struct update *update, size_t begin, size_t end);
};

static void run_chunk(void *context, int32_t chunk, int32_t worker)
{
    (void)worker;
    const struct job *job = context;
    size_t begin = (size_t)chunk * CHUNK, end = begin + CHUNK;
    job->step(job->update, begin, end < job->update->count ? end : job->update->count);
}

static void for_all(const struct update *update, void (*step)(const struct update *, size_t, size_t))
{
    struct job job = {update, step};
    int32_t chunk_count = (int32_t)((update->count + CHUNK - 1) / CHUNK);
    bb_pool_run(update->optimizer->pool, chunk_count, run_chunk, &job);
}

static void update_muon(struct bb_optimizer *optimizer, const struct bb_parameter *parameter, struct update *update)
{
    update->direction = optimizer->scratch;
    for_all(update, step_muon);
    if (parameter->rank >= 2) {
        bb_orthogonalize(optimizer->scratch, matrix_shape(parameter), optimizer->options.ns_steps,
                         optimizer->scratch + parameter->count, optimizer->pool);
        double shape = (double)parameter->shape[parameter->rank - 2] / (double)parameter->shape[parameter->rank - 1];
        update->rate *= (float)sqrt(shape > 1.0 ? shape : 1.0);
    }
    for_all(update, subtract_direction);
}

void bb_optimizer_step(struct bb_optimizer *optimizer, const struct bb_parameter *parameters, size_t parameter_count,
                       double learning_rate, double gradient_scale)
{
    const bombus_optimizer_options *options = &optimizer->options;
    double updates = (double)++optimizer->updates;
    bool is_corrected = has_second(optimizer->kind) && options->bias_correction;
    double correction1 = is_corrected ? 1.0 - pow(options->beta1, updates) : 1.0;
    double correction2 = is_corrected ? 1.0 - pow(options->beta2, updates) : 1.0;
    size_t offset = 0;
    for (size_t i = 0; i < parameter_count; i++) {
        struct update update = {
            .optimizer = optimizer,
            .values = parameters[i].value,
            .gradients = parameters[i].gradient,
            .first = optimizer->first != NULL ? optimizer->first + offset : NULL,
            .second = optimizer->second != NULL ? optimizer->second + offset : NULL,
            .count = parameters[i].count,
            .rate = (float)learning_rate,
            .scale = (float)gradient_scale,
            .first_factor = (float)(learning_rate / correction1),
            .second_factor = (float)(1.0 / sqrt(correction2)),
        };
        if (optimizer->kind == BOMBUS_MUON)
            update_muon(optimizer, &parameters[i], &update);
        else
            for_all(&update, optimizer->kind == BOMBUS_SGD ? step_sgd : step_adam);
        offset += parameters[i].count;
    }
}

/* ---- sums ---- */

enum { SUM_LIMIT = 256 };

struct sum {
    const float *values;
    size_t count, width; /* entries of a part */
    double parts[SUM_LIMIT];
};

static void sum_part(void *context, int32_t chunk, int32_t worker)
{
    (void)worker;
    struct sum *sum = context;
    size_t begin = (size_t)chunk * sum->width, end = begin + sum->width;
    double total = 0.0;
    for (size_t i = begin; i < (end < sum->count ? end : sum->count); i++)
        total += (double)sum->values[i] * (double)sum->values[i];
    sum->parts[chunk] = total;
}

double bb_sum_squares(struct bb_pool *pool, const float *values, size_t count)
{
    struct sum sum = {.values = values, .count = count};
    sum.width = count / SUM_LIMIT + 1 > CHUNK ? count / SUM_LIMIT + 1 : CHUNK;
    int32_t part_count = (int32_t)((count + sum.width - 1) / sum.width);
    bb_pool_run(pool, part_count, sum_part, &sum);
    double total = 0.0;
    for (int32_t i = 0; i < part_count; i++)
        total += sum.parts[i];
    return total;
}
