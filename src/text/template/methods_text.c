/* Methods of text that search, split and classify. */
#include "text/template/arguments.h"
#include "text/template/builder.h"
#include "text/template/list.h"
#include "text/template/methods.h"
#include "text/template/text.h"

#include <string.h>
#include <utf8proc.h>

#define METHOD(name)                                                                                                   \
    static struct bb_value name(struct bb_work *work, struct bb_value self, const struct bb_value *bound,              \
                                const struct bb_arguments *arguments)

/* The bytes of text[start:stop], Python's way; false if start is behind the end. */
static bool part_of(struct bb_work *work, const struct bb_text *text, struct bb_value start, struct bb_value stop,
                    size_t *begin, size_t *end)
{
    int64_t count = (int64_t)text->count;
    int64_t from = start.kind == BB_VALUE_NONE ? 0 : bb_require_integer(work, start, 0);
    int64_t to = stop.kind == BB_VALUE_NONE ? count : bb_require_integer(work, stop, count);
    from = from < -count ? 0 : from < 0 ? from + count : from;
    to = to < -count ? 0 : to < 0 ? to + count : to < count ? to : count;
    if (from > count || from > to || !bb_work_scan(work, text->length))
        return false;
    *begin = bb_code_offset(text, (size_t)from);
    *end = bb_code_offset(text, (size_t)to);
    return work->status == BOMBUS_OK;
}

/* ---- searching ---- */

static int64_t find_place(struct bb_work *work, struct bb_value self, const struct bb_value *bound, bool from_right)
{
    size_t begin, end;
    const struct bb_text *part = bb_require_text(work, bound[0], "must be str, not");
    if (work->status != BOMBUS_OK || !part_of(work, self.text, bound[1], bound[2], &begin, &end))
        return -1;
    size_t place = from_right ? bb_text_find_last(work, self.text, part, begin, end)
                              : bb_text_find(work, self.text, part, begin, end);
    return place == SIZE_MAX ? -1 : (int64_t)bb_code_count(self.text->bytes, place);
}

METHOD(find)
{
    (void)arguments;
    return bb_value_int(find_place(work, self, bound, false));
}
METHOD(rfind)
{
    (void)arguments;
    return bb_value_int(find_place(work, self, bound, true));
}

METHOD(index_of)
{
    (void)arguments;
    int64_t place = find_place(work, self, bound, false);
    return place >= 0 ? bb_value_int(place) : bb_raise(work, "substring not found");
}

METHOD(last_index_of)
{
    (void)arguments;
    int64_t place = find_place(work, self, bound, true);
    return place >= 0 ? bb_value_int(place) : bb_raise(work, "substring not found");
}

METHOD(count)
{
    (void)arguments;
    size_t begin, end;
    int64_t count = 0;
    const struct bb_text *part = bb_require_text(work, bound[0], "must be str, not");
    if (work->status != BOMBUS_OK || !part_of(work, self.text, bound[1], bound[2], &begin, &end))
        return bb_value_int(0);
    if (part->length == 0)
        return bb_value_int((int64_t)bb_code_count(self.text->bytes + begin, end - begin) + 1);
    for (size_t place; (place = bb_text_find(work, self.text, part, begin, end)) != SIZE_MAX;
         begin = place + part->length)
        count++;
    return bb_value_int(count);
}

static bool has_end(const struct bb_text *text, size_t begin, size_t end, const struct bb_text *part, bool at_end)
{
    return part->length <= end - begin &&
           memcmp(text->bytes + (at_end ? end - part->length : begin), part->bytes, part->length) == 0;
}

static struct bb_value test_end(struct bb_work *work, struct bb_value self, const struct bb_value *bound, bool at_end)
{
    size_t begin, end;
    const char *name = at_end ? "endswith" : "startswith";
    if (bound[0].kind != BB_VALUE_TEXT && bound[0].kind != BB_VALUE_TUPLE)
        return bb_raise(work, "%s first arg must be str or a tuple of str, not %s", name, bb_value_type_name(bound[0]));
    if (!part_of(work, self.text, bound[1], bound[2], &begin, &end))
        return bb_value_bool(false);
    if (bound[0].kind == BB_VALUE_TEXT)
        return bb_value_bool(bb_work_scan(work, bound[0].text->length) &&
                             has_end(self.text, begin, end, bound[0].text, at_end));
    for (size_t i = 0; i < bound[0].list->count && bb_work_step(work, 1); i++) {
        struct bb_value part = bound[0].list->items[i];
        if (part.kind != BB_VALUE_TEXT)
            return bb_raise(work, "tuple for %s must only contain str, not %s", name, bb_value_type_name(part));
        if (has_end(self.text, begin, end, part.text, at_end))
            return bb_value_bool(true);
    }
    return bb_value_bool(false);
}

