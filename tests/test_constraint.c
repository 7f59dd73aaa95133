/* Constraints at work: compiled once a text, with the engine, speculation, adapters, threads and real vocabularies. */
#include "engine_fixture.h"
#include "generate/grammar/constraint_cache.h"
#include "generate/grammar/matcher.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#define STORY_MODEL "models/bombus-stories-28m-4bit"

/* What a text must be, and how others judge it: jansson and a function, or PCRE2 and an expression. */
static const struct wish {
    bombus_constraint_kind kind;
    const char *source, *expression; /* expression NULL: JSON */
} wishes[] = {
    {BOMBUS_CONSTRAINT_JSON_SCHEMA,
     "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":4},\"n\":{\"type\":\"integer\","
     "\"minimum\":-3,\"maximum\":120},\"ok\":{\"type\":\"boolean\"}},\"required\":[\"name\",\"n\"],"
     "\"additionalProperties\":false}",
     NULL},
    {BOMBUS_CONSTRAINT_REGEX, "[a-f]{3,8}-(19|20)[0-9]{2}", "[a-f]{3,8}-(19|20)[0-9]{2}"},
    {BOMBUS_CONSTRAINT_GBNF,
     "root ::= item (\",\" item){0,3}\nitem ::= name \"=\" [0-9]{1,3}\nname ::= [a-z] [a-z_]{0,3} | \"(\" name \")\"?",
     "(?<item>(?<name>[a-z][a-z_]{0,3}|\\((?&name)\\)?)=[0-9]{1,3})(,(?&item)){0,3}"},
    {BOMBUS_CONSTRAINT_REGEX, "(\xC3\xA9|\xE2\x82\xAC|[a-c]+){2,5}!", "(\xC3\xA9|\xE2\x82\xAC|[a-c]+){2,5}!"},
};

static bool is_good_object(const char *text)
{
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    json_t *name = json_object_get(json, "name"), *n = json_object_get(json, "n"), *ok = json_object_get(json, "ok");
    bool is_good = json_is_string(name) && json_is_integer(n) && json_integer_value(n) >= -3 &&
                   json_integer_value(n) <= 120 && (ok == NULL || json_is_boolean(ok)) &&
                   json_object_size(json) == 2 + (ok != NULL);
    size_t characters = 0;
    for (const char *at = json_string_value(name); at != NULL && *at != '\0'; at++)
        characters += ((unsigned char)*at & 0xC0) != 0x80;
    json_decref(json);
    return is_good && characters <= 4;
}

static bool matches(const char *expression, const char *text)
{
    char anchored[256];
    int code;
    PCRE2_SIZE offset;
    snprintf(anchored, sizeof anchored, "\\A(?:%s)\\z", expression);
    pcre2_code *compiled =
        pcre2_compile((PCRE2_SPTR)anchored, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &offset, NULL);
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(compiled, NULL);
    int found = pcre2_match(compiled, (PCRE2_SPTR)text, strlen(text), 0, 0, data, NULL);
    pcre2_match_data_free(data);
    pcre2_code_free(compiled);
    return found >= 0;
}

static bool is_good(const struct wish *wish, const char *text)
{
    return wish->expression == NULL ? is_good_object(text) : matches(wish->expression, text);
}

static bombus_constraint *compile(const struct wish *wish, const bombus_tokenizer *tokenizer)
{
    bombus_constraint *constraint;
    bombus_error error;
    CHECK_OK(bombus_constraint_create(&constraint, wish->kind, wish->source, strlen(wish->source), tokenizer, &error),
             error);
    return constraint;
}

/* ---- the cache ---- */

static bombus_tokenizer *open_story_tokenizer(void)
{
    bombus_tokenizer *tokenizer;
    bombus_error error;
    CHECK_OK(bombus_tokenizer_open(&tokenizer, STORY_MODEL, NULL, &error), error);
    return tokenizer;
}

/* How many allocations it takes to get a regular expression of one letter, repeated. */
static uint64_t steps_to_get(const bombus_tokenizer *tokenizer, size_t number)
{
    char source[64];
    snprintf(source, sizeof source, "[a-z]+%zu", number);
    uint64_t before = bb_memory_count();
    bombus_constraint_free(compile(&(struct wish){BOMBUS_CONSTRAINT_REGEX, source, NULL}, tokenizer));
    return bb_memory_count() - before;
}

