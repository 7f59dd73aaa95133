/* A small HTTP server for tests of the hub. */
#include "hub_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 256 };

struct hub_server_threads {
    int listener, stop[2];
    pthread_t acceptor, workers[MAX_CONNECTIONS];
    int worker_count;
    pthread_mutex_t mutex;
};

struct connection {
    struct hub_server *server;
    int socket;
};

/* One parsed request. */
struct call {
    char method[8], path[1024];
    bool has_range, has_token;
    unsigned long first_byte;
};

/* Waits for the socket to be readable; false when the server stops. */
static bool wait_readable(const struct hub_server *server, int descriptor)
{
    struct pollfd sources[2] = {{descriptor, POLLIN, 0}, {server->threads->stop[0], POLLIN, 0}};
    return poll(sources, 2, 10000) > 0 && sources[1].revents == 0;
}

static void send_all(int descriptor, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t count = send(descriptor, bytes, size, MSG_NOSIGNAL);
        if (count <= 0)
            return;
        bytes += count;
        size -= (size_t)count;
    }
}

static bool read_call(const struct hub_server *server, int descriptor, struct call *call)
{
    char text[8192];
    size_t length = 0;
    *call = (struct call){0};
    do {
        if (length + 1 >= sizeof text || !wait_readable(server, descriptor))
            return false;
        ssize_t count = recv(descriptor, text + length, sizeof text - 1 - length, 0);
        if (count <= 0)
            return false;
        length += (size_t)count;
        text[length] = '\0';
    } while (strstr(text, "\r\n\r\n") == NULL);
    if (sscanf(text, "%7s %1023s", call->method, call->path) != 2)
        return false;
    const char *range = strstr(text, "Range: bytes=");
    if (range != NULL) {
        call->has_range = true;
        call->first_byte = strtoul(range + 13, NULL, 10);
    }
    call->has_token = strstr(text, "Authorization: Bearer secret\r\n") != NULL;
    return true;
}

static void send_status(int descriptor, int status, const char *headers, const char *body)
{
    char text[4096];
    int length = snprintf(text, sizeof text, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\n%s\r\n%s", status, strlen(body),
                          headers, body);
    send_all(descriptor, text, (size_t)length);
}

static char *make_listing(const struct hub_server *server)
{
    size_t capacity = 1000 + 500 * server->file_count, length;
    char *text = malloc(capacity);
    length = (size_t)snprintf(text, capacity, "{\"sha\": \"%s\", \"siblings\": [", server->commit);
    for (size_t i = 1; i < server->file_count; i++) {
        const struct hub_file *file = &server->files[i];
        length += (size_t)snprintf(text + length, capacity - length, "%s{\"rfilename\": \"%s\"", i > 1 ? ", " : "",
                                   file->name);
        if (!server->has_no_digests && file->sha256 != NULL)
            length +=
                (size_t)snprintf(text + length, capacity - length,
                                 ", \"size\": %zu, \"blobId\": \"%s\", \"lfs\": {\"sha256\": \"%s\", \"size\": %zu}",
                                 file->size, server->commit, file->sha256, file->size);
        else if (!server->has_no_digests)
            length += (size_t)snprintf(text + length, capacity - length, ", \"size\": %zu, \"blobId\": \"%s\"",
                                       file->size, file->sha1);
        length += (size_t)snprintf(text + length, capacity - length, "}");
    }
    snprintf(text + length, capacity - length, "]}");
    return text;
}

void hub_server_lock(struct hub_server *server)
{
    pthread_mutex_lock(&server->threads->mutex);
}

void hub_server_unlock(struct hub_server *server)
{
    pthread_mutex_unlock(&server->threads->mutex);
}

/* Which fault this request has. */
static enum hub_fault take_fault(struct hub_server *server, struct hub_file *file, const struct call *call)
{
    hub_server_lock(server);
    enum hub_fault fault = file->fault_count > 0 ? file->fault : HUB_FAULT_NONE;
    if (fault != HUB_FAULT_NONE)
        file->fault_count--;
    file->request_count++;
    file->range_count += call->has_range;
    hub_server_unlock(server);
    return fault;
}

