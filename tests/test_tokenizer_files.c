/* Opening tokenizers: damaged and hostile files, the cache of compiled vocabularies, failing memory. */
#include "base/map.h"
#include "scratch.h"
#include "text/regex.h"
#include "text/tokenizer.h"

#include <dirent.h>
#include <jansson.h>

static const char qwen[] = "tests/fixtures/tokenizers/tiny-qwen", llama[] = "tests/fixtures/tokenizers/tiny-llama2";

/* Opens the scratch folder with the given tokenizer.json; expects failure and a message with `expected` in it. */
static void check_refused(const char *json, bombus_status expected_status, const char *expected)
{
    bombus_error error;
    struct bb_tokenizer *tokenizer;
    scratch_text("tokenizer.json", json);
    bombus_status status = bb_tokenizer_open(&tokenizer, scratch_folder, NULL, &error);
    if (status != expected_status || strstr(error.message, expected) == NULL)
        print_error("%.120s: %s: %s\n", json, bombus_status_name(status), status != BOMBUS_OK ? error.message : "");
    assert_int_equal(status, expected_status);
    assert_non_null(strstr(error.message, expected));
    assert_null(tokenizer);
}

#define MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"

static void test_refused_files(void **state)
{
    (void)state;
    bombus_error error;
    struct bb_tokenizer *tokenizer;
    unlink(scratch_path("tokenizer.json"));
    assert_int_equal(bb_tokenizer_open(&tokenizer, scratch_folder, NULL, &error), BOMBUS_ERROR_NOT_FOUND);
    check_refused("", BOMBUS_ERROR_FORMAT, "tokenizer.json");
    check_refused("[]", BOMBUS_ERROR_FORMAT, "damaged");
    check_refused("{}", BOMBUS_ERROR_FORMAT, "model");
    check_refused("{\"model\":3}", BOMBUS_ERROR_FORMAT, "model");
    check_refused("{\"model\":{\"type\":\"BPE\"}}", BOMBUS_ERROR_FORMAT, "vocab");
    check_refused("{" MODEL, BOMBUS_ERROR_FORMAT, "damaged");
    check_refused("{" MODEL "," MODEL "}", BOMBUS_ERROR_FORMAT, "twice");
    check_refused("{" MODEL ",\"x\":nonsense}", BOMBUS_ERROR_FORMAT, "tokenizer.json");
    check_refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\xFF\":0},\"merges\":[]}}", BOMBUS_ERROR_FORMAT, "UTF-8");
    check_refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"\\ud800\":0},\"merges\":[]}}", BOMBUS_ERROR_FORMAT,
                  "token");
    check_refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", BOMBUS_ERROR_FORMAT, "16777215");
    check_refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":4000000000},\"merges\":[]}}", BOMBUS_ERROR_FORMAT,
                  "16777215");
    check_refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1.5},\"merges\":[]}}", BOMBUS_ERROR_FORMAT, "id");
    check_refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}", BOMBUS_ERROR_FORMAT,
                  "'b'");
    check_refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}", BOMBUS_ERROR_FORMAT,
                  "'aa'");
    check_refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a  a\"]}}", BOMBUS_ERROR_FORMAT,
                  "space");
    check_refused("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", BOMBUS_ERROR_FORMAT,
                  "two tokens");
    check_refused("{\"model\":{\"type\":\"BPE\",\"vocab\":[[\"a\",0]],\"merges\":[]}}", BOMBUS_ERROR_FORMAT, "vocab");
    check_refused("{\"model\":{\"type\":\"Unigram\",\"unk_id\":7,\"vocab\":[[\"a\",0]]}}", BOMBUS_ERROR_FORMAT,
                  "unk_id");
    check_refused("{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\",\"x\"]]}}", BOMBUS_ERROR_FORMAT, "score");
    check_refused("{\"model\":{\"type\":\"BPE\",\"dropout\":0.1,\"vocab\":{\"a\":0},\"merges\":[]}}",
                  BOMBUS_ERROR_UNSUPPORTED, "dropout");
    check_refused("{" MODEL ",\"added_tokens\":{}}", BOMBUS_ERROR_FORMAT, "added_tokens");
    check_refused("{" MODEL ",\"added_tokens\":[{\"id\":3}]}", BOMBUS_ERROR_FORMAT, "content");
}

