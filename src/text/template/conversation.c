/* What transformers does to the variables before a chat template sees them, and to the text after.
 *
 * continue_final_message works as there: a tag is put behind the final message, and the text is cut where the tag comes out. */
#include "text/template/conversation.h"

#include "text/template/builder.h"
#include "text/template/compare.h"
#include "text/template/list.h"
#include "text/template/repr.h"
#include "text/template/text.h"

#include <string.h>

static const char tag[] = "CONTINUE_FINAL_MESSAGE_TAG ";
static const char *const reasoning_fields[] = {"reasoning_content", "thinking", "reasoning"};

static struct bb_value fail(struct bb_work *work, bombus_status status, const char *message)
{
    if (work->status == BOMBUS_OK)
        work->status = bb_fail(work->error, status, "%s", message);
    return BB_NONE;
}

/* ---- the clock ---- */

static bool read_digits(const char **c, const char *end, int count, int *number)
{
    for (*number = 0; count > 0; count--, ++*c) {
        if (*c == end || **c < '0' || **c > '9')
            return false;
        *number = *number * 10 + (**c - '0');
    }
    return true;
}

static bool read_mark(const char **c, const char *end, const char *marks)
{
    if (*c == end || **c == '\0' || strchr(marks, **c) == NULL)
        return false;
    ++*c;
    return true;
}

/* Month 13 is January of the next year. */
static int day_of_year(int year, int month, int day)
{
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365};
    bool is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return before[month - 1] + day - 1 + (month > 2 && is_leap);
}

/* Gregorian day of the week, 0: Sunday. */
static int day_of_week(int year, int month, int day)
{
    int before = year - 1;
    return (before * 365 + before / 4 - before / 100 + before / 400 + day_of_year(year, month, day) + 1) % 7;
}

/* YYYY-MM-DD[THH:MM[:SS[.ffffff]]]; a zone behind is not looked at. */
static bool read_time(struct bb_work *work, const struct bb_text *text)
{
    const char *c = text->bytes, *end = c + text->length;
    int year, month, day, hour = 0, minute = 0, second = 0, microsecond = 0;
    if (!read_digits(&c, end, 4, &year) || !read_mark(&c, end, "-") || !read_digits(&c, end, 2, &month) ||
        !read_mark(&c, end, "-") || !read_digits(&c, end, 2, &day) || year < 1 || month < 1 || month > 12 || day < 1 ||
        day_of_year(year, month, day) >= day_of_year(year, month + 1, 1))
        return false;
    if (read_mark(&c, end, "T ") &&
        (!read_digits(&c, end, 2, &hour) || !read_mark(&c, end, ":") || !read_digits(&c, end, 2, &minute)))
        return false;
    if (read_mark(&c, end, ":") && !read_digits(&c, end, 2, &second))
        return false;
    if (read_mark(&c, end, "."))
        for (int unit = 100000; c < end && *c >= '0' && *c <= '9'; c++, unit /= 10)
            microsecond += (*c - '0') * unit;
    work->now = (struct tm){.tm_year = year - 1900,
                            .tm_mon = month - 1,
                            .tm_mday = day,
                            .tm_hour = hour,
                            .tm_min = minute,
                            .tm_sec = second,
                            .tm_yday = day_of_year(year, month, day),
                            .tm_wday = day_of_week(year, month, day)};
    work->now_microsecond = microsecond;
    return hour < 24 && minute < 60 && second < 61;
}

static void set_clock(struct bb_work *work, const struct bb_value *now)
{
    if (now == NULL || now->kind == BB_VALUE_NONE) {
        struct timespec time;
        clock_gettime(CLOCK_REALTIME, &time);
        localtime_r(&time.tv_sec, &work->now);
        work->now_microsecond = (int32_t)(time.tv_nsec / 1000);
    } else if (now->kind != BB_VALUE_TEXT || !read_time(work, now->text)) {
        fail(work, BOMBUS_ERROR_FORMAT,
             "template variables: \"now\" must be an ISO 8601 time such as \"2025-03-14T09:26:53\"");
    }
}

/* ---- messages ---- */

static void copy_pairs(struct bb_work *work, struct bb_dict *to, const struct bb_dict *from)
{
    for (size_t i = 0; i < from->count && work->status == BOMBUS_OK; i++)
        bb_dict_set(work, to, from->pairs[i].key, from->pairs[i].value);
}

/* `dict` with one value set. */
static struct bb_value with_value(struct bb_work *work, const struct bb_dict *dict, const char *key,
                                  struct bb_value value)
{
    struct bb_dict *copy = bb_dict_create(work);
    struct bb_value name = bb_value_string(work, key);
    if (work->status != BOMBUS_OK)
        return BB_NONE;
    copy_pairs(work, copy, dict);
    bb_dict_set(work, copy, name, value);
    return bb_value_dict(copy);
}

