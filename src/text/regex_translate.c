/* Puts a regular expression of Oniguruma's dialect (what the reference tokenizer library speaks) into pcre2's.
 *
 * The two agree on nearly all that tokenizers use. What differs and is put right here: \h (a hex digit), \v (one
 * character), \u1234, \w and \b (Unicode's definition of a word), {n}? (optional, not lazy), {n,m}+ (repeated, not
 * possessive), {,n}, (?m) (the dot matches a newline too), names of properties and scripts, [:classes:], and sets
 * inside of sets with union and intersection. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include <pcre2.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

enum { MAX_DEPTH = 50 };

/* Members of sets. Oniguruma's \w has the superscripts and fractions of Latin-1, but not in a set. */
#define SET_WORD_MEMBERS                                                                                               \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}-\\x{1f169}"                   \
    "\\x{1f170}-\\x{1f189}"
#define WORD_MEMBERS  SET_WORD_MEMBERS "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"
#define HEX_MEMBERS   "0-9a-fA-F"
#define ALNUM_MEMBERS "\\p{Alphabetic}\\p{Nd}"
#define GRAPH_MEMBERS "\\p{L}\\p{M}\\p{N}\\p{P}\\p{S}\\p{Cf}\\p{Co}"
#define PRINT_MEMBERS GRAPH_MEMBERS "\\p{Zs}"

struct named_members {
    const char *name, *members;
};

struct translation {
    const char *pattern; /* for messages */
    const char *next, *end;
    struct bb_buffer *result;
    size_t group_starts[MAX_DEPTH], depth; /* where in the result each open group began */
    size_t atom_start;                     /* where in the result the thing began that a quantifier would repeat */
    struct bb_buffer *others; /* of the set that is open: what stands beside its members, each preceded by '|' */
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

/* One character of a class, or none of them. */
static void add_class(struct translation *t, const char *members, bool is_negated)
{
    if (t->others == NULL)
        bb_buffer_format(t->result, "[%s%s]", is_negated ? "^" : "", members);
    else if (is_negated)
        bb_buffer_format(t->others, "|[^%s]", members);
    else
        add(t, members);
}

static const char *word_members(const struct translation *t)
{
    return t->others != NULL ? SET_WORD_MEMBERS : WORD_MEMBERS;
}

/* Case, spaces, - and _ do not count in names. */
static bool is_same_name(const char *name, const char *other, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (strchr(" -_", other[i]) != NULL)
            continue;
        if (*name == '\0' || *name != (other[i] >= 'A' && other[i] <= 'Z' ? other[i] + 'a' - 'A' : other[i]))
            return false;
        name++;
    }
    return *name == '\0';
}

static const char *find_members(const struct named_members *classes, size_t count, const char *name, size_t length)
{
    for (size_t i = 0; i < count; i++)
        if (is_same_name(classes[i].name, name, length))
            return classes[i].members;
    return NULL;
}

/* pcre2 is asked: a script's bare name would mean those characters too that several scripts share. */
static bool is_script(struct translation *t, const char *name, size_t length)
{
    char pattern[64];
    int code = 0;
    PCRE2_SIZE place;
    if (length > 40)
        return false;
    snprintf(pattern, sizeof pattern, "\\p{sc:%.*s}", (int)length, name);
    pcre2_code *compiled = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF, &code, &place, NULL);
    t->result->is_failed = t->result->is_failed || (compiled == NULL && code == PCRE2_ERROR_HEAP_FAILED);
    pcre2_code_free(compiled);
    return compiled != NULL;
}

