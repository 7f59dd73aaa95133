/* SentencePiece's compiled character map (normalizer "Precompiled"): base64 of a double-array trie and the texts it
 * leads to. */
#include "text/normalizer.h"

#include "base/memory.h"
#include "text/unicode.h"

#include <string.h>
#include <utf8proc.h>

enum { MAX_GRAPHEME = 6 }; /* graphemes of fewer bytes are looked up whole first */

struct bb_charsmap {
    uint32_t *units; /* [unit_count], darts-clone's double array */
    size_t unit_count;
    char *texts; /* each ends with a NUL; one more behind the last */
    size_t text_size;
};

static int base64_value(char letter)
{
    if (letter >= 'A' && letter <= 'Z')
        return letter - 'A';
    if (letter >= 'a' && letter <= 'z')
        return letter - 'a' + 26;
    if (letter >= '0' && letter <= '9')
        return letter - '0' + 52;
    return letter == '+' ? 62 : letter == '/' ? 63 : -1;
}

static bool decode_base64(struct bb_buffer *bytes, const char *text, size_t length)
{
    uint32_t bits = 0;
    int bit_count = 0;
    while (length > 0 && text[length - 1] == '=')
        length--;
    for (size_t i = 0; i < length; i++) {
        int value = base64_value(text[i]);
        if (value < 0)
            return false;
        bits = bits << 6 | (uint32_t)value;
        bit_count += 6;
        if (bit_count >= 8) {
            bit_count -= 8;
            bb_buffer_add_byte(bytes, (char)(bits >> bit_count & 0xFF));
        }
    }
    return true;
}

static uint32_t read_unit(const char *bytes)
{
    const uint8_t *p = (const uint8_t *)bytes;
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

bombus_status bb_charsmap_create(struct bb_charsmap **charsmap, const struct bb_component *component)
{
    const char *text;
    size_t length;
    struct bb_buffer bytes = {0};
    *charsmap = NULL;
    bombus_status status = bb_component_text(component, "precompiled_charsmap", &text, &length);
    if (status != BOMBUS_OK)
        return status;
    bool is_decoded = decode_base64(&bytes, text, length);
    struct bb_charsmap *map = *charsmap = bb_allocate(1, sizeof *map);
    if (bytes.is_failed || map == NULL) {
        status = bb_fail_memory(component->error, length, "a normalizer");
        goto done;
    }
    size_t trie_size = is_decoded && bytes.length >= 4 ? read_unit(bytes.data) : SIZE_MAX;
    if (trie_size % 4 != 0 || trie_size == 0 || trie_size > bytes.length - 4 ||
        bb_utf8_valid_length(bytes.data + 4 + trie_size, bytes.length - 4 - trie_size) !=
            bytes.length - 4 - trie_size) {
        status = bb_component_fail(component, "precompiled_charsmap", "base64 of a SentencePiece character map");
        goto done;
    }
    map->unit_count = trie_size / 4;
    map->text_size = bytes.length - 4 - trie_size;
    map->units = bb_allocate(map->unit_count, sizeof *map->units);
    map->texts = bb_copy_text(bytes.data + 4 + trie_size, map->text_size);
    if (map->units == NULL || map->texts == NULL) {
        status = bb_fail_memory(component->error, bytes.length, "a normalizer");
        goto done;
    }
    for (size_t i = 0; i < map->unit_count; i++)
        map->units[i] = read_unit(bytes.data + 4 + 4 * i);
done:
    bb_buffer_clear(&bytes);
    if (status != BOMBUS_OK) {
        bb_charsmap_free(*charsmap);
        *charsmap = NULL;
    }
    return status;
}

void bb_charsmap_free(struct bb_charsmap *charsmap)
{
    if (charsmap == NULL)
        return;
    bb_release(charsmap->units);
    bb_release(charsmap->texts);
    bb_release(charsmap);
}

static size_t unit_offset(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
}

/* What the shortest known beginning of `text` becomes; NULL if none is known. */
static const char *find(const struct bb_charsmap *map, const char *text, size_t length)
{
    size_t place = unit_offset(map->units[0]);
    for (size_t i = 0; i < length && text[i] != '\0'; i++) {
        uint8_t byte = (uint8_t)text[i];
        place ^= byte;
        if (place >= map->unit_count || (map->units[place] & (1u << 31 | 0xFF)) != byte)
            return NULL;
        uint32_t unit = map->units[place];
        place ^= unit_offset(unit);
        if ((unit >> 8 & 1) != 0) {
            if (place >= map->unit_count)
                return NULL;
            size_t start = map->units[place] & ~(1u << 31);
            /* A start inside a character would cut it: such a map is damaged, and the entry is ignored. */
            return start <= map->text_size && ((uint8_t)map->texts[start] & 0xC0) != 0x80 ? map->texts + start : NULL;
        }
    }
    return NULL;
}

void bb_charsmap_apply(const struct bb_charsmap *charsmap, const char *text, size_t length, struct bb_buffer *result)
{
    for (size_t begin = 0; begin < length;) {
        uint32_t previous, next;
        int32_t state = 0;
        const char *found = NULL;
        size_t end = begin + bb_utf8_next(text + begin, &previous);
        while (end < length) {
            size_t size = bb_utf8_next(text + end, &next);
            if (utf8proc_grapheme_break_stateful((int32_t)previous, (int32_t)next, &state))
                break;
            previous = next;
            end += size;
        }
        if (end - begin < MAX_GRAPHEME)
            found = find(charsmap, text + begin, end - begin);
        if (found != NULL) {
            bb_buffer_add_text(result, found);
            begin = end;
        }
        while (begin < end) {
            size_t size = bb_utf8_size(text[begin]);
            found = find(charsmap, text + begin, size);
            bb_buffer_add(result, found != NULL ? found : text + begin, found != NULL ? strlen(found) : size);
            begin += size;
        }
    }
}
