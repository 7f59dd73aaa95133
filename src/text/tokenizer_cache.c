/* Compiled copies of vocabularies.
 *
 * One file: a header, then the sections one after another, each at a multiple of 16 bytes:
 *   rest of the JSON | text | tokens | by_id | slots | merges | scores
 * The header names the source by size and hash, and carries a hash of all that follows. The records are in the
 * machine's own order; a copy of another machine or version is just not taken. Whatever the hashes say, every index
 * is checked before use. */
#include "text/tokenizer_cache.h"

#include "base/file.h"
#include "base/map.h"
#include "base/memory.h"
#include "text/unicode.h"

#include <stdio.h>
#include <string.h>

enum { SECTION_COUNT = 7, ALIGNMENT = 16, FORMAT_VERSION = 1 };
enum section { REST, TEXT, TOKENS, BY_ID, SLOTS, MERGES, SCORES };

struct header {
    char magic[8];
    uint32_t version, byte_order;
    uint64_t source_size, source_hash;
    uint64_t content_size, content_hash; /* of all behind the header */
    uint64_t sizes[SECTION_COUNT];       /* bytes */
    uint32_t unique_count, unused;
};

static const char magic[8] = {'b', 'b', 't', 'o', 'k', 'e', 'n', '\n'};

static uint64_t source_hash(const struct bb_tokenizer_source *source)
{
    return bb_hash(source->data, source->size, FORMAT_VERSION);
}

/* folder/tokenizer-HASH.cache; NULL if memory is out. */
static char *cache_path(const char *folder, uint64_t hash)
{
    char name[64];
    snprintf(name, sizeof name, "tokenizer-%016llx.cache", (unsigned long long)hash);
    return bb_path_join(folder, name);
}

static size_t padded(size_t size)
{
    return (size + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1);
}

/* Checks header and hash, and finds the sections. */
static bool find_sections(const struct bb_file_map *map, const struct bb_tokenizer_source *source,
                          struct header *header, const char **sections)
{
    size_t place = padded(sizeof *header);
    if (map->size < place)
        return false;
    memcpy(header, map->data, sizeof *header);
    if (memcmp(header->magic, magic, sizeof magic) != 0 || header->version != FORMAT_VERSION ||
        header->byte_order != 1 || header->source_size != source->size || header->source_hash != source_hash(source) ||
        header->content_size != map->size - place ||
        header->content_hash != bb_hash(map->data + place, map->size - place, FORMAT_VERSION))
        return false;
    for (int i = 0; i < SECTION_COUNT; i++) {
        if (header->sizes[i] > map->size - place || padded(header->sizes[i]) > map->size - place)
            return false;
        sections[i] = (const char *)map->data + place;
        place += padded(header->sizes[i]);
    }
    return place == map->size;
}

static bool is_power_of_two(uint64_t value)
{
    return value > 0 && (value & (value - 1)) == 0;
}

/* Every token lies in the text and has an id of the table; hash tables have a free place, or a search would never
 * end. */
static bool are_tokens_sound(const struct bb_vocabulary *vocabulary)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < vocabulary->token_count; i++) {
        const struct bb_token *token = &vocabulary->tokens[i];
        if (token->offset > vocabulary->text_size || token->length > vocabulary->text_size - token->offset ||
            token->id < -1 || (token->id >= 0 && (uint32_t)token->id >= vocabulary->id_count) ||
            bb_utf8_valid_length(vocabulary->text + token->offset, token->length) < token->length)
            return false;
        if (vocabulary->scores != NULL && token->id != (int32_t)i)
            return false;
    }
    for (uint32_t i = 0; i < vocabulary->id_count; i++)
        if (vocabulary->by_id[i] < -1 ||
            (vocabulary->by_id[i] >= 0 && (uint32_t)vocabulary->by_id[i] >= vocabulary->token_count))
            return false;
    for (uint32_t i = 0; i < vocabulary->slot_count; i++) {
        if (vocabulary->slots[i] > vocabulary->token_count)
            return false;
        used += vocabulary->slots[i] != 0;
    }
    return used < vocabulary->slot_count;
}

static bool are_merges_sound(const struct bb_vocabulary *vocabulary)
{
    uint32_t used = 0;
    for (uint32_t i = 0; i < vocabulary->merge_slot_count; i++) {
        const struct bb_merge *merge = &vocabulary->merges[i];
        if (merge->rank == UINT32_MAX)
            continue;
        used++;
        if (merge->merged >= vocabulary->id_count)
            return false;
    }
    return vocabulary->merge_slot_count == 0 || used < vocabulary->merge_slot_count;
}

