/* What a new model folder holds beside its tensors. */
#include "files/checkpoint_write.h"

#include "base/file.h"
#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_COPY_SIZE = 1 << 28 };

static bombus_status write_json(const char *folder, const char *name, json_t *object, bombus_error *error)
{
    char *path = bb_path_join(folder, name), *text = object != NULL ? json_dumps(object, JSON_INDENT(4)) : NULL;
    bombus_status status = path != NULL && text != NULL ? bb_file_write(path, text, strlen(text), error)
                                                        : bb_fail_memory(error, strlen(folder), name);
    free(text);
    bb_release(path);
    return status;
}

static bool set_scheme(json_t *quantization, const struct bb_scheme_entry *entry)
{
    return json_object_set_new(quantization, entry->path,
                               json_pack("{s:i, s:i, s:s}", "group_size", (int)entry->scheme.group_size, "bits",
                                         (int)entry->scheme.bits, "mode", entry->mode)) == 0;
}

bombus_status bb_checkpoint_write_config(const struct bb_checkpoint *checkpoint, const char *folder, bool is_dense,
                                         const struct bb_scheme_entry *entries, size_t count, bombus_error *error)
{
    static const char *const keys[] = {"quantization", "quantization_config"};
    char *text;
    size_t length;
    json_error_t place;
    bombus_status status = bb_file_read(&text, &length, bb_config_path(checkpoint->config), MAX_COPY_SIZE, error);
    if (status != BOMBUS_OK)
        return status;
    json_t *config = json_loadb(text, length, 0, &place);
    bool is_good = json_is_object(config);
    for (size_t i = 0; i < BB_COUNT(keys) && is_good; i++) {
        json_t *quantization = json_object_get(config, keys[i]);
        if (is_dense)
            json_object_del(config, keys[i]);
        for (size_t k = 0; k < count && is_good && !is_dense && json_is_object(quantization); k++)
            is_good = set_scheme(quantization, &entries[k]);
    }
    status = is_good ? write_json(folder, "config.json", config, error) : bb_fail_memory(error, length, "config.json");
    json_decref(config);
    bb_release(text);
    return status;
}

void bb_checkpoint_shard_name(char name[BB_SHARD_NAME_SIZE], size_t index, size_t count)
{
    if (count == 1)
        snprintf(name, BB_SHARD_NAME_SIZE, "model.safetensors");
    else
        snprintf(name, BB_SHARD_NAME_SIZE, "model-%05zu-of-%05zu.safetensors", index + 1, count);
}

bombus_status bb_checkpoint_write_index(const char *folder, const char *const *names, const size_t *shards,
                                        size_t count, size_t shard_count, uint64_t total_bytes, bombus_error *error)
{
    json_t *map = json_object();
    bool is_good = map != NULL;
    for (size_t i = 0; i < count && is_good; i++) {
        char shard[BB_SHARD_NAME_SIZE];
        bb_checkpoint_shard_name(shard, shards[i], shard_count);
        is_good = json_object_set_new(map, names[i], json_string(shard)) == 0;
    }
    json_t *object = json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)total_bytes, "weight_map", map);
    bombus_status status = is_good ? write_json(folder, "model.safetensors.index.json", object, error)
                                   : bb_fail_memory(error, count, "an index of shards");
    json_decref(object);
    return status;
}

bombus_status bb_checkpoint_check_target(const char *folder, bombus_error *error)
{
    char *config = bb_path_join(folder, "config.json");
    bool is_there = config != NULL && bb_file_exists(config);
    bb_release(config);
    if (is_there)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: there is a model already (config.json)", folder);
    return config != NULL ? BOMBUS_OK : bb_fail_memory(error, strlen(folder), "the path of config.json");
}

/* Names of the tensors of all shards, for the index. */
struct written {
    const char **names;
    size_t *shards;
    size_t count;
    uint64_t bytes;
};

