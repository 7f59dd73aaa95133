/* The file that a training goes on from. */
#include "train/train_state.h"

#include "base/memory.h"
#include "files/safetensors.h"

#include <string.h>

/* Counters and numbers in the file's order; both are written as 64-bit words. */
enum { COUNTER_COUNT = 18, NUMBER_COUNT = 8 };
static const char version[] = "1", evaluation_is_due[] = "evaluation_is_due"; /* that is there only if it is */

static void pack_batches(uint64_t *words, const struct bb_batches_state *state)
{
    const uint64_t values[] = {state->epoch, state->next, state->number, state->epoch_draws, state->draws};
    memcpy(words, values, sizeof values);
}

static void unpack_batches(struct bb_batches_state *state, const uint64_t *words)
{
    *state = (struct bb_batches_state){
        .epoch = words[0], .next = words[1], .number = words[2], .epoch_draws = words[3], .draws = words[4]};
}

static void pack(uint64_t counters[COUNTER_COUNT], double numbers[NUMBER_COUNT], const struct bb_train_parts *parts)
{
    const struct bb_train_state *state = parts->state;
    const uint64_t head[8] = {(uint64_t)state->iteration,
                              (uint64_t)state->pending,
                              (uint64_t)state->trained_tokens,
                              (uint64_t)state->window.targets,
                              (uint64_t)state->window.steps,
                              (uint64_t)state->best_iteration,
                              (uint64_t)state->evaluations_without_best,
                              (uint64_t)parts->optimizer->updates};
    memcpy(counters, head, sizeof head);
    pack_batches(counters + 8, &state->batches);
    pack_batches(counters + 13, &state->validation);
    const double values[NUMBER_COUNT] = {state->pending_weight, state->seconds,        state->window.loss,
                                         state->window.weight,  state->window.seconds, state->train_loss,
                                         state->validation_loss, state->best_loss};
    memcpy(numbers, values, sizeof values);
}

static void unpack(const struct bb_train_parts *parts, const uint64_t counters[COUNTER_COUNT],
                   const double numbers[NUMBER_COUNT])
{
    struct bb_train_state *state = parts->state;
    *state = (struct bb_train_state){
        .iteration = (int64_t)counters[0],
        .pending = (int64_t)counters[1],
        .pending_weight = numbers[0],
        .trained_tokens = (int64_t)counters[2],
        .seconds = numbers[1],
        .window = {.loss = numbers[2],
                   .weight = numbers[3],
                   .seconds = numbers[4],
                   .targets = (int64_t)counters[3],
                   .steps = (int64_t)counters[4]},
        .train_loss = numbers[5],
        .validation_loss = numbers[6],
        .best_loss = numbers[7],
        .best_iteration = (int64_t)counters[5],
        .evaluations_without_best = (int64_t)counters[6],
    };
    parts->optimizer->updates = (int64_t)counters[7];
    unpack_batches(&state->batches, counters + 8);
    unpack_batches(&state->validation, counters + 13);
}

static struct bb_safetensors_entry flat(const char *name, enum bb_dtype dtype, const void *data, size_t count)
{
    return (struct bb_safetensors_entry){.name = name,
                                         .dtype = dtype,
                                         .rank = 1,
                                         .shape = {(int64_t)count},
                                         .data = data,
                                         .size = count * (bb_dtype_bits(dtype) / 8)};
}

/* The arrays of f32 that a training of these parts has; NULL data: not in the file. */
enum { ARRAY_COUNT = 4 };
struct array {
    const char *name;
    float *data;
};

static void list_arrays(struct array arrays[ARRAY_COUNT], const struct bb_train_parts *parts, bool has_pending)
{
    arrays[0] = (struct array){"parameters", parts->trainable->values};
    arrays[1] = (struct array){"gradients", has_pending ? parts->trainable->gradients : NULL};
    arrays[2] = (struct array){"optimizer.first", parts->optimizer->first};
    arrays[3] = (struct array){"optimizer.second", parts->optimizer->second};
}

