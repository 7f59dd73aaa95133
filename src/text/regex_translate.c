/* Puts a regular expression of Oniguruma's dialect (what the reference tokenizer library speaks) into pcre2's.
 *
 * The two agree on nearly all that tokenizers use. What differs and is put right here: \h (a hex digit), \u1234, \w
 * and \b (Unicode's definition of a word), {n}? (optional, not lazy), {n,m}+ (repeated, not possessive), {,n}, (?m)
 * (the dot matches a newline too), long names of properties, and sets inside of sets with union and intersection. */
#include "text/regex.h"

#include <string.h>
#include <strings.h>

enum { MAX_DEPTH = 50 };

/* Members of \w, \h and \d for use inside a set. */
#define WORD_MEMBERS                                                                                                   \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}"    \
    "\\x{1f150}-\\x{1f169}\\x{1f170}-\\x{1f189}"
#define HEX_MEMBERS "0-9a-fA-F"

struct translation {
    const char *pattern; /* for messages */
    const char *next, *end;
    struct bb_buffer *result;
    size_t group_starts[MAX_DEPTH], depth; /* where in the result each open group began */
    size_t atom_start;                     /* where in the result the thing began that a quantifier would repeat */
    bombus_error *error;
};

static bombus_status unsupported(const struct translation *t, const char *what)
{
    return bb_fail(t->error, BOMBUS_ERROR_UNSUPPORTED, "regular expression '%.300s': %s", t->pattern, what);
}

static void add(struct translation *t, const char *text)
{
    bb_buffer_add_text(t->result, text);
}

static void wrap(struct translation *t, size_t start, const char *before, const char *after)
{
    size_t length = strlen(before);
    if (!bb_buffer_reserve(t->result, length))
        return;
    memmove(t->result->data + start + length, t->result->data + start, t->result->length - start);
    memcpy(t->result->data + start, before, length);
    t->result->length += length;
    add(t, after);
}

static bool at(const struct translation *t, const char *text)
{
    size_t length = strlen(text);
    return (size_t)(t->end - t->next) >= length && memcmp(t->next, text, length) == 0;
}

/* \p{...} or \P{...}, at the p. pcre2 knows scripts and the short names of categories; these are long ones. */
static bombus_status translate_property(struct translation *t)
{
    static const struct {
        const char *name, *short_name;
    } names[] = {{"letter", "L"},
                 {"mark", "M"},
                 {"number", "N"},
                 {"punctuation", "P"},
                 {"symbol", "S"},
                 {"separator", "Z"},
                 {"other", "C"},
                 {"alpha", "Alphabetic"},
                 {"digit", "Nd"},
                 {"punct", "P"},
                 {"upper", "Lu"},
                 {"lower", "Ll"},
                 {"space", "Xsp"},
                 {"cntrl", "Cc"},
                 {"uppercase_letter", "Lu"},
                 {"lowercase_letter", "Ll"},
                 {"titlecase_letter", "Lt"},
                 {"modifier_letter", "Lm"},
                 {"other_letter", "Lo"},
                 {"nonspacing_mark", "Mn"},
                 {"decimal_number", "Nd"}};
    const char *close = memchr(t->next, '}', (size_t)(t->end - t->next));
    if (t->end - t->next < 2 || t->next[1] != '{' || close == NULL)
        return unsupported(t, "\\p without {name}");
    const char *name = t->next + 2;
    bb_buffer_add_byte(t->result, '\\');
    bb_buffer_add(t->result, t->next, 2);
    if (name < close && *name == '^') {
        add(t, "^");
        name++;
    }
    size_t length = (size_t)(close - name), i = 0;
    while (i < BB_COUNT(names) && !(strlen(names[i].name) == length && strncasecmp(names[i].name, name, length) == 0))
        i++;
    if (i < BB_COUNT(names))
        add(t, names[i].short_name);
    else
        bb_buffer_add(t->result, name, length);
    add(t, "}");
    t->next = close + 1;
    return BOMBUS_OK;
}

/* \uHHHH, at the u */
static bombus_status translate_code_point(struct translation *t)
{
    if (t->end - t->next < 5)
        return unsupported(t, "\\u without four hex digits");
    bb_buffer_format(t->result, "\\x{%.4s}", t->next + 1);
    t->next += 5;
    return BOMBUS_OK;
}

