/* Posts out of files: text by lines or paragraphs, jsonl, csv, folders. */
#include "base/file.h"
#include "base/memory.h"
#include "text/unicode.h"
#include "train/prepare.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { DEPTH_LIMIT = 32 };

static const size_t size_limit = (size_t)4 << 30;
static const char *const guesses[] = {"text", "content", "body", "post"};

struct input {
    struct bb_posts *posts;
    const char *path;
    const char *text;
    size_t length;
    bombus_error *error;
};

static void drop(const struct input *input, int64_t line, const char *message)
{
    const bombus_prepare_options *options = input->posts->options;
    input->posts->result->found++;
    input->posts->result->damaged++;
    if (options->report != NULL)
        options->report(options->context, input->path, line, message);
}

/* ---- text ---- */

/* The line at *place, which moves behind it; false at the end. */
static bool next_line(const struct input *input, size_t *place, const char **line, size_t *length)
{
    if (*place >= input->length)
        return false;
    *line = input->text + *place;
    const char *end = memchr(*line, '\n', input->length - *place);
    *length = end != NULL ? (size_t)(end - *line) : input->length - *place;
    *place += *length + 1;
    return true;
}

static bool is_blank(const char *line, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (line[i] != ' ' && line[i] != '\t' && line[i] != '\r')
            return false;
    return true;
}

/* Posts are paragraphs where blank lines part the text about as often as not: at least one for every eight lines that are not blank. */
static bool has_paragraphs(const struct input *input)
{
    const char *line;
    size_t length, place = 0, filled = 0, gaps = 0;
    bool was_filled = false;
    while (next_line(input, &place, &line, &length)) {
        bool is_filled = !is_blank(line, length);
        gaps += was_filled && !is_filled && place < input->length;
        filled += is_filled;
        was_filled = is_filled;
    }
    return gaps > 0 && gaps * 8 >= filled;
}

static bombus_status read_lines(const struct input *input)
{
    const char *line;
    size_t length, place = 0;
    bombus_status status = BOMBUS_OK;
    for (int64_t number = 1; status == BOMBUS_OK && next_line(input, &place, &line, &length); number++)
        if (!is_blank(line, length))
            status = bb_posts_add(input->posts, line, length, input->path, number, input->error);
    return status;
}

static bombus_status read_paragraphs(const struct input *input)
{
    const char *line, *begin = NULL;
    size_t length, place = 0, end = 0;
    int64_t first = 0;
    bombus_status status = BOMBUS_OK;
    for (int64_t number = 1; status == BOMBUS_OK && next_line(input, &place, &line, &length); number++) {
        bool is_filled = !is_blank(line, length);
        if (is_filled && begin == NULL) {
            begin = line;
            first = number;
        }
        if (is_filled)
            end = (size_t)(line - input->text) + length;
        if (begin == NULL || (is_filled && place < input->length))
            continue;
        status = bb_posts_add(input->posts, begin, end - (size_t)(begin - input->text), input->path, first, input->error);
        begin = NULL;
    }
    return status;
}

/* ---- jsonl ---- */

static const char *guess_field(const json_t *row)
{
    for (size_t i = 0; i < BB_COUNT(guesses); i++)
        if (json_is_string(json_object_get(row, guesses[i])))
            return guesses[i];
    return NULL;
}

static bombus_status read_jsonl(const struct input *input)
{
    const char *line, *field = input->posts->options->field;
    size_t length, place = 0;
    char message[256];
    bombus_status status = BOMBUS_OK;
    for (int64_t number = 1; status == BOMBUS_OK && next_line(input, &place, &line, &length); number++) {
        json_error_t fault;
        if (is_blank(line, length))
            continue;
        json_t *row = json_loadb(line, length, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &fault);
        field = field == NULL ? guess_field(row) : field;
        const json_t *text = json_is_string(row) ? row : field != NULL ? json_object_get(row, field) : NULL;
        if (json_is_string(text)) {
            status = bb_posts_add(input->posts, json_string_value(text), json_string_length(text), input->path, number,
                                  input->error);
        } else {
            if (row == NULL)
                snprintf(message, sizeof message, "no valid JSON: %.200s", fault.text);
            else
                snprintf(message, sizeof message, "there is no text in a field \"%.100s\"",
                         field != NULL ? field : "text, content, body or post");
            drop(input, number, message);
        }
        json_decref(row);
    }
    return status;
}

