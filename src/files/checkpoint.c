/* A model folder: finds its safetensors files, maps them and indexes their tensors by name. What the tensors of a
 * quantized matrix must look like is checkpoint_weight.c. */
#include "files/checkpoint_weight.h"

#include "base/buffer.h"
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_INDEX_SIZE = 100000000, MAX_FILES = 10000, NAMED_SURPLUS = 8 };

static const char single_name[] = "model.safetensors";
static const char index_name[] = "model.safetensors.index.json";

/* The names of the files to open, in an arena. */
struct file_list {
    struct bb_arena arena;
    const char **names;
    size_t count, capacity;
};

static bombus_status add_name(struct file_list *list, const char *name, const char *folder, bombus_error *error)
{
    if (list->count >= MAX_FILES)
        return bb_fail(error, BOMBUS_ERROR_LIMIT, "%s: more than %d safetensors files", folder, MAX_FILES);
    if (list->count == list->capacity) {
        size_t capacity = list->capacity > 0 ? 2 * list->capacity : 16;
        const char **names = bb_resize(list->names, capacity, sizeof *names);
        if (names == NULL)
            return bb_fail_memory(error, capacity * sizeof *names, folder);
        list->names = names;
        list->capacity = capacity;
    }
    const char *copy = bb_arena_copy_text(&list->arena, name, strlen(name));
    if (copy == NULL)
        return bb_fail_memory(error, strlen(name), folder);
    list->names[list->count++] = copy;
    return BOMBUS_OK;
}

static void clear_list(struct file_list *list)
{
    bb_release(list->names);
    bb_arena_clear(&list->arena);
}

