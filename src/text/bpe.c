/* Byte pair encoding of one piece of text.
 *
 * The piece becomes a row of symbols, one a character; then the pair with the lowest rank, the leftmost of equals,
 * is merged until none is left. Short pieces look for it by scanning, long ones keep a heap, so that a megabyte
 * without a space takes O(n log n). */
#include "text/bpe.h"

#include "base/memory.h"
#include "text/unicode.h"

#include <stdio.h>
#include <string.h>

enum { SHORT_PIECE = 32 };

struct bb_bpe_symbol {
    uint32_t id;
    uint32_t rank, merged;  /* of the pair with the next symbol; rank UINT32_MAX: no merge */
    int32_t previous, next; /* -1: none; unused in short pieces */
    bool is_gone;
};

void bb_bpe_prepare(struct bb_bpe *bpe)
{
    bpe->is_plain = bpe->subword_prefix == NULL && bpe->word_suffix == NULL;
    bpe->unk_id =
        bpe->unk_token != NULL ? bb_vocabulary_find(bpe->vocabulary, bpe->unk_token, strlen(bpe->unk_token)) : -1;
    for (uint32_t i = 0; i < BB_COUNT(bpe->byte_ids); i++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", (unsigned)i);
        bpe->byte_ids[i] = bb_vocabulary_find(bpe->vocabulary, name, 6);
    }
    for (uint32_t i = 0; i < BB_COUNT(bpe->character_ids); i++) {
        char bytes[4];
        bpe->character_ids[i] = bb_vocabulary_find(bpe->vocabulary, bytes, bb_utf8_encode(bytes, i));
    }
}

void bb_bpe_scratch_clear(struct bb_bpe_scratch *scratch)
{
    bb_release(scratch->symbols);
    bb_release(scratch->heap);
    bb_buffer_clear(&scratch->character);
    *scratch = (struct bb_bpe_scratch){0};
}

/* What the loop over a piece's characters carries along. */
struct word {
    const struct bb_bpe *bpe;
    struct bb_bpe_scratch *scratch;
    size_t count;
    bool has_unknown; /* an unknown token waits to be added: more may be fused into it */
};

static void add_symbol(struct word *word, int32_t id)
{
    word->scratch->symbols[word->count++].id = (uint32_t)id;
}

/* Id of a character with the prefix of inner and the suffix of last ones. */
static int32_t affixed_id(const struct word *word, const char *text, size_t size, bool is_first, bool is_last)
{
    struct bb_buffer *buffer = &word->scratch->character;
    buffer->length = 0;
    if (!is_first && word->bpe->subword_prefix != NULL)
        bb_buffer_add_text(buffer, word->bpe->subword_prefix);
    bb_buffer_add(buffer, text, size);
    if (is_last && word->bpe->word_suffix != NULL)
        bb_buffer_add_text(buffer, word->bpe->word_suffix);
    return buffer->is_failed ? -1 : bb_vocabulary_find(word->bpe->vocabulary, buffer->data, buffer->length);
}

/* One token for each byte; false (and nothing added) if a byte has none. */
static bool add_bytes(struct word *word, const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (word->bpe->byte_ids[(uint8_t)text[i]] < 0)
            return false;
    for (size_t i = 0; i < size; i++)
        add_symbol(word, word->bpe->byte_ids[(uint8_t)text[i]]);
    return true;
}

