/* Decoders of tokenizer.json. A sequence is laid flat into one list of steps, each of which makes new tokens of the
 * old ones. */
#include "text/decoder.h"

#include "base/memory.h"
#include "text/byte_level.h"
#include "text/unicode.h"

#include <string.h>

enum kind { BYTE_LEVEL, BYTE_FALLBACK, FUSE, REPLACE, STRIP, METASPACE, BPE_DECODER, SEQUENCE, KIND_COUNT };

static const char *const kind_names[KIND_COUNT] = {
    [BYTE_LEVEL] = "ByteLevel",
    [BYTE_FALLBACK] = "ByteFallback",
    [FUSE] = "Fuse",
    [REPLACE] = "Replace",
    [STRIP] = "Strip",
    [METASPACE] = "Metaspace",
    [BPE_DECODER] = "BPEDecoder",
    [SEQUENCE] = "Sequence",
};

struct step {
    enum kind kind;
    struct bb_regex *regex; /* of Replace, BPEDecoder and Metaspace: what is replaced */
    char *content;          /* by what; the character that Strip strips */
    size_t content_length, strip_start, strip_stop;
    bool keeps_first_space; /* Metaspace: nothing was prepended to the text */
};

struct bb_decoder {
    struct step *steps;
    size_t count;
};

void bb_decoder_free(struct bb_decoder *decoder)
{
    if (decoder == NULL)
        return;
    for (size_t i = 0; i < decoder->count; i++) {
        bb_regex_free(decoder->steps[i].regex);
        bb_release(decoder->steps[i].content);
    }
    bb_release(decoder->steps);
    bb_release(decoder);
}

bool bb_decoder_is_metaspace(const struct bb_decoder *decoder, bool *keeps_first)
{
    bool is_alone = decoder != NULL && decoder->count == 1 && decoder->steps[0].kind == METASPACE;
    *keeps_first = is_alone && decoder->steps[0].keeps_first_space;
    return is_alone;
}

void bb_decoding_clear(struct bb_decoding *decoding)
{
    bb_buffer_clear(&decoding->text);
    bb_buffer_clear(&decoding->next_text);
    bb_pieces_clear(&decoding->tokens);
    bb_pieces_clear(&decoding->next_tokens);
    bb_matcher_clear(&decoding->matcher);
}

void bb_decoding_reset(struct bb_decoding *decoding)
{
    decoding->text.length = 0;
    decoding->tokens.count = 0;
}

void bb_decoding_add(struct bb_decoding *decoding, const char *token, size_t length)
{
    size_t begin = decoding->text.length;
    bb_buffer_add(&decoding->text, token, length);
    bb_pieces_add(&decoding->tokens, (struct bb_piece){.begin = begin, .end = decoding->text.length});
}

static bombus_status read_metaspace(struct step *step, const struct bb_component *component)
{
    const char *text, *scheme = json_string_value(json_object_get(component->json, "prepend_scheme"));
    size_t length;
    bool has_prefix;
    bombus_status status = bb_component_text(component, "replacement", &text, &length);
    if (status == BOMBUS_OK && length == 0)
        status = bb_component_fail(component, "replacement", "one character");
    if (status == BOMBUS_OK)
        status = bb_component_flag(component, "add_prefix_space", true, &has_prefix);
    if (status == BOMBUS_OK)
        status = bb_regex_create(&step->regex, text, length, true, component->error);
    if (status == BOMBUS_OK)
        step->keeps_first_space = !has_prefix || (scheme != NULL && strcmp(scheme, "never") == 0);
    return status;
}

static bombus_status read_step(struct step *step, const struct bb_component *component)
{
    const char *text = NULL;
    size_t length = 0;
    bombus_status status = BOMBUS_OK;
    switch (step->kind) {
    case REPLACE:
        status = bb_component_pattern(component, &step->regex);
        if (status == BOMBUS_OK)
            status = bb_component_text(component, "content", &text, &length);
        break;
    case STRIP:
        status = bb_component_text(component, "content", &text, &length);
        if (status == BOMBUS_OK && (length == 0 || length != bb_utf8_size(text[0])))
            status = bb_component_fail(component, "content", "one character");
        if (status == BOMBUS_OK)
            status = bb_component_count(component, "start", &step->strip_start);
        if (status == BOMBUS_OK)
            status = bb_component_count(component, "stop", &step->strip_stop);
        break;
    case METASPACE: return read_metaspace(step, component);
    case BPE_DECODER:
        status = bb_component_text(component, "suffix", &text, &length);
        if (status == BOMBUS_OK)
            status = bb_regex_create(&step->regex, text, length, true, component->error);
        return status;
    default: break;
    }
    if (status != BOMBUS_OK || text == NULL)
        return status;
    step->content = bb_copy_text(text, length);
    step->content_length = length;
    return step->content != NULL ? BOMBUS_OK : bb_fail_memory(component->error, length, "a decoder");
}