METHOD(startswith)
{
    (void)arguments;
    return test_end(work, self, bound, false);
}
METHOD(endswith)
{
    (void)arguments;
    return test_end(work, self, bound, true);
}

METHOD(removeprefix)
{
    (void)arguments;
    const struct bb_text *part = bb_require_text(work, bound[0], "removeprefix() argument");
    size_t skip = has_end(self.text, 0, self.text->length, part, false) ? part->length : 0;
    return bb_value_part(work, self.text, skip, self.text->length);
}

METHOD(removesuffix)
{
    (void)arguments;
    const struct bb_text *part = bb_require_text(work, bound[0], "removesuffix() argument");
    size_t cut = has_end(self.text, 0, self.text->length, part, true) ? part->length : 0;
    return bb_value_part(work, self.text, 0, self.text->length - cut);
}

METHOD(replace)
{
    (void)arguments;
    const struct bb_text *old = bb_require_text(work, bound[0], "replace() argument 1");
    struct bb_value new_ = bb_text_escape_for(work, self.text, bound[1]);
    const struct bb_text *with = bb_require_text(work, new_, "replace() argument 2");
    int64_t limit = bb_require_integer(work, bound[2], -1);
    struct bb_value result = work->status == BOMBUS_OK ? bb_text_replace(work, self.text, old, with, limit) : BB_NONE;
    return self.text->is_markup ? bb_value_markup(work, result) : result;
}

/* ---- splitting ---- */

static void split_at(struct bb_work *work, const struct bb_text *text, const struct bb_text *separator, int64_t limit,
                     struct bb_list_builder *parts)
{
    size_t begin = 0, place;
    while (limit-- != 0 && (place = bb_text_find(work, text, separator, begin, text->length)) != SIZE_MAX) {
        bb_list_add(parts, bb_value_part(work, text, begin, place));
        begin = place + separator->length;
    }
    bb_list_add(parts, bb_value_part(work, text, begin, text->length));
}

static void split_at_space(struct bb_work *work, const struct bb_text *text, int64_t limit,
                           struct bb_list_builder *parts)
{
    size_t offset = 0, length;
    bb_work_scan(work, text->length);
    while (work->status == BOMBUS_OK) {
        while (offset < text->length && bb_code_is_space(bb_code_read(text->bytes + offset, &length)))
            offset += length;
        if (offset == text->length)
            return;
        size_t begin = offset;
        if (limit-- == 0) {
            bb_list_add(parts, bb_value_part(work, text, begin, text->length));
            return;
        }
        while (offset < text->length && !bb_code_is_space(bb_code_read(text->bytes + offset, &length)))
            offset += length;
        bb_list_add(parts, bb_value_part(work, text, begin, offset));
    }
}

/* From the right: the parts come last first. */
static void split_back(struct bb_work *work, const struct bb_text *text, const struct bb_text *separator, int64_t limit,
                       struct bb_list_builder *parts)
{
    size_t end = text->length, place;
    while (limit-- != 0 && (place = bb_text_find_last(work, text, separator, 0, end)) != SIZE_MAX) {
        bb_list_add(parts, bb_value_part(work, text, place + separator->length, end));
        end = place;
    }
    bb_list_add(parts, bb_value_part(work, text, 0, end));
}

static size_t skip_back(const struct bb_text *text, size_t end, bool over_space)
{
    while (end > 0) {
        size_t previous = end - 1, length;
        while (((unsigned char)text->bytes[previous] & 0xC0) == 0x80)
            previous--;
        if (bb_code_is_space(bb_code_read(text->bytes + previous, &length)) != over_space)
            break;
        end = previous;
    }
    return end;
}

static void split_back_at_space(struct bb_work *work, const struct bb_text *text, int64_t limit,
                                struct bb_list_builder *parts)
{
    bb_work_scan(work, text->length);
    for (size_t end = text->length; work->status == BOMBUS_OK;) {
        end = skip_back(text, end, true);
        if (end == 0)
            return;
        size_t begin = limit-- == 0 ? 0 : skip_back(text, end, false);
        bb_list_add(parts, bb_value_part(work, text, begin, end));
        end = begin;
    }
}

