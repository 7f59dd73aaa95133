/* The safetensors reader against good and hostile files, and the writer against the reader. */
#include "files/safetensors.h"
#include "scratch.h"

#include <sys/resource.h>
#include <signal.h>

static void test_reads_all_types(void **state)
{
    (void)state;
    bombus_error error;
    struct bb_safetensors file;
    const char *path = scratch_safetensors(
        "types.safetensors",
        "{\"__metadata__\":{\"format\":\"mlx\",\"\xC3\xA9\":\"\"},"
        "\"f64\":{\"dtype\":\"F64\",\"shape\":[1],\"data_offsets\":[0,8]},\"i64\":{\"dtype\":\"I64\",\"shape\":[1,1],"
        "\"data_offsets\":[8,16]},"
        "\"u64\":{\"dtype\":\"U64\",\"shape\":[],\"data_offsets\":[16,24]},\"c64\":{\"dtype\":\"C64\",\"shape\":[1],"
        "\"data_offsets\":[24,32]},"
        "\"f32\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[32,40]},\"i32\":{\"dtype\":\"I32\",\"shape\":[1],"
        "\"data_offsets\":[40,44]},"
        "\"u32\":{\"dtype\":\"U32\",\"shape\":[1],\"data_offsets\":[44,48]},\"f16\":{\"dtype\":\"F16\",\"shape\":[1],"
        "\"data_offsets\":[48,50]},"
        "\"bf16\":{\"dtype\":\"BF16\",\"shape\":[1],\"data_offsets\":[50,52]},\"i16\":{\"dtype\":\"I16\",\"shape\":[1],"
        "\"data_offsets\":[52,54]},"
        "\"u16\":{\"dtype\":\"U16\",\"shape\":[1],\"data_offsets\":[54,56]},\"i8\":{\"dtype\":\"I8\",\"shape\":[1],"
        "\"data_offsets\":[56,57]},"
        "\"u8\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[57,58]},\"bool\":{\"dtype\":\"BOOL\",\"shape\":[1],"
        "\"data_offsets\":[58,59]},"
        "\"e4m3\":{\"dtype\":\"F8_E4M3\",\"shape\":[1],\"data_offsets\":[59,60]},\"e5m2\":{\"dtype\":\"F8_E5M2\","
        "\"shape\":[1],\"data_offsets\":[60,61]},"
        "\"e8m0\":{\"dtype\":\"F8_E8M0\",\"shape\":[1],\"data_offsets\":[61,62]},\"f4\":{\"dtype\":\"F4\",\"shape\":[4]"
        ",\"data_offsets\":[62,64]},"
        "\"e2m3\":{\"dtype\":\"F6_E2M3\",\"shape\":[4],\"data_offsets\":[64,67]},\"e3m2\":{\"dtype\":\"F6_E3M2\","
        "\"shape\":[2,4],\"data_offsets\":[67,73]},"
        "\"e4m3fnuz\":{\"dtype\":\"F8_E4M3FNUZ\",\"shape\":[1],\"data_offsets\":[73,74]},"
        "\"e5m2fnuz\":{\"dtype\":\"F8_E5M2FNUZ\",\"shape\":[1],\"data_offsets\":[74,75]},"
        "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,9223372036854775807],\"data_offsets\":[75,75]}}   ",
        75);
    CHECK_OK(bb_safetensors_open(&file, path, &error), error);
    assert_int_equal(file.count, 23);
    assert_int_equal(file.metadata_count, 2);
    assert_string_equal(bb_safetensors_metadata(&file, "format"), "mlx");
    assert_string_equal(bb_safetensors_metadata(&file, "\xC3\xA9"), "");
    assert_null(bb_safetensors_metadata(&file, "mlx"));
    const struct bb_safetensors_entry *entry = bb_safetensors_find(&file, "e3m2");
    assert_int_equal(entry->dtype, BB_F6_E3M2);
    assert_int_equal(entry->rank, 2);
    assert_int_equal(entry->shape[1], 4);
    assert_int_equal(entry->size, 6);
    assert_int_equal(*(const uint8_t *)entry->data, 67);
    assert_int_equal(bb_safetensors_find(&file, "u64")->rank, 0);
    assert_int_equal(bb_safetensors_find(&file, "empty")->size, 0);
    assert_null(bb_safetensors_find(&file, "none"));
    for (size_t i = 0; i < file.count; i++)
        assert_ptr_equal(bb_safetensors_find(&file, file.entries[i].name), &file.entries[i]);
    bb_safetensors_close(&file);
    bb_safetensors_close(&file);
}

