/* Bytes of tokens, as the streaming decoder puts them out, sorted into a trie. */
#include "text/token_trie.h"

#include "base/memory.h"
#include "text/byte_level.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

#include <stdlib.h>
#include <string.h>

enum { LONGEST_TOKEN = 1 << 12 };

struct entry {
    const char *bytes;
    uint32_t length;
    int32_t id;
};

const struct bb_plain_range bb_plain_ranges[BB_PLAIN_RANGE_COUNT] = {
    {' ', '!', 0, 0, -1},        {'#', '[', 0, 0, -1},        {']', '~', 0, 0, -1},        {0xC2, 0xDF, 0x80, 0xBF, 0},
    {0xE0, 0xE0, 0xA0, 0xBF, 1}, {0xE1, 0xEC, 0x80, 0xBF, 1}, {0xED, 0xED, 0x80, 0x9F, 1}, {0xEE, 0xEF, 0x80, 0xBF, 1},
    {0xF0, 0xF0, 0x90, 0xBF, 2}, {0xF1, 0xF3, 0x80, 0xBF, 2}, {0xF4, 0xF4, 0x80, 0x8F, 2},
};

void bb_token_trie_free(struct bb_token_trie *trie)
{
    if (trie == NULL)
        return;
    bb_release(trie->nodes);
    bb_release(trie->ids);
    bb_release(trie->text);
    bb_release(trie->offsets);
    bb_release(trie->late);
    bb_release(trie);
}

static void add_sentence(struct bb_buffer *text, const char *token, size_t length)
{
    int byte = bb_sentence_byte(token, length);
    if (byte >= 0) {
        bb_buffer_add_byte(text, (char)byte);
        return;
    }
    for (size_t i = 0; i < length;) {
        bool is_space = length - i >= 3 && memcmp(token + i, "\xE2\x96\x81", 3) == 0;
        bb_buffer_add_byte(text, is_space ? ' ' : token[i]);
        i += is_space ? 3 : 1;
    }
}

/* What the decoder makes of a token, behind an empty one or as the first, appended to `text`. */
static bombus_status decode(const struct bb_tokenizer *tokenizer, struct bb_decoding *decoding, const char *token,
                            size_t length, bool is_first, struct bb_buffer *text, bombus_error *error)
{
    bb_decoding_reset(decoding);
    if (!is_first)
        bb_decoding_add(decoding, "", 0);
    bb_decoding_add(decoding, token, length);
    return bb_decoder_apply(tokenizer->decoder, decoding, text, error);
}

/* Metaspace, by the decoder itself. A token that ends a line is left out: the streaming decoder begins anew behind it,
 * and the next token would lose its space. */
static bombus_status add_metaspace(struct bb_token_trie *trie, const struct bb_tokenizer *tokenizer,
                                   struct bb_decoding *decoding, int32_t id, struct bb_buffer *text,
                                   bombus_error *error)
{
    size_t length, begin = text->length;
    const char *token = bb_tokenizer_decoder_token(tokenizer, id, &length);
    struct bb_buffer first = {0};
    bombus_status status = decode(tokenizer, decoding, token, length, false, text, error);
    if (status == BOMBUS_OK)
        status = decode(tokenizer, decoding, token, length, true, &first, error);
    if (status == BOMBUS_OK && text->length > begin && text->data[text->length - 1] == '\n')
        text->length = begin;
    if (status == BOMBUS_OK && text->length > begin) {
        const char *data = text->data + begin;
        size_t dropped = trie->drops_first_space && *data == ' ';
        bool is_same = text->length - begin - dropped == first.length &&
                       (first.length == 0 || memcmp(data + dropped, first.data, first.length) == 0);
        if (!is_same)
            trie->late[id / 64] |= UINT64_C(1) << (id % 64);
    }
    bb_buffer_clear(&first);
    return status;
}

