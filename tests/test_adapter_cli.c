/* Adapters at the command line: -a of the commands that run models, adapter, fuse. */
#include "adapter_fixture.h"
#include "process.h"

static const char model[] = "tests/fixtures/models/llama-linear", mlx_fixture[] = "tests/fixtures/adapters/mlx-lora";

/* An adapter for `model` in the scratch folder "made". */
static void make(void)
{
    struct opened opened;
    assert_true(open_model(&opened, "llama-linear", 1));
    make_adapter(opened.model, "made", false);
    close_model(&opened);
}

static double score(const char *first, const char *second)
{
    struct process process;
    const char *arguments[16] = {"score", "-m", model, "--tokens", "1,2,3,4,5", "--precision", "exact", "--json"};
    size_t count = 8;
    for (int i = 0; i < 2; i++) {
        const char *adapter = i == 0 ? first : second;
        if (adapter != NULL) {
            arguments[count++] = "-a";
            arguments[count++] = adapter;
        }
    }
    process_run(&process, 0, "", arguments);
    json_t *object = json_loads(process.out, 0, NULL);
    double nll = json_number_value(json_object_get(object, "nll"));
    assert_true(nll > 0.0);
    json_decref(object);
    process_clear(&process);
    return nll;
}

static void test_scales(void **state)
{
    (void)state;
    char full[512], half[600], none[600], wrong[600];
    struct process process;
    make();
    snprintf(full, sizeof full, "%s", scratch_path("made"));
    snprintf(half, sizeof half, "%s=0.5", full);
    snprintf(none, sizeof none, "%s=0", full);
    snprintf(wrong, sizeof wrong, "%s=much", full);
    double plain = score(NULL, NULL), adapted = score(full, NULL);
    assert_true(fabs(plain - adapted) > 1e-3);
    assert_true(score(none, NULL) == plain);
    assert_true(fabs(score(half, half) - adapted) < 1e-5);
    RUN(&process, 2, "", "score", "-m", model, "--tokens", "1,2", "-a", wrong);
    assert_non_null(strstr(process.err, "DIR=SCALE"));
    process_clear(&process);
    RUN(&process, 1, "", "score", "-m", model, "--tokens", "1,2", "-a", mlx_fixture);
    assert_non_null(strstr(process.err, "an adapter of another model"));
    assert_non_null(strstr(process.err, "self_attn.q_proj"));
    process_clear(&process);
    RUN(&process, 0, "", "generate", "-m", model, "--tokens", "1,2,3", "--max-tokens", "4", "--json", "-a", full);
    process_clear(&process);
    RUN(&process, 0, "", "bench", "-m", model, "--prompt-tokens", "8", "--generation-tokens", "4", "--repetitions", "2",
        "-a", full, "--json");
    json_t *object = json_loads(process.out, 0, NULL);
    assert_true(json_is_number(json_object_get(object, "adapter_generation_overhead")));
    assert_true(json_is_number(json_object_get(object, "adapter_generation_processor_overhead")));
    assert_true(json_is_number(json_object_get(object, "adapter_prompt_overhead")));
    assert_true(json_is_number(json_object_get(json_object_get(object, "adapted_generation_tokens_per_s"), "median")));
    json_decref(object);
    process_clear(&process);
    RUN(&process, 0, "", "bench", "-m", model, "--prompt-tokens", "8", "--generation-tokens", "4", "--repetitions", "1",
        "-a", full);
    assert_non_null(strstr(process.out, "adapted"));
    process_clear(&process);
}

static void test_chat(void **state)
{
    (void)state;
    struct opened opened;
    struct process process;
    char lines[2000];
    open_folder(&opened, "models/bombus-stories-28m-4bit", 0);
    make_adapter(opened.model, "stories", false);
    close_model(&opened);
    snprintf(lines, sizeof lines, "/adapter\n/adapter %s=0.01\n/adapter /nowhere\n/adapter none\n/exit\n",
             scratch_path("stories"));
    RUN(&process, 0, lines, "chat", "-m", "models/bombus-stories-28m-4bit");
    const char *first = strstr(process.err, "no adapter is at work"), *set = strstr(process.err, "stories=0.01");
    assert_non_null(first);
    assert_non_null(set);
    assert_non_null(strstr(set + 1, "/nowhere")); /* the failure, */
    assert_non_null(
        strstr(strstr(set + 1, "/nowhere"), "stories=0.01")); /* after which the old one is still at work, */
    assert_non_null(strstr(set + 1, "no adapter is at work"));
    process_clear(&process);
}

