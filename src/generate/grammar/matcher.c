/* A text's place in a constraint: a set of configurations, moved byte by byte. */
#include "generate/grammar/matcher.h"

#include "base/memory.h"

#include <math.h>
#include <string.h>

enum { FIRST_FRAMES = 1 << 10 };

static size_t word_count(const struct bb_grammar_matcher *matcher)
{
    return ((size_t)matcher->constraint->trie->size + 63) / 64;
}

static bombus_status fail_set(const struct bb_configurations *set, bombus_error *error)
{
    if (set->status == BOMBUS_ERROR_MEMORY)
        return bb_fail_memory(error, set->capacity * sizeof *set->items, "a constraint's matcher");
    return bb_fail(error, BOMBUS_ERROR_LIMIT,
                   "constraint: the text can be read in more than %d ways, or opens more than %d rules",
                   BB_MAX_CONFIGURATIONS, BB_MAX_STACK);
}

static bool copy_set(struct bb_configurations *to, const struct bb_configurations *from)
{
    if (!bb_grow(&to->items, 0, from->count, &to->capacity, sizeof *to->items))
        return false;
    if (from->count > 0)
        memcpy(to->items, from->items, from->count * sizeof *to->items);
    to->count = from->count;
    to->ends = from->ends;
    to->is_first = from->is_first;
    to->status = from->status;
    return true;
}

static void swap(struct bb_configurations *a, struct bb_configurations *b)
{
    struct bb_configurations kept = *a;
    *a = *b;
    *b = kept;
}

/* What `now` reaches without a byte, into `closed`. */
static bombus_status close_now(struct bb_grammar_matcher *matcher, bombus_error *error)
{
    if (!copy_set(&matcher->closed, &matcher->now))
        matcher->closed.status = BOMBUS_ERROR_MEMORY;
    else
        bb_mover_close(&matcher->mover, &matcher->closed);
    return matcher->closed.status == BOMBUS_OK ? BOMBUS_OK : fail_set(&matcher->closed, error);
}

static bombus_status settle(struct bb_grammar_matcher *matcher, bombus_error *error)
{
    bombus_status status = close_now(matcher, error);
    const struct bb_automaton_state *states = matcher->constraint->automaton.states;
    bool has_more = false;
    for (uint32_t i = 0; i < matcher->closed.count; i++) {
        const struct bb_automaton_state *state = &states[matcher->closed.items[i].state];
        has_more = has_more || state->edge_begin < state->edge_end;
    }
    matcher->may_end = matcher->closed.ends;
    matcher->must_end = matcher->closed.ends && !has_more;
    return status;
}

bombus_status bb_grammar_matcher_reset(struct bb_grammar_matcher *matcher, bombus_error *error)
{
    bb_configurations_reset(&matcher->now);
    if (!bb_frames_reset(&matcher->mover.frames))
        return bb_fail_memory(error, sizeof(struct bb_frame), "a constraint's matcher");
    bb_mover_land(&matcher->mover, &matcher->now, matcher->constraint->automaton.root, 0);
    matcher->now.is_first = matcher->constraint->trie->drops_first_space;
    return matcher->now.status == BOMBUS_OK ? settle(matcher, error) : fail_set(&matcher->now, error);
}

bombus_status bb_grammar_matcher_init(struct bb_grammar_matcher *matcher, const struct bombus_constraint *constraint,
                                      bombus_error *error)
{
    *matcher = (struct bb_grammar_matcher){.constraint = constraint,
                                           .mover.automaton = &constraint->automaton,
                                           .eos_ids = constraint->eos_ids,
                                           .eos_count = constraint->eos_count};
    matcher->bits = bb_allocate(word_count(matcher), sizeof *matcher->bits);
    struct bb_frames *frames = &matcher->mover.frames;
    bool has_room = matcher->bits != NULL &&
                    bb_grow(&frames->items, 0, FIRST_FRAMES, &frames->capacity, sizeof *frames->items);
    bombus_status status = has_room ? bb_grammar_matcher_reset(matcher, error)
                                    : bb_fail_memory(error, word_count(matcher), "a constraint's matcher");
    if (status != BOMBUS_OK)
        bb_grammar_matcher_clear(matcher);
    return status;
}

void bb_grammar_matcher_clear(struct bb_grammar_matcher *matcher)
{
    bb_frames_clear(&matcher->mover.frames);
    bb_configurations_clear(&matcher->now);
    bb_configurations_clear(&matcher->closed);
    bb_configurations_clear(&matcher->next);
    bb_release(matcher->bits);
    *matcher = (struct bb_grammar_matcher){0};
}