static void test_unknown_components(void **state)
{
    (void)state;
    check_refused("{\"model\":{\"type\":\"WordPiece\",\"vocab\":{\"a\":0}}}", BOMBUS_ERROR_UNSUPPORTED,
                  "'WordPiece' is not supported; known are BPE, Unigram");
    check_refused("{" MODEL ",\"normalizer\":{\"type\":\"Nonsense\"}}", BOMBUS_ERROR_UNSUPPORTED,
                  "'Nonsense' is not supported; known are NFC");
    check_refused("{" MODEL ",\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Nonsense\"}]}}",
                  BOMBUS_ERROR_UNSUPPORTED, "known are ByteLevel, Metaspace");
    check_refused("{" MODEL ",\"post_processor\":{\"type\":\"Nonsense\"}}", BOMBUS_ERROR_UNSUPPORTED,
                  "TemplateProcessing");
    check_refused("{" MODEL ",\"decoder\":{\"type\":\"WordPiece\"}}", BOMBUS_ERROR_UNSUPPORTED, "ByteFallback");
    check_refused("{" MODEL ",\"decoder\":{}}", BOMBUS_ERROR_FORMAT, "type");
    check_refused("{" MODEL
                  ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":\"Isolated\"}}",
                  BOMBUS_ERROR_UNSUPPORTED, "regular expression '('");
    check_refused("{" MODEL
                  ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"a\"},\"behavior\":\"Sideways\"}}",
                  BOMBUS_ERROR_UNSUPPORTED, "Sideways");
    check_refused("{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":3,\"behavior\":\"Isolated\"}}",
                  BOMBUS_ERROR_FORMAT, "pattern");
    check_refused("{" MODEL
                  ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}}],"
                  "\"special_tokens\":{}}}",
                  BOMBUS_ERROR_FORMAT, "special_tokens");
    check_refused("{" MODEL ",\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"AAAA\"}}",
                  BOMBUS_ERROR_FORMAT, "map");
    struct bb_buffer deep = {0};
    bb_buffer_add_text(&deep, "{" MODEL ",\"normalizer\":");
    for (int i = 0; i < 100; i++)
        bb_buffer_add_text(&deep, "{\"type\":\"Sequence\",\"normalizers\":[");
    for (int i = 0; i < 100; i++)
        bb_buffer_add_text(&deep, "]}");
    bb_buffer_add_text(&deep, "}");
    check_refused(deep.data, BOMBUS_ERROR_LIMIT, "sequences");
    deep.length = 0;
    for (int i = 0; i < 100000; i++)
        bb_buffer_add_text(&deep, "{\"model\":");
    check_refused(deep.data, BOMBUS_ERROR_FORMAT, "damaged");
    bb_buffer_clear(&deep);
}

/* Patterns that would take for ever end in an error, not in a hang. */
static void test_costly_regex(void **state)
{
    (void)state;
    static const char *const patterns[] = {"(a+)+$", "(?:a|aa)+$", "(?:(?:a?){30}){30}b"};
    for (size_t i = 0; i < BB_COUNT(patterns); i++) {
        bombus_error error;
        struct bb_tokenizer *tokenizer;
        struct bb_buffer json = {0};
        char text[80];
        int32_t *ids;
        size_t count;
        memset(text, 'a', sizeof text);
        text[sizeof text - 1] = '!';
        bb_buffer_format(
            &json,
            "{" MODEL
            ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},\"behavior\":\"Isolated\"}}",
            patterns[i]);
        scratch_text("tokenizer.json", json.data);
        CHECK_OK(bb_tokenizer_open(&tokenizer, scratch_folder, NULL, &error), error);
        bombus_status status = bb_tokenizer_encode(tokenizer, text, sizeof text, false, &ids, &count, &error);
        if (status != BOMBUS_OK) /* a match may also fail fast */
            assert_int_equal(status, BOMBUS_ERROR_LIMIT);
        if (i == 0)
            assert_int_equal(status, BOMBUS_ERROR_LIMIT);
        bb_release(ids);
        bb_tokenizer_close(tokenizer);
        bb_buffer_clear(&json);
    }
}

