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
    {BOMBUS_CONSTRAINT_REGEX, "(\xC3\xA9|\xE2\x82\xAC|[a-c]{1,4}){2,5}!", "(\xC3\xA9|\xE2\x82\xAC|[a-c]{1,4}){2,5}!"},
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

/* ---- with models ---- */

/* Request `number`: by one of the wishes, or free. The prompt is part of the reference text. */
static const struct wish *make_wish(struct plan *plan, const struct opened *opened, bombus_constraint **constraints,
                                    uint64_t number)
{
    size_t kind = number % (BB_COUNT(wishes) + 1);
    make_plan(plan, opened, number);
    plan->options.max_tokens = MAX_TOKENS;
    plan->options.ignore_eos = number % 7 == 6;
    if (kind == BB_COUNT(wishes)) {
        plan->options.max_tokens = 20;
        return NULL;
    }
    plan->options.constraint = constraints[kind];
    return &wishes[kind];
}

static const char *text_of(const struct log *log)
{
    return log->text + (log->text[0] == ' '); /* a space before all may come out or not, by the decoder */
}

static void check_wish(const struct wish *wish, const struct log *log)
{
    if (wish == NULL)
        return;
    assert_int_equal(log->finish_reason, BOMBUS_FINISH_STOP);
    if (!is_good(wish, text_of(log)))
        fail_msg("%s: '%s'", wish->source, log->text);
}

static void open_constraints(bombus_constraint **constraints, const struct opened *opened)
{
    for (size_t i = 0; i < BB_COUNT(wishes); i++)
        constraints[i] = compile(&wishes[i], opened->tokenizer);
}

static void free_constraints(bombus_constraint **constraints)
{
    for (size_t i = 0; i < BB_COUNT(wishes); i++)
        bombus_constraint_free(constraints[i]);
}

/* Requests of all kinds in one batch, some with adapters: each writes what it writes alone, and what was wished. */
static void test_engine(void **state)
{
    (void)state;
    enum { COUNT = 40 };
    static struct log logs[COUNT], alone[COUNT], plain;
    static const char *const names[] = {"lora-default-r8", "dora-r4"};
    struct opened opened;
    struct plan plan;
    struct crowd crowd;
    bombus_constraint *constraints[BB_COUNT(wishes)];
    bombus_adapter *adapters[BB_COUNT(names)];
    bombus_error error;
    size_t changed = 0;
    OPEN_OR_SKIP(opened, "qwen3-4bit", 2);
    open_constraints(constraints, &opened);
    open_adapters(adapters, names, BB_COUNT(names), &opened);
    bombus_engine *engine = new_engine(&crowd, &opened, &(bombus_engine_options){.context_size = 300, .max_batch = 12});
    for (int turn = 0; turn < 2; turn++)
        for (size_t i = 0; i < COUNT; i++) {
            const struct wish *wish = make_wish(&plan, &opened, constraints, i);
            if (turn == 0 && i % 3 != 0)
                run_alone(&plain, &opened, &plan);
            plan_adapters(&plan, adapters, BB_COUNT(adapters), i, 1.0f);
            if (turn == 0)
                run_alone(&alone[i], &opened, &plan);
            else
                CHECK_OK(submit(engine, &logs[i], &crowd, &plan, &error), error);
            if (turn == 0)
                check_wish(wish, &alone[i]);
            changed += turn == 0 && i % 3 != 0 && wish != NULL && strcmp(plain.text, alone[i].text) != 0;
        }
    free_constraints(constraints); /* the tokenizer's cache still holds them */
    crowd_wait(&crowd, COUNT);
    for (size_t i = 0; i < COUNT; i++)
        check_same(&logs[i], &alone[i]);
    assert_true(changed > 0);
    check_idle(engine, COUNT);
    for (size_t i = 0; i < BB_COUNT(names); i++)
        bombus_adapter_close(adapters[i]);
    bombus_engine_free(engine);
    crowd_clear(&crowd);
    close_model(&opened);
}

