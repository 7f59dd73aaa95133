/* Lines of a jsonl file as examples. */
#include "train/dataset.h"

#include "base/file.h"
#include "base/memory.h"
#include "train/encoder.h"

#include <errno.h>
#include <string.h>

enum { DEFAULT_REPORTS = 10, PIECE = 65536 };

struct bb_line {
    uint64_t offset;
    uint32_t length, number, field_count;
    bool was_reported;
};

bombus_status bb_dataset_find(char **path, const char *data, const char *name, bombus_error *error)
{
    bool is_train = strcmp(name, "train") == 0;
    char file[32];
    *path = NULL;
    if (bb_folder_exists(data)) {
        snprintf(file, sizeof file, "%s.jsonl", name);
        *path = bb_path_join(data, file);
    } else if (!bb_file_exists(data)) {
        return bb_fail(error, BOMBUS_ERROR_NOT_FOUND,
                       "%s: no such folder: one with train.jsonl (and valid.jsonl, test.jsonl), or one jsonl file, was "
                       "expected; data sets of a hub must be downloaded first",
                       data);
    } else if (is_train) {
        *path = bb_copy_text(data, strlen(data));
    } else {
        return BOMBUS_OK;
    }
    if (*path == NULL)
        return bb_fail_memory(error, strlen(data), "a path");
    if (bb_file_exists(*path))
        return BOMBUS_OK;
    bb_release(*path);
    *path = NULL;
    return is_train ? bb_fail(error, BOMBUS_ERROR_NOT_FOUND, "%s: there is no train.jsonl in this folder", data) : BOMBUS_OK;
}

static bool note_problem(struct bb_dataset *dataset, uint32_t number, enum bb_line_problem problem, const char *message)
{
    int64_t *counters[] = {&dataset->counts.malformed, &dataset->counts.empty, &dataset->counts.truncated};
    int64_t limit = dataset->options.report_limit > 0 ? dataset->options.report_limit : DEFAULT_REPORTS;
    bool is_first = ++*counters[problem] == 1;
    if (*counters[problem] <= limit && dataset->options.report != NULL)
        dataset->options.report(dataset->options.report_context, dataset->path, number, problem, message);
    return is_first;
}

/* ---- opening ---- */

struct scan {
    struct bb_dataset *dataset;
    uint64_t offset; /* of the line */
    uint32_t number;
    bool is_too_long, has_kind;
    bombus_error first; /* what is wrong with the first malformed line */
    uint32_t first_number;
};

static bool is_blank(const struct bb_buffer *line)
{
    for (size_t i = 0; i < line->length; i++)
        if (strchr(" \t\r\n", line->data[i]) == NULL || line->data[i] == '\0')
            return false;
    return true;
}

static bombus_status keep_line(struct scan *scan, const json_t *row, bombus_error *error)
{
    struct bb_dataset *dataset = scan->dataset;
    if (dataset->count == dataset->capacity) {
        size_t capacity = dataset->capacity * 2 + 64;
        struct bb_line *lines = bb_resize(dataset->lines, capacity, sizeof *lines);
        if (lines == NULL)
            return bb_fail_memory(error, capacity * sizeof *lines, "the lines of a data file");
        dataset->lines = lines;
        dataset->capacity = capacity;
    }
    dataset->lines[dataset->count++] = (struct bb_line){.offset = scan->offset,
                                                        .length = (uint32_t)dataset->line.length,
                                                        .number = scan->number,
                                                        .field_count = (uint32_t)json_object_size(row)};
    return BOMBUS_OK;
}

/* The line is whole: judges it. */
static bombus_status take_line(struct scan *scan, bombus_error *error)
{
    struct bb_dataset *dataset = scan->dataset;
    bombus_error own = {0};
    json_t *row = NULL;
    bombus_status status = BOMBUS_OK;
    if (dataset->line.is_failed)
        return bb_fail_memory(error, dataset->line.length, "a line");
    if (!scan->is_too_long && is_blank(&dataset->line))
        return BOMBUS_OK;
    dataset->counts.lines++;
    if (scan->is_too_long)
        status = bb_fail(&own, BOMBUS_ERROR_LIMIT, "longer than %d MiB", BB_LINE_LIMIT >> 20);
    else
        status = bb_encoder_parse(&row, dataset->line.data, dataset->line.length, &own);
    if (status == BOMBUS_OK && !scan->has_kind) {
        status = bb_encoder_find_kind(dataset->encoder, row, &dataset->kind, &own);
        scan->has_kind = status == BOMBUS_OK;
    }
    if (status == BOMBUS_OK)
        status = bb_encoder_check(dataset->encoder, dataset->kind, row, &own);
    if (status == BOMBUS_OK) {
        status = keep_line(scan, row, error);
    } else {
        if (note_problem(dataset, scan->number, BB_LINE_MALFORMED, own.message)) {
            scan->first = own;
            scan->first_number = scan->number;
        }
        status = BOMBUS_OK;
    }
    json_decref(row);
    return status;
}

