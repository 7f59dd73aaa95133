/* The tables of a tokenizer's model, read from JSON text. */
#include "text/vocabulary.h"

#include "base/buffer.h"
#include "base/map.h"
#include "base/memory.h"
#include "text/json_text.h"

#include <string.h>

void bb_vocabulary_close(struct bb_vocabulary *vocabulary)
{
    for (size_t i = 0; i < BB_COUNT(vocabulary->owned); i++)
        bb_release(vocabulary->owned[i]);
    bb_file_unmap(&vocabulary->map);
    *vocabulary = (struct bb_vocabulary){0};
}

static uint32_t token_hash(const char *token, size_t length)
{
    uint64_t hash = bb_hash(token, length, 0);
    return (uint32_t)(hash ^ hash >> 32);
}

static const struct bb_token *find_token(const struct bb_vocabulary *vocabulary, const char *token, size_t length,
                                         uint32_t hash)
{
    if (vocabulary->slot_count == 0)
        return NULL;
    uint32_t mask = vocabulary->slot_count - 1;
    for (uint32_t i = hash & mask; vocabulary->slots[i] != 0; i = (i + 1) & mask) {
        const struct bb_token *entry = &vocabulary->tokens[vocabulary->slots[i] - 1];
        if (entry->hash == hash && entry->length == length &&
            memcmp(vocabulary->text + entry->offset, token, length) == 0)
            return entry;
    }
    return NULL;
}

int32_t bb_vocabulary_find(const struct bb_vocabulary *vocabulary, const char *token, size_t length)
{
    const struct bb_token *entry = find_token(vocabulary, token, length, token_hash(token, length));
    return entry != NULL ? entry->id : -1;
}

const struct bb_token *bb_vocabulary_token(const struct bb_vocabulary *vocabulary, int32_t id)
{
    if (id < 0 || (uint32_t)id >= vocabulary->id_count || vocabulary->by_id[id] < 0)
        return NULL;
    return &vocabulary->tokens[vocabulary->by_id[id]];
}

/* What is being read, and where. */
struct reading {
    struct bb_vocabulary *vocabulary;
    struct bb_json_cursor cursor;
    struct bb_buffer text, scratch;
    struct bb_token *tokens;
    double *scores;
    size_t capacity;
    const char *path, *what, *begin;
    size_t prefix_length;
    bombus_error *error;
};

static bombus_status damaged(struct reading *reading, const char *expected)
{
    return bb_fail(reading->error, BOMBUS_ERROR_FORMAT, "%s: model.%s: expected %s at byte %zu of that value",
                   reading->path, reading->what, expected, (size_t)(reading->cursor.next - reading->begin));
}

static bombus_status no_memory(struct reading *reading, size_t bytes)
{
    return bb_fail_memory(reading->error, bytes, "a tokenizer's vocabulary");
}

/* Smallest power of two that leaves a table of `count` entries at most two thirds full. */
static uint32_t slots_for(uint32_t count)
{
    uint32_t slots = 16;
    while (slots < count + count / 2 + 1)
        slots *= 2;
    return slots;
}

static bombus_status add_token(struct reading *reading, size_t offset, uint32_t id, double score)
{
    uint32_t count = reading->vocabulary->token_count;
    if (count == reading->capacity) {
        size_t capacity = reading->capacity == 0 ? 4096 : reading->capacity * 2;
        struct bb_token *tokens = bb_resize(reading->tokens, capacity, sizeof *tokens);
        if (tokens == NULL)
            return no_memory(reading, capacity * sizeof *tokens);
        reading->tokens = tokens;
        double *scores = bb_resize(reading->scores, capacity, sizeof *scores);
        if (scores == NULL)
            return no_memory(reading, capacity * sizeof *scores);
        reading->scores = scores;
        reading->capacity = capacity;
    }
    if (reading->text.is_failed)
        return no_memory(reading, reading->text.length);
    size_t length = reading->text.length - offset;
    if (reading->text.length > UINT32_MAX / 2 || count >= BB_MAX_TOKEN_ID)
        return bb_fail(reading->error, BOMBUS_ERROR_LIMIT, "%s: a vocabulary of more than %u tokens or 2 GiB",
                       reading->path, (unsigned)BB_MAX_TOKEN_ID);
    reading->scores[count] = score;
    reading->tokens[count] = (struct bb_token){.offset = (uint32_t)offset,
                                               .length = (uint32_t)length,
                                               .id = (int32_t)id,
                                               .hash = token_hash(reading->text.data + offset, length)};
    reading->vocabulary->token_count++;
    return BOMBUS_OK;
}

