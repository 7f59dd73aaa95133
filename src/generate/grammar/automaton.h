/* Rules compiled: states over bytes, calls of other rules, counted loops. Immutable. */
#ifndef BB_AUTOMATON_H
#define BB_AUTOMATON_H

#include "generate/grammar/rules.h"

#define BB_NO_STATE  UINT32_MAX
#define BB_LOOP_FLAG UINT32_C(0x80000000) /* on `after`: the number of a loop */

struct bb_automaton_edge {
    uint8_t low, high;
    uint32_t target;
};

/* Goes on at `start`; when that ends, at `after` (BB_NO_STATE: the caller ends too). */
struct bb_automaton_jump {
    uint32_t start, after;
};

struct bb_automaton_loop {
    uint32_t body, exit;
    uint32_t least, most; /* most BB_UNLIMITED: without bound */
};

struct bb_automaton_state {
    uint32_t edge_begin, edge_end, jump_begin, jump_end;
    bool accepts; /* the rule may end here */
    bool is_end;  /* and nothing else can happen */
};

struct bb_automaton {
    struct bb_automaton_state *states;
    struct bb_automaton_edge *edges;
    struct bb_automaton_jump *jumps;
    struct bb_automaton_loop *loops;
    uint32_t state_count, edge_count, jump_count, loop_count, root;
    uint8_t classes[256]; /* bytes of a class are told apart nowhere */
    uint32_t class_count;
};

/* BOMBUS_ERROR_UNSUPPORTED for a rule that begins with itself, _LIMIT for one too large, _FORMAT where nothing
 * matches. */
BB_RESULT bombus_status bb_automaton_create(struct bb_automaton *automaton, const struct bb_rules *rules,
                                            bombus_error *error);
void bb_automaton_clear(struct bb_automaton *automaton);
size_t bb_automaton_bytes(const struct bb_automaton *automaton);

#endif
