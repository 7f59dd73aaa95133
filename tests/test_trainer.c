/* Training through the public interface: events, cancelling, limits, several processes as threads, failing memory. */
#include "adapters.h"
#include "base/memory.h"
#include "scratch.h"
#include "train/train_options.h"

#include <pthread.h>
#include <stdatomic.h>

#define MODEL "models/bombus-stories-28m-4bit"

struct opened {
    bombus_model *model;
    bombus_tokenizer *tokenizer;
};

static struct opened opened;

static int setup(void **state)
{
    static const char *const words[] = {"fox", "moon", "river", "stone", "a", "the", "sings", "waits"};
    struct bb_buffer text = {0};
    bombus_error error;
    if (scratch_setup(state) != 0)
        return -1;
    for (size_t i = 0; i < 24; i++) {
        bb_buffer_add_text(&text, "{\"text\": \"");
        for (size_t word = 0; word < 4 + i % 5; word++)
            bb_buffer_format(&text, "%s ", words[(i * 5 + word * 3) % BB_COUNT(words)]);
        bb_buffer_add_text(&text, "\"}\n");
    }
    scratch_write("data/train.jsonl", text.data, text.length);
    const char *end = text.data; /* of the fourth line */
    for (int line = 0; line < 4; line++)
        end = strchr(end, '\n') + 1;
    scratch_write("data/valid.jsonl", text.data, (size_t)(end - text.data));
    bb_buffer_clear(&text);
    CHECK_OK(bombus_model_open(&opened.model, MODEL, &(bombus_model_options){.thread_count = 1}, &error), error);
    CHECK_OK(bombus_tokenizer_open(&opened.tokenizer, MODEL, NULL, &error), error);
    return 0;
}

static int teardown(void **state)
{
    bombus_model_close(opened.model);
    bombus_tokenizer_close(opened.tokenizer);
    return scratch_teardown(state);
}

/* Paths live in the caller's arrays. */
struct paths {
    char data[128], adapter[128];
};

static bombus_train_options options_for(struct paths *paths, const char *adapter)
{
    snprintf(paths->data, sizeof paths->data, "%s/data", scratch_folder);
    snprintf(paths->adapter, sizeof paths->adapter, "%s/%s", scratch_folder, adapter);
    return (bombus_train_options){.data = paths->data,
                                  .adapter_path = paths->adapter,
                                  .num_layers = 1,
                                  .rank = 2,
                                  .batch_size = 2,
                                  .max_seq_length = 16,
                                  .learning_rate = 1e-3,
                                  .iters = 6,
                                  .steps_per_eval = 3,
                                  .val_batches = 1,
                                  .save_every = 4,
                                  .steps_per_report = 2,
                                  .has_precision = true,
                                  .precision = BOMBUS_PRECISION_EXACT};
}

static bombus_status train(const bombus_train_options *options, bombus_train_result *result, bombus_error *error)
{
    bombus_trainer *trainer;
    bombus_status status = bombus_trainer_create(&trainer, opened.model, opened.tokenizer, NULL, options, error);
    if (status == BOMBUS_OK)
        status = bombus_trainer_run(trainer, result, error);
    bombus_trainer_free(trainer);
    return status;
}

/* ---- events ---- */

struct heard {
    char types[256];
    size_t count;
    int64_t stop_at;
};

static bool hear(void *context, const bombus_train_event *event)
{
    static const char letters[] = {[BOMBUS_TRAIN_BEGIN] = 'b',  [BOMBUS_TRAIN_ESTIMATE] = 'e',   [BOMBUS_TRAIN_STEP] = '.',
                                   [BOMBUS_TRAIN_REPORT] = 'r', [BOMBUS_TRAIN_VALIDATION] = 'v', [BOMBUS_TRAIN_TEST] = 't',
                                   [BOMBUS_TRAIN_SAVED] = 's',  [BOMBUS_TRAIN_SAMPLE] = 'x',     [BOMBUS_TRAIN_LINE] = 'l',
                                   [BOMBUS_TRAIN_EVALUATION] = ','};
    struct heard *heard = context;
    if (heard->count + 1 < sizeof heard->types)
        heard->types[heard->count++] = letters[event->type];
    if (event->type == BOMBUS_TRAIN_ESTIMATE)
        assert_true(event->estimated_bytes > 0 && event->estimated_seconds >= 0.0);
    if (event->type == BOMBUS_TRAIN_STEP)
        assert_true(event->loss > 0.0 && event->learning_rate == 1e-3);
    return event->type != BOMBUS_TRAIN_STEP || event->iteration != heard->stop_at;
}

