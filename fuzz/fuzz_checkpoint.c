/* A model folder of any config.json (up to the first NUL of the input) and any model.safetensors (the rest): every
 * matrix that is accepted must lie within its file, and the folder must be describable. */
#include "base/buffer.h"
#include "files/checkpoint.h"
#include "model/inspect.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64]; /* made at the first input, removed at exit */

static uint64_t sum_bytes(const void *bytes, size_t size)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < size; i++)
        sum += ((const uint8_t *)bytes)[i];
    return sum;
}

/* Reads the parts of a matrix to their ends; the sanitizer knows nothing of the map's end, so compare with the file's.
 */
static void read_weight(const struct bb_checkpoint *checkpoint, const struct bb_weight *weight)
{
    const struct bb_file_map *map = &checkpoint->files[0].map;
    size_t rows = (size_t)weight->rows, scale_bytes = rows * bb_weight_scale_row_bytes(weight);
    const struct {
        const uint8_t *data;
        size_t size;
    } parts[] = {{weight->data, rows * bb_weight_row_bytes(weight)},
                 {weight->scales, scale_bytes},
                 {weight->biases, scale_bytes}};
    for (size_t i = 0; i < BB_COUNT(parts); i++)
        if (parts[i].data != NULL &&
            (parts[i].data < map->data || parts[i].size > (size_t)(map->data + map->size - parts[i].data) ||
             sum_bytes(parts[i].data, parts[i].size) == UINT64_MAX))
            abort();
}

static void read_folder(void)
{
    struct bb_checkpoint checkpoint;
    bombus_error error;
    if (bb_checkpoint_open(&checkpoint, folder, &error) == BOMBUS_OK)
        for (size_t i = 0; i < checkpoint.tensor_count && checkpoint.file_count == 1; i++) {
            struct bb_weight weight, again;
            const char *name = checkpoint.entries[i]->name;
            size_t length = strlen(name);
            char *base = bb_copy_text(name, length > 7 ? length - 7 : 0);
            if (bb_checkpoint_describe(&checkpoint, base, &weight, &error) == BOMBUS_OK) {
                read_weight(&checkpoint, &weight);
                if (bb_checkpoint_weight(&checkpoint, base, weight.rows, weight.cols, &again, &error) != BOMBUS_OK ||
                    memcmp(&again, &weight, sizeof again) != 0)
                    abort();
                if (bb_checkpoint_weight(&checkpoint, base, weight.rows + 1, weight.cols, &again, &error) == BOMBUS_OK)
                    abort();
            }
            bb_release(base);
        }
    bb_checkpoint_close(&checkpoint);
}

static void write_file(const char *name, const uint8_t *data, size_t size)
{
    char path[200];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(data, 1, size, file) != size || fclose(file) != 0)
        abort();
}

static void remove_folder(void)
{
    static const char *const names[] = {"config.json", "model.safetensors"};
    char path[200];
    for (size_t i = 0; i < BB_COUNT(names); i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bb_buffer json = {0};
    bombus_error error;
    const uint8_t *end = size > 0 ? memchr(data, 0, size) : NULL;
    size_t config_size = end != NULL ? (size_t)(end - data) : size;
    if (folder[0] == '\0') {
        snprintf(folder, sizeof folder, "%s/bombus-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
        if (mkdtemp(folder) == NULL || atexit(remove_folder) != 0)
            abort();
    }
    write_file("config.json", data, config_size);
    write_file("model.safetensors", end != NULL ? end + 1 : data, end != NULL ? size - config_size - 1 : 0);
    read_folder();
    if (bb_inspect(&json, folder, NULL, 0, &error) == BOMBUS_OK && json.length < 2)
        abort();
    bb_buffer_clear(&json);
    return 0;
}