static void send_file(struct hub_server *server, int descriptor, const struct call *call, const struct hub_file *file,
                      enum hub_fault fault)
{
    char head[1024], tag[300];
    bool keeps_range = call->has_range && fault != HUB_FAULT_IGNORE_RANGE;
    size_t first = keeps_range ? call->first_byte : 0;
    if (fault == HUB_FAULT_WRONG_RANGE && call->has_range)
        first = first > 0 ? first - 1 : 0;
    if (first > file->size) {
        send_status(descriptor, 416, "", "");
        return;
    }
    size_t size = file->size - first, told = size, sent = size;
    if (fault == HUB_FAULT_BREAK || fault == HUB_FAULT_STALL ||
        ((fault == HUB_FAULT_IGNORE_RANGE || fault == HUB_FAULT_WRONG_RANGE) && !call->has_range))
        sent = size / 2;
    if (fault == HUB_FAULT_TOO_SHORT)
        told = sent = size / 2;
    if (fault == HUB_FAULT_TOO_LONG)
        told = size + 100;
    if (file->sha256 != NULL) /* as the hub: the tag of the resolved address is of another kind */
        snprintf(tag, sizeof tag, "ETag: \"some-other\"\r\nX-Linked-Etag: \"%s\"\r\nX-Linked-Size: %zu", file->sha256,
                 file->size);
    else
        snprintf(tag, sizeof tag, "ETag: W/\"%s\"", file->sha1);
    int length = snprintf(head, sizeof head, "HTTP/1.1 %d X\r\nContent-Length: %zu\r\nX-Repo-Commit: %s\r\n%s\r\n",
                          keeps_range ? 206 : 200, told, server->commit, tag);
    if (keeps_range)
        length += snprintf(head + length, sizeof head - (size_t)length, "Content-Range: bytes %zu-%zu/%zu\r\n", first,
                           file->size - 1, file->size);
    length += snprintf(head + length, sizeof head - (size_t)length, "\r\n");
    send_all(descriptor, head, (size_t)length);
    if (strcmp(call->method, "HEAD") == 0)
        return;
    if (fault == HUB_FAULT_WRONG_BYTES && sent > 0) {
        char wrong = (char)(file->content[first] ^ 1);
        send_all(descriptor, &wrong, 1);
        send_all(descriptor, file->content + first + 1, sent - 1);
    } else {
        send_all(descriptor, file->content + first, sent);
    }
    for (size_t i = sent; fault == HUB_FAULT_TOO_LONG && i < told; i++)
        send_all(descriptor, "x", 1);
}

