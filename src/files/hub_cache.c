/* The cache's layout on disk (hub_parts.h): looking snapshots up, linking files into them, names of revisions. */
#include "files/hub_parts.h"

#include "base/file.h"
#include "files/config.h"
#include "files/safetensors.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool bb_hub_is_commit(const char *text)
{
    return strlen(text) == 40 && strspn(text, "0123456789abcdef") == 40;
}

bool bb_hub_is_safe_commit(const char *text)
{
    size_t length = strlen(text);
    return length > 0 && length < BB_HUB_COMMIT_SIZE &&
           strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == length;
}

/* The commit that refs/REVISION notes; "" if there is none. */
static bombus_status read_ref(struct bb_hub *hub, char commit[BB_HUB_COMMIT_SIZE], bombus_error *error)
{
    char *text;
    size_t length;
    commit[0] = '\0';
    const char *path = bb_hub_format(hub, "%s/refs/%s", hub->folder, hub->revision);
    if (path == NULL)
        return bb_fail_memory(error, strlen(hub->folder), hub->folder);
    if (!bb_file_exists(path))
        return BOMBUS_OK;
    bombus_status status = bb_file_read(&text, &length, path, 4096, error);
    if (status != BOMBUS_OK)
        return status;
    while (length > 0 && strchr(" \r\n", text[length - 1]) != NULL)
        text[--length] = '\0';
    if (bb_hub_is_safe_commit(text))
        memcpy(commit, text, length + 1);
    bb_release(text);
    return BOMBUS_OK;
}

static bool has_file(const char *folder, const char *name)
{
    char *path = bb_path_join(folder, name);
    bool exists = path != NULL && bb_file_exists(path);
    bb_release(path);
    return exists;
}

/* Whether the folder holds any whole .safetensors file (a link to a blob that is not there is none). */
static bool has_weights(const char *folder)
{
    DIR *directory = opendir(folder);
    const struct dirent *item;
    bool found = false;
    while (directory != NULL && !found && (item = readdir(directory)) != NULL) {
        size_t length = strlen(item->d_name);
        found =
            length > 12 && strcmp(item->d_name + length - 12, ".safetensors") == 0 && has_file(folder, item->d_name);
    }
    if (directory != NULL)
        closedir(directory);
    return found;
}

/* Whether every shard is there that the index names. */
static bool has_shards(const char *folder, const char *index)
{
    char *text, *path = bb_path_join(folder, index);
    size_t length;
    const char *key, *latest = "";
    json_t *value;
    if (path == NULL || bb_file_read(&text, &length, path, 100000000, NULL) != BOMBUS_OK) {
        bb_release(path);
        return false;
    }
    json_t *root = json_loadb(text, length, 0, NULL);
    bool is_complete = json_is_object(json_object_get(root, "weight_map"));
    json_object_foreach(json_object_get(root, "weight_map"), key, value)
    {
        const char *name = json_string_value(value);
        if (name != NULL && strcmp(name, latest) == 0)
            continue;
        is_complete = is_complete && name != NULL && strchr(name, '/') == NULL && has_file(folder, name);
        latest = name != NULL ? name : "";
    }
    json_decref(root);
    bb_release(text);
    bb_release(path);
    return is_complete;
}

/* Interrupted downloads, of other tools or of a commit by its name, leave snapshots that lack weights or a tokenizer. */
static bool is_complete(const char *snapshot)
{
    static const char index[] = "model.safetensors.index.json";
    if (!has_file(snapshot, has_file(snapshot, "config.json") ? "tokenizer.json" : "adapter_config.json"))
        return false;
    if (has_file(snapshot, index) && !has_file(snapshot, "model.safetensors"))
        return has_shards(snapshot, index);
    return has_weights(snapshot);
}

bombus_status bb_hub_look_up(struct bb_hub *hub, bool may_lack, const char **snapshot, bombus_error *error)
{
    char commit[BB_HUB_COMMIT_SIZE];
    *snapshot = NULL;
    if (bb_hub_is_commit(hub->revision)) {
        memcpy(commit, hub->revision, strlen(hub->revision) + 1);
    } else {
        bombus_status status = read_ref(hub, commit, error);
        if (status != BOMBUS_OK || commit[0] == '\0')
            return status;
    }
    const char *path = bb_hub_format(hub, "%s/snapshots/%s", hub->folder, commit);
    if (path == NULL)
        return bb_fail_memory(error, strlen(hub->folder), hub->folder);
    if (bb_folder_exists(path) && (may_lack || is_complete(path)))
        *snapshot = path;
    return BOMBUS_OK;
}

/* Makes the folder in which `path` lies. */
static bombus_status create_parent(struct bb_hub *hub, const char *path, bombus_error *error)
{
    const char *folder = bb_hub_format(hub, "%.*s", (int)(strrchr(path, '/') - path), path);
    if (folder == NULL)
        return bb_fail_memory(error, strlen(path), path);
    return bb_folder_create(folder, error);
}

bombus_status bb_hub_link(struct bb_hub *hub, const struct bb_hub_file *file, bombus_error *error)
{
    const char *path = bb_hub_format(hub, "%s/snapshots/%s/%s", hub->folder, hub->commit, file->name);
    const char *temporary =
        bb_hub_format(hub, "%s/snapshots/%s/%s.%ld.tmp", hub->folder, hub->commit, file->name, (long)getpid());
    const char *blob = bb_hub_format(hub, "%s/blobs/%s", hub->folder, file->tag);
    struct bb_buffer target = {0};
    bb_buffer_add_text(&target, "../../");
    for (const char *c = file->name; *c != '\0'; c++)
        if (*c == '/')
            bb_buffer_add_text(&target, "../");
    bb_buffer_format(&target, "blobs/%s", file->tag);
    bombus_status status = BOMBUS_OK;
    if (path == NULL || temporary == NULL || blob == NULL || target.is_failed) {
        status = bb_fail_memory(error, strlen(hub->folder), hub->folder);
        goto done;
    }
    status = create_parent(hub, path, error);
    if (status != BOMBUS_OK)
        goto done;
    unlink(temporary);
    if (symlink(target.data, temporary) != 0) {
        int code = errno;
        /* A file system without links: the file itself stands in the snapshot then, as the other tools have it. */
        bool has_no_links = code == EPERM || code == EOPNOTSUPP || code == ENOSYS;
        if (!has_no_links || rename(blob, path) != 0)
            status = bb_fail_io(error, code, "cannot link", path);
    } else if (rename(temporary, path) != 0) {
        status = bb_fail_io(error, errno, "cannot link", path);
        unlink(temporary);
    }
done:
    bb_buffer_clear(&target);
    return status;
}

bombus_status bb_hub_write_ref(struct bb_hub *hub, bombus_error *error)
{
    char commit[BB_HUB_COMMIT_SIZE];
    if (strcmp(hub->revision, hub->commit) == 0)
        return BOMBUS_OK;
    bombus_status status = read_ref(hub, commit, error);
    if (status != BOMBUS_OK || strcmp(commit, hub->commit) == 0)
        return status;
    const char *path = bb_hub_format(hub, "%s/refs/%s", hub->folder, hub->revision);
    if (path == NULL)
        return bb_fail_memory(error, strlen(hub->folder), hub->folder);
    status = create_parent(hub, path, error);
    return status == BOMBUS_OK ? bb_file_write(path, hub->commit, strlen(hub->commit), error) : status;
}
