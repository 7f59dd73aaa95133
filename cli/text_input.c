/* Reading what is handed in. */
#include "cli/text_input.h"

#include "base/memory.h"
#include "cli/report.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bombus_status text_input_read(struct bb_buffer *text, const char *path, bombus_error *error)
{
    bool is_standard = strcmp(path, "-") == 0;
    FILE *file = is_standard ? stdin : fopen(path, "rb");
    if (file == NULL)
        return bb_fail_io(error, errno, "open", path);
    char piece[65536];
    size_t count;
    while ((count = fread(piece, 1, sizeof piece, file)) > 0)
        bb_buffer_add(text, piece, count);
    bb_buffer_add(text, "", 0);
    bombus_status status =
        ferror(file) ? bb_fail_io(error, errno, "read", is_standard ? "standard input" : path) : BOMBUS_OK;
    if (!is_standard)
        fclose(file);
    if (status == BOMBUS_OK && text->is_failed)
        status = bb_fail_memory(error, text->length, "the text");
    return status;
}

bombus_status text_input_argument(struct bb_buffer *text, const char *argument, bombus_error *error)
{
    if (strcmp(argument, "-") == 0)
        return text_input_read(text, "-", error);
    bb_buffer_add_text(text, argument);
    return text->is_failed ? bb_fail_memory(error, strlen(argument), "the text") : BOMBUS_OK;
}

bool text_input_line(struct bb_buffer *line, FILE *file)
{
    line->length = 0;
    int c;
    while ((c = getc_unlocked(file)) != EOF && c != '\n')
        bb_buffer_add_byte(line, (char)c);
    if (c == EOF && line->length == 0)
        return false;
    bb_buffer_add(line, "", 0);
    if (line->is_failed)
        report_if_null(NULL);
    return true;
}

bombus_status text_input_json_line(json_t **value, struct bb_buffer *line, int32_t *number, json_type type, const char *what, bombus_error *error)
{
    json_error_t place;
    *value = NULL;
    if (!text_input_line(line, stdin))
        return BOMBUS_OK;
    ++*number;
    json_t *found = json_loadb(line->data, line->length, JSON_DECODE_ANY | JSON_ALLOW_NUL, &place);
    if (found == NULL)
        return bb_fail_at(error, BOMBUS_ERROR_FORMAT, *number, place.column, "--jsonl: not %s: %s", what, place.text);
    if (json_typeof(found) != type) {
        json_decref(found);
        return bb_fail_at(error, BOMBUS_ERROR_FORMAT, *number, 1, "--jsonl: not %s", what);
    }
    *value = found;
    return BOMBUS_OK;
}

bombus_status text_input_ids(int32_t **ids, size_t *count, const char *text, const char *option, bombus_error *error)
{
    *ids = NULL;
    *count = 0;
    size_t capacity = strlen(text) / 2 + 1; /* a digit and a separator each, at least */
    *ids = bb_allocate(capacity, sizeof **ids);
    if (*ids == NULL)
        return bb_fail_memory(error, capacity * sizeof **ids, "ids");
    for (const char *place = text;;) {
        place += strspn(place, ", \t\r\n[]");
        if (*place == '\0')
            return BOMBUS_OK;
        char *end;
        errno = 0;
        long long id = strtoll(place, &end, 10);
        if (end == place || errno != 0 || id < 0 || id > INT32_MAX ||
            (*end != '\0' && strchr(", \t\r\n]", *end) == NULL)) {
            bb_release(*ids);
            *ids = NULL;
            *count = 0;
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: '%.20s' is not an id; ids look like 1,2,3", option,
                           place);
        }
        (*ids)[(*count)++] = (int32_t)id;
        place = end;
    }
}

/* Bytes of the well-formed UTF-8 character at `text`, 0 if there is none. */
static size_t character_length(const unsigned char *text, size_t length)
{
    static const struct {
        unsigned char first, last, least, most; /* of the first byte; bounds of the second */
        size_t length;
    } forms[] = {
        {0xC2, 0xDF, 0x80, 0xBF, 2}, {0xE0, 0xE0, 0xA0, 0xBF, 3}, {0xE1, 0xEC, 0x80, 0xBF, 3},
        {0xED, 0xED, 0x80, 0x9F, 3}, {0xEE, 0xEF, 0x80, 0xBF, 3}, {0xF0, 0xF0, 0x90, 0xBF, 4},
        {0xF1, 0xF3, 0x80, 0xBF, 4}, {0xF4, 0xF4, 0x80, 0x8F, 4},
    };
    if (text[0] < 0x80)
        return 1;
    for (size_t i = 0; i < BB_COUNT(forms); i++) {
        if (text[0] < forms[i].first || text[0] > forms[i].last)
            continue;
        if (length < forms[i].length || text[1] < forms[i].least || text[1] > forms[i].most)
            return 0;
        for (size_t j = 2; j < forms[i].length; j++) {
            if ((text[j] & 0xC0) != 0x80)
                return 0;
        }
        return forms[i].length;
    }
    return 0;
}

void text_input_repair(struct bb_buffer *result, const char *text, size_t length)
{
    bb_buffer_add(result, "", 0);
    for (size_t i = 0; i < length;) {
        size_t count = character_length((const unsigned char *)text + i, length - i);
        if (count == 0)
            bb_buffer_add_text(result, "\xEF\xBF\xBD");
        else
            bb_buffer_add(result, text + i, count);
        i += count == 0 ? 1 : count;
    }
    if (result->is_failed)
        report_if_null(NULL);
}