/* Adds bytes of a line; the byte-order mark before the first is no part of it. */
static void add_bytes(struct scan *scan, const char *bytes, size_t count)
{
    struct bb_buffer *line = &scan->dataset->line;
    if (line->length + count > BB_LINE_LIMIT)
        scan->is_too_long = true;
    else if (!scan->is_too_long)
        bb_buffer_add(line, bytes, count);
    if (scan->offset == 0 && line->length >= 3 && memcmp(line->data, "\xEF\xBB\xBF", 3) == 0) {
        memmove(line->data, line->data + 3, line->length - 3);
        line->length -= 3;
        scan->offset = 3;
    }
}

static uint64_t digest_of(uint64_t digest, const char *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++) /* FNV-1a */
        digest = (digest ^ (uint8_t)bytes[i]) * UINT64_C(0x100000001B3);
    return digest;
}

static bombus_status scan_lines(struct scan *scan, bombus_error *error)
{
    struct bb_dataset *dataset = scan->dataset;
    char piece[PIECE];
    size_t count;
    uint64_t place = 0;
    bombus_status status = BOMBUS_OK;
    dataset->digest = UINT64_C(0xCBF29CE484222325);
    scan->number = 1;
    while (status == BOMBUS_OK && (count = fread(piece, 1, sizeof piece, dataset->file)) > 0) {
        dataset->digest = digest_of(dataset->digest, piece, count);
        for (size_t begin = 0; begin < count && status == BOMBUS_OK;) {
            const char *end = memchr(piece + begin, '\n', count - begin);
            size_t length = (end != NULL ? (size_t)(end - piece) : count) - begin;
            add_bytes(scan, piece + begin, length);
            begin += length;
            if (end == NULL)
                break;
            status = take_line(scan, error);
            dataset->line.length = 0;
            scan->is_too_long = false;
            scan->offset = place + ++begin;
            scan->number++;
        }
        place += count;
    }
    if (status == BOMBUS_OK && ferror(dataset->file))
        status = bb_fail_io(error, errno, "read", dataset->path);
    return status == BOMBUS_OK && place > scan->offset ? take_line(scan, error) : status;
}

static bombus_status check_content(const struct scan *scan, bombus_error *error)
{
    const struct bb_dataset *dataset = scan->dataset;
    if (dataset->count == 0 && dataset->counts.lines == 0)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: the file is empty; lines of JSON objects were expected", dataset->path);
    if (dataset->count == 0)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: none of %lld lines can be used; line %u: %s", dataset->path,
                       (long long)dataset->counts.lines, (unsigned)scan->first_number, scan->first.message);
    if (dataset->kind == BB_ROW_TEXT && dataset->options.mask != BB_MASK_NONE)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: mask_prompt: rows of text have no prompt", dataset->path);
    if (dataset->kind != BB_ROW_TEXT && dataset->options.template_ == NULL)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                       "%s: the model has no chat template: only rows of text can be read", dataset->path);
    return BOMBUS_OK;
}

bombus_status bb_dataset_open(struct bb_dataset *dataset, const char *path, const struct bb_dataset_options *options,
                              bombus_error *error)
{
    struct scan scan = {.dataset = dataset};
    *dataset = (struct bb_dataset){0};
    if (options->max_seq_length < 2)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "max_seq_length: %d, must be at least 2", (int)options->max_seq_length);
    bombus_status status = BOMBUS_OK;
    dataset->options = *options;
    dataset->path = bb_copy_text(path, strlen(path));
    if (dataset->path == NULL)
        status = bb_fail_memory(error, strlen(path), "a path");
    if (status == BOMBUS_OK)
        status = bb_encoder_create(&dataset->encoder, &dataset->options, error);
    if (status == BOMBUS_OK && (dataset->file = fopen(path, "rb")) == NULL)
        status = bb_fail_io(error, errno, "open", path);
    if (status == BOMBUS_OK)
        status = scan_lines(&scan, error);
    if (status == BOMBUS_OK)
        status = check_content(&scan, error);
    if (status != BOMBUS_OK)
        bb_dataset_close(dataset);
    return status;
}

void bb_dataset_close(struct bb_dataset *dataset)
{
    if (dataset->file != NULL)
        fclose(dataset->file);
    bb_encoder_free(dataset->encoder);
    bb_buffer_clear(&dataset->line);
    bb_release(dataset->lines);
    bb_release(dataset->path);
    *dataset = (struct bb_dataset){0};
}

