/* Patterns of tokenizer.json, matched by pcre2. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include "base/memory.h"
#include "text/unicode.h"

#include <pcre2.h>
#include <string.h>
#include <time.h>

enum {
    /* pcre2's count of backtracking steps from one place of the text; a catastrophic pattern ends in a fraction of
     * a second. */
    STEPS_ALLOWED = 5000000,
    STEPS_ALLOWED_PER_BYTE = 4, /* a word of megabytes may be gone through and back */
    /* That leaves patterns which are slow, but not that slow, at every place of the text. So a search goes on from
     * window to window, with a look at the thread's clock now and then; an ordinary tokenizer needs 0.1
     * microseconds a byte. */
    WINDOW = 64,
    SEARCHES_A_LOOK = 16,
    SECONDS_ALLOWED = 2,
    MICROSECONDS_ALLOWED_PER_BYTE = 10,
    HEAP_LIMIT_KIB = 256 * 1024,
    JIT_STACK_BYTES =
        64 * 1024 * 1024, /* reserved, not touched until needed; taken only when pcre2's own 32 KiB are too few */
};

struct bb_regex {
    char *literal; /* NULL for a regular expression */
    size_t literal_length;
    pcre2_code *code;
    bool is_jit;
};

static void *allocate(PCRE2_SIZE size, void *context)
{
    (void)context;
    return bb_allocate(1, size);
}

static void release(void *memory, void *context)
{
    (void)context;
    bb_release(memory);
}

static bombus_status compile(struct bb_regex *regex, const char *pattern, size_t length, bombus_error *error)
{
    struct bb_buffer translated = {0};
    int code;
    PCRE2_SIZE place;
    pcre2_general_context *general = NULL;
    pcre2_compile_context *context = NULL;
    bombus_status status = bb_regex_translate(&translated, pattern, length, error);
    if (status != BOMBUS_OK)
        goto done;
    general = pcre2_general_context_create(allocate, release, NULL);
    context = general != NULL ? pcre2_compile_context_create(general) : NULL;
    if (context == NULL) {
        status = bb_fail_memory(error, length, "a regular expression");
        goto done;
    }
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT;
    regex->code = pcre2_compile((PCRE2_SPTR)translated.data, translated.length, options, &code, &place, context);
    if (regex->code == NULL) {
        char message[200];
        pcre2_get_error_message(code, (PCRE2_UCHAR *)message, sizeof message);
        if (code == PCRE2_ERROR_HEAP_FAILED)
            status = bb_fail_memory(error, length, "a regular expression");
        else
            status = bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                             "regular expression '%.200s': %s (at byte %zu of its pcre2 form '%.200s')", pattern,
                             message, (size_t)place, translated.data);
        goto done;
    }
    /* Without JIT (a machine that forbids it, say) the interpreter gives the same matches. */
    regex->is_jit = pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE) == 0;
done:
    pcre2_compile_context_free(context);
    pcre2_general_context_free(general);
    bb_buffer_clear(&translated);
    return status;
}

bombus_status bb_regex_create(struct bb_regex **regex, const char *pattern, size_t length, bool is_literal,
                              bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    *regex = bb_allocate(1, sizeof **regex);
    if (*regex == NULL)
        return bb_fail_memory(error, sizeof **regex, "a regular expression");
    if (is_literal) {
        (*regex)->literal = bb_copy_text(pattern, length);
        (*regex)->literal_length = length;
        if ((*regex)->literal == NULL)
            status = bb_fail_memory(error, length, "a pattern");
    } else {
        status = compile(*regex, pattern, length, error);
    }
    if (status != BOMBUS_OK) {
        bb_regex_free(*regex);
        *regex = NULL;
    }
    return status;
}

void bb_regex_free(struct bb_regex *regex)
{
    if (regex == NULL)
        return;
    pcre2_code_free(regex->code);
    bb_release(regex->literal);
    bb_release(regex);
}

void bb_matcher_clear(struct bb_matcher *matcher)
{
    pcre2_match_data_free(matcher->match_data);
    pcre2_match_context_free(matcher->match_context);
    pcre2_jit_stack_free(matcher->jit_stack);
    bb_buffer_clear(&matcher->stand_ins);
    *matcher = (struct bb_matcher){0};
}

static bool matcher_open(struct bb_matcher *matcher)
{
    if (matcher->match_context != NULL)
        return true;
    pcre2_general_context *general = pcre2_general_context_create(allocate, release, NULL);
    if (general == NULL)
        return false;
    if (matcher->match_data == NULL)
        matcher->match_data = pcre2_match_data_create(1, general);
    if (matcher->match_data != NULL)
        matcher->match_context = pcre2_match_context_create(general);
    pcre2_general_context_free(general);
    if (matcher->match_context == NULL)
        return false;
    pcre2_set_heap_limit(matcher->match_context, HEAP_LIMIT_KIB);
    return true;
}

/* Of this thread's work, so that a machine that stands still costs nothing. */
static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

const char *bb_regex_subject(struct bb_matcher *matcher, const struct bb_regex *regex, const char *text, size_t length)
{
    bool is_changed = false;
    if (regex->literal != NULL)
        return text;
    matcher->deadline = now() + SECONDS_ALLOWED + (double)length * MICROSECONDS_ALLOWED_PER_BYTE * 1e-6;
    for (size_t i = 0; i < length;) {
        uint32_t character;
        if ((uint8_t)text[i] < 0xE0) { /* no character of one or two bytes is that new */
            i++;
            continue;
        }
        size_t size = bb_utf8_next(text + i, &character);
        uint32_t stand_in = bb_stand_in(character);
        if (stand_in != character) {
            if (!is_changed) {
                matcher->stand_ins.length = 0;
                bb_buffer_add(&matcher->stand_ins, text, length);
                if (matcher->stand_ins.is_failed)
                    return NULL;
                is_changed = true;
            }
            bb_utf8_encode(matcher->stand_ins.data + i, stand_in);
        }
        i += size;
    }
    return is_changed ? matcher->stand_ins.data : text;
}

