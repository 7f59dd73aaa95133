/* Rules as the readers of grammars, regular expressions and schemas write them: trees over bytes. */
#ifndef BB_RULES_H
#define BB_RULES_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BB_MAX_RULE_NODES = 1 << 19, BB_MAX_RULES = 1 << 16, BB_MAX_NESTING = 128 };
#define BB_UNLIMITED UINT32_MAX /* the most of a repetition without bound */

enum bb_rule_kind { BB_RULE_BYTE, BB_RULE_SEQUENCE, BB_RULE_CHOICE, BB_RULE_REPEAT, BB_RULE_CALL };

/* An empty sequence is the empty text; an empty choice matches nothing. */
struct bb_rule_node {
    enum bb_rule_kind kind;
    uint32_t first, last; /* children of sequence, choice, repeat; the rule that is called */
    uint32_t next;        /* sibling; 0: none */
    uint32_t least, most; /* of a repeat; bounds of a byte */
};

/* Zeroed struct = none. The first failure stays in `status`, and later calls give 0 and do nothing. */
struct bb_rules {
    struct bb_rule_node *nodes; /* [0] is no node */
    uint32_t *bodies;           /* [rule_count]: nodes; 0 until defined. Rule 0 is the whole text's */
    uint32_t count, rule_count;
    size_t capacity, rule_capacity;
    bombus_status status;
    bombus_error *error;
};

void bb_rules_clear(struct bb_rules *rules);

uint32_t bb_rules_byte(struct bb_rules *rules, uint32_t low, uint32_t high);
uint32_t bb_rules_literal(struct bb_rules *rules, const char *text, size_t length);
uint32_t bb_rules_list(struct bb_rules *rules, enum bb_rule_kind kind); /* an empty sequence or choice */
/* A node has one parent: what is needed twice is a rule. Returns the list. */
uint32_t bb_rules_append(struct bb_rules *rules, uint32_t list, uint32_t child);
uint32_t bb_rules_repeat(struct bb_rules *rules, uint32_t child, uint32_t least, uint32_t most);
uint32_t bb_rules_call(struct bb_rules *rules, uint32_t rule);
uint32_t bb_rules_add(struct bb_rules *rules); /* a rule to be defined later */
void bb_rules_define(struct bb_rules *rules, uint32_t rule, uint32_t body);

/* A set of characters: ranges, in any order until it is tidied. Zeroed struct = empty. */
struct bb_character_set {
    struct bb_character_span {
        uint32_t first, last;
    } * spans;
    size_t count, capacity;
    bool is_failed;
};
void bb_character_set_add(struct bb_character_set *set, uint32_t first, uint32_t last);
/* Sorted, joined, without surrogates; `is_negated`: what is not in it. */
void bb_character_set_tidy(struct bb_character_set *set, bool is_negated);
void bb_character_set_clear(struct bb_character_set *set);
/* One character of a tidied set, in UTF-8. */
uint32_t bb_rules_characters(struct bb_rules *rules, const struct bb_character_set *set);
/* The same as it stands within a JSON string: with escapes where they must be. */
uint32_t bb_rules_json_characters(struct bb_rules *rules, const struct bb_character_set *set);

#endif