static void test_cache(void **state)
{
    (void)state;
    bombus_tokenizer *tokenizer = open_story_tokenizer();
    bombus_error error;
    bombus_constraint *first = compile(&wishes[1], tokenizer), *again = compile(&wishes[1], tokenizer), *other;
    assert_ptr_equal(first, again);
    bombus_constraint_free(again);
    bombus_constraint_free(first);
    assert_ptr_equal(compile(&wishes[1], tokenizer), first); /* nobody held it meanwhile but the cache */
    /* The kind is a part of the key, and so is each byte of the text. */
    CHECK_OK(bombus_constraint_create(&again, BOMBUS_CONSTRAINT_JSON_SCHEMA, "true", 4, tokenizer, &error), error);
    CHECK_OK(bombus_constraint_create(&other, BOMBUS_CONSTRAINT_REGEX, "true", 4, tokenizer, &error), error);
    assert_ptr_not_equal(again, other);
    bombus_constraint_free(other);
    CHECK_OK(bombus_constraint_create(&other, BOMBUS_CONSTRAINT_JSON_SCHEMA, "true ", 5, tokenizer, &error), error);
    assert_ptr_not_equal(again, other);
    bombus_constraint_free(other);
    bombus_constraint_free(again);
    /* What is wrong is not kept, and says so each time. */
    for (int i = 0; i < 2; i++)
        assert_int_equal(bombus_constraint_create(&other, BOMBUS_CONSTRAINT_REGEX, "a(", 2, tokenizer, &error),
                         BOMBUS_ERROR_FORMAT);
    /* 32 are kept, by use. */
    for (size_t i = 0; i < 32; i++)
        assert_true(steps_to_get(tokenizer, i) > 0);
    for (size_t i = 0; i < 32; i++)
        assert_int_equal(steps_to_get(tokenizer, i), 0);
    assert_true(steps_to_get(tokenizer, 32) > 0);
    assert_int_equal(steps_to_get(tokenizer, 1), 0);
    assert_true(steps_to_get(tokenizer, 0) > 0); /* took the place of 2 */
    assert_true(steps_to_get(tokenizer, 2) > 0);
    assert_int_equal(steps_to_get(tokenizer, 1), 0);
    /* Let go by the cache long since, but held here. */
    struct bb_grammar_matcher matcher;
    CHECK_OK(bb_grammar_matcher_init(&matcher, first, &error), error);
    CHECK_OK(bb_grammar_matcher_advance_bytes(&matcher, "abc-1999", 8, &error), error);
    assert_true(matcher.must_end);
    bb_grammar_matcher_clear(&matcher);
    bombus_constraint_free(first);
    bombus_tokenizer_close(tokenizer);
}

static struct bombus_constraint *get(struct bb_constraint_cache *cache, bombus_constraint_kind kind, const char *source)
{
    struct bombus_constraint *constraint;
    bombus_error error;
    CHECK_OK(bb_constraint_cache_get(cache, &constraint, kind, source, strlen(source), &error), error);
    return constraint;
}

static void find_masks(const struct bombus_constraint *constraint, const char *text)
{
    struct bb_grammar_matcher matcher;
    bombus_error error;
    size_t count;
    CHECK_OK(bb_grammar_matcher_init(&matcher, constraint, &error), error);
    for (; *text != '\0'; text++) {
        CHECK_OK(bb_grammar_matcher_find_mask(&matcher, &count, &error), error);
        CHECK_OK(bb_grammar_matcher_advance_bytes(&matcher, text, 1, &error), error);
    }
    bb_grammar_matcher_clear(&matcher);
}

/* Bytes count with the masks that were found since: the oldest goes, then the large one itself. */
static void test_cache_bytes(void **state)
{
    (void)state;
    const bombus_constraint_kind regex = BOMBUS_CONSTRAINT_REGEX, schema = BOMBUS_CONSTRAINT_JSON_SCHEMA;
    struct bb_tokenizer *tokenizer;
    struct bb_constraint_cache *cache;
    bombus_error error;
    size_t limit = 64 << 20;
    CHECK_OK(bb_tokenizer_open(&tokenizer, STORY_MODEL, NULL, &error), error);
    for (int turn = 0; turn < 2; turn++) {
        CHECK_OK(bb_constraint_cache_create(&cache, tokenizer, 8, limit, &error), error);
        struct bombus_constraint *small = get(cache, regex, "a*"), *large = get(cache, schema, "true");
        size_t before = bb_constraint_bytes(large), rest = 4 * bb_constraint_bytes(small);
        find_masks(large, "[\"x\",{\"abc\":1.5e3,\"b\":[true,null]}");
        assert_true(bb_constraint_bytes(large) > before + rest);
        limit = before + rest;
        struct bombus_constraint *other = get(cache, regex, "b*");
        bb_constraint_free(other);
        assert_ptr_equal(get(cache, regex, "b*"), other);
        bb_constraint_free(other);
        other = get(cache, schema, "true");
        assert_int_equal(other == large, turn == 0);
        bb_constraint_free(other);
        other = get(cache, regex, "a*");
        assert_int_equal(other == small, turn == 0);
        bb_constraint_free(other);
        find_masks(large, "[1]"); /* let go, but held */
        bb_constraint_free(small);
        bb_constraint_free(large);
        bb_constraint_cache_free(cache);
    }
    bb_tokenizer_close(tokenizer);
}