#define ENTRY(name, dtype, shape, begin, end)                                                                          \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static void test_refuses_bad_headers(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data_size;
        bombus_status status;
        const char *says;
    } cases[] = {
        {"", 0, BOMBUS_ERROR_FORMAT, "does not begin with '{'"},
        {" {}", 0, BOMBUS_ERROR_FORMAT, "does not begin with '{'"},
        {"[]", 0, BOMBUS_ERROR_FORMAT, "does not begin with '{'"},
        {"{", 0, BOMBUS_ERROR_FORMAT, "header:"},
        {"{} x", 0, BOMBUS_ERROR_FORMAT, "header:"},
        {"{\"a\xFF\":1}", 0, BOMBUS_ERROR_FORMAT, "byte 0xff"},
        {"{\"a\\u0000b\":1}", 0, BOMBUS_ERROR_FORMAT, "header:"},
        {"{}", 1, BOMBUS_ERROR_FORMAT, "1 bytes of data, its tensors fill 0"},
        {"{\"a\":1}", 0, BOMBUS_ERROR_FORMAT, "'a' has no 'dtype'"},
        {"{\"a\":{\"dtype\":4}}", 0, BOMBUS_ERROR_FORMAT, "'a' has no 'dtype'"},
        {"{" ENTRY("a", "F31", "[1]", "0", "4") "}", 4, BOMBUS_ERROR_UNSUPPORTED, "unknown dtype 'F31'"},
        {"{" ENTRY("a", "none", "[1]", "0", "4") "}", 4, BOMBUS_ERROR_UNSUPPORTED, "unknown dtype"},
        {"{" ENTRY("a", "F32", "1", "0", "4") "}", 4, BOMBUS_ERROR_FORMAT, "'shape' must be an array"},
        {"{" ENTRY("a", "F32", "[-1]", "0", "4") "}", 4, BOMBUS_ERROR_FORMAT, "must be a number >= 0"},
        {"{" ENTRY("a", "F32", "[1.0]", "0", "4") "}", 4, BOMBUS_ERROR_FORMAT, "must be a number >= 0"},
        {"{" ENTRY("a", "F32", "[99999999999999999999]", "0", "4") "}", 4, BOMBUS_ERROR_FORMAT, "too big integer"},
        {"{" ENTRY("a", "F32", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, BOMBUS_ERROR_UNSUPPORTED, "9 dimensions"},
        {"{" ENTRY("a", "F32", "[4611686018427387904,8]", "0", "4") "}", 4, BOMBUS_ERROR_FORMAT, "overflows"},
        {"{" ENTRY("a", "F32", "[9223372036854775807,9223372036854775807,0]", "0", "0") "}", 0, BOMBUS_ERROR_FORMAT,
         "overflows"},
        {"{" ENTRY("a", "F4", "[3]", "0", "1") "}", 1, BOMBUS_ERROR_FORMAT, "do not fill whole bytes"},
        {"{" ENTRY("a", "F32", "[2]", "0", "4") "}", 4, BOMBUS_ERROR_FORMAT,
         "F32 [2] needs 8 bytes, its data_offsets give 4"},
        {"{" ENTRY("a", "F32", "[1]", "0", "8") "}", 4, BOMBUS_ERROR_FORMAT, "not within the file's 4 bytes"},
        {"{" ENTRY("a", "F32", "[1]", "4", "0") "}", 4, BOMBUS_ERROR_FORMAT, "not within"},
        {"{" ENTRY("a", "F32", "[1]", "-4", "0") "}", 4, BOMBUS_ERROR_FORMAT, "not within"},
        {"{" ENTRY("a", "F32", "[1]", "0", "\"4\"") "}", 4, BOMBUS_ERROR_FORMAT, "must be two numbers"},
        {"{" ENTRY("a", "F32", "[1]", "0", "4,8") "}", 4, BOMBUS_ERROR_FORMAT, "must be two numbers"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, BOMBUS_ERROR_FORMAT, "must be two numbers"},
        {"{" ENTRY("a", "F32", "[1]", "0", "4") "," ENTRY("b", "F32", "[1]", "0", "4") "}", 8, BOMBUS_ERROR_FORMAT,
         "overlap"},
        {"{" ENTRY("a", "F32", "[2]", "0", "8") "," ENTRY("b", "F32", "[1]", "4", "8") "}", 8, BOMBUS_ERROR_FORMAT,
         "overlap"},
        {"{" ENTRY("a", "F32", "[1]", "0", "4") "," ENTRY("b", "F32", "[1]", "8", "12") "}", 12, BOMBUS_ERROR_FORMAT,
         "belong to none"},
        {"{" ENTRY("a", "F32", "[1]", "4", "8") "}", 8, BOMBUS_ERROR_FORMAT, "belong to none"},
        {"{" ENTRY("a", "F32", "[1]", "0", "4") "}", 5, BOMBUS_ERROR_FORMAT, "5 bytes of data, its tensors fill 4"},
        {"{" ENTRY("a", "F32", "[1]", "0", "4") "," ENTRY("a", "F32", "[1]", "4", "8") "}", 8, BOMBUS_ERROR_FORMAT,
         "duplicate"},
        {"{\"__metadata__\":[]}", 0, BOMBUS_ERROR_FORMAT, "must be an object"},
        {"{\"__metadata__\":{\"a\":1}}", 0, BOMBUS_ERROR_FORMAT, "the value of 'a' must be text"},
    };
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        bombus_error error;
        struct bb_safetensors file;
        const char *path = scratch_safetensors("bad.safetensors", cases[i].header, cases[i].data_size);
        bombus_status status = bb_safetensors_open(&file, path, &error);
        if (status != cases[i].status || strstr(error.message, cases[i].says) == NULL ||
            strstr(error.message, path) == NULL)
            fail_msg("%s: %s: %s", cases[i].header, bombus_status_name(status),
                     status == BOMBUS_OK ? "" : error.message);
    }
}

