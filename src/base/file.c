/* Files: mapped for reading, read whole, written atomically. */
#include "base/file.h"

#include "base/memory.h"
#include "base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Names of files that are not whole yet. */
enum { SUFFIX = 6, ATTEMPTS = 100 };

/* Opens a regular file for reading and tells its size. */
static bombus_status open_regular(int *descriptor, size_t *size, const char *path, bombus_error *error)
{
    struct stat status;
    *descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*descriptor < 0)
        return bb_fail_io(error, errno, "cannot open", path);
    if (fstat(*descriptor, &status) != 0) {
        int code = errno;
        close(*descriptor);
        return bb_fail_io(error, code, "cannot read its size", path);
    }
    if (!S_ISREG(status.st_mode)) {
        close(*descriptor);
        return bb_fail(error, BOMBUS_ERROR_IO, "%s: not a regular file", path);
    }
    *size = (size_t)status.st_size;
    return BOMBUS_OK;
}

bombus_status bb_file_map(struct bb_file_map *map, const char *path, bombus_error *error)
{
    int descriptor;
    size_t size = 0;
    *map = (struct bb_file_map){0};
    bombus_status status = open_regular(&descriptor, &size, path, error);
    if (status != BOMBUS_OK)
        return status;
    if (size > 0) {
        void *data = mmap(NULL, size, PROT_READ, MAP_SHARED, descriptor, 0);
        if (data == MAP_FAILED) {
            int code = errno;
            close(descriptor);
            return bb_fail_io(error, code, "cannot map", path);
        }
#if defined(MADV_HUGEPAGE)
        /* Where the file system can, what is read from the disk then lies in pages of 2 MB, which are read about half as fast again as
         * those of 4 KB. A wish only: elsewhere it is refused or without effect. */
        (void)madvise(data, size, MADV_HUGEPAGE);
#endif
        map->data = data;
        map->size = size;
    }
    close(descriptor);
    return BOMBUS_OK;
}

void bb_file_unmap(struct bb_file_map *map)
{
    if (map->data != NULL)
        munmap((void *)(uintptr_t)map->data, map->size);
    *map = (struct bb_file_map){0};
}

bombus_status bb_file_read(char **data, size_t *size, const char *path, size_t limit, bombus_error *error)
{
    int descriptor;
    size_t file_size = 0, done = 0;
    *data = NULL;
    *size = 0;
    bombus_status status = open_regular(&descriptor, &file_size, path, error);
    if (status != BOMBUS_OK)
        return status;
    if (file_size > limit) {
        status = bb_fail(error, BOMBUS_ERROR_LIMIT, "%s: %zu bytes, more than the limit of %zu", path, file_size, limit);
        goto done;
    }
    *data = bb_allocate(file_size + 1, 1);
    if (*data == NULL) {
        status = bb_fail_memory(error, file_size + 1, path);
        goto done;
    }
    while (done < file_size) {
        ssize_t count = read(descriptor, *data + done, file_size - done);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0) {
            status = bb_fail_io(error, errno, "cannot read", path);
            goto done;
        }
        if (count == 0) /* the file shrank: what is there is the content */
            break;
        done += (size_t)count;
    }
    (*data)[done] = '\0';
    *size = done;
done:
    close(descriptor);
    if (status != BOMBUS_OK) {
        bb_release(*data);
        *data = NULL;
    }
    return status;
}

/* A new file beside `path`, whose name, written to `temporary`, goes on with a dot and SUFFIX letters; it may be read and written by whom the process's
 * umask allows. -1 and errno on failure. */
static int create_beside(char *temporary, size_t size, const char *path)
{
    int descriptor = -1;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    const uint64_t seed = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec + ((uint64_t)getpid() << 40);
    for (uint64_t attempt = 0; attempt < ATTEMPTS; attempt++) {
        snprintf(temporary, size, "%s.%0*llx", path, SUFFIX, (unsigned long long)(bb_random_at(seed, attempt) >> (64 - 4 * SUFFIX)));
        descriptor = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (descriptor >= 0 || errno != EEXIST)
            break;
    }
    return descriptor;
}

