/* Files of a training. */
#include "train/adapter_folder.h"

#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "text/unicode.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define ADAPTER_FILE "adapters.safetensors"
#define CONFIG_FILE "adapter_config.json"
#define BEST_FOLDER "best"

/* A path may be no UTF-8, which a reader of JSON would refuse. */
static void add_string(struct bb_buffer *text, const char *value)
{
    struct bb_buffer repaired = {0};
    bb_utf8_add_repaired(&repaired, value, strlen(value));
    text->is_failed = text->is_failed || repaired.is_failed;
    bb_buffer_add_byte(text, '"');
    for (const char *letter = repaired.data != NULL ? repaired.data : ""; *letter != '\0'; letter++) {
        if ((unsigned char)*letter < 0x20)
            bb_buffer_format(text, "\\u%04x", (unsigned)*letter);
        else if (*letter == '"' || *letter == '\\')
            bb_buffer_format(text, "\\%c", *letter);
        else
            bb_buffer_add_byte(text, *letter);
    }
    bb_buffer_add_byte(text, '"');
    bb_buffer_clear(&repaired);
}

static void add_parameters(struct bb_buffer *text, const bombus_train_options *options)
{
    bb_buffer_format(text, "    \"lora_parameters\": {\n        \"rank\": %d,\n        \"scale\": %.17g,\n", options->rank,
                     bb_train_options_scale(options));
    bb_buffer_format(text, "        \"dropout\": %.17g", options->dropout);
    for (size_t i = 0; i < options->key_count; i++) {
        bb_buffer_add_text(text, i == 0 ? ",\n        \"keys\": [" : ", ");
        add_string(text, options->keys[i]);
    }
    bb_buffer_add_text(text, options->key_count > 0 ? "]\n    },\n" : "\n    },\n");
}

/* The fields that mlx_lm reads back (fine_tune_type, num_layers, lora_parameters), and what one may want to know of the run. */
static void add_config(struct bb_buffer *text, const bombus_train_options *options)
{
    bb_buffer_format(text, "{\n    \"fine_tune_type\": \"%s\",\n    \"num_layers\": %d,\n",
                     bb_fine_tune_names[options->fine_tune], options->num_layers);
    if (options->fine_tune != BOMBUS_FINE_TUNE_FULL)
        add_parameters(text, options);
    if (options->model_name != NULL) {
        bb_buffer_add_text(text, "    \"model\": ");
        add_string(text, options->model_name);
        bb_buffer_add_text(text, ",\n");
    }
    bb_buffer_add_text(text, "    \"data\": ");
    add_string(text, options->data);
    bb_buffer_format(text,
                     ",\n    \"optimizer\": \"%s\",\n    \"learning_rate\": %.9g,\n    \"batch_size\": %d,\n"
                     "    \"grad_accumulation_steps\": %d,\n    \"iters\": %lld,\n    \"max_seq_length\": %d,\n"
                     "    \"mask_prompt\": %s,\n    \"seed\": %llu,\n    \"train\": true\n}\n",
                     bb_optimizer_names[options->optimizer], options->learning_rate, options->batch_size,
                     options->grad_accumulation_steps, (long long)options->iters, options->max_seq_length,
                     options->mask_prompt || options->mask_history ? "true" : "false",
                     (unsigned long long)options->seed);
}

bombus_status bb_adapter_folder_init(struct bb_adapter_folder *folder, const bombus_train_options *options,
                                     bombus_error *error)
{
    *folder = (struct bb_adapter_folder){.path = options->adapter_path};
    struct bb_buffer text = {0};
    add_config(&text, options);
    bool is_made = !text.is_failed;
    folder->config_text = is_made ? bb_buffer_take(&text, &folder->config_length) : NULL;
    bb_buffer_clear(&text);
    folder->state_path = bb_path_join(folder->path, BB_TRAIN_STATE_FILE);
    if (folder->config_text != NULL && folder->state_path != NULL)
        return BOMBUS_OK;
    bb_adapter_folder_clear(folder);
    return bb_fail_memory(error, 1024, folder->path);
}

void bb_adapter_folder_clear(struct bb_adapter_folder *folder)
{
    bb_release(folder->config_text);
    bb_release(folder->state_path);
    folder->config_text = folder->state_path = NULL;
}

bool bb_adapter_folder_has_state(const struct bb_adapter_folder *folder)
{
    return bb_file_exists(folder->state_path);
}

/* ---- another run's files ---- */

/* Is it a file that a training writes, a temporary of one included ("adapters.safetensors.Xyz123")? */
static bool is_ours(const char *name)
{
    static const char *const names[] = {ADAPTER_FILE, CONFIG_FILE, BB_TRAIN_STATE_FILE};
    size_t digits = strspn(name, "0123456789");
    if (digits >= 7 && name[digits] == '_')
        name += digits + 1;
    for (size_t i = 0; i < BB_COUNT(names); i++) {
        size_t length = strlen(names[i]);
        if (strncmp(name, names[i], length) == 0 && (name[length] == '\0' || name[length] == '.'))
            return true;
    }
    return false;
}

static bool is_whole(const char *name)
{
    size_t length = strlen(name);
    return (length > 5 && strcmp(name + length - 5, ".json") == 0) ||
           (length > 12 && strcmp(name + length - 12, ".safetensors") == 0);
}

