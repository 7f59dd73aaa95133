/* Pre-tokenizers of tokenizer.json. A sequence is laid flat into one list of steps. */
#include "text/pre_tokenizer.h"

#include "base/memory.h"
#include "text/byte_level.h"
#include "text/splitter.h"
#include "text/unicode.h"

#include <string.h>

enum kind { BYTE_LEVEL, METASPACE, WHITESPACE, WHITESPACE_SPLIT, DIGITS, PUNCTUATION, SPLIT, SEQUENCE, KIND_COUNT };

static const char *const kind_names[KIND_COUNT] = {
    [BYTE_LEVEL] = "ByteLevel",  [METASPACE] = "Metaspace",
    [WHITESPACE] = "Whitespace", [WHITESPACE_SPLIT] = "WhitespaceSplit",
    [DIGITS] = "Digits",         [PUNCTUATION] = "Punctuation",
    [SPLIT] = "Split",           [SEQUENCE] = "Sequence",
};

static const char *const behavior_names[BB_BEHAVIOR_COUNT] = {
    [BB_REMOVED] = "Removed",
    [BB_ISOLATED] = "Isolated",
    [BB_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
    [BB_MERGED_WITH_NEXT] = "MergedWithNext",
    [BB_CONTIGUOUS] = "Contiguous",
};

enum scheme { ALWAYS, FIRST, NEVER, SCHEME_COUNT };
static const char *const scheme_names[SCHEME_COUNT] = {[ALWAYS] = "always", [FIRST] = "first", [NEVER] = "never"};

/* GPT-2's cut, that ByteLevel makes unless told otherwise. */
static const char gpt2_regex[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

struct step {
    enum kind kind;
    enum bb_split_behavior behavior;
    enum scheme scheme;
    bool is_inverted, add_prefix_space, use_regex, individual_digits, split;
    struct bb_regex *regex;
    char replacement[8]; /* one character, and a NUL */
    size_t replacement_length;
};

struct bb_pre_tokenizer {
    struct step *steps;
    size_t count;
};

void bb_pre_tokenizer_free(struct bb_pre_tokenizer *pre_tokenizer)
{
    if (pre_tokenizer == NULL)
        return;
    for (size_t i = 0; i < pre_tokenizer->count; i++)
        bb_regex_free(pre_tokenizer->steps[i].regex);
    bb_release(pre_tokenizer->steps);
    bb_release(pre_tokenizer);
}

void bb_pre_tokenized_clear(struct bb_pre_tokenized *state)
{
    bb_buffer_clear(&state->text);
    bb_buffer_clear(&state->next_text);
    bb_pieces_clear(&state->pieces);
    bb_pieces_clear(&state->next_pieces);
    bb_matcher_clear(&state->matcher);
    *state = (struct bb_pre_tokenized){0};
}

static bombus_status read_choice(const struct bb_component *component, const char *key, const char *const *names,
                                 size_t count, size_t *choice)
{
    const char *text;
    size_t length;
    bombus_status status = bb_component_text(component, key, &text, &length);
    if (status != BOMBUS_OK)
        return status;
    for (*choice = 0; *choice < count; ++*choice)
        if (strcmp(names[*choice], text) == 0)
            return BOMBUS_OK;
    return bb_fail(component->error, BOMBUS_ERROR_UNSUPPORTED, "%s: %s: '%s' is '%.100s', which is not supported",
                   component->path, component->where, key, text);
}

static bombus_status read_behavior(const struct bb_component *component, struct step *step)
{
    size_t choice = BB_ISOLATED;
    bombus_status status = BOMBUS_OK;
    if (step->kind == SPLIT || json_object_get(component->json, "behavior") != NULL)
        status = read_choice(component, "behavior", behavior_names, BB_BEHAVIOR_COUNT, &choice);
    step->behavior = (enum bb_split_behavior)choice;
    return status;
}

static bombus_status read_metaspace(const struct bb_component *component, struct step *step)
{
    const char *text;
    size_t length, choice = ALWAYS;
    bool has_prefix = true;
    bombus_status status = bb_component_text(component, "replacement", &text, &length);
    if (status == BOMBUS_OK && (length == 0 || length != bb_utf8_size(text[0])))
        status = bb_component_fail(component, "replacement", "one character");
    if (status == BOMBUS_OK && json_object_get(component->json, "prepend_scheme") != NULL)
        status = read_choice(component, "prepend_scheme", scheme_names, SCHEME_COUNT, &choice);
    if (status == BOMBUS_OK)
        status = bb_component_flag(component, "add_prefix_space", true, &has_prefix);
    if (status == BOMBUS_OK)
        status = bb_component_flag(component, "split", true, &step->split);
    if (status != BOMBUS_OK)
        return status;
    memcpy(step->replacement, text, length);
    step->replacement_length = length;
    step->scheme = has_prefix ? (enum scheme)choice : NEVER;
    step->behavior = BB_MERGED_WITH_NEXT;
    return BOMBUS_OK;
}

static bombus_status read_step(struct step *step, const struct bb_component *component)
{
    bombus_status status = BOMBUS_OK;
    switch (step->kind) {
    case BYTE_LEVEL:
        status = bb_component_flag(component, "add_prefix_space", true, &step->add_prefix_space);
        if (status == BOMBUS_OK)
            status = bb_component_flag(component, "use_regex", true, &step->use_regex);
        if (status == BOMBUS_OK && step->use_regex)
            status = bb_regex_create(&step->regex, gpt2_regex, strlen(gpt2_regex), false, component->error);
        step->behavior = BB_ISOLATED;
        break;
    case METASPACE: status = read_metaspace(component, step); break;
    case DIGITS:
        status = bb_component_flag(component, "individual_digits", false, &step->individual_digits);
        step->behavior = step->individual_digits ? BB_ISOLATED : BB_CONTIGUOUS;
        break;
    case PUNCTUATION: status = read_behavior(component, step); break;
    case SPLIT:
        status = read_behavior(component, step);
        if (status == BOMBUS_OK)
            status = bb_component_flag(component, "invert", false, &step->is_inverted);
        if (status == BOMBUS_OK)
            status = bb_component_pattern(component, &step->regex);
        break;
    default: step->behavior = BB_REMOVED;
    }
    return status;
}

static bombus_status add_step(void *context, size_t kind, const struct bb_component *component)
{
    struct bb_pre_tokenizer *pre_tokenizer = context;
    struct step *steps = bb_resize(pre_tokenizer->steps, pre_tokenizer->count + 1, sizeof *steps);
    if (steps == NULL)
        return bb_fail_memory(component->error, sizeof *steps, "a pre-tokenizer");
    pre_tokenizer->steps = steps;
    steps[pre_tokenizer->count] = (struct step){.kind = (enum kind)kind};
    return read_step(&steps[pre_tokenizer->count++], component);
}

bombus_status bb_pre_tokenizer_create(struct bb_pre_tokenizer **pre_tokenizer, const struct bb_component *component)
{
    *pre_tokenizer = NULL;
    if (component->json == NULL || json_is_null(component->json))
        return BOMBUS_OK;
    *pre_tokenizer = bb_allocate(1, sizeof **pre_tokenizer);
    if (*pre_tokenizer == NULL)
        return bb_fail_memory(component->error, sizeof **pre_tokenizer, "a pre-tokenizer");
    bombus_status status =
        bb_component_walk(component, kind_names, KIND_COUNT, "pretokenizers", add_step, *pre_tokenizer);
    if (status != BOMBUS_OK) {
        bb_pre_tokenizer_free(*pre_tokenizer);
        *pre_tokenizer = NULL;
    }
    return status;
}

/* Splits the text of one piece at what a regular expression or literal matches. */
static bombus_status split_by_regex(const struct step *step, struct bb_splitter *splitter, struct bb_matcher *matcher,
                                    const char *subject, bombus_error *error)
{
    size_t offset = splitter->whole.begin, length = splitter->whole.end - offset, done = 0, begin, end;
    struct bb_matches matches = bb_matches_begin(step->regex, matcher, subject + offset, length);
    for (;;) {
        bool is_found;
        bombus_status status = bb_matches_next(&matches, &is_found, &begin, &end, error);
        if (status != BOMBUS_OK)
            return status;
        if (!is_found)
            break;
        if (begin != done)
            bb_splitter_add(splitter, offset + done, offset + begin, step->is_inverted);
        bb_splitter_add(splitter, offset + begin, offset + end, !step->is_inverted);
        done = end;
    }
    if (done != length)
        bb_splitter_add(splitter, offset + done, offset + length, step->is_inverted);
    return BOMBUS_OK;
}

/* 0: no delimiter; others: delimiters, of which neighbours of one kind go together for Whitespace (\w+|[^\w\s]+). */
static int character_class(const struct step *step, uint32_t character)
{
    switch (step->kind) {
    case WHITESPACE: return bb_is_word(character) ? 1 : bb_is_space(character) ? 0 : 2;
    case WHITESPACE_SPLIT: return bb_is_space(character);
    case DIGITS: return bb_is_number(character);
    case PUNCTUATION: return bb_is_punctuation(character);
    default: { /* Metaspace */
        uint32_t replacement;
        bb_utf8_next(step->replacement, &replacement);
        return character == replacement;
    }
    }
}

/* Splits the text of one piece at single characters. */
static void split_by_character(const struct step *step, struct bb_splitter *splitter, const char *text)
{
    size_t done = splitter->whole.begin, end = splitter->whole.end;
    int run_class = 0; /* of text[done, i) */
    for (size_t i = done; i < end;) {
        uint32_t character;
        size_t size = bb_utf8_next(text + i, &character);
        int class = character_class(step, character);
        bool is_whitespace = step->kind == WHITESPACE;
        if (i > done && (class != run_class || (!is_whitespace && class != 0))) {
            /* For Whitespace the words are what is kept, and what is between them is the delimiter. */
            bb_splitter_add(splitter, done, i, is_whitespace ? run_class == 0 : run_class != 0);
            done = i;
        }
        run_class = class;
        i += size;
    }
    if (done < end)
        bb_splitter_add(splitter, done, end, step->kind == WHITESPACE ? run_class == 0 : run_class != 0);
}

/* Cuts all pieces of text; the text itself stays. */
static bombus_status split_pieces(const struct step *step, struct bb_pre_tokenized *state, bombus_error *error)
{
    const char *subject = state->text.data != NULL ? state->text.data : "";
    bombus_status status = BOMBUS_OK;
    state->next_pieces.count = 0;
    if (step->regex != NULL)
        subject = bb_regex_subject(&state->matcher, step->regex, subject, state->text.length);
    if (subject == NULL)
        return bb_fail_memory(error, state->text.length, "a pre-tokenizer");
    for (size_t i = 0; i < state->pieces.count && status == BOMBUS_OK; i++) {
        struct bb_piece piece = state->pieces.items[i];
        if (piece.id >= 0) {
            bb_pieces_add(&state->next_pieces, piece);
            continue;
        }
        struct bb_splitter splitter = {.behavior = step->behavior, .result = &state->next_pieces, .whole = piece};
        if (step->regex != NULL)
            status = split_by_regex(step, &splitter, &state->matcher, subject, error);
        else
            split_by_character(step, &splitter, subject);
        bb_splitter_finish(&splitter);
    }
    struct bb_pieces pieces = state->pieces;
    state->pieces = state->next_pieces;
    state->next_pieces = pieces;
    return status;
}

static void add_metaspace(const struct step *step, struct bb_buffer *result, const char *text, size_t length,
                          bool is_at_start)
{
    bool has_prefix = text[0] == ' ' || (length >= step->replacement_length &&
                                         memcmp(text, step->replacement, step->replacement_length) == 0);
    if (!has_prefix && (step->scheme == ALWAYS || (step->scheme == FIRST && is_at_start)))
        bb_buffer_add(result, step->replacement, step->replacement_length);
    for (size_t i = 0; i < length;) {
        const char *space = memchr(text + i, ' ', length - i);
        size_t end = space != NULL ? (size_t)(space - text) : length;
        bb_buffer_add(result, text + i, end - i);
        if (space != NULL)
            bb_buffer_add(result, step->replacement, step->replacement_length);
        i = end + 1;
    }
}

enum rewriting { PREFIX_SPACE, BYTES, SPACES };

/* Writes the text of every piece anew; the cuts stay where they are. */
static void rewrite_pieces(const struct step *step, enum rewriting rewriting, struct bb_pre_tokenized *state)
{
    struct bb_buffer *result = &state->next_text;
    result->length = 0;
    bb_buffer_reserve(result, state->text.length + state->text.length / 4);
    for (size_t i = 0; i < state->pieces.count; i++) {
        struct bb_piece *piece = &state->pieces.items[i];
        const char *text = state->text.data + piece->begin;
        size_t length = piece->end - piece->begin;
        if (piece->id >= 0)
            continue;
        piece->begin = result->length;
        switch (rewriting) {
        case PREFIX_SPACE:
            if (text[0] != ' ')
                bb_buffer_add_byte(result, ' ');
            bb_buffer_add(result, text, length);
            break;
        case BYTES: bb_byte_level_add(result, text, length); break;
        case SPACES: add_metaspace(step, result, text, length, piece->is_at_start); break;
        }
        piece->end = result->length;
    }
    struct bb_buffer text = state->text;
    state->text = state->next_text;
    state->next_text = text;
}

static bombus_status apply_step(const struct step *step, struct bb_pre_tokenized *state, bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    if (step->kind == METASPACE) {
        rewrite_pieces(step, SPACES, state);
        if (step->split && !state->text.is_failed)
            status = split_pieces(step, state, error);
    } else if (step->kind == BYTE_LEVEL) {
        if (step->add_prefix_space)
            rewrite_pieces(step, PREFIX_SPACE, state);
        if (step->use_regex && !state->text.is_failed)
            status = split_pieces(step, state, error);
        if (status == BOMBUS_OK && !state->text.is_failed)
            rewrite_pieces(step, BYTES, state);
    } else {
        status = split_pieces(step, state, error);
    }
    if (status == BOMBUS_OK && (state->text.is_failed || state->pieces.is_failed))
        status = bb_fail_memory(error, state->text.length, "a pre-tokenizer");
    return status;
}

bombus_status bb_pre_tokenizer_apply(const struct bb_pre_tokenizer *pre_tokenizer, struct bb_pre_tokenized *state,
                                     bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    for (size_t i = 0; pre_tokenizer != NULL && i < pre_tokenizer->count && status == BOMBUS_OK; i++)
        if (state->pieces.count > 0)
            status = apply_step(&pre_tokenizer->steps[i], state, error);
    return status;
}
