/* A small backtracking matcher: what is written in rank_pattern and alpha_pattern is a name, or a name with a number or a choice in it. */
#include "files/module_pattern.h"

#include <string.h>

enum { STEP_LIMIT = 100000, DEPTH_LIMIT = 200 };

struct matcher {
    const char *name_end;
    int32_t steps, depth;
    bool is_refused;
};

/* What to match behind the piece at hand: a list on the stack. */
struct rest {
    const char *pattern, *end;
    const struct rest *next;
};

static bool match(struct matcher *matcher, const char *pattern, const char *end, const char *name, const struct rest *rest);

/* Past the atom at `pattern`; NULL if it is not closed. */
static const char *atom_end(const char *pattern, const char *end)
{
    int32_t depth = 0;
    if (*pattern == '\\')
        return pattern + 1 < end ? pattern + 2 : NULL;
    if (*pattern == '[') {
        for (const char *at = pattern + 2; at < end; at++)
            if (*at == ']')
                return at + 1;
        return NULL;
    }
    if (*pattern != '(')
        return pattern + 1;
    for (const char *at = pattern; at < end; at++) {
        if (*at == '\\')
            at++;
        else if (*at == '(')
            depth++;
        else if (*at == ')' && --depth == 0)
            return at + 1;
    }
    return NULL;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static bool in_class(struct matcher *matcher, const char *at, const char *end, char c)
{
    bool is_negated = *at == '^', is_in = false;
    for (at += is_negated; at < end; at++) {
        if (*at == '\\') {
            matcher->is_refused = true;
        } else if (at + 2 < end && at[1] == '-') {
            is_in = is_in || (c >= at[0] && c <= at[2]);
            at += 2;
        } else {
            is_in = is_in || c == *at;
        }
    }
    return is_in != is_negated;
}

/* Whether the one-character atom takes c. */
static bool takes(struct matcher *matcher, const char *atom, const char *end, char c)
{
    switch (*atom) {
    case '.': return true;
    case '[': return in_class(matcher, atom + 1, end - 1, c);
    case '\\':
        if (atom[1] == 'd')
            return is_digit(c);
        if (atom[1] == 'w')
            return is_word(c);
        matcher->is_refused = matcher->is_refused || is_word(atom[1]); /* \s, \b, \1 ... */
        return c == atom[1];
    default: return c == *atom;
    }
}

static bool match_rest(struct matcher *matcher, const char *name, const struct rest *rest)
{
    if (rest == NULL)
        return name == matcher->name_end;
    return match(matcher, rest->pattern, rest->end, name, rest->next);
}

/* One of the alternatives in [pattern, end), which stand between bars. */
static bool match_alternatives(struct matcher *matcher, const char *pattern, const char *end, const char *name, const struct rest *rest)
{
    const char *begin = pattern;
    for (const char *at = pattern; at <= end; at++) {
        if (at == end || *at == '|') {
            if (match(matcher, begin, at, name, rest))
                return true;
            begin = at + 1;
        } else if (*at == '\\' || *at == '[' || *at == '(') {
            const char *past = atom_end(at, end);
            if (past == NULL) {
                matcher->is_refused = true;
                return false;
            }
            at = past - 1;
        }
    }
    return false;
}

static bool match_once(struct matcher *matcher, const char *atom, const char *past, const char *name, const struct rest *rest)
{
    if (*atom == '(') {
        if (atom[1] == '?') {
            if (past - atom < 3 || atom[2] != ':') {
                matcher->is_refused = true;
                return false;
            }
            atom += 2;
        }
        return match_alternatives(matcher, atom + 1, past - 1, name, rest);
    }
    return name < matcher->name_end && takes(matcher, atom, past, *name) && match_rest(matcher, name + 1, rest);
}

/* The atom as often as it goes, then fewer. */
static bool match_repeated(struct matcher *matcher, const char *atom, const char *past, const char *name, const struct rest *rest)
{
    const char *last = name;
    while (last < matcher->name_end && takes(matcher, atom, past, *last))
        last++;
    for (const char *at = last; at >= name + (*past == '+'); at--) {
        if (match_rest(matcher, at, rest))
            return true;
        if (matcher->is_refused)
            return false;
    }
    return false;
}

static bool match(struct matcher *matcher, const char *pattern, const char *end, const char *name, const struct rest *rest)
{
    if (++matcher->steps > STEP_LIMIT || matcher->depth >= DEPTH_LIMIT)
        matcher->is_refused = true;
    if (matcher->is_refused)
        return false;
    if (pattern == end)
        return match_rest(matcher, name, rest);
    if (strchr("*+?{})|^$", *pattern) != NULL) {
        matcher->is_refused = true;
        return false;
    }
    const char *past = atom_end(pattern, end);
    if (past == NULL) {
        matcher->is_refused = true;
        return false;
    }
    char repeat = past < end && strchr("*+?{", *past) != NULL ? *past : '\0';
    struct rest next = {.pattern = past + (repeat != '\0'), .end = end, .next = rest};
    bool is_match = false;
    matcher->depth++;
    if (repeat == '{' || (repeat != '\0' && repeat != '?' && *pattern == '('))
        matcher->is_refused = true;
    else if (repeat == '\0' || repeat == '?')
        is_match = match_once(matcher, pattern, past, name, &next) || (repeat == '?' && match_rest(matcher, name, &next));
    else
        is_match = match_repeated(matcher, pattern, past, name, &next);
    matcher->depth--;
    return is_match;
}

bombus_status bb_module_pattern_match(const char *pattern, const char *name, bool *is_match, bombus_error *error)
{
    struct matcher matcher = {.name_end = name + strlen(name)};
    const char *begin = pattern, *end = pattern + strlen(pattern);
    bool is_anchored = *begin == '^';
    begin += is_anchored;
    if (end > begin && end[-1] == '$' && (end - begin < 2 || end[-2] != '\\'))
        end--;
    *is_match = match_alternatives(&matcher, begin, end, name, NULL);
    for (const char *dot = strchr(name, '.'); dot != NULL && !*is_match && !is_anchored; dot = strchr(dot + 1, '.'))
        *is_match = match_alternatives(&matcher, begin, end, dot + 1, NULL);
    if (matcher.is_refused)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED, "the pattern '%.200s' is not one that names of modules are looked up by", pattern);
    return BOMBUS_OK;
}