static bombus_status add_step(void *context, size_t kind, const struct bb_component *component)
{
    struct bb_decoder *decoder = context;
    struct step *steps = bb_resize(decoder->steps, decoder->count + 1, sizeof *steps);
    if (steps == NULL)
        return bb_fail_memory(component->error, sizeof *steps, "a decoder");
    decoder->steps = steps;
    steps[decoder->count] = (struct step){.kind = (enum kind)kind};
    return read_step(&steps[decoder->count++], component);
}

bombus_status bb_decoder_create(struct bb_decoder **decoder, const struct bb_component *component)
{
    *decoder = NULL;
    if (component->json == NULL || json_is_null(component->json))
        return BOMBUS_OK;
    *decoder = bb_allocate(1, sizeof **decoder);
    if (*decoder == NULL)
        return bb_fail_memory(component->error, sizeof **decoder, "a decoder");
    bombus_status status = bb_component_walk(component, kind_names, KIND_COUNT, "decoders", add_step, *decoder);
    if (status != BOMBUS_OK) {
        bb_decoder_free(*decoder);
        *decoder = NULL;
    }
    return status;
}

/* All tokens become one text; those written in byte characters are bytes, others are taken as they are. */
static void apply_byte_level(struct bb_decoding *decoding)
{
    struct bb_buffer *result = &decoding->next_text;
    for (size_t i = 0; i < decoding->tokens.count; i++) {
        const char *token = decoding->text.data + decoding->tokens.items[i].begin;
        size_t length = decoding->tokens.items[i].end - decoding->tokens.items[i].begin, start = result->length;
        for (size_t j = 0; j < length;) {
            uint32_t character;
            j += bb_utf8_next(token + j, &character);
            int byte = bb_character_byte(character);
            if (byte < 0) {
                result->length = start;
                bb_buffer_add(result, token, length);
                break;
            }
            bb_buffer_add_byte(result, (char)byte);
        }
    }
    /* The bytes may be no valid text: mend it in the other buffer. */
    decoding->text.length = 0;
    bb_utf8_add_repaired(&decoding->text, result->data != NULL ? result->data : "", result->length);
    result->length = 0;
    bb_buffer_add(result, decoding->text.data != NULL ? decoding->text.data : "", decoding->text.length);
    bb_pieces_add(&decoding->next_tokens, (struct bb_piece){.end = result->length});
}

/* Adds [begin, end) of the new text as a token. */
static void add_token(struct bb_decoding *decoding, size_t begin)
{
    bb_pieces_add(&decoding->next_tokens, (struct bb_piece){.begin = begin, .end = decoding->next_text.length});
}

/* The byte of a token such as <0x41>, -1 for others. The reference takes a plus sign as the first digit too. */
static int token_byte(const char *token, size_t length)
{
    if (length != 6 || memcmp(token, "<0x", 3) != 0 || token[5] != '>')
        return -1;
    int high = token[3] == '+' ? 0 : bb_hex_digit(token[3]), low = bb_hex_digit(token[4]);
    return high >= 0 && low >= 0 ? high << 4 | low : -1;
}

/* Runs of byte tokens become text if they are valid as a whole, else one U+FFFD a byte. */
static void apply_byte_fallback(struct bb_decoding *decoding)
{
    struct bb_buffer *result = &decoding->next_text;
    size_t run = 0;   /* bytes of the run */
    size_t start = 0; /* where it began in the result */
    for (size_t i = 0; i <= decoding->tokens.count; i++) {
        const char *token = "";
        size_t length = 0;
        if (i < decoding->tokens.count) {
            token = decoding->text.data + decoding->tokens.items[i].begin;
            length = decoding->tokens.items[i].end - decoding->tokens.items[i].begin;
        }
        int byte = token_byte(token, length);
        if (byte >= 0) {
            if (run++ == 0)
                start = result->length;
            bb_buffer_add_byte(result, (char)byte);
            continue;
        }
        if (run > 0 && !result->is_failed) {
            if (bb_utf8_valid_length(result->data + start, run) < run) {
                result->length = start;
                for (size_t j = 0; j < run; j++) {
                    bb_buffer_add(result, "\xEF\xBF\xBD", 3);
                    if (j + 1 < run)
                        add_token(decoding, result->length - 3);
                }
                start = result->length - 3;
            }
            add_token(decoding, start);
            run = 0;
        }
        if (i < decoding->tokens.count) {
            size_t begin = result->length;
            bb_buffer_add(result, token, length);
            add_token(decoding, begin);
        }
    }
}