/* By a draft model and by looking up: the text, and the log-probabilities, of plain generation. */
static void test_speculation(void **state)
{
    (void)state;
    static struct log plain, log;
    struct opened opened, small;
    bombus_constraint *constraints[BB_COUNT(wishes)];
    bombus_error error;
    size_t accepted[3] = {0};
    OPEN_OR_SKIP(opened, "qwen3-4bit", 2);
    OPEN_OR_SKIP(small, "qwen3-2bit", 1);
    open_constraints(constraints, &opened);
#ifdef __SANITIZE_THREAD__
    const size_t rounds = 3; /* 30 times as slow there, and the threads have tests of their own */
#else
    const size_t rounds = 15;
#endif
    for (size_t i = 0; i < rounds; i++) {
        struct plan plan;
        const struct wish *wish = make_wish(&plan, &opened, constraints, i);
        run_alone(&plain, &opened, &plan);
        check_wish(wish, &plain);
        for (int kind = 0; kind < 3; kind++) {
            bombus_session *session, *draft;
            bombus_generate_result result;
            bombus_generate_options options = plan.options;
            const struct opened *drafting = kind == 0 ? &opened : &small; /* one that is mostly right, one that is not */
            CHECK_OK(bombus_session_create(&session, opened.model, NULL, &error), error);
            CHECK_OK(bombus_session_create(&draft, drafting->model, NULL, &error), error);
            options.draft = kind < 2 ? draft : NULL;
            options.ngram_size = kind < 2 ? 0 : 1;
            options.num_draft_tokens = 1 + (int32_t)i % 8;
            memset(&log, 0, sizeof log);
            options.context = &log;
            CHECK_OK(bombus_generate(session, opened.tokenizer, plan.prompt, plan.prompt_count, &options, &result,
                                     &error),
                     error);
            assert_int_equal(log.count, plain.count);
            assert_memory_equal(log.ids, plain.ids, sizeof log.ids);
            assert_memory_equal(log.logprobs, plain.logprobs, sizeof log.logprobs);
            assert_string_equal(log.text, plain.text);
            assert_int_equal(result.finish_reason, plain.finish_reason);
            accepted[kind] += wish != NULL ? result.accepted_count : 0;
            bombus_generate_result_clear(&result);
            bombus_session_free(draft);
            bombus_session_free(session);
        }
    }
    print_message("accepted %zu of its own, %zu of another model, %zu by look-up\n", accepted[0], accepted[1],
                  accepted[2]);
    assert_true(rounds < 15 || accepted[0] > 0);
    free_constraints(constraints);
    close_model(&opened);
    close_model(&small);
}

/* Two threads generate under the same constraints, each in a session of its own. */
struct writer {
    const struct opened *opened;
    bombus_constraint **constraints;
    char texts[8][512];
    bool is_failed;
};

static void *write_texts(void *context)
{
    struct writer *writer = context;
    bombus_session *session;
    for (size_t i = 0; i < BB_COUNT(writer->texts); i++) {
        bombus_generate_result result = {0};
        bombus_generate_options options = {.constraint = writer->constraints[i % BB_COUNT(wishes)],
                                           .sampler = {.temperature = 1.0f, .seed = i},
                                           .max_tokens = MAX_TOKENS};
        if (bombus_session_create(&session, writer->opened->model, NULL, NULL) != BOMBUS_OK ||
            bombus_generate(session, writer->opened->tokenizer, writer->opened->prompt.ids, 20, &options, &result,
                            NULL) != BOMBUS_OK)
            writer->is_failed = true;
        else
            snprintf(writer->texts[i], sizeof writer->texts[i], "%s", result.text);
        bombus_generate_result_clear(&result);
        bombus_session_free(session);
    }
    return NULL;
}

