/* The order of examples in an epoch, and batches of them without padding. */
#include "train/batches.h"

#include "base/memory.h"
#include "base/random.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKET_BATCHES = 64 }; /* lines are sorted by length within so many shuffled batches */

struct key {
    uint32_t length, index; /* of a line, or of its fields; where it stood, which decides between equals */
};

struct bb_batch_memory {
    struct bb_example example;
    int32_t *tokens, *positions, *targets; /* [row_capacity] */
    struct bb_span *spans;                 /* [span_capacity] */
    uint32_t *lines;
    size_t row_capacity, span_capacity;
    struct key *keys;  /* [dataset->count] */
    uint32_t *scratch; /* the same */
};

/* ---- order ---- */

static int compare_keys(const void *a, const void *b)
{
    const struct key *left = a, *right = b;
    if (left->length != right->length)
        return left->length < right->length ? -1 : 1;
    return left->index < right->index ? -1 : left->index > right->index;
}

static void shuffle(uint32_t *order, size_t count, struct bb_random *random)
{
    for (size_t i = count; i-- > 1;) {
        size_t j = (size_t)(bb_random_uniform(random) * (double)(i + 1));
        uint32_t kept = order[i];
        order[i] = order[j];
        order[j] = kept;
    }
}

/* Sorts order[0 .. count) by length of line, as they stand between equals. */
static void sort_bucket(const struct bb_batches *batches, uint32_t *order, size_t count)
{
    struct bb_batch_memory *memory = batches->memory;
    for (size_t i = 0; i < count; i++) {
        memory->keys[i] = (struct key){bb_dataset_line_bytes(batches->dataset, order[i]), (uint32_t)i};
        memory->scratch[i] = order[i];
    }
    qsort(memory->keys, count, sizeof *memory->keys, compare_keys);
    for (size_t i = 0; i < count; i++)
        order[i] = memory->scratch[memory->keys[i].index];
}

/* Puts batches (of consecutive examples; the last may be short) into a shuffled order. */
static void shuffle_batches(const struct bb_batches *batches, struct bb_random *random)
{
    struct bb_batch_memory *memory = batches->memory;
    size_t size = (size_t)batches->options.batch_size, count = batches->count, whole = count / size, filled = 0;
    uint32_t *numbers = memory->scratch;
    for (size_t i = 0; i < whole; i++)
        numbers[i] = (uint32_t)i;
    shuffle(numbers, whole, random);
    for (size_t i = 0; i < whole; i++)
        for (size_t j = 0; j < size; j++)
            memory->keys[filled++].index = batches->order[numbers[i] * size + j];
    for (size_t i = 0; i < filled; i++)
        batches->order[i] = memory->keys[i].index;
}

static void order_shuffled(struct bb_batches *batches)
{
    struct bb_random random = {.seed = bb_random_at(batches->options.seed, batches->state.epoch)};
    size_t bucket = (size_t)batches->options.batch_size * BUCKET_BATCHES, count = batches->count;
    shuffle(batches->order, count, &random);
    if (batches->options.packing || batches->options.batch_size == 1)
        return;
    for (size_t i = 0; i < count; i += bucket)
        sort_bucket(batches, batches->order + i, count - i < bucket ? count - i : bucket);
    shuffle_batches(batches, &random);
}

/* mlx-lm sorts by the length of a row, which is the number of its fields. */
static void order_mlx(struct bb_batches *batches)
{
    struct bb_batch_memory *memory = batches->memory;
    size_t size = (size_t)batches->options.batch_size, all = batches->dataset->count;
    for (size_t i = 0; i < all; i++)
        memory->keys[i] = (struct key){bb_dataset_field_count(batches->dataset, i), (uint32_t)i};
    qsort(memory->keys, all, sizeof *memory->keys, compare_keys);
    batches->state.epoch_draws = batches->options.numpy->draws;
    bb_numpy_random_permutation(batches->options.numpy, memory->scratch, batches->count / size);
    for (size_t i = 0; i < batches->count; i++)
        batches->order[i] = memory->keys[memory->scratch[i / size] * size + i % size].index;
}