static void test_refuses_bad_lengths(void **state)
{
    (void)state;
    bombus_error error;
    struct bb_safetensors file;
    assert_int_equal(bb_safetensors_open(&file, scratch_text("a.safetensors", ""), &error), BOMBUS_ERROR_FORMAT);
    assert_int_equal(bb_safetensors_open(&file, scratch_text("b.safetensors", "1234567"), &error), BOMBUS_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "7 bytes, too short"));
    assert_int_equal(bb_safetensors_open(&file, scratch_write("c.safetensors", "\3\0\0\0\0\0\0\0{}", 10), &error),
                     BOMBUS_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "header of 3 bytes, but the file has 10"));
    assert_int_equal(bb_safetensors_open(&file, scratch_write("d.safetensors", "\1\xE1\xF5\5\0\0\0\0{}", 10), &error),
                     BOMBUS_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "header of 100000001 bytes, at most"));
    assert_int_equal(bb_safetensors_open(&file, scratch_write("e.safetensors", "\2\0\0\0\0\0\0\x80{}", 10), &error),
                     BOMBUS_ERROR_FORMAT);
    const char *pointer =
        scratch_text("f.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n");
    assert_int_equal(bb_safetensors_open(&file, pointer, &error), BOMBUS_ERROR_FORMAT);
    assert_non_null(strstr(error.message, "Git LFS pointer"));
    assert_int_equal(bb_safetensors_open(&file, scratch_path("none"), &error), BOMBUS_ERROR_NOT_FOUND);
    assert_int_equal(bb_safetensors_open(&file, scratch_folder, &error), BOMBUS_ERROR_IO);
    CHECK_OK(bb_safetensors_open(&file, scratch_write("g.safetensors", "\2\0\0\0\0\0\0\0{}", 10), &error), error);
    assert_int_equal(file.count, 0);
    bb_safetensors_close(&file);
}

