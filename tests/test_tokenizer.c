/* The tokenizer against the reference: vectors, streaming, every component. Files, caches and failures:
 * test_tokenizer_files.c. */
#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "scratch.h"
#include "test.h"
#include "text/tokenizer.h"

#include <jansson.h>
#include <string.h>

/* Compares a text with what JSON expects; counts and shows the first few that differ. */
struct tally {
    const char *name;
    size_t checks, wrong;
};

static void complain(struct tally *tally, const char *what, size_t index, const char *actual, size_t length,
                     json_t *expected)
{
    tally->wrong++;
    if (tally->wrong > 5)
        return;
    char *text = json_dumps(expected, JSON_ENCODE_ANY);
    json_t *shown = json_stringn(actual, length);
    char *actual_text = shown != NULL ? json_dumps(shown, JSON_ENCODE_ANY) : NULL;
    print_error("%s: %s %zu: %.400s, expected %.400s\n", tally->name, what, index,
                actual_text != NULL ? actual_text : "(not UTF-8)", text != NULL ? text : "(nothing)");
    free(text);
    free(actual_text);
    json_decref(shown);
}

static void check_text(struct tally *tally, const char *what, size_t index, const char *actual, size_t length,
                       json_t *expected)
{
    tally->checks++;
    if (json_string_length(expected) != length || memcmp(json_string_value(expected), actual, length) != 0)
        complain(tally, what, index, actual, length, expected);
}

static int32_t *read_ids(json_t *list, size_t *count)
{
    *count = json_array_size(list);
    int32_t *ids = calloc(*count + 1, sizeof *ids);
    for (size_t i = 0; i < *count; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    return ids;
}

static void check_encode(struct tally *tally, const struct bb_tokenizer *tokenizer, size_t index, json_t *text,
                         bool add_special, json_t *expected)
{
    bombus_error error;
    int32_t *ids;
    size_t count;
    CHECK_OK(bb_tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text), add_special, &ids,
                                 &count, &error),
             error);
    json_t *actual = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(actual, json_integer(ids[i]));
    tally->checks++;
    if (!json_equal(actual, expected)) {
        char *shown = json_dumps(actual, 0);
        print_error("%s: encode %zu (special %d): %.300s\n", tally->name, index, add_special, shown);
        complain(tally, "encode", index, json_string_value(text), json_string_length(text), expected);
        free(shown);
    }
    json_decref(actual);
    bb_release(ids);
}

static void check_decode(struct tally *tally, const struct bb_tokenizer *tokenizer, size_t index, json_t *list,
                         bool skip_special, json_t *expected)
{
    bombus_error error;
    struct bb_buffer text = {0};
    size_t count;
    int32_t *ids = read_ids(list, &count);
    if (expected != NULL) {
        CHECK_OK(bb_tokenizer_decode(tokenizer, ids, count, skip_special, &text, &error), error);
        check_text(tally, skip_special ? "decode without special" : "decode", index, text.data != NULL ? text.data : "",
                   text.length, expected);
    }
    bb_buffer_clear(&text);
    free(ids);
}

static void check_stream(struct tally *tally, struct bb_stream_decoder *decoder, size_t index, json_t *item)
{
    bombus_error error;
    struct bb_buffer whole = {0};
    size_t count, length;
    const char *text;
    int32_t *ids = read_ids(json_object_get(item, "ids"), &count);
    json_t *segments = json_object_get(item, "segments");
    bb_stream_decoder_reset(decoder);
    for (size_t i = 0; i <= count; i++) {
        if (i < count)
            CHECK_OK(bb_stream_decoder_add(decoder, ids[i], &text, &length, &error), error);
        else
            CHECK_OK(bb_stream_decoder_finish(decoder, &text, &length, &error), error);
        bb_buffer_add(&whole, text, length);
        check_text(tally, "stream segment", index, text, length, json_array_get(segments, i));
    }
    check_text(tally, "stream", index, whole.data != NULL ? whole.data : "", whole.length,
               json_object_get(item, "text"));
    bb_buffer_clear(&whole);
    free(ids);
}

