/* bombus train as a process: killed, interrupted, out of disk, diverging, resumed; its log, report and refusals. */
#define _GNU_SOURCE /* prlimit */
#include "cli/train_history.h"
#include "cli/train_report.h"
#include "process.h"
#include "train_fixture.h"

#include <jansson.h>
#include <sys/resource.h>

#define MODEL "models/bombus-stories-28m-4bit"

/* Wide enough that a run takes a few seconds at most, and deep enough that every part of the state matters: accumulation with batches left over at
 * the saves, momentum, dropout, evaluations. */
#define COMMON                                                                                                            \
    "train", "-m", MODEL, "--data", place("data"), "--num-layers", "1", "--rank", "2", "--batch-size", "2",        \
        "--grad-accumulation-steps", "3", "--max-seq-length", "24", "--learning-rate", "0.001", "--optimizer", "adamw",   \
        "--dropout", "0.1", "--steps-per-eval", "5", "--val-batches", "2", "--save-every", "4", "--steps-per-report", "2"

/* A path in the scratch folder that stays valid (scratch_path's buffers are used again). */
static const char *place(const char *name)
{
    static char paths[40][128];
    static size_t count;
    for (size_t i = 0; i < count; i++) {
        if (strcmp(strrchr(paths[i], '/') + 1, name) == 0)
            return paths[i];
    }
    assert_true(count < BB_COUNT(paths));
    snprintf(paths[count], sizeof paths[0], "%s/%s", scratch_folder, name);
    return paths[count++];
}

static int setup(void **state)
{
    if (scratch_setup(state) != 0)
        return -1;
    scratch_environment();
    write_lines("data/train.jsonl", 0, 23);
    write_lines("data/valid.jsonl", 100, 6);
    write_lines("data/test.jsonl", 200, 4);
    return 0;
}

static bool file_is_there(const char *folder, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, R_OK) == 0;
}

static void check_same_file(const char *one, const char *other, const char *name)
{
    char *data[2];
    size_t sizes[2];
    const char *const folders[] = {one, other};
    for (int i = 0; i < 2; i++) {
        char path[512];
        bombus_error error;
        snprintf(path, sizeof path, "%s/%s", folders[i], name);
        CHECK_OK(bb_file_read(&data[i], &sizes[i], path, (size_t)1 << 30, &error), error);
    }
    if (sizes[0] != sizes[1] || memcmp(data[0], data[1], sizes[0]) != 0)
        fail_msg("%s differs between %s and %s", name, one, other);
    bb_release(data[0]);
    bb_release(data[1]);
}

static void check_same_adapter(const char *one, const char *other)
{
    check_same_file(one, other, "adapters.safetensors");
    check_same_file(one, other, "best/adapters.safetensors");
    check_same_file(one, other, "0000012_adapters.safetensors");
}

static double unbroken_ms; /* what that run took */

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

/* The folder of a run of 30 iterations that nothing disturbed. */
static const char *unbroken(void)
{
    const char *folder = place("unbroken");
    if (file_is_there(folder, "adapters.safetensors"))
        return folder;
    struct process process;
    double start = now_ms();
    RUN(&process, 0, "", COMMON, "--iters", "30", "--adapter-path", folder, "--threads", "1");
    unbroken_ms = now_ms() - start;
    assert_non_null(strstr(process.err, "finished at iteration 30"));
    process_clear(&process);
    return folder;
}

static void pause_ms(long milliseconds)
{
    struct timespec pause = {.tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000};
    nanosleep(&pause, NULL);
}

/* ---- never lose work ---- */