static void test_events(void **state)
{
    (void)state;
    struct paths paths;
    struct heard heard = {0};
    bombus_error error;
    bombus_train_result result;
    bombus_train_options options = options_for(&paths, "events");
    options.callback = hear;
    options.context = &heard;
    options.sample_tokens = 3;
    CHECK_OK(train(&options, &result, &error), error);
    assert_string_equal(heard.types, "be,vx..r.,vx.rs..r,vxs");
    assert_int_equal(result.end, BOMBUS_TRAIN_FINISHED);
    assert_int_equal(result.iteration, 6);
    assert_true(result.trained_tokens > 0 && result.train_loss > 0.0 && result.validation_loss > 0.0);
    assert_true(result.best_iteration >= 0 && result.best_loss <= result.validation_loss);
}

static void test_stop(void **state)
{
    (void)state;
    struct paths paths;
    struct heard heard = {.stop_at = 3};
    bombus_error error;
    bombus_train_result result;
    bombus_train_options options = options_for(&paths, "stopped");
    options.callback = hear;
    options.context = &heard;
    CHECK_OK(train(&options, &result, &error), error);
    assert_int_equal(result.end, BOMBUS_TRAIN_CANCELLED);
    assert_int_equal(result.iteration, 3);
    heard = (struct heard){0};
    options.resume = true;
    CHECK_OK(train(&options, &result, &error), error);
    assert_int_equal(result.iteration, 6);
    assert_int_equal(result.end, BOMBUS_TRAIN_FINISHED);
}

/* Says no in the evaluation after iteration stop_at. */
static bool stop_evaluation(void *context, const bombus_train_event *event)
{
    struct heard *heard = context;
    hear(context, event);
    return event->type != BOMBUS_TRAIN_EVALUATION || event->iteration != heard->stop_at;
}

/* A run that was stopped in an evaluation, and went on with it, ends in the same bits as one that was not. */
static void check_broken_evaluation(int64_t iteration, const char *heard_before, const char *heard_behind)
{
    struct paths whole_paths, broken_paths;
    struct heard heard = {.stop_at = iteration};
    bombus_error error;
    bombus_train_result whole, broken;
    bombus_train_options options = options_for(&whole_paths, "evaluated");
    options.val_batches = 2;
    options.force = true;
    options.mlx_compatible = true; /* orders of training and validation come from one generator */
    CHECK_OK(train(&options, &whole, &error), error);
    options = options_for(&broken_paths, "broken");
    options.val_batches = 2;
    options.force = true;
    options.mlx_compatible = true;
    options.callback = stop_evaluation;
    options.context = &heard;
    CHECK_OK(train(&options, &broken, &error), error);
    assert_int_equal(broken.end, BOMBUS_TRAIN_CANCELLED);
    assert_int_equal(broken.iteration, iteration);
    assert_string_equal(heard.types, heard_before);
    heard = (struct heard){.stop_at = -1};
    options.force = false;
    options.resume = true;
    CHECK_OK(train(&options, &broken, &error), error);
    assert_string_equal(heard.types, heard_behind);
    assert_int_equal(broken.end, BOMBUS_TRAIN_FINISHED);
    assert_true(broken.validation_loss == whole.validation_loss && broken.best_loss == whole.best_loss);
    assert_int_equal(broken.best_iteration, whole.best_iteration);
    check_near_adapters(whole_paths.adapter, broken_paths.adapter, 0.0);
}

static void test_broken_evaluation(void **state)
{
    (void)state;
    check_broken_evaluation(0, "be,s", "be,,v..r.,,v.rs..r,,vs");
    check_broken_evaluation(3, "be,,v..r.,s", "be,,v.rs..r,,vs");
    check_broken_evaluation(6, "be,,v..r.,,v.rs..r,s", "b,,vs"); /* nothing is left to estimate */
}

static bool stop_at_sample(void *context, const bombus_train_event *event)
{
    hear(context, event);
    return event->type != BOMBUS_TRAIN_SAMPLE;
}