/* All vectors of one file; `folder` holds tokenizer.json. */
static void check_vectors(const char *name, const char *folder, const char *vectors_path)
{
    bombus_error error;
    struct bb_tokenizer *tokenizer;
    struct bb_stream_decoder *decoder;
    struct tally tally = {.name = name};
    json_t *vectors = json_load_file(vectors_path, JSON_ALLOW_NUL, NULL), *item;
    size_t i;
    assert_non_null(vectors);
    CHECK_OK(bb_tokenizer_open(&tokenizer, folder, NULL, &error), error);
    json_array_foreach(json_object_get(vectors, "encode"), i, item)
    {
        json_t *with_special = json_object_get(item, "ids_with_special"), *ids = json_object_get(item, "ids");
        json_t *decoded = json_object_get(item, "decoded"), *skipped = json_object_get(item, "decoded_skip_special");
        check_encode(&tally, tokenizer, i, json_object_get(item, "text"), false, ids);
        check_encode(&tally, tokenizer, i, json_object_get(item, "text"), true,
                     with_special != NULL ? with_special : ids);
        check_decode(&tally, tokenizer, i, ids, false, decoded);
        check_decode(&tally, tokenizer, i, ids, true, skipped != NULL ? skipped : decoded);
    }
    json_array_foreach(json_object_get(vectors, "decode_random_ids"), i, item)
    {
        json_t *decoded = json_object_get(item, "decoded"), *skipped = json_object_get(item, "decoded_skip_special");
        check_decode(&tally, tokenizer, i, json_object_get(item, "ids"), false, decoded);
        check_decode(&tally, tokenizer, i, json_object_get(item, "ids"), true, skipped != NULL ? skipped : decoded);
    }
    CHECK_OK(bb_stream_decoder_create(&decoder, tokenizer, &error), error);
    json_array_foreach(json_object_get(vectors, "stream"), i, item) check_stream(&tally, decoder, i, item);
    bb_stream_decoder_free(decoder);
    bb_tokenizer_close(tokenizer);
    json_decref(vectors);
    print_message("%s: %zu checks, %zu wrong\n", name, tally.checks, tally.wrong);
    assert_true(tally.checks > 100);
    assert_int_equal(tally.wrong, 0);
}

static void test_reference_vectors(void **state)
{
    (void)state;
    static const char *const names[] = {"tiny-qwen",  "tiny-llama3", "tiny-gpt2", "tiny-llama2", "tiny-mistral",
                                        "tiny-gemma", "tiny-phi3",   "qwen3",     "gpt2",        "mistral-v3"};
    size_t done = 0;
    for (size_t i = 0; i < BB_COUNT(names); i++) {
        char folder[64], vectors[64];
        snprintf(folder, sizeof folder, "tokenizers/%s", names[i]);
        snprintf(vectors, sizeof vectors, "tokenizers/%s/vectors.json", names[i]);
        const char *folder_path = golden_path(folder), *vectors_path = golden_path(vectors);
        if (vectors_path == NULL)
            continue;
        check_vectors(names[i], folder_path, vectors_path);
        done++;
    }
    SKIP_WITHOUT_GOLDEN(done > 0 ? "" : NULL);
}

static void test_own_vectors(void **state)
{
    (void)state;
    check_vectors("tiny-qwen", "tests/fixtures/tokenizers/tiny-qwen",
                  "tests/fixtures/tokenizers/tiny-qwen/vectors.json");
    check_vectors("tiny-llama2", "tests/fixtures/tokenizers/tiny-llama2",
                  "tests/fixtures/tokenizers/tiny-llama2/vectors.json");
}

/* tokenizer.json of one case: a model with other components around it. */
static void write_case(json_t *models, json_t *added_tokens, json_t *item)
{
    static const char *const parts[] = {"normalizer", "pre_tokenizer", "post_processor", "decoder"};
    bombus_error error;
    json_t *whole = json_object(),
           *model = json_copy(json_object_get(models, json_string_value(json_object_get(item, "base"))));
    json_object_update(model, json_object_get(item, "options"));
    json_object_set_new(whole, "model", model);
    json_object_set(whole, "added_tokens", added_tokens);
    for (size_t i = 0; i < BB_COUNT(parts); i++)
        if (json_object_get(item, parts[i]) != NULL)
            json_object_set(whole, parts[i], json_object_get(item, parts[i]));
    char *text = json_dumps(whole, JSON_COMPACT);
    CHECK_OK(bb_file_write(scratch_path("tokenizer.json"), text, strlen(text), &error), error);
    free(text);
    json_decref(whole);
}

static void check_case(struct tally *tally, json_t *texts, json_t *item)
{
    bombus_error error;
    struct bb_tokenizer *tokenizer;
    json_t *text, *ids = json_object_get(item, "ids"), *special = json_object_get(item, "special");
    json_t *decoded = json_object_get(item, "decoded");
    size_t i, count;
    int32_t *actual;
    CHECK_OK(bb_tokenizer_open(&tokenizer, scratch_folder, NULL, &error), error);
    json_array_foreach(texts, i, text)
    {
        check_encode(tally, tokenizer, i, text, false, json_array_get(ids, i));
        if (i < json_array_size(decoded))
            check_decode(tally, tokenizer, i, json_array_get(ids, i), true, json_array_get(decoded, i));
    }
    text = json_array_get(texts, 0);
    CHECK_OK(bb_tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text), true, &actual, &count,
                                 &error),
             error);
    assert_true(count > 1);
    assert_int_equal(actual[0], json_integer_value(json_array_get(special, 0)));
    assert_int_equal(actual[count - 1], json_integer_value(json_array_get(special, 1)));
    bb_release(actual);
    bb_tokenizer_close(tokenizer);
}