/* Killed at moments that differ each time, and resumed until it is done; also with another number of threads. */
static void test_kill(void **state)
{
    (void)state;
    const char *expected = unbroken();
    const char *folder = place("killed");
    int kills = 0;
    for (int turn = 0; turn < 100; turn++) {
        const char *const arguments[] = {COMMON, "--iters", "30", "--adapter-path", folder, "--resume", "--threads",
                                         turn % 2 == 0 ? "1" : "2", NULL};
        struct process process;
        process_start(&process, "", arguments);
        pause_ms((long)(unbroken_ms * (0.1 + 0.05 * (turn * 7 % 11)))); /* from soon after the beginning to over the middle */
        if (kills < 7)
            kills += kill(process.id, SIGKILL) == 0;
        process_wait(&process);
        bool is_done = process.code == 0;
        if (!is_done && process.code != 128 + SIGKILL)
            fail_msg("code %d: %s", process.code, process.err);
        process_clear(&process);
        if (is_done)
            break;
    }
    assert_true(kills >= 3);
    check_same_adapter(expected, folder);
    DIR *directory = opendir(folder); /* no temporary file is left */
    for (struct dirent *item = readdir(directory); item != NULL; item = readdir(directory)) {
        const char *end = strrchr(item->d_name, '.');
        assert_true(end == NULL || end[1] == '\0' || end == item->d_name + 1 || strcmp(end, ".safetensors") == 0 ||
                    strcmp(end, ".json") == 0);
    }
    closedir(directory);
}

/* Starts a run of so many iterations in `folder`, with nothing in the files that wait_for reads. */
static void start_run(struct process *process, const char *folder, const char *iterations)
{
    const char *const arguments[] = {COMMON, "--iters", iterations, "--adapter-path", folder, NULL};
    scratch_text("process-err", "");
    process_start(process, "", arguments);
}

/* Waits until standard error holds the text. */
static void wait_for(const char *text)
{
    for (int turn = 0; turn < 3000; turn++) {
        size_t size;
        char *err = process_read("process-err", &size);
        bool is_there = strstr(err, text) != NULL;
        bb_release(err);
        if (is_there)
            return;
        pause_ms(5);
    }
    fail_msg("'%s' did not come", text);
}

static void test_interrupt(void **state)
{
    (void)state;
    const char *expected = unbroken();
    const char *folder = place("interrupted");
    struct process process;
    start_run(&process, folder, "30");
    wait_for("iteration 4: loss");
    kill(process.id, SIGINT);
    process_wait(&process);
    assert_int_equal(process.code, 0);
    assert_non_null(strstr(process.err, "interrupted at iteration "));
    assert_true(file_is_there(folder, "adapters.safetensors"));
    process_clear(&process);
    RUN(&process, 0, "", COMMON, "--iters", "30", "--adapter-path", folder, "--resume");
    assert_non_null(strstr(process.err, "going on at iteration "));
    process_clear(&process);
    check_same_adapter(expected, folder);
}

/* The disk is full from some moment on: files of this process may not grow any more. */
static void test_full_disk(void **state)
{
    (void)state;
    const char *folder = place("full");
    struct process process;
    struct rlimit limit, old;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_IGN);
    start_run(&process, folder, "100000");
    signal(SIGXFSZ, SIG_DFL);
    wait_for("iteration 4: saved");
    limit = old;
    limit.rlim_cur = 4096; /* what is said on standard error still fits */
    assert_int_equal(prlimit(process.id, RLIMIT_FSIZE, &limit, NULL), 0);
    process_wait(&process);
    assert_int_equal(process.code, 1);
    assert_non_null(strstr(process.err, "cannot write"));
    assert_non_null(strstr(process.err, "the last saved state is that of iteration "));
    process_clear(&process);
    assert_true(file_is_there(folder, "training_state.safetensors"));
}

static void test_divergence(void **state)
{
    (void)state;
    const char *folder = place("diverged");
    struct process process;
    RUN(&process, 1, "", COMMON, "--iters", "200", "--adapter-path", folder, "--learning-rate",
        "1e6"); /* adamw's decay multiplies by -1e4 an update then */
    assert_non_null(strstr(process.err, "learning_rate"));
    assert_non_null(strstr(process.err, "the last saved state is that of iteration "));
    assert_true(file_is_there(folder, "training_state.safetensors"));
    process_clear(&process);
}

