/* HTTP requests side by side in one thread, over libcurl. */
#include "files/http.h"

#include "base/memory.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { MAX_REDIRECTS = 10, POLL_MS = 100 };

struct bb_http {
    CURLM *multi;
    struct bb_http_options options; /* texts are borrowed */
    struct curl_slist *headers;     /* NULL: no token */
    struct bb_http_request *running;
};

int64_t bb_clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bombus_status bb_http_open(struct bb_http **http, const struct bb_http_options *options, bombus_error *error)
{
    *http = NULL;
    /* Counted by libcurl, and cleaned up as often in bb_http_close. */
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        return bb_fail(error, BOMBUS_ERROR_NETWORK, "libcurl could not be started");
    struct bb_http *made = bb_allocate(1, sizeof *made);
    if (made == NULL) {
        curl_global_cleanup();
        return bb_fail_memory(error, sizeof *made, "HTTP requests");
    }
    made->options = *options;
    bombus_status status = BOMBUS_OK;
    if (options->token != NULL && options->token[strcspn(options->token, "\r\n")] != '\0') {
        status = bb_fail(error, BOMBUS_ERROR_ARGUMENT, "the hub's token holds a line break");
        goto done;
    }
    if (options->token != NULL && options->token[0] != '\0') {
        size_t length = strlen(options->token) + sizeof "Authorization: Bearer ";
        char *header = bb_allocate(length, 1);
        if (header != NULL) {
            snprintf(header, length, "Authorization: Bearer %s", options->token);
            made->headers = curl_slist_append(NULL, header);
            bb_release(header);
        }
        if (made->headers == NULL) {
            status = bb_fail_memory(error, length, "HTTP requests");
            goto done;
        }
    }
    made->multi = curl_multi_init();
    if (made->multi == NULL)
        status = bb_fail_memory(error, sizeof *made, "HTTP requests");
    else /* a connection a file: several streams over one would share its bandwidth */
        curl_multi_setopt(made->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
done:
    if (status != BOMBUS_OK)
        bb_http_close(made);
    else
        *http = made;
    return status;
}

/* Takes the request out of the running ones and releases what curl holds for it. */
static void detach(struct bb_http *http, struct bb_http_request *request)
{
    struct bb_http_request **link = &http->running;
    while (*link != NULL && *link != request)
        link = &(*link)->next;
    if (*link != NULL)
        *link = request->next;
    if (request->easy != NULL) {
        curl_multi_remove_handle(http->multi, request->easy);
        curl_easy_cleanup(request->easy);
    }
    request->easy = NULL;
    request->next = NULL;
}

void bb_http_cancel(struct bb_http *http, struct bb_http_request *request)
{
    if (request->easy != NULL)
        detach(http, request);
}

void bb_http_close(struct bb_http *http)
{
    if (http == NULL)
        return;
    while (http->running != NULL)
        detach(http, http->running);
    if (http->multi != NULL)
        curl_multi_cleanup(http->multi);
    curl_slist_free_all(http->headers);
    bb_release(http);
    curl_global_cleanup();
}

/* Copies a header's value without surrounding blanks; too long a one is left out. */
static void copy_value(char *out, size_t capacity, const char *value, size_t length)
{
    while (length > 0 && (*value == ' ' || *value == '\t')) {
        value++;
        length--;
    }
    while (length > 0 && strchr(" \t\r\n", value[length - 1]) != NULL)
        length--;
    if (length >= capacity)
        length = 0;
    for (size_t i = 0; i < length; i++) /* what a server sends may end on a terminal */
        out[i] = value[i] >= ' ' && value[i] <= '~' ? value[i] : '?';
    out[length] = '\0';
}

/* An entity tag without W/ and quotes. */
static void copy_tag(char *out, size_t capacity, const char *value)
{
    if (strncmp(value, "W/", 2) == 0)
        value += 2;
    size_t length = strlen(value);
    if (length >= 2 && value[0] == '"' && value[length - 1] == '"') {
        value++;
        length -= 2;
    }
    copy_value(out, capacity, value, length);
}

/* A whole number >= 0, or -1. */
static int64_t parse_count(const char *text)
{
    int64_t number = 0;
    if (*text < '0' || *text > '9')
        return -1;
    for (; *text >= '0' && *text <= '9'; text++)
        if (__builtin_mul_overflow(number, 10, &number) || __builtin_add_overflow(number, *text - '0', &number))
            return -1;
    return number;
}

/* "bytes 5-9/10" */
static void parse_range(struct bb_http_response *response, const char *value)
{
    const char *slash = strchr(value, '/');
    if (strncasecmp(value, "bytes ", 6) != 0 || slash == NULL)
        return;
    response->range_first = parse_count(value + 6);
    response->range_total = parse_count(slash + 1);
}

static void begin_response(struct bb_http_response *response)
{
    struct bb_http_response fresh = {.linked_size = response->linked_size,
                                     .content_length = -1,
                                     .range_first = -1,
                                     .range_total = -1,
                                     .retry_after_s = -1};
    memcpy(fresh.linked_etag, response->linked_etag, sizeof fresh.linked_etag);
    *response = fresh;
}

/* curl hands over one header line at a time, of every response on the way. */
static size_t receive_header(char *line, size_t size, size_t count, void *context)
{
    struct bb_http_request *request = context;
    struct bb_http_response *response = &request->response;
    size_t length = size * count;
    const char *colon = memchr(line, ':', length);
    char name[40], value[512];
    request->latest_byte_ms = bb_clock_ms();
    if (length >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        begin_response(response);
        return length;
    }
    if (colon == NULL || (size_t)(colon - line) >= sizeof name)
        return length;
    copy_value(name, sizeof name, line, (size_t)(colon - line));
    copy_value(value, sizeof value, colon + 1, length - (size_t)(colon + 1 - line));
    if (strcasecmp(name, "etag") == 0)
        copy_tag(response->etag, sizeof response->etag, value);
    else if (strcasecmp(name, "x-linked-etag") == 0)
        copy_tag(response->linked_etag, sizeof response->linked_etag, value);
    else if (strcasecmp(name, "x-linked-size") == 0)
        response->linked_size = parse_count(value);
    else if (strcasecmp(name, "content-length") == 0)
        response->content_length = parse_count(value);
    else if (strcasecmp(name, "content-range") == 0)
        parse_range(response, value);
    else if (strcasecmp(name, "retry-after") == 0)
        response->retry_after_s = parse_count(value);
    else if (strcasecmp(name, "x-error-code") == 0)
        copy_value(response->error_code, sizeof response->error_code, value, strlen(value));
    else if (strcasecmp(name, "x-error-message") == 0)
        copy_value(response->error_message, sizeof response->error_message, value, strlen(value));
    return length;
}

static size_t receive_body(char *bytes, size_t size, size_t count, void *context)
{
    struct bb_http_request *request = context;
    request->latest_byte_ms = bb_clock_ms();
    if (request->response.code == 0)
        curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &request->response.code);
    if ((request->response.code != 200 && request->response.code != 206) || request->receive == NULL)
        return size * count; /* the text of an error page: the status line says enough */
    if (request->receive(request->context, &request->response, bytes, size * count))
        return size * count;
    request->is_stopped = true;
    return 0;
}