bombus_status bb_file_writer_open(struct bb_file_writer *writer, const char *path, bombus_error *error)
{
    size_t length = strlen(path);
    struct stat there;
    *writer = (struct bb_file_writer){.descriptor = -1};
    if (stat(path, &there) == 0 && !S_ISREG(there.st_mode)) /* a folder; or a device, which a rename would replace */
        return bb_fail(error, BOMBUS_ERROR_IO, "%s: cannot write: not a regular file", path);
    writer->path = bb_copy_text(path, length);
    const size_t size = length + 1 + SUFFIX + 1;
    char *temporary = bb_allocate(size, 1);
    if (writer->path == NULL || temporary == NULL) {
        bb_release(temporary);
        bb_file_writer_cancel(writer);
        return bb_fail_memory(error, size, path);
    }
    writer->descriptor = create_beside(temporary, size, path);
    if (writer->descriptor < 0) {
        bombus_status status = bb_fail_io(error, errno, "cannot create", temporary);
        bb_release(temporary);
        bb_file_writer_cancel(writer);
        return status;
    }
    writer->temporary = temporary;
    return BOMBUS_OK;
}

bombus_status bb_file_writer_add(struct bb_file_writer *writer, const void *data, size_t size, bombus_error *error)
{
    const char *rest = data;
    while (size > 0) {
        ssize_t count = write(writer->descriptor, rest, size);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return bb_fail_io(error, errno, "cannot write", writer->path);
        rest += count;
        size -= (size_t)count;
    }
    return BOMBUS_OK;
}

bombus_status bb_file_flush(int descriptor, const char *path, bombus_error *error)
{
    if (fsync(descriptor) != 0)
        return bb_fail_io(error, errno, "cannot write", path);
#ifdef POSIX_FADV_DONTNEED
    (void)posix_fadvise(descriptor, 0, 0, POSIX_FADV_DONTNEED); /* advice: no failure matters */
#endif
    return BOMBUS_OK;
}

bombus_status bb_file_writer_finish(struct bb_file_writer *writer, bombus_error *error)
{
    bombus_status status = bb_file_flush(writer->descriptor, writer->path, error);
    if (status != BOMBUS_OK)
        return status;
    int result = close(writer->descriptor);
    writer->descriptor = -1;
    if (result != 0)
        return bb_fail_io(error, errno, "cannot write", writer->path);
    if (rename(writer->temporary, writer->path) != 0)
        return bb_fail_io(error, errno, "cannot rename to", writer->path);
    bb_release(writer->temporary);
    bb_release(writer->path);
    *writer = (struct bb_file_writer){.descriptor = -1};
    return BOMBUS_OK;
}

void bb_file_writer_cancel(struct bb_file_writer *writer)
{
    if (writer->temporary != NULL) { /* in a zeroed struct descriptor 0 is not ours */
        if (writer->descriptor >= 0)
            close(writer->descriptor);
        unlink(writer->temporary);
    }
    bb_release(writer->temporary);
    bb_release(writer->path);
    *writer = (struct bb_file_writer){.descriptor = -1};
}

bombus_status bb_file_write(const char *path, const void *data, size_t size, bombus_error *error)
{
    struct bb_file_writer writer;
    bombus_status status = bb_file_writer_open(&writer, path, error);
    if (status == BOMBUS_OK)
        status = bb_file_writer_add(&writer, data, size, error);
    if (status == BOMBUS_OK)
        status = bb_file_writer_finish(&writer, error);
    bb_file_writer_cancel(&writer);
    return status;
}

bool bb_file_exists(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode);
}

bool bb_folder_exists(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

char *bb_path_join(const char *folder, const char *name)
{
    size_t folder_length = strlen(folder), length = folder_length + strlen(name) + 2;
    char *path = bb_allocate(length, 1);
    if (path != NULL)
        snprintf(path, length, "%s%s%s", folder, folder_length > 0 && folder[folder_length - 1] == '/' ? "" : "/", name);
    return path;
}

bombus_status bb_folder_create(const char *path, bombus_error *error)
{
    size_t length = strlen(path);
    char *part = bb_copy_text(path, length);
    bombus_status status = BOMBUS_OK;
    if (part == NULL)
        return bb_fail_memory(error, length + 1, path);
    for (size_t i = 1; i <= length && status == BOMBUS_OK; i++) {
        if (i < length && path[i] != '/')
            continue;
        part[i] = '\0';
        if (mkdir(part, 0755) != 0 && errno != EEXIST)
            status = bb_fail_io(error, errno, "cannot create folder", part);
        part[i] = path[i];
    }
    if (status == BOMBUS_OK && !bb_folder_exists(path))
        status = bb_fail(error, BOMBUS_ERROR_IO, "%s: not a folder", path);
    bb_release(part);
    return status;
}

bool bb_name_ends_with(const char *name, const char *ending)
{
    size_t length = strlen(name), ending_length = strlen(ending);
    return length >= ending_length && strcmp(name + length - ending_length, ending) == 0;
}