/* ---- reading ---- */

static bombus_status load_line(struct bb_dataset *dataset, const struct bb_line *line, bombus_error *error)
{
    dataset->line.length = 0;
    if (!bb_buffer_reserve(&dataset->line, line->length))
        return bb_fail_memory(error, line->length, "a line");
    if (fseeko(dataset->file, (off_t)line->offset, SEEK_SET) != 0)
        return bb_fail_io(error, errno, "read", dataset->path);
    size_t count = fread(dataset->line.data, 1, line->length, dataset->file);
    dataset->line.length = count;
    if (count == line->length)
        return BOMBUS_OK;
    return ferror(dataset->file) ? bb_fail_io(error, errno, "read", dataset->path)
                                 : bb_fail(error, BOMBUS_ERROR_IO, "%s: line %u: the file has become shorter since it was opened",
                                           dataset->path, (unsigned)line->number);
}

static bool learns(const struct bb_example *example)
{
    for (int32_t part = 0; part < example->part_count; part++) {
        const struct bb_example_part *sequence = &example->parts[part];
        bool is_found = sequence->learns_padding;
        for (int32_t i = 1; i < sequence->count && !is_found; i++)
            is_found = sequence->is_learnt[i];
        if (!is_found)
            return false;
    }
    return true;
}

bombus_status bb_dataset_read(struct bb_dataset *dataset, size_t index, struct bb_example *example, bool *is_usable,
                              bombus_error *error)
{
    struct bb_line *line = &dataset->lines[index];
    bombus_error own = {0};
    bool is_truncated = false;
    json_t *row = NULL;
    *is_usable = false;
    bombus_status status = load_line(dataset, line, error);
    if (status != BOMBUS_OK)
        return status;
    example->line = line->number;
    status = bb_encoder_parse(&row, dataset->line.data, dataset->line.length, &own);
    if (status == BOMBUS_OK) /* once more: the file may have been changed since */
        status = bb_encoder_check(dataset->encoder, dataset->kind, row, &own);
    if (status == BOMBUS_OK)
        status = bb_encoder_encode(dataset->encoder, dataset->kind, row, example, &is_truncated, &own);
    json_decref(row);
    if (status == BOMBUS_ERROR_MEMORY) {
        if (error != NULL)
            *error = own;
        return status;
    }
    enum bb_line_problem problem = status != BOMBUS_OK ? BB_LINE_MALFORMED : BB_LINE_TRUNCATED;
    *is_usable = status == BOMBUS_OK && (dataset->options.is_mlx_compatible || learns(example));
    if (status == BOMBUS_OK && !*is_usable) {
        problem = BB_LINE_EMPTY;
        (void)bb_fail(&own, BOMBUS_ERROR_FORMAT, is_truncated ? "nothing to learn is left within max_seq_length %d"
                                                              : "there is nothing to learn in it (max_seq_length %d)",
                      (int)dataset->options.max_seq_length);
    } else if (is_truncated) {
        (void)bb_fail(&own, BOMBUS_ERROR_LIMIT, "longer than max_seq_length %d", (int)dataset->options.max_seq_length);
    }
    if ((!*is_usable || is_truncated) && !line->was_reported) {
        line->was_reported = true;
        note_problem(dataset, line->number, problem, own.message);
    }
    return BOMBUS_OK;
}

void bb_example_clear(struct bb_example *example)
{
    for (size_t i = 0; i < BB_COUNT(example->parts); i++) {
        bb_release(example->parts[i].tokens);
        bb_release(example->parts[i].is_learnt);
    }
    *example = (struct bb_example){0};
}

bombus_status bb_dataset_check_learnable(struct bb_dataset *dataset, bombus_error *error)
{
    struct bb_example example = {0};
    bombus_status status = BOMBUS_OK;
    bool is_found = false;
    for (size_t i = 0; i < dataset->count && status == BOMBUS_OK && !is_found; i++) {
        bool is_usable = false;
        status = bb_dataset_read(dataset, i, &example, &is_usable, error);
        is_found = status == BOMBUS_OK && is_usable && learns(&example);
    }
    bb_example_clear(&example);
    if (status == BOMBUS_OK && !is_found)
        status = bb_fail(error, BOMBUS_ERROR_FORMAT,
                         "%s: there is nothing to learn in any of its %zu examples (max_seq_length %d)", dataset->path,
                         dataset->count, (int)dataset->options.max_seq_length);
    return status;
}

uint32_t bb_dataset_line_bytes(const struct bb_dataset *dataset, size_t index)
{
    return dataset->lines[index].length;
}

uint32_t bb_dataset_field_count(const struct bb_dataset *dataset, size_t index)
{
    return dataset->lines[index].field_count;
}
