/* A folder of its own for a test program, removed with all that is in it. */
#ifndef SCRATCH_H
#define SCRATCH_H

#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "test.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

static char scratch_folder[64];

static inline int scratch_setup(void **state)
{
    (void)state;
    snprintf(scratch_folder, sizeof scratch_folder, "/tmp/bombus-test-XXXXXX");
    return mkdtemp(scratch_folder) != NULL ? 0 : -1;
}

/* A path in the folder, in one of 8 static buffers. */
static inline const char *scratch_path(const char *name)
{
    static char paths[8][512];
    static int next;
    char *path = paths[next++ & 7];
    snprintf(path, sizeof paths[0], "%s/%s", scratch_folder, name);
    return path;
}

static inline void scratch_remove(const char *path)
{
    struct stat status;
    DIR *directory = lstat(path, &status) == 0 && S_ISDIR(status.st_mode) ? opendir(path) : NULL;
    if (directory == NULL) {
        unlink(path);
        return;
    }
    for (struct dirent *item = readdir(directory); item != NULL; item = readdir(directory)) {
        if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0)
            continue;
        char *inner = bb_path_join(path, item->d_name);
        scratch_remove(inner);
        bb_release(inner);
    }
    closedir(directory);
    rmdir(path);
}

static inline int scratch_teardown(void **state)
{
    (void)state;
    scratch_remove(scratch_folder);
    return 0;
}

/* Writes a file in the folder (making the folders in `name`). */
static inline const char *scratch_write(const char *name, const void *data, size_t size)
{
    const char *path = scratch_path(name);
    char folder[512];
    bombus_error error;
    snprintf(folder, sizeof folder, "%s", path);
    *strrchr(folder, '/') = '\0';
    CHECK_OK(bb_folder_create(folder, &error), error);
    CHECK_OK(bb_file_write(path, data, size, &error), error);
    return path;
}

static inline const char *scratch_text(const char *name, const char *text)
{
    return scratch_write(name, text, strlen(text));
}

/* A safetensors file of a header as given and `data_size` bytes 0, 1, 2, ... */
static inline const char *scratch_safetensors(const char *name, const char *header, size_t data_size)
{
    struct bb_buffer bytes = {0};
    uint64_t length = strlen(header);
    for (int i = 0; i < 8; i++)
        bb_buffer_add_byte(&bytes, (char)(length >> (8 * i)));
    bb_buffer_add_text(&bytes, header);
    for (size_t i = 0; i < data_size; i++)
        bb_buffer_add_byte(&bytes, (char)i);
    const char *path = scratch_write(name, bytes.data, bytes.length);
    bb_buffer_clear(&bytes);
    return path;
}

/* What is not to leak from and into the home of whoever runs the tests. */
static inline void scratch_environment(void)
{
    setenv("XDG_CACHE_HOME", scratch_path("cache"), 1);
    setenv("XDG_STATE_HOME", scratch_path("state"), 1);
    setenv("HF_HUB_OFFLINE", "1", 1);
    unsetenv("BOMBUS_MODEL");
}

#endif
