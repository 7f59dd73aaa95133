/* GPT-2's way to write any byte as a visible character. */
#include "text/byte_level.h"

#include "text/unicode.h"

void bb_byte_level_add(struct bb_buffer *result, const char *bytes, size_t length)
{
    if (length > SIZE_MAX / 2 - 8 || !bb_buffer_reserve(result, 2 * length)) {
        result->is_failed = true;
        return;
    }
    char *to = result->data + result->length;
    for (size_t i = 0; i < length; i++) {
        uint8_t byte = (uint8_t)bytes[i];
        if (byte > ' ' && byte < 0x7F)
            *to++ = (char)byte;
        else
            to += bb_utf8_encode(to, bb_byte_character(byte));
    }
    *to = '\0';
    result->length = (size_t)(to - result->data);
}

void bb_byte_level_add_bytes(struct bb_buffer *result, const char *text, size_t length)
{
    for (size_t i = 0; i < length;) {
        uint32_t character;
        size_t size = bb_utf8_next(text + i, &character);
        int byte = bb_character_byte(character);
        if (byte > 0)
            bb_buffer_add_byte(result, (char)byte);
        else
            bb_buffer_add(result, text + i, size);
        i += size;
    }
}
