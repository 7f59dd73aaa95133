/* Adapters made up for a model, and what tests of adapters share. */
#ifndef ADAPTER_FIXTURE_H
#define ADAPTER_FIXTURE_H

#include "base/file.h"
#include "base/random.h"
#include "files/safetensors.h"
#include "generate/score.h"
#include "generate/session.h"
#include "model/adapter.h"
#include "opened.h"
#include "parity.h"
#include "scratch.h"

static inline struct bb_adapter *open_adapter(const struct opened *opened, const char *folder)
{
    struct bb_adapter *adapter;
    bombus_error error;
    CHECK_OK(bb_adapter_open(&adapter, opened->model, folder, NULL, &error), error);
    return adapter;
}

static inline struct bb_adapter *open_golden(const struct opened *opened, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "lora/adapters/%s", name);
    assert_non_null(golden_path(path));
    return open_adapter(opened, golden_path(path));
}

static inline struct bb_session *create(const struct opened *opened, bool is_exact)
{
    struct bb_session *session;
    bombus_error error;
    bombus_session_options options = {.context_size = 512};
    CHECK_OK(bb_sessions_create(&session, 1, opened->model, opened->backend, &options, is_exact, &error), error);
    return session;
}

static inline void set(struct bb_session *session, struct bb_adapter *adapter, float weight)
{
    bombus_error error;
    CHECK_OK(bb_session_set_adapters(session, &adapter, &weight, adapter != NULL, &error), error);
}

struct comparison {
    const float *expected;
    const json_t *positions;
    size_t next;
    struct parity_difference difference;
};

static inline bool compare_rows(void *context, size_t first, size_t count, const float *logits, int32_t vocab_size)
{
    struct comparison *comparison = context;
    for (; comparison->next < json_array_size(comparison->positions); comparison->next++) {
        size_t row = (size_t)json_integer_value(json_array_get(comparison->positions, comparison->next));
        if (row >= first + count)
            break;
        parity_compare(&comparison->difference, logits + (row - first) * (size_t)vocab_size,
                       comparison->expected + comparison->next * (size_t)vocab_size, vocab_size);
    }
    return true;
}

/* How far a session's logits are from saved ones. */
static inline struct parity_difference compare(struct bb_session *session, const char *json_path,
                                               const char *tensors_path)
{
    struct bb_safetensors tensors;
    bombus_error error;
    size_t index;
    const json_t *prompt;
    double logprobs[512];
    struct parity_difference difference = {0};
    json_t *json = json_load_file(json_path, 0, NULL);
    assert_non_null(json);
    CHECK_OK(bb_safetensors_open(&tensors, tensors_path, &error), error);
    json_array_foreach(json_object_get(json, "prompts"), index, prompt)
    {
        char name[64];
        int32_t count;
        snprintf(name, sizeof name, "%s.logits.f32", json_string_value(json_object_get(prompt, "name")));
        const struct bb_safetensors_entry *entry = bb_safetensors_find(&tensors, name);
        assert_non_null(entry);
        float *expected = memcpy(malloc(entry->size), entry->data, entry->size);
        int32_t *ids = parity_ids(json_object_get(prompt, "ids"), &count);
        struct comparison comparison = {
            .expected = expected, .positions = json_object_get(prompt, "logit_positions"), .difference = difference};
        CHECK_OK(bb_session_truncate(session, 0, &error), error);
        CHECK_OK(bb_session_score(session, ids, (size_t)count, logprobs, compare_rows, &comparison, &error), error);
        assert_int_equal(comparison.next, json_array_size(comparison.positions));
        difference = comparison.difference;
        free(ids);
        free(expected);
    }
    bb_safetensors_close(&tensors);
    json_decref(json);
    return difference;
}

static inline double worst_difference(const float *a, const float *b, size_t count)
{
    double worst = 0.0;
    for (size_t i = 0; i < count; i++)
        if (fabs((double)a[i] - (double)b[i]) > worst)
            worst = fabs((double)a[i] - (double)b[i]);
    return worst;
}

/* ---- made for a model: every family, every projection ---- */

/* Numbers that are small, of both signs and unlike each other. */
static inline float number(uint64_t seed, size_t index)
{
    return ((float)(bb_random_at(seed, index) >> 40) / (float)(1 << 24) - 0.5f) * 0.2f;
}

