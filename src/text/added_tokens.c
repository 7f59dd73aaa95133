/* Added tokens: read from tokenizer.json, and found in texts. */
#include "text/added_tokens.h"

#include "text/unicode.h"

#include <string.h>

void bb_added_tokens_clear(struct bb_added_tokens *added)
{
    bb_release(added->items);
    bb_release(added->by_id);
    bb_map_clear(&added->by_content);
    bb_trie_clear(&added->plain);
    bb_trie_clear(&added->normalized);
    bb_arena_clear(&added->arena);
    *added = (struct bb_added_tokens){0};
}

const struct bb_added_token *bb_added_tokens_by_id(const struct bb_added_tokens *added, int32_t id)
{
    if (id < 0 || id >= added->id_count || added->by_id[id] < 0)
        return NULL;
    return &added->items[added->by_id[id]];
}

static bombus_status no_memory(const struct bb_component *component)
{
    return bb_fail_memory(component->error, 0, "added tokens");
}

static bombus_status read_token(const struct bb_component *component, struct bb_added_token *token)
{
    bombus_status status = bb_component_text(component, "content", &token->content, &token->length);
    if (status == BOMBUS_OK)
        status = bb_component_flag(component, "special", false, &token->special);
    if (status == BOMBUS_OK)
        status = bb_component_flag(component, "normalized", !token->special, &token->normalized);
    if (status == BOMBUS_OK)
        status = bb_component_flag(component, "single_word", false, &token->single_word);
    if (status == BOMBUS_OK)
        status = bb_component_flag(component, "lstrip", false, &token->lstrip);
    if (status == BOMBUS_OK)
        status = bb_component_flag(component, "rstrip", false, &token->rstrip);
    return status;
}

/* Sets the form of the token that is looked for in normalized text. */
static bombus_status normalize_token(struct bb_added_tokens *added, struct bb_added_token *token,
                                     const struct bb_normalizer *normalizer, struct bb_normalizer_scratch *scratch,
                                     const struct bb_component *component)
{
    struct bb_normalized normalized = {.text = token->content, .length = token->length};
    token->normalized_content = token->content;
    token->normalized_length = token->length;
    if (!token->normalized || normalizer == NULL)
        return BOMBUS_OK;
    bombus_status status = bb_normalizer_apply(normalizer, scratch, &normalized, component->error);
    if (status != BOMBUS_OK)
        return status;
    token->normalized_content = bb_arena_copy_text(&added->arena, normalized.text, normalized.length);
    token->normalized_length = normalized.length;
    return token->normalized_content != NULL ? BOMBUS_OK : no_memory(component);
}

/* Adds the token, or gives one of the same content its new flags. */
static bombus_status add_token(struct bb_added_tokens *added, struct bb_added_token token,
                               const struct bb_vocabulary *vocabulary, int32_t *next_id,
                               const struct bb_component *component)
{
    uint64_t *place = bb_map_find(&added->by_content, token.content, token.length);
    if (place != NULL) {
        struct bb_added_token *known = &added->items[*place];
        token.id = known->id;
        token.special = token.special || known->special; /* once special, always special */
        *known = token;
        return BOMBUS_OK;
    }
    token.id = bb_vocabulary_find(vocabulary, token.content, token.length);
    if (token.id < 0)
        token.id = (*next_id)++;
    if (!bb_map_set(&added->by_content, token.content, token.length, added->count, NULL))
        return no_memory(component);
    added->items[added->count++] = token;
    return BOMBUS_OK;
}

static bombus_status index_tokens(struct bb_added_tokens *added, const struct bb_component *component)
{
    for (size_t i = 0; i < added->count; i++)
        if (added->items[i].id >= added->id_count)
            added->id_count = added->items[i].id + 1;
    added->by_id = bb_allocate((size_t)added->id_count, sizeof *added->by_id);
    if (added->by_id == NULL)
        return no_memory(component);
    memset(added->by_id, 0xFF, (size_t)added->id_count * sizeof *added->by_id);
    for (size_t i = 0; i < added->count; i++) {
        struct bb_added_token *token = &added->items[i];
        const uint64_t *same = bb_map_find(&added->by_content, token->normalized_content, token->normalized_length);
        token->is_skipped = same != NULL && added->items[*same].special;
        added->by_id[token->id] = (int32_t)i;
        if (!bb_trie_add(token->normalized ? &added->normalized : &added->plain, token->normalized_content,
                         token->normalized_length, (int32_t)i))
            return no_memory(component);
    }
    return bb_trie_finish(&added->plain) && bb_trie_finish(&added->normalized) ? BOMBUS_OK : no_memory(component);
}

