/* What the hub says about a repository: the commit of a revision, its files, their digests. Nothing it says is trusted
 * with paths. */
#include "files/hub_parts.h"

#include <fnmatch.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LISTING_SIZE = 64 << 20, MAX_NAME_LENGTH = 512, MAX_NAME_DEPTH = 16, STEP_MS = 200 };

struct body {
    struct bb_buffer bytes;
    bool is_too_long;
};

static bool receive_text(void *context, const struct bb_http_response *response, const char *bytes, size_t count)
{
    struct body *body = context;
    (void)response;
    body->is_too_long = count > MAX_LISTING_SIZE - body->bytes.length;
    if (!body->is_too_long)
        bb_buffer_add(&body->bytes, bytes, count);
    return !body->is_too_long && !body->bytes.is_failed;
}

/* Lets time pass while the caller may cancel. */
static bombus_status wait_for(struct bb_hub *hub, int64_t delay_ms, bombus_error *error)
{
    int64_t end = bb_clock_ms() + delay_ms;
    for (int64_t left = delay_ms; left > 0; left = end - bb_clock_ms()) {
        bombus_status status = bb_hub_report(hub, "", 0, 0, error);
        if (status == BOMBUS_OK)
            status = bb_http_step(hub->http, left < STEP_MS ? left : STEP_MS, error);
        if (status != BOMBUS_OK)
            return status;
    }
    return BOMBUS_OK;
}

/* Sends a request until it is answered, or has failed for good. */
static bombus_status ask(struct bb_hub *hub, struct bb_http_request *request, struct body *body, bombus_error *error)
{
    for (int32_t attempt = 1;; attempt++) {
        bool may_help = false;
        body->bytes.length = 0;
        bombus_status status = bb_http_start(hub->http, request, error);
        while (status == BOMBUS_OK && !request->is_finished) {
            status = bb_http_step(hub->http, STEP_MS, error);
            if (status == BOMBUS_OK)
                status = bb_hub_report(hub, "", 0, 0, error);
        }
        if (status != BOMBUS_OK) {
            bb_http_cancel(hub->http, request);
            return status;
        }
        if (body->bytes.is_failed)
            return bb_fail_memory(error, body->bytes.length, request->url);
        if (body->is_too_long)
            return bb_fail(error, BOMBUS_ERROR_NETWORK, "%s: the answer is longer than %d bytes", request->url,
                           MAX_LISTING_SIZE);
        status = bb_http_judge(request, &may_help, error);
        if (status == BOMBUS_OK || !may_help || attempt > bb_hub_retry_count(hub))
            return status;
        int64_t delay_ms = bb_hub_delay_ms(hub, attempt, request->response.retry_after_s);
        if (delay_ms < 0)
            return status;
        status = wait_for(hub, delay_ms, error);
        if (status != BOMBUS_OK)
            return status;
    }
}

