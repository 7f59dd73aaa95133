/* UTF-8 and the character classes that tokenizers ask for. */
#ifndef BB_UNICODE_H
#define BB_UNICODE_H

#include "base/buffer.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decodes the character at `text` (length > 0). Returns its bytes, 1 to 4. For an invalid sequence *character is
 * U+FFFD and the bytes are those that one replacement character stands for (the longest prefix of a valid sequence,
 * as WHATWG and Rust do). */
size_t bb_utf8_decode(const char *text, size_t length, uint32_t *character);

/* The same for text known to be valid. */
static inline size_t bb_utf8_next(const char *text, uint32_t *character)
{
    const uint8_t *p = (const uint8_t *)text;
    if (p[0] < 0x80) {
        *character = p[0];
        return 1;
    }
    if (p[0] < 0xE0) {
        *character = (uint32_t)(p[0] & 0x1F) << 6 | (uint32_t)(p[1] & 0x3F);
        return 2;
    }
    if (p[0] < 0xF0) {
        *character = (uint32_t)(p[0] & 0x0F) << 12 | (uint32_t)(p[1] & 0x3F) << 6 | (uint32_t)(p[2] & 0x3F);
        return 3;
    }
    *character = (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3F) << 12 | (uint32_t)(p[2] & 0x3F) << 6 |
                 (uint32_t)(p[3] & 0x3F);
    return 4;
}

/* Bytes of the character whose first byte this is, in valid text. */
static inline size_t bb_utf8_size(char first)
{
    uint8_t byte = (uint8_t)first;
    return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

/* Encodes into bytes[4]; returns how many. `character` is a scalar value. */
size_t bb_utf8_encode(char *bytes, uint32_t character);

/* Begin of the character that ends at text + length (length > 0), in valid text. */
size_t bb_utf8_previous(const char *text, size_t length);

/* Bytes of `text` before the first invalid sequence; `length` if all is valid. */
size_t bb_utf8_valid_length(const char *text, size_t length);

/* Appends `text` with each invalid sequence as U+FFFD. */
void bb_utf8_add_repaired(struct bb_buffer *buffer, const char *text, size_t length);

/* How many bytes at the end of `text` are an incomplete but so far valid sequence: 0 to 3. */
size_t bb_utf8_incomplete_tail(const char *text, size_t length);

/* The classes below are those of the libraries that the reference tokenizers are built on, whatever Unicode version the
 * system's libraries have: see unicode_tables.h. */
bool bb_is_space(uint32_t character);       /* White_Space */
bool bb_is_number(uint32_t character);      /* Nd, Nl, No */
bool bb_is_punctuation(uint32_t character); /* ASCII punctuation and P* */
bool bb_is_word(uint32_t character);        /* \w: letters, marks, digits, connectors */
bool bb_is_mark(uint32_t character);        /* M* */

/* True if the reference's normal forms, which are older than the system's, leave the character alone. */
bool bb_is_inert(uint32_t character);
/* A character that every supported version of pcre2 knows and classes as the reference does this one: mostly itself. */
uint32_t bb_stand_in(uint32_t character);

/* Lower case of one character without context: 1 or 2 characters into lower[2]; returns how many. */
size_t bb_lower_case(uint32_t character, uint32_t *lower);

#endif
