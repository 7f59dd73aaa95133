/* Pages of the key-value cache: taken, shared, given back, written and read. The device is a stand-in made of host memory. */
#include "base/memory.h"
#include "model/kv_cache.h"
#include "test.h"

#include <string.h>

enum { PAGE = BB_KV_PAGE_SIZE };

static bombus_status allocate(struct bb_backend *backend, size_t bytes, void **memory, bombus_error *error)
{
    (void)backend;
    *memory = bb_allocate(bytes, 1);
    return *memory != NULL ? BOMBUS_OK : bb_fail_memory(error, bytes, "device memory");
}

static void release(struct bb_backend *backend, void *memory)
{
    (void)backend;
    bb_release(memory);
}

static bombus_status copy(struct bb_backend *backend, void *to, const void *from, size_t bytes, bombus_error *error)
{
    (void)backend;
    (void)error;
    memcpy(to, from, bytes);
    return BOMBUS_OK;
}

static const struct bb_backend_table table = { .name = "host", .allocate = allocate, .release = release, .upload = copy, .download = copy };
static struct bb_backend backend = { &table };
static bombus_error error;

/* Three layers; layer 1 sees the latest 100 positions. */
static struct bb_recipe recipe = { .num_hidden_layers = 3, .num_key_value_heads = 2, .num_attention_heads = 4, .head_dim = 32,
                                   .layers = { [1] = { .sliding_window = 100 } } };

static struct bb_kv_cache *create(struct bb_kv_cache_options options)
{
    struct bb_kv_cache *cache;
    CHECK_OK(bb_kv_cache_create(&cache, &recipe, &backend, &options, &error), error);
    return cache;
}

/* Byte `position % PAGE` of the position's page in a layer; enough to tell pages and positions apart. */
static char *cell(const struct bb_kv_cache *cache, int32_t layer, int32_t sequence, int32_t position)
{
    struct bb_kv_view view = bb_kv_cache_view(cache, layer);
    int32_t page = view.page_tables[sequence][position / PAGE];
    return page < 0 ? NULL : view.base + (size_t)page * view.page_stride + position % PAGE;
}

static char mark_of(int32_t layer, int32_t position, int32_t salt)
{
    return (char)(layer * 61 + position * 7 + position / PAGE * 13 + salt);
}

static void grow(struct bb_kv_cache *cache, int32_t sequence, int32_t count, int32_t salt)
{
    int32_t length = bb_kv_cache_length(cache, sequence);
    CHECK_OK(bb_kv_cache_reserve(cache, sequence, count, &error), error);
    for (int32_t layer = 0; layer < 3; layer++)
        for (int32_t i = length; i < length + count; i++)
            *cell(cache, layer, sequence, i) = mark_of(layer, i, salt);
    bb_kv_cache_advance(cache, sequence, count);
    assert_int_equal(bb_kv_cache_length(cache, sequence), length + count);
}

/* Positions [from, to) hold what grow wrote with `salt`, wherever a row at the sequence's end would look. */
static void check_cells(const struct bb_kv_cache *cache, int32_t sequence, int32_t from, int32_t to, int32_t salt)
{
    for (int32_t layer = 0; layer < 3; layer++) {
        struct bb_kv_view view = bb_kv_cache_view(cache, layer);
        for (int32_t i = from; i < to; i++) {
            if (view.window > 0 && i >= view.keep && bb_kv_cache_length(cache, sequence) - i >= view.window)
                continue;
            assert_non_null(cell(cache, layer, sequence, i));
            assert_int_equal(*cell(cache, layer, sequence, i), mark_of(layer, i, salt));
        }
    }
}

