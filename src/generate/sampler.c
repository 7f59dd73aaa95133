/* The chain of sampler.h. Between filters the surviving tokens are either all of the row ("dense": `logits`, with
 * removed ones at -infinity) or a selection of a few; every filter but xtc makes a selection of a dense row. Scores are
 * logits, not log-probabilities: the filters compare differences only, so the normalizer is computed just for those
 * that need it. */
#include "generate/sampler.h"
#include "base/memory.h"
#include "base/random.h"

#include <math.h>
#include <string.h>

enum { DEFAULT_CONTEXT = 20, LIKELY_TOKENS = 1000 };
static const float default_xtc_threshold = 0.1f;
static const float least_temperature = 1e-30f; /* below it, dividing would overflow: greedy */

struct bb_sampler {
    bombus_sampler_options options; /* its pointers are copies of ours */
    int32_t vocab_size;
    float *logits;  /* [vocab_size]: a copy of the row, once something changes it */
    uint8_t *marks; /* [vocab_size], zero between calls: tokens that a penalty has met */
    struct bb_selection selection;
    const float *row; /* the dense row of the present draw */
    float maximum;
    bool is_dense;
};

static bombus_status out_of_range(bombus_error *error, const char *option, double value, const char *expected)
{
    return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: %g, expected %s", option, value, expected);
}

static bombus_status check_options(const bombus_sampler_options *options, int32_t vocab_size, bombus_error *error)
{
    const struct {
        const char *name;
        double value, maximum;
        const char *expected;
    } ranges[] = {
        {"temperature", (double)options->temperature, HUGE_VAL, "a number >= 0"},
        {"top_p", (double)options->top_p, HUGE_VAL, "a number >= 0 (0 or >= 1: off)"},
        {"top_k", options->top_k, HUGE_VAL, "0 (off) or more"},
        {"min_p", (double)options->min_p, 1.0, "a number in [0, 1]"},
        {"min_tokens_to_keep", options->min_tokens_to_keep, HUGE_VAL, "0 (default 1) or more"},
        {"xtc_probability", (double)options->xtc_probability, 1.0, "a number in [0, 1]"},
        {"xtc_threshold", (double)options->xtc_threshold, 0.5, "a number in [0, 0.5]"},
        {"repetition_penalty", (double)options->repetition_penalty, HUGE_VAL, "a number >= 0"},
        {"repetition_context_size", options->repetition_context_size, HUGE_VAL, "0 (default 20) or more"},
        {"presence_context_size", options->presence_context_size, HUGE_VAL, "0 (default 20) or more"},
        {"frequency_context_size", options->frequency_context_size, HUGE_VAL, "0 (default 20) or more"},
    };
    for (size_t i = 0; i < BB_COUNT(ranges); i++)
        if (!(ranges[i].value >= 0.0 && ranges[i].value <= ranges[i].maximum && isfinite(ranges[i].value)))
            return out_of_range(error, ranges[i].name, ranges[i].value, ranges[i].expected);
    if (!isfinite(options->presence_penalty))
        return out_of_range(error, "presence_penalty", (double)options->presence_penalty, "a finite number");
    if (!isfinite(options->frequency_penalty))
        return out_of_range(error, "frequency_penalty", (double)options->frequency_penalty, "a finite number");
    if (options->logit_bias == NULL && options->logit_bias_count > 0)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "logit_bias: NULL with logit_bias_count %zu",
                       options->logit_bias_count);
    for (size_t i = 0; i < options->logit_bias_count; i++) {
        bombus_logit_bias bias = options->logit_bias[i];
        if (bias.id < 0 || bias.id >= vocab_size)
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "logit_bias: token %d, expected an id in [0, %d)", bias.id,
                           vocab_size);
        if (isnan(bias.bias) || bias.bias == INFINITY)
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "logit_bias: %g for token %d, expected a number",
                           (double)bias.bias, bias.id);
    }
    if (options->xtc_special_tokens == NULL && options->xtc_special_token_count > 0)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "xtc_special_tokens: NULL with xtc_special_token_count %zu",
                       options->xtc_special_token_count);
    return BOMBUS_OK;
}

