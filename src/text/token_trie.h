/* The bytes that each token adds to the text, and a trie of them. Immutable; made once for a tokenizer. */
#ifndef BB_TOKEN_TRIE_H
#define BB_TOKEN_TRIE_H

#include "text/tokenizer.h"

/* Nodes stand in preorder, node 0 is the root: the nodes below one are its neighbours up to its end. */
struct bb_token_node {
    uint32_t end;      /* the first node that is not below this one */
    uint32_t first_id; /* ids of the tokens that end here: [first_id, first_id of the next node) in `ids` */
    uint16_t depth;
    uint8_t label; /* the byte that leads here */
    uint8_t reach; /* most characters that follow below, the last perhaps in part; BB_NOT_PLAIN: no plain text */
};

/* Plain text: characters but controls, the quote and the backslash. A first byte of a range, then a byte of the second
 * one (none if `tail_count` is below 0), then as many of the usual tail. */
struct bb_plain_range {
    uint8_t first, last, second_first, second_last;
    int8_t tail_count;
};
enum { BB_PLAIN_RANGE_COUNT = 11, BB_NOT_PLAIN = UINT8_MAX };
extern const struct bb_plain_range bb_plain_ranges[BB_PLAIN_RANGE_COUNT];

struct bb_token_trie {
    struct bb_token_node *nodes; /* [node_count + 1], the last one ends the list of ids */
    int32_t *ids;
    char *text;        /* of all tokens, */
    uint32_t *offsets; /* [size + 1]: each id's part of it; special tokens and unused ids have none */
    uint32_t node_count, longest;
    int32_t size;           /* of the vocabulary */
    bool drops_first_space; /* a space that begins the whole text does not come out */
    uint64_t *late; /* bits of the tokens that have another text at the beginning, but for that space; NULL: none */
};

/* May the token begin a text? */
static inline bool bb_token_trie_may_begin(const struct bb_token_trie *trie, int32_t id)
{
    return trie->late == NULL || (trie->late[id / 64] >> (id % 64) & 1) == 0;
}

/* The tokenizer's trie, made at the first call and owned by it; any thread may ask. BOMBUS_ERROR_UNSUPPORTED where the
 * text of a token depends on its neighbours. */
BB_RESULT bombus_status bb_tokenizer_trie(const struct bb_tokenizer *tokenizer, const struct bb_token_trie **trie,
                                          bombus_error *error);
void bb_token_trie_free(struct bb_token_trie *trie); /* NULL is allowed */

#endif