static void test_early_stop(void **state)
{
    (void)state;
    struct process process;
    RUN(&process, 0, "", COMMON, "--iters", "1000", "--adapter-path", place("early"), "--learning-rate", "1e-20",
        "--patience", "2", "--min-delta", "0.001", "--json");
    json_t *result = json_loads(process.out, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(result, "end")), "stopped_early");
    assert_int_equal(json_integer_value(json_object_get(result, "iterations")), 10);
    assert_int_equal(json_integer_value(json_object_get(result, "best_iteration")), 0);
    json_decref(result);
    process_clear(&process);
}

/* ---- refusals ---- */

static void test_other_run(void **state)
{
    (void)state;
    const char *folder = place("other");
    struct process process;
    RUN(&process, 0, "", COMMON, "--iters", "4", "--adapter-path", folder);
    process_clear(&process);
    RUN(&process, 1, "", COMMON, "--iters", "4", "--adapter-path", folder);
    assert_non_null(strstr(process.err, "of another run"));
    process_clear(&process);
    RUN(&process, 1, "", COMMON, "--iters", "8", "--adapter-path", folder, "--resume", "--rank", "3");
    assert_non_null(strstr(process.err, "rank was '2' in that run and is '3' now"));
    process_clear(&process);
    RUN(&process, 0, "", COMMON, "--iters", "3", "--adapter-path", folder, "--force", "--rank", "3");
    assert_false(file_is_there(folder, "0000004_adapters.safetensors"));
    process_clear(&process);
    char state_file[512];
    snprintf(state_file, sizeof state_file, "%s/training_state.safetensors", folder);
    assert_int_equal(truncate(state_file, 1000), 0);
    RUN(&process, 1, "", COMMON, "--iters", "8", "--adapter-path", folder, "--resume", "--rank", "3");
    assert_non_null(strstr(process.err, "training_state.safetensors"));
    process_clear(&process);
}

/* The best adapter of another run, moved out of the way or not, is not replaced by the first evaluation of a new one. */
static void test_other_best(void **state)
{
    (void)state;
    const char *folder = place("left");
    struct process process;
    scratch_text("left/best/adapters.safetensors", "precious");
    RUN(&process, 1, "", COMMON, "--iters", "2", "--adapter-path", folder);
    assert_non_null(strstr(process.err, "best: holds adapters.safetensors of another run"));
    assert_false(file_is_there(folder, "training_state.safetensors"));
    process_clear(&process);
    RUN(&process, 0, "", COMMON, "--iters", "2", "--adapter-path", folder, "--force");
    process_clear(&process);
}

/* adapter_config.json is JSON whatever bytes a path has, so that the adapter can be opened. */
static void test_path_without_utf8(void **state)
{
    (void)state;
    struct process process;
    write_lines("odd\xff/train.jsonl", 0, 4);
    RUN(&process, 0, "", "train", "-m", MODEL, "--data", place("odd\xff"), "--adapter-path", place("odd"), "--iters", "1",
        "--num-layers", "1", "--max-seq-length", "8");
    process_clear(&process);
    RUN(&process, 0, "", "adapter", "inspect", place("odd"));
    process_clear(&process);
}

