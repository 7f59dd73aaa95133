/* Code points of UTF-8 text, and what Python says about them. */
#include "text/template/value.h"
#include "text/unicode.h"

#include <utf8proc.h>

size_t bb_code_write(char bytes[4], uint32_t code)
{
    bool is_scalar = code <= 0x10FFFF && (code < 0xD800 || code > 0xDFFF);
    return bb_utf8_encode(bytes, is_scalar ? code : 0xFFFD);
}

uint32_t bb_code_read(const char *bytes, size_t *length)
{
    uint32_t code;
    *length = bb_utf8_next(bytes, &code);
    return code;
}

size_t bb_code_count(const char *bytes, size_t length)
{
    size_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += ((unsigned char)bytes[i] & 0xC0) != 0x80;
    return count;
}

size_t bb_code_offset(const struct bb_text *text, size_t index)
{
    if (text->count == text->length || index == 0)
        return index < text->length ? index : text->length;
    size_t offset = 0;
    for (size_t i = 0; offset < text->length; offset++)
        if (((unsigned char)text->bytes[offset] & 0xC0) != 0x80 && i++ == index)
            break;
    return offset;
}

bool bb_code_is_space(uint32_t code)
{
    return (code >= 0x09 && code <= 0x0D) || (code >= 0x1C && code <= 0x20) || code == 0x85 || code == 0xA0 ||
           code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x2028 || code == 0x2029 || code == 0x202F ||
           code == 0x205F || code == 0x3000;
}

bool bb_code_is_printable(uint32_t code)
{
    if (code < 0x7F)
        return code >= 0x20;
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
    }
}

bool bb_code_is_word(uint32_t code)
{
    if (code < 0x80)
        return (code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z') || (code >= '0' && code <= '9') ||
               code == '_';
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return true;
    default: return false;
    }
}
