/* Orders and batches: mlx-lm's to the bit, and that every order gives each example once and can be resumed. */
#include "files/safetensors.h"
#include "text_fixture.h"
#include "train/batches.h"

/* Numbers that numpy 2.4 gave: np.random.seed(seed); np.random.permutation(10); np.random.permutation(5). */
static void test_numpy_permutation(void **state)
{
    (void)state;
    static const struct {
        uint32_t seed, first[10], second[5];
    } cases[] = {
        {0u, {2, 8, 4, 9, 1, 6, 7, 3, 0, 5}, {1, 0, 2, 3, 4}},
        {42u, {8, 1, 5, 0, 7, 2, 9, 4, 3, 6}, {1, 0, 3, 4, 2}},
        {4294967295u, {6, 9, 5, 1, 8, 0, 7, 4, 2, 3}, {0, 1, 4, 2, 3}},
    };
    struct bb_numpy_random random, restored;
    uint32_t order[2000];
    for (size_t i = 0; i < 3; i++) {
        bb_numpy_random_seed(&random, cases[i].seed);
        bb_numpy_random_permutation(&random, order, 10);
        for (size_t j = 0; j < 10; j++)
            assert_int_equal(order[j], cases[i].first[j]);
        bb_numpy_random_permutation(&random, order, 5);
        for (size_t j = 0; j < 5; j++)
            assert_int_equal(order[j], cases[i].second[j]);
        bb_numpy_random_permutation(&random, order, 2000);
        bb_numpy_random_restore(&restored, cases[i].seed, random.draws);
        assert_int_equal(bb_numpy_random_next(&restored), bb_numpy_random_next(&random));
    }
}

static void open_golden(struct bb_dataset *dataset, const char *data, const char *set, enum bb_mask mask, int32_t length)
{
    char name[128];
    bombus_error error;
    snprintf(name, sizeof name, "lora/data/%s/%s.jsonl", data, set);
    struct bb_dataset_options options = {.tokenizer = tokenizer,
                                         .template_ = template_,
                                         .max_seq_length = length,
                                         .mask = mask,
                                         .is_mlx_compatible = true};
    CHECK_OK(bb_dataset_open(dataset, golden_path(name), &options, &error), error);
}

/* A batch against tokens [sequences, width] and (offset, length) pairs as mlx-lm made them. */
static int32_t entry_at(const struct bb_safetensors_entry *entry, int64_t index)
{
    int32_t value;
    memcpy(&value, (const char *)entry->data + (size_t)index * sizeof value, sizeof value);
    return value;
}

static void check_batch(const struct bb_train_batch *batch, const struct bb_safetensors_entry *tokens,
                        const struct bb_safetensors_entry *lengths)
{
    int64_t width = tokens->shape[1], targets = 0;
    assert_int_equal(batch->span_count, tokens->shape[0]);
    for (int32_t i = 0; i < batch->span_count; i++) {
        const struct bb_span *span = &batch->spans[i];
        int32_t offset = entry_at(lengths, i * 2), length = entry_at(lengths, i * 2 + 1);
        assert_int_equal(span->row_count, length < width ? length : length - 1);
        assert_int_equal(span->sequence, i);
        for (int32_t j = 0; j < span->row_count; j++) {
            int32_t row = span->first_row + j;
            bool counts = j + 1 >= offset && j + 1 <= length && j + 1 < width;
            assert_int_equal(batch->tokens[row], entry_at(tokens, i * width + j));
            assert_int_equal(batch->positions[row], j);
            assert_int_equal(batch->targets[row], counts ? entry_at(tokens, i * width + j + 1) : -1);
            targets += counts;
        }
    }
    assert_int_equal(batch->target_count, targets);
}

