/* UTF-8 and the character classes that tokenizers ask for. */
#include "text/unicode.h"

#include "text/unicode_tables.h"

#include <string.h>

size_t bb_utf8_decode(const char *text, size_t length, uint32_t *character)
{
    const uint8_t *p = (const uint8_t *)text;
    uint8_t first = p[0], low = 0x80, high = 0xBF; /* bounds of the second byte */
    size_t size;
    *character = 0xFFFD;
    if (first < 0x80) {
        *character = first;
        return 1;
    }
    if (first < 0xC2 || first > 0xF4)
        return 1;
    size = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    if (first == 0xE0)
        low = 0xA0; /* no overlong forms */
    else if (first == 0xED)
        high = 0x9F; /* no surrogates */
    else if (first == 0xF0)
        low = 0x90;
    else if (first == 0xF4)
        high = 0x8F; /* nothing above U+10FFFF */
    for (size_t i = 1; i < size; i++) {
        if (i >= length || p[i] < low || p[i] > high)
            return i;
        low = 0x80;
        high = 0xBF;
    }
    return bb_utf8_next(text, character);
}

size_t bb_utf8_encode(char *bytes, uint32_t character)
{
    if (character < 0x80) {
        bytes[0] = (char)character;
        return 1;
    }
    if (character < 0x800) {
        bytes[0] = (char)(0xC0 | character >> 6);
        bytes[1] = (char)(0x80 | (character & 0x3F));
        return 2;
    }
    if (character < 0x10000) {
        bytes[0] = (char)(0xE0 | character >> 12);
        bytes[1] = (char)(0x80 | (character >> 6 & 0x3F));
        bytes[2] = (char)(0x80 | (character & 0x3F));
        return 3;
    }
    bytes[0] = (char)(0xF0 | character >> 18);
    bytes[1] = (char)(0x80 | (character >> 12 & 0x3F));
    bytes[2] = (char)(0x80 | (character >> 6 & 0x3F));
    bytes[3] = (char)(0x80 | (character & 0x3F));
    return 4;
}

size_t bb_utf8_previous(const char *text, size_t length)
{
    size_t i = length - 1;
    while (i > 0 && ((uint8_t)text[i] & 0xC0) == 0x80)
        i--;
    return i;
}

size_t bb_utf8_valid_length(const char *text, size_t length)
{
    size_t i = 0;
    while (i < length) {
        uint64_t word;
        uint32_t character;
        if (i + sizeof word <= length) {
            memcpy(&word, text + i, sizeof word);
            if ((word & UINT64_C(0x8080808080808080)) == 0) {
                i += sizeof word;
                continue;
            }
        }
        size_t size = bb_utf8_decode(text + i, length - i, &character);
        /* A genuine U+FFFD has three bytes, EF BF BD; an invalid sequence never begins with EF BF BD. */
        if (character == 0xFFFD && !(size == 3 && (uint8_t)text[i] == 0xEF && (uint8_t)text[i + 2] == 0xBD))
            return i;
        i += size;
    }
    return length;
}

void bb_utf8_add_repaired(struct bb_buffer *buffer, const char *text, size_t length)
{
    while (length > 0) {
        uint32_t character;
        size_t valid = bb_utf8_valid_length(text, length);
        bb_buffer_add(buffer, text, valid);
        text += valid;
        length -= valid;
        if (length == 0)
            break;
        size_t size = bb_utf8_decode(text, length, &character);
        bb_buffer_add(buffer, "\xEF\xBF\xBD", 3);
        text += size;
        length -= size;
    }
}

size_t bb_utf8_incomplete_tail(const char *text, size_t length)
{
    for (size_t size = 1; size <= 3 && size <= length; size++) {
        const char *tail = text + length - size;
        uint32_t character;
        if (((uint8_t)*tail & 0xC0) == 0x80)
            continue;
        if ((uint8_t)*tail < 0xC2 || (uint8_t)*tail > 0xF4 || bb_utf8_size(*tail) <= size)
            return 0;
        return bb_utf8_decode(tail, size, &character) == size ? size : 0;
    }
    return 0;
}

/* The three kinds of ranges begin with the same two fields; the search is spelled once for each kind. */
#define DEFINE_FIND(name, kind)                                                                                        \
    static const struct kind *name(const struct kind *ranges, size_t count, uint32_t character)                        \
    {                                                                                                                  \
        size_t low = 0, high = count;                                                                                  \
        while (low < high) {                                                                                           \
            size_t middle = low + (high - low) / 2;                                                                    \
            if (character > ranges[middle].last)                                                                       \
                low = middle + 1;                                                                                      \
            else if (character < ranges[middle].first)                                                                 \
                high = middle;                                                                                         \
            else                                                                                                       \
                return &ranges[middle];                                                                                \
        }                                                                                                              \
        return NULL;                                                                                                   \
    }
DEFINE_FIND(find_range, bb_character_range)
DEFINE_FIND(find_mapping, bb_character_mapping)
DEFINE_FIND(find_stand_in, bb_character_stand_in)

static bool is_ascii_letter_or_digit(uint32_t character)
{
    return (character >= '0' && character <= '9') || ((character | 32) >= 'a' && (character | 32) <= 'z');
}

bool bb_is_space(uint32_t character)
{
    if (character < 0x80)
        return character == ' ' || (character >= 9 && character <= 13);
    return character == 0x85 || character == 0xA0 || character == 0x1680 ||
           (character >= 0x2000 && character <= 0x200A) || character == 0x2028 || character == 0x2029 ||
           character == 0x202F || character == 0x205F || character == 0x3000;
}

bool bb_is_number(uint32_t character)
{
    if (character < 0x80)
        return character >= '0' && character <= '9';
    return find_range(bb_number_ranges, bb_number_range_count, character) != NULL;
}

bool bb_is_punctuation(uint32_t character)
{
    if (character < 0x80)
        return character > ' ' && character < 0x7F && !is_ascii_letter_or_digit(character);
    return find_range(bb_punctuation_ranges, bb_punctuation_range_count, character) != NULL;
}

bool bb_is_word(uint32_t character)
{
    if (character < 0x80)
        return is_ascii_letter_or_digit(character) || character == '_';
    return find_range(bb_word_ranges, bb_word_range_count, character) != NULL;
}

bool bb_is_mark(uint32_t character)
{
    return character >= 0x300 && find_range(bb_mark_ranges, bb_mark_range_count, character) != NULL;
}

bool bb_is_inert(uint32_t character)
{
    return character >= 0x300 && (find_range(bb_inert_ranges, bb_inert_range_count, character) != NULL ||
                                  bb_stand_in(character) != character);
}

uint32_t bb_stand_in(uint32_t character)
{
    if (character < bb_newer_ranges[0].first)
        return character;
    const struct bb_character_stand_in *range = find_stand_in(bb_newer_ranges, bb_newer_range_count, character);
    return range != NULL ? range->stand_in : character;
}

size_t bb_lower_case(uint32_t character, uint32_t *lower)
{
    lower[0] = character;
    if (character < 0x80) {
        if (character >= 'A' && character <= 'Z')
            lower[0] = character + 32;
        return 1;
    }
    if (character == 0x130) { /* the one character whose lower case is two */
        lower[0] = 'i';
        lower[1] = 0x307;
        return 2;
    }
    const struct bb_character_mapping *mapping = find_mapping(bb_lower_ranges, bb_lower_range_count, character);
    if (mapping != NULL && (character - mapping->first) % (uint32_t)mapping->stride == 0)
        lower[0] = (uint32_t)((int32_t)character + mapping->difference);
    return 1;
}
