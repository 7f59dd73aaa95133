/* Patterns of tokenizer.json: a literal text, or a regular expression in Oniguruma's dialect, which is put into
 * that of pcre2. */
#ifndef BB_REGEX_H
#define BB_REGEX_H

#include "base/buffer.h"
#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

struct bb_regex; /* immutable after create */

BB_RESULT bombus_status bb_regex_create(struct bb_regex **regex, const char *pattern, size_t length, bool is_literal,
                                        bombus_error *error);
void bb_regex_free(struct bb_regex *regex); /* NULL is allowed */

/* Room for matching, for one thread. Zeroed struct = none taken yet; taken at the first use. */
struct bb_matcher {
    void *match_data, *match_context, *jit_stack; /* of pcre2 */
    struct bb_buffer stand_ins;
    double deadline; /* on the thread's clock, of the matching under way */
    uint32_t search_count;
};
void bb_matcher_clear(struct bb_matcher *matcher);

/* The matches of `regex` in valid UTF-8 `text`, left to right, without overlap; no empty match where the last one
 * ended. */
struct bb_matches {
    const struct bb_regex *regex;
    struct bb_matcher *matcher;
    const char *text;
    size_t length, position, last_end;
    bool has_last;
};

/* A text of the same length for the regex to look at, in which characters that pcre2's tables may lack are replaced
 * by like ones. It is `text` itself, or lives in the matcher until the next call. NULL if memory is out. */
const char *bb_regex_subject(struct bb_matcher *matcher, const struct bb_regex *regex, const char *text, size_t length);

struct bb_matches bb_matches_begin(const struct bb_regex *regex, struct bb_matcher *matcher, const char *subject,
                                   size_t length);
/* *is_found tells if there was another match. BOMBUS_ERROR_LIMIT if the regex is too costly on this text. */
BB_RESULT bombus_status bb_matches_next(struct bb_matches *matches, bool *is_found, size_t *begin, size_t *end,
                                        bombus_error *error);

/* Puts Oniguruma's dialect into pcre2's; for tests too. */
BB_RESULT bombus_status bb_regex_translate(struct bb_buffer *result, const char *pattern, size_t length,
                                           bombus_error *error);

#endif
