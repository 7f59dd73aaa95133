/* The tokenizer: reference vectors, streaming, every component, damaged files and caches, failing memory. */
#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "test.h"
#include "text/tokenizer.h"

#include <jansson.h>
#include <string.h>

/* Compares a text with what JSON expects; counts and shows the first few that differ. */
struct tally {
    const char *name;
    size_t checks, wrong;
};

static void complain(struct tally *tally, const char *what, size_t index, const char *actual, size_t length, json_t *expected)
{
    tally->wrong++;
    if (tally->wrong > 5)
        return;
    char *text = json_dumps(expected, JSON_ENCODE_ANY);
    json_t *shown = json_stringn(actual, length);
    char *actual_text = shown != NULL ? json_dumps(shown, JSON_ENCODE_ANY) : NULL;
    print_error("%s: %s %zu: %.400s, expected %.400s\n", tally->name, what, index, actual_text != NULL ? actual_text : "(not UTF-8)",
                text != NULL ? text : "(nothing)");
    free(text);
    free(actual_text);
    json_decref(shown);
}

static void check_text(struct tally *tally, const char *what, size_t index, const char *actual, size_t length, json_t *expected)
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

static void check_encode(struct tally *tally, const struct bb_tokenizer *tokenizer, size_t index, json_t *text, bool add_special,
                         json_t *expected)
{
    bombus_error error;
    int32_t *ids;
    size_t count;
    CHECK_OK(bb_tokenizer_encode(tokenizer, json_string_value(text), json_string_length(text), add_special, &ids, &count, &error),
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

static void check_decode(struct tally *tally, const struct bb_tokenizer *tokenizer, size_t index, json_t *list, bool skip_special,
                         json_t *expected)
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
    check_text(tally, "stream", index, whole.data != NULL ? whole.data : "", whole.length, json_object_get(item, "text"));
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
    json_array_foreach(json_object_get(vectors, "encode"), i, item) {
        json_t *with_special = json_object_get(item, "ids_with_special"), *ids = json_object_get(item, "ids");
        json_t *decoded = json_object_get(item, "decoded"), *skipped = json_object_get(item, "decoded_skip_special");
        check_encode(&tally, tokenizer, i, json_object_get(item, "text"), false, ids);
        check_encode(&tally, tokenizer, i, json_object_get(item, "text"), true, with_special != NULL ? with_special : ids);
        check_decode(&tally, tokenizer, i, ids, false, decoded);
        check_decode(&tally, tokenizer, i, ids, true, skipped != NULL ? skipped : decoded);
    }
    json_array_foreach(json_object_get(vectors, "decode_random_ids"), i, item) {
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
    static const char *const names[] = {"tiny-qwen", "tiny-llama3", "tiny-gpt2", "tiny-llama2", "tiny-mistral", "tiny-gemma", "tiny-phi3",
                                        "qwen3",     "gpt2",        "mistral-v3"};
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