/* ---- csv ---- */

/* Reads a field into `field`; *ends_record: it was the record's last. False at the end of the text. */
static bool next_field(const struct input *input, size_t *place, int64_t *line, struct bb_buffer *field, bool *ends_record)
{
    const char *text = input->text;
    size_t i = *place;
    bool is_quoted = i < input->length && text[i] == '"';
    field->length = 0;
    bb_buffer_add(field, "", 0);
    if (i >= input->length)
        return false;
    for (i += is_quoted; i < input->length; i++) {
        if (is_quoted && text[i] == '"') {
            if (i + 1 < input->length && text[i + 1] == '"')
                i++;
            else {
                is_quoted = false;
                continue;
            }
        } else if (!is_quoted && (text[i] == ',' || text[i] == '\n')) {
            break;
        }
        *line += text[i] == '\n';
        bb_buffer_add_byte(field, text[i]);
    }
    *ends_record = i >= input->length || text[i] == '\n';
    *line += i < input->length && text[i] == '\n';
    if (*ends_record && field->length > 0 && field->data[field->length - 1] == '\r')
        field->data[--field->length] = '\0';
    *place = i + 1;
    return true;
}

/* *column from 0 of the header's fields; SIZE_MAX: none fits. *has_header: the first record is one. */
static bombus_status find_column(const struct input *input, struct bb_buffer *field, size_t *column, bool *has_header)
{
    const char *wanted = input->posts->options->column;
    char *end = NULL;
    unsigned long long number = wanted != NULL ? strtoull(wanted, &end, 10) : 0;
    size_t place = 0, count = 0, guess = SIZE_MAX;
    int64_t line = 1;
    bool ends_record = false;
    *column = SIZE_MAX;
    *has_header = false;
    for (; !ends_record && next_field(input, &place, &line, field, &ends_record) && !field->is_failed; count++) {
        for (size_t i = 0; i < BB_COUNT(guesses); i++)
            guess = guess == SIZE_MAX && strcasecmp(field->data, guesses[i]) == 0 ? count : guess;
        if (wanted != NULL && strcmp(field->data, wanted) == 0)
            *column = count;
    }
    if (field->is_failed)
        return bb_fail_memory(input->error, field->length, "a field");
    *has_header = *column != SIZE_MAX || guess != SIZE_MAX;
    if (wanted == NULL)
        *column = guess != SIZE_MAX ? guess : count == 1 ? 0 : SIZE_MAX;
    else if (*column == SIZE_MAX && number >= 1 && number <= count && *end == '\0')
        *column = (size_t)number - 1;
    if (*column != SIZE_MAX || count == 0)
        return BOMBUS_OK;
    return bb_fail(input->error, BOMBUS_ERROR_FORMAT, "%s: %s%s%s; name one of its %zu columns (--column)", input->path,
                   wanted != NULL ? "there is no column \"" : "no column is called text, content, body or post",
                   wanted != NULL ? wanted : "", wanted != NULL ? "\"" : "", count);
}

static bombus_status read_csv(const struct input *input)
{
    struct bb_buffer field = {0};
    size_t column, place = 0, index = 0;
    int64_t line = 1, first = 1;
    bool has_header, ends_record = false;
    bombus_status status = find_column(input, &field, &column, &has_header);
    for (int64_t record = 0; status == BOMBUS_OK;) {
        int64_t begin = line;
        if (!next_field(input, &place, &line, &field, &ends_record))
            break;
        first = index == 0 ? begin : first;
        bool is_blank_record = index == 0 && ends_record && field.length == 0;
        if (field.is_failed)
            status = bb_fail_memory(input->error, field.length, "a field");
        else if (index == column && !(record == 0 && has_header) && !is_blank_record)
            status = bb_posts_add(input->posts, field.data, field.length, input->path, begin, input->error);
        else if (ends_record && index < column && !(record == 0 && has_header) && !is_blank_record)
            drop(input, first, "the record has too few columns");
        record += ends_record;
        index = ends_record ? 0 : index + 1;
    }
    bb_buffer_clear(&field);
    return status;
}

