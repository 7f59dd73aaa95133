/* Work on text that several filters and methods share: searching, stripping, splitting, letter case, escaping. */
#include "text/template/text.h"

#include "text/template/builder.h"
#include "text/template/list.h"
#include "text/template/repr.h"

#include <string.h>
#include <utf8proc.h>

size_t bb_text_find(struct bb_work *work, const struct bb_text *text, const struct bb_text *part, size_t begin,
                    size_t end)
{
    size_t effort = end - begin, candidates = 0;
    if (part->length == 0 || begin > end || part->length > end - begin)
        return part->length == 0 && begin <= end ? begin : SIZE_MAX;
    size_t last = end - part->length;
    for (size_t i = begin; i <= last; i++) {
        const char *first = memchr(text->bytes + i, part->bytes[0], last - i + 1);
        if (first == NULL)
            break;
        i = (size_t)(first - text->bytes);
        if (memcmp(first, part->bytes, part->length) == 0)
            return bb_work_scan(work, i - begin) ? i : SIZE_MAX;
        /* Text made to match almost everywhere costs its square: count it. */
        effort += part->length;
        if (++candidates % 256 == 0 && !bb_work_scan(work, 256 * part->length))
            return SIZE_MAX;
    }
    bb_work_scan(work, effort);
    return SIZE_MAX;
}

size_t bb_text_find_last(struct bb_work *work, const struct bb_text *text, const struct bb_text *part, size_t begin,
                         size_t end)
{
    if (begin > end || part->length > end - begin)
        return SIZE_MAX;
    for (size_t i = end - part->length + 1; i-- > begin;) {
        if (part->length == 0 ||
            (text->bytes[i] == part->bytes[0] && memcmp(text->bytes + i, part->bytes, part->length) == 0))
            return bb_work_scan(work, end - i) ? i : SIZE_MAX;
        if (text->bytes[i] == part->bytes[0] && !bb_work_scan(work, part->length))
            return SIZE_MAX;
    }
    bb_work_scan(work, end - begin);
    return SIZE_MAX;
}

/* An empty `old` matches before each character and at the end. */
static struct bb_value insert_between(struct bb_work *work, const struct bb_text *text, const struct bb_text *new_,
                                      int64_t count)
{
    struct bb_builder result = {.work = work};
    size_t offset = 0, length;
    for (; offset < text->length && (count < 0 || count-- > 0) && bb_work_step(work, 1); offset += length) {
        bb_code_read(text->bytes + offset, &length);
        bb_build(&result, new_->bytes, new_->length);
        bb_build(&result, text->bytes + offset, length);
    }
    if (offset == text->length && count != 0)
        bb_build(&result, new_->bytes, new_->length);
    bb_build(&result, text->bytes + offset, text->length - offset);
    return bb_build_finish(&result);
}

struct bb_value bb_text_replace(struct bb_work *work, const struct bb_text *text, const struct bb_text *old,
                                const struct bb_text *new_, int64_t count)
{
    if (old->length == 0)
        return insert_between(work, text, new_, count);
    struct bb_builder result = {.work = work};
    size_t offset = 0;
    while (count != 0 && work->status == BOMBUS_OK) {
        size_t found = bb_text_find(work, text, old, offset, text->length);
        if (found == SIZE_MAX)
            break;
        bb_build(&result, text->bytes + offset, found - offset);
        bb_build(&result, new_->bytes, new_->length);
        offset = found + old->length;
        count -= count > 0;
    }
    bb_build(&result, text->bytes + offset, text->length - offset);
    return bb_build_finish(&result);
}

static bool is_stripped(const char *bytes, size_t length, uint32_t code, const struct bb_text *characters)
{
    if (characters == NULL)
        return bb_code_is_space(code);
    for (size_t i = 0; i + length <= characters->length; i++)
        if (memcmp(characters->bytes + i, bytes, length) == 0)
            return true;
    return false;
}