static void begin_epoch(struct bb_batches *batches)
{
    for (size_t i = 0; i < batches->count; i++)
        batches->order[i] = (uint32_t)i;
    if (batches->options.order == BB_ORDER_SHUFFLED)
        order_shuffled(batches);
    else if (batches->options.order == BB_ORDER_MLX)
        order_mlx(batches);
    batches->has_order = true;
}

void bb_batches_restart(struct bb_batches *batches)
{
    batches->state.epoch++;
    batches->state.next = 0;
    batches->has_order = false;
}

/* ---- opening ---- */

static bombus_status check_options(const struct bb_batches_options *options, const struct bb_dataset *dataset,
                                   bombus_error *error)
{
    if (options->batch_size < 1)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "batch_size: %d, must be at least 1", (int)options->batch_size);
    if (options->size < 0 || options->rank < 0 || (options->size > 0 && options->rank >= options->size) ||
        (options->size == 0 && options->rank != 0))
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "process %d of %d", (int)options->rank, (int)options->size);
    if (dataset->count > UINT32_MAX)
        return bb_fail(error, BOMBUS_ERROR_LIMIT, "%s: more than 4 billion lines", dataset->path);
    if (options->order != BB_ORDER_MLX)
        return BOMBUS_OK;
    if (options->packing || options->numpy == NULL)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "packing: mlx-lm's order of batches has none");
    if (dataset->count < (size_t)options->batch_size)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: %zu examples; mlx-lm's order needs a whole batch of %d",
                       dataset->path, dataset->count, (int)options->batch_size);
    return BOMBUS_OK;
}

bombus_status bb_batches_open(struct bb_batches *batches, struct bb_dataset *dataset,
                              const struct bb_batches_options *options, bombus_error *error)
{
    *batches = (struct bb_batches){.dataset = dataset, .options = *options, .count = dataset->count};
    bombus_status status = check_options(options, dataset, error);
    if (status != BOMBUS_OK)
        return status;
    if (options->size == 0)
        batches->options.size = 1;
    if (options->order == BB_ORDER_MLX)
        batches->count -= batches->count % (size_t)options->batch_size;
    struct bb_batch_memory *memory = batches->memory = bb_allocate(1, sizeof *memory);
    batches->order = bb_allocate(dataset->count, sizeof *batches->order);
    if (memory != NULL) {
        memory->keys = bb_allocate(dataset->count, sizeof *memory->keys);
        memory->scratch = bb_allocate(dataset->count, sizeof *memory->scratch);
    }
    if (memory == NULL || batches->order == NULL || memory->keys == NULL || memory->scratch == NULL) {
        bb_batches_close(batches);
        return bb_fail_memory(error, dataset->count * sizeof *batches->order, "the order of examples");
    }
    return BOMBUS_OK;
}

void bb_batches_close(struct bb_batches *batches)
{
    struct bb_batch_memory *memory = batches->memory;
    if (memory != NULL) {
        bb_example_clear(&memory->example);
        bb_release(memory->tokens);
        bb_release(memory->positions);
        bb_release(memory->targets);
        bb_release(memory->spans);
        bb_release(memory->lines);
        bb_release(memory->keys);
        bb_release(memory->scratch);
    }
    bb_release(memory);
    bb_release(batches->order);
    *batches = (struct bb_batches){0};
}

size_t bb_batches_per_epoch(const struct bb_batches *batches)
{
    size_t size = (size_t)batches->options.batch_size;
    if (!batches->options.packing)
        return (batches->count + size - 1) / size;
    uint64_t tokens = 0, room = (uint64_t)size * (uint64_t)batches->dataset->options.max_seq_length;
    for (size_t i = 0; i < batches->count; i++)
        tokens += bb_dataset_line_bytes(batches->dataset, i) / 4 + 1; /* about four bytes a token */
    return (size_t)(tokens / room + 1);
}

/* ---- batches ---- */

static bombus_status grow(void **array, size_t capacity, size_t size, bombus_error *error)
{
    void *grown = bb_resize(*array, capacity, size);
    if (grown == NULL)
        return bb_fail_memory(error, capacity * size, "a batch");
    *array = grown;
    return BOMBUS_OK;
}