bombus_status bb_added_tokens_create(struct bb_added_tokens *added, const struct bb_component *component,
                                     const struct bb_vocabulary *vocabulary, const struct bb_normalizer *normalizer)
{
    size_t count = json_array_size(component->json);
    int32_t next_id = (int32_t)vocabulary->unique_count;
    struct bb_normalizer_scratch scratch = {0};
    bombus_status status = BOMBUS_OK;
    *added = (struct bb_added_tokens){0};
    if (component->json != NULL && !json_is_null(component->json) && !json_is_array(component->json))
        return bb_component_fail(component, "added_tokens", "a list");
    if (count > BB_MAX_TOKEN_ID / 2)
        return bb_component_fail(component, "added_tokens", "a list of fewer than eight million");
    added->items = bb_allocate(count, sizeof *added->items);
    if (added->items == NULL)
        status = no_memory(component);
    for (size_t i = 0; i < count && status == BOMBUS_OK; i++) {
        struct bb_component item = *component;
        struct bb_added_token token = {0};
        item.json = json_array_get(component->json, i);
        status = read_token(&item, &token);
        if (status != BOMBUS_OK || token.length == 0)
            continue;
        token.content = bb_arena_copy_text(&added->arena, token.content, token.length);
        if (token.content == NULL)
            status = no_memory(component);
        if (status == BOMBUS_OK)
            status = normalize_token(added, &token, normalizer, &scratch, component);
        if (status == BOMBUS_OK)
            status = add_token(added, token, vocabulary, &next_id, component);
    }
    if (status == BOMBUS_OK)
        status = index_tokens(added, component);
    bb_normalizer_scratch_clear(&scratch);
    if (status != BOMBUS_OK)
        bb_added_tokens_clear(added);
    return status;
}

/* A token that must be a word of its own is none inside of one. */
static bool is_inside_word(const char *text, size_t length, size_t begin, size_t end)
{
    uint32_t before = ' ', after = ' ';
    if (begin > 0)
        bb_utf8_next(text + bb_utf8_previous(text, begin), &before);
    if (end < length)
        bb_utf8_next(text + end, &after);
    return bb_is_word(before) || bb_is_word(after);
}

static size_t skip_spaces_back(const char *text, size_t begin)
{
    while (begin > 0) {
        uint32_t character;
        size_t previous = bb_utf8_previous(text, begin);
        bb_utf8_next(text + previous, &character);
        if (!bb_is_space(character))
            break;
        begin = previous;
    }
    return begin;
}

static size_t skip_spaces(const char *text, size_t length, size_t end)
{
    while (end < length) {
        uint32_t character;
        size_t size = bb_utf8_next(text + end, &character);
        if (!bb_is_space(character))
            break;
        end += size;
    }
    return end;
}

void bb_added_tokens_split(const struct bb_added_tokens *added, const struct bb_trie *trie, const char *text,
                           size_t length, size_t offset, bool is_at_start, struct bb_pieces *pieces)
{
    size_t done = 0;
    for (size_t i = 0; i < length && trie->count > 0;) {
        int32_t item = -1;
        if (!trie->starts[(uint8_t)text[i]]) {
            i++;
            continue;
        }
        size_t size = bb_trie_longest(trie, text + i, length - i, &item);
        if (size == 0) {
            i++;
            continue;
        }
        const struct bb_added_token *token = &added->items[item];
        size_t begin = i, end = i + size;
        i = end; /* a match that is turned down is not looked into either */
        if (token->single_word && is_inside_word(text, length, begin, end))
            continue;
        if (token->lstrip) {
            begin = skip_spaces_back(text, begin);
            if (begin < done)
                begin = done;
        }
        if (token->rstrip)
            end = skip_spaces(text, length, end);
        if (begin >= end) /* the token before took it all as space on its right */
            continue;
        if (done < begin)
            bb_pieces_add(pieces, (struct bb_piece){offset + done, offset + begin, -1, is_at_start && done == 0});
        bb_pieces_add(pieces, (struct bb_piece){offset + begin, offset + end, token->id, false});
        done = end;
    }
    if (done < length)
        bb_pieces_add(pieces, (struct bb_piece){offset + done, offset + length, -1, is_at_start && done == 0});
}