static void check_translation(const char *pattern, const char *expected)
{
    bombus_error error;
    struct bb_buffer result = {0};
    bombus_status status = bb_regex_translate(&result, pattern, strlen(pattern), &error);
    if (expected == NULL) {
        assert_int_equal(status, BOMBUS_ERROR_UNSUPPORTED);
    } else {
        CHECK_OK(status, error);
        assert_string_equal(result.data, expected);
    }
    bb_buffer_clear(&result);
}

static void test_regex_dialect(void **state)
{
    (void)state;
    check_translation("(?i:'s|'t)|\\p{L}+", "(?i:'s|'t)|\\p{L}+");
    check_translation("\\h+[\\h_]", "[0-9a-fA-F]+[0-9a-fA-F_]");
    check_translation("\\u4e00", "\\x{4e00}");
    check_translation("a{2}?", "(?:a{2})?");
    check_translation("a{1,3}+b", "(?:a{1,3})+b");
    check_translation("(a|b){1,3}+", "(?:(a|b){1,3})+");
    check_translation("a{1,3}?b", "a{1,3}?b");
    check_translation("a{,3}", "a{0,3}");
    check_translation("a{x}", "a\\{x}");
    check_translation("(?m:.)", "(?s:.)");
    check_translation("\\x{e9}+\\x41{2}?[\\x{e9}]", "\\x{e9}+(?:\\x{41}{2})?[\\x{e9}]");
    check_translation("\\v", "\\x{b}");
    check_translation("\\p{Letter}\\P{Letter_Number}\\p{^Lu}", "\\p{L}\\P{Nl}\\P{Lu}");
    check_translation("\\p{Han}\\P{hani}\\p{^Old_Italic}", "\\p{sc:Han}\\P{sc:hani}\\P{sc:Old_Italic}");
    check_translation("\\p{Alnum}[\\P{Alnum}a]", "[\\p{Alphabetic}\\p{Nd}](?:(?:[a]|[^\\p{Alphabetic}\\p{Nd}]))");
    check_translation("[^\\H]", "(?:(?!(?:[^0-9a-fA-F]))(?s:.))");
    check_translation("[a-z&&[^e]]", "(?:[a-z](?<=(?:[^e])))");
    check_translation("[a[bc]]", "(?:(?:[a]|[bc]))");
    check_translation("[^a[bc]]", "(?:(?!(?:[a]|[bc]))(?s:.))");
    check_translation("[[:alpha:]x]", "[\\p{Alphabetic}x]");
    check_translation("[[:^punct:]x]", "(?:(?:[x]|[^\\p{P}\\p{S}]))");
    check_translation("[[:vowel:]]", NULL);
    check_translation("[[:alpha:", NULL);
    check_translation("[a[:;]]", "(?:(?:[a]|[:;]))");
    check_translation("[^\\s\\p{L}]", "[^\\s\\p{L}]");
    check_translation("\\x{}", NULL);
    check_translation("\\u123", NULL);
    check_translation("[a", NULL);
    check_translation("a)", NULL);
    check_translation("(*FAIL)", NULL);
    check_translation("[]", NULL);
    check_translation("\\", NULL);
}

/* Copies a fixture's tokenizer.json into the scratch folder, blown up by blanks so that it is worth a place in the
 * cache. */
static void write_large(const char *folder)
{
    enum { PADDING = 300 * 1024 };
    bombus_error error;
    char *path = bb_path_join(folder, "tokenizer.json"), *data;
    size_t size;
    CHECK_OK(bb_file_read(&data, &size, path, 1 << 20, &error), error);
    char *padded = malloc(size + PADDING);
    memcpy(padded, data, size);
    memset(padded + size, ' ', PADDING);
    scratch_write("tokenizer.json", padded, size + PADDING);
    free(padded);
    bb_release(data);
    bb_release(path);
}