/* Reasoning under any of its names is shown as reasoning_content and, unless that is there, as thinking. */
static struct bb_value name_reasoning(struct bb_work *work, struct bb_value message)
{
    const struct bb_value *reasoning = NULL;
    for (size_t i = 0; i < BB_COUNT(reasoning_fields) && (reasoning == NULL || reasoning->kind == BB_VALUE_NONE); i++)
        reasoning = bb_dict_find_string(work, message.dict, reasoning_fields[i]);
    if (reasoning == NULL || reasoning->kind == BB_VALUE_NONE)
        return message;
    struct bb_dict *named = bb_dict_create(work);
    struct bb_value thinking = bb_value_string(work, "thinking"), content = bb_value_string(work, "reasoning_content");
    if (work->status != BOMBUS_OK)
        return BB_NONE;
    bb_dict_set(work, named, thinking, *reasoning);
    copy_pairs(work, named, message.dict);
    bb_dict_set(work, named, content, *reasoning);
    return bb_value_dict(named);
}

static struct bb_value tagged(struct bb_work *work, struct bb_value text)
{
    struct bb_builder builder = {.work = work};
    bb_build_value(&builder, text);
    bb_build_string(&builder, tag);
    return bb_build_finish(&builder);
}

/* The last block of a content list that has a text gets the tag. */
static struct bb_value tag_blocks(struct bb_work *work, struct bb_value blocks, struct bb_continuation *continuation)
{
    for (size_t i = blocks.list->count; i > 0; i--) {
        struct bb_value block = blocks.list->items[i - 1];
        const struct bb_value *text =
            block.kind == BB_VALUE_DICT ? bb_dict_find_string(work, block.dict, "text") : NULL;
        if (text == NULL || text->kind != BB_VALUE_TEXT)
            continue;
        continuation->message = text->text;
        struct bb_value copy = bb_value_list(work, BB_VALUE_LIST, blocks.list->items, blocks.list->count);
        block = with_value(work, block.dict, "text", tagged(work, *text));
        if (work->status == BOMBUS_OK)
            copy.list->items[i - 1] = block;
        return copy;
    }
    return fail(work, BOMBUS_ERROR_ARGUMENT,
                "continue_final_message is set but we could not find any text to continue in the final message!");
}

static bool is_reasoning(const struct bb_text *field)
{
    for (size_t i = 0; i < BB_COUNT(reasoning_fields); i++)
        if (bb_text_equals(field, reasoning_fields[i]))
            return true;
    return false;
}

/* Puts the tag behind `field` of the message, and behind each other name of the same reasoning. */
static struct bb_value tag_message(struct bb_work *work, struct bb_value message, const struct bb_text *field,
                                   struct bb_continuation *continuation)
{
    struct bb_text source = {.bytes = work->source, .length = work->source_length};
    struct bb_value name = {.kind = BB_VALUE_TEXT, .text = field};
    const struct bb_value *final = bb_dict_find(work, message.dict, name);
    bool is_read = bb_text_find(work, &source, field, 0, source.length) != SIZE_MAX;
    if (work->status == BOMBUS_OK && (final == NULL || final->kind == BB_VALUE_NONE))
        return fail(work, BOMBUS_ERROR_ARGUMENT,
                    "continue_final_message is set but the final message has no such field to continue!");
    if (work->status != BOMBUS_OK)
        return BB_NONE;
    struct bb_value value = *final, result = message;
    if (value.kind == BB_VALUE_TEXT) {
        continuation->message = value.text;
        value = tagged(work, value);
    } else if (value.kind == BB_VALUE_LIST) {
        value = tag_blocks(work, value, continuation);
    } else {
        return fail(work, BOMBUS_ERROR_ARGUMENT, "continue_final_message is set but the final message is not text");
    }
    struct bb_dict *copy = bb_dict_create(work);
    if (work->status != BOMBUS_OK)
        return BB_NONE;
    copy_pairs(work, copy, message.dict);
    bb_dict_set(work, copy, name, value);
    for (size_t i = 0; i < BB_COUNT(reasoning_fields) && is_reasoning(field) && work->status == BOMBUS_OK; i++) {
        const struct bb_value *other = bb_dict_find_string(work, message.dict, reasoning_fields[i]);
        if (other == NULL || !bb_value_is_equal(work, *other, *final))
            continue;
        struct bb_value other_name = bb_value_string(work, reasoning_fields[i]);
        bb_dict_set(work, copy, other_name, value);
        is_read |=
            work->status == BOMBUS_OK && bb_text_find(work, &source, other_name.text, 0, source.length) != SIZE_MAX;
    }
    result = bb_value_dict(copy);
    return is_read ? result
                   : fail(work, BOMBUS_ERROR_ARGUMENT,
                          "continue_final_message is set but its field is not read by the chat template");
}