/* `text` with all but unreserved characters (and slashes, if they are kept) as %XX. */
static const char *encode(struct bb_hub *hub, const char *text, bool keeps_slashes)
{
    static const char unreserved[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~";
    struct bb_buffer out = {0};
    for (; *text != '\0'; text++) {
        if (strchr(unreserved, *text) != NULL || (keeps_slashes && *text == '/'))
            bb_buffer_add_byte(&out, *text);
        else
            bb_buffer_format(&out, "%%%02X", (unsigned)(unsigned char)*text);
    }
    const char *encoded = out.is_failed ? NULL : bb_hub_format(hub, "%s", out.data != NULL ? out.data : "");
    bb_buffer_clear(&out);
    return encoded;
}

const char *bb_hub_file_url(struct bb_hub *hub, const struct bb_hub_file *file)
{
    const char *name = encode(hub, file->name, true);
    return name != NULL ? bb_hub_format(hub, "%s/%s/resolve/%s/%s", hub->endpoint, hub->repository, hub->commit, name)
                        : NULL;
}

/* A relative path that stays in its folder. */
static bool is_safe_name(const char *name)
{
    size_t length = strlen(name), depth = 0;
    if (length == 0 || length > MAX_NAME_LENGTH)
        return false;
    for (const char *part = name;; part++) {
        size_t part_length = strcspn(part, "/");
        bool is_dots = strspn(part, ".") >= part_length && part_length <= 2;
        if (is_dots || ++depth > MAX_NAME_DEPTH)
            return false;
        for (size_t i = 0; i < part_length; i++)
            if (part[i] == '\\' || (unsigned char)part[i] < ' ' || part[i] == '\x7F')
                return false;
        part += part_length;
        if (*part == '\0')
            return true;
    }
}

static bool matches(const char *name, const char *const *patterns)
{
    for (; *patterns != NULL; patterns++)
        if (fnmatch(*patterns, name, 0) == 0)
            return true;
    return false;
}

/* By default the files of the top folder that a model or an adapter is loaded from; consolidated.* are the same weights
 * a second time. */
static bool is_wanted(const struct bb_hub *hub, const char *name)
{
    static const char *const usual[] = {"*.json", "*.safetensors", "*.jinja", NULL};
    static const char *const unwanted[] = {"*/*", "consolidated*", NULL};
    if (hub->options->patterns != NULL)
        return matches(name, hub->options->patterns);
    return matches(name, usual) && !matches(name, unwanted);
}

static bool is_digest(const char *text, size_t length)
{
    return text != NULL && strlen(text) == length && strspn(text, "0123456789abcdef") == length;
}

static bombus_status add_file(struct bb_hub *hub, const json_t *item, const char *url, bombus_error *error)
{
    const json_t *name = json_object_get(item, "rfilename"), *lfs = json_object_get(item, "lfs");
    const char *text = json_string_value(name);
    if (text == NULL || strlen(text) != json_string_length(name) || !is_safe_name(text))
        return bb_fail(error, BOMBUS_ERROR_NETWORK, "%s: the hub lists a file of the unusable name '%.100s'", url,
                       text != NULL ? text : "");
    if (!is_wanted(hub, text))
        return BOMBUS_OK;
    struct bb_hub_file *file = &hub->files[hub->file_count];
    const char *digest =
                   json_string_value(json_object_get(lfs, json_object_get(lfs, "sha256") != NULL ? "sha256" : "oid")),
               *blob = json_string_value(json_object_get(item, "blobId"));
    const json_t *size = json_object_get(lfs, "size");
    if (!json_is_integer(size))
        size = json_object_get(item, "size");
    *file = (struct bb_hub_file){.name = bb_hub_format(hub, "%s", text), .size = -1};
    if (file->name == NULL)
        return bb_fail_memory(error, strlen(text), url);
    hub->file_count++;
    if (!json_is_integer(size) || json_integer_value(size) < 0)
        return BOMBUS_OK;
    file->size = json_integer_value(size);
    if (is_digest(digest, 64))
        memcpy(file->tag, digest, 65);
    else if (!json_is_object(lfs) && is_digest(blob, 40))
        memcpy(file->tag, blob, 41);
    return BOMBUS_OK;
}

static bombus_status read_listing(struct bb_hub *hub, const struct body *body, const char *url, bombus_error *error)
{
    json_error_t place;
    json_t *root = json_loadb(body->bytes.data != NULL ? body->bytes.data : "", body->bytes.length, 0, &place);
    const json_t *siblings = json_object_get(root, "siblings");
    const char *commit = json_string_value(json_object_get(root, "sha"));
    bombus_status status = BOMBUS_OK;
    size_t count = json_array_size(siblings);
    if (root == NULL)
        status = bb_fail(error, BOMBUS_ERROR_NETWORK, "%s: the answer is no JSON: %s", url, place.text);
    else if (commit == NULL || !bb_hub_is_safe_commit(commit) || !json_is_array(siblings))
        status = bb_fail(error, BOMBUS_ERROR_NETWORK, "%s: the answer names no commit ('sha') or no files ('siblings')",
                         url);
    if (status != BOMBUS_OK)
        goto done;
    memcpy(hub->commit, commit, strlen(commit) + 1);
    hub->files = bb_arena_allocate(&hub->arena, count, sizeof *hub->files);
    if (hub->files == NULL)
        status = bb_fail_memory(error, count * sizeof *hub->files, url);
    for (size_t i = 0; i < count && status == BOMBUS_OK; i++)
        status = add_file(hub, json_array_get(siblings, i), url, error);
    if (status == BOMBUS_OK && hub->file_count == 0)
        status = bb_fail(error, BOMBUS_ERROR_NOT_FOUND, "%s: none of its %zu files matches the patterns", url, count);
done:
    json_decref(root);
    return status;
}

bombus_status bb_hub_list(struct bb_hub *hub, bombus_error *error)
{
    const char *revision = encode(hub, hub->revision, false);
    const char *url = revision != NULL ? bb_hub_format(hub, "%s/api/models/%s/revision/%s?blobs=true", hub->endpoint,
                                                       hub->repository, revision)
                                       : NULL;
    if (url == NULL)
        return bb_fail_memory(error, strlen(hub->endpoint), hub->repository);
    struct body body = {0};
    struct bb_http_request request = {.url = url, .receive = receive_text, .context = &body};
    bombus_status status = ask(hub, &request, &body, error);
    if (status == BOMBUS_OK)
        status = read_listing(hub, &body, url, error);
    bb_buffer_clear(&body.bytes);
    return status;
}

/* Tags become file names. */
static bool is_safe_tag(const char *tag)
{
    return tag[0] != '\0' && tag[0] != '.' &&
           tag[strspn(tag, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")] == '\0';
}

bombus_status bb_hub_ask_file(struct bb_hub *hub, struct bb_hub_file *file, bombus_error *error)
{
    struct body body = {0};
    struct bb_http_request request = {.is_head = true, .url = bb_hub_file_url(hub, file)};
    const struct bb_http_response *response = &request.response;
    char tag[BB_HUB_TAG_SIZE];
    if (request.url == NULL)
        return bb_fail_memory(error, strlen(hub->endpoint), file->name);
    bombus_status status = ask(hub, &request, &body, error);
    memcpy(tag, response->etag, sizeof tag);
    /* A redirect to the file's storage tells all in X-Linked-*, and is not worth following; that of a renamed
     * repository tells nothing. */
    if (status == BOMBUS_OK && response->code >= 300 &&
        (response->linked_etag[0] == '\0' || response->linked_size < 0)) {
        request.follows = true;
        status = ask(hub, &request, &body, error);
    }
    if (status != BOMBUS_OK)
        return status;
    if (response->linked_etag[0] != '\0')
        memcpy(tag, response->linked_etag, sizeof tag);
    else if (tag[0] == '\0')
        memcpy(tag, response->etag, sizeof tag);
    int64_t size = response->linked_size >= 0 ? response->linked_size : response->content_length;
    if (!is_safe_tag(tag) || size < 0)
        return bb_fail(error, BOMBUS_ERROR_NETWORK,
                       "%s: the hub does not tell the file's digest and size (ETag '%.100s')", request.url, tag);
    memcpy(file->tag, tag, sizeof tag);
    file->size = size;
    return BOMBUS_OK;
}