static bombus_status add_character(struct word *word, const char *text, size_t size, bool is_first, bool is_last,
                                   bombus_error *error)
{
    const struct bb_bpe *bpe = word->bpe;
    int32_t id;
    uint32_t character;
    bb_utf8_next(text, &character);
    if (!bpe->is_plain)
        id = affixed_id(word, text, size, is_first, is_last);
    else if (character < BB_COUNT(bpe->character_ids))
        id = bpe->character_ids[character];
    else
        id = bb_vocabulary_find(bpe->vocabulary, text, size);
    if (id >= 0) {
        if (word->has_unknown)
            add_symbol(word, bpe->unk_id);
        word->has_unknown = false;
        add_symbol(word, id);
        return BOMBUS_OK;
    }
    if (bpe->byte_fallback) {
        /* With a prefix or suffix the bytes are those of the whole. The unknown token that may be waiting goes
         * behind the bytes, as in the reference. */
        bool has_bytes = bpe->is_plain
                             ? add_bytes(word, text, size)
                             : add_bytes(word, word->scratch->character.data, word->scratch->character.length);
        if (has_bytes)
            return BOMBUS_OK;
    }
    if (bpe->unk_token == NULL)
        return BOMBUS_OK; /* nothing stands for it */
    if (bpe->unk_id < 0)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "tokenizer.json: model.unk_token '%.100s' is not in the vocabulary",
                       bpe->unk_token);
    if (word->has_unknown && !bpe->fuse_unk)
        add_symbol(word, bpe->unk_id);
    word->has_unknown = true;
    return BOMBUS_OK;
}

static inline void set_pair(const struct bb_vocabulary *vocabulary, struct bb_bpe_symbol *left, uint32_t right_id)
{
    const struct bb_merge *merge = bb_vocabulary_merge(vocabulary, left->id, right_id);
    left->rank = merge != NULL ? merge->rank : UINT32_MAX;
    left->merged = merge != NULL ? merge->merged : 0;
}

static size_t merge_short(const struct bb_vocabulary *vocabulary, struct bb_bpe_symbol *symbols, size_t count)
{
    for (size_t i = 0; i + 1 < count; i++)
        set_pair(vocabulary, &symbols[i], symbols[i + 1].id);
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++)
            if (symbols[i].rank < symbols[best].rank)
                best = i;
        if (symbols[best].rank == UINT32_MAX)
            break;
        symbols[best].id = symbols[best].merged;
        count--;
        memmove(&symbols[best + 1], &symbols[best + 2], (count - best - 1) * sizeof *symbols);
        if (best + 1 < count)
            set_pair(vocabulary, &symbols[best], symbols[best + 1].id);
        if (best > 0)
            set_pair(vocabulary, &symbols[best - 1], symbols[best].id);
    }
    return count;
}

/* A binary heap of rank << 32 | position, the least on top. */
static void heap_push(uint64_t *heap, size_t *count, uint64_t key)
{
    size_t i = (*count)++;
    while (i > 0 && heap[(i - 1) / 2] > key) {
        heap[i] = heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap[i] = key;
}

static uint64_t heap_pop(uint64_t *heap, size_t *count)
{
    uint64_t top = heap[0], key = heap[--*count];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= *count)
            break;
        if (child + 1 < *count && heap[child + 1] < heap[child])
            child++;
        if (heap[child] >= key)
            break;
        heap[i] = heap[child];
        i = child;
    }
    heap[i] = key;
    return top;
}

/* Each merge takes one symbol away and pushes at most two keys, so 3 * count places are enough. */
static size_t merge_long(const struct bb_vocabulary *vocabulary, struct bb_bpe_symbol *symbols, size_t count,
                         uint64_t *heap)
{
    size_t heap_count = 0, kept = 0;
    for (size_t i = 0; i < count; i++) {
        symbols[i].previous = (int32_t)i - 1;
        symbols[i].next = i + 1 < count ? (int32_t)i + 1 : -1;
        symbols[i].is_gone = false;
        symbols[i].rank = UINT32_MAX;
        if (i + 1 < count)
            set_pair(vocabulary, &symbols[i], symbols[i + 1].id);
        if (symbols[i].rank != UINT32_MAX)
            heap_push(heap, &heap_count, (uint64_t)symbols[i].rank << 32 | i);
    }
    while (heap_count > 0) {
        uint64_t key = heap_pop(heap, &heap_count);
        size_t place = (size_t)(key & UINT32_MAX);
        struct bb_bpe_symbol *symbol = &symbols[place];
        if (symbol->is_gone || symbol->rank != (uint32_t)(key >> 32)) /* the pair has changed since */
            continue;
        struct bb_bpe_symbol *right = &symbols[symbol->next];
        symbol->id = symbol->merged;
        symbol->next = right->next;
        symbol->rank = UINT32_MAX;
        right->is_gone = true;
        if (symbol->next >= 0) {
            symbols[symbol->next].previous = (int32_t)place;
            set_pair(vocabulary, symbol, symbols[symbol->next].id);
            if (symbol->rank != UINT32_MAX)
                heap_push(heap, &heap_count, (uint64_t)symbol->rank << 32 | place);
        }
        if (symbol->previous >= 0) {
            struct bb_bpe_symbol *left = &symbols[symbol->previous];
            set_pair(vocabulary, left, symbol->id);
            if (left->rank != UINT32_MAX)
                heap_push(heap, &heap_count, (uint64_t)left->rank << 32 | (uint32_t)symbol->previous);
        }
    }
    for (size_t i = 0; i < count; i++)
        if (!symbols[i].is_gone)
            symbols[kept++].id = symbols[i].id;
    return kept;
}

