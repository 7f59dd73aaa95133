/* Trees of rules, and characters as bytes. */
#include "generate/grammar/rules.h"

#include "base/memory.h"
#include "text/unicode.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bb_rules_clear(struct bb_rules *rules)
{
    bb_release(rules->nodes);
    bb_release(rules->bodies);
    *rules = (struct bb_rules){0};
}

static uint32_t add(struct bb_rules *rules, struct bb_rule_node node)
{
    if (rules->status != BOMBUS_OK)
        return 0;
    if (rules->count >= BB_MAX_RULE_NODES) {
        rules->status = bb_fail(rules->error, BOMBUS_ERROR_LIMIT, "constraint: more than %d parts", BB_MAX_RULE_NODES);
        return 0;
    }
    if (!bb_grow(&rules->nodes, rules->count, 2, &rules->capacity, sizeof *rules->nodes)) {
        rules->status = bb_fail_memory(rules->error, rules->capacity * sizeof *rules->nodes, "a constraint");
        return 0;
    }
    if (rules->count == 0)
        rules->nodes[rules->count++] = (struct bb_rule_node){0};
    rules->nodes[rules->count] = node;
    return rules->count++;
}

uint32_t bb_rules_byte(struct bb_rules *rules, uint32_t low, uint32_t high)
{
    return add(rules, (struct bb_rule_node){.kind = BB_RULE_BYTE, .least = low, .most = high});
}

uint32_t bb_rules_list(struct bb_rules *rules, enum bb_rule_kind kind)
{
    return add(rules, (struct bb_rule_node){.kind = kind});
}

uint32_t bb_rules_append(struct bb_rules *rules, uint32_t list, uint32_t child)
{
    if (rules->status != BOMBUS_OK)
        return 0;
    struct bb_rule_node *parent = &rules->nodes[list];
    if (parent->first == 0)
        parent->first = child;
    else
        rules->nodes[parent->last].next = child;
    parent->last = child;
    return list;
}

uint32_t bb_rules_literal(struct bb_rules *rules, const char *text, size_t length)
{
    uint32_t list = bb_rules_list(rules, BB_RULE_SEQUENCE);
    for (size_t i = 0; i < length; i++)
        bb_rules_append(rules, list, bb_rules_byte(rules, (uint8_t)text[i], (uint8_t)text[i]));
    return list;
}

uint32_t bb_rules_repeat(struct bb_rules *rules, uint32_t child, uint32_t least, uint32_t most)
{
    return add(rules, (struct bb_rule_node){
                          .kind = BB_RULE_REPEAT, .first = child, .last = child, .least = least, .most = most});
}

uint32_t bb_rules_call(struct bb_rules *rules, uint32_t rule)
{
    return add(rules, (struct bb_rule_node){.kind = BB_RULE_CALL, .first = rule});
}

uint32_t bb_rules_add(struct bb_rules *rules)
{
    if (rules->status != BOMBUS_OK)
        return 0;
    if (rules->rule_count >= BB_MAX_RULES) {
        rules->status = bb_fail(rules->error, BOMBUS_ERROR_LIMIT, "constraint: more than %d rules", BB_MAX_RULES);
        return 0;
    }
    if (!bb_grow(&rules->bodies, rules->rule_count, 1, &rules->rule_capacity, sizeof *rules->bodies)) {
        rules->status = bb_fail_memory(rules->error, rules->rule_capacity * sizeof *rules->bodies, "a constraint");
        return 0;
    }
    rules->bodies[rules->rule_count] = 0;
    return rules->rule_count++;
}

void bb_rules_define(struct bb_rules *rules, uint32_t rule, uint32_t body)
{
    if (rules->status == BOMBUS_OK)
        rules->bodies[rule] = body;
}

/* ---- characters ---- */

void bb_character_set_add(struct bb_character_set *set, uint32_t first, uint32_t last)
{
    if (set->is_failed || first > last)
        return;
    if (!bb_grow(&set->spans, set->count, 1, &set->capacity, sizeof *set->spans)) {
        set->is_failed = true;
        return;
    }
    set->spans[set->count++] = (struct bb_character_span){first, last};
}

void bb_character_set_clear(struct bb_character_set *set)
{
    bb_release(set->spans);
    *set = (struct bb_character_set){0};
}

static int compare(const void *left, const void *right)
{
    const struct bb_character_span *a = left, *b = right;
    return (a->first > b->first) - (a->first < b->first);
}

/* Adds [first, last] without surrogates. */
static void add_scalars(struct bb_character_set *set, uint32_t first, uint32_t last)
{
    bb_character_set_add(set, first, last < 0xD7FF ? last : 0xD7FF);
    bb_character_set_add(set, first > 0xE000 ? first : 0xE000, last);
}