/* \p{...} or \P{...}, at the p. pcre2 knows the short names of categories. */
static bombus_status translate_property(struct translation *t)
{
    static const struct named_members categories[] = {{"letter", "L"},
                                                      {"uppercaseletter", "Lu"},
                                                      {"lowercaseletter", "Ll"},
                                                      {"titlecaseletter", "Lt"},
                                                      {"casedletter", "L&"},
                                                      {"modifierletter", "Lm"},
                                                      {"otherletter", "Lo"},
                                                      {"mark", "M"},
                                                      {"nonspacingmark", "Mn"},
                                                      {"spacingmark", "Mc"},
                                                      {"enclosingmark", "Me"},
                                                      {"number", "N"},
                                                      {"decimalnumber", "Nd"},
                                                      {"letternumber", "Nl"},
                                                      {"othernumber", "No"},
                                                      {"punctuation", "P"},
                                                      {"connectorpunctuation", "Pc"},
                                                      {"dashpunctuation", "Pd"},
                                                      {"openpunctuation", "Ps"},
                                                      {"closepunctuation", "Pe"},
                                                      {"initialpunctuation", "Pi"},
                                                      {"finalpunctuation", "Pf"},
                                                      {"otherpunctuation", "Po"},
                                                      {"symbol", "S"},
                                                      {"mathsymbol", "Sm"},
                                                      {"currencysymbol", "Sc"},
                                                      {"modifiersymbol", "Sk"},
                                                      {"othersymbol", "So"},
                                                      {"separator", "Z"},
                                                      {"spaceseparator", "Zs"},
                                                      {"lineseparator", "Zl"},
                                                      {"paragraphseparator", "Zp"},
                                                      {"other", "C"},
                                                      {"control", "Cc"},
                                                      {"format", "Cf"},
                                                      {"surrogate", "Cs"},
                                                      {"privateuse", "Co"},
                                                      {"unassigned", "Cn"},
                                                      {"alpha", "Alphabetic"},
                                                      {"digit", "Nd"},
                                                      {"punct", "P"},
                                                      {"upper", "Uppercase"},
                                                      {"lower", "Lowercase"},
                                                      {"space", "Xsp"},
                                                      {"cntrl", "Cc"}};
    static const struct named_members classes[] = {{"alnum", ALNUM_MEMBERS},
                                                   {"graph", GRAPH_MEMBERS},
                                                   {"print", PRINT_MEMBERS},
                                                   {"blank", "\\p{Zs}\\t"},
                                                   {"xdigit", HEX_MEMBERS}};
    const char *close = memchr(t->next, '}', (size_t)(t->end - t->next));
    if (t->end - t->next < 2 || t->next[1] != '{' || close == NULL)
        return unsupported(t, "\\p without {name}");
    const char *name = t->next + 2;
    bool is_negated = *t->next == 'P';
    if (name < close && *name == '^') {
        is_negated = !is_negated;
        name++;
    }
    size_t length = (size_t)(close - name);
    const char *category = find_members(categories, BB_COUNT(categories), name, length);
    const char *members =
        is_same_name("word", name, length) ? word_members(t) : find_members(classes, BB_COUNT(classes), name, length);
    if (members != NULL)
        add_class(t, members, is_negated);
    else if (category != NULL)
        bb_buffer_format(t->result, "\\%c{%s}", is_negated ? 'P' : 'p', category);
    else
        bb_buffer_format(t->result, "\\%c{%s%.*s}", is_negated ? 'P' : 'p', is_script(t, name, length) ? "sc:" : "",
                         (int)length, name);
    t->next = close + 1;
    return BOMBUS_OK;
}

/* [:name:] or [:^name:] in a set, as against a set inside that begins with a colon. */
static bool is_at_class(const struct translation *t)
{
    const char *close = at(t, "[:") ? strpbrk(t->next + 2, ":]") : NULL;
    return close != NULL && close[0] == ':' && close[1] == ']';
}

static bombus_status translate_class(struct translation *t)
{
    static const struct named_members classes[] = {
        {"alnum", ALNUM_MEMBERS},   {"alpha", "\\p{Alphabetic}"}, {"ascii", "\\x00-\\x7f"}, {"blank", "\\p{Zs}\\t"},
        {"cntrl", "\\p{Cc}"},       {"digit", "\\p{Nd}"},         {"graph", GRAPH_MEMBERS}, {"lower", "\\p{Lowercase}"},
        {"print", PRINT_MEMBERS},   {"punct", "\\p{P}\\p{S}"},    {"space", "\\s"},         {"upper", "\\p{Uppercase}"},
        {"word", SET_WORD_MEMBERS}, {"xdigit", HEX_MEMBERS}};
    bool is_negated = t->next[2] == '^';
    const char *name = t->next + 2 + is_negated, *close = strchr(name, ':');
    const char *members = find_members(classes, BB_COUNT(classes), name, (size_t)(close - name));
    if (members == NULL)
        return unsupported(t, "a class [:...:] that is not known");
    add_class(t, members, is_negated);
    t->next = close + 2;
    return BOMBUS_OK;
}

/* \uHHHH, \xH, \xHH or \x{H...}, at the letter */
static bombus_status translate_code_point(struct translation *t)
{
    bool is_braced = at(t, "x{"), is_short = !is_braced && *t->next == 'x';
    const char *digits = t->next + 1 + is_braced;
    size_t length = strspn(digits, "0123456789abcdefABCDEF"), most = is_braced ? 8 : is_short ? 2 : 4;
    if (is_braced ? length < 1 || length > most || digits[length] != '}' : length < (is_short ? 1 : most))
        return unsupported(t, "\\u or \\x without the digits of a character");
    length = length < most ? length : most;
    bb_buffer_format(t->result, "\\x{%.*s}", (int)length, digits);
    t->next = digits + length + is_braced;
    return BOMBUS_OK;
}

/* After a backslash. */
static bombus_status translate_escape(struct translation *t)
{
    if (t->next == t->end)
        return unsupported(t, "it ends with a backslash");
    char letter = *t->next;
    switch (letter) {
    case 'p':
    case 'P': return translate_property(t);
    case 'u':
    case 'x': return translate_code_point(t);
    case 'h':
    case 'H': add_class(t, HEX_MEMBERS, letter == 'H'); break;
    case 'w':
    case 'W': add_class(t, word_members(t), letter == 'W'); break;
    case 'v': add(t, "\\x{b}"); break;
    case 'b':
    case 'B':
        if (t->others != NULL)
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
    struct bb_buffer inner = {0}, *outer_others = t->others;
    bombus_status status = BOMBUS_OK;
    t->others = &inner;
    add(t, "[");
    size_t first = t->result->length;
    while (t->next < t->end && *t->next != ']' && !at(t, "&&") && status == BOMBUS_OK) {
        if (*t->next == '\\') {
            t->next++;
            status = translate_escape(t);
        } else if (is_at_class(t)) {
            status = translate_class(t);
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
    t->others = outer_others;
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
        return translate_escape(t);
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