struct bb_matches bb_matches_begin(const struct bb_regex *regex, struct bb_matcher *matcher, const char *subject,
                                   size_t length)
{
    return (struct bb_matches){.regex = regex, .matcher = matcher, .text = subject, .length = length};
}

static void find_literal(const struct bb_matches *matches, bool *is_found, size_t *begin, size_t *end)
{
    const struct bb_regex *regex = matches->regex;
    const char *from = matches->text + matches->position, *last = matches->text + matches->length;
    *is_found = false;
    if (regex->literal_length == 0) {
        *is_found = true;
        *begin = *end = matches->position;
        return;
    }
    while ((size_t)(last - from) >= regex->literal_length) {
        from = memchr(from, regex->literal[0], (size_t)(last - from) - regex->literal_length + 1);
        if (from == NULL)
            return;
        if (memcmp(from, regex->literal, regex->literal_length) == 0) {
            *is_found = true;
            *begin = (size_t)(from - matches->text);
            *end = *begin + regex->literal_length;
            return;
        }
        from++;
    }
}

/* Searches for a match that begins in [place, limit]. */
static int run_pcre2(const struct bb_matches *matches, size_t place, size_t limit)
{
    struct bb_matcher *matcher = matches->matcher;
    PCRE2_SPTR subject = (PCRE2_SPTR)matches->text;
    pcre2_set_offset_limit(matcher->match_context, limit);
    if (matches->regex->is_jit)
        return pcre2_jit_match(matches->regex->code, subject, matches->length, place, PCRE2_NO_UTF_CHECK,
                               matcher->match_data, matcher->match_context);
    return pcre2_match(matches->regex->code, subject, matches->length, place, PCRE2_NO_UTF_CHECK, matcher->match_data,
                       matcher->match_context);
}

/* Searches from window to window. */
static int search(const struct bb_matches *matches)
{
    for (size_t place = matches->position;;) {
        size_t limit = matches->length - place > WINDOW ? place + WINDOW : matches->length;
        while (limit < matches->length && ((uint8_t)matches->text[limit] & 0xC0) == 0x80)
            limit++;
        if (++matches->matcher->search_count % SEARCHES_A_LOOK == 0 && now() > matches->matcher->deadline)
            return PCRE2_ERROR_MATCHLIMIT;
        int result = run_pcre2(matches, place, limit);
        if (result != PCRE2_ERROR_NOMATCH || limit == matches->length)
            return result;
        place = limit;
    }
}

static bombus_status find_regex(const struct bb_matches *matches, bool *is_found, size_t *begin, size_t *end,
                                bombus_error *error)
{
    struct bb_matcher *matcher = matches->matcher;
    if (!matcher_open(matcher))
        return bb_fail_memory(error, 0, "matching a regular expression");
    size_t steps = STEPS_ALLOWED + STEPS_ALLOWED_PER_BYTE * (matches->length - matches->position);
    pcre2_set_match_limit(matcher->match_context, steps < UINT32_MAX ? (uint32_t)steps : UINT32_MAX);
    int result = search(matches);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT && matcher->jit_stack == NULL) {
        matcher->jit_stack = pcre2_jit_stack_create(64 * 1024, JIT_STACK_BYTES, NULL);
        if (matcher->jit_stack == NULL)
            return bb_fail_memory(error, JIT_STACK_BYTES, "matching a regular expression");
        pcre2_jit_stack_assign(matcher->match_context, NULL, matcher->jit_stack);
        result = search(matches);
    }
    *is_found = result >= 0;
    if (result >= 0) {
        const PCRE2_SIZE *places = pcre2_get_ovector_pointer(matcher->match_data);
        *begin = places[0];
        *end = places[1];
        if (*begin > *end) /* \K inside a lookahead can do that */
            *begin = *end;
        return BOMBUS_OK;
    }
    switch (result) {
    case PCRE2_ERROR_NOMATCH: return BOMBUS_OK;
    case PCRE2_ERROR_NOMEMORY: return bb_fail_memory(error, 0, "matching a regular expression");
    case PCRE2_ERROR_MATCHLIMIT:
    case PCRE2_ERROR_DEPTHLIMIT:
    case PCRE2_ERROR_HEAPLIMIT:
    case PCRE2_ERROR_JIT_STACKLIMIT:
        return bb_fail(error, BOMBUS_ERROR_LIMIT,
                       "a regular expression of tokenizer.json takes too many steps on this text");
    default: {
        char message[200];
        pcre2_get_error_message(result, (PCRE2_UCHAR *)message, sizeof message);
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED, "matching a regular expression of tokenizer.json: %s", message);
    }
    }
}

bombus_status bb_matches_next(struct bb_matches *matches, bool *is_found, size_t *begin, size_t *end,
                              bombus_error *error)
{
    *is_found = false;
    while (matches->position <= matches->length) {
        bombus_status status = BOMBUS_OK;
        if (matches->regex->literal != NULL)
            find_literal(matches, is_found, begin, end);
        else
            status = find_regex(matches, is_found, begin, end, error);
        if (status != BOMBUS_OK || !*is_found)
            return status;
        if (*begin < *end || !matches->has_last || matches->last_end != *end) {
            matches->position = matches->last_end = *end;
            matches->has_last = true;
            return BOMBUS_OK;
        }
        *is_found = false;
        matches->position += matches->position < matches->length ? bb_utf8_size(matches->text[matches->position]) : 1;
    }
    return BOMBUS_OK;
}
