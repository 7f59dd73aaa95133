/* Grammars in llama.cpp's notation (GBNF). */
#include "generate/grammar/constraint.h"
#include "generate/grammar/reader.h"

#include "base/map.h"
#include "base/memory.h"

struct gbnf {
    struct bb_reader reader;
    struct bb_map names; /* to rules */
    size_t *uses;        /* [rule]: where it was first named */
    size_t use_capacity;
};

static bool is_name(char letter)
{
    return (letter >= '0' && letter <= '9') || ((letter | 32) >= 'a' && (letter | 32) <= 'z') || letter == '-' ||
           letter == '_';
}

static void skip_space(struct bb_reader *reader, bool crosses_lines)
{
    for (;; reader->position++) {
        char letter = bb_reader_peek(reader);
        if (letter == '#') {
            while (!bb_reader_is_at_end(reader) && bb_reader_peek(reader) != '\n')
                reader->position++;
            letter = bb_reader_peek(reader);
        }
        if (bb_reader_is_at_end(reader) ||
            !(letter == ' ' || letter == '\t' || (crosses_lines && (letter == '\n' || letter == '\r'))))
            return;
    }
}

/* The rule of the name that comes next. */
static uint32_t read_name(struct gbnf *gbnf)
{
    struct bb_reader *reader = &gbnf->reader;
    size_t begin = reader->position;
    while (!bb_reader_is_at_end(reader) && is_name(bb_reader_peek(reader)))
        reader->position++;
    const char *name = reader->source + begin;
    size_t length = reader->position - begin;
    const uint64_t *found = bb_map_find(&gbnf->names, name, length);
    if (found != NULL)
        return (uint32_t)*found;
    uint32_t rule = bb_rules_add(reader->rules);
    if (!bb_grow(&gbnf->uses, rule, 1, &gbnf->use_capacity, sizeof *gbnf->uses) ||
        !bb_map_set(&gbnf->names, name, length, rule, NULL)) {
        bb_reader_fail(reader, begin, BOMBUS_ERROR_MEMORY, "out of memory");
        return 0;
    }
    gbnf->uses[rule] = begin;
    return rule;
}

static uint32_t read_character(struct bb_reader *reader)
{
    size_t begin = reader->position;
    uint32_t character = bb_reader_next(reader);
    if (character != '\\')
        return character;
    char letter = bb_reader_is_at_end(reader) ? '\0' : reader->source[reader->position++];
    bool is_good = true;
    switch (letter) {
    case 'x': is_good = bb_reader_hex(reader, 2, &character); break;
    case 'u': is_good = bb_reader_hex(reader, 4, &character); break;
    case 'U': is_good = bb_reader_hex(reader, 8, &character); break;
    case 't': character = '\t'; break;
    case 'r': character = '\r'; break;
    case 'n': character = '\n'; break;
    case '\\':
    case '"':
    case '[':
    case ']': character = (uint32_t)letter; break;
    default: is_good = false;
    }
    if (!is_good)
        bb_reader_fail(reader, begin, BOMBUS_ERROR_FORMAT,
                       "unknown escape, expected \\n \\r \\t \\\\ \\\" \\[ \\] \\xHH \\uHHHH or \\UHHHHHHHH of a "
                       "character");
    return character;
}

static uint32_t read_literal(struct bb_reader *reader)
{
    size_t begin = reader->position++;
    uint32_t list = bb_rules_list(reader->rules, BB_RULE_SEQUENCE);
    while (reader->rules->status == BOMBUS_OK && !bb_reader_take(reader, "\"")) {
        if (bb_reader_is_at_end(reader)) {
            bb_reader_fail(reader, begin, BOMBUS_ERROR_FORMAT, "a literal without end");
            break;
        }
        struct bb_character_set set = {0};
        uint32_t character = read_character(reader);
        bb_character_set_add(&set, character, character);
        bb_rules_append(reader->rules, list, bb_rules_characters(reader->rules, &set));
        bb_character_set_clear(&set);
    }
    return list;
}

static uint32_t read_class(struct bb_reader *reader)
{
    struct bb_character_set set = {0};
    size_t begin = reader->position++;
    bool is_negated = bb_reader_take(reader, "^");
    while (reader->rules->status == BOMBUS_OK && !bb_reader_take(reader, "]")) {
        if (bb_reader_is_at_end(reader)) {
            bb_reader_fail(reader, begin, BOMBUS_ERROR_FORMAT, "a class of characters without end");
            break;
        }
        uint32_t first = read_character(reader), last = first;
        if (bb_reader_peek(reader) == '-' && reader->position + 1 < reader->length &&
            reader->source[reader->position + 1] != ']') {
            reader->position++;
            last = read_character(reader);
        }
        if (last < first)
            bb_reader_fail(reader, begin, BOMBUS_ERROR_FORMAT, "a range of characters that ends before it begins");
        bb_character_set_add(&set, first, last);
    }
    bb_character_set_tidy(&set, is_negated);
    uint32_t node = bb_rules_characters(reader->rules, &set);
    bb_character_set_clear(&set);
    return node;
}

static uint32_t read_alternatives(struct gbnf *gbnf, bool is_nested);

static uint32_t read_group(struct gbnf *gbnf)
{
    struct bb_reader *reader = &gbnf->reader;
    size_t begin = reader->position++;
    if (++reader->depth > BB_MAX_NESTING)
        bb_reader_fail(reader, begin, BOMBUS_ERROR_LIMIT, "groups nested too deeply");
    skip_space(reader, true);
    uint32_t node = reader->rules->status == BOMBUS_OK ? read_alternatives(gbnf, true) : 0;
    if (!bb_reader_take(reader, ")"))
        bb_reader_fail(reader, begin, BOMBUS_ERROR_FORMAT, "a group without )");
    reader->depth--;
    return node;
}