/* {"token": id, ...} */
static bombus_status read_object(struct reading *reading)
{
    bombus_status status = BOMBUS_OK;
    if (bb_json_take(&reading->cursor, '}'))
        return BOMBUS_OK;
    do {
        uint32_t id = 0;
        size_t offset = reading->text.length;
        if (!bb_json_read_string(&reading->cursor, &reading->text))
            return damaged(reading, "a token (text in quotes)");
        if (!bb_json_take(&reading->cursor, ':') || !bb_json_read_integer(&reading->cursor, BB_MAX_TOKEN_ID, &id))
            return damaged(reading, "an id (a whole number from 0 to 16777215)");
        status = add_token(reading, offset, id, 0);
    } while (status == BOMBUS_OK && bb_json_take(&reading->cursor, ','));
    if (status == BOMBUS_OK && !bb_json_take(&reading->cursor, '}'))
        status = damaged(reading, "',' or '}'");
    return status;
}

/* [["token", score], ...] */
static bombus_status read_array(struct reading *reading)
{
    bombus_status status = BOMBUS_OK;
    if (bb_json_take(&reading->cursor, ']'))
        return BOMBUS_OK;
    do {
        size_t offset = reading->text.length;
        double score = 0;
        if (!bb_json_take(&reading->cursor, '[') || !bb_json_read_string(&reading->cursor, &reading->text))
            return damaged(reading, "[token, score]");
        if (!bb_json_take(&reading->cursor, ',') || !bb_json_read_number(&reading->cursor, &score) ||
            !bb_json_take(&reading->cursor, ']') || score != score)
            return damaged(reading, "a score");
        status = add_token(reading, offset, reading->vocabulary->token_count, score);
    } while (status == BOMBUS_OK && bb_json_take(&reading->cursor, ','));
    if (status == BOMBUS_OK && !bb_json_take(&reading->cursor, ']'))
        status = damaged(reading, "',' or ']'");
    return status;
}

/* Makes the hash table and the way back from ids. */
static bombus_status index_tokens(struct reading *reading)
{
    struct bb_vocabulary *vocabulary = reading->vocabulary;
    uint32_t slot_count = slots_for(vocabulary->token_count), mask = slot_count - 1, id_count = 0;
    uint32_t *slots = bb_allocate(slot_count, sizeof *slots);
    vocabulary->owned[0] = slots;
    if (slots == NULL)
        return no_memory(reading, slot_count * sizeof *slots);
    for (uint32_t i = 0; i < vocabulary->token_count; i++) {
        struct bb_token *token = &reading->tokens[i];
        uint32_t place = token->hash & mask;
        if ((uint32_t)token->id >= id_count)
            id_count = (uint32_t)token->id + 1;
        for (; slots[place] != 0; place = (place + 1) & mask) {
            struct bb_token *other = &reading->tokens[slots[place] - 1];
            if (other->hash == token->hash && other->length == token->length &&
                memcmp(vocabulary->text + other->offset, vocabulary->text + token->offset, token->length) == 0) {
                /* Of two equal keys the last counts. (In a list with scores the first keeps its id for decoding.) */
                if (vocabulary->scores == NULL) {
                    other->id = -1;
                    vocabulary->unique_count--;
                }
                break;
            }
        }
        slots[place] = i + 1;
        vocabulary->unique_count++;
    }
    int32_t *by_id = bb_allocate(id_count, sizeof *by_id);
    vocabulary->owned[1] = by_id;
    if (by_id == NULL)
        return no_memory(reading, id_count * sizeof *by_id);
    memset(by_id, 0xFF, id_count * sizeof *by_id);
    for (uint32_t i = 0; i < vocabulary->token_count; i++)
        if (reading->tokens[i].id >= 0)
            by_id[reading->tokens[i].id] = (int32_t)i;
    vocabulary->slots = slots;
    vocabulary->slot_count = slot_count;
    vocabulary->by_id = by_id;
    vocabulary->id_count = id_count;
    return BOMBUS_OK;
}