/* Answers a request; false if the connection is to be closed. */
static bool answer(struct hub_server *server, int descriptor, const struct call *call)
{
    char prefix[600], location[2048];
    struct hub_file *file = NULL;
    snprintf(prefix, sizeof prefix, "/api/models/%s/revision/%s?blobs=true", server->repository, server->revision);
    if (strcmp(call->path, prefix) == 0)
        file = &server->files[0];
    snprintf(prefix, sizeof prefix, "/%s/resolve/%s/", server->repository, server->commit);
    /* "/elsewhere" stands for the storage that the hub redirects to. */
    const char *path = strncmp(call->path, "/elsewhere", 10) == 0 ? call->path + 10 : call->path;
    if (strncmp(path, prefix, strlen(prefix)) == 0)
        for (size_t i = 1; i < server->file_count; i++)
            if (strcmp(server->files[i].name, path + strlen(prefix)) == 0)
                file = &server->files[i];
    pthread_mutex_lock(&server->threads->mutex);
    *(call->has_token ? &server->token_count : &server->stranger_count) += 1;
    pthread_mutex_unlock(&server->threads->mutex);
    if (file == NULL) {
        send_status(descriptor, 404, "X-Error-Code: EntryNotFound\r\nX-Error-Message: Entry not found\r\n", "no");
        return true;
    }
    bool is_redirected = path != call->path;
    enum hub_fault fault = is_redirected ? HUB_FAULT_NONE : take_fault(server, file, call);
    switch (fault) {
    case HUB_FAULT_SILENT: /* waits for the client to give up, or the server to stop */
        return wait_readable(server, descriptor);
    case HUB_FAULT_STATUS:
        send_status(descriptor, file->status, file->headers != NULL ? file->headers : "", "some text");
        return true;
    case HUB_FAULT_REDIRECT:
        snprintf(location, sizeof location,
                 "Location: %s/elsewhere%s\r\nX-Linked-Etag: \"%s\"\r\nX-Linked-Size: %zu\r\n", file->redirect,
                 call->path, file->sha256 != NULL ? file->sha256 : "", file->size);
        send_status(descriptor, 302, location, "");
        return true;
    case HUB_FAULT_PLAIN_REDIRECT:
        snprintf(location, sizeof location, "Location: %s/elsewhere%s\r\n", file->redirect, call->path);
        send_status(descriptor, 307, location, "");
        return true;
    case HUB_FAULT_REDIRECT_LOOP:
        snprintf(location, sizeof location, "Location: %s\r\n", call->path);
        send_status(descriptor, 302, location, "");
        return true;
    case HUB_FAULT_GARBAGE: send_all(descriptor, "hello\r\n\r\n", 9); return false;
    default: break;
    }
    if (file == &server->files[0]) {
        char *listing = server->listing != NULL ? strdup(server->listing) : make_listing(server);
        char head[100];
        size_t size = strlen(listing);
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", size);
        send_all(descriptor, head, strlen(head));
        send_all(descriptor, listing, size);
        free(listing);
        return true;
    }
    send_file(server, descriptor, call, file, fault);
    if (fault == HUB_FAULT_STALL)
        return wait_readable(server, descriptor) && false;
    return fault == HUB_FAULT_NONE || fault == HUB_FAULT_WRONG_BYTES;
}

static void *serve(void *argument)
{
    struct connection connection = *(struct connection *)argument;
    struct call call;
    free(argument);
    while (read_call(connection.server, connection.socket, &call) &&
           answer(connection.server, connection.socket, &call))
        continue;
    shutdown(connection.socket, SHUT_RDWR);
    close(connection.socket);
    return NULL;
}

static void *accept_all(void *argument)
{
    struct hub_server *server = argument;
    struct hub_server_threads *threads = server->threads;
    for (;;) {
        struct pollfd sources[2] = {{threads->listener, POLLIN, 0}, {threads->stop[0], POLLIN, 0}};
        if (poll(sources, 2, -1) < 0 || sources[1].revents != 0)
            return NULL;
        int descriptor = accept(threads->listener, NULL, NULL);
        if (descriptor < 0)
            continue;
        struct connection *connection = malloc(sizeof *connection);
        *connection = (struct connection){server, descriptor};
        if (threads->worker_count == MAX_CONNECTIONS ||
            pthread_create(&threads->workers[threads->worker_count], NULL, serve, connection) != 0) {
            close(descriptor);
            free(connection);
        } else {
            threads->worker_count++;
        }
    }
}

bool hub_server_start(struct hub_server *server)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    struct hub_server_threads *threads = calloc(1, sizeof *threads);
    server->threads = threads;
    pthread_mutex_init(&threads->mutex, NULL);
    threads->listener = socket(AF_INET, SOCK_STREAM, 0);
    if (threads->listener < 0 || pipe(threads->stop) != 0 ||
        bind(threads->listener, (struct sockaddr *)&address, length) != 0 || listen(threads->listener, 64) != 0 ||
        getsockname(threads->listener, (struct sockaddr *)&address, &length) != 0)
        return false;
    server->port = ntohs(address.sin_port);
    return pthread_create(&threads->acceptor, NULL, accept_all, server) == 0;
}

void hub_server_stop(struct hub_server *server)
{
    struct hub_server_threads *threads = server->threads;
    if (write(threads->stop[1], "x", 1) != 1)
        return;
    pthread_join(threads->acceptor, NULL);
    for (int i = 0; i < threads->worker_count; i++)
        pthread_join(threads->workers[i], NULL);
    close(threads->listener);
    close(threads->stop[0]);
    close(threads->stop[1]);
    pthread_mutex_destroy(&threads->mutex);
    free(threads);
    server->threads = NULL;
}