static void test_grow_and_windows(void **state)
{
    (void)state;
    struct bb_kv_cache *cache = create((struct bb_kv_cache_options){ .sequence_count = 2, .context_size = 1000 });
    grow(cache, 0, 1, 0);
    for (int32_t i = 0; i < 20; i++)
        grow(cache, 0, 37, 0);
    for (int32_t i = 0; i < 100; i++)
        grow(cache, 1, 1, 5);
    check_cells(cache, 0, 0, 741, 0);
    check_cells(cache, 1, 0, 100, 5);
    assert_null(cell(cache, 1, 0, 0));      /* out of the window of layer 1 */
    assert_non_null(cell(cache, 0, 0, 0));
    struct bb_kv_view full = bb_kv_cache_view(cache, 0), sliding = bb_kv_cache_view(cache, 1);
    assert_int_equal(full.window, 0);
    assert_int_equal(sliding.window, 100);
    assert_ptr_equal(full.page_tables, bb_kv_cache_view(cache, 2).page_tables); /* layers 0 and 2 share tables */
    assert_int_equal(bb_kv_cache_reserve(cache, 0, 260, &error), BOMBUS_ERROR_CONTEXT_FULL);
    grow(cache, 0, 259, 0);
    assert_int_equal(bb_kv_cache_reserve(cache, 0, 1, &error), BOMBUS_ERROR_CONTEXT_FULL);
    check_cells(cache, 0, 0, 1000, 0);
    /* 16 pages of sequence 0 in two layers, at most 4 in the third, 2 of sequence 1 in all */
    size_t page = bb_kv_page_bytes(BB_KV_F32, 64, PAGE, 2, 32);
    assert_in_range(bb_kv_cache_bytes(cache), page * (2 * 18 + 2), page * (2 * 18 + 6));
    CHECK_OK(bb_kv_cache_truncate(cache, 0, 0, &error), error);
    CHECK_OK(bb_kv_cache_truncate(cache, 1, 0, &error), error);
    assert_int_equal(bb_kv_cache_bytes(cache), 0);
    bb_kv_cache_free(cache);
}

static void test_truncate(void **state)
{
    (void)state;
    struct bb_kv_cache *cache = create((struct bb_kv_cache_options){ .sequence_count = 1, .context_size = 1000 });
    grow(cache, 0, 500, 0);
    assert_int_equal(bb_kv_cache_truncate(cache, 0, 501, &error), BOMBUS_ERROR_ARGUMENT);
    assert_int_equal(bb_kv_cache_truncate(cache, 0, 200, &error), BOMBUS_ERROR_UNSUPPORTED);
    assert_int_equal(bb_kv_cache_length(cache, 0), 500);
    CHECK_OK(bb_kv_cache_truncate(cache, 0, 500 - PAGE, &error), error); /* always possible */
    check_cells(cache, 0, 0, 500 - PAGE, 0);
    grow(cache, 0, 300, 9);
    check_cells(cache, 0, 0, 500 - PAGE, 0);
    check_cells(cache, 0, 500 - PAGE, 800 - PAGE, 9);
    CHECK_OK(bb_kv_cache_truncate(cache, 0, 0, &error), error);
    grow(cache, 0, 80, 3);
    CHECK_OK(bb_kv_cache_truncate(cache, 0, 10, &error), error); /* nothing was dropped yet */
    check_cells(cache, 0, 0, 10, 3);
    bb_kv_cache_free(cache);
}

static void test_max_kv_size(void **state)
{
    (void)state;
    struct bb_kv_cache *cache = create((struct bb_kv_cache_options){ .sequence_count = 1, .context_size = 4000, .max_kv_size = 90 });
    struct bb_kv_view view = bb_kv_cache_view(cache, 1); /* its own 100 is larger */
    assert_int_equal(view.window, 86);
    assert_int_equal(view.keep, 4);
    for (int32_t i = 0; i < 60; i++) {
        grow(cache, 0, 50, 1);
        check_cells(cache, 0, 0, 50 * i, 1);
    }
    assert_true(bb_kv_cache_bytes(cache) <= 5 * 3 * bb_kv_page_bytes(BB_KV_F32, 64, PAGE, 2, 32));
    struct bb_kv_cache_options options = { .sequence_count = 1, .context_size = 4000, .max_kv_size = 4 };
    struct bb_kv_cache *none;
    assert_int_equal(bb_kv_cache_create(&none, &recipe, &backend, &options, &error), BOMBUS_ERROR_ARGUMENT);
    assert_null(none);
    bb_kv_cache_free(cache);
}