static bool set_options(const struct bb_http *http, CURL *easy, struct bb_http_request *request)
{
    const struct bb_http_options *options = &http->options;
    bool is_secure = strncasecmp(request->url, "https:", 6) == 0;
    CURLcode code = curl_easy_setopt(easy, CURLOPT_URL, request->url);
    if (code == CURLE_OK)
        code = curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    if (code == CURLE_OK) /* a download that began in TLS stays in TLS */
        code = curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, is_secure ? "https" : "http,https");
    if (code == CURLE_OK) /* "" keeps libcurl from reading the environment */
        code = curl_easy_setopt(easy, CURLOPT_PROXY, options->proxy != NULL ? options->proxy : "");
    if (code == CURLE_OK)
        code = curl_easy_setopt(easy, CURLOPT_NOPROXY, options->no_proxy != NULL ? options->no_proxy : "");
    if (code == CURLE_OK && options->ca_file != NULL)
        code = curl_easy_setopt(easy, CURLOPT_CAINFO, options->ca_file);
    if (code == CURLE_OK)
        code = curl_easy_setopt(easy, CURLOPT_USERAGENT, "bombus/" BOMBUS_VERSION);
    if (code == CURLE_OK && request->first_byte > 0) {
        snprintf(request->range, sizeof request->range, "%" PRIu64 "-", request->first_byte);
        code = curl_easy_setopt(easy, CURLOPT_RANGE, request->range);
    }
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, http->headers); /* libcurl keeps Authorization from other hosts */
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, request->is_head && !request->follows ? 0L : 1L);
    curl_easy_setopt(easy, CURLOPT_MAXREDIRS, (long)MAX_REDIRECTS);
    curl_easy_setopt(easy, CURLOPT_NOBODY, request->is_head ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)options->connect_timeout_ms);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, receive_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, request);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, receive_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, request);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, request->failure);
    curl_easy_setopt(easy, CURLOPT_PRIVATE, request);
    return code == CURLE_OK;
}

