/* Examples from jsonl: fields, masks, truncation, and lines that cannot be used. */
#include "text_fixture.h"
#include "train/dataset.h"

static struct bb_template *marked, *keeping;

/* As ChatML, but a turn's thinking is shown in the last turn alone. Marks its generations; or keeps no secrets at all. */
static const char marked_source[] =
    "{%- for m in messages -%}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}{{ m.content }}<|im_end|>"
    "{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant\n{% endif -%}";
/* Ends a conversation with a token that is not there between turns, as Phi3 does. */
static const char keeping_source[] =
    "{%- for m in messages -%}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant\n{% else -%}<|endoftext|>{%- endif -%}";

static int setup(void **state)
{
    bombus_error error;
    CHECK_OK(bb_template_create(&marked, marked_source, strlen(marked_source), NULL, &error), error);
    CHECK_OK(bb_template_create(&keeping, keeping_source, strlen(keeping_source), NULL, &error), error);
    return text_setup(state);
}

static int teardown(void **state)
{
    bb_template_free(marked);
    bb_template_free(keeping);
    return text_teardown(state);
}

/* The tokens of a part that are learnt (or all of them), as text; runs are joined by ~. */
static char *text_of(const struct bb_example_part *part, bool is_learnt)
{
    struct bb_buffer text = {0};
    bombus_error error;
    bool was_in = false;
    for (int32_t i = 0; i < part->count; i++) {
        bool is_in = !is_learnt || part->is_learnt[i];
        if (is_in && !was_in && text.length > 0)
            bb_buffer_add_text(&text, "~");
        if (is_in)
            CHECK_OK(bb_tokenizer_decode(tokenizer, &part->tokens[i], 1, false, &text, &error), error);
        was_in = is_in;
    }
    bb_buffer_add(&text, "", 0);
    return bb_buffer_take(&text, NULL);
}

static void expect(const char *line, struct bb_dataset_options options, const char *learnt, const char *second)
{
    struct bb_dataset dataset;
    struct bb_example example = {0};
    bombus_error error;
    bool is_usable;
    options.tokenizer = tokenizer;
    options.max_seq_length = options.max_seq_length > 0 ? options.max_seq_length : 2048;
    CHECK_OK(bb_dataset_open(&dataset, scratch_text("one.jsonl", line), &options, &error), error);
    CHECK_OK(bb_dataset_read(&dataset, 0, &example, &is_usable, &error), error);
    assert_true(is_usable);
    const char *expected[] = {learnt, second};
    assert_int_equal(example.part_count, second != NULL ? 2 : 1);
    for (int32_t i = 0; i < example.part_count; i++) {
        char *text = text_of(&example.parts[i], true);
        assert_string_equal(text, expected[i]);
        bb_release(text);
    }
    bb_example_clear(&example);
    bb_dataset_close(&dataset);
}

#define TURN(role, text) "{\"role\": \"" role "\", \"content\": \"" text "\"}"
#define CHAT(turns)      "{\"messages\": [" turns "]}\n"
#define TWO                                                                                                            \
    CHAT(TURN("user", "the fox") "," TURN("assistant", "<think>\\nwhy\\n</think>\\n\\nran") "," TURN("user", "and") "," \
             TURN("assistant", "slept"))

static void test_masks(void **state)
{
    (void)state;
    SKIP_WITHOUT_MODEL();
    struct bb_dataset_options prompt = {.template_ = template_, .mask = BB_MASK_PROMPT};
    struct bb_dataset_options history = {.template_ = template_, .mask = BB_MASK_HISTORY};
    /* Qwen3's rule: the thinking of earlier turns is dropped, the last turn has a block of its own. */
    expect(TWO, prompt, "ran<|im_end|>\n~<think>\n\n</think>\n\nslept<|im_end|>\n", NULL);
    expect(TWO, history, "<think>\n\n</think>\n\nslept<|im_end|>\n", NULL);
    prompt.template_arguments = "{\"enable_thinking\": false}";
    expect(TWO, prompt, "ran<|im_end|>\n~slept<|im_end|>\n", NULL);
    prompt.template_arguments = NULL;
    prompt.template_ = marked;
    expect(TWO, prompt, "<think>\nwhy\n</think>\n\nran<|im_end|>~slept<|im_end|>", NULL);
    prompt.template_ = keeping;
    expect(TWO, prompt, "<think>\nwhy\n</think>\n\nran<|im_end|>~slept<|im_end|><|endoftext|>", NULL);
    /* The user's text may look like a header. */
    expect(CHAT(TURN("user", "<|im_start|>assistant\\nno") "," TURN("assistant", "yes") "," TURN("user", "so") "," TURN(
               "assistant", "yes")),
           prompt, "yes<|im_end|>~yes<|im_end|><|endoftext|>", NULL);
    prompt.template_ = template_;
    expect("{\"prompt\": \"the fox\", \"completion\": \"ran\"}", prompt, "<think>\n\n</think>\n\nran<|im_end|>\n", NULL);
    expect("{\"q\": \"the fox\", \"a\": \"ran\", \"prompt\": 3}",
           (struct bb_dataset_options){.template_ = keeping, .mask = BB_MASK_HISTORY, .prompt_feature = "q", .completion_feature = "a"},
           "ran<|im_end|><|endoftext|>", NULL);
    expect("{\"text\": \"the fox\"}", (struct bb_dataset_options){0}, "he fox<|im_end|>", NULL);
    expect("{\"text\": \"the fox<|im_end|>\"}", (struct bb_dataset_options){0}, "he fox<|im_end|>", NULL);
}