static int compare_names(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

static void sort_list(struct file_list *list)
{
    if (list->count > 0)
        qsort(list->names, list->count, sizeof *list->names, compare_names);
}

/* Without an index: the files whose names begin with `prefix`, but no adapters. */
static bombus_status list_folder(struct file_list *list, const char *folder, const char *prefix, bombus_error *error)
{
    DIR *directory = opendir(folder);
    const struct dirent *item;
    bombus_status status = BOMBUS_OK;
    if (directory == NULL)
        return bb_fail_io(error, errno, "cannot list", folder);
    while (status == BOMBUS_OK && (item = readdir(directory)) != NULL)
        if (bb_name_ends_with(item->d_name, ".safetensors") && strncmp(item->d_name, prefix, strlen(prefix)) == 0 &&
            strncmp(item->d_name, "adapter", 7) != 0)
            status = add_name(list, item->d_name, folder, error);
    closedir(directory);
    sort_list(list);
    return status;
}

/* model.safetensors.index.json's "weight_map": tensor name -> file name. NULL in *weight_map (borrowed from *index) if
 * there is no index. */
static bombus_status read_index(json_t **index, const json_t **weight_map, const char *folder, bombus_error *error)
{
    char *text = NULL, *path = bb_path_join(folder, index_name);
    size_t length;
    json_error_t place;
    bombus_status status = BOMBUS_OK;
    if (path == NULL)
        return bb_fail_memory(error, strlen(folder), folder);
    if (!bb_file_exists(path))
        goto done;
    status = bb_file_read(&text, &length, path, MAX_INDEX_SIZE, error);
    if (status != BOMBUS_OK)
        goto done;
    *index = json_loadb(text, length, JSON_REJECT_DUPLICATES, &place);
    *weight_map = json_object_get(*index, "weight_map");
    if (*index == NULL)
        status = bb_fail_at(error, BOMBUS_ERROR_FORMAT, place.line, place.column, "%s: line %d: %s", path, place.line,
                            place.text);
    else if (!json_is_object(*weight_map))
        status = bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: has no object 'weight_map'", path);
done:
    bb_release(text);
    bb_release(path);
    return status;
}

/* The distinct file names of the index. */
static bombus_status list_index(struct file_list *list, const json_t *weight_map, const char *folder,
                                bombus_error *error)
{
    struct bb_map seen = {0};
    const char *key;
    json_t *value;
    bombus_status status = BOMBUS_OK;
    json_object_foreach((json_t *)(uintptr_t)weight_map, key, value)
    {
        const char *name = json_string_value(value);
        if (name == NULL || strchr(name, '/') != NULL || !bb_name_ends_with(name, ".safetensors")) {
            status = bb_fail(error, BOMBUS_ERROR_FORMAT,
                             "%s/%s: the file of tensor '%.200s' must be a name of a .safetensors file in the folder",
                             folder, index_name, key);
            break;
        }
        if (bb_map_find(&seen, name, strlen(name)) != NULL)
            continue;
        if (!bb_map_set(&seen, name, strlen(name), 0, NULL))
            status = bb_fail_memory(error, seen.count, folder);
        else
            status = add_name(list, name, folder, error);
        if (status != BOMBUS_OK)
            break;
    }
    bb_map_clear(&seen);
    sort_list(list);
    return status;
}

/* Which files make up the model. An index beside a model.safetensors that it does not name is left over from elsewhere:
 * *weight_map is then NULL, as where there is no index. */
static bombus_status list_files(struct file_list *list, const json_t **weight_map, const char *folder,
                                bombus_error *error)
{
    char *single = bb_path_join(folder, single_name);
    bombus_status status = BOMBUS_OK;
    if (single == NULL)
        return bb_fail_memory(error, strlen(folder), folder);
    bool has_single = bb_file_exists(single);
    bb_release(single);
    if (*weight_map != NULL) {
        status = list_index(list, *weight_map, folder, error);
        if (status != BOMBUS_OK)
            return status;
        for (size_t i = 0; i < list->count; i++)
            if (!has_single || strcmp(list->names[i], single_name) == 0)
                return BOMBUS_OK;
        list->count = 0;
        *weight_map = NULL;
    }
    if (has_single)
        return add_name(list, single_name, folder, error);
    status = list_folder(list, folder, "model", error);
    if (status == BOMBUS_OK && list->count == 0)
        status = list_folder(list, folder, "", error);
    if (status == BOMBUS_OK && list->count == 0)
        status = bb_fail(error, BOMBUS_ERROR_NOT_FOUND, "%s: no *.safetensors file in this folder", folder);
    return status;
}

static bombus_status open_files(struct bb_checkpoint *checkpoint, const struct file_list *list, bombus_error *error)
{
    checkpoint->files = bb_allocate(list->count, sizeof *checkpoint->files);
    if (checkpoint->files == NULL)
        return bb_fail_memory(error, list->count * sizeof *checkpoint->files, checkpoint->folder);
    for (size_t i = 0; i < list->count; i++) {
        char *path = bb_path_join(checkpoint->folder, list->names[i]);
        if (path == NULL)
            return bb_fail_memory(error, strlen(checkpoint->folder), checkpoint->folder);
        bombus_status status = bb_safetensors_open(&checkpoint->files[i], path, error);
        bb_release(path);
        if (status != BOMBUS_OK)
            return status;
        checkpoint->tensor_count += checkpoint->files[i].count;
        checkpoint->file_count++;
    }
    return BOMBUS_OK;
}

static bombus_status index_tensors(struct bb_checkpoint *checkpoint, const struct file_list *list, bombus_error *error)
{
    size_t number = 0;
    checkpoint->entries = bb_allocate(checkpoint->tensor_count, sizeof *checkpoint->entries);
    checkpoint->is_used = bb_allocate(checkpoint->tensor_count, sizeof *checkpoint->is_used);
    if (checkpoint->entries == NULL || checkpoint->is_used == NULL ||
        !bb_map_reserve(&checkpoint->index, checkpoint->tensor_count))
        return bb_fail_memory(error, checkpoint->tensor_count * sizeof *checkpoint->entries, checkpoint->folder);
    for (size_t i = 0; i < checkpoint->file_count; i++) {
        const struct bb_safetensors *file = &checkpoint->files[i];
        for (size_t j = 0; j < file->count; j++) {
            const struct bb_safetensors_entry *entry = &file->entries[j];
            bool was_new;
            if (!bb_map_set(&checkpoint->index, entry->name, strlen(entry->name), number, &was_new))
                return bb_fail_memory(error, number, checkpoint->folder);
            if (!was_new)
                return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: tensor '%.200s' is in %s and in another of its files",
                               checkpoint->folder, entry->name, list->names[i]);
            checkpoint->entries[number++] = entry;
        }
    }
    return BOMBUS_OK;
}

/* Each tensor must be in the file that the index names for it. */
static bombus_status check_index(const struct bb_checkpoint *checkpoint, const struct file_list *list,
                                 const json_t *weight_map, bombus_error *error)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)weight_map, key, value)
    {
        const char *name = json_string_value(value);
        const char **place = bsearch(&name, list->names, list->count, sizeof *list->names, compare_names);
        if (place == NULL || bb_safetensors_find(&checkpoint->files[place - list->names], key) == NULL)
            return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s/%s: tensor '%.200s' is not in %s", checkpoint->folder,
                           index_name, key, name);
    }
    return BOMBUS_OK;
}

