/* bombus train under mpirun: two processes on one machine, and on two hosts made of network namespaces, against one process. */
#include "adapters.h"
#include "process.h"
#include "train_fixture.h"

#define MODEL "models/bombus-stories-28m-4bit"
#define COMMON                                                                                                            \
    "train -m " MODEL " --num-layers 1 --rank 2 --batch-size 2 --max-seq-length 24 --optimizer sgd --precision exact "   \
    "--threads 1 --steps-per-eval 3 --val-batches 4 --steps-per-report 3"

static int setup(void **state)
{
    if (scratch_setup(state) != 0)
        return -1;
    write_lines("data/train.jsonl", 0, 24);
    write_lines("data/valid.jsonl", 0, 24);
    setenv("ASAN_OPTIONS", "detect_leaks=0", 1); /* MPI keeps what it allocated */
    return 0;
}

/* Runs `launcher` bombus `arguments` on the scratch folder's data; what it says goes to the file "said". */
static int run(const char *launcher, const char *adapter, const char *arguments)
{
    char command[8192];
    snprintf(command, sizeof command, "%s %s %s --data %s/data --adapter-path %s/%s %s >%s/said 2>&1", launcher, process_program(),
             COMMON, scratch_folder, scratch_folder, adapter, arguments, scratch_folder);
    int status = system(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool said(const char *text)
{
    size_t size;
    char *all = process_read("said", &size);
    bool is_there = strstr(all, text) != NULL;
    bb_release(all);
    return is_there;
}

static void show(void)
{
    size_t size;
    char *all = process_read("said", &size);
    print_message("%s", all);
    bb_release(all);
}

#define MPIRUN "mpirun --allow-run-as-root --oversubscribe -np 2"

/* Skips where there is no mpirun, or no MPI in the command. */
static void need_mpi(void)
{
    if (system("command -v mpirun >/dev/null") != 0) {
        print_message("skipped: mpirun is not installed\n");
        skip();
    }
    int code = run(MPIRUN, "probe", "--iters 1 --force");
    if (code != 0 && said("built without")) {
        print_message("skipped: this bombus was built without MPI\n");
        skip();
    }
    if (code != 0)
        show();
    assert_int_equal(code, 0);
}

static void run_well(const char *launcher, const char *adapter, const char *arguments)
{
    int code = run(launcher, adapter, arguments);
    if (code == 77) {
        show();
        skip();
    }
    if (code != 0)
        show();
    assert_int_equal(code, 0);
}

static void check_against_one(const char *adapter)
{
    char one[256], both[256];
    run_well("", "one", "--force --learning-rate 0.03 --iters 24 --grad-accumulation-steps 4");
    snprintf(one, sizeof one, "%s/one", scratch_folder);
    snprintf(both, sizeof both, "%s/%s", scratch_folder, adapter);
    check_near_adapters(one, both, 1e-6); /* the same sums in another order; entries are up to 0.14 */
}

static void test_one_machine(void **state)
{
    (void)state;
    need_mpi();
    run_well(MPIRUN, "two", "--learning-rate 0.03 --iters 12 --grad-accumulation-steps 2");
    assert_true(said("finished at iteration 12"));
    check_against_one("two");
}

/* A run of two that goes on from its state. */
static void test_resume(void **state)
{
    (void)state;
    need_mpi();
    char whole[256], parts[256];
    run_well(MPIRUN, "whole", "--learning-rate 0.03 --iters 9 --grad-accumulation-steps 2 --save-every 5");
    run_well(MPIRUN, "parts", "--learning-rate 0.03 --iters 5 --grad-accumulation-steps 2 --save-every 5");
    run_well(MPIRUN, "parts", "--learning-rate 0.03 --iters 9 --grad-accumulation-steps 2 --save-every 5 --resume");
    snprintf(whole, sizeof whole, "%s/whole", scratch_folder);
    snprintf(parts, sizeof parts, "%s/parts", scratch_folder);
    check_near_adapters(whole, parts, 1e-6);
}

static void test_two_hosts(void **state)
{
    (void)state;
    need_mpi();
    run_well("tests/two_hosts", "hosts", "--learning-rate 0.03 --iters 12 --grad-accumulation-steps 2");
    check_against_one("hosts");
}

/* A loss that is no number ends both, with one message. */
static void test_divergence(void **state)
{
    (void)state;
    need_mpi();
    assert_int_not_equal(run(MPIRUN, "diverged", "--optimizer adamw --learning-rate 1e6 --iters 1000 --save-every 2"), 0);
    assert_true(said("the last saved state is that of iteration"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_one_machine), cmocka_unit_test(test_resume),
                                       cmocka_unit_test(test_two_hosts), cmocka_unit_test(test_divergence)};
    return cmocka_run_group_tests(tests, setup, scratch_teardown);
}
