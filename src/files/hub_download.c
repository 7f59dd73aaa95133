/* Downloads blobs side by side in one thread. A blob grows in TAG.incomplete under a lock that other processes see,
 * survives any interruption there, and gets its name only when size and digest are what the hub says. */
#include "files/hub_parts.h"

#include "base/file.h"
#include "files/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { STEP_MS = 100, LOCK_RETRY_MS = 200, REPORT_MS = 100, CHUNK_SIZE = 1 << 20, ENOUGH_PROGRESS = 1 << 20 };

enum state {
    STATE_WAITING, /* for its turn, a lock, or the next try */
    STATE_RUNNING,
    STATE_FINISHED
};

struct transfer {
    struct bb_hub *hub;
    const struct bb_hub_file *file;
    const char *url, *blob, *incomplete, *lock_path;
    enum state state;
    int lock, descriptor;    /* -1: closed */
    struct bb_digest digest; /* of the bytes in the file */
    uint64_t done, size;
    uint64_t done_at_failure; /* progress since then earns new tries */
    int32_t attempt;          /* failures since the latest real progress */
    int64_t not_before_ms, reported_ms;
    struct bb_http_request request;
    bool has_begun;            /* the response's headers were looked at */
    bombus_status stop_status; /* why `receive` stopped the request; BOMBUS_OK: it did not */
    bool must_restart;         /* what is in the file is of no use */
    bombus_error stop_error;
};

/* Empties the file. */
static bombus_status restart(struct transfer *transfer, bombus_error *error)
{
    bb_digest_close(&transfer->digest);
    transfer->done = transfer->done_at_failure = 0;
    transfer->must_restart = false;
    if (ftruncate(transfer->descriptor, 0) != 0 || lseek(transfer->descriptor, 0, SEEK_SET) != 0)
        return bb_fail_io(error, errno, "cannot empty", transfer->incomplete);
    return bb_digest_open(&transfer->digest, strlen(transfer->file->tag) == 40, transfer->size, error);
}

static bombus_status write_bytes(struct transfer *transfer, const char *bytes, size_t count, bombus_error *error)
{
    for (size_t written = 0; written < count;) {
        ssize_t result = write(transfer->descriptor, bytes + written, count - written);
        if (result < 0 && errno != EINTR)
            return bb_fail_io(error, errno, "cannot write", transfer->incomplete);
        if (result > 0)
            written += (size_t)result;
    }
    if (!bb_digest_add(&transfer->digest, bytes, count))
        return bb_fail(error, BOMBUS_ERROR_IO, "%s: libcrypto cannot make its digest", transfer->incomplete);
    transfer->done += count;
    return BOMBUS_OK;
}

/* Looks at the headers: is this the rest that was asked for, or the whole? */
static bombus_status begin(struct transfer *transfer, const struct bb_http_response *response, bombus_error *error)
{
    transfer->has_begun = true;
    if (response->code == 200)
        return transfer->done > 0 ? restart(transfer, error)
                                  : BOMBUS_OK; /* a server that knows no ranges sends it all */
    if (response->range_first == (int64_t)transfer->done &&
        (response->range_total < 0 || response->range_total == (int64_t)transfer->size))
        return BOMBUS_OK;
    transfer->must_restart = true;
    return bb_fail(error, BOMBUS_ERROR_NETWORK,
                   "%s: asked for bytes from %" PRIu64 " on, the server sends from %" PRId64 " of %" PRId64,
                   transfer->url, transfer->done, response->range_first, response->range_total);
}

static bool receive(void *context, const struct bb_http_response *response, const char *bytes, size_t count)
{
    struct transfer *transfer = context;
    bombus_error *error = &transfer->stop_error;
    bombus_status status = transfer->has_begun ? BOMBUS_OK : begin(transfer, response, error);
    if (status == BOMBUS_OK && count > transfer->size - transfer->done) {
        transfer->must_restart = true;
        status = bb_fail(error, BOMBUS_ERROR_NETWORK, "%s: the server sends more than the file's %" PRIu64 " bytes",
                         transfer->url, transfer->size);
    }
    if (status == BOMBUS_OK)
        status = write_bytes(transfer, bytes, count, error);
    transfer->stop_status = status;
    return status == BOMBUS_OK;
}

/* The digest of what an earlier try left in the file, whose place is then at its end. */
static bombus_status read_back(struct transfer *transfer, bombus_error *error)
{
    char *chunk = bb_allocate(CHUNK_SIZE, 1);
    bombus_status status = chunk != NULL ? BOMBUS_OK : bb_fail_memory(error, CHUNK_SIZE, transfer->incomplete);
    while (status == BOMBUS_OK) {
        ssize_t count = read(transfer->descriptor, chunk, CHUNK_SIZE);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            status = bb_fail_io(error, errno, "cannot read", transfer->incomplete);
        else if (count > 0 && !bb_digest_add(&transfer->digest, chunk, (size_t)count))
            status = bb_fail(error, BOMBUS_ERROR_IO, "%s: libcrypto cannot make its digest", transfer->incomplete);
        if (count <= 0)
            break;
        transfer->done += (uint64_t)count;
    }
    bb_release(chunk);
    return status;
}

