/* Inside of hub: what its parts share while one reference is resolved. The cache's layout:
 *
 *   CACHE/models--owner--name/refs/REVISION           a commit
 *   CACHE/models--owner--name/blobs/TAG               content; TAG is its SHA-256, or git's SHA-1 of small files
 *   CACHE/models--owner--name/blobs/TAG.incomplete    a download that was interrupted, or runs
 *   CACHE/models--owner--name/snapshots/COMMIT/NAME   a relative link to the blob
 *   CACHE/.locks/models--owner--name/TAG.lock         held (flock) while a blob is downloaded */
#ifndef BB_HUB_PARTS_H
#define BB_HUB_PARTS_H

#include "base/buffer.h"
#include "base/memory.h"
#include "files/http.h"

enum { BB_HUB_COMMIT_SIZE = 65, BB_HUB_TAG_SIZE = 136 };

struct bb_hub_file {
    const char *name;          /* "config.json"; checked: no way out of the folder */
    char tag[BB_HUB_TAG_SIZE]; /* "" while unknown */
    int64_t size;              /* -1 while unknown */
};

struct bb_hub {
    struct bb_arena arena;
    const bombus_hub_options *options;
    const char *repository;  /* "owner/name" */
    const char *revision;    /* "main" */
    const char *endpoint;    /* without a slash at its end */
    const char *folder;      /* CACHE/models--owner--name */
    const char *lock_folder; /* CACHE/.locks/models--owner--name */
    char commit[BB_HUB_COMMIT_SIZE];
    struct bb_http *http;
    struct bb_hub_file *files; /* [file_count]: those wanted */
    size_t file_count;
};

/* Formatted text in the hub's arena; NULL if memory is out. */
const char *bb_hub_format(struct bb_hub *hub, const char *format, ...) BB_PRINTF(2, 3);

/* Milliseconds to wait before try `attempt` + 1 (attempts begin at 1): doubled each time, or what the server asks for;
 * -1 if that is longer than anyone would wait. */
int64_t bb_hub_delay_ms(const struct bb_hub *hub, int32_t attempt, int64_t retry_after_s);

/* BOMBUS_ERROR_CANCELLED if the caller's progress function says so. */
BB_RESULT bombus_status bb_hub_report(const struct bb_hub *hub, const char *file, uint64_t done, uint64_t total,
                                      bombus_error *error);

int32_t bb_hub_retry_count(const struct bb_hub *hub);

/* hub_listing.c: asks the hub for the revision's commit and files, and keeps the wanted ones. */
BB_RESULT bombus_status bb_hub_list(struct bb_hub *hub, bombus_error *error);
/* Asks for tag and size of a file whose listing lacks them. */
BB_RESULT bombus_status bb_hub_ask_file(struct bb_hub *hub, struct bb_hub_file *file, bombus_error *error);
/* The address of a file of the commit. */
const char *bb_hub_file_url(struct bb_hub *hub, const struct bb_hub_file *file);

/* hub_download.c: makes blobs of the files that are not there yet, side by side, and links them into the snapshot. */
BB_RESULT bombus_status bb_hub_download(struct bb_hub *hub, bombus_error *error);

/* hub_cache.c */
/* A whole commit, which needs no look-up: 40 hexadecimal digits. */
bool bb_hub_is_commit(const char *text);
/* Something that a hub may call a commit and that can be a folder's name. */
bool bb_hub_is_safe_commit(const char *text);
/* The folder of a snapshot that the cache holds; NULL if it holds none, or (unless `may_lack`) one that lacks files a
 * model needs. */
BB_RESULT bombus_status bb_hub_look_up(struct bb_hub *hub, bool may_lack, const char **snapshot, bombus_error *error);
/* Links snapshots/COMMIT/NAME to the blob. */
BB_RESULT bombus_status bb_hub_link(struct bb_hub *hub, const struct bb_hub_file *file, bombus_error *error);
/* Notes the commit under refs/REVISION. */
BB_RESULT bombus_status bb_hub_write_ref(struct bb_hub *hub, bombus_error *error);

#endif
