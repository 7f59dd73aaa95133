/* Posts to training data: collected, cleaned, counted, divided, and written as jsonl. */
#include "train/prepare.h"

#include "base/file.h"
#include "base/map.h"
#include "base/memory.h"
#include "base/random.h"
#include "text/unicode.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SETS = 3 };

struct bb_post {
    size_t begin, length; /* in posts->text */
};

static const char *const file_names[SETS] = {"train.jsonl", "valid.jsonl", "test.jsonl"};

/* ---- collecting ---- */

/* The slot of an equal post, or the free one where it would stand. */
static uint32_t *find_slot(const struct bb_posts *posts, const char *text, size_t length)
{
    size_t place = (size_t)bb_hash(text, length, 0) & (posts->slot_count - 1);
    for (;; place = (place + 1) & (posts->slot_count - 1)) {
        uint32_t *slot = &posts->slots[place];
        const struct bb_post *post = *slot != 0 ? &posts->posts[*slot - 1] : NULL;
        if (post == NULL || (post->length == length && memcmp(posts->text.data + post->begin, text, length) == 0))
            return slot;
    }
}

static bombus_status grow(struct bb_posts *posts, bombus_error *error)
{
    size_t capacity = posts->capacity * 2 + 64, slot_count = 256;
    struct bb_post *grown = bb_resize(posts->posts, capacity, sizeof *grown);
    if (grown == NULL)
        return bb_fail_memory(error, capacity * sizeof *grown, "posts");
    posts->posts = grown;
    while (slot_count < capacity * 2)
        slot_count *= 2;
    uint32_t *slots = bb_allocate(slot_count, sizeof *slots);
    if (slots == NULL || capacity > UINT32_MAX / 2) {
        bb_release(slots);
        return bb_fail_memory(error, slot_count * sizeof *slots, "posts");
    }
    bb_release(posts->slots);
    posts->slots = slots;
    posts->slot_count = slot_count;
    posts->capacity = capacity;
    for (size_t i = 0; i < posts->count; i++) {
        uint32_t *slot = find_slot(posts, posts->text.data + posts->posts[i].begin, posts->posts[i].length);
        if (*slot == 0)
            *slot = (uint32_t)i + 1;
    }
    return BOMBUS_OK;
}

/* Appends the text with \n for \r\n and \r, as UTF-8. */
static bool add_mended(struct bb_posts *posts, const char *text, size_t length)
{
    struct bb_buffer *buffer = &posts->text;
    bool is_valid = bb_utf8_valid_length(text, length) == length;
    size_t begin = buffer->length, kept = begin;
    bb_utf8_add_repaired(buffer, text, length);
    if (buffer->is_failed)
        return is_valid;
    for (size_t i = begin; i < buffer->length; i++) {
        bool is_return = buffer->data[i] == '\r';
        if (is_return && i + 1 < buffer->length && buffer->data[i + 1] == '\n')
            continue;
        buffer->data[kept++] = is_return ? '\n' : buffer->data[i];
    }
    buffer->length = kept;
    return is_valid;
}

/* Trims what was appended from `begin` on, at both ends. */
static struct bb_post trim(const struct bb_buffer *buffer, size_t begin)
{
    size_t end = buffer->length, size;
    uint32_t character;
    while (begin < end) {
        size = bb_utf8_next(buffer->data + begin, &character);
        if (!bb_is_space(character) && character != 0xFEFF)
            break;
        begin += size;
    }
    while (begin < end) {
        size_t last = bb_utf8_previous(buffer->data + begin, end - begin);
        bb_utf8_next(buffer->data + begin + last, &character);
        if (!bb_is_space(character))
            break;
        end = begin + last;
    }
    return (struct bb_post){begin, end - begin};
}

static size_t count_characters(const char *text, size_t length)
{
    size_t count = 0;
    for (size_t i = 0; i < length; i++)
        count += ((uint8_t)text[i] & 0xC0) != 0x80;
    return count;
}

