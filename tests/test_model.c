/* Opening model folders: what is missing, surplus, misshapen or unsupported is named; and every allocation may fail. */
#include "base/file.h"
#include "base/memory.h"
#include "files/safetensors.h"
#include "model/weights.h"
#include "ops/backends.h"
#include "scratch.h"
#include "test.h"

#include <string.h>

static struct bb_backend *backend;
static bombus_error error;

/* A copy of a fixture that a test may damage. */
struct copy {
    struct bb_safetensors file;
    struct bb_safetensors_entry entries[128];
    size_t count;
    char *config;
};

static void load_copy(struct copy *copy, const char *fixture)
{
    char path[300];
    size_t size;
    memset(copy, 0, sizeof *copy);
    snprintf(path, sizeof path, "tests/fixtures/models/%s/model.safetensors", fixture);
    CHECK_OK(bb_safetensors_open(&copy->file, path, &error), error);
    assert_in_range(copy->file.count, 1, 120);
    copy->count = copy->file.count;
    memcpy(copy->entries, copy->file.entries, copy->count * sizeof *copy->entries);
    snprintf(path, sizeof path, "tests/fixtures/models/%s/config.json", fixture);
    CHECK_OK(bb_file_read(&copy->config, &size, path, 100000, &error), error);
}

static void clear_copy(struct copy *copy)
{
    bb_safetensors_close(&copy->file);
    bb_release(copy->config);
}

static struct bb_safetensors_entry *entry_of(struct copy *copy, const char *name)
{
    for (size_t i = 0; i < copy->count; i++)
        if (strcmp(copy->entries[i].name, name) == 0)
            return &copy->entries[i];
    fail_msg("no tensor '%s' in the fixture", name);
    return NULL;
}

static void remove_entry(struct copy *copy, const char *name)
{
    struct bb_safetensors_entry *entry = entry_of(copy, name);
    *entry = copy->entries[--copy->count];
}

static void add_entry(struct copy *copy, const char *like, const char *name)
{
    copy->entries[copy->count] = *entry_of(copy, like);
    copy->entries[copy->count++].name = name;
}

/* Writes the copy and opens it; gives the status, the message is in `error`. */
static bombus_status open_copy(const struct copy *copy, struct bb_model **model)
{
    const char *path = scratch_path("model.safetensors");
    scratch_write("config.json", copy->config, strlen(copy->config));
    CHECK_OK(bb_safetensors_write(path, copy->entries, copy->count, NULL, 0, &error), error);
    bombus_status status = bb_model_open(model, scratch_folder, backend, &error);
    assert_true((status == BOMBUS_OK) == (*model != NULL));
    return status;
}

static void expect(struct copy *copy, bombus_status status, const char *words)
{
    struct bb_model *model;
    bombus_status found = open_copy(copy, &model);
    if (found != status || (status != BOMBUS_OK && strstr(error.message, words) == NULL))
        fail_msg("got %s: %s; expected %s with \"%s\"", bombus_status_name(found), found != BOMBUS_OK ? error.message : "",
                 bombus_status_name(status), words);
    bb_model_close(model);
    clear_copy(copy);
}

static void test_tensors_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *fixture, *removed, *words;
    } missing[] = {
        { "llama-yarn", "model.embed_tokens.scales", "'model.embed_tokens' is incomplete: missing .scales" },
        { "llama-yarn", "lm_head.weight", "lm_head" },
        { "llama-yarn", "model.norm.weight", "model.norm.weight" },
        { "llama-yarn", "model.layers.1.mlp.up_proj.biases", "model.layers.1.mlp.up_proj" },
        { "llama-yarn", "model.layers.1.input_layernorm.weight", "model.layers.1.input_layernorm.weight" },
        { "granite", "model.layers.0.self_attn.k_proj.bias", "model.layers.0.self_attn.k_proj.bias" },
        { "gpt_oss", "model.layers.1.self_attn.sinks", "model.layers.1.self_attn.sinks" },
        { "gpt_oss", "model.layers.0.mlp.experts.up_proj.bias", "model.layers.0.mlp.experts.up_proj.bias" },
        { "mixtral", "model.layers.0.block_sparse_moe.switch_mlp.up_proj.weight", "switch_mlp.up_proj" },
        { "mixtral-hf-names", "model.layers.1.block_sparse_moe.experts.1.w3.weight", "experts.1.w3" },
    };
    struct copy copy;
    for (size_t i = 0; i < BB_COUNT(missing); i++) {
        load_copy(&copy, missing[i].fixture);
        remove_entry(&copy, missing[i].removed);
        expect(&copy, BOMBUS_ERROR_FORMAT, missing[i].words);
    }
    load_copy(&copy, "llama-yarn");
    add_entry(&copy, "model.norm.weight", "model.layers.0.self_attn.q_norm.weight");
    expect(&copy, BOMBUS_ERROR_FORMAT, "model.layers.0.self_attn.q_norm.weight");
    load_copy(&copy, "llama-yarn");
    add_entry(&copy, "model.norm.weight", "model.layers.0.self_attn.rotary_emb.inv_freq");
    expect(&copy, BOMBUS_OK, "");
    load_copy(&copy, "llama-yarn");
    entry_of(&copy, "model.norm.weight")->shape[0] = 32;
    entry_of(&copy, "model.norm.weight")->size /= 2;
    expect(&copy, BOMBUS_ERROR_FORMAT, "model.norm.weight");
    load_copy(&copy, "llama-yarn");
    entry_of(&copy, "model.norm.weight")->dtype = BB_I16;
    expect(&copy, BOMBUS_ERROR_FORMAT, "model.norm.weight");
    load_copy(&copy, "gpt_oss");
    add_entry(&copy, "model.norm.weight", "model.layers.0.mlp.experts.gate_up_proj_blocks");
    expect(&copy, BOMBUS_ERROR_UNSUPPORTED, "gate_up_proj");
}

