/* The Unigram model, by the Viterbi algorithm. */
#include "text/unigram.h"

#include "base/memory.h"
#include "text/unicode.h"

#include <math.h>
#include <stdio.h>

/* What an unknown character costs below the worst token. */
static const double UNKNOWN_PENALTY = 10.0;

/* The best way to a place of the text. */
struct bb_unigram_step {
    double score;
    size_t from; /* where its last token begins; SIZE_MAX: the place is not reached yet */
    int32_t id;
};

bombus_status bb_unigram_prepare(struct bb_unigram *unigram, bombus_error *error)
{
    const struct bb_vocabulary *vocabulary = unigram->vocabulary;
    double least = HUGE_VAL;
    for (uint32_t i = 0; i < vocabulary->token_count; i++) {
        const struct bb_token *token = &vocabulary->tokens[i];
        if (!bb_trie_add(&unigram->trie, vocabulary->text + token->offset, token->length, token->id))
            return bb_fail_memory(error, token->length, "a tokenizer's vocabulary");
        if (vocabulary->scores[i] < least)
            least = vocabulary->scores[i];
    }
    if (!bb_trie_finish(&unigram->trie))
        return bb_fail_memory(error, unigram->trie.count, "a tokenizer's vocabulary");
    unigram->unk_score = least - UNKNOWN_PENALTY;
    for (uint32_t i = 0; i < BB_COUNT(unigram->byte_ids); i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)i);
        unigram->byte_ids[i] = bb_vocabulary_find(vocabulary, name, 6);
    }
    return BOMBUS_OK;
}

void bb_unigram_clear(struct bb_unigram *unigram)
{
    bb_trie_clear(&unigram->trie);
}

void bb_unigram_scratch_clear(struct bb_unigram_scratch *scratch)
{
    bb_release(scratch->steps);
    *scratch = (struct bb_unigram_scratch){0};
}

static void offer(struct bb_unigram_step *step, double score, size_t from, int32_t id)
{
    if (step->from == SIZE_MAX || score > step->score)
        *step = (struct bb_unigram_step){.score = score, .from = from, .id = id};
}

/* Finds the best way to each place. */
static bombus_status walk(const struct bb_unigram *unigram, struct bb_unigram_step *steps, const char *text,
                          size_t length, bombus_error *error)
{
    const struct bb_trie *trie = &unigram->trie;
    for (size_t begin = 0; begin < length;) {
        size_t size = bb_utf8_size(text[begin]);
        double score = steps[begin].score;
        bool has_single = false;
        uint32_t node = 0;
        for (size_t end = begin; end < length && trie->count > 0;) {
            node = bb_trie_child(trie, node, (uint8_t)text[end++]);
            if (node == 0)
                break;
            int32_t id = trie->nodes[node].value;
            if (id < 0)
                continue;
            offer(&steps[end], unigram->vocabulary->scores[id] + score, begin, id);
            has_single = has_single || end - begin == size;
        }
        if (!has_single) {
            if (unigram->unk_id < 0)
                return bb_fail(error, BOMBUS_ERROR_FORMAT,
                               "tokenizer.json: text that no token of the Unigram model begins, and no unk_id");
            offer(&steps[begin + size], unigram->unk_score + score, begin, unigram->unk_id);
        }
        begin += size;
    }
    return BOMBUS_OK;
}

/* A stretch of unknown characters is one token, or its bytes. */
static void add_unknown(const struct bb_unigram *unigram, const char *text, size_t length, struct bb_ids *ids)
{
    int32_t id = bb_vocabulary_find(unigram->vocabulary, text, length);
    bool has_bytes = id < 0 && unigram->byte_fallback;
    for (size_t i = 0; i < length && has_bytes; i++)
        has_bytes = unigram->byte_ids[(uint8_t)text[i]] >= 0;
    if (!has_bytes) {
        bb_ids_add(ids, id >= 0 ? id : unigram->unk_id);
        return;
    }
    for (size_t i = 0; i < length; i++)
        bb_ids_add(ids, unigram->byte_ids[(uint8_t)text[i]]);
}

bombus_status bb_unigram_encode(const struct bb_unigram *unigram, struct bb_unigram_scratch *scratch, const char *text,
                                size_t length, struct bb_ids *ids, bombus_error *error)
{
    if (length >= scratch->capacity) {
        struct bb_unigram_step *steps = bb_resize(scratch->steps, length + 1, sizeof *steps);
        if (steps == NULL)
            return bb_fail_memory(error, length * sizeof *steps, "encoding a text");
        scratch->steps = steps;
        scratch->capacity = length + 1;
    }
    struct bb_unigram_step *steps = scratch->steps;
    for (size_t i = 0; i <= length; i++)
        steps[i] = (struct bb_unigram_step){.from = SIZE_MAX};
    bombus_status status = walk(unigram, steps, text, length, error);
    if (status != BOMBUS_OK)
        return status;
    /* Turn the links round, so that the way can be walked forwards: steps[begin].from becomes the end of the token
     * there. */
    size_t end = length, next = SIZE_MAX;
    int32_t id = -1;
    while (end > 0) {
        size_t begin = steps[end].from;
        int32_t own = steps[end].id;
        steps[end].from = next;
        steps[end].id = id;
        next = end;
        id = own;
        end = begin;
    }
    steps[0].from = next;
    steps[0].id = id;
    for (size_t begin = 0; begin < length;) {
        size_t stop = steps[begin].from;
        if (steps[begin].id != unigram->unk_id) {
            bb_ids_add(ids, steps[begin].id);
        } else {
            while (stop < length && steps[stop].id == unigram->unk_id)
                stop = steps[stop].from;
            add_unknown(unigram, text + begin, stop - begin, ids);
        }
        begin = stop;
    }
    return BOMBUS_OK;
}
