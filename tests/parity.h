/* Runs a model beside saved reference data (golden/, tests/fixtures/models) and measures how far apart they are. Serves test_parity.c and
 * tools/parity.c. */
#ifndef PARITY_H
#define PARITY_H

#include "base/memory.h"
#include "files/safetensors.h"
#include "model/decoder.h"
#include "ops/backends.h"
#include "ops/run.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A model with a cache and a run: what a session is, without the tokens. */
struct parity_runner {
    struct bb_backend *backend;
    struct bb_model *model;
    struct bb_kv_cache *cache;
    struct bb_run run;
    bombus_error error;
    int32_t *tokens, *positions, *outputs; /* [capacity] */
    int32_t capacity;
};

struct parity_options {
    bool is_exact;
    int32_t kv_bits;
    bool has_kv_type; /* else as bb_kv_cache_choose_type says */
    enum bb_kv_type kv_type;
    int32_t context_size, sequence_count, max_kv_size;
    int32_t thread_count;
    const char *cpu_level;
};

static inline void parity_close(struct parity_runner *runner)
{
    bb_run_clear(&runner->run);
    bb_kv_cache_free(runner->cache);
    bb_model_close(runner->model);
    bb_backend_close(runner->backend);
    free(runner->tokens);
    free(runner->positions);
    free(runner->outputs);
    memset(runner, 0, sizeof *runner);
}

static inline bool parity_open(struct parity_runner *runner, const char *folder, const struct parity_options *options)
{
    memset(runner, 0, sizeof *runner);
    struct bb_backend_options backend_options = { .thread_count = options->thread_count > 0 ? options->thread_count : 1,
                                                  .cpu_level = options->cpu_level };
    struct bb_kv_cache_options cache_options = {
        .type = options->has_kv_type ? options->kv_type : bb_kv_cache_choose_type(options->kv_bits, options->is_exact),
        .sequence_count = options->sequence_count > 0 ? options->sequence_count : 1,
        .context_size = options->context_size > 0 ? options->context_size : 512,
        .max_kv_size = options->max_kv_size,
    };
    runner->capacity = cache_options.context_size * cache_options.sequence_count;
    runner->tokens = calloc((size_t)runner->capacity, sizeof *runner->tokens);
    runner->positions = calloc((size_t)runner->capacity, sizeof *runner->positions);
    runner->outputs = calloc((size_t)runner->capacity, sizeof *runner->outputs);
    bombus_status status = bb_backend_open(&runner->backend, "cpu", &backend_options, &runner->error);
    if (status == BOMBUS_OK) {
        bb_run_init(&runner->run, runner->backend, options->is_exact);
        status = bb_model_open(&runner->model, folder, runner->backend, &runner->error);
    }
    if (status == BOMBUS_OK)
        status = bb_kv_cache_create(&runner->cache, &runner->model->recipe, runner->backend, &cache_options, &runner->error);
    return status == BOMBUS_OK;
}

/* Feeds spans (sequence and row_count filled in; tokens behind one another), with logits of every row or of each span's last. Gives the logits,
 * [rows or spans, vocab_size], valid until the next step; NULL after an error. */
static inline const float *parity_step(struct parity_runner *runner, struct bb_span *spans, int32_t span_count, const int32_t *tokens,
                                       bool wants_all)
{
    struct bb_batch batch = { .tokens = tokens, .positions = runner->positions, .span_count = span_count, .spans = spans,
                              .output_rows = runner->outputs };
    for (int32_t i = 0; i < span_count; i++) {
        spans[i].first_row = batch.row_count;
        spans[i].first_position = bb_kv_cache_length(runner->cache, spans[i].sequence);
        if (bb_kv_cache_reserve(runner->cache, spans[i].sequence, spans[i].row_count, &runner->error) != BOMBUS_OK)
            return NULL;
        for (int32_t j = 0; j < spans[i].row_count; j++) {
            runner->positions[batch.row_count] = spans[i].first_position + j;
            if (wants_all || j == spans[i].row_count - 1)
                runner->outputs[batch.output_count++] = batch.row_count;
            batch.row_count++;
        }
    }
    struct bb_tensor logits = {0};
    for (int pass = 0; pass < 2; pass++) {
        bb_run_reset(&runner->run);
        runner->run.is_measuring = pass == 0;
        runner->run.scratch_peak = 0;
        logits = bb_decoder_forward(&runner->run, runner->model, runner->cache, &batch);
        runner->run.is_measuring = false;
        if (runner->run.status == BOMBUS_OK && pass == 0)
            runner->run.status = bb_run_reserve(&runner->run, runner->run.scratch_peak, &runner->run.error);
        if (runner->run.status != BOMBUS_OK) {
            runner->error = runner->run.error;
            return NULL;
        }
    }
    for (int32_t i = 0; i < span_count; i++)
        bb_kv_cache_advance(runner->cache, spans[i].sequence, spans[i].row_count);
    return logits.data;
}