bombus_status bb_grammar_matcher_copy(struct bb_grammar_matcher *to, const struct bb_grammar_matcher *from,
                                      bombus_error *error)
{
    struct bb_frames *frames = &to->mover.frames;
    const struct bb_frames *source = &from->mover.frames;
    if (!bb_grow(&frames->items, 0, source->count, &frames->capacity, sizeof *frames->items) ||
        !copy_set(&to->now, &from->now))
        return bb_fail_memory(error, source->count * sizeof *source->items, "a constraint's matcher");
    memcpy(frames->items, source->items, source->count * sizeof *frames->items);
    memcpy(frames->buckets, source->buckets, sizeof frames->buckets);
    frames->count = source->count;
    to->may_end = from->may_end;
    to->must_end = from->must_end;
    return BOMBUS_OK;
}

/* Without the instruction that not every machine has, which would be a call. */
static inline uint32_t count_bits(uint64_t word)
{
    word -= word >> 1 & UINT64_C(0x5555555555555555);
    word = (word & UINT64_C(0x3333333333333333)) + (word >> 2 & UINT64_C(0x3333333333333333));
    return (uint32_t)((((word + (word >> 4)) & UINT64_C(0x0F0F0F0F0F0F0F0F)) * UINT64_C(0x0101010101010101)) >> 56);
}

bombus_status bb_grammar_matcher_find_mask(struct bb_grammar_matcher *matcher, size_t *count, bombus_error *error)
{
    const struct bombus_constraint *constraint = matcher->constraint;
    bombus_status status =
        bb_masks_find(constraint->masks, &matcher->now, &matcher->mover.frames, matcher->bits, error);
    for (size_t i = 0; i < matcher->eos_count; i++) {
        int32_t id = matcher->eos_ids[i];
        if (id < 0 || id >= constraint->trie->size)
            continue;
        uint64_t bit = UINT64_C(1) << (id % 64);
        if (matcher->may_end)
            matcher->bits[id / 64] |= bit;
        else
            matcher->bits[id / 64] &= ~bit;
    }
    *count = 0;
    for (size_t i = 0; i < word_count(matcher); i++)
        *count += count_bits(matcher->bits[i]);
    return status;
}

/* Four bits as four lanes, of which set ones are all ones. */
#define LANES(bits)                                                                                                    \
    {                                                                                                                  \
        (bits) & 1 ? ~0u : 0u, (bits)&2 ? ~0u : 0u, (bits)&4 ? ~0u : 0u, (bits)&8 ? ~0u : 0u                           \
    }
static const uint32_t lanes[16][4] = {LANES(0),  LANES(1),  LANES(2),  LANES(3), LANES(4),  LANES(5),
                                      LANES(6),  LANES(7),  LANES(8),  LANES(9), LANES(10), LANES(11),
                                      LANES(12), LANES(13), LANES(14), LANES(15)};
_Static_assert(sizeof(float) == sizeof(uint32_t), "logits are chosen by their bits");

/* A word's 64 tokens, whichever bits are set: by bits and without a branch, since tokens of all kinds stand side by
 * side in a vocabulary. */
static void choose_word(float *out, const float *logits, uint64_t word)
{
    static const float forbidden = -INFINITY;
    uint32_t infinity;
    memcpy(&infinity, &forbidden, sizeof infinity);
    for (int32_t i = 0; i < 64; i += 4, word >>= 4) {
        const uint32_t *lane = lanes[word & 15];
        uint32_t bits[4];
        memcpy(bits, logits + i, sizeof bits);
        for (int32_t j = 0; j < 4; j++)
            bits[j] = (bits[j] & lane[j]) | (infinity & ~lane[j]);
        memcpy(out + i, bits, sizeof bits);
    }
}

static void mask_word(float *out, const float *logits, uint64_t word)
{
    if (word == 0)
        for (int32_t i = 0; i < 64; i++)
            out[i] = -INFINITY;
    else if (word == UINT64_MAX)
        memcpy(out, logits, 64 * sizeof *out);
    else
        choose_word(out, logits, word);
}

