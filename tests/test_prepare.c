/* Posts to training data. */
#include "scratch.h"

#include <jansson.h>

struct notes {
    int count;
    int64_t line;
    char message[256];
};

static void note(void *context, const char *file, int64_t line, const char *message)
{
    struct notes *notes = context;
    (void)file;
    notes->count++;
    notes->line = line;
    snprintf(notes->message, sizeof notes->message, "%s", message);
}

static char *read_text(const char *folder, const char *name)
{
    char path[600], *text = NULL;
    size_t size;
    bombus_error error;
    snprintf(path, sizeof path, "%s/%s", scratch_path(folder), name);
    if (access(path, F_OK) != 0)
        return NULL;
    CHECK_OK(bb_file_read(&text, &size, path, 1 << 20, &error), error);
    return text;
}

static void expect_text(const char *folder, const char *name, const char *expected)
{
    char *text = read_text(folder, name);
    assert_non_null(text);
    assert_string_equal(text, expected);
    bb_release(text);
}

static void test_rows(void **state)
{
    (void)state;
    const char *posts[] = {"  one fox \n", "two \"foxes\"\r\nrun", "", "one fox", "x", "three \xC3\xA9", "bad \xFF byte"};
    struct notes notes = {0};
    bombus_prepare_options options = {
        .prompt = "Write", .system = "Be brief", .min_length = 2, .report = note, .context = &notes};
    bombus_prepare_result result;
    bombus_error error;
    CHECK_OK(bombus_prepare_data(posts, NULL, 7, scratch_path("rows"), &options, &result, &error), error);
    assert_int_equal(result.found, 7);
    assert_int_equal(result.empty, 1);
    assert_int_equal(result.duplicates, 1);
    assert_int_equal(result.too_short, 1);
    assert_int_equal(result.mended, 1);
    assert_int_equal(result.train, 3);
    assert_int_equal(result.valid, 1);
    assert_int_equal(notes.line, 7);
#define ROW(text) \
    "{\"messages\": [{\"role\": \"system\", \"content\": \"Be brief\"}, {\"role\": \"user\", \"content\": \"Write\"}, {\"role\": " \
    "\"assistant\", \"content\": \"" text "\"}]}\n"
    expect_text("rows", "train.jsonl", ROW("one fox") ROW("two \\\"foxes\\\"\\nrun") ROW("three \xC3\xA9"));
    expect_text("rows", "valid.jsonl", ROW("bad \xEF\xBF\xBD byte"));
    assert_null(read_text("rows", "test.jsonl"));
    /* Nothing is overwritten unless that is asked for; then an old test set goes too. */
    scratch_text("rows/test.jsonl", "old");
    assert_int_equal(bombus_prepare_data(posts, NULL, 7, scratch_path("rows"), &options, &result, &error), BOMBUS_ERROR_ARGUMENT);
    expect_text("rows", "test.jsonl", "old");
    options.overwrite = true;
    options.prompt = options.system = NULL;
    CHECK_OK(bombus_prepare_data(posts, NULL, 1, scratch_path("rows"), &options, &result, &error), error);
    expect_text("rows", "train.jsonl", "{\"text\": \"one fox\"}\n");
    assert_null(read_text("rows", "test.jsonl"));
    assert_null(read_text("rows", "valid.jsonl"));
}

static void test_no_valid_content(void **state)
{
    (void)state;
    const char *posts[] = {"short", ""};
    bombus_prepare_options options = {.min_length = 100};
    bombus_prepare_result result;
    bombus_error error;
    assert_int_equal(bombus_prepare_data(posts, NULL, 2, scratch_path("none"), &options, &result, &error), BOMBUS_ERROR_NOT_FOUND);
    assert_int_equal(result.too_short, 1);
    assert_false(bb_folder_exists(scratch_path("none")));
    assert_int_equal(bombus_prepare_data(NULL, NULL, 0, scratch_path("none"), NULL, NULL, &error), BOMBUS_ERROR_NOT_FOUND);
    assert_int_equal(bombus_prepare_data(NULL, NULL, 1, scratch_path("none"), NULL, NULL, &error), BOMBUS_ERROR_ARGUMENT);
    options = (bombus_prepare_options){.valid_share = 0.7, .test_share = 0.3};
    assert_int_equal(bombus_prepare_data(posts, NULL, 2, scratch_path("none"), &options, &result, &error), BOMBUS_ERROR_ARGUMENT);
}

static void test_shares_and_shuffle(void **state)
{
    (void)state;
    char texts[100][16];
    const char *posts[100];
    bombus_prepare_options options = {.valid_share = 0.2, .test_share = 0.001, .shuffle = true, .seed = 7, .overwrite = true};
    bombus_prepare_result result;
    bombus_error error;
    for (int i = 0; i < 100; i++) {
        snprintf(texts[i], sizeof texts[i], "post%d", i);
        posts[i] = texts[i];
    }
    CHECK_OK(bombus_prepare_data(posts, NULL, 100, scratch_path("shares"), &options, &result, &error), error);
    assert_int_equal(result.train, 79);
    assert_int_equal(result.valid, 20);
    assert_int_equal(result.test, 1);
    char *first = read_text("shares", "train.jsonl"), *again, *other;
    CHECK_OK(bombus_prepare_data(posts, NULL, 100, scratch_path("shares"), &options, &result, &error), error);
    again = read_text("shares", "train.jsonl");
    assert_string_equal(first, again);
    options.seed = 8;
    CHECK_OK(bombus_prepare_data(posts, NULL, 100, scratch_path("shares"), &options, &result, &error), error);
    other = read_text("shares", "train.jsonl");
    assert_string_not_equal(first, other);
    bb_release(first);
    bb_release(again);
    bb_release(other);
    options = (bombus_prepare_options){.overwrite = true};
    CHECK_OK(bombus_prepare_data(posts, NULL, 2, scratch_path("shares"), &options, &result, &error), error);
    assert_int_equal(result.train, 1);
    assert_int_equal(result.valid, 1);
}

