/* Ids to text, one at a time: mlx-lm's three streaming detokenizers, so that the segments are the same as there. */
#include "text/tokenizer_parts.h"

#include "base/memory.h"
#include "text/byte_level.h"
#include "text/unicode.h"

#include <string.h>

static const char replacement_character[] = "\xEF\xBF\xBD", sentence_space[] = "\xE2\x96\x81";

struct bb_stream_decoder {
    const struct bb_tokenizer *tokenizer; /* borrowed */
    bool has_text;                        /* some text came out already */
    struct bb_buffer held;                /* bytes that wait for more */
    struct bb_buffer segment;             /* the last answer */
    /* Naive streams decode all ids of a line each time; lengths count characters. */
    struct bb_ids ids;
    struct bb_decoding decoding;
    size_t flushed_length; /* of the lines before */
    size_t told_length;    /* of what came out */
    bool drops_last_space; /* the decoder may take a space away again when more comes */
};

bombus_status bb_stream_decoder_create(struct bb_stream_decoder **decoder, const struct bb_tokenizer *tokenizer,
                                       bombus_error *error)
{
    static const char probe[] = "a ,b";
    struct bb_stream_decoder *made = *decoder = bb_allocate(1, sizeof *made);
    bombus_status status = BOMBUS_OK;
    if (made == NULL)
        return bb_fail_memory(error, sizeof *made, "a streaming decoder");
    made->tokenizer = tokenizer;
    if (tokenizer->stream_kind == BB_STREAM_NAIVE) {
        int32_t *ids;
        size_t count;
        status = bb_tokenizer_encode(tokenizer, probe, strlen(probe), false, &ids, &count, error);
        if (status == BOMBUS_OK)
            status = bb_tokenizer_decode(tokenizer, ids, count, false, &made->segment, error);
        bb_release(ids);
        bb_buffer_reserve(&made->segment, 0);
        if (status == BOMBUS_OK && made->segment.is_failed)
            status = bb_fail_memory(error, strlen(probe), "a streaming decoder");
        if (status == BOMBUS_OK)
            made->drops_last_space = strstr(made->segment.data, " ,") == NULL;
    }
    if (status != BOMBUS_OK) {
        bb_stream_decoder_free(made);
        *decoder = NULL;
    }
    return status;
}

void bb_stream_decoder_free(struct bb_stream_decoder *decoder)
{
    if (decoder == NULL)
        return;
    bb_buffer_clear(&decoder->held);
    bb_buffer_clear(&decoder->segment);
    bb_ids_clear(&decoder->ids);
    bb_decoding_clear(&decoder->decoding);
    bb_release(decoder);
}

void bb_stream_decoder_reset(struct bb_stream_decoder *decoder)
{
    decoder->has_text = false;
    decoder->held.length = decoder->segment.length = 0;
    decoder->ids.count = 0;
    decoder->flushed_length = decoder->told_length = 0;
}

static bool ends_with_replacement(const struct bb_buffer *buffer)
{
    return buffer->length >= 3 && memcmp(buffer->data + buffer->length - 3, replacement_character, 3) == 0;
}

/* True if the held bytes, made text, would end with U+FFFD: the last character is not whole, or is that one. */
static bool ends_incomplete(const struct bb_buffer *held)
{
    uint32_t character;
    for (size_t size = 1; size <= 4 && size <= held->length; size++) {
        const char *tail = held->data + held->length - size;
        if (((uint8_t)*tail & 0xC0) == 0x80)
            continue;
        return bb_utf8_decode(tail, size, &character) != size || character == 0xFFFD;
    }
    return held->length > 0;
}

/* Turns what is held into the segment. */
static void flush(struct bb_stream_decoder *decoder)
{
    enum bb_stream_kind kind = decoder->tokenizer->stream_kind;
    struct bb_buffer *held = &decoder->held;
    size_t kept = held->length;
    if (kept == 0)
        return;
    if (kind != BB_STREAM_BYTE_LEVEL) {
        kept = 0;
        for (size_t i = 0; i < held->length;) {
            bool is_space = held->length - i >= 3 && memcmp(held->data + i, sentence_space, 3) == 0;
            held->data[kept++] = is_space ? ' ' : held->data[i];
            i += is_space ? 3 : 1;
        }
    }
    bool is_trimmed = !decoder->has_text && kind != BB_STREAM_SENTENCE_SPACE && held->data[0] == ' ';
    bb_utf8_add_repaired(&decoder->segment, held->data + is_trimmed, kept - is_trimmed);
    decoder->has_text = decoder->has_text || decoder->segment.length > 0;
    held->length = 0;
}