void bb_character_set_tidy(struct bb_character_set *set, bool is_negated)
{
    struct bb_character_set tidy = {.is_failed = set->is_failed};
    if (set->count > 0)
        qsort(set->spans, set->count, sizeof *set->spans, compare);
    uint32_t next = 0; /* the first character that no span so far decides */
    for (size_t i = 0; i < set->count;) {
        uint32_t first = set->spans[i].first, last = set->spans[i].last;
        for (i++; i < set->count && set->spans[i].first <= last + 1; i++)
            last = set->spans[i].last > last ? set->spans[i].last : last;
        if (!is_negated)
            add_scalars(&tidy, first, last);
        else if (first > next)
            add_scalars(&tidy, next, first - 1);
        next = last + 1;
    }
    if (is_negated && next <= 0x10FFFF)
        add_scalars(&tidy, next, 0x10FFFF);
    bb_character_set_clear(set);
    *set = tidy;
}

/* Characters of one size of UTF-8 as sequences of byte ranges: split until only the tail bytes run through all. */
static void add_range(struct bb_rules *rules, uint32_t choice, uint32_t first, uint32_t last)
{
    char low[4], high[4];
    uint32_t size = (uint32_t)bb_utf8_encode(low, first);
    bb_utf8_encode(high, last);
    for (uint32_t i = 1; i < size; i++) {
        uint32_t mask = (1u << (6 * i)) - 1; /* of the last i bytes */
        if ((first & ~mask) == (last & ~mask))
            break;
        if ((first & mask) != 0) {
            add_range(rules, choice, first, first | mask);
            add_range(rules, choice, (first | mask) + 1, last);
            return;
        }
        if ((last & mask) != mask) {
            add_range(rules, choice, first, (last & ~mask) - 1);
            add_range(rules, choice, last & ~mask, last);
            return;
        }
    }
    uint32_t sequence = bb_rules_list(rules, BB_RULE_SEQUENCE);
    for (uint32_t i = 0; i < size; i++)
        bb_rules_append(rules, sequence, bb_rules_byte(rules, (uint8_t)low[i], (uint8_t)high[i]));
    bb_rules_append(rules, choice, sequence);
}

static void add_characters(struct bb_rules *rules, uint32_t choice, uint32_t first, uint32_t last)
{
    static const uint32_t ends[] = {0x7F, 0x7FF, 0xFFFF, 0x10FFFF};
    uint32_t begin = 0;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; begin = ends[i++] + 1) {
        uint32_t low = first > begin ? first : begin, high = last < ends[i] ? last : ends[i];
        if (low <= high)
            add_range(rules, choice, low, high);
    }
}

static void check_set(struct bb_rules *rules, const struct bb_character_set *set)
{
    if (set->is_failed && rules->status == BOMBUS_OK)
        rules->status = bb_fail_memory(rules->error, set->capacity * sizeof *set->spans, "a set of characters");
}

uint32_t bb_rules_characters(struct bb_rules *rules, const struct bb_character_set *set)
{
    uint32_t choice = bb_rules_list(rules, BB_RULE_CHOICE);
    check_set(rules, set);
    for (size_t i = 0; i < set->count; i++)
        add_characters(rules, choice, set->spans[i].first, set->spans[i].last);
    return choice;
}

static void add_json_character(struct bb_rules *rules, uint32_t choice, uint32_t character)
{
    static const char letters[] =
        "\"\"\\\\\bb\ff\nn\rr\tt"; /* pairs: the character, what stands behind the backslash */
    char text[8];
    snprintf(text, sizeof text, "\\u%04x", (unsigned)character & 0xFFFF);
    for (size_t i = 0; i + 2 < sizeof letters; i += 2)
        if ((uint8_t)letters[i] == character)
            snprintf(text, sizeof text, "\\%c", letters[i + 1]);
    bb_rules_append(rules, choice, bb_rules_literal(rules, text, strlen(text)));
}

uint32_t bb_rules_json_characters(struct bb_rules *rules, const struct bb_character_set *set)
{
    uint32_t choice = bb_rules_list(rules, BB_RULE_CHOICE);
    check_set(rules, set);
    for (size_t i = 0; i < set->count; i++) {
        uint32_t first = set->spans[i].first, last = set->spans[i].last;
        while (first <= last) {
            bool is_escaped = first < 0x20 || first == '"' || first == '\\';
            uint32_t end = is_escaped ? first : first < '"' ? '"' - 1 : first < '\\' ? '\\' - 1 : 0x10FFFF;
            end = end < last ? end : last;
            if (is_escaped)
                add_json_character(rules, choice, first);
            else
                add_characters(rules, choice, first, end);
            first = end + 1;
        }
    }
    return choice;
}