static void test_share(void **state)
{
    (void)state;
    struct bb_kv_cache *cache = create((struct bb_kv_cache_options){ .sequence_count = 3, .context_size = 1000 });
    grow(cache, 0, 150, 0);
    size_t before = bb_kv_cache_bytes(cache);
    CHECK_OK(bb_kv_cache_share(cache, 0, 1, 140, &error), error);
    assert_int_equal(bb_kv_cache_bytes(cache) - before, before / 3); /* one page more in each layer, for the partial one */
    assert_int_equal(bb_kv_cache_length(cache, 1), 140);
    grow(cache, 1, 100, 2);
    grow(cache, 0, 100, 0);
    check_cells(cache, 0, 0, 250, 0);
    check_cells(cache, 1, 0, 140, 0);
    check_cells(cache, 1, 140, 240, 2);
    /* Writing in a page that was shared whole: sequence 0 goes back into it. */
    CHECK_OK(bb_kv_cache_share(cache, 0, 2, 192, &error), error);
    CHECK_OK(bb_kv_cache_truncate(cache, 0, 190, &error), error);
    grow(cache, 0, 60, 7);
    check_cells(cache, 2, 0, 192, 0);
    check_cells(cache, 0, 0, 190, 0);
    check_cells(cache, 0, 190, 250, 7);
    for (int32_t i = 0; i < 3; i++)
        CHECK_OK(bb_kv_cache_truncate(cache, i, 0, &error), error);
    assert_int_equal(bb_kv_cache_bytes(cache), 0);
    bb_kv_cache_free(cache);
}

/* Pages held without their sequence, and given to another, also where a window has dropped them meanwhile. */
static void test_retain(void **state)
{
    (void)state;
    enum { COUNT = 5 };
    struct bb_kv_cache *cache = create((struct bb_kv_cache_options){ .sequence_count = 3, .context_size = 640, .page_limit = 9 });
    int32_t pages[COUNT][2];
    assert_int_equal(bb_kv_cache_group_count(cache), 2);
    size_t bytes = bb_kv_cache_page_bytes(&recipe, BB_KV_F32, 0);
    assert_int_equal(bytes, 3 * bb_kv_page_bytes(BB_KV_F32, 64, PAGE, 2, 32));
    for (int32_t i = 0; i < COUNT; i++) {
        CHECK_OK(bb_kv_cache_reserve(cache, 0, PAGE, &error), error);
        for (int32_t layer = 0; layer < 3; layer++)
            for (int32_t j = i * PAGE; j < (i + 1) * PAGE; j++)
                *cell(cache, layer, 0, j) = mark_of(layer, j, 2);
        bb_kv_cache_retain(cache, 0, i, pages[i]);
        bb_kv_cache_advance(cache, 0, PAGE);
    }
    assert_null(cell(cache, 1, 0, 0));
    CHECK_OK(bb_kv_cache_truncate(cache, 0, 0, &error), error);
    assert_int_equal(bb_kv_cache_bytes(cache), COUNT * bytes);
    for (int32_t i = 0; i < COUNT; i++) {
        bb_kv_cache_attach(cache, 1, i, pages[i]);
        bb_kv_cache_advance(cache, 1, PAGE);
        check_cells(cache, 1, 0, (i + 1) * PAGE, 2);
    }
    assert_int_equal(bb_kv_cache_bytes(cache), COUNT * bytes);
    grow(cache, 1, 30, 2); /* writes into a page of its own */
    check_cells(cache, 1, 0, COUNT * PAGE + 30, 2);
    /* The same content in a page of its own gives way. */
    grow(cache, 2, PAGE, 2);
    assert_int_equal(bb_kv_cache_bytes(cache), (COUNT + 2) * bytes);
    bb_kv_cache_attach(cache, 2, 0, pages[0]);
    assert_int_equal(bb_kv_cache_bytes(cache), (COUNT + 1) * bytes);
    check_cells(cache, 2, 0, PAGE, 2);
    /* Of 9 pages 6 are in use. */
    assert_int_equal(bb_kv_cache_missing(cache, 2, 3 * PAGE), 0);
    assert_int_equal(bb_kv_cache_missing(cache, 2, 3 * PAGE + 1), 1);
    assert_int_equal(bb_kv_cache_reserve(cache, 2, 3 * PAGE + 1, &error), BOMBUS_ERROR_CONTEXT_FULL);
    CHECK_OK(bb_kv_cache_truncate(cache, 1, 0, &error), error);
    for (int32_t i = 1; i < COUNT; i++)
        bb_kv_cache_release(cache, pages[i]);
    assert_int_equal(bb_kv_cache_missing(cache, 2, 3 * PAGE + 1), 0);
    CHECK_OK(bb_kv_cache_truncate(cache, 2, 0, &error), error);
    assert_int_equal(bb_kv_cache_bytes(cache), bytes);
    bb_kv_cache_release(cache, pages[0]);
    assert_int_equal(bb_kv_cache_bytes(cache), 0);
    bb_kv_cache_free(cache);
}

