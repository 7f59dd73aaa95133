/* Normalizers of tokenizer.json. A sequence is laid flat into one list of steps. */
#include "text/normalizer.h"

#include "base/memory.h"
#include "text/byte_level.h"
#include "text/unicode.h"

#include <string.h>

enum kind {
    NFC,
    NFD,
    NFKC,
    NFKD,
    LOWERCASE,
    STRIP,
    STRIP_ACCENTS,
    REPLACE,
    PREPEND,
    NMT,
    BYTE_LEVEL,
    PRECOMPILED,
    SEQUENCE,
    KIND_COUNT
};

static const char *const kind_names[KIND_COUNT] = {
    [NFC] = "NFC",
    [NFD] = "NFD",
    [NFKC] = "NFKC",
    [NFKD] = "NFKD",
    [LOWERCASE] = "Lowercase",
    [STRIP] = "Strip",
    [STRIP_ACCENTS] = "StripAccents",
    [REPLACE] = "Replace",
    [PREPEND] = "Prepend",
    [NMT] = "Nmt",
    [BYTE_LEVEL] = "ByteLevel",
    [PRECOMPILED] = "Precompiled",
    [SEQUENCE] = "Sequence",
};

struct step {
    enum kind kind;
    bool strip_left, strip_right;
    struct bb_regex *regex;
    char *text; /* what Prepend prepends and Replace puts in */
    size_t text_length;
    struct bb_charsmap *charsmap;
};

struct bb_normalizer {
    struct step *steps;
    size_t count;
};

void bb_normalizer_free(struct bb_normalizer *normalizer)
{
    if (normalizer == NULL)
        return;
    for (size_t i = 0; i < normalizer->count; i++) {
        bb_regex_free(normalizer->steps[i].regex);
        bb_charsmap_free(normalizer->steps[i].charsmap);
        bb_release(normalizer->steps[i].text);
    }
    bb_release(normalizer->steps);
    bb_release(normalizer);
}

void bb_normalizer_scratch_clear(struct bb_normalizer_scratch *scratch)
{
    bb_buffer_clear(&scratch->texts[0]);
    bb_buffer_clear(&scratch->texts[1]);
    bb_release(scratch->characters);
    bb_matcher_clear(&scratch->matcher);
    *scratch = (struct bb_normalizer_scratch){0};
}

static bombus_status read_step(struct step *step, const struct bb_component *component)
{
    bombus_status status = BOMBUS_OK;
    const char *text = NULL;
    size_t length = 0;
    switch (step->kind) {
    case STRIP:
        status = bb_component_flag(component, "strip_left", true, &step->strip_left);
        if (status == BOMBUS_OK)
            status = bb_component_flag(component, "strip_right", true, &step->strip_right);
        break;
    case REPLACE:
        status = bb_component_pattern(component, &step->regex);
        if (status == BOMBUS_OK)
            status = bb_component_text(component, "content", &text, &length);
        break;
    case PREPEND: status = bb_component_text(component, "prepend", &text, &length); break;
    case PRECOMPILED: status = bb_charsmap_create(&step->charsmap, component); break;
    default: break;
    }
    if (status != BOMBUS_OK || text == NULL)
        return status;
    step->text = bb_copy_text(text, length);
    step->text_length = length;
    return step->text != NULL ? BOMBUS_OK : bb_fail_memory(component->error, length, "a normalizer");
}

static bombus_status add_step(void *context, size_t kind, const struct bb_component *component)
{
    struct bb_normalizer *normalizer = context;
    struct step *steps = bb_resize(normalizer->steps, normalizer->count + 1, sizeof *steps);
    if (steps == NULL)
        return bb_fail_memory(component->error, sizeof *steps, "a normalizer");
    normalizer->steps = steps;
    steps[normalizer->count] = (struct step){.kind = (enum kind)kind};
    return read_step(&steps[normalizer->count++], component);
}

bombus_status bb_normalizer_create(struct bb_normalizer **normalizer, const struct bb_component *component)
{
    *normalizer = NULL;
    if (component->json == NULL || json_is_null(component->json))
        return BOMBUS_OK;
    *normalizer = bb_allocate(1, sizeof **normalizer);
    if (*normalizer == NULL)
        return bb_fail_memory(component->error, sizeof **normalizer, "a normalizer");
    bombus_status status = bb_component_walk(component, kind_names, KIND_COUNT, "normalizers", add_step, *normalizer);
    if (status != BOMBUS_OK) {
        bb_normalizer_free(*normalizer);
        *normalizer = NULL;
    }
    return status;
}

static void add_character(struct bb_buffer *result, uint32_t character)
{
    char bytes[4];
    bb_buffer_add(result, bytes, bb_utf8_encode(bytes, character));
}

static void lowercase(const char *text, size_t length, struct bb_buffer *result)
{
    for (size_t i = 0; i < length;) {
        uint32_t character, lower[2];
        i += bb_utf8_next(text + i, &character);
        size_t count = bb_lower_case(character, lower);
        for (size_t j = 0; j < count; j++)
            add_character(result, lower[j]);
    }
}

