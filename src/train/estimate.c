/* Estimates from a few batches of the data, encoded but not learnt, and warm-up steps. */
#include "train/estimate.h"

#include "train/process_group.h"

#include "base/clock.h"
#include "base/resident.h"

#include <string.h>

enum {
    SAMPLED_BATCHES = 64,
    MEASUREMENTS = 5,
    ENOUGH_SECONDS = 2,
    WANTED = 3, /* measurements of a long step, as long as a run of such steps is RUN_SHARE times as long */
    RUN_SHARE = 20,
    SAMPLE_TOKENS = 8 /* behind a sample's first */
};

/* ---- room ---- */

/* A model may have an end of its positions (dynamic rope scaling). */
static bombus_status check_positions(const struct bb_trainer *trainer, const struct bb_example_part *part,
                                     uint32_t line, bombus_error *error)
{
    const int32_t limit = trainer->inputs.model->recipe.position_limit;
    if (limit <= 0 || part->count <= limit)
        return BOMBUS_OK;
    return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                   "%s: line %u has %d tokens: dynamic rope scaling is not supported beyond %d; reduce max_seq_length",
                   trainer->train.dataset.path, (unsigned)line, part->count, limit);
}

/* Tokens of the longest lines that can stand in one batch together; of a preference both answers. */
static bombus_status find_longest(struct bb_trainer *trainer, int64_t *rows, bombus_error *error)
{
    struct bb_dataset *dataset = &trainer->train.dataset;
    size_t wanted = (size_t)trainer->options.batch_size < dataset->count ? (size_t)trainer->options.batch_size : dataset->count;
    struct bb_example example = {0};
    uint32_t limit = UINT32_MAX; /* lines of fewer bytes than this were not taken yet */
    bombus_status status = BOMBUS_OK;
    *rows = 0;
    /* Longest lines first; all lines of one length count alike, so each turn goes to the next shorter length. */
    for (size_t taken = 0; taken < wanted && status == BOMBUS_OK;) {
        uint32_t longest = 0;
        size_t place = 0, alike = 0;
        for (size_t i = 0; i < dataset->count; i++) {
            uint32_t bytes = bb_dataset_line_bytes(dataset, i);
            if (bytes >= limit || bytes < longest)
                continue;
            alike = bytes > longest ? 1 : alike + 1;
            place = bytes > longest ? i : place;
            longest = bytes;
        }
        bool is_usable = false;
        if (alike == 0)
            break;
        limit = longest;
        alike = alike < wanted - taken ? alike : wanted - taken;
        taken += alike;
        status = bb_dataset_read(dataset, place, &example, &is_usable, error);
        for (int32_t part = 0; status == BOMBUS_OK && is_usable && part < example.part_count; part++) {
            *rows += (int64_t)alike * example.parts[part].count;
            status = check_positions(trainer, &example.parts[part], example.line, error);
        }
    }
    bb_example_clear(&example);
    return status;
}

/* Bytes beside those of the trainer's steps: weights (mapped, but read in every step), parameters with gradients, the optimizer. */
static double fixed_bytes(const struct bb_trainer *trainer)
{
    const bombus_train_options *options = &trainer->options;
    return (double)trainer->inputs.model->weight_bytes + 2.0 * sizeof(float) * (double)trainer->trainable->value_count +
           (double)bb_optimizer_bytes(options->optimizer, &options->optimizer_options, trainer->trainable->parameters,
                                      trainer->trainable->parameter_count);
}

bombus_status bb_estimate_room(struct bb_trainer *trainer, bombus_error *error)
{
    const bombus_train_options *options = &trainer->options;
    int64_t rows = 0, limit = (int64_t)options->batch_size * options->max_seq_length;
    int32_t sequences = options->mode == BOMBUS_TRAIN_SFT ? options->batch_size : 2 * options->batch_size;
    bombus_status status = find_longest(trainer, &rows, error);
    if (status != BOMBUS_OK)
        return status;
    if (options->packing)
        rows = limit;
    trainer->expected_rows = (int32_t)(rows < 1 ? 1 : rows);
    status = bb_objective_reserve(&trainer->objective, trainer->expected_rows, sequences, error);
    if (status != BOMBUS_OK)
        return status;
    double bytes = fixed_bytes(trainer) + (double)bb_objective_bytes(&trainer->objective);
    if (options->memory_limit_bytes > 0 && bytes > (double)options->memory_limit_bytes)
        return bb_fail(error, BOMBUS_ERROR_MEMORY,
                       "this training takes about %.2f GB (weights %.2f, steps of %d tokens %.2f, parameters and optimizer "
                       "%.2f) and %.2f GB are free: reduce batch_size (%d), max_seq_length (%d) or num_layers (%d)",
                       bytes * 1e-9, (double)trainer->inputs.model->weight_bytes * 1e-9, trainer->expected_rows,
                       (double)bb_objective_bytes(&trainer->objective) * 1e-9,
                       (fixed_bytes(trainer) - (double)trainer->inputs.model->weight_bytes) * 1e-9,
                       (double)options->memory_limit_bytes * 1e-9, options->batch_size, options->max_seq_length,
                       options->num_layers);
    return BOMBUS_OK;
}