static void test_page_limit(void **state)
{
    (void)state;
    struct bb_kv_cache *cache = create((struct bb_kv_cache_options){ .sequence_count = 2, .context_size = 1000, .page_limit = 4 });
    grow(cache, 0, 3 * PAGE, 0);
    assert_int_equal(bb_kv_cache_reserve(cache, 1, PAGE + 1, &error), BOMBUS_ERROR_CONTEXT_FULL);
    assert_int_equal(bb_kv_cache_length(cache, 1), 0);
    grow(cache, 1, PAGE, 1);
    check_cells(cache, 0, 0, 3 * PAGE, 0);
    CHECK_OK(bb_kv_cache_truncate(cache, 0, 0, &error), error);
    grow(cache, 1, PAGE, 1);
    bb_kv_cache_free(cache);
}

static void test_write_and_read(void **state)
{
    (void)state;
    for (int32_t kv_bits = 0; kv_bits <= 8; kv_bits += 4) {
        struct bb_kv_cache_options options = { .type = bb_kv_cache_choose_type(kv_bits, true), .sequence_count = 2, .context_size = 1000 };
        struct bb_kv_cache *cache = create(options), *other = create(options);
        struct bb_buffer bytes = {0};
        grow(cache, 1, 300, 4);
        CHECK_OK(bb_kv_cache_write(cache, 1, &bytes, &error), error);
        grow(other, 0, 10, 0);
        CHECK_OK(bb_kv_cache_read(other, 0, bytes.data, bytes.length, &error), error);
        check_cells(other, 0, 0, 300, 4);
        grow(other, 0, 50, 4);
        check_cells(other, 0, 0, 350, 4);
        size_t held = bb_kv_cache_bytes(other);
        for (size_t size = 0; size < bytes.length; size += size < 64 ? 1 : 997) {
            assert_int_equal(bb_kv_cache_read(other, 1, bytes.data, size, &error), BOMBUS_ERROR_FORMAT);
            assert_int_equal(bb_kv_cache_bytes(other), held);
        }
        for (size_t i = 0; i < 12; i++) {
            bytes.data[i] ^= 0x41;
            assert_int_not_equal(bb_kv_cache_read(other, 1, bytes.data, bytes.length, &error), BOMBUS_OK);
            assert_int_equal(bb_kv_cache_length(other, 1), 0);
            bytes.data[i] ^= 0x41;
        }
        assert_int_equal(bb_kv_cache_bytes(other), held);
        bb_buffer_clear(&bytes);
        bb_kv_cache_free(cache);
        bb_kv_cache_free(other);
    }
}