static void test_deep_nesting(void **state)
{
    (void)state;
    struct bb_buffer header = {0};
    bombus_error error;
    struct bb_safetensors file;
    bb_buffer_add_text(&header, "{\"a\":");
    for (int i = 0; i < 1000000; i++)
        bb_buffer_add_byte(&header, '[');
    assert_int_equal(bb_safetensors_open(&file, scratch_safetensors("deep.safetensors", header.data, 0), &error),
                     BOMBUS_ERROR_FORMAT);
    bb_buffer_clear(&header);
}

static const float numbers[6] = {1, 2, 3, 4, 5, 6};

static void test_writes_and_reads_back(void **state)
{
    (void)state;
    static const uint8_t bytes[3] = {7, 8, 9};
    static const char *const metadata[] = {"format", "mlx", "note", "quote \" backslash \\ tab \t"};
    const struct bb_safetensors_entry entries[] = {
        {"z\"\\\n\xE2\x82\xAC", BB_U8, 1, {3}, bytes, 3},
        {"b", BB_F32, 2, {2, 3}, numbers, sizeof numbers},
        {"a", BB_F32, 0, {0}, numbers, 4},
        {"empty", BB_F32, 3, {2, 0, 1}, NULL, 0},
        {"wide", BB_I64, 1, {3}, numbers, 24},
    };
    bombus_error error;
    struct bb_safetensors file;
    const char *path = scratch_path("written.safetensors");
    CHECK_OK(bb_safetensors_write(path, entries, BB_COUNT(entries), metadata, 2, &error), error);
    CHECK_OK(bb_safetensors_open(&file, path, &error), error);
    assert_int_equal(file.count, BB_COUNT(entries));
    assert_string_equal(bb_safetensors_metadata(&file, "note"), metadata[3]);
    static const char *const order[] = {"wide", "a", "b", "empty", "z\"\\\n\xE2\x82\xAC"};
    for (size_t i = 0; i < file.count; i++) {
        assert_string_equal(file.entries[i].name, order[i]);
        assert_int_equal((uintptr_t)file.entries[i].data % (bb_dtype_bits(file.entries[i].dtype) / 8), 0);
    }
    for (size_t i = 0; i < BB_COUNT(entries); i++) {
        const struct bb_safetensors_entry *entry = bb_safetensors_find(&file, entries[i].name);
        assert_int_equal(entry->dtype, entries[i].dtype);
        assert_int_equal(entry->rank, entries[i].rank);
        assert_memory_equal(entry->shape, entries[i].shape, sizeof entry->shape);
        assert_int_equal(entry->size, entries[i].size);
        if (entry->size > 0)
            assert_memory_equal(entry->data, entries[i].data, entry->size);
    }
    bb_safetensors_close(&file);
}

static void test_writer_refuses(void **state)
{
    (void)state;
    static const struct bb_safetensors_entry wrong[][2] = {
        {{"a", BB_F32, 1, {1}, numbers, 4}, {"a", BB_F32, 1, {1}, numbers, 4}},
        {{"a", BB_F32, 1, {1}, numbers, 4}, {"\xFF", BB_F32, 1, {1}, numbers, 4}},
        {{"a", BB_F32, 1, {1}, numbers, 4}, {"b", BB_F32, 1, {2}, numbers, 4}},
        {{"a", BB_F32, 1, {1}, numbers, 4}, {"b", BB_F32, 9, {1}, numbers, 4}},
        {{"a", BB_F32, 1, {1}, numbers, 4}, {"b", BB_F32, 1, {-1}, numbers, 4}},
        {{"a", BB_F32, 1, {1}, numbers, 4}, {"b", BB_F32, 1, {1}, NULL, 4}},
        {{"a", BB_F32, 1, {1}, numbers, 4}, {"b", BB_DTYPE_NONE, 1, {1}, numbers, 4}},
        {{"a", BB_F32, 1, {1}, numbers, 4}, {"__metadata__", BB_F32, 1, {1}, numbers, 4}},
    };
    bombus_error error;
    const char *path = scratch_path("never.safetensors");
    for (size_t i = 0; i < BB_COUNT(wrong); i++)
        assert_int_equal(bb_safetensors_write(path, wrong[i], 2, NULL, 0, &error), BOMBUS_ERROR_ARGUMENT);
    static const char *const metadata[] = {"key", "\xFF"};
    assert_int_equal(bb_safetensors_write(path, wrong[0], 1, metadata, 1, &error), BOMBUS_ERROR_ARGUMENT);
    assert_false(bb_file_exists(path));
    assert_int_equal(bb_safetensors_write(scratch_path("no/such/folder"), wrong[0], 1, NULL, 0, &error),
                     BOMBUS_ERROR_NOT_FOUND);
}