struct bb_value bb_text_strip(struct bb_work *work, const struct bb_text *text, const struct bb_text *characters,
                              bool left, bool right)
{
    size_t begin = 0, end = text->length, length;
    size_t set = characters != NULL ? characters->length : 0;
    while (left && begin < end && bb_work_scan(work, set)) {
        uint32_t code = bb_code_read(text->bytes + begin, &length);
        if (!is_stripped(text->bytes + begin, length, code, characters))
            break;
        begin += length;
    }
    while (right && end > begin && bb_work_scan(work, set)) {
        size_t previous = end - 1;
        while (((unsigned char)text->bytes[previous] & 0xC0) == 0x80)
            previous--;
        uint32_t code = bb_code_read(text->bytes + previous, &length);
        if (!is_stripped(text->bytes + previous, length, code, characters))
            break;
        end = previous;
    }
    return bb_value_part(work, text, begin, end);
}

static bool is_line_end(uint32_t code)
{
    return (code >= 0x0A && code <= 0x0D) || (code >= 0x1C && code <= 0x1E) || code == 0x85 || code == 0x2028 ||
           code == 0x2029;
}

struct bb_value bb_text_lines(struct bb_work *work, const struct bb_text *text, bool keep_ends)
{
    struct bb_list_builder lines = {.work = work};
    size_t begin = 0, offset = 0, length;
    bb_work_scan(work, text->length);
    while (offset < text->length && work->status == BOMBUS_OK) {
        uint32_t code = bb_code_read(text->bytes + offset, &length);
        size_t end = offset;
        offset += length;
        if (!is_line_end(code))
            continue;
        if (code == '\r' && offset < text->length && text->bytes[offset] == '\n')
            offset++;
        bb_list_add(&lines, bb_value_part(work, text, begin, keep_ends ? offset : end));
        begin = offset;
    }
    if (begin < text->length)
        bb_list_add(&lines, bb_value_part(work, text, begin, text->length));
    return bb_list_finish(&lines, BB_VALUE_LIST);
}

/* side < 0: text to the left (ljust), > 0: to the right, 0: in the middle, as CPython rounds it. */
struct bb_value bb_text_center(struct bb_work *work, const struct bb_text *text, int64_t width,
                               const struct bb_text *fill, int side)
{
    static const struct bb_text space = {.bytes = " ", .length = 1, .count = 1};
    int64_t count = (int64_t)text->count, padding = width > count ? width - count : 0;
    int64_t left = side < 0 ? 0 : side > 0 ? padding : padding / 2 + (padding & width & 1);
    struct bb_builder result = {.work = work};
    fill = fill != NULL ? fill : &space;
    bb_build_repeated(&result, fill, left);
    bb_build(&result, text->bytes, text->length);
    bb_build_repeated(&result, fill, padding - left);
    struct bb_value value = bb_build_finish(&result);
    return text->is_markup ? bb_value_markup(work, value) : value;
}

/* ---- letter case ---- */

/* Characters whose upper case is several; those that occur in running text (of SpecialCasing.txt). */
static const struct {
    uint32_t code;
    const char *upper, *title;
} special_cases[] = {
    {0xDF, "SS", "Ss"},
    {0x149, "\xCA\xBCN", "\xCA\xBCN"},
    {0x1F0, "J\xCC\x8C", "J\xCC\x8C"},
    {0x587, "\xD4\xB5\xD5\x92", "\xD4\xB5\xD6\x82"},
    {0xFB00, "FF", "Ff"},
    {0xFB01, "FI", "Fi"},
    {0xFB02, "FL", "Fl"},
    {0xFB03, "FFI", "Ffi"},
    {0xFB04, "FFL", "Ffl"},
    {0xFB05, "ST", "St"},
    {0xFB06, "ST", "St"},
};

static void build_upper(struct bb_builder *result, uint32_t code, bool is_title)
{
    for (size_t i = 0; code >= 0x80 && i < BB_COUNT(special_cases); i++)
        if (special_cases[i].code == code) {
            bb_build_string(result, is_title ? special_cases[i].title : special_cases[i].upper);
            return;
        }
    bb_build_code(result, (uint32_t)(is_title ? utf8proc_totitle((utf8proc_int32_t)code)
                                              : utf8proc_toupper((utf8proc_int32_t)code)));
}

static bool is_cased(uint32_t code)
{
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)code);
    return category == UTF8PROC_CATEGORY_LU || category == UTF8PROC_CATEGORY_LL || category == UTF8PROC_CATEGORY_LT;
}