static void test_components(void **state)
{
    (void)state;
    json_t *fixture = json_load_file("tests/fixtures/tokenizers/components.json", JSON_ALLOW_NUL, NULL), *item;
    json_t *models = json_load_file("tests/fixtures/tokenizers/models.json", 0, NULL);
    size_t i, wrong = 0, checks = 0;
    assert_non_null(fixture);
    assert_non_null(models);
    json_array_foreach(json_object_get(fixture, "cases"), i, item)
    {
        struct tally tally = {.name = json_string_value(json_object_get(item, "name"))};
        write_case(models, json_object_get(fixture, "added_tokens"), item);
        check_case(&tally, json_object_get(fixture, "texts"), item);
        wrong += tally.wrong;
        checks += tally.checks;
    }
    print_message("components: %zu checks, %zu wrong\n", checks, wrong);
    assert_true(checks > 400);
    assert_int_equal(wrong, 0);
    json_decref(models);
    json_decref(fixture);
}

static struct bb_tokenizer *open_qwen(void)
{
    bombus_error error;
    struct bb_tokenizer *tokenizer;
    CHECK_OK(bb_tokenizer_open(&tokenizer, "tests/fixtures/tokenizers/tiny-qwen", NULL, &error), error);
    return tokenizer;
}

static void test_tokens_and_ids(void **state)
{
    (void)state;
    struct bb_tokenizer *tokenizer = open_qwen();
    size_t length, count;
    assert_int_equal(bb_tokenizer_size(tokenizer), 986);
    assert_int_equal(bb_tokenizer_id(tokenizer, "<|im_end|>", 10), 962);
    assert_int_equal(bb_tokenizer_id(tokenizer, "!", 1), 0);
    assert_int_equal(bb_tokenizer_id(tokenizer, "no such token", 13), -1);
    assert_string_equal(bb_tokenizer_token(tokenizer, 962, &length), "<|im_end|>");
    assert_int_equal(length, 10);
    assert_memory_equal(bb_tokenizer_token(tokenizer, 1, &length), "\"", 1);
    assert_null(bb_tokenizer_token(tokenizer, 986, &length));
    assert_null(bb_tokenizer_token(tokenizer, -1, &length));
    assert_true(bb_tokenizer_is_special(tokenizer, 962));
    assert_false(bb_tokenizer_is_special(tokenizer, 985)); /* </think> */
    assert_false(bb_tokenizer_is_special(tokenizer, 1));
    assert_false(bb_tokenizer_is_special(tokenizer, 1 << 30));
    /* generation_config.json's, then the eos_token of tokenizer_config.json */
    const int32_t *eos = bb_tokenizer_eos_ids(tokenizer, &count);
    assert_int_equal(count, 3);
    assert_int_equal(eos[0], 963);
    assert_int_equal(eos[1], 960);
    assert_int_equal(eos[2], 962);
    assert_null(bb_tokenizer_bos_token(tokenizer));
    assert_string_equal(bb_tokenizer_eos_token(tokenizer), "<|im_end|>");
    bb_tokenizer_close(tokenizer);
    bb_tokenizer_close(NULL);
}

static void test_invalid_utf8(void **state)
{
    (void)state;
    static const char broken[] = "a\xFF"
                                 "b\xE2\x82"
                                 "c\xF0\x9F\x98",
                      mended[] = "a\xEF\xBF\xBD"
                                 "b\xEF\xBF\xBD"
                                 "c\xEF\xBF\xBD";
    struct bb_tokenizer *tokenizer = open_qwen();
    bombus_error error;
    int32_t *ids, *expected;
    size_t count, expected_count;
    CHECK_OK(bb_tokenizer_encode(tokenizer, broken, sizeof broken - 1, false, &ids, &count, &error), error);
    CHECK_OK(bb_tokenizer_encode(tokenizer, mended, sizeof mended - 1, false, &expected, &expected_count, &error),
             error);
    assert_int_equal(count, expected_count);
    assert_memory_equal(ids, expected, count * sizeof *ids);
    bb_release(ids);
    bb_release(expected);
    bb_tokenizer_close(tokenizer);
}