bombus_status bb_posts_add(struct bb_posts *posts, const char *text, size_t length, const char *file, int64_t line,
                           bombus_error *error)
{
    const bombus_prepare_options *options = posts->options;
    bombus_prepare_result *result = posts->result;
    size_t begin = posts->text.length;
    if (posts->count == posts->capacity) {
        bombus_status status = grow(posts, error);
        if (status != BOMBUS_OK)
            return status;
    }
    bool is_valid = add_mended(posts, text, length);
    if (posts->text.is_failed)
        return bb_fail_memory(error, length, "posts");
    result->found++;
    struct bb_post post = trim(&posts->text, begin);
    const char *trimmed = post.length > 0 ? posts->text.data + post.begin : "";
    size_t characters = count_characters(trimmed, post.length);
    uint32_t *slot = find_slot(posts, trimmed, post.length);
    int64_t *dropped = characters == 0                                                  ? &result->empty
                       : characters < options->min_length                               ? &result->too_short
                       : options->max_length > 0 && characters > options->max_length    ? &result->too_long
                       : *slot != 0 && !options->keep_duplicates                        ? &result->duplicates
                                                                                        : NULL;
    if (dropped != NULL) {
        ++*dropped;
        posts->text.length = begin;
        return BOMBUS_OK;
    }
    if (!is_valid) {
        result->mended++;
        if (options->report != NULL)
            options->report(options->context, file, line, "not valid UTF-8; what could not be read became U+FFFD");
    }
    posts->posts[posts->count++] = post;
    if (*slot == 0)
        *slot = (uint32_t)posts->count;
    return BOMBUS_OK;
}

void bb_posts_clear(struct bb_posts *posts)
{
    bb_buffer_clear(&posts->text);
    bb_release(posts->posts);
    bb_release(posts->slots);
    *posts = (struct bb_posts){0};
}

/* ---- writing ---- */

/* counts: rows of train, valid and test. A set that is wanted has at least one, as long as train keeps one. */
static bombus_status divide(const struct bb_posts *posts, size_t counts[SETS], bombus_error *error)
{
    const bombus_prepare_options *options = posts->options;
    double valid = options->valid_share == 0 ? 0.1 : options->valid_share < 0 ? 0 : options->valid_share;
    double test = options->test_share;
    if (!(test >= 0 && valid + test < 1))
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "shares of validation (%g) and test (%g) leave nothing to train on", valid,
                       test);
    double shares[SETS] = {0, valid, test};
    size_t left = posts->count;
    for (int set = 1; set < SETS; set++) {
        size_t count = (size_t)(shares[set] * (double)posts->count + 0.5);
        count = count == 0 && shares[set] > 0 ? 1 : count;
        counts[set] = count < left ? count : left - 1;
        left -= counts[set];
    }
    counts[0] = left;
    return BOMBUS_OK;
}

static void shuffle(struct bb_posts *posts)
{
    struct bb_random random = {.seed = posts->options->seed};
    for (size_t i = posts->count; i-- > 1;) {
        size_t j = (size_t)(bb_random_uniform(&random) * (double)(i + 1));
        struct bb_post kept = posts->posts[i];
        posts->posts[i] = posts->posts[j];
        posts->posts[j] = kept;
    }
}

static json_t *message(const char *role, json_t *content)
{
    return json_pack("{s:s, s:o}", "role", role, "content", content);
}

