/* Regular expressions: the regular part of the usual syntax. */
#include "generate/grammar/constraint.h"
#include "generate/grammar/reader.h"

#include "text/category.h"

#include <string.h>

struct pattern {
    struct bb_reader reader;
    enum bb_pattern_use use;
};

static void fail(struct pattern *pattern, size_t position, bombus_status status, const char *message)
{
    bb_reader_fail(&pattern->reader, position, status, message);
}

static uint32_t add_set(struct pattern *pattern, struct bb_character_set *set)
{
    uint32_t node = pattern->use == BB_PATTERN_FOUND_IN_JSON ? bb_rules_json_characters(pattern->reader.rules, set)
                                                             : bb_rules_characters(pattern->reader.rules, set);
    bb_character_set_clear(set);
    return node;
}

static void add_all(struct bb_character_set *set, const struct bb_character_set *other)
{
    for (size_t i = 0; i < other->count; i++)
        bb_character_set_add(set, other->spans[i].first, other->spans[i].last);
    set->is_failed = set->is_failed || other->is_failed;
}

/* \p{Lu}, \pL: behind the p. */
static void add_category(struct pattern *pattern, struct bb_character_set *set)
{
    struct bb_reader *reader = &pattern->reader;
    size_t begin = reader->position, length = 1;
    if (bb_reader_take(reader, "{")) {
        begin++;
        length = 0;
        while (begin + length < reader->length && reader->source[begin + length] != '}')
            length++;
        reader->position++;
    }
    reader->position += length;
    uint32_t categories = reader->position <= reader->length ? bb_category_find(reader->source + begin, length) : 0;
    if (categories == 0) {
        reader->position = reader->length;
        fail(pattern, begin, BOMBUS_ERROR_UNSUPPORTED,
             "unknown property, expected a general category such as L, Lu or Nd");
        return;
    }
    for (uint32_t first = 0; first <= 0x10FFFF; first++) {
        if (!bb_category_has(categories, first))
            continue;
        uint32_t last = first;
        while (last < 0x10FFFF && bb_category_has(categories, last + 1))
            last++;
        bb_character_set_add(set, first, last);
        first = last;
    }
}

/* Classes of one letter; false if the letter is none. */
static bool add_letter_class(struct pattern *pattern, char letter, struct bb_character_set *set)
{
    struct bb_character_set class = {0};
    switch (letter | 32) {
    case 'd': bb_character_set_add(&class, '0', '9'); break;
    case 'w':
        bb_character_set_add(&class, '0', '9');
        bb_character_set_add(&class, 'A', 'Z');
        bb_character_set_add(&class, 'a', 'z');
        bb_character_set_add(&class, '_', '_');
        break;
    case 's':
        bb_character_set_add(&class, '\t', '\r');
        bb_character_set_add(&class, ' ', ' ');
        break;
    case 'p': add_category(pattern, &class); break;
    default: return false;
    }
    if (letter < 'a')
        bb_character_set_tidy(&class, true);
    add_all(set, &class);
    bb_character_set_clear(&class);
    return true;
}

/* A character or class behind a backslash. *single: the character, UINT32_MAX for a class. */
static void read_escape(struct pattern *pattern, struct bb_character_set *set, uint32_t *single)
{
    static const char named[] = "n\nr\rt\tf\fv\v";
    struct bb_reader *reader = &pattern->reader;
    size_t begin = reader->position - 1;
    *single = UINT32_MAX;
    if (bb_reader_is_at_end(reader)) {
        fail(pattern, begin, BOMBUS_ERROR_FORMAT, "a backslash at the end");
        return;
    }
    uint32_t character = bb_reader_next(reader);
    char letter = character < 0x80 ? (char)character : '\0';
    bool is_good = true;
    if (character < 0x80 && add_letter_class(pattern, letter, set))
        return;
    for (size_t i = 0; i + 2 < sizeof named; i += 2)
        if (named[i] == letter && letter != '\0')
            *single = (uint32_t)named[i + 1];
    if ((letter == 'x' || letter == 'u') && bb_reader_take(reader, "{")) {
        size_t end = reader->position;
        while (end < reader->length && reader->source[end] != '}')
            end++;
        is_good = end - reader->position <= 6 && bb_reader_hex(reader, (int32_t)(end - reader->position), single) &&
                  bb_reader_take(reader, "}");
    } else if (letter == 'x' || letter == 'u') {
        is_good = bb_reader_hex(reader, letter == 'x' ? 2 : 4, single);
    } else if (*single == UINT32_MAX) {
        bool is_word = (letter >= '0' && letter <= '9') || ((letter | 32) >= 'a' && (letter | 32) <= 'z');
        *single = character;
        if (is_word)
            fail(pattern, begin, BOMBUS_ERROR_UNSUPPORTED,
                 letter >= '1' && letter <= '9' ? "backreferences are not supported"
                 : (letter | 32) == 'b'         ? "word boundaries are not supported"
                                                : "this escape is not supported");
    }
    if (!is_good)
        fail(pattern, begin, BOMBUS_ERROR_FORMAT, "hexadecimal digits of a character expected");
    if (*single != UINT32_MAX)
        bb_character_set_add(set, *single, *single);
}