/* After a backslash. */
static bombus_status translate_escape(struct translation *t, bool is_in_set)
{
    if (t->next == t->end)
        return unsupported(t, "it ends with a backslash");
    char letter = *t->next;
    switch (letter) {
    case 'p':
    case 'P': return translate_property(t);
    case 'u': return translate_code_point(t);
    case 'h': add(t, is_in_set ? HEX_MEMBERS : "[" HEX_MEMBERS "]"); break;
    case 'w': add(t, is_in_set ? WORD_MEMBERS : "[" WORD_MEMBERS "]"); break;
    case 'H':
    case 'W':
        if (is_in_set)
            return unsupported(t, "\\H or \\W inside a set");
        add(t, letter == 'H' ? "[^" HEX_MEMBERS "]" : "[^" WORD_MEMBERS "]");
        break;
    case 'b':
    case 'B':
        if (is_in_set)
            add(t, "\\b");
        else if (letter == 'b')
            add(t, "(?:(?<=[" WORD_MEMBERS "])(?![" WORD_MEMBERS "])|(?<![" WORD_MEMBERS "])(?=[" WORD_MEMBERS "]))");
        else
            add(t, "(?:(?<=[" WORD_MEMBERS "])(?=[" WORD_MEMBERS "])|(?<![" WORD_MEMBERS "])(?![" WORD_MEMBERS "]))");
        break;
    default: bb_buffer_add_byte(t->result, '\\'); bb_buffer_add_byte(t->result, letter);
    }
    t->next++;
    return BOMBUS_OK;
}

/* One run of members up to && or ], as an expression that matches one character. */
static bombus_status translate_set(struct translation *t, size_t depth);

static bombus_status translate_members(struct translation *t, size_t depth)
{
    size_t start = t->result->length;
    struct bb_buffer inner = {0}; /* the sets inside, each preceded by '|' */
    bombus_status status = BOMBUS_OK;
    add(t, "[");
    size_t first = t->result->length;
    while (t->next < t->end && *t->next != ']' && !at(t, "&&") && status == BOMBUS_OK) {
        if (*t->next == '\\') {
            t->next++;
            status = translate_escape(t, true);
        } else if (at(t, "[:")) {
            const char *close = memchr(t->next, ']', (size_t)(t->end - t->next));
            size_t length = close != NULL ? (size_t)(close - t->next) + 1 : (size_t)(t->end - t->next);
            bb_buffer_add(t->result, t->next, length);
            t->next += length;
        } else if (*t->next == '[') {
            struct bb_buffer *outer = t->result;
            t->result = &inner;
            add(t, "|");
            status = translate_set(t, depth + 1);
            t->result = outer;
        } else {
            bb_buffer_add_byte(t->result, *t->next++);
        }
    }
    bool has_members = t->result->length > first;
    if (!has_members)
        t->result->length = start;
    else
        add(t, "]");
    if (inner.length > 0) {
        bb_buffer_add(t->result, inner.data + !has_members, inner.length - !has_members);
        wrap(t, start, "(?:", ")");
    } else if (!has_members && status == BOMBUS_OK) {
        status = unsupported(t, "an empty set");
    }
    if (inner.is_failed)
        t->result->is_failed = true;
    bb_buffer_clear(&inner);
    return status;
}

/* At '['. Plain sets stay sets; a && b becomes (?:(?=b)a); a negated compound becomes (?:(?!a)(?s:.)). */
static bombus_status translate_set(struct translation *t, size_t depth)
{
    size_t start = t->result->length;
    bool is_negated, is_compound = false;
    if (depth >= MAX_DEPTH)
        return unsupported(t, "sets are nested too deep");
    t->next++;
    is_negated = t->next < t->end && *t->next == '^';
    t->next += is_negated;
    if (t->next < t->end && *t->next == ']') { /* a bracket that comes first is a member */
        size_t length = (size_t)(t->end - t->next);
        if (memchr(t->next + 1, ']', length - 1) == NULL)
            return unsupported(t, "a set is not closed");
        return unsupported(t, "a set that begins with ']'");
    }
    for (bool is_first = true;; is_first = false) {
        size_t operand = t->result->length;
        bombus_status status = translate_members(t, depth);
        if (status != BOMBUS_OK)
            return status;
        if (t->result->is_failed)
            return BOMBUS_OK;
        is_compound = is_compound || t->result->data[operand] != '[';
        if (!is_first) {
            wrap(t, operand, "(?<=", ")"); /* the character just matched is in this operand too */
            is_compound = true;
        }
        if (t->next == t->end)
            return unsupported(t, "a set is not closed");
        if (*t->next == ']')
            break;
        t->next += 2;
    }
    t->next++;
    if (is_compound)
        wrap(t, start, is_negated ? "(?:(?!" : "(?:", is_negated ? ")(?s:.))" : ")");
    else if (is_negated)
        wrap(t, start + 1, "^", "");
    return BOMBUS_OK;
}