static bombus_status copy_array(void *copy, const void *array, size_t count, size_t size, bombus_error *error)
{
    void *bytes = bb_allocate(count, size);
    if (bytes == NULL)
        return bb_fail_memory(error, count * size, "the sampler's options");
    if (count > 0)
        memcpy(bytes, array, count * size);
    memcpy(copy, &bytes, sizeof bytes);
    return BOMBUS_OK;
}

static bombus_status fill(struct bb_sampler *sampler, const bombus_sampler_options *options, bombus_error *error)
{
    sampler->options = *options;
    if (options->temperature < least_temperature)
        sampler->options.temperature = 0.0f;
    sampler->options.logit_bias = NULL;
    sampler->options.xtc_special_tokens = NULL;
    bombus_status status = copy_array(&sampler->options.logit_bias, options->logit_bias, options->logit_bias_count,
                                      sizeof *options->logit_bias, error);
    if (status == BOMBUS_OK)
        status = copy_array(&sampler->options.xtc_special_tokens, options->xtc_special_tokens,
                            options->xtc_special_token_count, sizeof *options->xtc_special_tokens, error);
    if (status == BOMBUS_OK)
        status = bb_selection_init(&sampler->selection, sampler->vocab_size, error);
    if (status != BOMBUS_OK)
        return status;
    sampler->logits = bb_allocate((size_t)sampler->vocab_size, sizeof *sampler->logits);
    sampler->marks = bb_allocate((size_t)sampler->vocab_size, sizeof *sampler->marks);
    if (sampler->logits == NULL || sampler->marks == NULL)
        return bb_fail_memory(error, (size_t)sampler->vocab_size * sizeof *sampler->logits, "the sampler");
    return BOMBUS_OK;
}

bombus_status bb_sampler_create(struct bb_sampler **sampler, const bombus_sampler_options *options, int32_t vocab_size,
                                bombus_error *error)
{
    *sampler = NULL;
    bombus_status status = check_options(options, vocab_size, error);
    if (status != BOMBUS_OK)
        return status;
    struct bb_sampler *made = bb_allocate(1, sizeof *made);
    if (made == NULL)
        return bb_fail_memory(error, sizeof *made, "the sampler");
    made->vocab_size = vocab_size;
    status = fill(made, options, error);
    if (status != BOMBUS_OK) {
        bb_sampler_free(made);
        return status;
    }
    *sampler = made;
    return BOMBUS_OK;
}

void bb_sampler_free(struct bb_sampler *sampler)
{
    if (sampler == NULL)
        return;
    bb_release((void *)(uintptr_t)sampler->options.logit_bias);
    bb_release((void *)(uintptr_t)sampler->options.xtc_special_tokens);
    bb_selection_clear(&sampler->selection);
    bb_release(sampler->logits);
    bb_release(sampler->marks);
    bb_release(sampler);
}

/* The tokens that a penalty looks back at. */
struct window {
    const int32_t *tokens;
    size_t count;
};

static struct window look_back(const int32_t *tokens, size_t count, int32_t context_size)
{
    size_t size = context_size == 0 ? DEFAULT_CONTEXT : (size_t)context_size;
    size = size < count ? size : count;
    return (struct window){.tokens = count == 0 ? tokens : tokens + (count - size), .count = size};
}

/* Each token once, however often it stands there: a factor on the logit (away from likely), then a constant off it. */
static void penalize_present(struct bb_sampler *sampler, struct window window, float factor, float constant)
{
    for (size_t i = 0; i < window.count; i++) {
        int32_t id = window.tokens[i];
        if (sampler->marks[id] != 0)
            continue;
        sampler->marks[id] = 1;
        float logit = sampler->logits[id];
        sampler->logits[id] = (logit < 0.0f ? logit * factor : logit / factor) - constant;
    }
    for (size_t i = 0; i < window.count; i++)
        sampler->marks[window.tokens[i]] = 0;
}