bombus_status bb_train_state_save(const struct bb_train_parts *parts, const char *path, bombus_error *error)
{
    uint64_t counters[COUNTER_COUNT];
    double numbers[NUMBER_COUNT];
    pack(counters, numbers, parts);
    struct array arrays[ARRAY_COUNT];
    list_arrays(arrays, parts, parts->state->pending > 0);
    struct bb_safetensors_entry entries[ARRAY_COUNT + 2];
    size_t count = 0;
    entries[count++] = flat("counters", BB_U64, counters, COUNTER_COUNT);
    entries[count++] = flat("numbers", BB_F64, numbers, NUMBER_COUNT);
    for (size_t i = 0; i < ARRAY_COUNT; i++) {
        if (arrays[i].data != NULL)
            entries[count++] = flat(arrays[i].name, BB_F32, arrays[i].data, parts->trainable->value_count);
    }
    const char *metadata[2 * (BB_TRAIN_SETTING_LIMIT + 2)];
    size_t pair_count = 0;
    metadata[2 * pair_count] = "bombus_training_state";
    metadata[2 * pair_count++ + 1] = version;
    if (parts->state->is_evaluation_due) {
        metadata[2 * pair_count] = evaluation_is_due;
        metadata[2 * pair_count++ + 1] = "yes";
    }
    for (size_t i = 0; i < parts->settings->count; i++) {
        metadata[2 * pair_count] = parts->settings->items[i].name;
        metadata[2 * pair_count++ + 1] = parts->settings->items[i].text;
    }
    return bb_safetensors_write(path, entries, count, metadata, pair_count, error);
}

static bombus_status check_settings(const struct bb_safetensors *file, const struct bb_train_settings *settings,
                                    const char *path, bombus_error *error)
{
    const char *found = bb_safetensors_metadata(file, "bombus_training_state");
    if (found == NULL || strcmp(found, version) != 0)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: not a training state of this version of bombus", path);
    for (size_t i = 0; i < settings->count; i++) {
        const struct bb_train_setting *setting = &settings->items[i];
        found = bb_safetensors_metadata(file, setting->name);
        if (found == NULL || strcmp(found, setting->text) != 0)
            return bb_fail(error, BOMBUS_ERROR_MISMATCH,
                           "%s: cannot resume: %s was '%s' in that run and is '%s' now", path, setting->name,
                           found != NULL ? found : "not set", setting->text);
    }
    return BOMBUS_OK;
}

static bombus_status read_array(const struct bb_safetensors *file, const char *name, enum bb_dtype dtype, size_t count,
                                void *data, const char *path, bombus_error *error)
{
    const struct bb_safetensors_entry *entry = bb_safetensors_find(file, name);
    if (entry == NULL || entry->dtype != dtype || entry->size != count * (bb_dtype_bits(dtype) / 8))
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: '%s' is %s, expected %s of %zu entries", path, name,
                       entry == NULL ? "missing" : "of another size", bb_dtype_name(dtype), count);
    memcpy(data, entry->data, entry->size);
    return BOMBUS_OK;
}

static bombus_status read_parts(const struct bb_safetensors *file, const struct bb_train_parts *parts,
                                const char *path, bombus_error *error)
{
    uint64_t counters[COUNTER_COUNT];
    double numbers[NUMBER_COUNT];
    bombus_status status = read_array(file, "counters", BB_U64, COUNTER_COUNT, counters, path, error);
    if (status == BOMBUS_OK)
        status = read_array(file, "numbers", BB_F64, NUMBER_COUNT, numbers, path, error);
    if (status != BOMBUS_OK)
        return status;
    unpack(parts, counters, numbers);
    parts->state->is_evaluation_due = bb_safetensors_metadata(file, evaluation_is_due) != NULL;
    struct array arrays[ARRAY_COUNT];
    list_arrays(arrays, parts, parts->state->pending > 0);
    for (size_t i = 0; i < ARRAY_COUNT && status == BOMBUS_OK; i++) {
        if (arrays[i].data != NULL)
            status = read_array(file, arrays[i].name, BB_F32, parts->trainable->value_count, arrays[i].data, path, error);
    }
    return status;
}

bombus_status bb_train_state_load(const struct bb_train_parts *parts, const char *path, bombus_error *error)
{
    struct bb_safetensors file;
    bombus_status status = bb_safetensors_open(&file, path, error);
    if (status == BOMBUS_OK)
        status = check_settings(&file, parts->settings, path, error);
    if (status == BOMBUS_OK)
        status = read_parts(&file, parts, path, error);
    bb_safetensors_close(&file);
    return status == BOMBUS_OK ? bb_trainable_refresh(parts->trainable, error) : status;
}