/* Stopped at the sample text before the first step: the evaluation comes again, and counts once. */
static void test_broken_sample(void **state)
{
    (void)state;
    struct paths paths;
    struct heard heard = {0};
    bombus_error error;
    bombus_train_result result;
    bombus_train_options options = options_for(&paths, "sampled");
    options.sample_tokens = 3;
    options.patience = 1;
    options.min_delta = 100.0; /* only the first is better */
    options.callback = stop_at_sample;
    options.context = &heard;
    CHECK_OK(train(&options, &result, &error), error);
    assert_int_equal(result.end, BOMBUS_TRAIN_CANCELLED);
    assert_string_equal(heard.types, "be,vxs");
    heard = (struct heard){.stop_at = -1};
    options.resume = true;
    options.callback = hear;
    CHECK_OK(train(&options, &result, &error), error);
    assert_string_equal(heard.types, "be,vx..r.,vxs");
    assert_int_equal(result.end, BOMBUS_TRAIN_STOPPED_EARLY);
    assert_int_equal(result.iteration, 3);
    assert_int_equal(result.best_iteration, 0);
}

/* A run does not go on with another chat template than it began with. */
static void test_other_template(void **state)
{
    (void)state;
    struct paths paths;
    bombus_error error;
    bombus_train_result result;
    bombus_trainer *trainer;
    bombus_template *templates[2];
    bombus_train_options options = options_for(&paths, "templates");
    CHECK_OK(bombus_template_create(&templates[0], "{{ messages[0].content }}", 25, &error), error);
    CHECK_OK(bombus_template_create(&templates[1], "{{ messages[0].content}}!", 25, &error), error);
    for (int i = 0; i < 2; i++) {
        options.resume = i > 0;
        CHECK_OK(bombus_trainer_create(&trainer, opened.model, opened.tokenizer, templates[i], &options, &error), error);
        const bombus_status status = bombus_trainer_run(trainer, &result, &error);
        assert_int_equal(status, i == 0 ? BOMBUS_OK : BOMBUS_ERROR_MISMATCH);
        bombus_trainer_free(trainer);
        bombus_template_free(templates[i]);
    }
    assert_non_null(strstr(error.message, "chat template was '"));
}

struct running {
    bombus_trainer *trainer;
    bombus_train_result result;
    bombus_status status;
    atomic_int steps;
};

static bool count_steps(void *context, const bombus_train_event *event)
{
    struct running *running = context;
    if (event->type == BOMBUS_TRAIN_STEP)
        atomic_fetch_add(&running->steps, 1);
    return true;
}

static void *run_in_thread(void *context)
{
    struct running *running = context;
    running->status = bombus_trainer_run(running->trainer, &running->result, NULL);
    return NULL;
}

static void test_cancel(void **state)
{
    (void)state;
    struct paths paths;
    struct running running = {0};
    bombus_error error;
    pthread_t thread;
    bombus_train_options options = options_for(&paths, "cancelled");
    options.iters = 1000000;
    options.callback = count_steps;
    options.context = &running;
    CHECK_OK(bombus_trainer_create(&running.trainer, opened.model, opened.tokenizer, NULL, &options, &error), error);
    assert_int_equal(pthread_create(&thread, NULL, run_in_thread, &running), 0);
    while (atomic_load(&running.steps) < 3)
        usleep(1000);
    bombus_trainer_cancel(running.trainer);
    pthread_join(thread, NULL);
    assert_int_equal(running.status, BOMBUS_OK);
    assert_int_equal(running.result.end, BOMBUS_TRAIN_CANCELLED);
    assert_true(running.result.iteration >= 3 && running.result.iteration < 1000000);
    bombus_trainer_free(running.trainer);
}

/* ---- refusals ---- */

static void test_memory_limit(void **state)
{
    (void)state;
    struct paths paths;
    bombus_error error;
    bombus_train_result result;
    bombus_train_options options = options_for(&paths, "limited");
    options.memory_limit_bytes = 1000000;
    assert_int_equal(train(&options, &result, &error), BOMBUS_ERROR_MEMORY);
    assert_non_null(strstr(error.message, "reduce batch_size (2)"));
    assert_false(bb_folder_exists(paths.adapter));
}