static size_t count_files(void)
{
    size_t count = 0;
    DIR *directory = opendir(scratch_folder);
    while (readdir(directory) != NULL)
        count++;
    closedir(directory);
    return count;
}

/* A full disk, played by a limit on the size of files: the old content stays, nothing is left behind. */
static void test_full_disk(void **state)
{
    (void)state;
    const struct bb_safetensors_entry entry = {"a", BB_F32, 1, {6}, numbers, sizeof numbers};
    bombus_error error;
    struct rlimit before, tiny;
    const char *path = scratch_text("full.safetensors", "old");
    size_t files = count_files();
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    tiny = before;
    tiny.rlim_cur = 40;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
    bombus_status status = bb_safetensors_write(path, &entry, 1, NULL, 0, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(status, BOMBUS_ERROR_IO);
    assert_non_null(strstr(error.message, path));
    assert_int_equal(count_files(), files);
    char *text;
    size_t size;
    CHECK_OK(bb_file_read(&text, &size, path, 100, &error), error);
    assert_string_equal(text, "old");
    bb_release(text);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    bombus_error error;
    static const char *const metadata[] = {"format", "mlx"};
    const struct bb_safetensors_entry entries[] = {{"a", BB_F32, 1, {6}, numbers, sizeof numbers},
                                                   {"b", BB_U8, 1, {24}, numbers, 24}};
    char path[512];
    snprintf(path, sizeof path, "%s", scratch_path("memory.safetensors"));
    for (uint64_t i = 1;; i++) {
        bb_memory_fail_at(i, false);
        bombus_status status = bb_safetensors_write(path, entries, 2, metadata, 1, &error);
        bb_memory_fail_at(0, false);
        if (status == BOMBUS_OK) {
            assert_true(i > 2);
            break;
        }
        assert_int_equal(status, BOMBUS_ERROR_MEMORY);
        assert_false(bb_file_exists(path));
    }
    for (uint64_t i = 1;; i++) {
        struct bb_safetensors file;
        bb_memory_fail_at(i, false);
        bombus_status status = bb_safetensors_open(&file, path, &error);
        bb_memory_fail_at(0, false);
        bb_safetensors_close(&file);
        if (status == BOMBUS_OK) {
            assert_true(i > 3);
            break;
        }
        assert_int_equal(status, BOMBUS_ERROR_MEMORY);
    }
}

/* Every prefix of a good file is refused. */
static void test_cut_files(void **state)
{
    (void)state;
    static const char *const metadata[] = {"format", "mlx"};
    const struct bb_safetensors_entry entry = {"a", BB_F32, 1, {6}, numbers, sizeof numbers};
    bombus_error error;
    struct bb_safetensors file;
    const char *path = scratch_path("whole.safetensors");
    char *bytes;
    size_t size;
    CHECK_OK(bb_safetensors_write(path, &entry, 1, metadata, 1, &error), error);
    CHECK_OK(bb_file_read(&bytes, &size, path, 1000, &error), error);
    for (size_t i = 0; i < size; i++)
        assert_int_equal(bb_safetensors_open(&file, scratch_write("cut.safetensors", bytes, i), &error),
                         BOMBUS_ERROR_FORMAT);
    bb_release(bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_all_types),
        cmocka_unit_test(test_refuses_bad_headers),
        cmocka_unit_test(test_refuses_bad_lengths),
        cmocka_unit_test(test_deep_nesting),
        cmocka_unit_test(test_writes_and_reads_back),
        cmocka_unit_test(test_writer_refuses),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_cut_files),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