static inline const float *parity_feed(struct parity_runner *runner, const int32_t *tokens, int32_t count, bool wants_all)
{
    struct bb_span span = { .row_count = count };
    return parity_step(runner, &span, 1, tokens, wants_all);
}

static inline bool parity_restart(struct parity_runner *runner)
{
    return bb_kv_cache_truncate(runner->cache, 0, 0, &runner->error) == BOMBUS_OK;
}

/* How far logits are from the reference, over all rows compared so far. */
struct parity_difference {
    double max_abs, sum_squares, kl_sum, kl_max;
    size_t entries, rows;
};

static inline double parity_log_sum(const float *logits, int32_t count)
{
    double top = (double)logits[0], sum = 0.0;
    for (int32_t i = 0; i < count; i++)
        if ((double)logits[i] > top)
            top = (double)logits[i];
    for (int32_t i = 0; i < count; i++)
        sum += exp((double)logits[i] - top);
    return top + log(sum);
}

/* NaN anywhere makes the results NaN. */
static inline void parity_compare(struct parity_difference *difference, const float *actual, const float *expected, int32_t count)
{
    double actual_sum = parity_log_sum(actual, count), expected_sum = parity_log_sum(expected, count);
    double kl = 0.0, worst = 0.0, squares = 0.0;
    for (int32_t i = 0; i < count; i++) {
        double gap = (double)actual[i] - (double)expected[i], logprob = (double)expected[i] - expected_sum;
        if (fabs(gap) > worst)
            worst = fabs(gap);
        squares += gap * gap;
        kl += exp(logprob) * (logprob - ((double)actual[i] - actual_sum));
    }
    difference->entries += (size_t)count;
    difference->rows++;
    difference->sum_squares += squares;
    difference->kl_sum += kl;
    difference->max_abs = isnan(squares) ? (double)NAN : isnan(difference->max_abs) ? difference->max_abs : fmax(difference->max_abs, worst);
    difference->kl_max = isnan(kl) ? (double)NAN : isnan(difference->kl_max) ? difference->kl_max : fmax(difference->kl_max, kl);
}

static inline double parity_rms(const struct parity_difference *difference)
{
    return difference->entries > 0 ? sqrt(difference->sum_squares / (double)difference->entries) : 0.0;
}

static inline double parity_kl_mean(const struct parity_difference *difference)
{
    return difference->rows > 0 ? difference->kl_sum / (double)difference->rows : 0.0;
}

/* One model's saved data. */
struct parity_reference {
    json_t *root;
    struct bb_safetensors tensors;
};

static inline void parity_reference_close(struct parity_reference *reference)
{
    json_decref(reference->root);
    bb_safetensors_close(&reference->tensors);
    memset(reference, 0, sizeof *reference);
}

static inline bool parity_reference_open(struct parity_reference *reference, const char *folder)
{
    char path[600];
    bombus_error error;
    memset(reference, 0, sizeof *reference);
    snprintf(path, sizeof path, "%s/reference.json", folder);
    reference->root = json_load_file(path, 0, NULL);
    snprintf(path, sizeof path, "%s/reference.safetensors", folder);
    return reference->root != NULL && bb_safetensors_open(&reference->tensors, path, &error) == BOMBUS_OK;
}

/* Numbers of a JSON array in malloc'ed memory. */
static inline int32_t *parity_ids(const json_t *array, int32_t *count)
{
    *count = (int32_t)json_array_size(array);
    int32_t *ids = calloc((size_t)*count + 1, sizeof *ids);
    for (int32_t i = 0; i < *count; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(array, (size_t)i));
    return ids;
}

/* A tensor of the reference as f32, copied since files do not align; NULL if absent. */
static inline float *parity_tensor(const struct parity_reference *reference, const char *name, size_t *count)
{
    const struct bb_safetensors_entry *entry = bb_safetensors_find(&reference->tensors, name);
    if (entry == NULL || entry->dtype != BB_F32)
        return NULL;
    float *values = malloc(entry->size + 1);
    memcpy(values, entry->data, entry->size);
    *count = entry->size / sizeof *values;
    return values;
}