static struct bb_value prepare_messages(struct bb_work *work, struct bb_value messages, struct bb_value continue_final,
                                        struct bb_continuation *continuation)
{
    static const struct bb_text content = {.bytes = "content", .length = 7, .count = 7};
    struct bb_list_builder prepared = {.work = work};
    if (messages.kind != BB_VALUE_LIST)
        return messages;
    for (size_t i = 0; i < messages.list->count && work->status == BOMBUS_OK; i++) {
        struct bb_value message = messages.list->items[i];
        bb_list_add(&prepared, message.kind == BB_VALUE_DICT ? name_reasoning(work, message) : message);
    }
    if (work->status != BOMBUS_OK || !bb_value_is_true(work, continue_final))
        return bb_list_finish(&prepared, BB_VALUE_LIST);
    if (prepared.count == 0 || prepared.items[prepared.count - 1].kind != BB_VALUE_DICT)
        return fail(work, BOMBUS_ERROR_ARGUMENT, "continue_final_message is set but the conversation is empty!");
    struct bb_value *last = &prepared.items[prepared.count - 1];
    *last =
        tag_message(work, *last, continue_final.kind == BB_VALUE_TEXT ? continue_final.text : &content, continuation);
    return bb_list_finish(&prepared, BB_VALUE_LIST);
}

struct bb_value bb_prepare_variables(struct bb_work *work, struct bb_value variables,
                                     struct bb_continuation *continuation)
{
    static const char *const always[] = {"tools", "documents", "add_generation_prompt"};
    struct bb_dict *prepared = bb_dict_create(work);
    if (work->status != BOMBUS_OK)
        return BB_NONE;
    if (variables.kind != BB_VALUE_DICT)
        return fail(work, BOMBUS_ERROR_FORMAT, "template variables: a JSON object was expected");
    const struct bb_value *continued = bb_dict_find_string(work, variables.dict, "continue_final_message");
    const struct bb_value *prompt = bb_dict_find_string(work, variables.dict, "add_generation_prompt");
    struct bb_value continue_final = continued != NULL ? *continued : BB_NONE;
    if (bb_value_is_true(work, continue_final) && prompt != NULL && bb_value_is_true(work, *prompt))
        return fail(work, BOMBUS_ERROR_ARGUMENT, "continue_final_message and add_generation_prompt cannot both be set");
    set_clock(work, bb_dict_find_string(work, variables.dict, "now"));
    for (size_t i = 0; i < BB_COUNT(always) && work->status == BOMBUS_OK; i++)
        bb_dict_set(work, prepared, bb_value_string(work, always[i]), i < 2 ? BB_NONE : bb_value_bool(false));
    for (size_t i = 0; i < variables.dict->count && work->status == BOMBUS_OK; i++) {
        const struct bb_pair *pair = &variables.dict->pairs[i];
        const struct bb_text *name = pair->key.text;
        if (bb_text_equals(name, "messages"))
            bb_dict_set(work, prepared, pair->key, prepare_messages(work, pair->value, continue_final, continuation));
        else if (!bb_text_equals(name, "now") && !bb_text_equals(name, "continue_final_message"))
            bb_dict_set(work, prepared, pair->key, pair->value);
    }
    return bb_value_dict(prepared);
}

void bb_cut_continuation(struct bb_work *work, const struct bb_continuation *continuation, struct bb_builder *output)
{
    struct bb_text text = {.bytes = output->buffer.data, .length = output->buffer.length},
                   mark = {.bytes = tag, .length = sizeof tag - 2};
    if (work->status != BOMBUS_OK || continuation->message == NULL)
        return;
    text.bytes = text.length > 0 ? text.bytes : "";
    struct bb_value message = bb_text_strip(work, continuation->message, NULL, true, true);
    size_t place = bb_text_find_last(work, &text, &mark, 0, text.length);
    if (work->status == BOMBUS_OK &&
        (place == SIZE_MAX || bb_text_find(work, &text, message.text, 0, text.length) == SIZE_MAX))
        fail(work, BOMBUS_ERROR_TEMPLATE,
             "continue_final_message is set but the final message does not appear in the chat after applying "
             "the chat template! This can happen if the chat template deletes portions of the final message.");
    if (work->status != BOMBUS_OK)
        return;
    size_t end = place;
    if (place + sizeof tag - 1 > text.length || text.bytes[place + sizeof tag - 2] != ' ') {
        /* The template trimmed the tag's space, and so the message's own. */
        text.length = place;
        text.count = bb_code_count(text.bytes, place);
        struct bb_value trimmed = bb_text_strip(work, &text, NULL, false, true);
        end = work->status == BOMBUS_OK ? trimmed.text->length : place;
    }
    output->buffer.length = end;
    if (output->buffer.data != NULL)
        output->buffer.data[end] = '\0';
    size_t kept = 0;
    for (size_t i = 0; i < output->span_count; i++) {
        bombus_span span = output->spans[i];
        if (span.begin > end)
            continue;
        output->spans[kept++] = (bombus_span){span.begin, span.end < end ? span.end : end};
    }
    output->span_count = kept;
}