/* Spaces and control characters as SentencePiece's nmt rule sees them. */
static void nmt(const char *text, size_t length, struct bb_buffer *result)
{
    for (size_t i = 0; i < length;) {
        uint32_t c;
        i += bb_utf8_next(text + i, &c);
        bool is_dropped =
            (c >= 1 && c <= 8) || c == 0xB || (c >= 0xE && c <= 0x1F) || c == 0x7F || c == 0x8F || c == 0x9F;
        bool is_space = c == 9 || c == 0xA || c == 0xC || c == 0xD || c == 0x1680 || (c >= 0x200B && c <= 0x200F) ||
                        c == 0x2028 || c == 0x2029 || c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
        if (!is_dropped)
            add_character(result, is_space ? ' ' : c);
    }
}

static void strip_accents(const char *text, size_t length, struct bb_buffer *result)
{
    for (size_t i = 0; i < length;) {
        uint32_t character;
        size_t size = bb_utf8_next(text + i, &character);
        if (!bb_is_mark(character))
            bb_buffer_add(result, text + i, size);
        i += size;
    }
}

static void strip(const struct step *step, struct bb_normalized *normalized)
{
    uint32_t character;
    while (step->strip_left && normalized->length > 0) {
        size_t size = bb_utf8_next(normalized->text, &character);
        if (!bb_is_space(character))
            break;
        normalized->text += size;
        normalized->length -= size;
        normalized->is_at_start = false;
    }
    while (step->strip_right && normalized->length > 0) {
        size_t begin = bb_utf8_previous(normalized->text, normalized->length);
        bb_utf8_next(normalized->text + begin, &character);
        if (!bb_is_space(character))
            break;
        normalized->length = begin;
    }
}

static bombus_status replace(const struct step *step, struct bb_normalizer_scratch *scratch,
                             struct bb_normalized *normalized, struct bb_buffer *result, bombus_error *error)
{
    const char *text = normalized->text;
    const char *subject = bb_regex_subject(&scratch->matcher, step->regex, text, normalized->length);
    size_t done = 0, begin, end;
    bool is_found;
    if (subject == NULL)
        return bb_fail_memory(error, normalized->length, "a normalizer");
    if (normalized->length == 0)
        return BOMBUS_OK;
    struct bb_matches matches = bb_matches_begin(step->regex, &scratch->matcher, subject, normalized->length);
    for (;;) {
        bombus_status status = bb_matches_next(&matches, &is_found, &begin, &end, error);
        if (status != BOMBUS_OK)
            return status;
        if (!is_found)
            break;
        /* What replaces several characters is counted as coming from the last of them. */
        if (begin == 0 && end > bb_utf8_size(text[0]))
            normalized->is_at_start = false;
        bb_buffer_add(result, text + done, begin - done);
        bb_buffer_add(result, step->text, step->text_length);
        done = end;
    }
    bb_buffer_add(result, text + done, normalized->length - done);
    return BOMBUS_OK;
}

static bombus_status apply_step(const struct step *step, struct bb_normalizer_scratch *scratch,
                                struct bb_normalized *normalized, struct bb_buffer *result, bombus_error *error)
{
    const char *text = normalized->text;
    size_t length = normalized->length;
    bombus_status status = BOMBUS_OK;
    switch (step->kind) {
    case NFC:
    case NFD:
    case NFKC:
    case NFKD:
        if (!bb_normal_form_add(scratch, (enum bb_normal_form)(step->kind - NFC + BB_NFC), text, length, result))
            result->is_failed = true;
        break;
    case LOWERCASE: lowercase(text, length, result); break;
    case STRIP_ACCENTS: strip_accents(text, length, result); break;
    case REPLACE: status = replace(step, scratch, normalized, result, error); break;
    case PREPEND:
        if (length > 0)
            bb_buffer_add(result, step->text, step->text_length);
        bb_buffer_add(result, text, length);
        break;
    case NMT: nmt(text, length, result); break;
    case BYTE_LEVEL: bb_byte_level_add(result, text, length); break;
    case PRECOMPILED: bb_charsmap_apply(step->charsmap, text, length, result); break;
    default: break;
    }
    if (status == BOMBUS_OK && result->is_failed)
        status = bb_fail_memory(error, length, "a normalizer");
    return status;
}

bombus_status bb_normalizer_apply(const struct bb_normalizer *normalizer, struct bb_normalizer_scratch *scratch,
                                  struct bb_normalized *normalized, bombus_error *error)
{
    size_t turn = 0;
    for (size_t i = 0; normalizer != NULL && i < normalizer->count; i++) {
        const struct step *step = &normalizer->steps[i];
        if (step->kind == STRIP) {
            strip(step, normalized);
            continue;
        }
        struct bb_buffer *result = &scratch->texts[turn]; /* the input may lie in the other one */
        turn = 1 - turn;
        result->length = 0;
        bb_buffer_reserve(result, normalized->length);
        bombus_status status = apply_step(step, scratch, normalized, result, error);
        if (status != BOMBUS_OK)
            return status;
        normalized->text = result->data;
        normalized->length = result->length;
    }
    return BOMBUS_OK;
}