/* Behind the bracket. */
static uint32_t read_class(struct pattern *pattern)
{
    struct bb_reader *reader = &pattern->reader;
    struct bb_character_set set = {0};
    size_t begin = reader->position - 1;
    bool is_negated = bb_reader_take(reader, "^");
    for (bool is_first = true; reader->rules->status == BOMBUS_OK; is_first = false) {
        if (bb_reader_is_at_end(reader)) {
            fail(pattern, begin, BOMBUS_ERROR_FORMAT, "a class of characters without end");
            break;
        }
        if (!is_first && bb_reader_take(reader, "]"))
            break;
        if (bb_reader_take(reader, "[:") || bb_reader_take(reader, "[=") || bb_reader_take(reader, "[.")) {
            fail(pattern, reader->position - 2, BOMBUS_ERROR_UNSUPPORTED, "POSIX classes are not supported");
            break;
        }
        uint32_t first, last;
        size_t place = reader->position;
        if (bb_reader_take(reader, "\\")) {
            read_escape(pattern, &set, &first);
        } else {
            first = bb_reader_next(reader);
            bb_character_set_add(&set, first, first);
        }
        if (bb_reader_peek(reader) != '-' || reader->position + 1 >= reader->length ||
            reader->source[reader->position + 1] == ']')
            continue;
        reader->position++;
        if (bb_reader_take(reader, "\\"))
            read_escape(pattern, &set, &last);
        else
            last = bb_reader_next(reader);
        if (first == UINT32_MAX || last == UINT32_MAX || last < first)
            fail(pattern, place, BOMBUS_ERROR_FORMAT, "a range whose ends are no characters in order");
        else
            bb_character_set_add(&set, first, last);
    }
    bb_character_set_tidy(&set, is_negated);
    return add_set(pattern, &set);
}

static uint32_t read_alternatives(struct pattern *pattern, bool is_top);

/* Behind the parenthesis. */
static uint32_t read_group(struct pattern *pattern)
{
    struct bb_reader *reader = &pattern->reader;
    size_t begin = reader->position - 1;
    if (++reader->depth > BB_MAX_NESTING)
        fail(pattern, begin, BOMBUS_ERROR_LIMIT, "groups nested too deeply");
    if (bb_reader_take(reader, "?")) {
        bool is_look = bb_reader_take(reader, "=") || bb_reader_take(reader, "!") || bb_reader_take(reader, "<=") ||
                       bb_reader_take(reader, "<!");
        if (is_look)
            fail(pattern, begin, BOMBUS_ERROR_UNSUPPORTED, "lookaround is not supported");
        if (bb_reader_take(reader, "<") || bb_reader_take(reader, "P<")) {
            while (!bb_reader_is_at_end(reader) && bb_reader_peek(reader) != '>')
                reader->position++;
            if (!bb_reader_take(reader, ">"))
                fail(pattern, begin, BOMBUS_ERROR_FORMAT, "a group's name without >");
        } else if (!bb_reader_take(reader, ":")) {
            fail(pattern, begin, BOMBUS_ERROR_UNSUPPORTED, "this kind of group is not supported");
        }
    }
    uint32_t node = reader->rules->status == BOMBUS_OK ? read_alternatives(pattern, false) : 0;
    if (!bb_reader_take(reader, ")"))
        fail(pattern, begin, BOMBUS_ERROR_FORMAT, "a group without )");
    reader->depth--;
    return node;
}

static uint32_t read_atom(struct pattern *pattern)
{
    struct bb_reader *reader = &pattern->reader;
    struct bb_character_set set = {0};
    size_t begin = reader->position;
    uint32_t character = bb_reader_next(reader), single;
    switch (character) {
    case '(': return read_group(pattern);
    case '[': return read_class(pattern);
    case '.':
        bb_character_set_add(&set, '\n', '\n');
        bb_character_set_tidy(&set, true);
        break;
    case '\\':
        read_escape(pattern, &set, &single);
        bb_character_set_tidy(&set, false);
        break;
    case '*':
    case '+':
    case '?': fail(pattern, begin, BOMBUS_ERROR_FORMAT, "nothing to repeat"); break;
    case '^':
    case '$':
        fail(pattern, begin, BOMBUS_ERROR_UNSUPPORTED,
             "an anchor that is not at the end of the pattern is not supported");
        break;
    default: bb_character_set_add(&set, character, character);
    }
    return add_set(pattern, &set);
}