static void test_adapter(void **state)
{
    (void)state;
    char peft[600], both[600], first[600];
    struct process process;
    RUN(&process, 0, "", "adapter", "inspect", mlx_fixture, "--json");
    json_t *object = json_loads(process.out, 0, NULL);
    assert_string_equal(json_string_value(json_object_get(object, "format")), "mlx");
    assert_int_equal(json_array_size(json_object_get(object, "modules")), 4);
    json_decref(object);
    process_clear(&process);
    RUN(&process, 0, "", "adapter", "inspect", "tests/fixtures/adapters/peft-rslora");
    assert_non_null(strstr(process.out, "rank 4, scale 10"));
    process_clear(&process);
    snprintf(peft, sizeof peft, "%s", scratch_path("peft"));
    RUN(&process, 0, "", "adapter", "convert", mlx_fixture, "--to", "peft", "--out", peft);
    process_clear(&process);
    RUN(&process, 0, "", "adapter", "inspect", peft);
    assert_non_null(strstr(process.out, "lora of peft, rank 4, scale 10"));
    process_clear(&process);
    make();
    snprintf(both, sizeof both, "%s", scratch_path("both"));
    snprintf(first, sizeof first, "%s=0.25", scratch_path("made"));
    RUN(&process, 0, "", "adapter", "merge", first, first, "--out", both);
    process_clear(&process);
    snprintf(first, sizeof first, "%s=0.5", scratch_path("made"));
    assert_true(fabs(score(both, NULL) - score(first, NULL)) < 1e-5);
    static const char *const wrong[][7] = {{"adapter", NULL},
                                           {"adapter", "frobnicate", "x", NULL},
                                           {"adapter", "inspect", NULL},
                                           {"adapter", "convert", "x", "--out", "y", NULL},
                                           {"adapter", "convert", "x", "--to", "peft", NULL},
                                           {"adapter", "merge", "x", NULL},
                                           {"adapter", "inspect", mlx_fixture, "--out", "y", NULL},
                                           {"adapter", "merge", "x", "--out", "y", "--json"}};
    for (size_t i = 0; i < BB_COUNT(wrong); i++) {
        process_run(&process, 2, "", wrong[i]);
        process_clear(&process);
    }
}

static void test_fuse(void **state)
{
    (void)state;
    char adapter[512], out[512];
    struct process process;
    make();
    snprintf(adapter, sizeof adapter, "%s", scratch_path("made"));
    snprintf(out, sizeof out, "%s", scratch_path("fused"));
    RUN(&process, 0, "", "fuse", "-m", model, "-a", adapter, "--out", out);
    assert_non_null(strstr(process.out, "self_attn.q_proj"));
    process_clear(&process);
    RUN(&process, 2, "", "fuse", "-m", model, "-a", adapter, "--out", out);
    assert_non_null(strstr(process.err, "there is a model already"));
    process_clear(&process);
    RUN(&process, 0, "", "inspect", "-m", out);
    process_clear(&process);
    RUN(&process, 0, "", "score", "-m", out, "--tokens", "1,2,3");
    process_clear(&process);
    snprintf(out, sizeof out, "%s", scratch_path("fused-8"));
    char little[700];
    snprintf(little, sizeof little, "%s=0.0001", adapter);
    RUN(&process, 0, "", "fuse", "-m", model, "-a", little, "--out", out);
    assert_non_null(strstr(process.err, "warning: less than"));
    process_clear(&process);
    snprintf(out, sizeof out, "%s", scratch_path("fused-json"));
    RUN(&process, 0, "", "fuse", "-m", model, "-a", adapter, "--dequantize", "--out", out, "--json");
    json_t *object = json_loads(process.out, 0, NULL);
    assert_true(json_number_value(json_object_get(object, "survival")) > 0.9);
    json_decref(object);
    process_clear(&process);
    RUN(&process, 2, "", "fuse", "-m", model, "--out", out);
    process_clear(&process);
    RUN(&process, 2, "", "fuse", "-m", model, "-a", adapter);
    process_clear(&process);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scales),
        cmocka_unit_test(test_chat),
        cmocka_unit_test(test_adapter),
        cmocka_unit_test(test_fuse),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