bombus_status bb_http_start(struct bb_http *http, struct bb_http_request *request, bombus_error *error)
{
    CURL *easy = curl_easy_init();
    request->is_finished = request->is_stopped = request->is_stalled = false;
    request->response = (struct bb_http_response){.linked_size = -1};
    begin_response(&request->response);
    request->failure[0] = '\0';
    request->result = 0;
    request->latest_byte_ms = bb_clock_ms();
    if (easy == NULL || !set_options(http, easy, request) || curl_multi_add_handle(http->multi, easy) != CURLM_OK) {
        curl_easy_cleanup(easy);
        return bb_fail_memory(error, sizeof *request, request->url);
    }
    request->easy = easy;
    request->next = http->running;
    http->running = request;
    return BOMBUS_OK;
}

static void finish(struct bb_http *http, struct bb_http_request *request, CURLcode result)
{
    request->result = (int32_t)result;
    curl_easy_getinfo(request->easy, CURLINFO_RESPONSE_CODE, &request->response.code);
    request->is_finished = true;
    detach(http, request);
}

static bool collect(struct bb_http *http)
{
    const CURLMsg *message;
    int left;
    bool has_finished = false;
    while ((message = curl_multi_info_read(http->multi, &left)) != NULL) {
        char *private = NULL;
        if (message->msg != CURLMSG_DONE)
            continue;
        CURLcode result = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
        finish(http, (struct bb_http_request *)(void *)private, result);
        has_finished = true;
    }
    for (struct bb_http_request *request = http->running; request != NULL;) {
        struct bb_http_request *next = request->next;
        if (bb_clock_ms() - request->latest_byte_ms > http->options.stall_timeout_ms) {
            request->is_stalled = true;
            finish(http, request, CURLE_OPERATION_TIMEDOUT);
            has_finished = true;
        }
        request = next;
    }
    return has_finished;
}

bombus_status bb_http_step(struct bb_http *http, int64_t wait_ms, bombus_error *error)
{
    int64_t end = bb_clock_ms() + wait_ms;
    for (;;) {
        int running;
        CURLMcode code = curl_multi_perform(http->multi, &running);
        if (code != CURLM_OK)
            return bb_fail(error, BOMBUS_ERROR_NETWORK, "libcurl: %s", curl_multi_strerror(code));
        int64_t left = end - bb_clock_ms();
        if (collect(http) || left <= 0)
            return BOMBUS_OK;
        code = curl_multi_poll(http->multi, NULL, 0, (int)(left < POLL_MS ? left : POLL_MS), NULL);
        if (code != CURLM_OK)
            return bb_fail(error, BOMBUS_ERROR_NETWORK, "libcurl: %s", curl_multi_strerror(code));
    }
}

static bombus_status judge_code(const struct bb_http_request *request, bool *may_help, bombus_error *error)
{
    const struct bb_http_response *response = &request->response;
    const char *says = response->error_message;
    const char *colon = says[0] != '\0' ? ": " : "";
    *may_help = false;
    if (response->code == 200 || response->code == 206 ||
        (request->is_head && response->code >= 300 && response->code < 400))
        return BOMBUS_OK;
    if (response->code == 401 || response->code == 403)
        return bb_fail(error, BOMBUS_ERROR_NETWORK,
                       "%s: the hub answers %ld%s%s (no such repository, or a private or gated one: is the token set, "
                       "right, and allowed to read it?)",
                       request->url, response->code, colon, says);
    if (response->code == 404)
        return bb_fail(error, BOMBUS_ERROR_NOT_FOUND,
                       "%s: the hub answers 404%s%s%s%s (no such repository, revision or file)", request->url,
                       response->error_code[0] != '\0' ? " " : "", response->error_code, colon, says);
    *may_help = response->code == 408 || response->code == 429 || response->code >= 500;
    if (response->code == 429)
        return bb_fail(error, BOMBUS_ERROR_NETWORK, "%s: the hub answers 429: too many requests%s%s", request->url,
                       colon, says);
    return bb_fail(error, BOMBUS_ERROR_NETWORK, "%s: the hub answers %ld%s%s", request->url, response->code, colon,
                   says);
}

bombus_status bb_http_judge(const struct bb_http_request *request, bool *may_help, bombus_error *error)
{
    const char *reason = request->failure[0] != '\0' ? request->failure : curl_easy_strerror((CURLcode)request->result);
    *may_help = true;
    switch ((CURLcode)request->result) {
    case CURLE_OK: return judge_code(request, may_help, error);
    case CURLE_OUT_OF_MEMORY: *may_help = false; return bb_fail_memory(error, sizeof *request, request->url);
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_TOO_MANY_REDIRECTS:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_WRITE_ERROR: *may_help = false; break;
    default: break;
    }
    if (request->is_stalled)
        reason = "no byte came for too long";
    return bb_fail(error, BOMBUS_ERROR_NETWORK, "%s: %s", request->url, reason);
}