static bombus_status reserve(struct bb_bpe_scratch *scratch, size_t symbol_count, size_t heap_count,
                             bombus_error *error)
{
    if (symbol_count > INT32_MAX / 4)
        return bb_fail(error, BOMBUS_ERROR_LIMIT, "a word of more than 512 MiB");
    if (symbol_count > scratch->capacity) {
        struct bb_bpe_symbol *symbols = bb_resize(scratch->symbols, symbol_count, sizeof *symbols);
        if (symbols == NULL)
            return bb_fail_memory(error, symbol_count * sizeof *symbols, "encoding a word");
        scratch->symbols = symbols;
        scratch->capacity = symbol_count;
    }
    if (heap_count > scratch->heap_capacity) {
        uint64_t *heap = bb_resize(scratch->heap, heap_count, sizeof *heap);
        if (heap == NULL)
            return bb_fail_memory(error, heap_count * sizeof *heap, "encoding a word");
        scratch->heap = heap;
        scratch->heap_capacity = heap_count;
    }
    return BOMBUS_OK;
}

bombus_status bb_bpe_encode(const struct bb_bpe *bpe, struct bb_bpe_scratch *scratch, const char *text, size_t length,
                            struct bb_ids *ids, bombus_error *error)
{
    struct word word = {.bpe = bpe, .scratch = scratch};
    if (length == 0)
        return BOMBUS_OK;
    if (bpe->ignore_merges) {
        int32_t id = bb_vocabulary_find(bpe->vocabulary, text, length);
        if (id >= 0) {
            bb_ids_add(ids, id);
            return BOMBUS_OK;
        }
    }
    size_t affixes = 2; /* an unknown token that waits; then what byte fallback may add for prefixes and a suffix */
    if (!bpe->is_plain)
        affixes += length * (bpe->subword_prefix != NULL ? strlen(bpe->subword_prefix) : 0) +
                   (bpe->word_suffix != NULL ? strlen(bpe->word_suffix) : 0);
    bombus_status status = reserve(scratch, length + affixes > 256 ? length + affixes : 256, 0, error);
    for (size_t i = 0; i < length && status == BOMBUS_OK;) {
        size_t size = bb_utf8_size(text[i]);
        status = add_character(&word, text + i, size, i == 0, i + size == length, error);
        i += size;
    }
    if (status == BOMBUS_OK && scratch->character.is_failed)
        status = bb_fail_memory(error, length, "encoding a word");
    if (status != BOMBUS_OK)
        return status;
    if (word.has_unknown)
        add_symbol(&word, bpe->unk_id);
    size_t count = word.count;
    if (count <= SHORT_PIECE) {
        count = merge_short(bpe->vocabulary, scratch->symbols, count);
    } else {
        status = reserve(scratch, 0, 3 * count, error);
        if (status != BOMBUS_OK)
            return status;
        count = merge_long(bpe->vocabulary, scratch->symbols, count, scratch->heap);
    }
    if (bb_ids_reserve(ids, count))
        for (size_t i = 0; i < count; i++)
            ids->items[ids->count++] = (int32_t)scratch->symbols[i].id;
    return BOMBUS_OK;
}