/* Space that one added token took on its right is not there for the next one. */
static void test_added_tokens_share_space(void **state)
{
    (void)state;
    static const char json[] = "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]},\"added_tokens\":["
                               "{\"content\":\"<x>\",\"rstrip\":true,\"normalized\":false},"
                               "{\"content\":\" \",\"lstrip\":true,\"normalized\":false}]}";
    bombus_error error;
    struct bb_tokenizer *tokenizer;
    int32_t *ids;
    size_t count;
    scratch_text("tokenizer.json", json);
    CHECK_OK(bb_tokenizer_open(&tokenizer, scratch_folder, NULL, &error), error);
    CHECK_OK(bb_tokenizer_encode(tokenizer, "a  <x>  a", 9, false, &ids, &count, &error), error);
    const int32_t expected[] = {0, 2, 2, 1, 0};
    assert_int_equal(count, BB_COUNT(expected));
    assert_memory_equal(ids, expected, sizeof expected);
    bb_release(ids);
    bb_tokenizer_close(tokenizer);
}

/* A new token takes the next id from the vocabulary's count on, whatever the list says and whether it is taken. */
static void test_ids_of_added_tokens(void **state)
{
    (void)state;
    static const char json[] =
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"<b>\":7,\"c\":4},\"merges\":[]},\"added_tokens\":["
        "{\"content\":\"<x>\",\"id\":20},{\"content\":\"<b>\",\"id\":7},{\"content\":\"<y>\",\"id\":21},"
        "{\"content\":\"<z>\",\"id\":22}]}";
    static const struct {
        const char *token;
        int32_t id;
    } expected[] = {{"<x>", 3}, {"<b>", 7}, {"<y>", 4}, {"<z>", 5}, {"c", 4}};
    bombus_error error;
    struct bb_tokenizer *tokenizer;
    scratch_text("tokenizer.json", json);
    CHECK_OK(bb_tokenizer_open(&tokenizer, scratch_folder, NULL, &error), error);
    for (size_t i = 0; i < BB_COUNT(expected); i++)
        assert_int_equal(bb_tokenizer_id(tokenizer, expected[i].token, strlen(expected[i].token)), expected[i].id);
    struct bb_buffer text = {0};
    CHECK_OK(bb_tokenizer_decode(tokenizer, (const int32_t[]){4}, 1, false, &text, &error), error);
    assert_int_equal(text.length, 3);
    assert_memory_equal(text.data, "<y>", 3);
    bb_buffer_clear(&text);
    bb_tokenizer_close(tokenizer);
}

/* A megabyte that nothing cuts must not take quadratic time: then this test would run for hours. */
static void test_endless_word(void **state)
{
    (void)state;
    enum { SIZE = 1000000 };
    struct bb_tokenizer *tokenizer = open_qwen();
    bombus_error error;
    struct bb_buffer decoded = {0};
    char *text = malloc(SIZE);
    int32_t *ids;
    size_t count;
    for (size_t i = 0; i < SIZE; i++)
        text[i] = "etaoinshrdlu"[(i * 7919 >> 3) % 12];
    CHECK_OK(bb_tokenizer_encode(tokenizer, text, SIZE, false, &ids, &count, &error), error);
    assert_in_range(count, SIZE / 10, SIZE);
    CHECK_OK(bb_tokenizer_decode(tokenizer, ids, count, false, &decoded, &error), error);
    assert_int_equal(decoded.length, SIZE);
    assert_memory_equal(decoded.data, text, SIZE);
    bb_buffer_clear(&decoded);
    bb_release(ids);
    free(text);
    bb_tokenizer_close(tokenizer);
}

/* Once its buffers have grown a stream takes no memory. */
static void test_stream_allocates_nothing(void **state)
{
    (void)state;
    struct bb_tokenizer *tokenizer = open_qwen();
    struct bb_stream_decoder *decoder;
    bombus_error error;
    const char *text;
    size_t length;
    uint64_t before = 0;
    CHECK_OK(bb_stream_decoder_create(&decoder, tokenizer, &error), error);
    for (int32_t i = 0; i < 2 * 986; i++) {
        if (i == 986)
            before = bb_memory_count();
        CHECK_OK(bb_stream_decoder_add(decoder, i % 986, &text, &length, &error), error);
    }
    assert_int_equal(bb_memory_count(), before);
    bb_stream_decoder_free(decoder);
    bb_stream_decoder_free(NULL);
    bb_tokenizer_close(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_vectors),
        cmocka_unit_test(test_own_vectors),
        cmocka_unit_test(test_components),
        cmocka_unit_test(test_tokens_and_ids),
        cmocka_unit_test(test_invalid_utf8),
        cmocka_unit_test(test_added_tokens_share_space),
        cmocka_unit_test(test_ids_of_added_tokens),
        cmocka_unit_test(test_endless_word),
        cmocka_unit_test(test_stream_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