static bombus_status gather_text(struct bb_token_trie *trie, const struct bb_tokenizer *tokenizer, bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    struct bb_decoding decoding = {0};
    struct bb_buffer text = {0};
    size_t eos_count, total;
    const int32_t *eos = bb_tokenizer_eos_ids(tokenizer, &eos_count);
    for (int32_t id = 0; id < trie->size && status == BOMBUS_OK; id++) {
        size_t length = 0;
        const char *token = bb_tokenizer_decoder_token(tokenizer, id, &length);
        bool is_text = token != NULL && length <= LONGEST_TOKEN && !bb_tokenizer_is_special(tokenizer, id);
        for (size_t i = 0; i < eos_count; i++)
            is_text = is_text && eos[i] != id;
        trie->offsets[id] = (uint32_t)text.length;
        if (is_text && tokenizer->stream_kind == BB_STREAM_BYTE_LEVEL)
            bb_byte_level_add_bytes(&text, token, length);
        else if (is_text && tokenizer->stream_kind == BB_STREAM_NAIVE)
            status = add_metaspace(trie, tokenizer, &decoding, id, &text, error);
        else if (is_text)
            add_sentence(&text, token, length);
        if (text.is_failed || text.length > INT32_MAX)
            break;
    }
    bool is_failed = text.is_failed || text.length > INT32_MAX;
    trie->offsets[trie->size] = (uint32_t)text.length;
    trie->text = bb_buffer_take(&text, &total);
    bb_buffer_clear(&text);
    bb_decoding_clear(&decoding);
    if (status != BOMBUS_OK)
        return status;
    return is_failed || trie->text == NULL ? bb_fail_memory(error, total, "the bytes of the tokens") : BOMBUS_OK;
}

static int compare(const void *left, const void *right)
{
    const struct entry *a = left, *b = right;
    int order = memcmp(a->bytes, b->bytes, a->length < b->length ? a->length : b->length);
    if (order != 0)
        return order;
    return a->length != b->length ? (a->length < b->length ? -1 : 1) : (a->id > b->id) - (a->id < b->id);
}

static uint32_t shared_length(const struct entry *a, const struct entry *b)
{
    uint32_t length = 0;
    while (length < a->length && length < b->length && a->bytes[length] == b->bytes[length])
        length++;
    return length;
}

/* `path` [longest + 1]: the nodes that lead to the last one. */
static void build(struct bb_token_trie *trie, const struct entry *entries, uint32_t count, uint32_t *path)
{
    static const struct entry nothing = {.bytes = ""};
    uint32_t depth = 0;
    path[0] = 0;
    trie->node_count = 1;
    for (uint32_t i = 0; i < count; i++) {
        const struct entry *entry = &entries[i];
        uint32_t shared = shared_length(i > 0 ? &entries[i - 1] : &nothing, entry);
        while (depth > shared)
            trie->nodes[path[depth--]].end = trie->node_count;
        while (depth < entry->length) {
            path[++depth] = trie->node_count;
            trie->nodes[trie->node_count++] = (struct bb_token_node){
                .first_id = i, .depth = (uint16_t)depth, .label = (uint8_t)entry->bytes[depth - 1]};
        }
        trie->ids[i] = entry->id;
    }
    for (; depth > 0; depth--)
        trie->nodes[path[depth]].end = trie->node_count;
    trie->nodes[0].end = trie->node_count;
    trie->nodes[trie->node_count] = (struct bb_token_node){.first_id = count};
}

/* Where a character stands: what its next byte must be, and how many come behind that; nothing begun: last 0. */
struct part {
    uint8_t first, last;
    int8_t tail_count;
    bool is_wrong;  /* no plain text any more */
    uint16_t count; /* of characters begun */
};

static struct part next_part(struct part part, uint8_t byte)
{
    struct part next = {.count = part.count, .is_wrong = part.is_wrong};
    if (part.last != 0) {
        next.is_wrong = part.is_wrong || byte < part.first || byte > part.last;
        next.first = 0x80;
        next.last = part.tail_count > 0 ? 0xBF : 0;
        next.tail_count = (int8_t)(part.tail_count - 1);
        return next;
    }
    for (size_t i = 0; i < BB_PLAIN_RANGE_COUNT && !part.is_wrong; i++) {
        const struct bb_plain_range *range = &bb_plain_ranges[i];
        if (byte >= range->first && byte <= range->last)
            return (struct part){range->second_first, range->second_last, range->tail_count, false,
                                 (uint16_t)(part.count + 1)};
    }
    next.is_wrong = true;
    return next;
}

/* What stands at a node tells those above how far plain text reaches. path, parts: [longest + 1]. */
static void find_reach(struct bb_token_trie *trie, uint32_t *path, struct part *parts)
{
    path[0] = 0;
    parts[0] = (struct part){0};
    for (uint32_t i = 1; i < trie->node_count; i++) {
        struct bb_token_node *node = &trie->nodes[i];
        const struct part *part = &parts[node->depth];
        parts[node->depth] = next_part(parts[node->depth - 1], node->label);
        path[node->depth] = i;
        node->reach = part->last == 0 && !part->is_wrong ? 0 : BB_NOT_PLAIN;
        for (uint32_t depth = node->depth; depth-- > 0;) {
            struct bb_token_node *above = &trie->nodes[path[depth]];
            uint16_t count = (uint16_t)(part->count - parts[depth].count);
            if (part->is_wrong || count > BB_NOT_PLAIN)
                above->reach = BB_NOT_PLAIN;
            else if (count > above->reach)
                above->reach = (uint8_t)count;
        }
    }
}