static void test_two_threads(void **state)
{
    (void)state;
    static struct writer alone, writers[2];
    struct opened opened;
    bombus_constraint *constraints[BB_COUNT(wishes)];
    pthread_t threads[2];
    OPEN_OR_SKIP(opened, "qwen3-4bit", 1);
    open_constraints(constraints, &opened);
    for (size_t i = 0; i < 2; i++) {
        writers[i] = (struct writer){.opened = &opened, .constraints = constraints};
        assert_int_equal(pthread_create(&threads[i], NULL, write_texts, &writers[i]), 0);
    }
    for (size_t i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    alone = (struct writer){.opened = &opened, .constraints = constraints};
    write_texts(&alone);
    for (size_t i = 0; i < 2; i++) {
        assert_false(writers[i].is_failed || alone.is_failed);
        assert_memory_equal(writers[i].texts, alone.texts, sizeof alone.texts);
    }
    for (size_t i = 0; i < BB_COUNT(alone.texts); i++)
        if (!is_good(&wishes[i % BB_COUNT(wishes)], alone.texts[i] + (alone.texts[i][0] == ' ')))
            fail_msg("%s: '%s'", wishes[i % BB_COUNT(wishes)].source, alone.texts[i]);
    free_constraints(constraints);
    close_model(&opened);
}

/* What the callback of each token sees of the count of allocations. */
struct allocations {
    uint64_t seen[400];
    size_t count;
};

static bool note_allocations(void *context, const bombus_token_event *event)
{
    struct allocations *allocations = context;
    (void)event;
    if (allocations->count < BB_COUNT(allocations->seen))
        allocations->seen[allocations->count++] = bb_memory_count();
    return true;
}

/* Once the places of a text were met, the same constraint takes no memory for a token, however long the text. */
static void test_no_allocation(void **state)
{
    (void)state;
    static const struct wish long_ones[] = {
        {BOMBUS_CONSTRAINT_JSON_SCHEMA,
         "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"maxLength\":6},"
         "\"b\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":99}},\"required\":[\"a\",\"b\"]},\"minItems\":60}",
         NULL},
        {BOMBUS_CONSTRAINT_GBNF, "root ::= (word (\" \" | \", \")){99,}\nword ::= [a-z]{1,9} | \"(\" word \")\"", NULL},
    };
    struct opened opened;
    bombus_error error;
    OPEN_OR_SKIP(opened, "qwen3-4bit", 1);
    for (size_t i = 0; i < BB_COUNT(long_ones); i++) {
        bombus_constraint *constraint = compile(&long_ones[i], opened.tokenizer);
        for (int turn = 0; turn < 2; turn++) {
            struct allocations allocations = {.count = 0};
            bombus_session *session;
            bombus_generate_result result;
            bombus_generate_options options = {.constraint = constraint,
                                               .sampler = {.temperature = 1.0f, .seed = 3},
                                               .max_tokens = 400,
                                               .callback = note_allocations,
                                               .context = &allocations};
            CHECK_OK(bombus_session_create(&session, opened.model, NULL, &error), error);
            CHECK_OK(bombus_generate(session, opened.tokenizer, opened.prompt.ids, 20, &options, &result, &error),
                     error);
            assert_int_equal(allocations.count, 400);
            if (turn == 1)
                assert_int_equal(allocations.seen[399] - allocations.seen[20], 0);
            bombus_generate_result_clear(&result);
            bombus_session_free(session);
        }
        bombus_constraint_free(constraint);
    }
    close_model(&opened);
}

/* ---- real vocabularies ---- */

/* Each token behind a text: may it follow? As PCRE2 says of a partial match; of ASCII, so that bytes are characters. */
static void check_followers(const struct bombus_constraint *constraint, const pcre2_code *compiled, const char *text)
{
    struct bb_grammar_matcher matcher;
    bombus_error error;
    size_t count, found = 0, length = strlen(text);
    static char longer[1 << 14];
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(compiled, NULL);
    CHECK_OK(bb_grammar_matcher_init(&matcher, constraint, &error), error);
    CHECK_OK(bb_grammar_matcher_advance_bytes(&matcher, text, length, &error), error);
    CHECK_OK(bb_grammar_matcher_find_mask(&matcher, &count, &error), error);
    memcpy(longer, text, length);
    for (int32_t id = 0; id < constraint->trie->size; id++) {
        const uint32_t *offsets = constraint->trie->offsets;
        size_t bytes = offsets[id + 1] - offsets[id];
        memcpy(longer + length, constraint->trie->text + offsets[id], bytes);
        int status = pcre2_match(compiled, (PCRE2_SPTR)longer, length + bytes, 0, PCRE2_PARTIAL_SOFT, data, NULL);
        bool expected = bytes > 0 && (status >= 0 || status == PCRE2_ERROR_PARTIAL);
        if (bytes > 0 && bb_grammar_matcher_allows(&matcher, id) != expected)
            fail_msg("behind '%s': token %d '%.*s', expected %d", text, id, (int)bytes, longer + length, expected);
        found += expected;
    }
    assert_true(found > 0 && count >= found);
    bb_grammar_matcher_clear(&matcher);
    pcre2_match_data_free(data);
}