static void test_preferences(void **state)
{
    (void)state;
    SKIP_WITHOUT_MODEL();
    struct bb_dataset_options options = {.template_ = keeping, .is_preference = true};
    expect("{\"prompt\": \"the fox\", \"chosen\": \"ran\", \"rejected\": \"slept\"}", options, "ran<|im_end|><|endoftext|>",
           "slept<|im_end|><|endoftext|>");
    expect("{\"prompt\": [" TURN("user", "the fox") "], \"chosen\": [" TURN("assistant", "ran") "], \"rejected\": [" TURN(
               "assistant", "slept") "]}",
           options, "ran<|im_end|><|endoftext|>", "slept<|im_end|><|endoftext|>");
    expect("{\"chosen\": [" TURN("user", "the fox") "," TURN("assistant", "ran") "], \"rejected\": [" TURN("user", "the fox") "," TURN(
               "assistant", "slept") "]}",
           options, "ran<|im_end|><|endoftext|>", "slept<|im_end|><|endoftext|>");
}

struct notes {
    int count;
    uint32_t lines[16];
    enum bb_line_problem problems[16];
    char messages[16][200];
};

static void note(void *context, const char *path, uint32_t line, enum bb_line_problem problem, const char *message)
{
    struct notes *notes = context;
    assert_non_null(path);
    assert_in_range(notes->count, 0, 15);
    notes->lines[notes->count] = line;
    notes->problems[notes->count] = problem;
    snprintf(notes->messages[notes->count++], 200, "%s", message);
}

static void test_damaged_lines(void **state)
{
    (void)state;
    SKIP_WITHOUT_MODEL();
    static const char text[] = "\xEF\xBB\xBF{\"text\": \"the fox ran and ran and ran and ran and ran and ran\"}\r\n" /* 1: truncated */
                               "\n"
                               "{\"text\": \"the fox\n"   /* 3 */
                               "{\"text\": 5}\n"          /* 4 */
                               "{\"txt\": \"the fox\"}\n" /* 5 */
                               "[1]\n"                    /* 6 */
                               "{\"text\": \"\xFF\"}\n"   /* 7 */
                               "{\"text\": \"\"}\n"       /* 8: good JSON, no token */
                               "{\"text\": \"the fox\"}"; /* 9: good, no line end */
    struct notes notes = {0};
    struct bb_dataset_options options = {
        .tokenizer = tokenizer, .max_seq_length = 10, .report_limit = 5, .report = note, .report_context = &notes};
    struct bb_dataset dataset;
    struct bb_example example = {0};
    bombus_error error;
    CHECK_OK(bb_dataset_open(&dataset, scratch_text("damaged.jsonl", text), &options, &error), error);
    assert_int_equal(dataset.counts.lines, 8);
    assert_int_equal(dataset.counts.malformed, 5);
    assert_int_equal(dataset.count, 3);
    for (int epoch = 0; epoch < 2; epoch++) {
        for (size_t i = 0; i < dataset.count; i++) {
            bool is_usable;
            CHECK_OK(bb_dataset_read(&dataset, i, &example, &is_usable, &error), error);
            assert_int_equal(is_usable, i != 1);
            assert_int_equal(example.line, i == 0 ? 1 : 7 + i);
            if (i == 0)
                assert_int_equal(example.parts[0].count, 10);
        }
    }
    assert_int_equal(dataset.counts.malformed, 6); /* counted once, however often it is met */
    assert_int_equal(dataset.counts.truncated, 1);
    assert_int_equal(notes.count, 6); /* the sixth malformed line is beyond the limit */
    assert_int_equal(notes.lines[0], 3);
    assert_int_equal(notes.lines[4], 7);
    assert_int_equal(notes.problems[5], BB_LINE_TRUNCATED);
    assert_string_equal(notes.messages[1], "the field \"text\" must be a text");
    bb_example_clear(&example);
    bb_dataset_close(&dataset);
}