/* ---- time ---- */

/* What the next batches look like. */
struct survey {
    int64_t count, rows; /* batches that were seen, rows of them all */
    int64_t typical, largest; /* which of them is next to the mean, and which has the most rows */
    double seconds;           /* to read and encode them */
};

static bombus_status survey_batches(struct bb_trainer *trainer, struct survey *survey, bombus_error *error)
{
    int32_t rows[SAMPLED_BATCHES];
    bombus_status status = BOMBUS_OK;
    *survey = (struct survey){0};
    int64_t left = trainer->options.iters - trainer->state.iteration;
    const double start = bb_clock_seconds();
    while (survey->count < SAMPLED_BATCHES && survey->count < left && status == BOMBUS_OK) {
        const struct bb_train_batch *batch = NULL;
        status = bb_batches_next(&trainer->train.batches, &batch, error);
        if (status != BOMBUS_OK || batch == NULL)
            break;
        rows[survey->count++] = batch->row_count;
        survey->rows += batch->row_count;
    }
    survey->seconds = bb_clock_seconds() - start;
    for (int64_t i = 0; i < survey->count; i++) {
        int64_t here = (int64_t)rows[i] * survey->count - survey->rows;
        int64_t best = (int64_t)rows[survey->typical] * survey->count - survey->rows;
        survey->typical = (here < 0 ? -here : here) < (best < 0 ? -best : best) ? i : survey->typical;
        survey->largest = rows[i] > rows[survey->largest] ? i : survey->largest;
    }
    return status;
}

/* Batch `index` behind `state`. */
static bombus_status go_to(struct bb_trainer *trainer, const struct bb_batches_state *state, int64_t index,
                           const struct bb_train_batch **batch, bombus_error *error)
{
    bombus_status status = bb_batches_set_state(&trainer->train.batches, state, error);
    for (int64_t i = 0; i <= index && status == BOMBUS_OK; i++)
        status = bb_batches_next(&trainer->train.batches, batch, error);
    return status;
}

static double iterations_left(const struct bb_trainer *trainer)
{
    return (double)(trainer->options.iters - trainer->state.iteration);
}

/* Whether another measurement is worth its time: a few of quick steps; of long ones where the run is long beside them. */
static bool is_worthwhile(const struct bb_trainer *trainer, int32_t count, double sum)
{
    return count == 0 || sum < ENOUGH_SECONDS ||
           (count < WANTED && RUN_SHARE * (sum + sum / count) < sum / count * iterations_left(trainer));
}

/* Measures steps on a batch, or its forward pass alone: `most` times, but no longer than needs be. *seconds is the
 * median (of two the shorter), so that one measurement that was disturbed does not count. */
static bombus_status measure(struct bb_trainer *trainer, const struct bb_train_batch *batch, bool is_training,
                             int32_t most, double *seconds, bombus_error *error)
{
    struct bb_batch_loss loss;
    double times[MEASUREMENTS] = {0.0}, sum = 0.0;
    int32_t count = 0;
    bombus_status status = BOMBUS_OK;
    while (count < most && is_worthwhile(trainer, count, sum) && status == BOMBUS_OK) {
        double start = bb_clock_seconds();
        status = is_training ? bb_objective_train(&trainer->objective, batch, 0, &loss, error)
                             : bb_objective_evaluate(&trainer->objective, batch, &loss, error);
        double time = bb_clock_seconds() - start;
        int32_t place = count++;
        sum += time;
        for (; place > 0 && times[place - 1] > time; place--)
            times[place] = times[place - 1];
        times[place] = time;
    }
    *seconds = times[(count - 1) / 2];
    return status;
}

/* How often what is due at evaluations is still to come. */
static double evaluations_left(const struct bb_trainer *trainer)
{
    const bombus_train_options *options = &trainer->options;
    if (options->steps_per_eval <= 0)
        return 0.0;
    int64_t times = options->iters / options->steps_per_eval - trainer->state.iteration / options->steps_per_eval;
    return (double)(times + (trainer->state.iteration == 0) + (options->iters % options->steps_per_eval != 0));
}

