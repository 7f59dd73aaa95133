/* Errors, memory, arenas, buffers, maps and files. */
#include "base/buffer.h"
#include "base/error.h"
#include "base/file.h"
#include "base/lock.h"
#include "base/map.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/resident.h"
#include "tensor/dtype.h"
#include "test.h"

#include <string.h>
#include <sys/stat.h>

static void test_error_is_cut_at_a_character(void **state)
{
    (void)state;
    bombus_error error;
    char text[2000] = "x";
    for (size_t i = 1; i + 1 < sizeof text; i += 2)
        memcpy(text + i, "\xC3\xA9", 3);
    assert_int_equal(bb_fail(&error, BOMBUS_ERROR_FORMAT, "%s", text), BOMBUS_ERROR_FORMAT);
    size_t length = strlen(error.message);
    assert_in_range(length, sizeof error.message - 3, sizeof error.message - 1);
    assert_int_equal((unsigned char)error.message[length - 1], 0xA9);
    assert_int_equal(bb_fail(NULL, BOMBUS_ERROR_IO, "nobody listens"), BOMBUS_ERROR_IO);
}

static void test_failing_allocation(void **state)
{
    (void)state;
    bb_memory_fail_at(2, false);
    void *first = bb_allocate(1, 1), *second = bb_allocate(1, 1), *third = bb_allocate(1, 1);
    bb_memory_fail_at(0, false);
    assert_non_null(first);
    assert_null(second);
    assert_non_null(third);
    bb_release(first);
    bb_release(third);
    assert_null(bb_allocate(SIZE_MAX / 2, 4));
    assert_null(bb_resize(NULL, SIZE_MAX / 2, 4));
}

static void test_grow(void **state)
{
    (void)state;
    int32_t *numbers = NULL;
    size_t capacity = 0, old = 0;
    for (int32_t i = 0; i < 1000; i++) {
        assert_true(bb_grow(&numbers, (size_t)i, 1, &capacity, sizeof *numbers));
        assert_true(capacity == old || capacity >= 2 * old);
        old = capacity;
        numbers[i] = i;
    }
    assert_true(bb_grow(&numbers, 1000, 5000, &capacity, sizeof *numbers));
    assert_true(capacity >= 6000);
    old = capacity;
    bb_memory_fail_at(1, false);
    assert_false(bb_grow(&numbers, capacity, 1, &capacity, sizeof *numbers));
    bb_memory_fail_at(0, false);
    assert_false(bb_grow(&numbers, 2, SIZE_MAX, &capacity, sizeof *numbers));
    assert_false(bb_grow(&numbers, 0, SIZE_MAX / 2, &capacity, sizeof *numbers));
    assert_int_equal(capacity, old);
    for (int32_t i = 0; i < 1000; i++)
        assert_int_equal(numbers[i], i);
    bb_release(numbers);
}

static void test_lock(void **state)
{
    (void)state;
    struct bb_lock lock = {0};
    struct bb_signal never = {0};
    bombus_error error;
    bb_lock_clear(&lock);
    bb_signal_clear(&never);
    CHECK_OK(bb_lock_init(&lock, true, &error), error);
    for (int i = 0; i < 3; i++)
        bb_lock_take(&lock);
    for (int i = 0; i < 3; i++)
        bb_lock_give(&lock);
    bb_lock_clear(&lock);
    bb_lock_clear(&lock);
}

static void test_arena(void **state)
{
    (void)state;
    struct bb_arena arena = {0};
    for (size_t i = 0; i < 1000; i++) {
        unsigned char *bytes = bb_arena_allocate(&arena, i, 7);
        assert_non_null(bytes);
        assert_int_equal((uintptr_t)bytes % 16, 0);
        for (size_t j = 0; j < i * 7; j++)
            assert_int_equal(bytes[j], 0);
        memset(bytes, 255, i * 7);
    }
    bb_arena_clear(&arena);
}

static void test_resident_peak(void **state)
{
    (void)state;
    enum { BYTES = 32 << 20 };
#ifdef __SANITIZE_THREAD__
    enum { TIMES = 6 }; /* each byte has shadows */
#else
    enum { TIMES = 2 };
#endif
    uint64_t before = bb_resident_peak();
    char *memory = bb_reserve(BYTES);
    assert_true(memory != NULL && before > 0);
    assert_true(bb_resident_peak() < before + BYTES / 2); /* not touched yet */
    memset(memory, 1, BYTES);
    assert_in_range(bb_resident_peak(), BYTES, before + TIMES * (uint64_t)BYTES);
    bb_unreserve(memory, BYTES);
    assert_true(bb_resident_peak() >= BYTES); /* a peak stays */
#ifdef __linux__
    assert_true(bb_resident_room() > 0);
#endif
}

