/* Adapters: both formats against saved logits, sums, batches in which each row has its own, changes between steps, threads, hostile files. */
#include "base/file.h"
#include "base/memory.h"
#include "generate/prompt_cache.h"
#include "generate/score.h"
#include "generate/session.h"
#include "golden.h"
#include "ops/backends.h"
#include "parity.h"
#include "scratch.h"

#include <pthread.h>

struct opened {
    struct bb_backend *backend;
    struct bb_model *model;
};

static bool open_model(struct opened *opened, const char *name, int32_t thread_count)
{
    bombus_error error;
    const char *folder = golden_model(name);
    if (folder == NULL)
        return false;
    CHECK_OK(bb_backend_open(&opened->backend, "cpu", &(struct bb_backend_options){.thread_count = thread_count}, &error), error);
    CHECK_OK(bb_model_open(&opened->model, folder, opened->backend, &error), error);
    return true;
}

static void close_model(struct opened *opened)
{
    bb_model_close(opened->model);
    bb_backend_close(opened->backend);
}

#define OPEN_OR_SKIP(opened, name, threads)                                                                            \
    do {                                                                                                               \
        if (!open_model(&(opened), (name), (threads))) {                                                               \
            SKIP_WITHOUT_GOLDEN(NULL);                                                                                 \
            return;                                                                                                    \
        }                                                                                                              \
    } while (0)

static struct bb_adapter *open_adapter(const struct opened *opened, const char *folder)
{
    struct bb_adapter *adapter;
    bombus_error error;
    CHECK_OK(bb_adapter_open(&adapter, opened->model, folder, NULL, &error), error);
    return adapter;
}

static struct bb_adapter *open_golden(const struct opened *opened, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "lora/adapters/%s", name);
    assert_non_null(golden_path(path));
    return open_adapter(opened, golden_path(path));
}

static struct bb_session *create(const struct opened *opened, bool is_exact)
{
    struct bb_session *session;
    bombus_error error;
    bombus_session_options options = {.context_size = 512};
    CHECK_OK(bb_sessions_create(&session, 1, opened->model, opened->backend, &options, is_exact, &error), error);
    return session;
}

static void set(struct bb_session *session, struct bb_adapter *adapter, float weight)
{
    bombus_error error;
    CHECK_OK(bb_session_set_adapters(session, &adapter, &weight, adapter != NULL, &error), error);
}

/* ---- against saved logits ---- */

struct comparison {
    const float *expected;
    const json_t *positions;
    size_t next;
    double worst;
};

static bool compare_rows(void *context, size_t first, size_t count, const float *logits, int32_t vocab_size)
{
    struct comparison *comparison = context;
    for (; comparison->next < json_array_size(comparison->positions); comparison->next++) {
        size_t row = (size_t)json_integer_value(json_array_get(comparison->positions, comparison->next));
        if (row >= first + count)
            break;
        for (int32_t i = 0; i < vocab_size; i++) {
            double gap = fabs((double)logits[(row - first) * (size_t)vocab_size + (size_t)i] -
                              (double)comparison->expected[comparison->next * (size_t)vocab_size + (size_t)i]);
            if (!(gap <= comparison->worst))
                comparison->worst = gap;
        }
    }
    return true;
}

/* The worst difference of a session's logits from those of `reference` (a file beside its .json). */
static double compare(struct bb_session *session, const char *json_path, const char *tensors_path)
{
    struct bb_safetensors tensors;
    bombus_error error;
    size_t index;
    const json_t *prompt;
    double worst = 0.0, logprobs[512];
    json_t *json = json_load_file(json_path, 0, NULL);
    assert_non_null(json);
    CHECK_OK(bb_safetensors_open(&tensors, tensors_path, &error), error);
    json_array_foreach(json_object_get(json, "prompts"), index, prompt) {
        char name[64];
        int32_t count;
        snprintf(name, sizeof name, "%s.logits.f32", json_string_value(json_object_get(prompt, "name")));
        const struct bb_safetensors_entry *entry = bb_safetensors_find(&tensors, name);
        assert_non_null(entry);
        float *expected = memcpy(malloc(entry->size), entry->data, entry->size);
        int32_t *ids = parity_ids(json_object_get(prompt, "ids"), &count);
        struct comparison comparison = {.expected = expected, .positions = json_object_get(prompt, "logit_positions")};
        CHECK_OK(bb_session_truncate(session, 0, &error), error);
        CHECK_OK(bb_session_score(session, ids, (size_t)count, logprobs, compare_rows, &comparison, &error), error);
        assert_int_equal(comparison.next, json_array_size(comparison.positions));
        worst = fmax(worst, comparison.worst);
        free(ids);
        free(expected);
    }
    bb_safetensors_close(&tensors);
    json_decref(json);
    return worst;
}

static double compare_golden(struct bb_session *session, const char *reference)
{
    char json[128], tensors[128];
    snprintf(json, sizeof json, "lora/adapters/%s.reference.json", reference);
    snprintf(tensors, sizeof tensors, "lora/adapters/%s.reference.safetensors", reference);
    return compare(session, golden_path(json), golden_path(tensors));
}

static void test_reference(void **state)
{
    (void)state;
    static const struct {
        const char *model, *adapter, *reference;
    } cases[] = {
        {"qwen3-4bit", "lora-default-r8", "lora-default-r8"},      {"qwen3-4bit", "lora-qv-r4-last2", "lora-qv-r4-last2"},
        {"qwen3-4bit", "lora-bf16-r16-mlp", "lora-bf16-r16-mlp"},  {"qwen3-4bit", "lora-embed-r4", "lora-embed-r4"},
        {"qwen3-4bit", "dora-r4", "dora-r4"},                      {"qwen3_moe-4bit", "lora-moe-r4", "lora-moe-r4"},
        {"qwen3-4bit", "peft-lora-default-r8", "lora-default-r8"}, {"qwen3-4bit", "peft-lora-qv-r4-last2", "lora-qv-r4-last2"},
        {"qwen3-4bit", "peft-dora-r4", "dora-r4"},                 {"qwen3-4bit", "peft-rslora-qv-r4-last2", "lora-qv-r4-last2"},
    };
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        struct opened opened;
        OPEN_OR_SKIP(opened, cases[i].model, 2);
        struct bb_adapter *adapter = open_golden(&opened, cases[i].adapter);
        struct bb_session *session = create(&opened, true);
        set(session, adapter, 1.0f);
        double worst = compare_golden(session, cases[i].reference);
        if (!(worst <= 1e-3))
            fail_msg("%s: logits differ by %g", cases[i].adapter, worst);
        bb_adapter_close(adapter);
        bb_session_free(session);
        close_model(&opened);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
