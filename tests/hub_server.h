/* A small HTTP server for tests of the hub: one thread a connection, on 127.0.0.1 and a free port, with faults on demand. */
#ifndef HUB_SERVER_H
#define HUB_SERVER_H

#include <stdbool.h>
#include <stddef.h>

enum hub_fault {
    HUB_FAULT_NONE,
    HUB_FAULT_BREAK,          /* closes the connection halfway through the body */
    HUB_FAULT_WRONG_BYTES,    /* the right length, but one byte is wrong */
    HUB_FAULT_IGNORE_RANGE,   /* breaks off, and answers ranges with 200 and the whole */
    HUB_FAULT_WRONG_RANGE,    /* breaks off, and answers ranges with another range */
    HUB_FAULT_TOO_LONG,       /* sends more than it said the file has */
    HUB_FAULT_TOO_SHORT,      /* Content-Length, and body, are shorter than the file */
    HUB_FAULT_STALL,          /* stops sending halfway, but keeps the connection */
    HUB_FAULT_SILENT,         /* never answers */
    HUB_FAULT_STATUS,         /* answers `status` */
    HUB_FAULT_REDIRECT,       /* to `redirect` + the path */
    HUB_FAULT_PLAIN_REDIRECT, /* the same without X-Linked-* */
    HUB_FAULT_REDIRECT_LOOP,  /* to itself */
    HUB_FAULT_GARBAGE         /* is no HTTP */
};

struct hub_file {
    const char *name;
    const char *content;
    size_t size;
    const char *sha256; /* of large files (LFS); NULL: a small one, of `sha1` */
    const char *sha1;
    enum hub_fault fault;
    int fault_count; /* how many requests have the fault; then all is well */
    int status;
    const char *headers; /* more header lines of a response of HUB_FAULT_STATUS, each with \r\n */
    const char *redirect;
    int request_count, range_count; /* counted by the server */
};

struct hub_server {
    const char *repository, *revision, *commit;
    struct hub_file *files; /* files[0] stands for the listing: only its fault counts */
    size_t file_count;
    const char *listing;             /* the whole answer; NULL: made of the files */
    bool has_no_digests;             /* the listing has names alone, as some mirrors' */
    int port;                        /* set by start */
    int token_count, stranger_count; /* requests with and without the token "secret" */
    struct hub_server_threads *threads;
};

bool hub_server_start(struct hub_server *server);
/* Around what a test reads and writes of files while connections may be open. */
void hub_server_lock(struct hub_server *server);
void hub_server_unlock(struct hub_server *server);
void hub_server_stop(struct hub_server *server);

#endif
