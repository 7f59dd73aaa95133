/* Reading characters and numbers of a source. */
#include "generate/grammar/reader.h"

#include "text/byte_level.h"
#include "text/unicode.h"

#include <string.h>

bombus_status bb_reader_fail(struct bb_reader *reader, size_t position, bombus_status status, const char *message)
{
    int32_t line = 1, column = 1;
    for (size_t i = 0; i < position && i < reader->length; i++) {
        bool is_end = reader->source[i] == '\n';
        line += is_end;
        column = is_end ? 1 : column + (((uint8_t)reader->source[i] & 0xC0) != 0x80);
    }
    if (reader->rules->status == BOMBUS_OK)
        reader->rules->status = bb_fail_at(reader->error, status, line, column, "%s, line %d, column %d: %s",
                                           reader->what, line, column, message);
    return reader->rules->status;
}

bool bb_reader_take(struct bb_reader *reader, const char *text)
{
    size_t length = strlen(text);
    if (reader->length - reader->position < length || memcmp(reader->source + reader->position, text, length) != 0)
        return false;
    reader->position += length;
    return true;
}

uint32_t bb_reader_next(struct bb_reader *reader)
{
    uint32_t character;
    reader->position += bb_utf8_next(reader->source + reader->position, &character);
    return character;
}

bool bb_reader_hex(struct bb_reader *reader, int32_t count, uint32_t *character)
{
    *character = 0;
    for (int32_t i = 0; i < count; i++, reader->position++) {
        int digit = bb_reader_is_at_end(reader) ? -1 : bb_hex_digit(bb_reader_peek(reader));
        if (digit < 0 || *character > 0x10FFFF)
            return false;
        *character = *character << 4 | (uint32_t)digit;
    }
    return *character <= 0x10FFFF && (*character < 0xD800 || *character > 0xDFFF);
}

bool bb_reader_number(struct bb_reader *reader, uint32_t limit, uint32_t *value)
{
    uint64_t number = 0;
    size_t begin = reader->position;
    for (; bb_reader_peek(reader) >= '0' && bb_reader_peek(reader) <= '9' && number <= limit; reader->position++)
        number = number * 10 + (uint64_t)(bb_reader_peek(reader) - '0');
    *value = (uint32_t)number;
    return reader->position > begin && number <= limit;
}

bool bb_reader_bounds(struct bb_reader *reader, uint32_t *least, uint32_t *most)
{
    enum { MOST_ROUNDS = 1 << 30 };
    size_t begin = reader->position;
    if (bb_reader_number(reader, MOST_ROUNDS, least)) {
        *most = *least;
        if (bb_reader_take(reader, "}"))
            return true;
        *most = BB_UNLIMITED;
        if (bb_reader_take(reader, ",") &&
            (bb_reader_take(reader, "}") ||
             (bb_reader_number(reader, MOST_ROUNDS, most) && *most >= *least && bb_reader_take(reader, "}"))))
            return true;
    }
    reader->position = begin;
    return false;
}