static void apply_strip(const struct step *step, struct bb_decoding *decoding)
{
    for (size_t i = 0; i < decoding->tokens.count; i++) {
        const char *token = decoding->text.data + decoding->tokens.items[i].begin;
        size_t length = decoding->tokens.items[i].end - decoding->tokens.items[i].begin, size = step->content_length;
        for (size_t j = 0; j < step->strip_start && length >= size && memcmp(token, step->content, size) == 0; j++) {
            token += size;
            length -= size;
        }
        for (size_t j = 0;
             j < step->strip_stop && length >= size && memcmp(token + length - size, step->content, size) == 0; j++)
            length -= size;
        size_t begin = decoding->next_text.length;
        bb_buffer_add(&decoding->next_text, token, length);
        add_token(decoding, begin);
    }
}

/* Replace; Metaspace and BPEDecoder, which put in a space, or nothing in the first and last token. */
static bombus_status apply_replace(const struct step *step, struct bb_decoding *decoding, bombus_error *error)
{
    for (size_t i = 0; i < decoding->tokens.count; i++) {
        const char *token = decoding->text.data + decoding->tokens.items[i].begin, *content = " ";
        size_t length = decoding->tokens.items[i].end - decoding->tokens.items[i].begin, content_length = 1, done = 0;
        size_t begin, end, start = decoding->next_text.length;
        bool is_found = length > 0;
        const char *subject = bb_regex_subject(&decoding->matcher, step->regex, token, length);
        if (subject == NULL)
            return bb_fail_memory(error, length, "decoding");
        if (step->kind == REPLACE) {
            content = step->content;
            content_length = step->content_length;
        } else if (step->kind == METASPACE ? i == 0 && !step->keeps_first_space : i + 1 == decoding->tokens.count) {
            content_length = 0;
        }
        struct bb_matches matches = bb_matches_begin(step->regex, &decoding->matcher, subject, length);
        while (is_found) {
            bombus_status status = bb_matches_next(&matches, &is_found, &begin, &end, error);
            if (status != BOMBUS_OK)
                return status;
            if (!is_found)
                break;
            bb_buffer_add(&decoding->next_text, token + done, begin - done);
            bb_buffer_add(&decoding->next_text, content, content_length);
            done = end;
        }
        bb_buffer_add(&decoding->next_text, token + done, length - done);
        add_token(decoding, start);
    }
    return BOMBUS_OK;
}

static void apply_fuse(struct bb_decoding *decoding)
{
    for (size_t i = 0; i < decoding->tokens.count; i++)
        bb_buffer_add(&decoding->next_text, decoding->text.data + decoding->tokens.items[i].begin,
                      decoding->tokens.items[i].end - decoding->tokens.items[i].begin);
    add_token(decoding, 0);
}

static bombus_status apply_step(const struct step *step, struct bb_decoding *decoding, bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    decoding->next_text.length = 0;
    decoding->next_tokens.count = 0;
    bb_buffer_reserve(&decoding->text, 0);
    if (decoding->text.is_failed)
        return bb_fail_memory(error, decoding->text.length, "decoding");
    switch (step->kind) {
    case BYTE_LEVEL: apply_byte_level(decoding); break;
    case BYTE_FALLBACK: apply_byte_fallback(decoding); break;
    case FUSE: apply_fuse(decoding); break;
    case STRIP: apply_strip(step, decoding); break;
    default: status = apply_replace(step, decoding, error); break;
    }
    struct bb_buffer text = decoding->text;
    struct bb_pieces tokens = decoding->tokens;
    decoding->text = decoding->next_text;
    decoding->tokens = decoding->next_tokens;
    decoding->next_text = text;
    decoding->next_tokens = tokens;
    return status;
}

bombus_status bb_decoder_apply(const struct bb_decoder *decoder, struct bb_decoding *decoding, struct bb_buffer *text,
                               bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    for (size_t i = 0; decoder != NULL && i < decoder->count && status == BOMBUS_OK; i++)
        status = apply_step(&decoder->steps[i], decoding, error);
    for (size_t i = 0; i < decoding->tokens.count && status == BOMBUS_OK; i++) {
        const struct bb_piece *token = &decoding->tokens.items[i];
        if (decoder == NULL && i > 0)
            bb_buffer_add_byte(text, ' ');
        if (token->end > token->begin)
            bb_buffer_add(text, decoding->text.data + token->begin, token->end - token->begin);
    }
    if (status == BOMBUS_OK && (text->is_failed || decoding->text.is_failed || decoding->next_text.is_failed ||
                                decoding->tokens.is_failed || decoding->next_tokens.is_failed))
        status = bb_fail_memory(error, decoding->text.length, "decoding");
    return status;
}