static bombus_status write_row(struct bb_file_writer *writer, const struct bb_posts *posts, const struct bb_post *post,
                               bombus_error *error)
{
    const bombus_prepare_options *options = posts->options;
    json_t *text = json_stringn(posts->text.data + post->begin, post->length), *row = NULL;
    if (options->prompt == NULL) {
        row = json_pack("{s:o}", "text", text);
    } else {
        json_t *messages = json_array();
        if (options->system != NULL)
            json_array_append_new(messages, message("system", json_string(options->system)));
        json_array_append_new(messages, message("user", json_string(options->prompt)));
        json_array_append_new(messages, message("assistant", text));
        row = json_pack("{s:o}", "messages", messages);
    }
    char *line = row != NULL ? json_dumps(row, 0) : NULL;
    json_decref(row);
    bombus_status status = line != NULL ? bb_file_writer_add(writer, line, strlen(line), error)
                                        : bb_fail_memory(error, post->length, "a row");
    free(line);
    return status != BOMBUS_OK ? status : bb_file_writer_add(writer, "\n", 1, error);
}

static bombus_status check_options(const bombus_prepare_options *options, bombus_error *error)
{
    const char *texts[] = {options->prompt, options->system};
    for (size_t i = 0; i < BB_COUNT(texts); i++)
        if (texts[i] != NULL && bb_utf8_valid_length(texts[i], strlen(texts[i])) != strlen(texts[i]))
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: not valid UTF-8", i == 0 ? "prompt" : "system");
    return options->system != NULL && options->prompt == NULL
               ? bb_fail(error, BOMBUS_ERROR_ARGUMENT, "system: a system message needs a prompt")
               : BOMBUS_OK;
}

static bombus_status write_sets(struct bb_posts *posts, char *const paths[SETS], const size_t counts[SETS],
                                bombus_error *error)
{
    struct bb_file_writer writers[SETS] = {0};
    bombus_status status = BOMBUS_OK;
    const struct bb_post *post = posts->posts;
    for (int set = 0; set < SETS && status == BOMBUS_OK; set++) {
        if (counts[set] == 0)
            continue;
        status = bb_file_writer_open(&writers[set], paths[set], error);
        for (size_t i = 0; i < counts[set] && status == BOMBUS_OK; i++)
            status = write_row(&writers[set], posts, post++, error);
    }
    for (int set = 0; set < SETS && status == BOMBUS_OK; set++) {
        if (counts[set] > 0)
            status = bb_file_writer_finish(&writers[set], error);
        else if (posts->options->overwrite)
            unlink(paths[set]); /* of an earlier set, which it does not belong to any more */
    }
    for (int set = 0; set < SETS; set++)
        bb_file_writer_cancel(&writers[set]);
    return status;
}

bombus_status bb_posts_write(struct bb_posts *posts, const char *folder, bombus_error *error)
{
    size_t counts[SETS] = {0};
    char *paths[SETS] = {0};
    bombus_status status = check_options(posts->options, error);
    if (status == BOMBUS_OK && posts->count == 0)
        status = bb_fail(error, BOMBUS_ERROR_NOT_FOUND, "no post is left of %lld: %lld empty, %lld too short, %lld too long, %lld damaged",
                         (long long)posts->result->found, (long long)posts->result->empty, (long long)posts->result->too_short,
                         (long long)posts->result->too_long, (long long)posts->result->damaged);
    if (status == BOMBUS_OK)
        status = divide(posts, counts, error);
    if (status == BOMBUS_OK)
        status = bb_folder_create(folder, error);
    for (int set = 0; set < SETS && status == BOMBUS_OK; set++) {
        paths[set] = bb_path_join(folder, file_names[set]);
        if (paths[set] == NULL)
            status = bb_fail_memory(error, strlen(folder), "a path");
        else if (!posts->options->overwrite && access(paths[set], F_OK) == 0)
            status = bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: is there already; choose another folder, or overwrite it (--force)",
                             paths[set]);
    }
    if (status == BOMBUS_OK && posts->options->shuffle)
        shuffle(posts);
    if (status == BOMBUS_OK)
        status = write_sets(posts, paths, counts, error);
    if (status == BOMBUS_OK) {
        posts->result->train = (int64_t)counts[0];
        posts->result->valid = (int64_t)counts[1];
        posts->result->test = (int64_t)counts[2];
    }
    for (int set = 0; set < SETS; set++)
        bb_release(paths[set]);
    return status;
}