static bombus_status open_incomplete(struct transfer *transfer, bombus_error *error)
{
    struct stat info;
    transfer->descriptor = open(transfer->incomplete, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644);
    if (transfer->descriptor < 0 || fstat(transfer->descriptor, &info) != 0)
        return bb_fail_io(error, errno, "cannot open", transfer->incomplete);
    bombus_status status = bb_digest_open(&transfer->digest, strlen(transfer->file->tag) == 40, transfer->size, error);
    if (status != BOMBUS_OK)
        return status;
    if ((uint64_t)info.st_size > transfer->size || transfer->hub->options->force_download)
        return restart(transfer, error);
    status = read_back(transfer, error);
    transfer->done_at_failure = transfer->done;
    return status;
}

/* Takes the lock that other processes see, or puts the transfer off. File systems without locks do without. */
static bombus_status take_lock(struct transfer *transfer, bool *has_lock, bombus_error *error)
{
    struct stat held, named;
    *has_lock = true;
    if (transfer->lock >= 0)
        return BOMBUS_OK;
    transfer->lock = open(transfer->lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (transfer->lock < 0)
        return bb_fail_io(error, errno, "cannot open", transfer->lock_path);
    *has_lock = flock(transfer->lock, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK;
    /* Some tools delete a lock when they release it: then it is not the one that others see. */
    if (*has_lock &&
        (fstat(transfer->lock, &held) != 0 || stat(transfer->lock_path, &named) != 0 || held.st_ino != named.st_ino))
        *has_lock = false;
    if (!*has_lock) {
        close(transfer->lock);
        transfer->lock = -1;
        transfer->not_before_ms = bb_clock_ms() + LOCK_RETRY_MS;
    }
    return BOMBUS_OK;
}

static void close_files(struct transfer *transfer)
{
    bb_digest_close(&transfer->digest);
    if (transfer->descriptor >= 0)
        close(transfer->descriptor);
    if (transfer->lock >= 0)
        close(transfer->lock);
    transfer->descriptor = transfer->lock = -1;
}

static bombus_status link_blob(struct transfer *transfer, bombus_error *error)
{
    close_files(transfer);
    transfer->state = STATE_FINISHED;
    bombus_status status = bb_hub_link(transfer->hub, transfer->file, error);
    return status == BOMBUS_OK
               ? bb_hub_report(transfer->hub, transfer->file->name, transfer->size, transfer->size, error)
               : status;
}

/* All bytes are there: are they the right ones? *is_right false, with an error, if not. */
static bombus_status complete(struct transfer *transfer, bool *is_right, bombus_error *error)
{
    const char *tag = transfer->file->tag;
    char digest[BB_DIGEST_TEXT_SIZE];
    *is_right = true;
    if (!bb_digest_finish(&transfer->digest, digest))
        return bb_fail(error, BOMBUS_ERROR_IO, "%s: libcrypto cannot make its digest", transfer->incomplete);
    /* Hubs of other makers may have tags that are no digests: then size is all that can be checked. */
    bool is_digest = (strlen(tag) == 40 || strlen(tag) == 64) && strspn(tag, "0123456789abcdef") == strlen(tag);
    if (is_digest && strcmp(digest, tag) != 0) {
        *is_right = false;
        transfer->must_restart = true;
        return bb_fail(error, BOMBUS_ERROR_NETWORK, "%s: the bytes that came have digest %s, the hub says %s",
                       transfer->url, digest, tag);
    }
    bombus_status status = bb_file_flush(transfer->descriptor, transfer->incomplete, error);
    if (status != BOMBUS_OK)
        return status;
    if (rename(transfer->incomplete, transfer->blob) != 0)
        return bb_fail_io(error, errno, "cannot rename to", transfer->blob);
    return link_blob(transfer, error);
}

/* A try failed with `status`, and another may help: puts it off, or gives up with that status. */
static bombus_status put_off(struct transfer *transfer, bombus_status status, bombus_error *error)
{
    const struct bb_hub *hub = transfer->hub;
    uint64_t progress = transfer->done - transfer->done_at_failure;
    if (progress >= ENOUGH_PROGRESS) /* so the number of tries is bounded by the file's size */
        transfer->attempt = 0;
    transfer->done_at_failure = transfer->done;
    int64_t delay_ms = bb_hub_delay_ms(hub, ++transfer->attempt, transfer->request.response.retry_after_s);
    if (transfer->attempt > bb_hub_retry_count(hub) || delay_ms < 0) {
        if (transfer->must_restart) /* bytes that are wrong must not be kept for the next time */
            unlink(transfer->incomplete);
        return status;
    }
    transfer->state = STATE_WAITING;
    transfer->not_before_ms = bb_clock_ms() + delay_ms;
    return transfer->must_restart ? restart(transfer, error) : BOMBUS_OK;
}

static bool has_blob(const struct transfer *transfer)
{
    struct stat info;
    return stat(transfer->blob, &info) == 0 && S_ISREG(info.st_mode) && (uint64_t)info.st_size == transfer->size;
}

static bombus_status start(struct transfer *transfer, bombus_error *error)
{
    bool has_lock, is_right;
    bombus_status status = take_lock(transfer, &has_lock, error);
    if (status != BOMBUS_OK || !has_lock)
        return status;
    if (transfer->descriptor < 0) {
        if (!transfer->hub->options->force_download && has_blob(transfer))
            return link_blob(transfer, error); /* another process, or a file of the same content, was faster */
        status = open_incomplete(transfer, error);
        if (status != BOMBUS_OK)
            return status;
    }
    if (transfer->done == transfer->size) {
        status = complete(transfer, &is_right, error);
        return status == BOMBUS_OK || is_right ? status : put_off(transfer, status, error);
    }
    transfer->has_begun = false;
    transfer->stop_status = BOMBUS_OK;
    transfer->request = (struct bb_http_request){
        .url = transfer->url, .first_byte = transfer->done, .receive = receive, .context = transfer};
    status = bb_http_start(transfer->hub->http, &transfer->request, error);
    if (status == BOMBUS_OK)
        transfer->state = STATE_RUNNING;
    return status;
}

/* What a request has come to. */
static bombus_status conclude(struct transfer *transfer, bombus_error *error)
{
    bool may_help = true, is_right;
    bombus_status status = transfer->stop_status;
    if (status != BOMBUS_OK) {
        if (error != NULL)
            *error = transfer->stop_error;
        return status == BOMBUS_ERROR_NETWORK ? put_off(transfer, status, error) : status;
    }
    status = bb_http_judge(&transfer->request, &may_help, error);
    if (transfer->request.response.code == 416) /* the server's file is shorter than what is here */
        may_help = transfer->must_restart = true;
    if (status == BOMBUS_OK && transfer->done < transfer->size) {
        may_help = true;
        status = bb_fail(error, BOMBUS_ERROR_NETWORK, "%s: the connection ended after %" PRIu64 " of %" PRIu64 " bytes",
                         transfer->url, transfer->done, transfer->size);
    }
    if (status != BOMBUS_OK)
        return may_help ? put_off(transfer, status, error) : status;
    status = complete(transfer, &is_right, error);
    return status == BOMBUS_OK || is_right ? status : put_off(transfer, status, error);
}

/* One round over all transfers: concludes, reports, starts. */
static bombus_status advance(struct transfer *transfers, size_t count, size_t *finished, bombus_error *error)
{
    const bombus_hub_options *options = transfers->hub->options;
    size_t limit = options->connection_count > 0 ? (size_t)options->connection_count : 4, running = 0;
    bombus_status status = bb_hub_report(transfers->hub, "", 0, 0, error);
    *finished = 0;
    for (size_t i = 0; i < count && status == BOMBUS_OK; i++) {
        struct transfer *transfer = &transfers[i];
        if (transfer->state == STATE_RUNNING && transfer->request.is_finished)
            status = conclude(transfer, error);
        running += status == BOMBUS_OK && transfer->state == STATE_RUNNING;
    }
    for (size_t i = 0; i < count && status == BOMBUS_OK; i++) {
        struct transfer *transfer = &transfers[i];
        int64_t now = bb_clock_ms();
        if (transfer->state == STATE_WAITING && running < limit && now >= transfer->not_before_ms) {
            status = start(transfer, error);
            running += transfer->state == STATE_RUNNING;
        } else if (transfer->state == STATE_RUNNING && now - transfer->reported_ms >= REPORT_MS) {
            transfer->reported_ms = now;
            status = bb_hub_report(transfer->hub, transfer->file->name, transfer->done, transfer->size, error);
        }
        *finished += transfer->state == STATE_FINISHED;
    }
    return status;
}

/* Until something is due, but no longer than a step. */
static int64_t measure_wait(const struct transfer *transfers, size_t count)
{
    int64_t now = bb_clock_ms(), wait = STEP_MS;
    for (size_t i = 0; i < count; i++)
        if (transfers[i].state == STATE_WAITING && transfers[i].not_before_ms > now &&
            transfers[i].not_before_ms - now < wait)
            wait = transfers[i].not_before_ms - now;
    return wait;
}

static bombus_status run(struct bb_hub *hub, struct transfer *transfers, size_t count, bombus_error *error)
{
    size_t finished = 0;
    bombus_status status = BOMBUS_OK;
    while (status == BOMBUS_OK) {
        status = advance(transfers, count, &finished, error);
        if (finished == count)
            break;
        if (status == BOMBUS_OK)
            status = bb_http_step(hub->http, measure_wait(transfers, count), error);
    }
    for (size_t i = 0; i < count; i++) {
        bb_http_cancel(hub->http, &transfers[i].request);
        close_files(&transfers[i]);
    }
    return status;
}

/* Says at once, instead of after an hour, that the disk is too small; and tells the caller of every file that will
 * come. */
static bombus_status announce(struct bb_hub *hub, const struct transfer *transfers, size_t count, bombus_error *error)
{
    struct statvfs disk;
    uint64_t needed = 0;
    for (size_t i = 0; i < count; i++) {
        struct stat info;
        uint64_t present = stat(transfers[i].incomplete, &info) == 0 && info.st_size > 0 ? (uint64_t)info.st_size : 0;
        if (present > transfers[i].size)
            present = transfers[i].size;
        needed += transfers[i].size - present;
        bombus_status status = bb_hub_report(hub, transfers[i].file->name, present, transfers[i].size, error);
        if (status != BOMBUS_OK)
            return status;
    }
    if (needed > 0 && statvfs(hub->folder, &disk) == 0 && needed / disk.f_frsize >= disk.f_bavail)
        return bb_fail(error, BOMBUS_ERROR_IO,
                       "%s: the download needs %" PRIu64 " MB more, the disk has %" PRIu64 " MB free", hub->folder,
                       needed >> 20, (uint64_t)disk.f_bavail * disk.f_frsize >> 20);
    return BOMBUS_OK;
}

static bool is_in_snapshot(struct bb_hub *hub, const struct bb_hub_file *file)
{
    const char *path = bb_hub_format(hub, "%s/snapshots/%s/%s", hub->folder, hub->commit, file->name);
    struct stat info;
    return path != NULL && stat(path, &info) == 0 && S_ISREG(info.st_mode) &&
           (file->size < 0 || info.st_size == file->size);
}

/* Fills a transfer, unless the file is there already. */
static bombus_status prepare(struct bb_hub *hub, struct bb_hub_file *file, struct transfer *transfer, bool *is_needed,
                             bombus_error *error)
{
    bool is_forced = hub->options->force_download;
    *is_needed = false;
    if (!is_forced && is_in_snapshot(hub, file))
        return BOMBUS_OK;
    bombus_status status = file->tag[0] == '\0' ? bb_hub_ask_file(hub, file, error) : BOMBUS_OK;
    if (status != BOMBUS_OK)
        return status;
    *transfer = (struct transfer){
        .hub = hub,
        .file = file,
        .url = bb_hub_file_url(hub, file),
        .blob = bb_hub_format(hub, "%s/blobs/%s", hub->folder, file->tag),
        .incomplete = bb_hub_format(hub, "%s/blobs/%s.incomplete", hub->folder, file->tag),
        .lock_path = bb_hub_format(hub, "%s/%s.lock", hub->lock_folder, file->tag),
        .lock = -1,
        .descriptor = -1,
        .size = (uint64_t)file->size,
    };
    if (transfer->url == NULL || transfer->blob == NULL || transfer->incomplete == NULL || transfer->lock_path == NULL)
        return bb_fail_memory(error, strlen(hub->folder), file->name);
    if (!is_forced && has_blob(transfer))
        return bb_hub_link(hub, file, error);
    *is_needed = true;
    return BOMBUS_OK;
}

bombus_status bb_hub_download(struct bb_hub *hub, bombus_error *error)
{
    const char *blobs = bb_hub_format(hub, "%s/blobs", hub->folder);
    if (blobs == NULL)
        return bb_fail_memory(error, strlen(hub->folder), hub->folder);
    struct transfer *transfers = bb_allocate(hub->file_count, sizeof *transfers);
    size_t count = 0;
    if (transfers == NULL)
        return bb_fail_memory(error, hub->file_count * sizeof *transfers, hub->repository);
    bombus_status status = bb_folder_create(blobs, error);
    if (status == BOMBUS_OK)
        status = bb_folder_create(hub->lock_folder, error);
    for (size_t i = 0; i < hub->file_count && status == BOMBUS_OK; i++) {
        bool is_needed;
        status = prepare(hub, &hub->files[i], &transfers[count], &is_needed, error);
        count += status == BOMBUS_OK && is_needed;
    }
    if (status == BOMBUS_OK && count > 0)
        status = announce(hub, transfers, count, error);
    if (status == BOMBUS_OK && count > 0)
        status = run(hub, transfers, count, error);
    bb_release(transfers);
    return status;
}