static uint32_t read_repetition(struct pattern *pattern, uint32_t node)
{
    struct bb_reader *reader = &pattern->reader;
    uint32_t least = 1, most = 1;
    size_t begin = reader->position;
    if (bb_reader_take(reader, "*")) {
        least = 0;
        most = BB_UNLIMITED;
    } else if (bb_reader_take(reader, "+")) {
        most = BB_UNLIMITED;
    } else if (bb_reader_take(reader, "?")) {
        least = 0;
    } else if (!bb_reader_take(reader, "{")) {
        return node;
    } else if (!bb_reader_bounds(reader, &least, &most)) {
        fail(pattern, begin, BOMBUS_ERROR_FORMAT, "expected {m}, {m,} or {m,n}; write \\{ for the brace itself");
    }
    if (bb_reader_take(reader, "+"))
        fail(pattern, begin, BOMBUS_ERROR_UNSUPPORTED, "possessive repetition is not supported");
    else if (!bb_reader_take(reader, "?") && (bb_reader_peek(reader) == '*'))
        fail(pattern, reader->position, BOMBUS_ERROR_FORMAT, "nothing to repeat");
    return bb_rules_repeat(reader->rules, node, least, most);
}

/* Any characters, as far as a pattern that may be found anywhere allows. */
static uint32_t add_anything(struct pattern *pattern)
{
    struct bb_character_set set = {0};
    bb_character_set_tidy(&set, true);
    return bb_rules_repeat(pattern->reader.rules, add_set(pattern, &set), 0, BB_UNLIMITED);
}

static uint32_t read_sequence(struct pattern *pattern, bool is_top)
{
    struct bb_reader *reader = &pattern->reader;
    uint32_t sequence = bb_rules_list(reader->rules, BB_RULE_SEQUENCE);
    bool is_anchored = is_top && bb_reader_take(reader, "^"), is_ended = false;
    if (is_top && pattern->use != BB_PATTERN_WHOLE && !is_anchored)
        bb_rules_append(reader->rules, sequence, add_anything(pattern));
    while (reader->rules->status == BOMBUS_OK && !bb_reader_is_at_end(reader) && bb_reader_peek(reader) != '|' &&
           bb_reader_peek(reader) != ')') {
        size_t after = reader->position + 1;
        if (is_top && bb_reader_peek(reader) == '$' && (after == reader->length || reader->source[after] == '|')) {
            reader->position++;
            is_ended = true;
            break;
        }
        uint32_t atom = read_atom(pattern);
        bb_rules_append(reader->rules, sequence, read_repetition(pattern, atom));
    }
    if (is_top && pattern->use != BB_PATTERN_WHOLE && !is_ended)
        bb_rules_append(reader->rules, sequence, add_anything(pattern));
    return sequence;
}

static uint32_t read_alternatives(struct pattern *pattern, bool is_top)
{
    struct bb_reader *reader = &pattern->reader;
    uint32_t choice = bb_rules_list(reader->rules, BB_RULE_CHOICE);
    do
        bb_rules_append(reader->rules, choice, read_sequence(pattern, is_top));
    while (reader->rules->status == BOMBUS_OK && bb_reader_take(reader, "|"));
    return choice;
}

bombus_status bb_pattern_add(struct bb_rules *rules, const char *source, size_t length, enum bb_pattern_use use,
                             uint32_t *node, bombus_error *error)
{
    struct pattern pattern = {
        .reader = {.what = "regex", .source = source, .length = length, .rules = rules, .error = error}, .use = use};
    *node = read_alternatives(&pattern, true);
    if (!bb_reader_is_at_end(&pattern.reader))
        fail(&pattern, pattern.reader.position, BOMBUS_ERROR_FORMAT, "a ) without (");
    return rules->status;
}

bombus_status bb_pattern_read(struct bb_rules *rules, const char *source, size_t length, bombus_error *error)
{
    uint32_t root = bb_rules_add(rules), node;
    bombus_status status = bb_pattern_add(rules, source, length, BB_PATTERN_WHOLE, &node, error);
    if (status == BOMBUS_OK)
        bb_rules_define(rules, root, node);
    return rules->status;
}
