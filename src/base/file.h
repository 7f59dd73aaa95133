/* Files: mapped for reading, read whole, written atomically. */
#ifndef BB_FILE_H
#define BB_FILE_H

#include "base/compiler.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bb_file_map {
    const uint8_t *data; /* NULL for an empty file */
    size_t size;
};

/* Maps a regular file read-only. Closing a zeroed map is allowed. */
BB_RESULT bombus_status bb_file_map(struct bb_file_map *map, const char *path, bombus_error *error);
void bb_file_unmap(struct bb_file_map *map);

/* Reads a whole file of at most `limit` bytes; *data has a NUL behind *size bytes and is released by bb_release. */
BB_RESULT bombus_status bb_file_read(char **data, size_t *size, const char *path, size_t limit, bombus_error *error);

/* Writes to a temporary file beside `path`, syncs it and renames it over `path`: readers see the old or the new, never half.
 * What is there and is no regular file (a folder, /dev/null) is BOMBUS_ERROR_IO. */
BB_RESULT bombus_status bb_file_write(const char *path, const void *data, size_t size, bombus_error *error);

/* The same in pieces: open, any number of adds, then finish, which syncs and renames, or cancel, which removes the temporary file. After a failed add
 * or finish, and in a zeroed struct, cancel is allowed. */
struct bb_file_writer {
    char *path, *temporary; /* NULL: closed */
    int descriptor;
};

BB_RESULT bombus_status bb_file_writer_open(struct bb_file_writer *writer, const char *path, bombus_error *error);
BB_RESULT bombus_status bb_file_writer_add(struct bb_file_writer *writer, const void *data, size_t size, bombus_error *error);
BB_RESULT bombus_status bb_file_writer_finish(struct bb_file_writer *writer, bombus_error *error);
void bb_file_writer_cancel(struct bb_file_writer *writer);

/* All of a written file to the disk, and out of the system's cache, where it lies in small pages: what is mapped afterwards comes in large ones, in which
 * weights are read a sixth faster (docs/performance.md). */
BB_RESULT bombus_status bb_file_flush(int descriptor, const char *path, bombus_error *error);

bool bb_file_exists(const char *path);
bool bb_folder_exists(const char *path);

/* "folder/name"; NULL if memory is out. Released by bb_release. */
char *bb_path_join(const char *folder, const char *name) BB_RESULT;

/* mkdir -p. */
BB_RESULT bombus_status bb_folder_create(const char *path, bombus_error *error);

/* Whether a name ends with `ending`. */
bool bb_name_ends_with(const char *name, const char *ending);

#endif