/* Compares the logits of every prompt, each fed in chunks of `chunk` rows (0: at once). False after an error. */
static inline bool parity_prompts(struct parity_runner *runner, const struct parity_reference *reference, int32_t chunk,
                                  struct parity_difference *difference)
{
    size_t i, entries;
    const json_t *prompt;
    int32_t vocab_size = runner->model->recipe.vocab_size;
    json_array_foreach(json_object_get(reference->root, "prompts"), i, prompt) {
        char name[64];
        int32_t count, row_count;
        snprintf(name, sizeof name, "%s.logits.f32", json_string_value(json_object_get(prompt, "name")));
        float *expected = parity_tensor(reference, name, &entries);
        int32_t *ids = parity_ids(json_object_get(prompt, "ids"), &count);
        int32_t *rows = parity_ids(json_object_get(prompt, "logit_positions"), &row_count);
        bool is_good = expected != NULL && entries == (size_t)row_count * (size_t)vocab_size && parity_restart(runner);
        int32_t step = chunk > 0 ? chunk : count, next = 0;
        for (int32_t first = 0; first < count && is_good; first += step) {
            int32_t taken = count - first < step ? count - first : step;
            const float *logits = parity_feed(runner, ids + first, taken, true);
            is_good = logits != NULL;
            for (; is_good && next < row_count && rows[next] < first + taken; next++)
                parity_compare(difference, logits + (size_t)(rows[next] - first) * (size_t)vocab_size,
                               expected + (size_t)next * (size_t)vocab_size, vocab_size);
        }
        free(expected);
        free(ids);
        free(rows);
        if (!is_good)
            return false;
    }
    return true;
}

/* Mean negative log-likelihood of the perplexity text, and the worst difference of a token's from the reference. NaN after an error. */
static inline double parity_nll(struct parity_runner *runner, const struct parity_reference *reference, double *worst)
{
    size_t entries = 0;
    int32_t count, vocab_size = runner->model->recipe.vocab_size;
    int32_t *ids = parity_ids(json_object_get(json_object_get(reference->root, "perplexity"), "ids"), &count);
    float *expected = parity_tensor(reference, "ppl.nll.f32", &entries);
    double sum = 0.0, largest = 0.0;
    const float *logits = count > 1 && (int32_t)entries == count - 1 && parity_restart(runner) ? parity_feed(runner, ids, count - 1, true) : NULL;
    for (int32_t i = 0; logits != NULL && i + 1 < count; i++) {
        const float *row = logits + (size_t)i * (size_t)vocab_size;
        double nll = parity_log_sum(row, vocab_size) - (double)row[ids[i + 1]], gap = fabs(nll - (double)expected[i]);
        sum += nll;
        if (gap > largest)
            largest = gap;
    }
    *worst = largest;
    free(ids);
    free(expected);
    return logits != NULL ? sum / (count - 1) : (double)NAN;
}

/* Follows a saved greedy continuation, feeding its tokens. */
struct parity_greedy {
    int32_t tokens, agreed;  /* tokens compared, and those that were the likeliest here too */
    int32_t excused;         /* continuations left at a step whose margin is below the tolerance */
    int32_t wrong;           /* steps that differ for no such reason */
    double worst_margin;     /* the largest margin at a step that differs */
};

static inline int32_t parity_argmax(const float *logits, int32_t count)
{
    int32_t best = 0;
    for (int32_t i = 1; i < count; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

/* `entry`: {tokens, margin}. The prompt is fed as count - 1 tokens and then one, as the data were made. False after an error. */
static inline bool parity_follow(struct parity_runner *runner, const int32_t *prompt, int32_t prompt_count, const json_t *entry,
                                 double margin_tolerance, struct parity_greedy *greedy)
{
    int32_t count, vocab_size = runner->model->recipe.vocab_size;
    int32_t *tokens = parity_ids(json_object_get(entry, "tokens"), &count);
    const json_t *margins = json_object_get(entry, "margin");
    bool is_good = parity_restart(runner) && (prompt_count < 2 || parity_feed(runner, prompt, prompt_count - 1, false) != NULL);
    const float *logits = is_good ? parity_feed(runner, prompt + prompt_count - 1, 1, false) : NULL;
    for (int32_t i = 0; i < count && logits != NULL; i++) {
        greedy->tokens++;
        if (parity_argmax(logits, vocab_size) != tokens[i]) {
            double margin = json_number_value(json_array_get(margins, (size_t)i));
            greedy->worst_margin = fmax(greedy->worst_margin, margin);
            greedy->excused += margin < margin_tolerance;
            greedy->wrong += margin >= margin_tolerance;
            break;
        }
        greedy->agreed++;
        logits = parity_feed(runner, &tokens[i], 1, false);
    }
    free(tokens);
    return logits != NULL;
}

/* All prompts' continuations at greedy.PROMPT.VARIANT (section "greedy" or "greedy_kv_quant"). */
static inline bool parity_greedy_all(struct parity_runner *runner, const struct parity_reference *reference, const char *section,
                                     const char *variant, double margin_tolerance, struct parity_greedy *greedy)
{
    size_t i;
    const json_t *prompt;
    json_array_foreach(json_object_get(reference->root, "prompts"), i, prompt) {
        int32_t count;
        const char *name = json_string_value(json_object_get(prompt, "name"));
        const json_t *entry = json_object_get(json_object_get(json_object_get(reference->root, section), name), variant);
        if (entry == NULL)
            continue;
        int32_t *ids = parity_ids(json_object_get(prompt, "ids"), &count);
        bool is_good = parity_follow(runner, ids, count, entry, margin_tolerance, greedy);
        free(ids);
        if (!is_good)
            return false;
    }
    return true;
}

#endif