const float *bb_sampler_process(struct bb_sampler *sampler, const float *logits, const int32_t *tokens, size_t count)
{
    const bombus_sampler_options *options = &sampler->options;
    bool has_repetition = options->repetition_penalty != 0.0f && options->repetition_penalty != 1.0f;
    bool has_presence = options->presence_penalty != 0.0f, has_frequency = options->frequency_penalty != 0.0f;
    if (options->logit_bias_count == 0 && !has_repetition && !has_presence && !has_frequency)
        return logits;
    memcpy(sampler->logits, logits, (size_t)sampler->vocab_size * sizeof *logits);
    for (size_t i = 0; i < options->logit_bias_count; i++)
        sampler->logits[options->logit_bias[i].id] += options->logit_bias[i].bias;
    if (has_repetition)
        penalize_present(sampler, look_back(tokens, count, options->repetition_context_size),
                         options->repetition_penalty, 0.0f);
    if (has_presence)
        penalize_present(sampler, look_back(tokens, count, options->presence_context_size), 1.0f,
                         options->presence_penalty);
    if (has_frequency) {
        struct window window = look_back(tokens, count, options->frequency_context_size);
        for (size_t i = 0; i < window.count; i++)
            sampler->logits[window.tokens[i]] -= options->frequency_penalty;
    }
    return sampler->logits;
}

/* The random numbers of one position: a stream of its own, indexed by token id; xtc's coin has an index no id has. */
static double uniform_at(uint64_t stream, uint64_t index)
{
    return ((double)(bb_random_at(stream, index) >> 11) + 0.5) * 0x1p-53;
}

/* Keeps the likeliest tokens that make up `top_p` of the mass. They are nearly always among the first thousand. Where
 * not: a token whose probability is below (1 - top_p) / vocab_size cannot be among them, since all such tokens together
 * weigh less than 1 - top_p. */
static void apply_top_p(struct bb_sampler *sampler, float top_p)
{
    struct bb_selection *selection = &sampler->selection;
    double total = bb_logits_sum_exp(sampler->row, sampler->vocab_size, sampler->maximum), mass = (double)top_p * total;
    bb_selection_gather_top(selection, sampler->row, LIKELY_TOKENS);
    if (bb_selection_weigh(selection, sampler->maximum) < mass * 1.0001) {
        double least = (1.0 - (double)top_p) * total / sampler->vocab_size;
        bb_selection_gather(selection, sampler->row, sampler->maximum + (float)log(least) - 1e-3f);
        bb_selection_weigh(selection, sampler->maximum);
    }
    bb_selection_keep_mass(selection, mass);
    sampler->is_dense = false;
}

/* Keeps what is at least min_p times as likely as the likeliest, and at least `keep` tokens. */
static void apply_min_p(struct bb_sampler *sampler, float min_p, int32_t keep)
{
    struct bb_selection *selection = &sampler->selection;
    float bound = sampler->maximum + (float)log((double)min_p);
    if (sampler->is_dense)
        bb_selection_gather(selection, sampler->row, bound);
    int32_t reaching = 0;
    for (int32_t i = 0; i < selection->count; i++)
        reaching += selection->candidates[i].logit >= bound;
    if (reaching < keep && sampler->is_dense)
        bb_selection_gather_top(selection, sampler->row, keep);
    bb_selection_keep_top(selection, reaching > keep ? reaching : keep);
    sampler->is_dense = false;
}

static bool is_special(const bombus_sampler_options *options, int32_t id)
{
    for (size_t i = 0; i < options->xtc_special_token_count; i++)
        if (options->xtc_special_tokens[i] == id)
            return true;
    return false;
}

/* The tokens likelier than the threshold, but the least likely of them, have `logit` above this; +infinity if there is
 * none. */
static float xtc_bound(const struct bb_candidate *candidates, int32_t count, float threshold)
{
    float bound = INFINITY;
    for (int32_t i = 0; i < count; i++)
        if (candidates[i].logit > threshold && candidates[i].logit < bound)
            bound = candidates[i].logit;
    return bound;
}