/* ---- threads ---- */

enum { WALKS = 8, WALK_BYTES = 256 };

struct walker {
    struct bb_constraint_cache *cache;
    char texts[WALKS][WALK_BYTES];
    bool is_failed;
};

/* A text of random tokens that the constraint allows; empty after a failure. */
static bool write_text(const struct bombus_constraint *constraint, uint64_t seed, char *text, size_t size)
{
    struct bb_grammar_matcher matcher;
    struct bb_random random = {.seed = seed};
    size_t count, length = 0;
    bool is_ended = false;
    *text = '\0';
    bombus_status status = bb_grammar_matcher_init(&matcher, constraint, NULL);
    while (status == BOMBUS_OK && !matcher.must_end && !is_ended) {
        status = bb_grammar_matcher_find_mask(&matcher, &count, NULL);
        int32_t id = -1, size_of_trie = constraint->trie->size;
        for (size_t place = bb_random_next(&random) % (count > 0 ? count : 1) + 1; place > 0 && id < size_of_trie;)
            place -= bb_grammar_matcher_allows(&matcher, ++id);
        if (status != BOMBUS_OK || id >= size_of_trie)
            break;
        const uint32_t *offsets = constraint->trie->offsets;
        size_t bytes = offsets[id + 1] - offsets[id];
        is_ended = bytes == 0; /* an end of turn */
        if (length + bytes + 1 > size)
            break;
        memcpy(text + length, constraint->trie->text + offsets[id], bytes);
        text[length += bytes] = '\0';
        status = bb_grammar_matcher_advance(&matcher, id, NULL);
    }
    bool is_whole = status == BOMBUS_OK && matcher.may_end;
    if (constraint->trie->drops_first_space && text[0] == ' ')
        memmove(text, text + 1, strlen(text));
    bb_grammar_matcher_clear(&matcher);
    return is_whole;
}

static void *walk(void *context)
{
    struct walker *walker = context;
    for (size_t i = 0; i < WALKS; i++) {
        const struct wish *wish = &wishes[i % BB_COUNT(wishes)];
        struct bombus_constraint *constraint;
        if (bb_constraint_cache_get(walker->cache, &constraint, wish->kind, wish->source, strlen(wish->source), NULL) !=
            BOMBUS_OK) {
            walker->is_failed = true;
            continue;
        }
        walker->is_failed |= !write_text(constraint, i, walker->texts[i], WALK_BYTES);
        bb_constraint_free(constraint);
    }
    return NULL;
}

/* Threads that ask for the same texts at once, with a cache that keeps too few of them, and walk in the same masks. */
static void test_threads(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    static struct walker alone, walkers[THREADS];
    struct bb_tokenizer *tokenizer;
    bombus_error error;
    CHECK_OK(bb_tokenizer_open(&tokenizer, STORY_MODEL, NULL, &error), error);
    for (size_t count = 1; count <= 8; count *= 2) {
        pthread_t threads[THREADS];
        CHECK_OK(bb_constraint_cache_create(&alone.cache, tokenizer, 8, 64 << 20, &error), error);
        walk(&alone);
        bb_constraint_cache_free(alone.cache);
        assert_false(alone.is_failed);
        CHECK_OK(bb_constraint_cache_create(&walkers[0].cache, tokenizer, count, 64 << 20, &error), error);
        for (size_t i = 0; i < THREADS; i++) {
            walkers[i].cache = walkers[0].cache;
            assert_int_equal(pthread_create(&threads[i], NULL, walk, &walkers[i]), 0);
        }
        for (size_t i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        bb_constraint_cache_free(walkers[0].cache);
        for (size_t i = 0; i < THREADS; i++) {
            assert_false(walkers[i].is_failed);
            assert_memory_equal(walkers[i].texts, alone.texts, sizeof alone.texts);
        }
    }
    for (size_t i = 0; i < WALKS; i++)
        if (!is_good(&wishes[i % BB_COUNT(wishes)], alone.texts[i]))
            fail_msg("%s: '%s'", wishes[i % BB_COUNT(wishes)].source, alone.texts[i]);
    bb_tokenizer_close(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cache),
        cmocka_unit_test(test_cache_bytes),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
