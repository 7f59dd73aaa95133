/* Any bytes as a safetensors file: what is accepted must be readable to the last byte. */
#define _GNU_SOURCE /* memfd_create */
#include "files/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t read_all(const struct bb_safetensors *file)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < file->count; i++) {
        const struct bb_safetensors_entry *entry = &file->entries[i];
        const uint8_t *bytes = entry->data;
        char shape[BB_SHAPE_TEXT_SIZE];
        if (bb_safetensors_find(file, entry->name) != entry)
            abort();
        bb_shape_format(shape, entry->shape, entry->rank);
        for (size_t j = 0; j < entry->size; j++)
            sum += bytes[j];
    }
    for (size_t i = 0; i < file->metadata_count; i++)
        if (bb_safetensors_metadata(file, file->metadata[2 * i]) == NULL)
            abort();
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bb_safetensors file;
    bombus_error error;
    char path[64];
    int descriptor = memfd_create("fuzz", MFD_CLOEXEC);
    if (descriptor < 0 || write(descriptor, data, size) != (ssize_t)size)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    bombus_status status = bb_safetensors_open(&file, path, &error);
    if (status == BOMBUS_OK && read_all(&file) == UINT64_MAX)
        abort();
    bb_safetensors_close(&file);
    close(descriptor);
    return 0;
}
