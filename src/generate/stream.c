/* Text is gathered in `pending`; what was handed out leaves it at the next call. */
#include "generate/stream.h"

#include "base/memory.h"

#include <string.h>

enum { FIRST_PENDING = 4096 };

struct stop {
    char *text;
    size_t length;
};

struct bb_text_stream {
    const struct bb_tokenizer *tokenizer;
    struct bb_stream_decoder *decoder;
    struct bb_buffer pending;
    size_t handed_out; /* bytes at the front of pending */
    struct stop *stops;
    size_t stop_count;
};

static bombus_status copy_stops(struct bb_text_stream *stream, const char *const *stop, size_t count,
                                bombus_error *error)
{
    if (count > 0 && stop == NULL)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "stop: NULL with stop_count %zu", count);
    stream->stops = bb_allocate(count, sizeof *stream->stops);
    if (stream->stops == NULL)
        return bb_fail_memory(error, count * sizeof *stream->stops, "stop strings");
    for (size_t i = 0; i < count; i++) {
        if (stop[i] == NULL || stop[i][0] == '\0')
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "stop[%zu]: %s, expected a text", i,
                           stop[i] == NULL ? "NULL" : "empty");
        size_t length = strlen(stop[i]);
        char *text = bb_copy_text(stop[i], length);
        if (text == NULL)
            return bb_fail_memory(error, length, "a stop string");
        stream->stops[i] = (struct stop){.text = text, .length = length};
        stream->stop_count++;
    }
    return BOMBUS_OK;
}

bombus_status bb_text_stream_create(struct bb_text_stream **stream, const struct bb_tokenizer *tokenizer,
                                    const char *const *stop, size_t stop_count, bombus_error *error)
{
    *stream = NULL;
    struct bb_text_stream *made = bb_allocate(1, sizeof *made);
    if (made == NULL)
        return bb_fail_memory(error, sizeof *made, "a text stream");
    made->tokenizer = tokenizer;
    bombus_status status = copy_stops(made, stop, stop_count, error);
    if (status == BOMBUS_OK)
        status = bb_stream_decoder_create(&made->decoder, tokenizer, error);
    if (status == BOMBUS_OK && !bb_buffer_reserve(&made->pending, FIRST_PENDING))
        status = bb_fail_memory(error, FIRST_PENDING, "a text stream");
    if (status != BOMBUS_OK) {
        bb_text_stream_free(made);
        return status;
    }
    *stream = made;
    return BOMBUS_OK;
}

void bb_text_stream_free(struct bb_text_stream *stream)
{
    if (stream == NULL)
        return;
    bb_stream_decoder_free(stream->decoder);
    bb_buffer_clear(&stream->pending);
    for (size_t i = 0; i < stream->stop_count; i++)
        bb_release(stream->stops[i].text);
    bb_release(stream->stops);
    bb_release(stream);
}

/* Where the first stop string begins; SIZE_MAX if there is none. */
static size_t find_stop(const struct bb_text_stream *stream)
{
    const struct bb_buffer *pending = &stream->pending;
    for (size_t place = 0; place < pending->length; place++)
        for (size_t i = 0; i < stream->stop_count; i++) {
            const struct stop *stop = &stream->stops[i];
            if (stop->length <= pending->length - place && memcmp(pending->data + place, stop->text, stop->length) == 0)
                return place;
        }
    return SIZE_MAX;
}

/* Length of the longest end of the text that is the beginning of a stop string. */
static size_t find_beginning(const struct bb_text_stream *stream)
{
    const struct bb_buffer *pending = &stream->pending;
    size_t longest = 0;
    for (size_t i = 0; i < stream->stop_count; i++) {
        const struct stop *stop = &stream->stops[i];
        size_t length = stop->length - 1 < pending->length ? stop->length - 1 : pending->length;
        while (length > longest && memcmp(pending->data + pending->length - length, stop->text, length) != 0)
            length--;
        longest = length > longest ? length : longest;
    }
    return longest;
}

static void drop_front(struct bb_buffer *buffer, size_t count)
{
    memmove(buffer->data, buffer->data + count, buffer->length - count);
    buffer->length -= count;
}

static bombus_status add(struct bb_text_stream *stream, int32_t id, bool is_last, const char **text, size_t *length,
                         bool *is_stopped, bombus_error *error)
{
    struct bb_buffer *pending = &stream->pending;
    const char *piece = "";
    size_t piece_length = 0;
    drop_front(pending, stream->handed_out);
    stream->handed_out = 0;
    bombus_status status = BOMBUS_OK;
    if (id >= 0 && !bb_tokenizer_is_special(stream->tokenizer, id))
        status = bb_stream_decoder_add(stream->decoder, id, &piece, &piece_length, error);
    if (status != BOMBUS_OK)
        return status;
    bb_buffer_add(pending, piece, piece_length);
    if (is_last) {
        status = bb_stream_decoder_finish(stream->decoder, &piece, &piece_length, error);
        if (status != BOMBUS_OK)
            return status;
        bb_buffer_add(pending, piece, piece_length);
    }
    if (pending->is_failed)
        return bb_fail_memory(error, pending->length + piece_length, "text");
    size_t stop = find_stop(stream);
    *is_stopped = stop != SIZE_MAX;
    stream->handed_out = *is_stopped ? stop : pending->length - (is_last ? 0 : find_beginning(stream));
    *text = pending->data;
    *length = stream->handed_out;
    return BOMBUS_OK;
}

bombus_status bb_text_stream_add(struct bb_text_stream *stream, int32_t id, const char **text, size_t *length,
                                 bool *is_stopped, bombus_error *error)
{
    return add(stream, id, false, text, length, is_stopped, error);
}

bombus_status bb_text_stream_finish(struct bb_text_stream *stream, int32_t id, const char **text, size_t *length,
                                    bool *is_stopped, bombus_error *error)
{
    return add(stream, id, true, text, length, is_stopped, error);
}