static void test_buffer(void **state)
{
    (void)state;
    struct bb_buffer buffer = {0};
    for (int i = 0; i < 1000; i++)
        bb_buffer_format(&buffer, "%d,", i);
    assert_int_equal(buffer.length, 10 * 2 + 90 * 3 + 900 * 4);
    assert_memory_equal(buffer.data, "0,1,2,3,", 8);
    size_t length;
    char *text = bb_buffer_take(&buffer, &length);
    assert_int_equal(strlen(text), length);
    bb_release(text);
    text = bb_buffer_take(&buffer, &length);
    assert_string_equal(text, "");
    bb_release(text);
}

static void test_map(void **state)
{
    (void)state;
    struct bb_map map = {0};
    static char keys[5000][8];
    bool was_new;
    assert_null(bb_map_find(&map, "x", 1));
    for (size_t i = 0; i < 5000; i++) {
        snprintf(keys[i], sizeof keys[i], "%zu", i);
        assert_true(bb_map_set(&map, keys[i], strlen(keys[i]), i, &was_new));
        assert_true(was_new);
    }
    for (size_t i = 0; i < 5000; i++)
        assert_int_equal(*bb_map_find(&map, keys[i], strlen(keys[i])), i);
    assert_true(bb_map_set(&map, keys[7], 1, 99, &was_new));
    assert_false(was_new);
    assert_int_equal(*bb_map_find(&map, "7", 1), 99);
    assert_null(bb_map_find(&map, "5000", 4));
    bb_map_clear(&map);
}

static void test_file(void **state)
{
    (void)state;
    char folder[] = "/tmp/bombus-test-XXXXXX";
    bombus_error error;
    assert_non_null(mkdtemp(folder));
    char *nested = bb_path_join(folder, "a/b"), *path = bb_path_join(nested, "file");
    CHECK_OK(bb_folder_create(nested, &error), error);
    const mode_t mask = umask(027); /* says who may read what is written */
    struct stat written;
    CHECK_OK(bb_file_write(path, "hello", 5, &error), error);
    umask(mask);
    assert_int_equal(stat(path, &written), 0);
    assert_int_equal(written.st_mode & 0777, 0640);
    CHECK_OK(bb_file_write(path, "hollow", 6, &error), error);
    char *data;
    size_t size;
    CHECK_OK(bb_file_read(&data, &size, path, 100, &error), error);
    assert_string_equal(data, "hollow");
    bb_release(data);
    assert_int_equal(bb_file_read(&data, &size, path, 5, &error), BOMBUS_ERROR_LIMIT);
    struct bb_file_map map;
    CHECK_OK(bb_file_map(&map, path, &error), error);
    assert_memory_equal(map.data, "hollow", 6);
    bb_file_unmap(&map);
    assert_int_equal(bb_file_map(&map, nested, &error), BOMBUS_ERROR_IO);
    unlink(path);
    assert_int_equal(bb_file_map(&map, path, &error), BOMBUS_ERROR_NOT_FOUND);
    assert_non_null(strstr(error.message, path));
    assert_int_equal(bb_file_write("/dev/full/x", "x", 1, &error), BOMBUS_ERROR_IO);
    char pipe[256]; /* what is no regular file stays what it is */
    struct stat there;
    snprintf(pipe, sizeof pipe, "%s.pipe", path);
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_int_equal(bb_file_write(pipe, "x", 1, &error), BOMBUS_ERROR_IO);
    assert_non_null(strstr(error.message, "not a regular file"));
    assert_true(stat(pipe, &there) == 0 && S_ISFIFO(there.st_mode));
    unlink(pipe);
    rmdir(nested);
    bb_release(path);
    bb_release(nested);
}

static void test_short_floats(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 65536; i++) {
        float half = bb_f16_to_f32((uint16_t)i), brain = bb_bf16_to_f32((uint16_t)i);
        if (half == half)
            assert_int_equal(bb_f32_to_f16(half), i);
        if (brain == brain)
            assert_int_equal(bb_f32_to_bf16(brain), i);
    }
    assert_int_equal(bb_f32_to_f16(65520.0f), 0x7C00);
    assert_int_equal(bb_f32_to_f16(65519.0f), 0x7BFF);
    assert_int_equal(bb_f32_to_f16(0x1.002p0f), 0x3C00); /* a tie goes to even */
    assert_int_equal(bb_f32_to_bf16(0x1.01p0f), 0x3F80);
    assert_true(bb_f16_to_f32(bb_f32_to_f16(NAN)) != bb_f16_to_f32(bb_f32_to_f16(NAN)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error_is_cut_at_a_character), cmocka_unit_test(test_failing_allocation),
        cmocka_unit_test(test_grow), cmocka_unit_test(test_lock), cmocka_unit_test(test_arena), cmocka_unit_test(test_buffer), cmocka_unit_test(test_map),
        cmocka_unit_test(test_file), cmocka_unit_test(test_short_floats), cmocka_unit_test(test_resident_peak),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