static void check_case(const char *name)
{
    char file[256];
    bombus_error error;
    struct bb_safetensors tensors;
    snprintf(file, sizeof file, "lora/train/%s/train.json", name);
    json_t *settings = json_load_file(golden_path(file), 0, NULL), *length;
    assert_non_null(settings);
    snprintf(file, sizeof file, "lora/train/%s/batches.safetensors", name);
    CHECK_OK(bb_safetensors_open(&tensors, golden_path(file), &error), error);
    length = json_object_get(settings, "max_seq_length");
    struct bb_dataset dataset;
    open_golden(&dataset, json_string_value(json_object_get(settings, "data")), "train",
                json_is_true(json_object_get(settings, "mask_prompt")) ? BB_MASK_PROMPT : BB_MASK_NONE,
                length != NULL ? (int32_t)json_integer_value(length) : 2048);
    struct bb_numpy_random random;
    bb_numpy_random_seed(&random, (uint32_t)json_integer_value(json_object_get(settings, "seed")));
    struct bb_batches_options options = {.batch_size = (int32_t)json_integer_value(json_object_get(settings, "batch_size")),
                                         .order = BB_ORDER_MLX,
                                         .is_endless = true,
                                         .numpy = &random};
    struct bb_batches batches;
    CHECK_OK(bb_batches_open(&batches, &dataset, &options, &error), error);
    json_t *counts = json_object_get(settings, "target_tokens");
    for (size_t i = 0; i < json_array_size(counts); i++) {
        const struct bb_train_batch *batch;
        char key[64];
        CHECK_OK(bb_batches_next(&batches, &batch, &error), error);
        assert_int_equal(batch->target_count, json_integer_value(json_array_get(counts, i)));
        snprintf(key, sizeof key, "batch.%zu.tokens", i);
        const struct bb_safetensors_entry *tokens = bb_safetensors_find(&tensors, key);
        snprintf(key, sizeof key, "batch.%zu.lengths", i);
        const struct bb_safetensors_entry *lengths = bb_safetensors_find(&tensors, key);
        assert_non_null(tokens);
        assert_non_null(lengths);
        check_batch(batch, tokens, lengths);
    }
    bb_batches_close(&batches);
    bb_dataset_close(&dataset);
    bb_safetensors_close(&tensors);
    json_decref(settings);
}

static void test_mlx_batches(void **state)
{
    (void)state;
    static const char *const names[] = {
        "chat-mask-adamw-b1-cosine", "chat-nomask-adam-b2-accum3", "completions-mask-adam-b2", "completions-nomask-adam-b2",
        "text-adam-b1",              "text-adam-b1-bf16",          "text-adam-b1-qv",          "text-adam-biascorr-b1",
        "text-adamw-b2",             "text-dora-adam-b1",          "text-sgd-b1",              "text-trunc64-adam-b2"};
    SKIP_WITHOUT_MODEL();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        check_case(names[i]);
}

/* 23 rows of text, of 1 to 23 words. */
static const char *write_rows(void)
{
    struct bb_buffer text = {0};
    for (int i = 0; i < 23; i++) {
        bb_buffer_add_text(&text, "{\"text\": \"a");
        for (int j = 0; j < (i * 7) % 23; j++)
            bb_buffer_add_text(&text, " fox");
        bb_buffer_add_text(&text, i == 11 ? "\n" : "\"}\n"); /* one of them is damaged */
    }
    const char *path = scratch_write("rows.jsonl", text.data, text.length);
    bb_buffer_clear(&text);
    return path;
}

static void check_epochs(struct bb_dataset *dataset, struct bb_batches_options options)
{
    struct bb_batches batches;
    const struct bb_train_batch *batch;
    bombus_error error;
    options.is_endless = false;
    CHECK_OK(bb_batches_open(&batches, dataset, &options, &error), error);
    for (int epoch = 0; epoch < 2; epoch++) {
        int seen[24] = {0}, total = 0;
        for (;;) {
            CHECK_OK(bb_batches_next(&batches, &batch, &error), error);
            if (batch == NULL)
                break;
            assert_int_equal(batch->epoch, epoch);
            assert_true(batch->token_count <= options.batch_size * 64);
            for (int32_t i = 0; i < batch->span_count; i++, total++)
                seen[batch->lines[i]]++;
        }
        assert_int_equal(total, 22);
        for (int i = 1; i <= 23; i++)
            assert_int_equal(seen[i], i == 12 ? 0 : 1);
    }
    bb_batches_close(&batches);
}

static uint64_t digest_of(const struct bb_train_batch *batch)
{
    uint64_t digest = batch->number * 31 + batch->epoch;
    for (int32_t i = 0; i < batch->row_count; i++)
        digest = digest * 1000003 + (uint64_t)(batch->tokens[i] + 7 * batch->positions[i] + 31 * batch->targets[i]);
    return digest;
}