static void test_arguments(void **state)
{
    (void)state;
    struct paths paths;
    bombus_error error;
    bombus_trainer *trainer = NULL;
    const bombus_train_options good = options_for(&paths, "arguments");
    bombus_train_options wrong[19];
    for (size_t i = 0; i < BB_COUNT(wrong); i++)
        wrong[i] = good;
    wrong[0].data = NULL;
    wrong[1].adapter_path = NULL;
    wrong[2].dropout = 1.0;
    wrong[3].learning_rate = (double)NAN;
    wrong[4].batch_size = -1;
    wrong[5].mode = (bombus_train_mode)7;
    wrong[6].schedule.part_count = 99;
    wrong[7].has_optimizer_options = true;
    wrong[7].optimizer_options.beta1 = 2.0;
    wrong[8].sample_tokens = 3;
    wrong[8].sample_prompt = (const int32_t[]){1, 1 << 30};
    wrong[8].sample_prompt_count = 2;
    wrong[9].iters = -5;
    wrong[10].process_group = &(bombus_process_group){.rank = 3, .size = 2};
    wrong[11].key_count = 1;
    wrong[12].mode = BOMBUS_TRAIN_DPO;
    wrong[12].mlx_compatible = true; /* mlx-lm has none, and its padding would be an answer's last token */
    wrong[13].label_smoothing = 0.1;
    wrong[14].dpo_loss = BOMBUS_DPO_IPO;
    wrong[15].optimizer = BOMBUS_SGD;
    wrong[15].has_optimizer_options = wrong[15].optimizer_options.bias_correction = true;
    wrong[16].patience = 2;
    wrong[16].steps_per_eval = -1;
    wrong[17].mlx_compatible = true;
    wrong[17].seed = UINT64_C(1) << 32;
    wrong[18].keys = (const char *const[]){"self_attn.q_proj", NULL};
    wrong[18].key_count = 2;
    for (size_t i = 0; i < BB_COUNT(wrong); i++) {
        bombus_status status =
            bombus_trainer_create(&trainer, opened.model, opened.tokenizer, NULL, &wrong[i], &error);
        if (status != BOMBUS_ERROR_ARGUMENT)
            fail_msg("case %zu: %s", i, bombus_status_name(status));
        assert_null(trainer);
    }
    assert_int_equal(bombus_trainer_create(&trainer, NULL, opened.tokenizer, NULL, &good, &error), BOMBUS_ERROR_ARGUMENT);
    assert_int_equal(bombus_trainer_create(&trainer, opened.model, NULL, NULL, &good, &error), BOMBUS_ERROR_ARGUMENT);
    assert_int_equal(bombus_trainer_run(NULL, NULL, &error), BOMBUS_ERROR_ARGUMENT);
    bombus_trainer_free(NULL);
    bombus_trainer_cancel(NULL);
}

/* Sets that options speak of must be there. */
static void test_missing_sets(void **state)
{
    (void)state;
    struct paths paths;
    bombus_error error;
    bombus_train_result result;
    char alone[160];
    bombus_train_options options = options_for(&paths, "missing");
    options.test_batches = -1;
    assert_int_equal(train(&options, &result, &error), BOMBUS_ERROR_NOT_FOUND);
    assert_non_null(strstr(error.message, "test.jsonl"));
    snprintf(alone, sizeof alone, "%s/train.jsonl", paths.data);
    options.data = alone;
    options.test_batches = 0;
    options.patience = 2;
    assert_int_equal(train(&options, &result, &error), BOMBUS_ERROR_NOT_FOUND);
    assert_non_null(strstr(error.message, "valid.jsonl"));
    assert_false(bb_folder_exists(paths.adapter));
}

/* A trainer runs once: a second run would overwrite the first with what it left in memory. */
static void test_twice(void **state)
{
    (void)state;
    struct paths paths;
    bombus_error error;
    bombus_trainer *trainer;
    bombus_train_options options = options_for(&paths, "twice");
    options.force = true;
    options.iters = 2;
    CHECK_OK(bombus_trainer_create(&trainer, opened.model, opened.tokenizer, NULL, &options, &error), error);
    CHECK_OK(bombus_trainer_run(trainer, NULL, &error), error);
    assert_int_equal(bombus_trainer_run(trainer, NULL, &error), BOMBUS_ERROR_ARGUMENT);
    bombus_trainer_free(trainer);
}