static void test_wrong_options(void **state)
{
    (void)state;
    const char *folder = place("wrong");
    const char *data = place("data");
    const struct {
        int code;
        const char *arguments[8];
        const char *named;
    } cases[] = {
        {2, {NULL}, "--data"},
        {1, {"--data", "/nowhere"}, "/nowhere"},
        {2, {"--data", data, "--iters", "0"}, "--iters"},
        {2, {"--data", data, "--optimizer", "adamax"}, "--optimizer"},
        {2, {"--data", data, "--rank", "-3"}, "--rank"},
        {2, {"--data", data, "--resume", "--force"}, "resume"},
        {2, {"--data", data, "--packing", "--mlx-compatible-loss"}, "packing"},
        {1, {"--data", data, "--packing", "--train-mode", "dpo"}, "packing"},
        {1, {"--data", data, "--fine-tune-type", "full", "--train-mode", "dpo"}, "DPO"},
        {2, {"--data", data, "--keys", "self_attn.nothing"}, "self_attn.nothing"},
        {1, {"--data", data, "--resume-adapter-file", "/nowhere"}, "/nowhere"},
        {2, {"--data", data, "--batch-size", "65536", "--max-seq-length", "16777216"}, "batch_size"},
        {1, {"-c", "/nowhere.yaml"}, "/nowhere.yaml"},
        {2, {"--data", data, "--scale", "0"}, "--scale"},
        {2, {"--data", data, "--val-batches", "0"}, "--val-batches"},
        {2, {"--data", data, "--test", "--test-batches", "0"}, "--test-batches"},
        {2, {"--data", data, "--optimizer", "sgd", "--bias-correction"}, "bias_correction"},
        {2, {"--data", data, "--patience", "2", "--steps-per-eval", "0"}, "patience"},
        {2, {"--data", data, "--grad-checkpoint", "--keep-activations"}, "--keep-activations"},
        {2, {"--data", data, "--keys", "self_attn.q_proj", "--keys", "lm_head"}, "lm_head"},
    };
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        const char *arguments[16] = {"train", "-m", MODEL, "--adapter-path", folder};
        size_t count = 5;
        for (size_t k = 0; cases[i].arguments[k] != NULL; k++)
            arguments[count++] = cases[i].arguments[k];
        struct process process;
        process_run(&process, cases[i].code, "", arguments);
        if (strstr(process.err, cases[i].named) == NULL)
            fail_msg("case %zu: '%s' is not in: %s", i, cases[i].named, process.err);
        assert_false(file_is_there(folder, "adapters.safetensors"));
        process_clear(&process);
    }
}

static void test_without_mpi(void **state)
{
    (void)state;
    struct process process;
    setenv("OMPI_COMM_WORLD_SIZE", "1", 1); /* one process is no group, with MPI or without */
    RUN(&process, 0, "", COMMON, "--iters", "2", "--adapter-path", place("single"));
    unsetenv("OMPI_COMM_WORLD_SIZE");
    process_clear(&process);
}

/* ---- watching ---- */

static void check_keys(const json_t *line, const char *const *keys)
{
    size_t count = 0;
    for (; keys[count] != NULL; count++)
        assert_non_null(json_object_get(line, keys[count]));
    assert_int_equal(json_object_size(line), count);
}

static void test_log(void **state)
{
    (void)state;
    const char *log = place("log.jsonl"), *page = place("page.html");
    struct process process;
    RUN(&process, 0, "", COMMON, "--iters", "10", "--adapter-path", place("logged"), "--log", log, "--report", page,
        "--sample-prompt", "A fox", "--sample-tokens", "5", "--test", "--json");
    json_t *result = json_loads(process.out, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(result, "end")), "finished");
    json_decref(result);
    assert_non_null(strstr(process.err, "estimate: "));
    assert_non_null(strstr(process.err, "test loss "));
    process_clear(&process);
    FILE *file = fopen(log, "r");
    char line[1024];
    int counts[3] = {0};
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        static const char *const train_keys[] = {"type", "iter", "loss", "learning_rate", "tokens_per_second",
                                                 "iterations_per_second", "trained_tokens", "peak_memory_bytes", NULL};
        static const char *const other_keys[] = {"type", "iter", "loss", "seconds", NULL};
        json_t *object = json_loads(line, 0, NULL);
        const char *type = json_string_value(json_object_get(object, "type"));
        assert_non_null(type);
        int kind = strcmp(type, "train") == 0 ? 0 : strcmp(type, "validation") == 0 ? 1 : 2;
        check_keys(object, kind == 0 ? train_keys : other_keys);
        counts[kind]++;
        json_decref(object);
    }
    fclose(file);
    assert_int_equal(counts[0], 5);
    assert_int_equal(counts[1], 3); /* at 0, 5 and 10 */
    assert_int_equal(counts[2], 1);
    size_t size;
    char *html;
    bombus_error error;
    CHECK_OK(bb_file_read(&html, &size, page, 1 << 24, &error), error);
    assert_non_null(strstr(html, "<svg"));
    assert_non_null(strstr(html, "A fox"));
    assert_non_null(strstr(html, "</html>"));
    assert_null(strstr(html, "<script"));
    assert_null(strstr(html, "http"));
    bb_release(html);
}