static bombus_status reserve(struct bb_batch_memory *memory, size_t rows, size_t spans, bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    if (rows > memory->row_capacity) {
        size_t capacity = rows + rows / 2 + 256;
        void *arrays[] = {memory->tokens, memory->positions, memory->targets};
        for (size_t i = 0; i < BB_COUNT(arrays) && status == BOMBUS_OK; i++)
            status = grow(&arrays[i], capacity, sizeof(int32_t), error);
        memory->tokens = arrays[0];
        memory->positions = arrays[1];
        memory->targets = arrays[2];
        memory->row_capacity = status == BOMBUS_OK ? capacity : memory->row_capacity;
    }
    if (status == BOMBUS_OK && spans > memory->span_capacity) {
        size_t capacity = spans * 2 + 16;
        void *arrays[] = {memory->spans, memory->lines};
        status = grow(&arrays[0], capacity, sizeof *memory->spans, error);
        if (status == BOMBUS_OK)
            status = grow(&arrays[1], capacity, sizeof *memory->lines, error);
        memory->spans = arrays[0];
        memory->lines = arrays[1];
        memory->span_capacity = status == BOMBUS_OK ? capacity : memory->span_capacity;
    }
    return status;
}

/* One sequence: the rows up to its last target. */
static bombus_status add_part(struct bb_batches *batches, const struct bb_example_part *part, bombus_error *error)
{
    struct bb_batch_memory *memory = batches->memory;
    struct bb_train_batch *batch = &batches->batch;
    int32_t rows = part->count, first = batch->row_count;
    batch->token_count += part->count;
    if (!part->learns_padding)
        for (rows = part->count - 1; rows > 0 && !part->is_learnt[rows];)
            rows--;
    if (rows == 0)
        return BOMBUS_OK;
    if (first > INT32_MAX - rows)
        return bb_fail(error, BOMBUS_ERROR_LIMIT, "a batch of more than %d tokens", INT32_MAX);
    bombus_status status = reserve(memory, (size_t)first + (size_t)rows, (size_t)batch->span_count + 1, error);
    if (status != BOMBUS_OK)
        return status;
    for (int32_t i = 0; i < rows; i++) {
        bool is_padding = i + 1 == part->count, is_target = is_padding || part->is_learnt[i + 1];
        memory->tokens[first + i] = part->tokens[i];
        memory->positions[first + i] = i;
        memory->targets[first + i] = !is_target ? -1 : is_padding ? 0 : part->tokens[i + 1];
        batch->target_count += is_target;
    }
    memory->spans[batch->span_count] =
        (struct bb_span){.first_row = first, .row_count = rows, .sequence = batch->span_count};
    memory->lines[batch->span_count++] = memory->example.line;
    batch->row_count += rows;
    return BOMBUS_OK;
}

static bombus_status add_example(struct bb_batches *batches, bombus_error *error)
{
    const struct bb_example *example = &batches->memory->example;
    bombus_status status = BOMBUS_OK;
    for (int32_t i = 0; i < example->part_count && status == BOMBUS_OK; i++)
        status = add_part(batches, &example->parts[i], error);
    batches->batch.example_count++;
    return status;
}

/* The next batch of batch_size examples; only stepped over where it belongs to another process. */
static bombus_status take_examples(struct bb_batches *batches, bool is_ours, bombus_error *error)
{
    size_t size = (size_t)batches->options.batch_size, first = (size_t)batches->state.next * size;
    bombus_status status = BOMBUS_OK;
    for (size_t i = first; i < first + size && i < batches->count && is_ours && status == BOMBUS_OK; i++) {
        bool is_usable;
        status = bb_dataset_read(batches->dataset, batches->order[i], &batches->memory->example, &is_usable, error);
        if (status == BOMBUS_OK && is_usable)
            status = add_example(batches, error);
    }
    batches->state.next += status == BOMBUS_OK;
    return status;
}

