/* Model folders by reference: reads the reference, looks into the cache, and has the rest downloaded. */
#include "files/hub.h"

#include "base/file.h"
#include "files/hub_parts.h"

#include <string.h>

enum { MAX_REFERENCE = 512, MAX_REPOSITORY_NAME = 96 };

/* One part of "owner/name", by the hub's rules. */
static bool is_repository_part(const char *text, size_t length)
{
    if (length == 0 || length > MAX_REPOSITORY_NAME || strchr("-.", text[0]) != NULL ||
        strchr("-.", text[length - 1]) != NULL)
        return false;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
        /* "--" stands for the slash in the cache's folder names. */
        if (!is_plain && (strchr("-.", c) == NULL || text[i - 1] == c))
            return false;
    }
    return true;
}

/* A branch, tag or commit; becomes a path under refs/. */
static bool is_revision(const char *text)
{
    size_t part = 0, i = 0;
    for (; text[i] != '\0'; i++, part++) {
        if (text[i] < '!' || text[i] > '~' || strchr("\\\"*:<>?|~^[", text[i]) != NULL)
            return false;
        if (text[i] == '/') {
            if (part == 0)
                return false;
            part = (size_t)-1;
        }
        if (text[i] == '.' && (part == 0 || text[i - 1] == '.'))
            return false;
    }
    return part > 0 && i < 256;
}

/* Takes owner/name[@revision] apart. False if that is not what it is. */
static bool parse_reference(struct bb_hub *hub, const char *reference, bool *is_out_of_memory)
{
    size_t length = strcspn(reference, "@");
    const char *slash = memchr(reference, '/', length);
    const char *revision = reference[length] == '@' ? reference + length + 1 : "main";
    size_t owner = slash != NULL ? (size_t)(slash - reference) : 0;
    if (slash == NULL || strlen(reference) > MAX_REFERENCE || !is_repository_part(reference, owner) ||
        !is_repository_part(slash + 1, length - owner - 1) || !is_revision(revision))
        return false;
    hub->repository = bb_hub_format(hub, "%.*s", (int)length, reference);
    hub->revision = bb_hub_format(hub, "%s", revision);
    const char *name =
        bb_hub_format(hub, "models--%.*s--%.*s", (int)owner, reference, (int)(length - owner - 1), slash + 1);
    const char *cache = hub->options->cache_folder;
    if (name != NULL && cache != NULL) {
        hub->folder = bb_hub_format(hub, "%s/%s", cache, name);
        hub->lock_folder = bb_hub_format(hub, "%s/.locks/%s", cache, name);
    }
    *is_out_of_memory = hub->repository == NULL || hub->revision == NULL || name == NULL ||
                        (cache != NULL && (hub->folder == NULL || hub->lock_folder == NULL));
    return true;
}

static bombus_status find_endpoint(struct bb_hub *hub, bombus_error *error)
{
    const char *endpoint = hub->options->endpoint != NULL && hub->options->endpoint[0] != '\0'
                               ? hub->options->endpoint
                               : "https://huggingface.co";
    size_t length = strlen(endpoint);
    if (strncmp(endpoint, "https://", 8) != 0 && strncmp(endpoint, "http://", 7) != 0)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "the hub's endpoint '%s' must begin with https:// or http://",
                       endpoint);
    while (length > 0 && endpoint[length - 1] == '/')
        length--;
    hub->endpoint = bb_hub_format(hub, "%.*s", (int)length, endpoint);
    return hub->endpoint != NULL ? BOMBUS_OK : bb_fail_memory(error, length, "the hub's endpoint");
}

static bombus_status download(struct bb_hub *hub, const char **snapshot, bombus_error *error)
{
    const bombus_hub_options *options = hub->options;
    const struct bb_http_options http_options = {
        .token = options->token,
        .proxy = options->proxy,
        .no_proxy = options->no_proxy,
        .ca_file = options->ca_file,
        .connect_timeout_ms = options->connect_timeout_ms > 0 ? options->connect_timeout_ms : 30000,
        .stall_timeout_ms = options->stall_timeout_ms > 0 ? options->stall_timeout_ms : 60000,
    };
    bombus_status status = find_endpoint(hub, error);
    if (status == BOMBUS_OK)
        status = bb_http_open(&hub->http, &http_options, error);
    if (status == BOMBUS_OK)
        status = bb_hub_list(hub, error);
    if (status == BOMBUS_OK)
        status = bb_hub_download(hub, error);
    if (status == BOMBUS_OK) /* last, so that a name never leads to a snapshot that lacks files */
        status = bb_hub_write_ref(hub, error);
    if (status != BOMBUS_OK)
        return status;
    *snapshot = bb_hub_format(hub, "%s/snapshots/%s", hub->folder, hub->commit);
    return *snapshot != NULL ? BOMBUS_OK : bb_fail_memory(error, strlen(hub->folder), hub->folder);
}

static bombus_status find_snapshot(struct bb_hub *hub, const char **snapshot, bombus_error *error)
{
    const bombus_hub_options *options = hub->options;
    bombus_status status = BOMBUS_OK;
    if (hub->folder == NULL)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: no cache folder is set to keep it in", hub->repository);
    /* What the caller's own patterns ask for can only be known from the hub's list of files. */
    if (options->is_offline || (!options->check_revision && !options->force_download && options->patterns == NULL))
        status = bb_hub_look_up(hub, options->is_offline, snapshot, error);
    if (status != BOMBUS_OK || *snapshot != NULL)
        return status;
    if (options->is_offline)
        return bb_fail(error, BOMBUS_ERROR_NOT_FOUND,
                       "%s: revision '%s' is not in the cache %s, and offline nothing is downloaded", hub->repository,
                       hub->revision, options->cache_folder);
    return download(hub, snapshot, error);
}

bombus_status bb_hub_resolve(char **folder, const char *reference, const bombus_hub_options *options,
                             bombus_error *error)
{
    static const bombus_hub_options no_options;
    struct bb_hub hub = {.options = options != NULL ? options : &no_options};
    const char *snapshot = NULL;
    bool has_scheme = strncmp(reference, "hf:", 3) == 0, is_out_of_memory = false;
    bombus_status status = BOMBUS_OK;
    *folder = NULL;
    if (!has_scheme && bb_folder_exists(reference))
        snapshot = reference;
    else if (!parse_reference(&hub, has_scheme ? reference + 3 : reference, &is_out_of_memory))
        status = bb_fail(error, BOMBUS_ERROR_NOT_FOUND,
                         "%s: no such folder, nor a reference like hf:owner/name@revision", reference);
    else if (is_out_of_memory)
        status = bb_fail_memory(error, strlen(reference), reference);
    else
        status = find_snapshot(&hub, &snapshot, error);
    if (status == BOMBUS_OK && (*folder = bb_copy_text(snapshot, strlen(snapshot))) == NULL)
        status = bb_fail_memory(error, strlen(snapshot), reference);
    bb_http_close(hub.http);
    bb_arena_clear(&hub.arena);
    return status;
}