/* Rows that one evaluation over at most `limit` batches (< 0: all) of a set takes in this process. */
static bombus_status evaluation_rows(struct bb_trainer *trainer, struct bb_train_set *set, int64_t limit, double *rows,
                                     bombus_error *error)
{
    int64_t count = 0, sum = 0;
    *rows = 0.0;
    if (!set->is_open)
        return BOMBUS_OK;
    const struct bb_batches_state state = bb_batches_get_state(&set->batches);
    double batches = (double)bb_batches_per_epoch(&set->batches);
    if (limit >= 0 && (double)limit < batches)
        batches = (double)limit;
    bombus_status status = BOMBUS_OK;
    bb_batches_restart(&set->batches);
    while (count < SAMPLED_BATCHES && (double)count < batches && status == BOMBUS_OK) {
        const struct bb_train_batch *batch = NULL;
        status = bb_batches_next(&set->batches, &batch, error);
        if (status != BOMBUS_OK || batch == NULL)
            break;
        sum += batch->row_count;
        count++;
    }
    if (count > 0)
        *rows = batches * (double)sum / (double)count / bb_process_count(trainer->options.process_group);
    bombus_status restored = bb_batches_set_state(&set->batches, &state, status == BOMBUS_OK ? error : NULL);
    return status == BOMBUS_OK ? restored : status;
}

/* Rows of all evaluations that are to come. */
static bombus_status all_evaluation_rows(struct bb_trainer *trainer, double *rows, bombus_error *error)
{
    double test_rows = 0.0;
    bombus_status status = evaluation_rows(trainer, &trainer->validation, trainer->options.val_batches, rows, error);
    if (status == BOMBUS_OK)
        status = evaluation_rows(trainer, &trainer->test, trainer->options.test_batches, &test_rows, error);
    *rows = *rows * evaluations_left(trainer) + test_rows;
    return status;
}

/* An update: the optimizer on a copy of the largest array, by its share of all; and what follows from the values. */
static bombus_status measure_update(struct bb_trainer *trainer, double *seconds, bombus_error *error)
{
    struct bb_trainable *trainable = trainer->trainable;
    struct bb_parameter copy = trainable->parameters[0];
    struct bb_optimizer optimizer = {0};
    for (size_t i = 1; i < trainable->parameter_count; i++)
        copy = trainable->parameters[i].count > copy.count ? trainable->parameters[i] : copy;
    float *memory = bb_allocate(2 * copy.count, sizeof *memory);
    if (memory == NULL)
        return bb_fail_memory(error, 2 * copy.count * sizeof *memory, "a copy of what is trained");
    memcpy(memory, copy.value, copy.count * sizeof *memory);
    copy.value = memory;
    copy.gradient = memory + copy.count;
    bombus_status status = bb_optimizer_init(&optimizer, trainer->options.optimizer,
                                             &trainer->options.optimizer_options, &copy, 1, trainer->pool, error);
    for (int turn = 0; turn < 2 && status == BOMBUS_OK; turn++) { /* the first touches the memory */
        double start = bb_clock_seconds();
        bb_optimizer_step(&optimizer, &copy, 1, trainer->options.learning_rate, 1.0);
        *seconds = (bb_clock_seconds() - start) * (double)trainable->value_count / (double)copy.count;
    }
    double start = bb_clock_seconds();
    if (status == BOMBUS_OK)
        status = bb_trainable_refresh(trainable, error);
    *seconds += bb_clock_seconds() - start;
    bb_optimizer_clear(&optimizer);
    bb_release(memory);
    return status;
}

/* A sample text: its prompt and first token, then the others one by one. */
static bombus_status measure_sample(struct bb_trainer *trainer, double *seconds, bombus_error *error)
{
    struct bb_sample_options options = bb_trainer_sample_options(trainer);
    const int32_t all = options.max_tokens, counts[] = {1, all < SAMPLE_TOKENS + 1 ? all : SAMPLE_TOKENS + 1};
    double times[2] = {0.0, 0.0};
    bombus_status status = BOMBUS_OK;
    *seconds = 0.0;
    if (trainer->sample_prompt == NULL || all < 1 || bb_process_rank(trainer->options.process_group) != 0)
        return BOMBUS_OK;
    for (int i = 0; i < 2 && status == BOMBUS_OK; i++) {
        struct bb_buffer text = {0};
        double start = bb_clock_seconds();
        options.max_tokens = counts[i];
        status = bb_sample_text(&text, trainer->trainable, trainer->inputs.backend, trainer->inputs.tokenizer, &options,
                                error);
        times[i] = bb_clock_seconds() - start;
        bb_buffer_clear(&text);
    }
    const double each = counts[1] > 1 && times[1] > times[0] ? (times[1] - times[0]) / (counts[1] - 1) : 0.0;
    *seconds = times[0] + each * (all - 1);
    return status;
}

