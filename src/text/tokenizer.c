/* Text to ids and back. How a tokenizer is put together is tokenizer_load.c. */
#include "text/tokenizer.h"

#include "base/memory.h"
#include "text/tokenizer_parts.h"
#include "text/unicode.h"

#include <string.h>

/* Words that were encoded already: each place points at the ids of the last word that fell there. */
struct word_cache {
    struct word_cache_entry {
        size_t begin, length; /* of the word, in the text */
        size_t ids_begin, ids_count;
    } * entries;
    size_t mask;
};

enum { CACHED_WORD = 64, CACHE_PLACES = 16384, CACHE_FROM_PIECES = 64 };

/* All that one call of encode works with. */
struct encoding {
    const struct bb_tokenizer *tokenizer;
    struct bb_buffer repaired;
    struct bb_pieces raw;
    struct bb_normalizer_scratch normalizer;
    struct bb_pre_tokenized state;
    struct bb_bpe_scratch bpe;
    struct bb_unigram_scratch unigram;
    struct word_cache cache;
    struct bb_ids ids;
    bombus_error *error;
};

static void encoding_clear(struct encoding *encoding)
{
    bb_buffer_clear(&encoding->repaired);
    bb_pieces_clear(&encoding->raw);
    bb_normalizer_scratch_clear(&encoding->normalizer);
    bb_pre_tokenized_clear(&encoding->state);
    bb_bpe_scratch_clear(&encoding->bpe);
    bb_unigram_scratch_clear(&encoding->unigram);
    bb_release(encoding->cache.entries);
    bb_ids_clear(&encoding->ids);
}

/* Finds added tokens, normalizes what is between them, and finds those added tokens that show only then. */
static bombus_status cut_added_tokens(struct encoding *encoding, const char *text, size_t length)
{
    const struct bb_tokenizer *tokenizer = encoding->tokenizer;
    struct bb_pre_tokenized *state = &encoding->state;
    bb_added_tokens_split(&tokenizer->added, &tokenizer->added.plain, text, length, 0, true, &encoding->raw);
    for (size_t i = 0; i < encoding->raw.count; i++) {
        struct bb_piece piece = encoding->raw.items[i];
        if (piece.id >= 0) {
            bb_pieces_add(&state->pieces, piece);
            continue;
        }
        struct bb_normalized normalized = {text + piece.begin, piece.end - piece.begin, piece.is_at_start};
        bombus_status status =
            bb_normalizer_apply(tokenizer->normalizer, &encoding->normalizer, &normalized, encoding->error);
        if (status != BOMBUS_OK)
            return status;
        size_t offset = state->text.length;
        bb_buffer_add(&state->text, normalized.text, normalized.length);
        bb_added_tokens_split(&tokenizer->added, &tokenizer->added.normalized, normalized.text, normalized.length,
                              offset, normalized.is_at_start, &state->pieces);
    }
    if (encoding->raw.is_failed || state->text.is_failed || state->pieces.is_failed)
        return bb_fail_memory(encoding->error, length, "encoding a text");
    return BOMBUS_OK;
}

static bombus_status encode_word(struct encoding *encoding, const char *text, size_t length)
{
    const struct bb_tokenizer *tokenizer = encoding->tokenizer;
    if (tokenizer->is_unigram)
        return bb_unigram_encode(&tokenizer->unigram, &encoding->unigram, text, length, &encoding->ids,
                                 encoding->error);
    return bb_bpe_encode(&tokenizer->bpe, &encoding->bpe, text, length, &encoding->ids, encoding->error);
}

/* The same word gives the same ids: copies them from where they stand if it was met before. */
static bombus_status encode_cached(struct encoding *encoding, struct bb_piece piece)
{
    const char *text = encoding->state.text.data;
    size_t length = piece.end - piece.begin;
    if (length > CACHED_WORD || encoding->cache.entries == NULL)
        return encode_word(encoding, text + piece.begin, length);
    uint64_t hash = bb_hash(text + piece.begin, length, 0);
    struct word_cache_entry *entry = &encoding->cache.entries[hash & encoding->cache.mask];
    struct bb_ids *ids = &encoding->ids;
    if (entry->length == length && memcmp(text + entry->begin, text + piece.begin, length) == 0) {
        if (bb_ids_reserve(ids, entry->ids_count)) {
            memcpy(ids->items + ids->count, ids->items + entry->ids_begin, entry->ids_count * sizeof *ids->items);
            ids->count += entry->ids_count;
        }
        return BOMBUS_OK;
    }
    size_t ids_begin = ids->count;
    bombus_status status = encode_word(encoding, text + piece.begin, length);
    *entry = (struct word_cache_entry){piece.begin, length, ids_begin, ids->count - ids_begin};
    return status;
}

static bombus_status encode_pieces(struct encoding *encoding)
{
    const struct bb_pieces *pieces = &encoding->state.pieces;
    bombus_status status = BOMBUS_OK;
    if (pieces->count >= CACHE_FROM_PIECES) {
        size_t places = 64;
        while (places < CACHE_PLACES && places < pieces->count)
            places *= 2;
        encoding->cache.entries = bb_allocate(places, sizeof *encoding->cache.entries);
        encoding->cache.mask = places - 1;
        if (encoding->cache.entries == NULL)
            return bb_fail_memory(encoding->error, places * sizeof *encoding->cache.entries, "encoding a text");
    }
    for (size_t i = 0; i < pieces->count && status == BOMBUS_OK; i++) {
        if (pieces->items[i].id >= 0)
            bb_ids_add(&encoding->ids, pieces->items[i].id);
        else
            status = encode_cached(encoding, pieces->items[i]);
    }
    return status;
}