/* What the posts of a file are, joined by |. */
static void expect_posts(const char *name, const char *text, bombus_prepare_options options, const char *expected, int64_t damaged)
{
    const char *path = scratch_text(name, text);
    struct bb_buffer joined = {0};
    bombus_prepare_result result;
    bombus_error error;
    options.overwrite = true;
    options.valid_share = -1;
    CHECK_OK(bombus_prepare_files(&path, 1, scratch_path("posts"), &options, &result, &error), error);
    char *rows = read_text("posts", "train.jsonl");
    for (char *line = strtok(rows, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        json_t *row = json_loads(line, 0, NULL);
        bb_buffer_add_text(&joined, json_string_value(json_object_get(row, "text")));
        bb_buffer_add_byte(&joined, '|');
        json_decref(row);
    }
    assert_string_equal(joined.data, expected);
    assert_int_equal(result.damaged, damaged);
    bb_buffer_clear(&joined);
    bb_release(rows);
}

static void test_formats(void **state)
{
    (void)state;
    bombus_prepare_options none = {0}, forced = {.format = BOMBUS_POSTS_LINES}, body = {.column = "say, it"}, second = {.column = "2"},
                           field = {.field = "deep"};
    expect_posts("a.txt", "\xEF\xBB\xBFone\ntwo\r\nthree", none, "one|two|three|", 0);
    expect_posts("a.txt", "one\nmore\n\n\ntwo\n  \nthree\n\n", none, "one\nmore|two|three|", 0);
    expect_posts("a.txt", "one\nmore\n\ntwo\n", forced, "one|more|two|", 0);
    expect_posts("a.jsonl", "{\"id\": 1, \"body\": \"one\"}\n\"bare\"\n{\"id\": 2}\n{bad\n\n{\"body\": \"two\"}", none,
                 "one|bare|two|", 2);
    expect_posts("a.jsonl", "{\"deep\": \"one\", \"text\": \"no\"}\n", field, "one|", 0);
    expect_posts("a.csv", "id,Text\n1,\"one, \"\"two\"\"\nlines\"\r\n2,three\n3\n", none, "one, \"two\"\nlines|three|", 1);
    expect_posts("a.csv", "id,\"say, it\"\n1,one\n", body, "one|", 0);
    expect_posts("a.csv", "1,one\n2,two\n", second, "one|two|", 0);
    expect_posts("a.csv", "one\n\"two\nmore", none, "one|two\nmore|", 0);
    expect_posts("a.md", "# one\n\ntwo\n", none, "# one\n\ntwo|", 0);
    scratch_text("tree/b.txt", "first\n\nstill first\n");
    scratch_text("tree/deep/c.md", "second\n");
    scratch_text("tree/.hidden.txt", "no\n");
    scratch_text("tree/d.png", "no\n");
    bombus_prepare_result result;
    bombus_error error;
    const char *paths[] = {scratch_path("tree")}, *absent[] = {"/nowhere.txt"};
    bombus_prepare_options alone = {.valid_share = -1};
    CHECK_OK(bombus_prepare_files(paths, 1, scratch_path("of-tree"), &alone, &result, &error), error);
    expect_text("of-tree", "train.jsonl", "{\"text\": \"first\\n\\nstill first\"}\n{\"text\": \"second\"}\n");
    assert_int_equal(bombus_prepare_files(absent, 1, scratch_path("x"), NULL, &result, &error), BOMBUS_ERROR_NOT_FOUND);
    const char *wide[] = {scratch_text("w.csv", "a,b\n1,2\n")}, *utf16[] = {scratch_write("u.txt", "\xFF\xFEx\0", 4)};
    assert_int_equal(bombus_prepare_files(wide, 1, scratch_path("x"), NULL, &result, &error), BOMBUS_ERROR_FORMAT);
    assert_int_equal(bombus_prepare_files(utf16, 1, scratch_path("x"), NULL, &result, &error), BOMBUS_ERROR_FORMAT);
}

static void test_allocation_failures(void **state)
{
    (void)state;
    const char *paths[] = {scratch_text("m.csv", "text\n\"one\"\ntwo\n"), scratch_text("m.txt", "three\n")}, *out = scratch_path("memory");
    bombus_prepare_options options = {.overwrite = true};
    for (uint64_t n = 1;; n++) {
        bombus_error error;
        bb_memory_fail_at(n, false);
        bombus_status status = bombus_prepare_files(paths, 2, out, &options, NULL, &error);
        bb_memory_fail_at(0, false);
        if (status == BOMBUS_OK) {
            assert_true(n > 5);
            break;
        }
        assert_int_equal(status, BOMBUS_ERROR_MEMORY);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_no_valid_content),
                                       cmocka_unit_test(test_shares_and_shuffle), cmocka_unit_test(test_formats),
                                       cmocka_unit_test(test_allocation_failures)};
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