/* At '(': copies what opens the group, with its option letters put right. */
static bombus_status translate_group(struct translation *t)
{
    if (t->depth == MAX_DEPTH)
        return unsupported(t, "groups are nested too deep");
    if (at(t, "(*") || at(t, "(?{") || at(t, "(?C") || at(t, "(?~"))
        return unsupported(t, "callouts, verbs and absent operators");
    t->group_starts[t->depth++] = t->result->length;
    if (!at(t, "(?")) {
        add(t, "(");
        t->next++;
        return BOMBUS_OK;
    }
    add(t, "(?");
    t->next += 2;
    while (t->next < t->end && strchr("imx-", *t->next) != NULL) {
        bb_buffer_add_byte(t->result, *t->next == 'm' ? 's' : *t->next);
        t->next++;
    }
    return BOMBUS_OK;
}

/* At '{'. Leaves it a literal where it is no quantifier. */
static void translate_interval(struct translation *t)
{
    const char *p = t->next + 1;
    const char *first = p;
    while (p < t->end && *p >= '0' && *p <= '9')
        p++;
    const char *comma = p < t->end && *p == ',' ? p : NULL;
    const char *second = comma != NULL ? ++p : NULL;
    while (comma != NULL && p < t->end && *p >= '0' && *p <= '9')
        p++;
    bool has_first = second != NULL ? comma > first : p > first, has_second = second != NULL && p > second;
    if (p == t->end || *p != '}' || !(has_first || has_second)) {
        t->atom_start = t->result->length;
        add(t, "\\{");
        t->next++;
        return;
    }
    add(t, has_first ? "{" : "{0");
    bb_buffer_add(t->result, first, (size_t)(p + 1 - first));
    t->next = p + 1;
    if (t->next < t->end && (*t->next == '+' || (*t->next == '?' && comma == NULL)))
        wrap(t, t->atom_start, "(?:", ")"); /* then the + or ? is a quantifier of its own */
}

static bombus_status translate_next(struct translation *t)
{
    char letter = *t->next;
    size_t start = t->result->length;
    bombus_status status = BOMBUS_OK;
    switch (letter) {
    case '\\':
        t->next++;
        t->atom_start = start;
        return translate_escape(t, false);
    case '[': t->atom_start = start; return translate_set(t, 0);
    case '(': return translate_group(t);
    case ')':
        if (t->depth == 0)
            return unsupported(t, "a parenthesis too many");
        t->atom_start = t->group_starts[--t->depth];
        add(t, ")");
        break;
    case '{': translate_interval(t); return BOMBUS_OK;
    case '*':
    case '+':
    case '?': bb_buffer_add_byte(t->result, letter); break;
    default:
        if (((unsigned char)letter & 0xC0) != 0x80)
            t->atom_start = start;
        bb_buffer_add_byte(t->result, letter);
    }
    t->next++;
    return status;
}

bombus_status bb_regex_translate(struct bb_buffer *result, const char *pattern, size_t length, bombus_error *error)
{
    struct translation t = {
        .pattern = pattern, .next = pattern, .end = pattern + length, .result = result, .error = error};
    bombus_status status = BOMBUS_OK;
    bb_buffer_reserve(result, length);
    if (memchr(pattern, '\0', length) != NULL)
        return unsupported(&t, "a NUL byte");
    while (status == BOMBUS_OK && t.next < t.end && !result->is_failed)
        status = translate_next(&t);
    if (status == BOMBUS_OK && result->is_failed)
        status = bb_fail_memory(error, length, "a regular expression");
    return status;
}