bombus_status bb_tokenizer_encode(const struct bb_tokenizer *tokenizer, const char *text, size_t length,
                                  bool add_special, int32_t **ids, size_t *count, bombus_error *error)
{
    struct encoding encoding = {.tokenizer = tokenizer, .error = error};
    bombus_status status = BOMBUS_OK;
    *ids = NULL;
    *count = 0;
    if (bb_utf8_valid_length(text, length) < length) {
        bb_utf8_add_repaired(&encoding.repaired, text, length);
        text = encoding.repaired.data;
        length = encoding.repaired.length;
        if (encoding.repaired.is_failed)
            status = bb_fail_memory(error, length, "encoding a text");
    }
    if (status == BOMBUS_OK)
        status = cut_added_tokens(&encoding, text, length);
    if (status == BOMBUS_OK)
        status = bb_pre_tokenizer_apply(tokenizer->pre_tokenizer, &encoding.state, error);
    if (status == BOMBUS_OK)
        status = encode_pieces(&encoding);
    if (status == BOMBUS_OK && add_special && !encoding.ids.is_failed)
        status = bb_post_processor_apply(&tokenizer->post_processor, &encoding.ids, error);
    if (status == BOMBUS_OK && encoding.ids.is_failed)
        status = bb_fail_memory(error, length, "encoding a text");
    if (status == BOMBUS_OK) {
        *ids = encoding.ids.items;
        *count = encoding.ids.count;
        encoding.ids = (struct bb_ids){0};
    }
    encoding_clear(&encoding);
    return status;
}

const char *bb_tokenizer_decoder_token(const struct bb_tokenizer *tokenizer, int32_t id, size_t *length)
{
    const struct bb_added_token *added = bb_added_tokens_by_id(&tokenizer->added, id);
    if (added == NULL)
        return bb_tokenizer_token(tokenizer, id, length);
    *length = added->normalized_length;
    return added->normalized_content;
}

bombus_status bb_tokenizer_decode(const struct bb_tokenizer *tokenizer, const int32_t *ids, size_t count,
                                  bool skip_special, struct bb_buffer *text, bombus_error *error)
{
    struct bb_decoding decoding = {0};
    for (size_t i = 0; i < count; i++) {
        size_t length;
        const char *token = bb_tokenizer_decoder_token(tokenizer, ids[i], &length);
        if (token != NULL && !(skip_special && bb_tokenizer_is_special(tokenizer, ids[i])))
            bb_decoding_add(&decoding, token, length);
    }
    bombus_status status = bb_decoder_apply(tokenizer->decoder, &decoding, text, error);
    bb_decoding_clear(&decoding);
    return status;
}

int32_t bb_tokenizer_size(const struct bb_tokenizer *tokenizer)
{
    int32_t size = (int32_t)tokenizer->vocabulary.id_count;
    return size > tokenizer->added.id_count ? size : tokenizer->added.id_count;
}

int32_t bb_tokenizer_id(const struct bb_tokenizer *tokenizer, const char *token, size_t length)
{
    const uint64_t *added = bb_map_find(&tokenizer->added.by_content, token, length);
    return added != NULL ? tokenizer->added.items[*added].id
                         : bb_vocabulary_find(&tokenizer->vocabulary, token, length);
}

const char *bb_tokenizer_token(const struct bb_tokenizer *tokenizer, int32_t id, size_t *length)
{
    const struct bb_added_token *added = bb_added_tokens_by_id(&tokenizer->added, id);
    if (added != NULL) {
        *length = added->length;
        return added->content;
    }
    const struct bb_token *token = bb_vocabulary_token(&tokenizer->vocabulary, id);
    if (token == NULL)
        return NULL;
    *length = token->length;
    return tokenizer->vocabulary.text + token->offset;
}

bool bb_tokenizer_is_special(const struct bb_tokenizer *tokenizer, int32_t id)
{
    const struct bb_added_token *added = bb_added_tokens_by_id(&tokenizer->added, id);
    size_t length;
    if (added != NULL || !tokenizer->is_unigram)
        return added != NULL && added->is_skipped;
    /* A Unigram list may hold a token twice; what is special goes by its text. */
    const char *token = bb_tokenizer_token(tokenizer, id, &length);
    const uint64_t *same = token != NULL ? bb_map_find(&tokenizer->added.by_content, token, length) : NULL;
    return same != NULL && tokenizer->added.items[*same].special;
}

const int32_t *bb_tokenizer_eos_ids(const struct bb_tokenizer *tokenizer, size_t *count)
{
    *count = tokenizer->eos_ids.count;
    return tokenizer->eos_ids.items;
}

const char *bb_tokenizer_bos_token(const struct bb_tokenizer *tokenizer)
{
    return tokenizer->bos_token;
}

const char *bb_tokenizer_eos_token(const struct bb_tokenizer *tokenizer)
{
    return tokenizer->eos_token;
}