/* Each token within a string without bounds, by the mask and by trying. */
static void check_string(const bombus_tokenizer *tokenizer)
{
    struct bb_grammar_matcher matcher, trial;
    bombus_error error;
    size_t count, found = 0;
    bombus_constraint *constraint =
        compile(&(struct wish){BOMBUS_CONSTRAINT_JSON_SCHEMA, "{\"type\":\"string\"}", NULL}, tokenizer);
    CHECK_OK(bb_grammar_matcher_init(&matcher, constraint, &error), error);
    CHECK_OK(bb_grammar_matcher_init(&trial, constraint, &error), error);
    CHECK_OK(bb_grammar_matcher_advance_bytes(&matcher, "\"\xE2\x82\xAC x", 6, &error), error);
    CHECK_OK(bb_grammar_matcher_find_mask(&matcher, &count, &error), error);
    for (int32_t id = 0; id < constraint->trie->size; id++) {
        CHECK_OK(bb_grammar_matcher_copy(&trial, &matcher, &error), error);
        bool expected = bb_grammar_matcher_advance(&trial, id, NULL) == BOMBUS_OK;
        if (bb_grammar_matcher_allows(&matcher, id) != expected)
            fail_msg("token %d, expected %d", id, expected);
        found += expected;
    }
    assert_true(found == count && count > 1000);
    bb_grammar_matcher_clear(&matcher);
    bb_grammar_matcher_clear(&trial);
    bombus_constraint_free(constraint);
}

static void test_vocabularies(void **state)
{
    (void)state;
    static const char *const names[] = {"qwen3", "gpt2", "mistral-v3"};
    static const char expression[] = "([A-Z][a-z]+ ){1,12}(is|was)? [\"'](\\d{1,3}(,\\d{3})*|[^0-9\"\\x80-\\xff]{3,40})[\"']\\.";
    static const char *const texts[] = {"T", "The ", "The Old M", "An Fox is ", "The Fox was \"", "The  \"12", "An  '1,234",
                                        "Go  \"a b", "Go  \"a b c d e f\""};
    int code;
    PCRE2_SIZE offset;
    char anchored[256];
    SKIP_WITHOUT_GOLDEN(golden_path("tokenizers/qwen3"));
    snprintf(anchored, sizeof anchored, "\\A(?:%s)\\z", expression);
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)anchored, PCRE2_ZERO_TERMINATED, 0, &code, &offset, NULL);
    assert_non_null(compiled);
#ifdef __SANITIZE_THREAD__
    print_message("skipped: one thread\n");
    skip();
#endif
    for (size_t i = 0; i < BB_COUNT(names); i++) {
        char path[64], text[WALK_BYTES];
        bombus_tokenizer *tokenizer;
        bombus_error error;
        snprintf(path, sizeof path, "tokenizers/%s", names[i]);
        if (golden_path(path) == NULL)
            continue;
        CHECK_OK(bombus_tokenizer_open(&tokenizer, golden_path(path), NULL, &error), error);
        bombus_constraint *constraint =
            compile(&(struct wish){BOMBUS_CONSTRAINT_REGEX,
                                   "([A-Z][a-z]+ ){1,12}(is|was)? [\"'](\\d{1,3}(,\\d{3})*|[\\x00-!#-/:-\\x7f]{3,40})[\"']\\.", NULL},
                    tokenizer);
        for (size_t j = 0; j < BB_COUNT(texts); j++)
            check_followers(constraint, compiled, texts[j]);
        check_string(tokenizer);
        bombus_constraint_free(constraint);
        for (size_t j = 0; j < 20; j++) {
            const struct wish *wish = &wishes[j % BB_COUNT(wishes)];
            constraint = compile(wish, tokenizer);
            assert_true(write_text(constraint, j, text, sizeof text));
            if (!is_good(wish, text))
                fail_msg("%s, %s: '%s'", names[i], wish->source, text);
            bombus_constraint_free(constraint);
        }
        bombus_tokenizer_close(tokenizer);
    }
    pcre2_code_free(compiled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cache),         cmocka_unit_test(test_cache_bytes), cmocka_unit_test(test_threads),
        cmocka_unit_test(test_engine),        cmocka_unit_test(test_speculation), cmocka_unit_test(test_two_threads),
        cmocka_unit_test(test_no_allocation), cmocka_unit_test(test_vocabularies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