static bombus_status open_config(struct bb_checkpoint *checkpoint, bombus_error *error)
{
    char *path = bb_path_join(checkpoint->folder, "config.json");
    if (path == NULL)
        return bb_fail_memory(error, strlen(checkpoint->folder), checkpoint->folder);
    bombus_status status = bb_config_open(&checkpoint->config, path, error);
    bb_release(path);
    return status == BOMBUS_OK ? bb_checkpoint_read_quantization(checkpoint, error) : status;
}

static bombus_status open_tensors(struct bb_checkpoint *checkpoint, bombus_error *error)
{
    struct file_list list = {0};
    json_t *index = NULL;
    const json_t *weight_map = NULL;
    bombus_status status = read_index(&index, &weight_map, checkpoint->folder, error);
    if (status == BOMBUS_OK)
        status = list_files(&list, &weight_map, checkpoint->folder, error);
    if (status == BOMBUS_OK)
        status = open_files(checkpoint, &list, error);
    if (status == BOMBUS_OK)
        status = index_tensors(checkpoint, &list, error);
    if (status == BOMBUS_OK && weight_map != NULL)
        status = check_index(checkpoint, &list, weight_map, error);
    json_decref(index);
    clear_list(&list);
    return status;
}

bombus_status bb_checkpoint_open(struct bb_checkpoint *checkpoint, const char *folder, bombus_error *error)
{
    *checkpoint = (struct bb_checkpoint){0};
    if (!bb_folder_exists(folder))
        return bb_fail(error, BOMBUS_ERROR_NOT_FOUND, "%s: no such folder", folder);
    checkpoint->folder = bb_copy_text(folder, strlen(folder));
    bombus_status status =
        checkpoint->folder != NULL ? open_config(checkpoint, error) : bb_fail_memory(error, strlen(folder), folder);
    if (status == BOMBUS_OK)
        status = open_tensors(checkpoint, error);
    if (status != BOMBUS_OK)
        bb_checkpoint_close(checkpoint);
    return status;
}

void bb_checkpoint_close(struct bb_checkpoint *checkpoint)
{
    for (size_t i = 0; i < checkpoint->file_count; i++)
        bb_safetensors_close(&checkpoint->files[i]);
    bb_release(checkpoint->files);
    bb_release(checkpoint->entries);
    bb_release(checkpoint->is_used);
    bb_map_clear(&checkpoint->index);
    bb_config_close(checkpoint->config);
    bb_release(checkpoint->folder);
    *checkpoint = (struct bb_checkpoint){0};
}

const struct bb_safetensors_entry *bb_checkpoint_find(struct bb_checkpoint *checkpoint, const char *name)
{
    const uint64_t *place = bb_map_find(&checkpoint->index, name, strlen(name));
    if (place == NULL)
        return NULL;
    checkpoint->is_used[*place] = true;
    return checkpoint->entries[*place];
}

bool bb_checkpoint_has(const struct bb_checkpoint *checkpoint, const char *name)
{
    return bb_map_find(&checkpoint->index, name, strlen(name)) != NULL;
}

bombus_status bb_checkpoint_check_surplus(const struct bb_checkpoint *checkpoint, bool (*is_ignored)(const char *name),
                                          bombus_error *error)
{
    struct bb_buffer names = {0};
    size_t count = 0;
    for (size_t i = 0; i < checkpoint->tensor_count; i++) {
        const char *name = checkpoint->entries[i]->name;
        if (checkpoint->is_used[i] || (is_ignored != NULL && is_ignored(name)))
            continue;
        if (count++ < NAMED_SURPLUS)
            bb_buffer_format(&names, "%s'%.80s'", count > 1 ? ", " : "", name);
    }
    bombus_status status = BOMBUS_OK;
    if (names.is_failed)
        status = bb_fail_memory(error, NAMED_SURPLUS * 80, checkpoint->folder);
    else if (count > 0)
        status = bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: %zu tensors that this architecture has no place for: %s%s",
                         checkpoint->folder, count, names.data, count > NAMED_SURPLUS ? ", ..." : "");
    bb_buffer_clear(&names);
    return status;
}