static bombus_status read_tokens(struct reading *reading, struct bb_json_text vocab)
{
    struct bb_vocabulary *vocabulary = reading->vocabulary;
    bombus_status status;
    reading->what = "vocab";
    reading->begin = vocab.text;
    reading->cursor = (struct bb_json_cursor){vocab.text, vocab.text + vocab.length};
    bool is_object = bb_json_take(&reading->cursor, '{');
    if (is_object)
        status = read_object(reading);
    else if (bb_json_take(&reading->cursor, '['))
        status = read_array(reading);
    else
        status = damaged(reading, "an object or an array");
    vocabulary->owned[2] = reading->tokens;
    vocabulary->tokens = reading->tokens;
    vocabulary->owned[3] = reading->scores;
    vocabulary->scores = is_object ? NULL : reading->scores;
    if (status == BOMBUS_OK) {
        size_t size;
        vocabulary->text = vocabulary->owned[4] = bb_buffer_take(&reading->text, &size);
        if (vocabulary->text == NULL)
            return no_memory(reading, vocab.length);
        vocabulary->text_size = size;
        status = index_tokens(reading);
    }
    return status;
}

/* Reads "a b" or ["a", "b"] into scratch; *left_length is that of a. */
static bombus_status read_merge(struct reading *reading, size_t *left_length, bool *is_comment)
{
    struct bb_buffer *scratch = &reading->scratch;
    scratch->length = 0;
    *is_comment = false;
    if (bb_json_take(&reading->cursor, '[')) {
        if (!bb_json_read_string(&reading->cursor, scratch))
            return damaged(reading, "two tokens");
        *left_length = scratch->length;
        if (!bb_json_take(&reading->cursor, ',') || !bb_json_read_string(&reading->cursor, scratch) ||
            !bb_json_take(&reading->cursor, ']'))
            return damaged(reading, "two tokens");
    } else {
        if (!bb_json_read_string(&reading->cursor, scratch))
            return damaged(reading, "a merge (\"a b\" or [\"a\", \"b\"])");
        char *space = scratch->length > 0 ? memchr(scratch->data, ' ', scratch->length) : NULL;
        *is_comment = scratch->length >= 8 && memcmp(scratch->data, "#version", 8) == 0;
        if (*is_comment)
            return BOMBUS_OK;
        if (space == NULL || memchr(space + 1, ' ', scratch->length - (size_t)(space + 1 - scratch->data)) != NULL)
            return damaged(reading, "two tokens with one space between");
        *left_length = (size_t)(space - scratch->data);
        memmove(space, space + 1, scratch->length - *left_length - 1);
        scratch->length--;
    }
    return scratch->is_failed ? no_memory(reading, scratch->length) : BOMBUS_OK;
}

static bombus_status missing_token(struct reading *reading, const char *token, size_t length)
{
    return bb_fail(reading->error, BOMBUS_ERROR_FORMAT, "%s: model.merges: token '%.*s' is not in the vocabulary",
                   reading->path, (int)(length < 200 ? length : 200), token);
}

/* Looks the three tokens of a merge up. */
static bombus_status resolve_merge(struct reading *reading, size_t left_length, struct bb_merge *merge)
{
    struct bb_vocabulary *vocabulary = reading->vocabulary;
    struct bb_buffer *scratch = &reading->scratch;
    const char *empty = "", *data = scratch->data != NULL ? scratch->data : empty, *right = data + left_length;
    size_t right_length = scratch->length - left_length;
    int32_t left_id = bb_vocabulary_find(vocabulary, data, left_length);
    int32_t right_id = bb_vocabulary_find(vocabulary, right, right_length);
    if (left_id < 0)
        return missing_token(reading, data, left_length);
    if (right_id < 0)
        return missing_token(reading, right, right_length);
    if (reading->prefix_length > 0) {
        if (right_length < reading->prefix_length)
            return damaged(reading, "a right token that begins with continuing_subword_prefix");
        memmove(scratch->data + left_length, right + reading->prefix_length, right_length - reading->prefix_length);
        scratch->length -= reading->prefix_length;
    }
    int32_t merged_id = bb_vocabulary_find(vocabulary, data, scratch->length);
    if (merged_id < 0)
        return missing_token(reading, data, scratch->length);
    merge->left = (uint32_t)left_id;
    merge->right = (uint32_t)right_id;
    merge->merged = (uint32_t)merged_id;
    return BOMBUS_OK;
}