static void test_options(void **state)
{
    (void)state;
    struct bb_kv_cache *cache;
    struct bb_kv_cache_options options = { .sequence_count = 1, .context_size = 0 };
    assert_int_equal(bb_kv_cache_create(&cache, &recipe, &backend, &options, &error), BOMBUS_ERROR_ARGUMENT);
    options = (struct bb_kv_cache_options){ .sequence_count = 0, .context_size = 10 };
    assert_int_equal(bb_kv_cache_create(&cache, &recipe, &backend, &options, &error), BOMBUS_ERROR_ARGUMENT);
    struct bb_recipe odd = recipe;
    odd.head_dim = 24;
    odd.position_limit = 100;
    options = (struct bb_kv_cache_options){ .type = BB_KV_Q8, .sequence_count = 1, .context_size = 10 };
    assert_int_equal(bb_kv_cache_create(&cache, &odd, &backend, &options, &error), BOMBUS_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "head_dim"));
    odd.head_dim = 96;
    options.group_size = 64;
    assert_int_equal(bb_kv_cache_create(&cache, &odd, &backend, &options, &error), BOMBUS_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "kv_group_size 64"));
    for (int32_t wanted = 0; wanted <= 128; wanted += 32) {
        odd.head_dim = 384;
        options.group_size = wanted == 96 ? 0 : wanted;
        CHECK_OK(bb_kv_cache_create(&cache, &odd, &backend, &options, &error), error);
        assert_int_equal(bb_kv_cache_view(cache, 0).group_size, options.group_size == 0 ? 64 : wanted);
        assert_int_equal(bb_kv_cache_page_bytes(&odd, BB_KV_Q8, options.group_size),
                         bb_kv_cache_view(cache, 0).page_stride);
        bb_kv_cache_free(cache);
    }
    options = (struct bb_kv_cache_options){ .sequence_count = 1, .context_size = 101 };
    assert_int_equal(bb_kv_cache_create(&cache, &odd, &backend, &options, &error), BOMBUS_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "dynamic"));
    bb_kv_cache_free(NULL);
}

static void test_failing_allocation(void **state)
{
    (void)state;
    struct bb_kv_cache_options options = { .sequence_count = 2, .context_size = 500 };
    for (uint64_t i = 1;; i++) {
        struct bb_kv_cache *cache;
        bb_memory_fail_at(i, false);
        bombus_status status = bb_kv_cache_create(&cache, &recipe, &backend, &options, &error);
        bb_memory_fail_at(0, false);
        if (status == BOMBUS_OK) {
            assert_true(i > 3);
            bb_kv_cache_free(cache);
            break;
        }
        assert_int_equal(status, BOMBUS_ERROR_MEMORY);
        assert_null(cache);
    }
}

static void test_no_allocation_while_growing(void **state)
{
    (void)state;
    struct bb_kv_cache *cache = create((struct bb_kv_cache_options){ .sequence_count = 1, .context_size = 1000 });
    uint64_t before = bb_memory_count();
    for (int32_t i = 0; i < 900; i++)
        grow(cache, 0, 1, 0);
    assert_int_equal(bb_memory_count(), before);
    bb_kv_cache_free(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_grow_and_windows), cmocka_unit_test(test_truncate),      cmocka_unit_test(test_max_kv_size),
        cmocka_unit_test(test_share), cmocka_unit_test(test_retain), cmocka_unit_test(test_page_limit),    cmocka_unit_test(test_write_and_read),
        cmocka_unit_test(test_options),          cmocka_unit_test(test_failing_allocation),
        cmocka_unit_test(test_no_allocation_while_growing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
