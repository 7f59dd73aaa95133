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