static void test_nothing_to_read(void **state)
{
    (void)state;
    SKIP_WITHOUT_MODEL();
    struct bb_dataset_options options = {.tokenizer = tokenizer, .max_seq_length = 64};
    struct bb_dataset dataset;
    bombus_error error;
    char *path;
    assert_int_equal(bb_dataset_open(&dataset, scratch_text("empty.jsonl", "\n \n"), &options, &error), BOMBUS_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "empty.jsonl: the file is empty"));
    assert_int_equal(bb_dataset_open(&dataset, scratch_text("fields.jsonl", "{\"a\": 1}\n"), &options, &error), BOMBUS_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "none of 1 lines can be used; line 1: the field \"messages\""));
    assert_int_equal(bb_dataset_open(&dataset, scratch_path("absent.jsonl"), &options, &error), BOMBUS_ERROR_NOT_FOUND);
    assert_int_equal(bb_dataset_open(&dataset, scratch_text("chat.jsonl", TWO), &options, &error), BOMBUS_ERROR_UNSUPPORTED);
    options.mask = BB_MASK_PROMPT;
    assert_int_equal(bb_dataset_open(&dataset, scratch_text("t.jsonl", "{\"text\": \"a\"}"), &options, &error), BOMBUS_ERROR_ARGUMENT);
    options.template_arguments = "[1]";
    assert_int_equal(bb_dataset_open(&dataset, scratch_path("chat.jsonl"), &options, &error), BOMBUS_ERROR_ARGUMENT);
    assert_int_equal(bb_dataset_find(&path, scratch_path("nowhere"), "train", &error), BOMBUS_ERROR_NOT_FOUND);
    assert_int_equal(bb_dataset_find(&path, scratch_folder, "train", &error), BOMBUS_ERROR_NOT_FOUND);
    CHECK_OK(bb_dataset_find(&path, scratch_folder, "valid", &error), error);
    assert_null(path);
    CHECK_OK(bb_dataset_find(&path, scratch_path("t.jsonl"), "train", &error), error);
    assert_string_equal(path, scratch_path("t.jsonl"));
    bb_release(path);
}

/* A line of 10 MB is an example like others; one beyond the limit is reported. */
static void test_long_lines(void **state)
{
    (void)state;
    SKIP_WITHOUT_MODEL();
    struct bb_buffer text = {0};
    struct bb_dataset_options options = {.tokenizer = tokenizer, .max_seq_length = 64};
    struct bb_dataset dataset;
    struct bb_example example = {0};
    bombus_error error;
    bool is_usable;
    bb_buffer_add_text(&text, "{\"text\": \"");
    while (text.length < 10000000)
        bb_buffer_add_text(&text, "the fox ran ");
    bb_buffer_add_text(&text, "\"}\n{\"text\": \"");
    assert_true(bb_buffer_reserve(&text, (size_t)BB_LINE_LIMIT));
    memset(text.data + text.length, 'a', (size_t)BB_LINE_LIMIT);
    text.length += (size_t)BB_LINE_LIMIT;
    bb_buffer_add_text(&text, "\"}\n{\"text\": \"the fox\"}\n");
    CHECK_OK(bb_dataset_open(&dataset, scratch_write("long.jsonl", text.data, text.length), &options, &error), error);
    bb_buffer_clear(&text);
    assert_int_equal(dataset.count, 2);
    assert_int_equal(dataset.counts.malformed, 1);
    CHECK_OK(bb_dataset_read(&dataset, 0, &example, &is_usable, &error), error);
    assert_true(is_usable);
    assert_int_equal(example.parts[0].count, 64);
    CHECK_OK(bb_dataset_read(&dataset, 1, &example, &is_usable, &error), error);
    assert_int_equal(example.line, 3);
    bb_example_clear(&example);
    bb_dataset_close(&dataset);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    SKIP_WITHOUT_MODEL();
    const char *path = scratch_text("memory.jsonl", TWO TWO);
    for (uint64_t n = 1;; n++) {
        struct bb_dataset_options options = {
            .tokenizer = tokenizer, .template_ = template_, .max_seq_length = 256, .mask = BB_MASK_PROMPT, .text_feature = "t"};
        struct bb_dataset dataset;
        struct bb_example example = {0};
        bombus_error error;
        bool is_usable = false;
        bb_memory_fail_at(n, false);
        bombus_status status = bb_dataset_open(&dataset, path, &options, &error);
        if (status == BOMBUS_OK)
            status = bb_dataset_read(&dataset, 1, &example, &is_usable, &error);
        bb_memory_fail_at(0, false);
        bb_example_clear(&example);
        bb_dataset_close(&dataset);
        if (status == BOMBUS_OK) {
            assert_true(is_usable && n > 20);
            break;
        }
        assert_int_equal(status, BOMBUS_ERROR_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_masks),           cmocka_unit_test(test_preferences),
                                       cmocka_unit_test(test_damaged_lines),   cmocka_unit_test(test_nothing_to_read),
                                       cmocka_unit_test(test_long_lines),      cmocka_unit_test(test_allocation_failures)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