static bool fill_vocabulary(struct bb_vocabulary *vocabulary, const struct header *header, const char *const *sections)
{
    const uint64_t *sizes = header->sizes;
    uint64_t token_count = sizes[TOKENS] / sizeof(struct bb_token), id_count = sizes[BY_ID] / sizeof(int32_t);
    uint64_t slot_count = sizes[SLOTS] / sizeof(uint32_t), merge_slot_count = sizes[MERGES] / sizeof(struct bb_merge);
    if (sizes[TOKENS] % sizeof(struct bb_token) != 0 || token_count > BB_MAX_TOKEN_ID ||
        id_count > BB_MAX_TOKEN_ID + UINT64_C(1) || sizes[BY_ID] % sizeof(int32_t) != 0 ||
        sizes[SLOTS] % sizeof(uint32_t) != 0 || sizes[MERGES] % sizeof(struct bb_merge) != 0 ||
        !is_power_of_two(slot_count) || slot_count > UINT32_MAX ||
        (merge_slot_count != 0 && !is_power_of_two(merge_slot_count)) || merge_slot_count > UINT32_MAX ||
        (sizes[SCORES] != 0 && sizes[SCORES] != token_count * sizeof(double)) || header->unique_count > token_count)
        return false;
    vocabulary->text = sections[TEXT];
    vocabulary->text_size = sizes[TEXT];
    vocabulary->tokens = (const struct bb_token *)(const void *)sections[TOKENS];
    vocabulary->by_id = (const int32_t *)(const void *)sections[BY_ID];
    vocabulary->slots = (const uint32_t *)(const void *)sections[SLOTS];
    vocabulary->merges = (const struct bb_merge *)(const void *)sections[MERGES];
    vocabulary->scores = sizes[SCORES] != 0 ? (const double *)(const void *)sections[SCORES] : NULL;
    vocabulary->token_count = (uint32_t)token_count;
    vocabulary->unique_count = header->unique_count;
    vocabulary->id_count = (uint32_t)id_count;
    vocabulary->slot_count = (uint32_t)slot_count;
    vocabulary->merge_slot_count = (uint32_t)merge_slot_count;
    return are_tokens_sound(vocabulary) && are_merges_sound(vocabulary);
}

bool bb_tokenizer_cache_read(const char *cache_folder, struct bb_tokenizer_source *source,
                             struct bb_vocabulary *vocabulary)
{
    struct header header;
    const char *sections[SECTION_COUNT];
    bool is_sound = false;
    *vocabulary = (struct bb_vocabulary){0};
    char *path = cache_path(cache_folder, source_hash(source));
    if (path == NULL)
        return false;
    if (bb_file_map(&vocabulary->map, path, NULL) == BOMBUS_OK)
        is_sound = find_sections(&vocabulary->map, source, &header, sections) &&
                   fill_vocabulary(vocabulary, &header, sections);
    if (is_sound) {
        bb_buffer_add(&source->rest, sections[REST], header.sizes[REST]);
        is_sound = !source->rest.is_failed;
    }
    if (!is_sound) {
        bb_vocabulary_close(vocabulary);
        bb_buffer_clear(&source->rest);
    }
    bb_release(path);
    return is_sound;
}

void bb_tokenizer_cache_write(const char *cache_folder, const struct bb_tokenizer_source *source,
                              const struct bb_vocabulary *vocabulary)
{
    const void *data[SECTION_COUNT] = {source->rest.data, vocabulary->text,   vocabulary->tokens, vocabulary->by_id,
                                       vocabulary->slots, vocabulary->merges, vocabulary->scores};
    struct header header = {
        .version = FORMAT_VERSION,
        .byte_order = 1,
        .source_size = source->size,
        .source_hash = source_hash(source),
        .sizes = {source->rest.length, vocabulary->text_size, vocabulary->token_count * sizeof(struct bb_token),
                  vocabulary->id_count * sizeof(int32_t), vocabulary->slot_count * sizeof(uint32_t),
                  vocabulary->merge_slot_count * sizeof(struct bb_merge),
                  vocabulary->scores != NULL ? vocabulary->token_count * sizeof(double) : 0},
        .unique_count = vocabulary->unique_count,
    };
    static const char zeros[ALIGNMENT];
    size_t begin = padded(sizeof header);
    struct bb_buffer file = {0};
    memcpy(header.magic, magic, sizeof magic);
    bb_buffer_add(&file, &header, sizeof header);
    bb_buffer_add(&file, zeros, begin - sizeof header);
    for (int i = 0; i < SECTION_COUNT; i++) {
        if (header.sizes[i] > 0)
            bb_buffer_add(&file, data[i], header.sizes[i]);
        bb_buffer_add(&file, zeros, padded(header.sizes[i]) - header.sizes[i]);
    }
    char *path = cache_path(cache_folder, header.source_hash);
    if (path != NULL && !file.is_failed && bb_folder_create(cache_folder, NULL) == BOMBUS_OK) {
        header.content_size = file.length - begin;
        header.content_hash = bb_hash(file.data + begin, file.length - begin, FORMAT_VERSION);
        memcpy(file.data, &header, sizeof header);
        if (bb_file_write(path, file.data, file.length, NULL) != BOMBUS_OK) {
            /* A folder that cannot be written to: the next open parses again. */
        }
    }
    bb_release(path);
    bb_buffer_clear(&file);
}