void bb_grammar_matcher_mask(const struct bb_grammar_matcher *matcher, float *out, const float *logits,
                             int32_t vocab_size)
{
    int32_t words = (int32_t)word_count(matcher), begin = 0;
    for (; begin + 64 <= vocab_size; begin += 64)
        mask_word(out + begin, logits + begin, begin / 64 < words ? matcher->bits[begin / 64] : 0);
    for (; begin < vocab_size; begin++)
        out[begin] = bb_grammar_matcher_allows(matcher, begin) ? logits[begin] : -INFINITY;
}

/* Forgets the frames that `now` does not stand on, before half of the room is taken: so that a long text needs no more
 * room than a short one. Parents come before children, so one pass each way does. False if memory is out. */
static bool sweep_frames(struct bb_grammar_matcher *matcher)
{
    struct bb_frames *frames = &matcher->mover.frames;
    if (frames->count < frames->capacity / 2)
        return true;
    for (uint32_t i = 1; i < frames->count; i++)
        frames->items[i].sibling = 0;
    for (uint32_t i = 0; i < matcher->now.count; i++)
        frames->items[matcher->now.items[i].frame].sibling = 1;
    for (uint32_t i = frames->count; i-- > 1;)
        if (frames->items[i].sibling != 0)
            frames->items[frames->items[i].parent].sibling = 1;
    uint32_t kept = 1;
    frames->items[0].sibling = 0;
    for (uint32_t i = 1; i < frames->count; i++) {
        if (frames->items[i].sibling == 0)
            continue;
        frames->items[i].sibling = kept; /* its new place, until all have moved */
        kept++;
    }
    for (uint32_t i = 0; i < matcher->now.count; i++)
        matcher->now.items[i].frame = frames->items[matcher->now.items[i].frame].sibling;
    memset(frames->buckets, 0, sizeof frames->buckets);
    for (uint32_t i = 1; i < frames->count; i++)
        if (frames->items[i].sibling != 0)
            frames->items[i].parent = frames->items[frames->items[i].parent].sibling;
    for (uint32_t i = 1; i < frames->count; i++)
        if (frames->items[i].sibling != 0)
            bb_frames_place(frames, frames->items[i].sibling, frames->items[i]);
    frames->count = kept;
    /* Where most are in use the next sweep would come soon. */
    return kept < frames->capacity / 4 ||
           bb_grow(&frames->items, frames->capacity, 1, &frames->capacity, sizeof *frames->items);
}

bombus_status bb_grammar_matcher_advance_bytes(struct bb_grammar_matcher *matcher, const char *bytes, size_t length,
                                               bombus_error *error)
{
    struct bb_configurations *next = &matcher->next;
    bombus_status status = BOMBUS_OK;
    if (!copy_set(next, &matcher->now))
        return fail_set(&(struct bb_configurations){.status = BOMBUS_ERROR_MEMORY}, error);
    for (size_t i = 0; i < length && status == BOMBUS_OK; i++) {
        swap(next, &matcher->closed);
        bb_mover_close(&matcher->mover, &matcher->closed);
        if (matcher->closed.status != BOMBUS_OK)
            return fail_set(&matcher->closed, error);
        bb_mover_step(&matcher->mover, &matcher->closed, (uint8_t)bytes[i], next);
        if (next->status != BOMBUS_OK)
            return fail_set(next, error);
        if (next->count == 0 && !next->ends)
            return bb_fail(error, BOMBUS_ERROR_MISMATCH, "constraint: byte %zu of the token may not stand here", i);
    }
    swap(next, &matcher->now);
    if (!sweep_frames(matcher))
        return bb_fail_memory(error, matcher->mover.frames.capacity * sizeof(struct bb_frame),
                              "a constraint's matcher");
    return settle(matcher, error);
}

bombus_status bb_grammar_matcher_advance(struct bb_grammar_matcher *matcher, int32_t id, bombus_error *error)
{
    const struct bb_token_trie *trie = matcher->constraint->trie;
    bool is_end = false;
    for (size_t i = 0; i < matcher->eos_count; i++)
        is_end = is_end || matcher->eos_ids[i] == id;
    if (is_end && matcher->may_end)
        return BOMBUS_OK;
    if (is_end || id < 0 || id >= trie->size || trie->offsets[id] == trie->offsets[id + 1] ||
        (matcher->now.is_first && !bb_token_trie_may_begin(trie, id)))
        return bb_fail(error, BOMBUS_ERROR_MISMATCH, "constraint: token %d may not stand here", id);
    return bb_grammar_matcher_advance_bytes(matcher, trie->text + trie->offsets[id],
                                            trie->offsets[id + 1] - trie->offsets[id], error);
}