/* A loss that was no number was written as null, and is none when it is read again. */
static void test_log_null(void **state)
{
    (void)state;
    struct train_history history = {0};
    bombus_error error;
    scratch_text("null.jsonl", "{\"type\":\"validation\",\"iter\":0,\"loss\":null,\"seconds\":1.5}\n");
    CHECK_OK(train_history_open_log(&history, place("null.jsonl"), 4, &error), error);
    assert_int_equal(history.validation.count, 1);
    assert_true(isnan(history.validation.items[0].loss) && history.validation.items[0].seconds == 1.5);
    train_history_clear(&history);
}

/* The page of a run: curves that are flat but for rounding, and settings as they are. */
static void test_report(void **state)
{
    (void)state;
    struct train_history history = {0};
    const bombus_train_options options = {.data = "d", .adapter_path = "a", .seed = 12345678901234567, .optimizer = BOMBUS_MUON,
                                          .mode = BOMBUS_TRAIN_ORPO, .fine_tune = BOMBUS_FINE_TUNE_DORA, .num_layers = 7};
    const struct train_report report = {.path = place("flat.html"), .model = "m", .device = "cpu", .options = &options,
                                        .state = "finished", .best_iteration = -1};
    bombus_error error;
    const double rates[] = {1e-3, nextafter(1e-3, 1.0), 1e-3};
    for (int i = 0; i < 3; i++)
        train_history_add(&history, &(bombus_train_event){.type = BOMBUS_TRAIN_REPORT, .iteration = i, .loss = 1.0, .learning_rate = rates[i]});
    CHECK_OK(train_report_write(&report, &history, &error), error);
    train_history_clear(&history);
    size_t size;
    char *html;
    CHECK_OK(bb_file_read(&html, &size, report.path, 1 << 20, &error), error);
    static const char *const rows[] = {"seed</td><td>12345678901234567<", "optimizer</td><td>muon<", "mode</td><td>orpo<",
                                       "fine-tune type</td><td>dora<", "layers</td><td>7<"};
    for (size_t i = 0; i < BB_COUNT(rows); i++)
        if (strstr(html, rows[i]) == NULL)
            fail_msg("the page has no '%s'", rows[i]);
    bb_release(html);
}

/* Lines of the log that come again in a resumed run stand there once. */
static void test_log_resumed(void **state)
{
    (void)state;
    const char *log = place("resumed.jsonl"), *folder = place("logged-twice");
    struct process process;
    RUN(&process, 0, "", COMMON, "--iters", "4", "--adapter-path", folder, "--log", log);
    process_clear(&process);
    RUN(&process, 0, "", COMMON, "--iters", "8", "--adapter-path", folder, "--log", log, "--resume");
    process_clear(&process);
    FILE *file = fopen(log, "r");
    char line[1024];
    int64_t last = -1, count = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        json_t *object = json_loads(line, 0, NULL);
        if (strcmp(json_string_value(json_object_get(object, "type")), "train") == 0) {
            int64_t iteration = json_integer_value(json_object_get(object, "iter"));
            assert_true(iteration > last);
            last = iteration;
            count++;
        }
        json_decref(object);
    }
    fclose(file);
    assert_int_equal(last, 8);
    assert_int_equal(count, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kill),          cmocka_unit_test(test_interrupt),     cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_divergence),    cmocka_unit_test(test_early_stop),    cmocka_unit_test(test_other_run),
        cmocka_unit_test(test_wrong_options), cmocka_unit_test(test_without_mpi), cmocka_unit_test(test_log),
        cmocka_unit_test(test_log_resumed),   cmocka_unit_test(test_log_null),     cmocka_unit_test(test_other_best),
        cmocka_unit_test(test_path_without_utf8), cmocka_unit_test(test_report),
    };
    return cmocka_run_group_tests(tests, setup, scratch_teardown);
}