enum { MADE_LIMIT = 4096, MADE_RANK = 5 };

/* An adapter's file as it is put together. */
struct made {
    struct bb_safetensors_entry entries[MADE_LIMIT];
    size_t count;
};

static inline void add_tensor(struct made *made, const char *path, const char *part, int64_t experts, int64_t rows,
                              int64_t cols, float offset)
{
    char name[256];
    struct bb_safetensors_entry *entry = &made->entries[made->count];
    snprintf(name, sizeof name, "%s.%s", path, part);
    size_t count = (size_t)((experts > 0 ? experts : 1) * rows * (cols > 0 ? cols : 1));
    float *data = calloc(count, sizeof *data);
    for (size_t i = 0; i < count; i++)
        data[i] = offset + number(made->count + 1, i);
    *entry = (struct bb_safetensors_entry){
        .name = strdup(name), .dtype = BB_F32, .rank = (experts > 0) + 1 + (cols > 0), .data = data};
    entry->size = count * sizeof *data;
    int32_t place = 0;
    if (experts > 0)
        entry->shape[place++] = experts;
    entry->shape[place++] = rows;
    if (cols > 0)
        entry->shape[place] = cols;
    assert_true(++made->count < MADE_LIMIT);
}

static inline void write_made(struct made *made, const char *folder, bool is_dora)
{
    char text[256], path[512];
    bombus_error error;
    snprintf(path, sizeof path, "%s/adapters.safetensors", scratch_path(folder));
    CHECK_OK(bb_folder_create(scratch_path(folder), &error), error);
    CHECK_OK(bb_safetensors_write(path, made->entries, made->count, NULL, 0, &error), error);
    snprintf(path, sizeof path, "%s/adapter_config.json", scratch_path(folder));
    snprintf(
        text, sizeof text,
        "{\"fine_tune_type\": \"%s\", \"num_layers\": -1, \"lora_parameters\": {\"rank\": %d, \"scale\": 1.5, \"dropout\": 0.0}}",
        is_dora ? "dora" : "lora", MADE_RANK);
    CHECK_OK(bb_file_write(path, text, strlen(text), &error), error);
    for (size_t i = 0; i < made->count; i++) {
        free((void *)(uintptr_t)made->entries[i].name);
        free((void *)(uintptr_t)made->entries[i].data);
    }
    free(made);
}

/* An mlx adapter on all projections of a model (DoRA: on all but experts), in a scratch folder. */
static inline void make_adapter(const struct bb_model *model, const char *folder, bool is_dora)
{
    struct made *made = calloc(1, sizeof *made);
    for (int32_t i = 0; i < model->projection_count; i++) {
        const struct bb_projection *projection = &model->projections[i];
        if ((i == 1 && model->recipe.tie_word_embeddings) || (is_dora && projection->expert_count > 0))
            continue;
        if (projection->expert_count > 0) {
            add_tensor(made, projection->path, "lora_a", projection->expert_count, MADE_RANK, projection->cols, 0.0f);
            add_tensor(made, projection->path, "lora_b", projection->expert_count, projection->rows, MADE_RANK, 0.0f);
            continue;
        }
        int64_t in = projection->is_embedding ? projection->rows : projection->cols,
                out = projection->is_embedding ? projection->cols : projection->rows;
        add_tensor(made, projection->path, "lora_a", 0, in, MADE_RANK, 0.0f);
        add_tensor(made, projection->path, "lora_b", 0, MADE_RANK, out, 0.0f);
        if (is_dora)
            add_tensor(made, projection->path, "m", 0, projection->rows, 0, 0.6f);
    }
    write_made(made, folder, is_dora);
}

static inline float *all_logits(struct bb_session *session, const struct golden_ids *prompt, size_t count)
{
    size_t vocab_size = (size_t)bb_session_model(session)->recipe.vocab_size;
    bombus_error error;
    float *logits = malloc(count * vocab_size * sizeof *logits);
    CHECK_OK(bb_session_truncate(session, 0, &error), error);
    CHECK_OK(bb_session_reserve(session, (int32_t)count, (int32_t)count, &error), error);
    CHECK_OK(bb_session_try(session, prompt->ids, (int32_t)count, &error), error);
    memcpy(logits, session->rows, count * vocab_size * sizeof *logits);
    bb_session_accept(session, (int32_t)count);
    return logits;
}

#endif
