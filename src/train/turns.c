/* Where the assistant's turns lie in a rendered conversation. */
#include "train/turns.h"

#include "base/memory.h"

#include <string.h>

/* Two characters of the private use area around a word: no template takes it apart. */
static const char mark[] = "\xEE\x80\x80turn\xEE\x80\x81";
enum { MARK_LENGTH = sizeof mark - 1 };

struct search {
    const struct bb_renderer *renderer;
    json_t *messages;
    const json_t *tools;
    const struct bb_rendered *whole;
};

static size_t common_length(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t most = a_length < b_length ? a_length : b_length, i = 0;
    while (i < most && a[i] == b[i])
        i++;
    return i;
}

static bool begins_with(const struct bb_rendered *text, const struct bb_rendered *beginning)
{
    return beginning->length <= text->length && memcmp(text->text, beginning->text, beginning->length) == 0;
}

/* Behind the last occurrence of `part` that ends at or before `end` and begins at or after `begin`; 0 if there is none. */
static size_t find_end_of_last(const char *text, size_t begin, size_t end, const char *part, size_t length)
{
    if (length == 0 || end < length)
        return 0;
    for (size_t i = end - length + 1; i-- > begin;)
        if (memcmp(text + i, part, length) == 0)
            return i + length;
    return 0;
}

/* The first `count` messages; `marked` (SIZE_MAX: none) becomes an assistant's message that says the mark. A failure that is no lack of memory
 * leaves `rendered` empty and is none: templates may refuse what is no whole conversation. */
static bombus_status render(const struct search *search, size_t count, size_t marked, bool adds_prompt,
                            bool flips_thinking, struct bb_rendered *rendered, bombus_error *error)
{
    json_t *messages = json_array(), *message;
    size_t i;
    json_array_foreach(search->messages, i, message) {
        if (i < count && i != marked)
            json_array_append(messages, message);
        else if (i < count)
            json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "assistant", "content", mark));
    }
    struct bb_rendering rendering = {search->tools, adds_prompt, flips_thinking};
    bombus_status status = BOMBUS_ERROR_MEMORY;
    if (messages == NULL || json_array_size(messages) != count)
        status = bb_fail_memory(error, count * sizeof *messages, "messages");
    else
        status = bb_render_messages(search->renderer, messages, &rendering, rendered, error);
    json_decref(messages);
    return status == BOMBUS_ERROR_MEMORY ? status : BOMBUS_OK;
}

/* The first way. *is_found: false leaves it to the second. */
static bombus_status find_by_beginning(const struct search *search, size_t index, bombus_span *span, bool *is_found,
                                       bombus_error *error)
{
    struct bb_rendered before = {0}, after = {0};
    *is_found = false;
    if (index == 0)
        return BOMBUS_OK;
    bombus_status status = render(search, index, SIZE_MAX, true, false, &before, error);
    if (status == BOMBUS_OK && before.text != NULL && begins_with(search->whole, &before)) {
        bool is_last = index + 1 == json_array_size(search->messages);
        if (!is_last)
            status = render(search, index + 1, SIZE_MAX, false, false, &after, error);
        *is_found =
            is_last || (after.text != NULL && after.length >= before.length && begins_with(search->whole, &after));
        *span = (bombus_span){before.length, is_last ? search->whole->length : after.length};
    }
    bb_rendered_clear(&before);
    bb_rendered_clear(&after);
    return status;
}

/* Where the header ends in what was rendered with the mark at `place`: behind the last generation prompt before it. 0: none is there. */
static bombus_status find_header(const struct search *search, size_t index, const char *text, size_t begin,
                                 size_t place, size_t *header, bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    *header = 0;
    for (int flip = 0; flip < 2 && *header == 0 && status == BOMBUS_OK; flip++) {
        struct bb_rendered with = {0}, without = {0};
        status = render(search, index, SIZE_MAX, true, flip == 1, &with, error);
        if (status == BOMBUS_OK)
            status = render(search, index, SIZE_MAX, false, flip == 1, &without, error);
        if (status == BOMBUS_OK && with.text != NULL && without.text != NULL) {
            size_t common = common_length(with.text, with.length, without.text, without.length);
            *header = find_end_of_last(text, begin, place, with.text + common, with.length - common);
        }
        bb_rendered_clear(&with);
        bb_rendered_clear(&without);
    }
    return status;
}