static bool split_arguments(struct bb_work *work, const struct bb_value *bound, const struct bb_text **separator,
                            int64_t *limit)
{
    bool has_separator = bound[0].kind != BB_VALUE_MISSING && bound[0].kind != BB_VALUE_NONE;
    *separator = bound[0].kind == BB_VALUE_TEXT ? bound[0].text : NULL;
    *limit = bb_require_integer(work, bound[1], -1);
    if (has_separator && *separator == NULL)
        bb_raise(work, "must be str or None, not %s", bb_value_type_name(bound[0]));
    else if (has_separator && (*separator)->length == 0)
        bb_raise(work, "empty separator");
    return work->status == BOMBUS_OK;
}

METHOD(split)
{
    (void)arguments;
    const struct bb_text *separator;
    int64_t limit;
    struct bb_list_builder parts = {.work = work};
    if (!split_arguments(work, bound, &separator, &limit))
        return BB_NONE;
    if (separator != NULL)
        split_at(work, self.text, separator, limit, &parts);
    else
        split_at_space(work, self.text, limit, &parts);
    return bb_list_finish(&parts, BB_VALUE_LIST);
}

METHOD(rsplit)
{
    (void)arguments;
    const struct bb_text *separator;
    int64_t limit;
    struct bb_list_builder parts = {.work = work};
    if (!split_arguments(work, bound, &separator, &limit))
        return BB_NONE;
    if (separator != NULL)
        split_back(work, self.text, separator, limit, &parts);
    else
        split_back_at_space(work, self.text, limit, &parts);
    for (size_t i = 0; i < parts.count / 2; i++) {
        struct bb_value swapped = parts.items[i];
        parts.items[i] = parts.items[parts.count - 1 - i];
        parts.items[parts.count - 1 - i] = swapped;
    }
    return bb_list_finish(&parts, BB_VALUE_LIST);
}

METHOD(splitlines)
{
    (void)arguments;
    return bb_text_lines(work, self.text, bound[0].kind != BB_VALUE_MISSING && bb_value_is_true(work, bound[0]));
}

static struct bb_value partition_at(struct bb_work *work, struct bb_value self, const struct bb_value *bound,
                                    bool from_right)
{
    const struct bb_text *text = self.text, *separator = bb_require_text(work, bound[0], "separator");
    if (work->status == BOMBUS_OK && separator->length == 0)
        return bb_raise(work, "empty separator");
    size_t place = from_right ? bb_text_find_last(work, text, separator, 0, text->length)
                              : bb_text_find(work, text, separator, 0, text->length);
    struct bb_value parts[3];
    size_t begin = place != SIZE_MAX ? place : from_right ? 0 : text->length;
    size_t end = place != SIZE_MAX ? place + separator->length : begin;
    parts[0] = bb_value_part(work, text, 0, begin);
    parts[1] = bb_value_part(work, text, begin, end);
    parts[2] = bb_value_part(work, text, end, text->length);
    return work->status == BOMBUS_OK ? bb_value_list(work, BB_VALUE_TUPLE, parts, 3) : BB_NONE;
}

METHOD(partition)
{
    (void)arguments;
    return partition_at(work, self, bound, false);
}
METHOD(rpartition)
{
    (void)arguments;
    return partition_at(work, self, bound, true);
}

/* ---- classifying ---- */

static bool is_category(uint32_t code, utf8proc_category_t first, utf8proc_category_t last)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)code);
    return category >= first && category <= last;
}

static bool is_letter(uint32_t code)
{
    return is_category(code, UTF8PROC_CATEGORY_LU, UTF8PROC_CATEGORY_LO);
}
static bool is_decimal(uint32_t code)
{
    return is_category(code, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_ND);
}
static bool is_numeric(uint32_t code)
{
    return is_category(code, UTF8PROC_CATEGORY_ND, UTF8PROC_CATEGORY_NO);
}

static bool is_digit(uint32_t code)
{
    return is_decimal(code) || code == 0xB2 || code == 0xB3 || code == 0xB9 || code == 0x2070 ||
           (code >= 0x2074 && code <= 0x2079) || (code >= 0x2080 && code <= 0x2089);
}

static bool is_letter_or_numeric(uint32_t code)
{
    return is_letter(code) || is_numeric(code);
}
static bool is_word(uint32_t code)
{
    return bb_code_is_word(code);
}