/* Puts the list of merges into a hash table. Of two merges of the same pair the last counts. */
static bombus_status index_merges(struct reading *reading, const struct bb_merge *list, uint32_t count)
{
    struct bb_vocabulary *vocabulary = reading->vocabulary;
    uint32_t slot_count = slots_for(count), mask = slot_count - 1;
    struct bb_merge *slots = bb_resize(NULL, slot_count, sizeof *slots);
    vocabulary->owned[5] = slots;
    if (slots == NULL)
        return no_memory(reading, slot_count * sizeof *slots);
    memset(slots, 0xFF, slot_count * sizeof *slots);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t place = bb_merge_hash(list[i].left, list[i].right) & mask;
        while (slots[place].rank != UINT32_MAX &&
               !(slots[place].left == list[i].left && slots[place].right == list[i].right))
            place = (place + 1) & mask;
        slots[place] = list[i];
    }
    vocabulary->merges = slots;
    vocabulary->merge_slot_count = slot_count;
    return BOMBUS_OK;
}

static bombus_status read_merges(struct reading *reading, struct bb_json_text merges)
{
    struct bb_merge *list = NULL;
    size_t count = 0, capacity = 0;
    bombus_status status = BOMBUS_OK;
    reading->what = "merges";
    reading->begin = merges.text;
    reading->cursor = (struct bb_json_cursor){merges.text, merges.text + merges.length};
    if (!bb_json_take(&reading->cursor, '['))
        return damaged(reading, "an array");
    if (!bb_json_take(&reading->cursor, ']')) {
        do {
            size_t left_length = 0;
            bool is_comment = false;
            if (count == capacity) {
                capacity = capacity == 0 ? 4096 : capacity * 2;
                struct bb_merge *grown = bb_resize(list, capacity, sizeof *list);
                if (grown == NULL) {
                    status = no_memory(reading, capacity * sizeof *list);
                    break;
                }
                list = grown;
            }
            status = read_merge(reading, &left_length, &is_comment);
            if (status != BOMBUS_OK || is_comment)
                continue;
            list[count].rank = (uint32_t)count;
            status = resolve_merge(reading, left_length, &list[count]);
            count++;
        } while (status == BOMBUS_OK && count < BB_MAX_TOKEN_ID * 8u && bb_json_take(&reading->cursor, ','));
        if (status == BOMBUS_OK && !bb_json_take(&reading->cursor, ']'))
            status = damaged(reading, "',' or ']'");
    }
    if (status == BOMBUS_OK)
        status = index_merges(reading, list, (uint32_t)count);
    bb_release(list);
    return status;
}

bombus_status bb_vocabulary_read(struct bb_vocabulary *vocabulary, struct bb_json_text vocab,
                                 struct bb_json_text merges, const char *prefix, const char *path, bombus_error *error)
{
    struct reading reading = {
        .vocabulary = vocabulary, .path = path, .prefix_length = prefix != NULL ? strlen(prefix) : 0, .error = error};
    *vocabulary = (struct bb_vocabulary){0};
    bombus_status status = BOMBUS_OK;
    if (!bb_buffer_reserve(&reading.text, vocab.length))
        status = no_memory(&reading, vocab.length);
    if (status == BOMBUS_OK)
        status = read_tokens(&reading, vocab);
    if (status == BOMBUS_OK && merges.text != NULL)
        status = read_merges(&reading, merges);
    bb_buffer_clear(&reading.text);
    bb_buffer_clear(&reading.scratch);
    if (status != BOMBUS_OK)
        bb_vocabulary_close(vocabulary);
    return status;
}