/* Tied by word, by silence, and with a head that is passed over. */
static void test_tied_head(void **state)
{
    (void)state;
    struct bb_model *model;
    struct copy copy;
    load_copy(&copy, "llama-linear");
    assert_int_equal(open_copy(&copy, &model), BOMBUS_OK);
    assert_ptr_equal(model->head.weight.data, model->embedding.data);
    size_t tied_bytes = model->bytes_per_token;
    int64_t tied_parameters = model->parameter_count;
    bb_model_close(model);
    add_entry(&copy, "model.embed_tokens.weight", "lm_head.weight");
    add_entry(&copy, "model.embed_tokens.scales", "lm_head.scales");
    add_entry(&copy, "model.embed_tokens.biases", "lm_head.biases");
    assert_int_equal(open_copy(&copy, &model), BOMBUS_OK);
    assert_ptr_equal(model->head.weight.data, model->embedding.data);
    bb_model_close(model);
    char *key = strstr(copy.config, "tie_word_embeddings");
    assert_non_null(key);
    key[0] = 'x'; /* the config says nothing: the head that is there counts */
    assert_int_equal(open_copy(&copy, &model), BOMBUS_OK);
    assert_ptr_not_equal(model->head.weight.data, model->embedding.data);
    assert_int_equal(model->parameter_count - tied_parameters, 256 * 64);
    assert_in_range(model->bytes_per_token, tied_bytes + 1, tied_bytes + 100); /* a row of the embedding more */
    bb_model_close(model);
    for (int i = 0; i < 3; i++)
        copy.count--;
    assert_int_equal(open_copy(&copy, &model), BOMBUS_OK);
    assert_ptr_equal(model->head.weight.data, model->embedding.data);
    bb_model_close(model);
    clear_copy(&copy);
}

static void test_fingerprint(void **state)
{
    (void)state;
    struct bb_model *model, *again;
    struct copy copy;
    load_copy(&copy, "llama-linear");
    assert_int_equal(open_copy(&copy, &model), BOMBUS_OK);
    assert_int_equal(open_copy(&copy, &again), BOMBUS_OK);
    uint64_t fingerprint = model->fingerprint;
    assert_int_equal(again->fingerprint, fingerprint);
    bb_model_close(model);
    bb_model_close(again);
    memcpy(strstr(copy.config, "10000.0"), "20000.0", 7); /* rope_theta */
    assert_int_equal(open_copy(&copy, &model), BOMBUS_OK);
    assert_true(model->fingerprint != fingerprint);
    bb_model_close(model);
    clear_copy(&copy);
}

/* Fused tensors are views of one, not copies. */
static void test_fused_views(void **state)
{
    (void)state;
    const char *folder = golden_path("models/phi3-4bit");
    SKIP_WITHOUT_GOLDEN(folder);
    struct bb_model *model;
    CHECK_OK(bb_model_open(&model, folder, backend, &error), error);
    const struct bb_block *block = &model->blocks[0];
    assert_ptr_equal((const char *)block->q.weight.data + bb_weight_row_bytes(&block->q.weight) * (size_t)block->q.weight.rows,
                     block->k.weight.data);
    assert_ptr_equal((const char *)block->gate.weight.data + bb_weight_row_bytes(&block->gate.weight) * (size_t)block->gate.weight.rows,
                     block->up.weight.data);
    bb_model_close(model);
}

static void test_failing_allocation(void **state)
{
    (void)state;
    static const char *const folders[] = { "tests/fixtures/models/gpt_oss", "tests/fixtures/models/mixtral-hf-names",
                                           "tests/fixtures/models/gemma3_text-linear" };
    for (size_t i = 0; i < BB_COUNT(folders); i++) {
        for (uint64_t fail_at = 1;; fail_at++) {
            struct bb_model *model;
            bb_memory_fail_at(fail_at, false);
            bombus_status status = bb_model_open(&model, folders[i], backend, &error);
            bb_memory_fail_at(0, false);
            if (status == BOMBUS_OK) {
                assert_true(fail_at > 10);
                bb_model_close(model);
                break;
            }
            assert_int_equal(status, BOMBUS_ERROR_MEMORY);
            assert_null(model);
        }
    }
}

static void test_no_such_model(void **state)
{
    (void)state;
    struct bb_model *model;
    assert_int_equal(bb_model_open(&model, "/nowhere", backend, &error), BOMBUS_ERROR_NOT_FOUND);
    assert_null(model);
    scratch_write("config.json", "{\"model_type\": \"rwkv\"}", 22);
    assert_int_equal(bb_model_open(&model, scratch_folder, backend, &error), BOMBUS_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "rwkv"));
    bb_model_close(NULL);
}

static int setup(void **state)
{
    struct bb_backend_options options = { .thread_count = 1 };
    return scratch_setup(state) != 0 || bb_backend_open(&backend, "cpu", &options, &error) != BOMBUS_OK;
}

static int teardown(void **state)
{
    bb_backend_close(backend);
    return scratch_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tensors_are_named), cmocka_unit_test(test_tied_head),          cmocka_unit_test(test_fingerprint),
        cmocka_unit_test(test_fused_views),       cmocka_unit_test(test_failing_allocation), cmocka_unit_test(test_no_such_model),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