static struct bb_value all_are(struct bb_work *work, struct bb_value self, bool (*is_so)(uint32_t code), bool empty)
{
    const struct bb_text *text = self.text;
    if (!bb_work_scan(work, text->length * 4))
        return BB_NONE;
    for (size_t offset = 0, length; offset < text->length; offset += length)
        if (!is_so(bb_code_read(text->bytes + offset, &length)))
            return bb_value_bool(false);
    return bb_value_bool(text->length > 0 || empty);
}

METHOD(test_alnum)
{
    (void)bound;
    (void)arguments;
    return all_are(work, self, is_letter_or_numeric, false);
}
METHOD(test_alpha)
{
    (void)bound;
    (void)arguments;
    return all_are(work, self, is_letter, false);
}
METHOD(test_decimal)
{
    (void)bound;
    (void)arguments;
    return all_are(work, self, is_decimal, false);
}
METHOD(test_digit)
{
    (void)bound;
    (void)arguments;
    return all_are(work, self, is_digit, false);
}
METHOD(test_numeric)
{
    (void)bound;
    (void)arguments;
    return all_are(work, self, is_numeric, false);
}
METHOD(test_space)
{
    (void)bound;
    (void)arguments;
    return all_are(work, self, bb_code_is_space, false);
}
METHOD(test_printable)
{
    (void)bound;
    (void)arguments;
    return all_are(work, self, bb_code_is_printable, true);
}

METHOD(test_ascii)
{
    (void)work, (void)bound, (void)arguments;
    return bb_value_bool(self.text->count == self.text->length);
}

METHOD(test_identifier)
{
    (void)bound, (void)arguments;
    size_t length = 0;
    bool begins_well = self.text->length > 0 && !is_numeric(bb_code_read(self.text->bytes, &length));
    return begins_well ? all_are(work, self, is_word, false) : bb_value_bool(false);
}

METHOD(test_lower)
{
    (void)bound, (void)arguments;
    return bb_value_bool(bb_text_is_cased(work, self.text, false));
}
METHOD(test_upper)
{
    (void)bound, (void)arguments;
    return bb_value_bool(bb_text_is_cased(work, self.text, true));
}

METHOD(test_title)
{
    (void)work, (void)bound, (void)arguments;
    bool found = false, was_cased = false;
    bb_work_scan(work, self.text->length * 4);
    for (size_t offset = 0, length; offset < self.text->length; offset += length) {
        utf8proc_category_t category =
            utf8proc_category((utf8proc_int32_t)bb_code_read(self.text->bytes + offset, &length));
        bool is_upper = category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LT;
        bool is_lower = category == UTF8PROC_CATEGORY_LL;
        if ((is_upper && was_cased) || (is_lower && !was_cased))
            return bb_value_bool(false);
        was_cased = is_upper || is_lower;
        found |= was_cased;
    }
    return bb_value_bool(found);
}

const struct bb_function bb_text_search_methods[] = {
    {"find", "sub start? end?", find, {0}},
    {"rfind", "sub start? end?", rfind, {0}},
    {"index", "sub start? end?", index_of, {0}},
    {"rindex", "sub start? end?", last_index_of, {0}},
    {"count", "sub start? end?", count, {0}},
    {"startswith", "prefix start? end?", startswith, {0}},
    {"endswith", "suffix start? end?", endswith, {0}},
    {"removeprefix", "prefix", removeprefix, {0}},
    {"removesuffix", "suffix", removesuffix, {0}},
    {"replace", "old new count?", replace, {0}},
    {"split", "sep? maxsplit?", split, {0}},
    {"rsplit", "sep? maxsplit?", rsplit, {0}},
    {"splitlines", "keepends?", splitlines, {0}},
    {"partition", "sep", partition, {0}},
    {"rpartition", "sep", rpartition, {0}},
    {"isalnum", "", test_alnum, {0}},
    {"isalpha", "", test_alpha, {0}},
    {"isascii", "", test_ascii, {0}},
    {"isdecimal", "", test_decimal, {0}},
    {"isdigit", "", test_digit, {0}},
    {"isidentifier", "", test_identifier, {0}},
    {"islower", "", test_lower, {0}},
    {"isnumeric", "", test_numeric, {0}},
    {"isprintable", "", test_printable, {0}},
    {"isspace", "", test_space, {0}},
    {"istitle", "", test_title, {0}},
    {"isupper", "", test_upper, {0}},
    {NULL, NULL, NULL, {0}},
};
