/* A trie over byte strings: which of them begin at a place of a text. Immutable after finish. */
#ifndef BB_TRIE_H
#define BB_TRIE_H

#include "base/compiler.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bb_trie_node {
    int32_t value;        /* of the string that ends here, -1 if none does */
    uint32_t first_child; /* while building: the newest child; then the first of child_count neighbours, by label */
    uint32_t sibling;     /* while building */
    uint16_t child_count;
    uint8_t label; /* the byte that leads here */
};

/* Zeroed struct = empty. */
struct bb_trie {
    struct bb_trie_node *nodes; /* [0] is the root */
    size_t count, capacity;
    bool starts[256]; /* bytes that some string begins with */
};

/* False if memory is out. A later value replaces that of the same string. Empty strings are ignored. */
bool bb_trie_add(struct bb_trie *trie, const char *string, size_t length, int32_t value) BB_RESULT;
bool bb_trie_finish(struct bb_trie *trie) BB_RESULT;
void bb_trie_clear(struct bb_trie *trie);

/* The child of a node, 0 if there is none. */
uint32_t bb_trie_child(const struct bb_trie *trie, uint32_t node, uint8_t label);
/* The longest string that `text` begins with: its length (0 if none does) and value. */
size_t bb_trie_longest(const struct bb_trie *trie, const char *text, size_t length, int32_t *value);

#endif