/* A symbol; 0 where none begins. */
static uint32_t read_symbol(struct gbnf *gbnf)
{
    struct bb_reader *reader = &gbnf->reader;
    char letter = bb_reader_peek(reader);
    struct bb_character_set set = {0};
    if (letter == '"')
        return read_literal(reader);
    if (letter == '[')
        return read_class(reader);
    if (letter == '(')
        return read_group(gbnf);
    if (letter == '.') {
        reader->position++;
        bb_character_set_tidy(&set, true);
        uint32_t node = bb_rules_characters(reader->rules, &set);
        bb_character_set_clear(&set);
        return node;
    }
    if (letter == '<' || letter == '!')
        bb_reader_fail(reader, reader->position, BOMBUS_ERROR_UNSUPPORTED, "tokens by name (<...>) are not supported");
    return letter != '\0' && is_name(letter) ? bb_rules_call(reader->rules, read_name(gbnf)) : 0;
}

static uint32_t read_repetition(struct bb_reader *reader, uint32_t node)
{
    for (;;) {
        uint32_t least, most;
        size_t begin = reader->position;
        if (bb_reader_take(reader, "*"))
            node = bb_rules_repeat(reader->rules, node, 0, BB_UNLIMITED);
        else if (bb_reader_take(reader, "+"))
            node = bb_rules_repeat(reader->rules, node, 1, BB_UNLIMITED);
        else if (bb_reader_take(reader, "?"))
            node = bb_rules_repeat(reader->rules, node, 0, 1);
        else if (!bb_reader_take(reader, "{"))
            return node;
        else if (bb_reader_bounds(reader, &least, &most))
            node = bb_rules_repeat(reader->rules, node, least, most);
        else
            bb_reader_fail(reader, begin, BOMBUS_ERROR_FORMAT, "expected {m}, {m,} or {m,n}");
        if (reader->rules->status != BOMBUS_OK || ++reader->depth > BB_MAX_NESTING) {
            bb_reader_fail(reader, begin, BOMBUS_ERROR_LIMIT, "too many repetitions of repetitions");
            return node;
        }
    }
}

static uint32_t read_alternatives(struct gbnf *gbnf, bool is_nested)
{
    struct bb_reader *reader = &gbnf->reader;
    uint32_t choice = bb_rules_list(reader->rules, BB_RULE_CHOICE);
    do {
        skip_space(reader, true);
        uint32_t sequence = bb_rules_list(reader->rules, BB_RULE_SEQUENCE), symbol;
        while ((symbol = read_symbol(gbnf)) != 0 && reader->rules->status == BOMBUS_OK) {
            int32_t depth = reader->depth;
            bb_rules_append(reader->rules, sequence, read_repetition(reader, symbol));
            reader->depth = depth;
            skip_space(reader, is_nested);
        }
        bb_rules_append(reader->rules, choice, sequence);
        skip_space(reader, is_nested);
    } while (reader->rules->status == BOMBUS_OK && bb_reader_take(reader, "|"));
    return choice;
}

static void read_rule(struct gbnf *gbnf)
{
    struct bb_reader *reader = &gbnf->reader;
    size_t begin = reader->position;
    if (!is_name(bb_reader_peek(reader))) {
        bb_reader_fail(reader, begin, BOMBUS_ERROR_FORMAT, "expected the name of a rule");
        return;
    }
    uint32_t rule = read_name(gbnf);
    skip_space(reader, false);
    if (!bb_reader_take(reader, "::=")) {
        bb_reader_fail(reader, reader->position, BOMBUS_ERROR_FORMAT, "expected ::=");
        return;
    }
    if (reader->rules->status == BOMBUS_OK && reader->rules->bodies[rule] != 0)
        bb_reader_fail(reader, begin, BOMBUS_ERROR_FORMAT, "a rule that is defined already");
    skip_space(reader, true);
    uint32_t body = read_alternatives(gbnf, false);
    bb_rules_define(reader->rules, rule, body);
    char letter = bb_reader_peek(reader);
    if (!bb_reader_is_at_end(reader) && letter != '\n' && letter != '\r')
        bb_reader_fail(reader, reader->position, BOMBUS_ERROR_FORMAT,
                       "expected a literal, a class, a name, a group, a repetition or the end of the line");
    skip_space(reader, true);
}

bombus_status bb_gbnf_read(struct bb_rules *rules, const char *source, size_t length, bombus_error *error)
{
    struct gbnf gbnf = {
        .reader = {.what = "grammar", .source = source, .length = length, .rules = rules, .error = error}};
    uint32_t root = bb_rules_add(rules);
    if (!bb_map_set(&gbnf.names, "root", 4, root, NULL) ||
        !bb_grow(&gbnf.uses, 0, 1, &gbnf.use_capacity, sizeof *gbnf.uses))
        bb_reader_fail(&gbnf.reader, 0, BOMBUS_ERROR_MEMORY, "out of memory");
    skip_space(&gbnf.reader, true);
    while (rules->status == BOMBUS_OK && !bb_reader_is_at_end(&gbnf.reader))
        read_rule(&gbnf);
    if (rules->status == BOMBUS_OK && rules->bodies[0] == 0)
        bb_reader_fail(&gbnf.reader, length, BOMBUS_ERROR_FORMAT, "no rule is named root");
    for (uint32_t rule = 1; rule < rules->rule_count && rules->status == BOMBUS_OK; rule++)
        if (rules->bodies[rule] == 0)
            bb_reader_fail(&gbnf.reader, gbnf.uses[rule], BOMBUS_ERROR_FORMAT, "a rule that is not defined");
    bb_map_clear(&gbnf.names);
    bb_release(gbnf.uses);
    return rules->status;
}