/* Excludes the top choices: of all tokens above the threshold only the least likely stays. */
static void apply_xtc(struct bb_sampler *sampler)
{
    const bombus_sampler_options *options = &sampler->options;
    struct bb_selection *selection = &sampler->selection;
    float share = options->xtc_threshold > 0.0f ? options->xtc_threshold : default_xtc_threshold;
    double total = 0.0;
    if (sampler->is_dense) {
        total = bb_logits_sum_exp(sampler->row, sampler->vocab_size, sampler->maximum);
    } else {
        for (int32_t i = 0; i < selection->count; i++)
            total += bb_logits_sum_exp(&selection->candidates[i].logit, 1, sampler->maximum);
    }
    float threshold = sampler->maximum + (float)log((double)share * total);
    if (!sampler->is_dense) {
        float bound = xtc_bound(selection->candidates, selection->count, threshold);
        int32_t count = 0;
        for (int32_t i = 0; i < selection->count; i++) {
            selection->candidates[count] = selection->candidates[i];
            count += selection->candidates[i].logit <= bound || is_special(options, selection->candidates[i].id);
        }
        selection->count = count;
        return;
    }
    bb_selection_gather(selection, sampler->row, threshold);
    float bound = xtc_bound(selection->candidates, selection->count, threshold);
    if (sampler->row != sampler->logits)
        memcpy(sampler->logits, sampler->row, (size_t)sampler->vocab_size * sizeof *sampler->logits);
    sampler->row = sampler->logits;
    for (int32_t i = 0; i < selection->count; i++) {
        int32_t id = selection->candidates[i].id;
        if (selection->candidates[i].logit > bound && !is_special(options, id)) {
            sampler->logits[id] = -INFINITY;
            bb_selection_measure_block(selection, sampler->logits, id);
        }
    }
}

static void apply_top_k(struct bb_sampler *sampler, int32_t top_k)
{
    if (sampler->is_dense)
        bb_selection_gather_top(&sampler->selection, sampler->row, top_k);
    bb_selection_keep_top(&sampler->selection, top_k);
    sampler->is_dense = false;
}

/* All filters; afterwards is_dense tells where the survivors are. */
static bombus_status filter(struct bb_sampler *sampler, const float *logits, const int32_t *tokens, size_t count,
                            uint64_t stream, bombus_error *error)
{
    const bombus_sampler_options *options = &sampler->options;
    sampler->row = bb_sampler_process(sampler, logits, tokens, count);
    sampler->is_dense = true;
    int32_t best = bb_logits_argmax(sampler->row, sampler->vocab_size);
    if (best < 0 || !isfinite(sampler->row[best]))
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "the model's logits at position %zu are not numbers", count);
    sampler->maximum = sampler->row[best];
    if (options->temperature == 0.0f) { /* mlx-lm: the likeliest token, no filters */
        sampler->selection.candidates[0] = (struct bb_candidate){.logit = sampler->maximum, .id = best};
        sampler->selection.count = 1;
        sampler->is_dense = false;
        return BOMBUS_OK;
    }
    bool has_top_p = options->top_p > 0.0f && options->top_p < 1.0f;
    bool has_top_k = options->top_k > 0 && options->top_k < sampler->vocab_size;
    if (has_top_p || options->min_p > 0.0f || options->xtc_probability > 0.0f || has_top_k)
        bb_selection_measure(&sampler->selection, sampler->row);
    if (has_top_p)
        apply_top_p(sampler, options->top_p);
    if (options->min_p > 0.0f)
        apply_min_p(sampler, options->min_p, options->min_tokens_to_keep > 1 ? options->min_tokens_to_keep : 1);
    if (options->xtc_probability > 0.0f && uniform_at(stream, UINT64_MAX) <= (double)options->xtc_probability)
        apply_xtc(sampler);
    if (has_top_k)
        apply_top_k(sampler, options->top_k);
    return BOMBUS_OK;
}

