/* The normal forms NFC, NFD, NFKC and NFKD, with utf8proc's tables.
 *
 * Only stretches outside ASCII are worked on, each with the ASCII character before it, which may carry the first mark.
 * Marks are put in order here, not by utf8proc_decompose, whose sort takes quadratic time on long runs. */
#include "text/normalizer.h"

#include "base/memory.h"
#include "text/unicode.h"

#include <string.h>
#include <utf8proc.h>

enum { MAX_DECOMPOSITION = 32 }; /* the longest is 18 characters */

static int combining_class(int32_t character)
{
    return utf8proc_get_property(character)->combining_class;
}

/* Stable insertion for short runs of marks, counting by class for long ones. */
static bool sort_marks(int32_t *marks, size_t count)
{
    if (count <= 16) {
        for (size_t i = 1; i < count; i++) {
            int32_t mark = marks[i];
            size_t place = i;
            while (place > 0 && combining_class(marks[place - 1]) > combining_class(mark)) {
                marks[place] = marks[place - 1];
                place--;
            }
            marks[place] = mark;
        }
        return true;
    }
    size_t starts[257] = {0};
    int32_t *sorted = bb_allocate(count, sizeof *sorted);
    if (sorted == NULL)
        return false;
    for (size_t i = 0; i < count; i++)
        starts[(combining_class(marks[i]) & 0xFF) + 1]++;
    for (size_t i = 1; i < 257; i++)
        starts[i] += starts[i - 1];
    for (size_t i = 0; i < count; i++)
        sorted[starts[combining_class(marks[i]) & 0xFF]++] = marks[i];
    memcpy(marks, sorted, count * sizeof *sorted);
    bb_release(sorted);
    return true;
}

static bool order_marks(int32_t *characters, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t end = i;
        while (end < count && combining_class(characters[end]) != 0)
            end++;
        if (end - i > 1 && !sort_marks(characters + i, end - i))
            return false;
        if (end > i)
            i = end - 1;
    }
    return true;
}

static bool is_composing(enum bb_normal_form form)
{
    return form == BB_NFC || form == BB_NFKC;
}

/* Appends `count` decomposed characters, in order and composed if the form wants it. */
static bool add_characters(int32_t *characters, size_t count, enum bb_normal_form form, struct bb_buffer *result)
{
    if (!order_marks(characters, count))
        return false;
    if (is_composing(form) && count > 1) {
        utf8proc_ssize_t composed =
            utf8proc_normalize_utf32(characters, (utf8proc_ssize_t)count, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        count = composed < 0 ? 0 : (size_t)composed;
    }
    if (count > SIZE_MAX / 4 || !bb_buffer_reserve(result, 4 * count))
        return false;
    for (size_t i = 0; i < count; i++)
        result->length += bb_utf8_encode(result->data + result->length, (uint32_t)characters[i]);
    result->data[result->length] = '\0';
    return true;
}

static bool reserve(struct bb_normalizer_scratch *scratch, size_t count)
{
    if (count <= scratch->character_capacity)
        return true;
    size_t capacity = count > 2 * scratch->character_capacity ? count : 2 * scratch->character_capacity;
    int32_t *characters = bb_resize(scratch->characters, capacity, sizeof *characters);
    if (characters == NULL)
        return false;
    scratch->characters = characters;
    scratch->character_capacity = capacity;
    return true;
}

static bool add_stretch(struct bb_normalizer_scratch *scratch, enum bb_normal_form form, const char *text,
                        size_t length, struct bb_buffer *result)
{
    int options = UTF8PROC_STABLE | (is_composing(form) ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) |
                  (form == BB_NFKC || form == BB_NFKD ? UTF8PROC_COMPAT : 0);
    size_t count = 0;
    int boundary = 0;
    for (size_t i = 0; i < length;) {
        uint32_t character;
        if (!reserve(scratch, count + MAX_DECOMPOSITION))
            return false;
        i += bb_utf8_next(text + i, &character);
        if (bb_is_inert(character)) { /* nothing moves over it or joins with it */
            if (!add_characters(scratch->characters, count, form, result))
                return false;
            char bytes[4];
            bb_buffer_add(result, bytes, bb_utf8_encode(bytes, character));
            count = 0;
            continue;
        }
        utf8proc_ssize_t added = utf8proc_decompose_char((int32_t)character, scratch->characters + count,
                                                         MAX_DECOMPOSITION, (utf8proc_option_t)options, &boundary);
        if (added < 0 || added > MAX_DECOMPOSITION) {
            scratch->characters[count] = (int32_t)character;
            added = 1;
        }
        count += (size_t)added;
    }
    return add_characters(scratch->characters, count, form, result);
}

static size_t ascii_length(const char *text, size_t length)
{
    size_t i = 0;
    for (uint64_t word; i + sizeof word <= length; i += sizeof word) {
        memcpy(&word, text + i, sizeof word);
        if ((word & UINT64_C(0x8080808080808080)) != 0)
            break;
    }
    while (i < length && (uint8_t)text[i] < 0x80)
        i++;
    return i;
}

bool bb_normal_form_add(struct bb_normalizer_scratch *scratch, enum bb_normal_form form, const char *text,
                        size_t length, struct bb_buffer *result)
{
    if (!bb_buffer_reserve(result, length))
        return false;
    for (size_t i = 0; i < length;) {
        size_t plain = ascii_length(text + i, length - i);
        if (plain < length - i && plain > 0)
            plain--; /* the last may carry a mark */
        bb_buffer_add(result, text + i, plain);
        i += plain;
        if (i == length)
            break;
        size_t end = i + bb_utf8_size(text[i]);
        while (end < length && (uint8_t)text[end] >= 0x80)
            end++;
        if (!add_stretch(scratch, form, text + i, end - i, result))
            return false;
        i = end;
    }
    return !result->is_failed;
}