/* How much of `behind` also ends a conversation that stops with this turn. */
static bombus_status find_ending(const struct search *search, size_t index, const char *behind, size_t length,
                                 size_t *ending, bombus_error *error)
{
    struct bb_rendered ended = {0};
    bombus_status status = render(search, index + 1, index, false, false, &ended, error);
    const char *place = ended.text != NULL ? strstr(ended.text, mark) : NULL;
    *ending = 0;
    if (place != NULL) {
        place += MARK_LENGTH;
        *ending = common_length(behind, length, place, ended.length - (size_t)(place - ended.text));
    }
    bb_rendered_clear(&ended);
    return status;
}

/* The second way; `begin` is where the turn before ended. */
static bombus_status find_by_mark(const struct search *search, size_t index, size_t begin, bombus_span *span,
                                  bool *is_found, bombus_error *error)
{
    const struct bb_rendered *whole = search->whole;
    size_t count = json_array_size(search->messages), header = 0, ending = 0;
    struct bb_rendered marked = {0};
    *is_found = false;
    bombus_status status = render(search, count, index, false, false, &marked, error);
    const char *place = status == BOMBUS_OK && marked.text != NULL ? strstr(marked.text, mark) : NULL;
    if (place == NULL || strstr(place + MARK_LENGTH, mark) != NULL)
        goto done;
    size_t before = (size_t)(place - marked.text), behind = marked.length - before - MARK_LENGTH;
    place += MARK_LENGTH;
    status = find_header(search, index, marked.text, begin, before, &header, error);
    if (status != BOMBUS_OK)
        goto done;
    header = header != 0 ? header : before;
    if (common_length(marked.text, before, whole->text, whole->length) < header || behind > whole->length - header ||
        memcmp(whole->text + whole->length - behind, place, behind) != 0)
        goto done;
    if (index + 1 == count)
        ending = behind;
    else
        status = find_ending(search, index, place, behind, &ending, error);
    *span = (bombus_span){header, whole->length - behind + ending};
    *is_found = header >= begin;
done:
    bb_rendered_clear(&marked);
    return status;
}

static bombus_status find_all(struct bb_turns *turns, const struct search *search, bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    for (size_t i = 0; i < json_array_size(search->messages) && status == BOMBUS_OK; i++) {
        const char *role = json_string_value(json_object_get(json_array_get(search->messages, i), "role"));
        size_t begin = turns->count > 0 ? turns->spans[turns->count - 1].end : 0;
        bombus_span *span = &turns->spans[turns->count];
        bool is_found = false;
        if (role == NULL || strcmp(role, "assistant") != 0)
            continue;
        status = find_by_beginning(search, i, span, &is_found, error);
        if (status == BOMBUS_OK && (!is_found || span->begin < begin))
            status = find_by_mark(search, i, begin, span, &is_found, error);
        if (status == BOMBUS_OK && !is_found)
            status = bb_fail(error, BOMBUS_ERROR_TEMPLATE,
                             "the assistant's turn in message %zu cannot be found in what the chat template writes; "
                             "learn the last turn alone (mask_history), or give the template generation blocks",
                             i + 1);
        turns->count++;
    }
    return status;
}

bombus_status bb_turns_find(struct bb_turns *turns, const struct bb_renderer *renderer, json_t *messages,
                            const json_t *tools, const struct bb_rendered *whole, bombus_error *error)
{
    struct search search = {renderer, messages, tools, whole};
    size_t capacity = json_array_size(messages) > whole->span_count ? json_array_size(messages) : whole->span_count;
    *turns = (struct bb_turns){.spans = bb_allocate(capacity, sizeof *turns->spans)};
    if (turns->spans == NULL)
        return bb_fail_memory(error, capacity * sizeof *turns->spans, "turns");
    turns->count = whole->span_count;
    if (turns->count > 0)
        memcpy(turns->spans, whole->spans, turns->count * sizeof *turns->spans);
    bombus_status status = turns->count > 0 ? BOMBUS_OK : find_all(turns, &search, error);
    if (status != BOMBUS_OK)
        bb_turns_clear(turns);
    return status;
}

void bb_turns_clear(struct bb_turns *turns)
{
    bb_release(turns->spans);
    *turns = (struct bb_turns){0};
}