/* The trainer's own options have the defaults that the caller left out. */
static void test_options(void **state)
{
    (void)state;
    struct paths paths;
    bombus_error error;
    bombus_trainer *trainer;
    bombus_train_options options = options_for(&paths, "options");
    options.num_layers = -1;
    CHECK_OK(bombus_trainer_create(&trainer, opened.model, opened.tokenizer, NULL, &options, &error), error);
    bombus_model_info info;
    bombus_model_get_info(opened.model, &info);
    const bombus_train_options *resolved = bombus_trainer_options(trainer);
    assert_int_equal(resolved->rank, 2);
    assert_int_equal(resolved->grad_accumulation_steps, 1);
    assert_int_equal(resolved->num_layers, info.layer_count);
    assert_true(resolved->scale == 20.0 && resolved->has_optimizer_options);
    bombus_trainer_free(trainer);
    assert_null(bombus_trainer_options(NULL));
}

/* The whole of each setting decides whether a run may go on, however long its text is. */
static void test_long_settings(void **state)
{
    (void)state;
    struct bb_train_settings settings[2] = {0};
    static char names[2][2000];
    for (int i = 0; i < 2; i++) {
        memset(names[i], 'x', sizeof names[i] - 1);
        names[i][sizeof names[i] - 2] = (char)('a' + i);
        const char *const keys[] = {names[i]};
        bombus_train_options options = {.keys = keys, .key_count = 1, .text_feature = names[i], .template_arguments = names[i]};
        options.schedule.part_count = BOMBUS_SCHEDULE_PART_LIMIT;
        for (int part = 0; part < BOMBUS_SCHEDULE_PART_LIMIT; part++)
            options.schedule.parts[part] = (bombus_schedule_part){BOMBUS_STEP_DECAY, {1.23456789e-5, 0.987654321, 1000 + (part == BOMBUS_SCHEDULE_PART_LIMIT - 1 ? i : 0)}};
        bb_train_settings_add_options(&settings[i], &options);
        assert_false(settings[i].is_failed);
    }
    int differences = 0;
    for (size_t i = 0; i < settings[0].count; i++)
        differences += strcmp(settings[0].items[i].text, settings[1].items[i].text) != 0;
    assert_int_equal(differences, 4); /* schedule, keys, features, template's arguments */
    bb_train_settings_clear(&settings[0]);
    bb_train_settings_clear(&settings[1]);
}

/* Each allocation may fail: no crash, nothing lost, and nothing half open. */
static void test_memory(void **state)
{
    (void)state;
    struct paths paths;
    bombus_error error;
    bombus_train_result result;
    bombus_train_options options = options_for(&paths, "memory");
    options.iters = 2;
    options.force = true;
    uint64_t before = bb_memory_count();
    CHECK_OK(train(&options, &result, &error), error);
    uint64_t count = bb_memory_count() - before, step = count / 40 + 1;
    for (uint64_t at = 1; at <= count; at += step) {
        bb_memory_fail_at(at, true);
        bombus_status status = train(&options, &result, &error);
        bb_memory_fail_at(0, false);
        if (status != BOMBUS_ERROR_MEMORY && status != BOMBUS_OK)
            fail_msg("allocation %d: %s: %s", (int)at, bombus_status_name(status), error.message);
    }
    CHECK_OK(train(&options, &result, &error), error);
}

/* ---- several processes ---- */

enum { MEMBERS = 2 };

/* Threads in the places of processes: each adds, all wait, each reads. */
struct meeting {
    pthread_barrier_t barrier;
    double doubles[MEMBERS][8];
    float *floats[MEMBERS];
};

struct member {
    struct meeting *meeting;
    bombus_process_group group;
    struct paths paths;
    bombus_train_options options;
    bombus_train_result result;
    bombus_status status;
    bombus_error error;
};

static bool sum_doubles(void *context, double *values, size_t count)
{
    struct member *member = context;
    struct meeting *meeting = member->meeting;
    assert_true(count <= BB_COUNT(meeting->doubles[0]));
    memcpy(meeting->doubles[member->group.rank], values, count * sizeof *values);
    pthread_barrier_wait(&meeting->barrier);
    for (size_t i = 0; i < count; i++)
        values[i] = meeting->doubles[0][i] + meeting->doubles[1][i];
    pthread_barrier_wait(&meeting->barrier);
    return true;
}

static bool sum_floats(void *context, float *values, size_t count)
{
    struct member *member = context;
    struct meeting *meeting = member->meeting;
    float *sums = malloc(count * sizeof *sums);
    meeting->floats[member->group.rank] = values;
    pthread_barrier_wait(&meeting->barrier);
    for (size_t i = 0; i < count; i++)
        sums[i] = meeting->floats[0][i] + meeting->floats[1][i];
    pthread_barrier_wait(&meeting->barrier);
    memcpy(values, sums, count * sizeof *values);
    free(sums);
    return true;
}