/* A capital sigma at the end of a word becomes a final one. */
static bool is_final_sigma(const struct bb_text *text, size_t offset)
{
    size_t before = offset, length;
    if (before == 0)
        return false;
    do
        before--;
    while (((unsigned char)text->bytes[before] & 0xC0) == 0x80);
    if (!is_cased(bb_code_read(text->bytes + before, &length)))
        return false;
    size_t after = offset + 2;
    return after >= text->length || !is_cased(bb_code_read(text->bytes + after, &length));
}

static void build_lower(struct bb_builder *result, const struct bb_text *text, size_t offset, uint32_t code)
{
    if (code == 0x130)
        bb_build_string(result, "i\xCC\x87");
    else if (code == 0x3A3)
        bb_build_code(result, is_final_sigma(text, offset) ? 0x3C2 : 0x3C3);
    else
        bb_build_code(result, (uint32_t)utf8proc_tolower((utf8proc_int32_t)code));
}

static void build_folded(struct bb_builder *result, uint32_t code)
{
    utf8proc_int32_t codes[8];
    int boundary = 0;
    utf8proc_ssize_t count = utf8proc_decompose_char((utf8proc_int32_t)code, codes, 8, UTF8PROC_CASEFOLD, &boundary);
    for (utf8proc_ssize_t i = 0; i < count && i < 8; i++)
        bb_build_code(result, (uint32_t)codes[i]);
}

struct bb_value bb_text_case(struct bb_work *work, const struct bb_text *text, enum bb_letter_case letter_case)
{
    struct bb_builder result = {.work = work};
    bool was_cased = false;
    if (!bb_work_scan(work, text->length * 4))
        return BB_NONE;
    for (size_t offset = 0, length; offset < text->length && work->status == BOMBUS_OK; offset += length) {
        uint32_t code = bb_code_read(text->bytes + offset, &length);
        bool to_title = letter_case == BB_CASE_TITLE ? !was_cased : letter_case == BB_CASE_CAPITALIZE && offset == 0;
        if (letter_case == BB_CASE_FOLD)
            build_folded(&result, code);
        else if (letter_case == BB_CASE_UPPER || to_title)
            build_upper(&result, code, to_title);
        else if (letter_case == BB_CASE_SWAP && utf8proc_tolower((utf8proc_int32_t)code) == (utf8proc_int32_t)code)
            build_upper(&result, code, false);
        else
            build_lower(&result, text, offset, code);
        was_cased = is_cased(code);
    }
    struct bb_value value = bb_build_finish(&result);
    return text->is_markup ? bb_value_markup(work, value) : value;
}

bool bb_text_is_cased(struct bb_work *work, const struct bb_text *text, bool is_upper)
{
    bool found = false;
    if (!bb_work_scan(work, text->length * 4))
        return false;
    for (size_t offset = 0, length; offset < text->length; offset += length) {
        utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)bb_code_read(text->bytes + offset, &length));
        if (category == (is_upper ? UTF8PROC_CATEGORY_LL : UTF8PROC_CATEGORY_LU) || category == UTF8PROC_CATEGORY_LT)
            return false;
        found |= category == (is_upper ? UTF8PROC_CATEGORY_LU : UTF8PROC_CATEGORY_LL);
    }
    return found;
}

/* ---- escaping ---- */

struct bb_value bb_text_escape(struct bb_work *work, struct bb_value value)
{
    if (value.kind == BB_VALUE_TEXT && value.text->is_markup)
        return value;
    struct bb_value text = bb_value_to_text(work, value);
    struct bb_builder result = {.work = work};
    for (size_t i = 0; text.kind == BB_VALUE_TEXT && i < text.text->length && work->status == BOMBUS_OK;) {
        size_t plain = i;
        while (plain < text.text->length &&
               strchr("&<>'\"", text.text->bytes[plain] != '\0' ? text.text->bytes[plain] : ' ') == NULL)
            plain++;
        bb_build(&result, text.text->bytes + i, plain - i);
        i = plain + 1;
        if (plain == text.text->length)
            break;
        char c = text.text->bytes[plain];
        bb_build_string(&result, c == '&'    ? "&amp;"
                                 : c == '<'  ? "&lt;"
                                 : c == '>'  ? "&gt;"
                                 : c == '\'' ? "&#39;"
                                             : "&#34;");
    }
    return bb_value_markup(work, bb_build_finish(&result));
}

struct bb_value bb_text_escape_for(struct bb_work *work, const struct bb_text *text, struct bb_value part)
{
    return text->is_markup ? bb_text_escape(work, part) : part;
}
