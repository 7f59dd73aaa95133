/* The text of tokenizer.json, taken apart. */
#include "text/tokenizer_source.h"

#include "base/file.h"
#include "base/memory.h"
#include "text/json_text.h"
#include "text/unicode.h"

#include <string.h>

enum { FILE_LIMIT = 1 << 30 };

bombus_status bb_tokenizer_source_open(struct bb_tokenizer_source *source, const char *path, bombus_error *error)
{
    *source = (struct bb_tokenizer_source){0};
    return bb_file_read(&source->data, &source->size, path, FILE_LIMIT, error);
}

void bb_tokenizer_source_close(struct bb_tokenizer_source *source)
{
    bb_release(source->data);
    bb_buffer_clear(&source->rest);
    *source = (struct bb_tokenizer_source){0};
}

/* Goes to the value of `key` in the object that comes next; false if there is none. Leaves the cursor behind the
 * object. A repeated key would let the two readers of the file disagree: then *is_sound is false, as it is for
 * damaged text. */
static bool find_member(struct bb_json_cursor *cursor, const char *key, struct bb_json_text *value, bool *is_sound)
{
    bool is_found = false;
    *is_sound = bb_json_take(cursor, '{');
    if (!*is_sound || bb_json_take(cursor, '}'))
        return false;
    do {
        const char *name;
        size_t length;
        *is_sound = bb_json_skip_string(cursor, &name, &length) && bb_json_take(cursor, ':');
        if (!*is_sound)
            return false;
        bb_json_skip_space(cursor);
        const char *begin = cursor->next;
        *is_sound = bb_json_skip_value(cursor);
        if (!*is_sound)
            return false;
        if (length == strlen(key) && memcmp(name, key, length) == 0) {
            *is_sound = !is_found;
            *value = (struct bb_json_text){begin, (size_t)(cursor->next - begin)};
            is_found = true;
        }
    } while (*is_sound && bb_json_take(cursor, ','));
    *is_sound = *is_sound && bb_json_take(cursor, '}');
    return *is_sound && is_found;
}

static void add_rest(struct bb_tokenizer_source *source)
{
    const struct bb_json_text *first = &source->vocab, *second = &source->merges;
    const char *done = source->data, *end = source->data + source->size;
    if (first->text == NULL || (second->text != NULL && second->text < first->text)) {
        first = &source->merges;
        second = &source->vocab;
    }
    for (int i = 0; i < 2; i++) {
        const struct bb_json_text *value = i == 0 ? first : second;
        if (value->text == NULL)
            continue;
        bb_buffer_add(&source->rest, done, (size_t)(value->text - done));
        bb_buffer_add_text(&source->rest, "null");
        done = value->text + value->length;
    }
    bb_buffer_add(&source->rest, done, (size_t)(end - done));
}

bombus_status bb_tokenizer_source_split(struct bb_tokenizer_source *source, const char *path, bombus_error *error)
{
    struct bb_json_cursor cursor = {source->data, source->data + source->size};
    struct bb_json_text model = {0};
    bool is_sound = true;
    size_t valid = bb_utf8_valid_length(source->data, source->size);
    if (valid < source->size)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: not UTF-8 at byte %zu", path, valid);
    bool has_model = find_member(&cursor, "model", &model, &is_sound);
    if (!is_sound)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: damaged JSON, or a key twice, before byte %zu", path,
                       (size_t)(cursor.next - source->data));
    if (!has_model || model.text[0] != '{')
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: there is no object 'model'", path);
    static const char *const keys[] = {"vocab", "merges"};
    for (int i = 0; i < 2; i++) {
        struct bb_json_text value = {0};
        cursor = (struct bb_json_cursor){model.text, model.text + model.length};
        bool has_value = find_member(&cursor, keys[i], &value, &is_sound);
        if (!is_sound)
            return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: damaged JSON, or a key twice, in 'model'", path);
        if (has_value && value.text[0] != 'n') /* not null */
            *(i == 0 ? &source->vocab : &source->merges) = value;
    }
    if (source->vocab.text == NULL)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: model has no 'vocab'", path);
    add_rest(source);
    return source->rest.is_failed ? bb_fail_memory(error, source->rest.length, path) : BOMBUS_OK;
}