static bombus_status sort_tokens(struct bb_token_trie *trie, bombus_error *error)
{
    struct entry *entries = bb_allocate((size_t)trie->size, sizeof *entries);
    uint32_t count = 0, *path;
    for (int32_t id = 0; entries != NULL && id < trie->size; id++) {
        uint32_t length = trie->offsets[id + 1] - trie->offsets[id];
        trie->longest = length > trie->longest ? length : trie->longest;
        if (length > 0)
            entries[count++] = (struct entry){trie->text + trie->offsets[id], length, id};
    }
    path = bb_allocate((size_t)trie->longest + 1, sizeof *path);
    trie->ids = bb_allocate(count, sizeof *trie->ids);
    trie->nodes = bb_allocate((size_t)trie->offsets[trie->size] + 2, sizeof *trie->nodes);
    struct part *parts = bb_allocate((size_t)trie->longest + 1, sizeof *parts);
    bool is_made = entries != NULL && path != NULL && parts != NULL && trie->ids != NULL && trie->nodes != NULL;
    if (is_made) {
        qsort(entries, count, sizeof *entries, compare);
        build(trie, entries, count, path);
        find_reach(trie, path, parts);
        struct bb_token_node *nodes = bb_resize(trie->nodes, (size_t)trie->node_count + 1, sizeof *nodes);
        trie->nodes = nodes != NULL ? nodes : trie->nodes;
    }
    bb_release(entries);
    bb_release(path);
    bb_release(parts);
    return is_made ? BOMBUS_OK : bb_fail_memory(error, trie->offsets[trie->size], "the trie of the tokens");
}

static bombus_status fill(struct bb_token_trie *trie, const struct bb_tokenizer *tokenizer, bombus_error *error)
{
    bool keeps_first = false, is_naive = tokenizer->stream_kind == BB_STREAM_NAIVE;
    if (is_naive && !bb_decoder_is_metaspace(tokenizer->decoder, &keeps_first))
        return bb_fail(
            error, BOMBUS_ERROR_UNSUPPORTED,
            "constraint: the tokenizer's decoder is none of ByteLevel, SentencePiece's and Metaspace, expected "
            "one of them");
    trie->size = bb_tokenizer_size(tokenizer);
    trie->drops_first_space = is_naive ? !keeps_first : tokenizer->stream_kind != BB_STREAM_SENTENCE_SPACE;
    trie->offsets = bb_allocate((size_t)trie->size + 1, sizeof *trie->offsets);
    if (is_naive)
        trie->late = bb_allocate(((size_t)trie->size + 63) / 64, sizeof *trie->late);
    if (trie->offsets == NULL || (is_naive && trie->late == NULL))
        return bb_fail_memory(error, (size_t)trie->size, "the trie of the tokens");
    bombus_status status = gather_text(trie, tokenizer, error);
    return status == BOMBUS_OK ? sort_tokens(trie, error) : status;
}

static bombus_status create(struct bb_token_trie **trie, const struct bb_tokenizer *tokenizer, bombus_error *error)
{
    *trie = NULL;
    struct bb_token_trie *made = bb_allocate(1, sizeof *made);
    if (made == NULL)
        return bb_fail_memory(error, sizeof *made, "the trie of the tokens");
    bombus_status status = fill(made, tokenizer, error);
    if (status == BOMBUS_OK)
        *trie = made;
    else
        bb_token_trie_free(made);
    return status;
}

bombus_status bb_tokenizer_trie(const struct bb_tokenizer *tokenizer, const struct bb_token_trie **trie,
                                bombus_error *error)
{
    struct bb_token_trie *made, *found = atomic_load_explicit(tokenizer->trie, memory_order_acquire);
    bombus_status status = BOMBUS_OK;
    if (found == NULL) {
        status = create(&made, tokenizer, error);
        /* Releases what was built to the acquire above; of several makers the first one's stays. */
        if (status == BOMBUS_OK && atomic_compare_exchange_strong_explicit(tokenizer->trie, &found, made,
                                                                           memory_order_acq_rel, memory_order_acquire))
            found = made;
        else if (status == BOMBUS_OK)
            bb_token_trie_free(made);
    }
    *trie = found;
    return status;
}