/* Byte-level tokens. mlx-lm writes the zero byte as its visible character, U+0100. */
static void add_byte_level(struct bb_stream_decoder *decoder, int32_t id)
{
    size_t length = 1;
    const char *token = bb_tokenizer_decoder_token(decoder->tokenizer, id, &length);
    if (token == NULL)
        token =
            id >= bb_tokenizer_size(decoder->tokenizer) ? "!" : ""; /* "!" for ids behind the vocabulary, as mlx-lm */
    if (*token == '\0')
        length = 0;
    bb_byte_level_add_bytes(&decoder->held, token, length);
    bool is_space = length == 2 && memcmp(token, "\xC4\xA0", 2) == 0;
    if (!is_space && !decoder->held.is_failed && !ends_incomplete(&decoder->held))
        flush(decoder);
}

static void add_sentence(struct bb_stream_decoder *decoder, int32_t id)
{
    size_t length;
    const char *token = bb_tokenizer_decoder_token(decoder->tokenizer, id, &length);
    if (token == NULL)
        return;
    int byte = bb_sentence_byte(token, length);
    if (byte >= 0)
        bb_buffer_add_byte(&decoder->held, (char)byte);
    else
        bb_buffer_add(&decoder->held, token, length);
    if (!decoder->held.is_failed && !ends_incomplete(&decoder->held))
        flush(decoder);
}

static size_t count_characters(const struct bb_buffer *text)
{
    size_t count = 0;
    for (size_t i = 0; i < text->length; i++)
        count += ((uint8_t)text->data[i] & 0xC0) != 0x80;
    return count;
}

/* Decodes the whole line; the segment is what is new in it. */
static bombus_status decode_line(struct bb_stream_decoder *decoder, bool is_last, bombus_error *error)
{
    struct bb_buffer *line = &decoder->held;
    bb_decoding_reset(&decoder->decoding);
    line->length = 0;
    for (size_t i = 0; i < decoder->ids.count; i++) {
        size_t length;
        const char *token = bb_tokenizer_decoder_token(decoder->tokenizer, decoder->ids.items[i], &length);
        if (token != NULL)
            bb_decoding_add(&decoder->decoding, token, length);
    }
    bombus_status status = bb_decoder_apply(decoder->tokenizer->decoder, &decoder->decoding, line, error);
    if (status != BOMBUS_OK)
        return status;
    if (!is_last && ends_with_replacement(line)) {
        while (ends_with_replacement(line))
            line->length -= 3;
    } else if (!is_last && decoder->drops_last_space && line->length > 0 && line->data[line->length - 1] == ' ') {
        line->length--;
    }
    size_t skipped = decoder->told_length - decoder->flushed_length, begin = 0;
    decoder->told_length = decoder->flushed_length + count_characters(line);
    for (; begin < line->length && skipped > 0; skipped--)
        begin += bb_utf8_size(line->data[begin]);
    bb_buffer_add(&decoder->segment, line->data != NULL ? line->data + begin : "", line->length - begin);
    if (is_last || (line->length > 0 && line->data[line->length - 1] == '\n')) {
        decoder->flushed_length = decoder->told_length;
        decoder->ids.count = 0;
    }
    return BOMBUS_OK;
}

static bombus_status answer(struct bb_stream_decoder *decoder, bombus_status status, const char **text, size_t *length,
                            bombus_error *error)
{
    bb_buffer_reserve(&decoder->segment, 0);
    if (status == BOMBUS_OK && (decoder->segment.is_failed || decoder->held.is_failed || decoder->ids.is_failed))
        status = bb_fail_memory(error, decoder->held.length, "a streaming decoder");
    if (status == BOMBUS_OK)
        decoder->segment.data[decoder->segment.length] = '\0';
    *text = status == BOMBUS_OK ? decoder->segment.data : "";
    *length = status == BOMBUS_OK ? decoder->segment.length : 0;
    return status;
}

bombus_status bb_stream_decoder_add(struct bb_stream_decoder *decoder, int32_t id, const char **text, size_t *length,
                                    bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    decoder->segment.length = 0;
    switch (decoder->tokenizer->stream_kind) {
    case BB_STREAM_BYTE_LEVEL: add_byte_level(decoder, id); break;
    case BB_STREAM_NAIVE:
        bb_ids_add(&decoder->ids, id);
        status = decode_line(decoder, false, error);
        break;
    default: add_sentence(decoder, id);
    }
    return answer(decoder, status, text, length, error);
}

bombus_status bb_stream_decoder_finish(struct bb_stream_decoder *decoder, const char **text, size_t *length,
                                       bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    decoder->segment.length = 0;
    if (decoder->tokenizer->stream_kind == BB_STREAM_NAIVE)
        status = decode_line(decoder, true, error);
    else if (!decoder->held.is_failed)
        flush(decoder);
    return answer(decoder, status, text, length, error);
}
