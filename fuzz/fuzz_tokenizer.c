/* tokenizer.json, from any bytes, and a text through it there and back. Input: the JSON, then optionally a NUL and
 * the text. */
#include "base/memory.h"
#include "text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { TEXT_LIMIT = 256 };

static char folder[64], path[96];

static void remove_folder(void)
{
    unlink(path);
    rmdir(folder);
}

static void write_json(const uint8_t *json, size_t size)
{
    if (folder[0] == '\0') {
        /* In memory, where there is such a place. */
        snprintf(folder, sizeof folder, "%s/bombus-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        if (mkdtemp(folder) == NULL)
            abort();
        snprintf(path, sizeof path, "%s/tokenizer.json", folder);
        atexit(remove_folder);
    }
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(json, 1, size, file) != size || fclose(file) != 0)
        abort();
}

static void stream(const struct bb_tokenizer *tokenizer, const int32_t *ids, size_t count)
{
    struct bb_stream_decoder *decoder;
    const char *text;
    size_t length;
    if (bb_stream_decoder_create(&decoder, tokenizer, NULL) != BOMBUS_OK)
        return;
    for (size_t i = 0; i < count && i < TEXT_LIMIT; i++)
        if (bb_stream_decoder_add(decoder, ids[i], &text, &length, NULL) != BOMBUS_OK)
            break;
    if (bb_stream_decoder_finish(decoder, &text, &length, NULL) == BOMBUS_OK && text[length] != '\0')
        __builtin_trap();
    bb_stream_decoder_free(decoder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char default_text[] = "The fox\n doesn't <s> 123 \xC3\xA9\xF0\x9F\x98\x80 \xFF";
    const uint8_t *end = size > 0 ? memchr(data, 0, size) : NULL;
    size_t json_size = end != NULL ? (size_t)(end - data) : size;
    const char *text = end != NULL ? (const char *)end + 1 : default_text;
    size_t length = end != NULL ? size - json_size - 1 : sizeof default_text - 1;
    struct bb_tokenizer *tokenizer;
    struct bb_buffer decoded = {0};
    int32_t *ids;
    size_t count;
    write_json(data, json_size);
    if (bb_tokenizer_open(&tokenizer, folder, NULL, NULL) != BOMBUS_OK)
        return 0;
    if (bb_tokenizer_encode(tokenizer, text, length < TEXT_LIMIT ? length : TEXT_LIMIT, true, &ids, &count, NULL) ==
        BOMBUS_OK) {
        if (bb_tokenizer_decode(tokenizer, ids, count, false, &decoded, NULL) != BOMBUS_OK)
            decoded.length = 0;
        stream(tokenizer, ids, count);
    }
    bb_buffer_clear(&decoded);
    bb_release(ids);
    bb_tokenizer_close(tokenizer);
    return 0;
}
