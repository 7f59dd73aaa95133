/* HTTP requests side by side in one thread, over libcurl. Says what happened to each; what is done about it (retries)
 * is the caller's. */
#ifndef BB_HTTP_H
#define BB_HTTP_H

#include "base/error.h"

#include <stdbool.h>

struct bb_http; /* one thread at a time */

struct bb_http_options {
    const char *token;            /* sent to the endpoint's host alone; may be NULL */
    const char *proxy, *no_proxy; /* NULL: none */
    const char *ca_file;          /* NULL: the system's */
    int64_t connect_timeout_ms;
    int64_t stall_timeout_ms; /* without a byte */
};

struct bb_http_response {
    long code;                        /* of the last response; 0: none came */
    char etag[136], linked_etag[136]; /* without quotes; "" where absent. linked_etag is of any response on the way,
                                         etag of the last */
    int64_t linked_size;              /* X-Linked-Size of any response on the way; -1: none */
    int64_t content_length;           /* -1: not told */
    int64_t range_first, range_total; /* Content-Range; -1: not told */
    int64_t retry_after_s;            /* -1: not told */
    char error_code[48], error_message[200]; /* the hub's X-Error-Code and X-Error-Message */
};

struct bb_http_request {
    const char *url;
    bool is_head; /* headers only; redirects are followed only if `follows` */
    bool follows;
    uint64_t first_byte; /* > 0: asks for the rest from here */
    /* Takes bytes of the body of a response 200 or 206, whose headers are complete; false stops the request. */
    bool (*receive)(void *context, const struct bb_http_response *response, const char *bytes, size_t count);
    void *context;
    /* What came of it: */
    bool is_finished;
    bool is_stopped; /* by `receive` */
    bool is_stalled;
    struct bb_http_response response;
    int32_t result; /* CURLcode */
    char failure[256];
    /* Of http.c: */
    void *easy;
    char range[32];
    int64_t latest_byte_ms;
    struct bb_http_request *next;
};

BB_RESULT bombus_status bb_http_open(struct bb_http **http, const struct bb_http_options *options, bombus_error *error);
void bb_http_close(struct bb_http *http); /* cancels what runs; NULL is allowed */

/* Starts a request, which must stay where it is until it is finished or cancelled. */
BB_RESULT bombus_status bb_http_start(struct bb_http *http, struct bb_http_request *request, bombus_error *error);
void bb_http_cancel(struct bb_http *http, struct bb_http_request *request); /* one that is not running is allowed */

/* Moves the requests on for at most `wait_ms`; returns earlier if one finished. */
BB_RESULT bombus_status bb_http_step(struct bb_http *http, int64_t wait_ms, bombus_error *error);

/* What a finished request means: BOMBUS_OK for 200 and 206 (for is_head also 3xx), else an error that names the url.
 * *may_help tells if another try may go better. */
BB_RESULT bombus_status bb_http_judge(const struct bb_http_request *request, bool *may_help, bombus_error *error);

int64_t bb_clock_ms(void); /* monotonic */

#endif