static bombus_status remove_files(const char *path, bool only_temporary, bombus_error *error)
{
    DIR *directory = opendir(path);
    if (directory == NULL)
        return errno == ENOENT ? BOMBUS_OK : bb_fail_io(error, errno, "cannot read folder", path);
    bombus_status status = BOMBUS_OK;
    for (struct dirent *item = readdir(directory); item != NULL && status == BOMBUS_OK; item = readdir(directory)) {
        if (!is_ours(item->d_name) || (only_temporary && is_whole(item->d_name)))
            continue;
        char *file = bb_path_join(path, item->d_name);
        if (file == NULL)
            status = bb_fail_memory(error, strlen(path), path);
        else if (unlink(file) != 0)
            status = bb_fail_io(error, errno, "cannot remove", file);
        bb_release(file);
    }
    closedir(directory);
    return status;
}

/* A name of ours in the folder that is no temporary, or "" where there is none. */
static void find_file(char *found, size_t size, const char *path)
{
    DIR *directory = opendir(path);
    found[0] = '\0';
    if (directory == NULL)
        return;
    for (struct dirent *item = readdir(directory); item != NULL; item = readdir(directory)) {
        if (is_whole(item->d_name) && is_ours(item->d_name))
            snprintf(found, size, "%s", item->d_name);
    }
    closedir(directory);
}

static bombus_status refuse_files(const char *path, bombus_error *error)
{
    char found[256];
    find_file(found, sizeof found, path);
    if (found[0] == '\0')
        return BOMBUS_OK;
    return bb_fail(error, BOMBUS_ERROR_MISMATCH,
                   "%s: holds %s of another run; resume goes on with it, force overwrites it, or give another adapter_path",
                   path, found);
}

bombus_status bb_adapter_folder_prepare(const struct bb_adapter_folder *folder, bool force, bombus_error *error)
{
    char *best = bb_path_join(folder->path, BEST_FOLDER);
    if (best == NULL)
        return bb_fail_memory(error, strlen(folder->path), folder->path);
    bombus_status status = force ? BOMBUS_OK : refuse_files(folder->path, error);
    if (status == BOMBUS_OK && !force)
        status = refuse_files(best, error);
    /* The state goes first of all, so that nothing can go on with half of what was there. */
    if (status == BOMBUS_OK && unlink(folder->state_path) != 0 && errno != ENOENT && errno != ENOTDIR)
        status = bb_fail_io(error, errno, "cannot remove", folder->state_path);
    if (status == BOMBUS_OK)
        status = bb_folder_create(folder->path, error);
    if (status == BOMBUS_OK)
        status = remove_files(best, false, error);
    if (status == BOMBUS_OK)
        status = remove_files(folder->path, false, error);
    bb_release(best);
    return status;
}

bombus_status bb_adapter_folder_clean(const struct bb_adapter_folder *folder, bombus_error *error)
{
    char *best = bb_path_join(folder->path, BEST_FOLDER);
    if (best == NULL)
        return bb_fail_memory(error, strlen(folder->path), folder->path);
    bombus_status status = remove_files(best, true, error);
    if (status == BOMBUS_OK)
        status = remove_files(folder->path, true, error);
    bb_release(best);
    return status;
}

/* ---- saving ---- */

static bombus_status save_adapter(const struct bb_adapter_folder *folder, const char *path,
                                  const struct bb_trainable *trainable, bombus_error *error)
{
    char *adapter = bb_path_join(path, ADAPTER_FILE), *config = bb_path_join(path, CONFIG_FILE);
    bombus_status status = BOMBUS_OK;
    if (adapter == NULL || config == NULL)
        status = bb_fail_memory(error, strlen(path) + sizeof ADAPTER_FILE, path);
    if (status == BOMBUS_OK)
        status = bb_file_write(config, folder->config_text, folder->config_length, error);
    if (status == BOMBUS_OK)
        status = bb_trainable_save(trainable, adapter, error);
    bb_release(adapter);
    bb_release(config);
    return status;
}

static bombus_status save_numbered(const struct bb_adapter_folder *folder, const struct bb_train_parts *parts,
                                   bombus_error *error)
{
    char name[64];
    snprintf(name, sizeof name, "%07lld_%s", (long long)parts->state->iteration, ADAPTER_FILE);
    char *path = bb_path_join(folder->path, name);
    if (path == NULL)
        return bb_fail_memory(error, strlen(folder->path) + sizeof name, folder->path);
    bombus_status status = bb_trainable_save(parts->trainable, path, error);
    bb_release(path);
    return status;
}

bombus_status bb_adapter_folder_save(const struct bb_adapter_folder *folder, const struct bb_train_parts *parts,
                                     bool is_numbered, bombus_error *error)
{
    bombus_status status = is_numbered ? save_numbered(folder, parts, error) : BOMBUS_OK;
    if (status == BOMBUS_OK)
        status = save_adapter(folder, folder->path, parts->trainable, error);
    if (status == BOMBUS_OK)
        status = bb_adapter_folder_save_state(folder, parts, error);
    return status;
}

bombus_status bb_adapter_folder_save_state(const struct bb_adapter_folder *folder, const struct bb_train_parts *parts,
                                           bombus_error *error)
{
    return bb_train_state_save(parts, folder->state_path, error);
}

bombus_status bb_adapter_folder_save_best(const struct bb_adapter_folder *folder, const struct bb_trainable *trainable,
                                          bombus_error *error)
{
    char *best = bb_path_join(folder->path, BEST_FOLDER);
    if (best == NULL)
        return bb_fail_memory(error, strlen(folder->path), folder->path);
    bombus_status status = bb_folder_create(best, error);
    if (status == BOMBUS_OK)
        status = save_adapter(folder, best, trainable, error);
    bb_release(best);
    return status;
}