/* Batches 0 .. 29 by one process; then resumed at each; then by three processes. */
static void check_resume(struct bb_dataset *dataset, struct bb_batches_options options)
{
    struct bb_batches batches, other;
    const struct bb_train_batch *batch;
    struct bb_batches_state states[30];
    struct bb_numpy_random random, second;
    uint64_t digests[30];
    bombus_error error;
    options.is_endless = true;
    options.numpy = &random;
    bb_numpy_random_seed(&random, 5);
    CHECK_OK(bb_batches_open(&batches, dataset, &options, &error), error);
    for (int i = 0; i < 30; i++) {
        states[i] = bb_batches_get_state(&batches);
        CHECK_OK(bb_batches_next(&batches, &batch, &error), error);
        digests[i] = digest_of(batch);
        if (i % 4 == 0)
            bb_numpy_random_next(&random); /* as an evaluation draws */
    }
    bb_batches_close(&batches);
    options.numpy = &second;
    for (int i = 0; i < 30; i++) {
        bb_numpy_random_seed(&second, 5);
        CHECK_OK(bb_batches_open(&other, dataset, &options, &error), error);
        CHECK_OK(bb_batches_set_state(&other, &states[i], &error), error);
        for (int j = i; j < 30; j++) {
            CHECK_OK(bb_batches_next(&other, &batch, &error), error);
            assert_int_equal(digest_of(batch), digests[j]);
            if (j % 4 == 0)
                bb_numpy_random_next(&second);
        }
        bb_batches_close(&other);
    }
    struct bb_batches_state bad = {.next = 1000};
    CHECK_OK(bb_batches_open(&other, dataset, &options, &error), error);
    assert_int_equal(bb_batches_set_state(&other, &bad, &error), BOMBUS_ERROR_MISMATCH);
    bb_batches_close(&other);
}

static void check_processes(struct bb_dataset *dataset, struct bb_batches_options options)
{
    struct bb_batches one, three[3];
    const struct bb_train_batch *batch;
    bombus_error error;
    options.is_endless = true;
    CHECK_OK(bb_batches_open(&one, dataset, &options, &error), error);
    options.size = 3;
    for (options.rank = 0; options.rank < 3; options.rank++)
        CHECK_OK(bb_batches_open(&three[options.rank], dataset, &options, &error), error);
    for (int i = 0; i < 30; i++) {
        CHECK_OK(bb_batches_next(&one, &batch, &error), error);
        uint64_t expected = digest_of(batch);
        CHECK_OK(bb_batches_next(&three[i % 3], &batch, &error), error);
        assert_int_equal(digest_of(batch), expected);
    }
    bb_batches_close(&one);
    for (int i = 0; i < 3; i++)
        bb_batches_close(&three[i]);
}

static void test_orders(void **state)
{
    (void)state;
    SKIP_WITHOUT_MODEL();
    struct bb_dataset dataset;
    bombus_error error;
    struct bb_dataset_options options = {.tokenizer = tokenizer, .max_seq_length = 64};
    CHECK_OK(bb_dataset_open(&dataset, write_rows(), &options, &error), error);
    for (int i = 0; i < 8; i++) {
        struct bb_batches_options order = {.batch_size = i & 1 ? 4 : 1,
                                           .order = i & 2 ? BB_ORDER_FILE : BB_ORDER_SHUFFLED,
                                           .packing = (i & 4) != 0,
                                           .seed = 3};
        check_epochs(&dataset, order);
        check_resume(&dataset, order);
        check_processes(&dataset, order);
    }
    check_resume(&dataset, (struct bb_batches_options){.batch_size = 4, .order = BB_ORDER_MLX});
    bb_dataset_close(&dataset);
}

static void test_wrong_options(void **state)
{
    (void)state;
    SKIP_WITHOUT_MODEL();
    struct bb_dataset dataset;
    struct bb_batches batches;
    struct bb_numpy_random random;
    bombus_error error;
    struct bb_dataset_options options = {.tokenizer = tokenizer, .max_seq_length = 64};
    const struct bb_batches_options wrong[] = {{.batch_size = 0},
                                               {.batch_size = 1, .rank = 1},
                                               {.batch_size = 1, .rank = 2, .size = 2},
                                               {.batch_size = 40, .order = BB_ORDER_MLX, .numpy = &random},
                                               {.batch_size = 1, .order = BB_ORDER_MLX, .packing = true, .numpy = &random}};
    CHECK_OK(bb_dataset_open(&dataset, write_rows(), &options, &error), error);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_int_equal(bb_batches_open(&batches, &dataset, &wrong[i], &error), BOMBUS_ERROR_ARGUMENT);
    bb_dataset_close(&dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_numpy_permutation), cmocka_unit_test(test_mlx_batches),
                                       cmocka_unit_test(test_orders), cmocka_unit_test(test_wrong_options)};
    return cmocka_run_group_tests(tests, text_setup, text_teardown);
}