/* Peak of resident memory with what is still to come: pages of the optimizer and of larger batches that were not touched yet. */
static double expected_peak(const struct bb_trainer *trainer, int32_t largest_rows)
{
    const bombus_train_options *options = &trainer->options;
    double peak = (double)bb_resident_peak();
    if (trainer->optimizer.updates == 0)
        peak += (double)bb_optimizer_bytes(options->optimizer, &options->optimizer_options,
                                           trainer->trainable->parameters, trainer->trainable->parameter_count);
    double bytes_per_row =
        (double)bb_objective_bytes(&trainer->objective) / trainer->objective.backward_options.row_limit;
    if (trainer->expected_rows > largest_rows)
        peak += bytes_per_row * (trainer->expected_rows - largest_rows);
    return peak;
}

static bombus_status warm_up(struct bb_trainer *trainer, const struct bb_batches_state *state, bombus_error *error)
{
    struct survey survey;
    double warm_seconds = 0.0, seconds = 0.0, forward_seconds = 0.0, update_seconds = 0.0, sample_seconds = 0.0;
    double evaluated_rows = 0.0;
    const struct bb_train_batch *batch = NULL;
    bombus_status status = survey_batches(trainer, &survey, error);
    if (status != BOMBUS_OK || survey.count == 0)
        return status;
    status = go_to(trainer, state, survey.largest, &batch, error);
    if (status != BOMBUS_OK || batch == NULL)
        return status;
    int32_t largest_rows = batch->row_count;
    /* The first step touches all memory and all weights; its time does not count. */
    status = measure(trainer, batch, true, 1, &warm_seconds, error);
    if (status == BOMBUS_OK && survey.typical != survey.largest)
        status = go_to(trainer, state, survey.typical, &batch, error);
    if (status != BOMBUS_OK || batch == NULL || batch->row_count == 0)
        return status;
    int32_t rows = batch->row_count;
    status = measure(trainer, batch, true, MEASUREMENTS, &seconds, error);
    if (status == BOMBUS_OK)
        status = all_evaluation_rows(trainer, &evaluated_rows, error);
    if (status == BOMBUS_OK && evaluated_rows > 0.0)
        status = measure(trainer, batch, false, MEASUREMENTS, &forward_seconds, error);
    if (status == BOMBUS_OK)
        status = measure_update(trainer, &update_seconds, error);
    if (status == BOMBUS_OK)
        status = measure_sample(trainer, &sample_seconds, error);
    if (status != BOMBUS_OK)
        return status;
    const double batch_rows = (double)survey.rows / (double)survey.count;
    const double read_seconds = survey.rows > 0 ? survey.seconds / (double)survey.rows : 0.0; /* a row */
    const double updates = iterations_left(trainer) / trainer->options.grad_accumulation_steps;
    const double total = (seconds / rows + read_seconds) * batch_rows * iterations_left(trainer) +
                         (forward_seconds / rows + read_seconds) * evaluated_rows + update_seconds * updates +
                         sample_seconds * evaluations_left(trainer);
    bb_trainer_tell(trainer, &(bombus_train_event){.type = BOMBUS_TRAIN_ESTIMATE,
                                                   .iteration = trainer->state.iteration,
                                                   .seconds = seconds,
                                                   .estimated_seconds = total,
                                                   .estimated_bytes = (int64_t)expected_peak(trainer, largest_rows)});
    return BOMBUS_OK;
}

bombus_status bb_estimate_run(struct bb_trainer *trainer, bombus_error *error)
{
    struct bb_trainable *trainable = trainer->trainable;
    struct bb_batches_state state = bb_batches_get_state(&trainer->train.batches);
    float *pending = NULL;
    if (trainer->state.pending > 0) { /* gradients of a resumed run that wait for their update */
        pending = bb_allocate(trainable->value_count, sizeof *pending);
        if (pending == NULL)
            return bb_fail_memory(error, trainable->value_count * sizeof *pending, "pending gradients");
        memcpy(pending, trainable->gradients, trainable->value_count * sizeof *pending);
    }
    bombus_status status = warm_up(trainer, &state, error);
    bb_trainable_zero_gradients(trainable);
    if (pending != NULL)
        memcpy(trainable->gradients, pending, trainable->value_count * sizeof *pending);
    bb_release(pending);
    bombus_status restored = bb_batches_set_state(&trainer->train.batches, &state, status == BOMBUS_OK ? error : NULL);
    return status == BOMBUS_OK ? restored : status;
}