/* ---- files and folders ---- */

static bool has_ending(const char *path, const char *ending)
{
    size_t length = strlen(path), size = strlen(ending);
    return length >= size && strcasecmp(path + length - size, ending) == 0;
}

static bombus_post_format format_of(const struct input *input, bool is_in_folder)
{
    if (input->posts->options->format != BOMBUS_POSTS_AUTO)
        return input->posts->options->format;
    if (has_ending(input->path, ".jsonl") || has_ending(input->path, ".ndjson"))
        return BOMBUS_POSTS_JSONL;
    if (has_ending(input->path, ".csv"))
        return BOMBUS_POSTS_CSV;
    if (is_in_folder || has_ending(input->path, ".md"))
        return BOMBUS_POSTS_FILE;
    return has_paragraphs(input) ? BOMBUS_POSTS_PARAGRAPHS : BOMBUS_POSTS_LINES;
}

static bombus_status read_file(struct bb_posts *posts, const char *path, bool is_in_folder, bombus_error *error)
{
    struct input input = {.posts = posts, .path = path, .error = error};
    char *text = NULL;
    size_t length = 0;
    bombus_status status = bb_file_read(&text, &length, path, size_limit, error);
    if (status != BOMBUS_OK)
        return status;
    bool has_mark = length >= 3 && memcmp(text, "\xEF\xBB\xBF", 3) == 0;
    input.text = text + (has_mark ? 3 : 0);
    input.length = length - (has_mark ? 3 : 0);
    if (length >= 2 && (memcmp(text, "\xFF\xFE", 2) == 0 || memcmp(text, "\xFE\xFF", 2) == 0))
        status = bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: this is UTF-16; UTF-8 was expected", path);
    else
        switch (format_of(&input, is_in_folder)) {
        case BOMBUS_POSTS_AUTO:
        case BOMBUS_POSTS_LINES: status = read_lines(&input); break;
        case BOMBUS_POSTS_PARAGRAPHS: status = read_paragraphs(&input); break;
        case BOMBUS_POSTS_JSONL: status = read_jsonl(&input); break;
        case BOMBUS_POSTS_CSV: status = read_csv(&input); break;
        case BOMBUS_POSTS_FILE: status = bb_posts_add(posts, input.text, input.length, path, 0, error); break;
        }
    bb_release(text);
    return status;
}

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

/* In order of names, so that the same folder gives the same data everywhere. */
static bombus_status read_folder(struct bb_posts *posts, const char *path, int depth, bombus_error *error)
{
    static const char *const endings[] = {".txt", ".md", ".jsonl", ".ndjson", ".csv"};
    struct dirent **entries = NULL;
    bombus_status status = BOMBUS_OK;
    if (depth > DEPTH_LIMIT)
        return bb_fail(error, BOMBUS_ERROR_LIMIT, "%s: folders are nested more than %d deep", path, DEPTH_LIMIT);
    int count = scandir(path, &entries, is_visible, by_name);
    if (count < 0)
        return bb_fail_io(error, errno, "read", path);
    for (int i = 0; i < count; i++) {
        char *inner = status == BOMBUS_OK ? bb_path_join(path, entries[i]->d_name) : NULL;
        bool is_wanted = false;
        for (size_t j = 0; j < BB_COUNT(endings); j++)
            is_wanted |= has_ending(entries[i]->d_name, endings[j]);
        if (status == BOMBUS_OK && inner == NULL)
            status = bb_fail_memory(error, strlen(path), "a path");
        else if (status == BOMBUS_OK && bb_folder_exists(inner))
            status = read_folder(posts, inner, depth + 1, error);
        else if (status == BOMBUS_OK && is_wanted)
            status = read_file(posts, inner, true, error);
        bb_release(inner);
        free(entries[i]);
    }
    free(entries);
    return status;
}

bombus_status bb_posts_read(struct bb_posts *posts, const char *path, bombus_error *error)
{
    return bb_folder_exists(path) ? read_folder(posts, path, 0, error) : read_file(posts, path, false, error);
}
