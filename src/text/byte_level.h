/* GPT-2's way to write any byte as a visible character: printable Latin-1 stays, the others become U+0100 and up. */
#ifndef BB_BYTE_LEVEL_H
#define BB_BYTE_LEVEL_H

#include "base/buffer.h"

#include <stdint.h>
#include <string.h>

/* Bytes that stand for themselves. */
static inline bool bb_byte_is_plain(uint32_t byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

/* The character of a byte. */
static inline uint32_t bb_byte_character(uint8_t byte)
{
    if (bb_byte_is_plain(byte))
        return byte;
    /* The others are numbered in order: 0x00 to 0x20, 0x7F to 0xA0, 0xAD. */
    return 0x100 + (byte <= 0x20 ? byte : byte <= 0xA0 ? byte - 0x7F + 0x21u : 0x43u);
}

/* The byte of a character; -1 if it stands for none. */
static inline int bb_character_byte(uint32_t character)
{
    if (character < 0x100)
        return bb_byte_is_plain(character) ? (int)character : -1;
    character -= 0x100;
    if (character <= 0x20)
        return (int)character;
    if (character < 0x43)
        return (int)(character - 0x21 + 0x7F);
    return character == 0x43 ? 0xAD : -1;
}

/* The value of a hexadecimal digit, -1 of another character. */
static inline int bb_hex_digit(char letter)
{
    int lower = letter | 32;
    return letter >= '0' && letter <= '9' ? letter - '0' : lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

/* SentencePiece's tokens of bytes, as streaming takes them: 0x41 of "<0x41>", -1 of another token. */
static inline int bb_sentence_byte(const char *token, size_t length)
{
    if (length < 5 || memcmp(token, "<0x", 3) != 0 || bb_hex_digit(token[3]) < 0 || bb_hex_digit(token[4]) < 0)
        return -1;
    return bb_hex_digit(token[3]) << 4 | bb_hex_digit(token[4]);
}

/* Appends the characters of bytes. */
void bb_byte_level_add(struct bb_buffer *result, const char *bytes, size_t length);

/* Appends the bytes of characters, as streaming takes them: what stands for no byte, or for the zero byte, stays as it is. */
void bb_byte_level_add_bytes(struct bb_buffer *result, const char *text, size_t length);

#endif