/* The one file in the cache folder, empty text if there is none; *count tells how many there are. */
static const char *cached_file(const char *folder, size_t *count)
{
    static char path[1024];
    DIR *directory = opendir(folder);
    *count = 0;
    path[0] = '\0';
    for (struct dirent *entry; directory != NULL && (entry = readdir(directory)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        ++*count;
    }
    if (directory != NULL)
        closedir(directory);
    return path;
}

/* Without waiting for the disk, as the library does. */
static void write_plainly(const char *path, const char *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* Opens the scratch folder with a cache and encodes a text; what comes out must not depend on the cache. */
static void check_same(const char *cache, const int32_t *expected, size_t expected_count)
{
    static const char text[] = "The quick brown fox, 123 <|im_start|>caf\xC3\xA9</s>";
    bombus_error error;
    struct bb_tokenizer *tokenizer;
    int32_t *ids;
    size_t count;
    CHECK_OK(bb_tokenizer_open(&tokenizer, scratch_folder, cache, &error), error);
    CHECK_OK(bb_tokenizer_encode(tokenizer, text, sizeof text - 1, true, &ids, &count, &error), error);
    if (expected != NULL) {
        assert_int_equal(count, expected_count);
        assert_memory_equal(ids, expected, count * sizeof *ids);
    }
    bb_release(ids);
    bb_tokenizer_close(tokenizer);
}

static void test_cache(void **state)
{
    (void)state;
    static const char text[] = "The quick brown fox, 123 <|im_start|>caf\xC3\xA9</s>";
    const char *cache = scratch_path("cache/deep");
    bombus_error error;
    struct bb_tokenizer *tokenizer;
    int32_t *ids;
    size_t count, files, size;
    char *data;
    write_large(qwen);
    CHECK_OK(bb_tokenizer_open(&tokenizer, scratch_folder, NULL, &error), error);
    CHECK_OK(bb_tokenizer_encode(tokenizer, text, sizeof text - 1, true, &ids, &count, &error), error);
    bb_tokenizer_close(tokenizer);
    check_same(cache, ids, count);
    const char *path = cached_file(cache, &files);
    assert_int_equal(files, 1);
    check_same(cache, ids, count);
    CHECK_OK(bb_file_read(&data, &size, path, 1 << 24, &error), error);
    /* Cut short, one bit changed, another file: noticed, and written anew. */
    for (size_t i = 0; i < 40; i++) {
        char *damaged = malloc(size);
        memcpy(damaged, data, size);
        size_t place = i < 20 ? i * 8 : i * 7919 % size, length = i % 10 == 9 ? size * i / 40 : size;
        damaged[place] = (char)(damaged[place] ^ 1 << i % 8);
        write_plainly(path, damaged, length);
        check_same(cache, ids, count);
        char *again;
        size_t again_size;
        CHECK_OK(bb_file_read(&again, &again_size, path, 1 << 24, &error), error);
        assert_int_equal(again_size, size);
        assert_memory_equal(again, data, size);
        bb_release(again);
        free(damaged);
    }
    /* Another source has another copy. */
    write_large(llama);
    check_same(cache, NULL, 0);
    cached_file(cache, &files);
    assert_int_equal(files, 2);
    /* A folder that cannot be written to does no harm. */
    check_same("/proc/no/such/folder", NULL, 0);
    bb_release(data);
    bb_release(ids);
}

/* Damage that carries a right hash: nothing may crash, whatever comes out. */
static void test_hostile_cache(void **state)
{
    (void)state;
    enum { HEADER = 112, CONTENT_HASH = 40 }; /* as in tokenizer_cache.c; test_cache would fail if a place were wrong */
    const char *cache = scratch_path("hostile");
    bombus_error error;
    size_t files, size;
    char *data;
    write_large(qwen);
    check_same(cache, NULL, 0);
    const char *path = cached_file(cache, &files);
    CHECK_OK(bb_file_read(&data, &size, path, 1 << 24, &error), error);
    uint64_t hash = bb_hash(data + HEADER, size - HEADER, 1);
    assert_memory_equal(&hash, data + CONTENT_HASH, sizeof hash);
    for (size_t i = 0; i < 200; i++) {
        static const char text[] = "The quick brown fox, 123 \xE5\xA4\xA9";
        char *damaged = malloc(size);
        memcpy(damaged, data, size);
        size_t place =
            i < 64 ? CONTENT_HASH + 8 + i % (HEADER - CONTENT_HASH - 8) : HEADER + i * 104729 % (size - HEADER);
        damaged[place] = (char)(i % 3 == 0 ? 0xFF : damaged[place] ^ 1 << i % 8);
        hash = bb_hash(damaged + HEADER, size - HEADER, 1);
        memcpy(damaged + CONTENT_HASH, &hash, sizeof hash);
        write_plainly(path, damaged, size);
        struct bb_tokenizer *tokenizer;
        int32_t *ids;
        size_t count;
        CHECK_OK(bb_tokenizer_open(&tokenizer, scratch_folder, cache, &error), error);
        if (bb_tokenizer_encode(tokenizer, text, sizeof text - 1, true, &ids, &count, &error) == BOMBUS_OK) {
            struct bb_buffer decoded = {0};
            CHECK_OK(bb_tokenizer_decode(tokenizer, ids, count, false, &decoded, &error), error);
            bb_buffer_clear(&decoded);
        }
        bb_release(ids);
        bb_tokenizer_close(tokenizer);
        free(damaged);
    }
    bb_release(data);
}

/* Everything that a tokenizer does, with whatever memory there is. *result: a hash of what came out. */
static bombus_status use_tokenizer(const char *folder, const char *cache, uint64_t *result, bombus_error *error)
{
    static const char text[] = "The quick  brown fox, 123 <|im_start|>caf\xC3\xA9 \xFF e\xCC\x81 "
                               "antidisestablishmentarianismantidisestablish</s>";
    struct bb_tokenizer *tokenizer = NULL;
    struct bb_stream_decoder *decoder = NULL;
    struct bb_buffer decoded = {0};
    int32_t *ids = NULL;
    size_t count = 0, length;
    const char *segment;
    bombus_status status = bb_tokenizer_open(&tokenizer, folder, cache, error);
    if (status == BOMBUS_OK)
        status = bb_tokenizer_encode(tokenizer, text, sizeof text - 1, true, &ids, &count, error);
    if (status == BOMBUS_OK)
        status = bb_tokenizer_decode(tokenizer, ids, count, false, &decoded, error);
    if (status == BOMBUS_OK)
        status = bb_stream_decoder_create(&decoder, tokenizer, error);
    for (size_t i = 0; i < count && status == BOMBUS_OK; i++)
        status = bb_stream_decoder_add(decoder, ids[i], &segment, &length, error);
    if (status == BOMBUS_OK)
        status = bb_stream_decoder_finish(decoder, &segment, &length, error);
    if (status == BOMBUS_OK)
        *result = bb_hash(ids, count * sizeof *ids, bb_hash(decoded.data, decoded.length, 0));
    bb_stream_decoder_free(decoder);
    bb_buffer_clear(&decoded);
    bb_release(ids);
    bb_tokenizer_close(tokenizer);
    return status;
}

static void check_failing_memory(const char *folder, const char *cache)
{
    bombus_error error;
    bombus_status status = BOMBUS_ERROR_MEMORY;
    uint64_t expected, result;
    size_t failures = 0;
    CHECK_OK(use_tokenizer(folder, NULL, &expected, &error), error);
    for (uint64_t call = 1;; call++) {
        uint64_t before = bb_memory_count();
        bb_memory_fail_at(call, call % 2 == 0);
        status = use_tokenizer(folder, cache, &result, &error);
        bool is_past = bb_memory_count() - before < call;
        bb_memory_fail_at(0, false);
        if (is_past)
            break;
        /* Some things can be done without: compiled regular expressions, a copy in the cache. */
        assert_true(status == BOMBUS_ERROR_MEMORY || (status == BOMBUS_OK && result == expected));
        failures += status == BOMBUS_ERROR_MEMORY;
    }
    assert_int_equal(status, BOMBUS_OK);
    assert_true(failures > 50);
}

static void test_failing_memory(void **state)
{
    (void)state;
    check_failing_memory(qwen, NULL);
    check_failing_memory(llama, NULL);
    write_large(qwen);
    check_failing_memory(scratch_folder, scratch_path("failing"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_files),  cmocka_unit_test(test_unknown_components),
        cmocka_unit_test(test_costly_regex),   cmocka_unit_test(test_regex_dialect),
        cmocka_unit_test(test_cache),          cmocka_unit_test(test_hostile_cache),
        cmocka_unit_test(test_failing_memory),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