static bombus_status write_shard(const struct bb_checkpoint *checkpoint, const char *folder, size_t shard,
                                 const struct bb_tensor_changes *changes, struct written *written, bombus_error *error)
{
    const struct bb_safetensors *file = &checkpoint->files[shard];
    static const char *const metadata[] = {"format", "mlx"};
    char name[BB_SHARD_NAME_SIZE];
    bb_checkpoint_shard_name(name, shard, checkpoint->file_count);
    char *path = bb_path_join(folder, name);
    struct bb_safetensors_entry *entries = bb_allocate(file->count, sizeof *entries);
    size_t count = 0;
    bombus_status status = path != NULL && entries != NULL
                               ? BOMBUS_OK
                               : bb_fail_memory(error, file->count * sizeof *entries, "the tensors of a shard");
    for (size_t i = 0; i < file->count && status == BOMBUS_OK; i++) {
        if (!changes->describe(changes->source.context, &file->entries[i], &entries[count]))
            continue;
        written->names[written->count] = entries[count].name;
        written->shards[written->count++] = shard;
        written->bytes += entries[count++].size;
    }
    if (status == BOMBUS_OK)
        status = bb_safetensors_write_made(path, entries, count, metadata, 1, &changes->source, error);
    bb_release(entries);
    bb_release(path);
    return status;
}

bombus_status bb_checkpoint_write_tensors(const struct bb_checkpoint *checkpoint, const char *folder,
                                          const struct bb_tensor_changes *changes, bombus_error *error)
{
    struct written written = {.names = bb_allocate(checkpoint->tensor_count, sizeof *written.names),
                              .shards = bb_allocate(checkpoint->tensor_count, sizeof *written.shards)};
    bombus_status status =
        written.names != NULL && written.shards != NULL
            ? bb_folder_create(folder, error)
            : bb_fail_memory(error, checkpoint->tensor_count * sizeof *written.names, "an index of shards");
    for (size_t i = 0; i < checkpoint->file_count && status == BOMBUS_OK; i++)
        status = write_shard(checkpoint, folder, i, changes, &written, error);
    if (status == BOMBUS_OK)
        status = bb_checkpoint_write_index(folder, written.names, written.shards, written.count, checkpoint->file_count,
                                           written.bytes, error);
    bb_release(written.names);
    bb_release(written.shards);
    return status;
}

static bool is_other(const char *name)
{
    return name[0] != '.' && strcmp(name, "config.json") != 0 && strcmp(name, "model.safetensors.index.json") != 0 &&
           !bb_name_ends_with(name, ".safetensors");
}

static bombus_status copy_file(const char *from_folder, const char *to_folder, const char *name, bombus_error *error)
{
    char *from = bb_path_join(from_folder, name), *to = bb_path_join(to_folder, name), *data = NULL;
    size_t size = 0;
    bombus_status status = from != NULL && to != NULL ? BOMBUS_OK : bb_fail_memory(error, strlen(name), name);
    if (status == BOMBUS_OK && bb_file_exists(from)) {
        status = bb_file_read(&data, &size, from, MAX_COPY_SIZE, error);
        if (status == BOMBUS_OK)
            status = bb_file_write(to, data, size, error);
    }
    bb_release(data);
    bb_release(from);
    bb_release(to);
    return status;
}

bombus_status bb_checkpoint_copy_others(const struct bb_checkpoint *checkpoint, const char *folder, bombus_error *error)
{
    DIR *directory = opendir(checkpoint->folder);
    bombus_status status = BOMBUS_OK;
    if (directory == NULL)
        return bb_fail_io(error, errno, "cannot list", checkpoint->folder);
    for (const struct dirent *item; status == BOMBUS_OK && (item = readdir(directory)) != NULL;)
        if (is_other(item->d_name))
            status = copy_file(checkpoint->folder, folder, item->d_name, error);
    closedir(directory);
    return status;
}