/* The state of a draw: the race of exponentials. Each token waits E / weight, E exponential with mean 1, and the first
 * to arrive is drawn: its chance is its share of the weight (Gumbel's trick). */
struct race {
    uint64_t stream;
    double least; /* E / weight of the winner so far */
    int32_t id;
};

/* E = -ln u >= 1 - u, so most tokens lose without a logarithm. */
static inline void enter(struct race *race, int32_t id, float weight)
{
    double u = uniform_at(race->stream, (uint64_t)id);
    if (!(1.0 - u < (double)weight * race->least))
        return;
    double time = -log(u) / (double)weight;
    if (time < race->least) {
        race->least = time;
        race->id = id;
    }
}

static int32_t run_race(const struct bb_sampler *sampler, uint64_t stream)
{
    struct race race = {.stream = stream, .least = HUGE_VAL, .id = -1};
    const struct bb_selection *selection = &sampler->selection;
    float scale = 1.0f / sampler->options.temperature, maximum = -INFINITY, values[BB_LOGITS_BLOCK],
          weights[BB_LOGITS_BLOCK];
    int32_t count = sampler->is_dense ? sampler->vocab_size : selection->count;
    if (sampler->is_dense) {
        maximum = sampler->row[bb_logits_argmax(sampler->row, sampler->vocab_size)];
    } else {
        for (int32_t i = 0; i < count; i++)
            maximum = selection->candidates[i].logit > maximum ? selection->candidates[i].logit : maximum;
    }
    for (int32_t begin = 0; begin < count; begin += BB_LOGITS_BLOCK) {
        int32_t size = count - begin < BB_LOGITS_BLOCK ? count - begin : BB_LOGITS_BLOCK;
        if (!sampler->is_dense)
            for (int32_t i = 0; i < size; i++)
                values[i] = selection->candidates[begin + i].logit;
        bb_logits_exp(weights, sampler->is_dense ? sampler->row + begin : values, size, maximum, scale);
        for (int32_t i = 0; i < size; i++)
            enter(&race, sampler->is_dense ? begin + i : selection->candidates[begin + i].id, weights[i]);
    }
    return race.id;
}

bombus_status bb_sampler_draw(struct bb_sampler *sampler, const float *logits, const int32_t *tokens, size_t count,
                              int32_t *id, bombus_error *error)
{
    if (sampler->options.temperature == 0.0f) {
        *id = bb_logits_argmax(bb_sampler_process(sampler, logits, tokens, count), sampler->vocab_size);
        if (*id < 0)
            return bb_fail(error, BOMBUS_ERROR_FORMAT, "the model's logits at position %zu are not numbers", count);
        return BOMBUS_OK;
    }
    uint64_t stream = bb_random_at(sampler->options.seed, count);
    bombus_status status = filter(sampler, logits, tokens, count, stream, error);
    if (status == BOMBUS_OK)
        *id = run_race(sampler, stream);
    return status;
}

bombus_status bb_sampler_distribution(struct bb_sampler *sampler, const float *logits, const int32_t *tokens,
                                      size_t count, float *out, bombus_error *error)
{
    bombus_status status = filter(sampler, logits, tokens, count, bb_random_at(sampler->options.seed, count), error);
    if (status != BOMBUS_OK)
        return status;
    float scale = sampler->options.temperature == 0.0f ? 1.0f : 1.0f / sampler->options.temperature;
    for (int32_t i = 0; i < sampler->vocab_size; i++)
        out[i] = sampler->is_dense ? sampler->row[i] * scale : -INFINITY;
    if (!sampler->is_dense)
        for (int32_t i = 0; i < sampler->selection.count; i++)
            out[sampler->selection.candidates[i].id] = sampler->selection.candidates[i].logit * scale;
    float normalizer = (float)bb_logits_log_sum_exp(out, sampler->vocab_size);
    for (int32_t i = 0; i < sampler->vocab_size; i++)
        out[i] -= normalizer;
    return BOMBUS_OK;
}