/* The next examples that fit. All processes read them, as the lengths say where a batch ends. */
static bombus_status pack_examples(struct bb_batches *batches, bool is_ours, bombus_error *error)
{
    struct bb_batch_memory *memory = batches->memory;
    int64_t room = (int64_t)batches->options.batch_size * batches->dataset->options.max_seq_length;
    uint64_t next = batches->state.next;
    bombus_status status = BOMBUS_OK;
    for (bool is_first = true; next < batches->count && status == BOMBUS_OK; next++) {
        bool is_usable;
        int64_t length = 0;
        status = bb_dataset_read(batches->dataset, batches->order[next], &memory->example, &is_usable, error);
        if (status != BOMBUS_OK || !is_usable)
            continue;
        for (int32_t i = 0; i < memory->example.part_count; i++)
            length += memory->example.parts[i].count;
        if (length > room && !is_first)
            break;
        room -= length;
        is_first = false;
        if (is_ours)
            status = add_example(batches, error);
    }
    if (status == BOMBUS_OK)
        batches->state.next = next;
    return status;
}

static bool is_at_end(const struct bb_batches *batches)
{
    uint64_t taken = batches->options.packing ? batches->state.next
                                              : batches->state.next * (uint64_t)batches->options.batch_size;
    return batches->has_order && taken >= batches->count;
}

bombus_status bb_batches_next(struct bb_batches *batches, const struct bb_train_batch **batch, bombus_error *error)
{
    struct bb_batches_state before = batches->state;
    bombus_status status = BOMBUS_OK;
    *batch = NULL;
    if (is_at_end(batches)) {
        bb_batches_restart(batches);
        if (!batches->options.is_endless)
            return BOMBUS_OK;
    }
    batches->batch = (struct bb_train_batch){.number = batches->state.number + (uint64_t)batches->options.rank};
    for (int32_t i = 0; i < batches->options.size && status == BOMBUS_OK; i++) {
        bool is_ours = i == batches->options.rank;
        if (is_at_end(batches) && batches->options.is_endless)
            bb_batches_restart(batches);
        if (!batches->has_order)
            begin_epoch(batches);
        if (is_ours)
            batches->batch.epoch = batches->state.epoch;
        if (is_at_end(batches))
            continue;
        status = batches->options.packing ? pack_examples(batches, is_ours, error) : take_examples(batches, is_ours, error);
    }
    if (status != BOMBUS_OK) {
        if (batches->state.epoch == before.epoch)
            batches->state = before;
        return status;
    }
    batches->state.number += (uint64_t)batches->options.size;
    batches->batch.tokens = batches->memory->tokens;
    batches->batch.positions = batches->memory->positions;
    batches->batch.targets = batches->memory->targets;
    batches->batch.spans = batches->memory->spans;
    batches->batch.lines = batches->memory->lines;
    *batch = &batches->batch;
    return BOMBUS_OK;
}

/* ---- state ---- */

struct bb_batches_state bb_batches_get_state(const struct bb_batches *batches)
{
    struct bb_batches_state state = batches->state;
    if (batches->options.order == BB_ORDER_MLX)
        state.draws = batches->options.numpy->draws;
    return state;
}

bombus_status bb_batches_set_state(struct bb_batches *batches, const struct bb_batches_state *state, bombus_error *error)
{
    struct bb_numpy_random *numpy = batches->options.order == BB_ORDER_MLX ? batches->options.numpy : NULL;
    if (state->next > batches->count || (numpy != NULL && state->epoch_draws > state->draws))
        return bb_fail(error, BOMBUS_ERROR_MISMATCH, "%s: batch %llu of an epoch is asked for, but there are %zu examples",
                       batches->dataset->path, (unsigned long long)state->next, batches->count);
    batches->state = *state;
    batches->has_order = false;
    if (state->next > 0) {
        if (numpy != NULL)
            bb_numpy_random_restore(numpy, numpy->seed, state->epoch_draws);
        begin_epoch(batches);
    }
    if (numpy != NULL)
        bb_numpy_random_restore(numpy, numpy->seed, state->draws);
    return BOMBUS_OK;
}