static void *run_member(void *context)
{
    struct member *member = context;
    member->status = train(&member->options, &member->result, &member->error);
    return NULL;
}

static void run_members(struct member members[MEMBERS])
{
    struct meeting meeting;
    pthread_t threads[MEMBERS];
    pthread_barrier_init(&meeting.barrier, NULL, MEMBERS);
    for (int32_t i = 0; i < MEMBERS; i++) {
        members[i].meeting = &meeting;
        members[i].group = (bombus_process_group){.rank = i, .size = MEMBERS, .sum_floats = sum_floats,
                                                  .sum_doubles = sum_doubles, .context = &members[i]};
        members[i].options.process_group = &members[i].group;
        assert_int_equal(pthread_create(&threads[i], NULL, run_member, &members[i]), 0);
    }
    for (int32_t i = 0; i < MEMBERS; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&meeting.barrier);
}

/* Two processes with an accumulation of 2 are one with 4. */
static void test_processes(void **state)
{
    (void)state;
    struct paths paths;
    bombus_error error;
    bombus_train_result result;
    struct member members[MEMBERS] = {0};
    bombus_train_options options = options_for(&paths, "alone");
    options.optimizer = BOMBUS_SGD; /* Adam would make much of little differences */
    options.learning_rate = 0.1;
    options.grad_accumulation_steps = 4;
    options.iters = 12;
    options.steps_per_eval = 6;
    CHECK_OK(train(&options, &result, &error), error);
    for (int i = 0; i < MEMBERS; i++) {
        members[i].options = options_for(&members[i].paths, "together");
        members[i].options.optimizer = BOMBUS_SGD;
        members[i].options.learning_rate = 0.1;
        members[i].options.grad_accumulation_steps = 2;
        members[i].options.iters = 6;
    }
    run_members(members);
    for (int i = 0; i < MEMBERS; i++) {
        CHECK_OK(members[i].status, members[i].error);
        assert_int_equal(members[i].result.trained_tokens, result.trained_tokens);
        assert_true(fabs(members[i].result.validation_loss - result.validation_loss) < 1e-5);
    }
    check_near_adapters(paths.adapter, members[0].paths.adapter, 1e-5);
}

static bool stop_at_once(void *context, const bombus_train_event *event)
{
    const bombus_train_event_type *stop_at = context;
    return event->type != *stop_at;
}

/* What stops one stops all: cancelling in a step and in an evaluation, and a failure. */
static void test_processes_stop(void **state)
{
    (void)state;
    bombus_train_event_type stops[] = {BOMBUS_TRAIN_STEP, BOMBUS_TRAIN_EVALUATION};
    for (size_t stop = 0; stop < BB_COUNT(stops); stop++) {
        struct member members[MEMBERS] = {0};
        for (int i = 0; i < MEMBERS; i++) {
            members[i].options = options_for(&members[i].paths, "together-cancelled");
            members[i].options.iters = 1000000;
            members[i].options.force = true;
            members[i].options.callback = i == 0 ? stop_at_once : NULL;
            members[i].options.context = &stops[stop];
        }
        run_members(members);
        for (int i = 0; i < MEMBERS; i++) {
            CHECK_OK(members[i].status, members[i].error);
            assert_int_equal(members[i].result.end, BOMBUS_TRAIN_CANCELLED);
        }
    }
    struct member members[MEMBERS] = {0};
    for (int i = 0; i < MEMBERS; i++) {
        members[i].options = options_for(&members[i].paths, "together-cancelled"); /* there is a run there */
        members[i].options.iters = 1000000;
    }
    run_members(members);
    assert_int_equal(members[0].status, BOMBUS_ERROR_MISMATCH);
    assert_int_equal(members[1].status, BOMBUS_ERROR_CANCELLED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events),       cmocka_unit_test(test_stop),      cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_broken_evaluation), cmocka_unit_test(test_broken_sample),
        cmocka_unit_test(test_other_template),
        cmocka_unit_test(test_memory_limit), cmocka_unit_test(test_arguments), cmocka_unit_test(test_processes),
        cmocka_unit_test(test_processes_stop), cmocka_unit_test(test_missing_sets), cmocka_unit_test(test_twice),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_long_settings), cmocka_unit_test(test_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
