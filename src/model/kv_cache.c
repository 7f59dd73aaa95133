/* The paged key-value cache. Layers that see the same positions form a group: one page table a sequence and one supply of page numbers serve all of
 * them. A page number stands for BB_KV_PAGE_SIZE positions in each of the group's layers, which lie one after another in memory:
 *
 *   group memory: | page 0: layer a, layer b, ... | page 1: layer a, layer b, ... | ...
 *
 * so a page in use is one run of bytes, and pages never used are never touched. Page numbers are counted (share), handed out last in, first out. */
#include "model/kv_cache.h"

#include <string.h>

enum { PAGE = BB_KV_PAGE_SIZE, KEPT_POSITIONS = 4, MAX_CONTEXT = 1 << 28, MAX_SEQUENCES = 1 << 16, STAGING_BYTES = 1 << 16 };

struct group {
    int32_t window, keep; /* as in bb_kv_view */
    int32_t layer_count;
    size_t layer_bytes;   /* of a page in one layer */
    size_t stride;        /* of a page in all layers */
    char *memory;         /* on the device */
    int32_t page_count, free_count;
    int32_t *counts;      /* [page_count]: sequences that hold the page */
    int32_t *free_pages;  /* [free_count], a stack */
    int32_t **tables;     /* [sequence_count][pages_per_sequence], -1: none */
    int32_t *first_pages; /* [sequence_count]: pages before it (but the kept ones) were given back */
};

struct bb_kv_cache {
    struct bb_backend *backend;
    struct bb_kv_cache_options options;
    int32_t kv_heads, head_dim, group_size;
    int32_t pages_per_sequence;
    int32_t group_count, layer_count;
    struct group *groups;
    int32_t *layer_groups, *layer_places; /* [layer_count]: which group, and which place in it */
    int32_t *lengths;                     /* [sequence_count] */
    int32_t **fresh_tables;               /* [sequence_count]: page tables of fresh spans, NULL for the others; of a quantized cache */
    int32_t *fresh_pages;                 /* 0, 1, 2, ...: what those tables hold */
    char *staging;                        /* for copies between device and host */
    struct bb_arena arena;
};

enum bb_kv_type bb_kv_cache_choose_type(int32_t kv_bits, bool is_exact)
{
    if (kv_bits == 8)
        return BB_KV_Q8;
    if (kv_bits == 4)
        return BB_KV_Q4;
    return is_exact ? BB_KV_F32 : BB_KV_F16;
}

static int32_t kept_pages(const struct group *group)
{
    return bb_kv_pages(group->keep);
}

/* The first position that a row at `position` sees by the window. */
static int32_t first_seen(const struct group *group, int32_t position)
{
    return group->window > 0 && position >= group->window ? position - group->window + 1 : 0;
}

int32_t bb_kv_cache_usual_group_size(int32_t head_dim)
{
    return head_dim % 64 == 0 ? 64 : head_dim % 32 == 0 ? 32 : 0;
}

/* Of a cache of that type; 0 if the wanted one does not divide head_dim, or none does. */
static int32_t choose_group_size(enum bb_kv_type type, int32_t wanted, int32_t head_dim)
{
    if (!bb_kv_is_quantized(type))
        return 64;
    if (wanted == 0)
        return bb_kv_cache_usual_group_size(head_dim);
    return head_dim % wanted == 0 ? wanted : 0;
}

static bombus_status check_options(struct bb_kv_cache *cache, const struct bb_recipe *recipe, bombus_error *error)
{
    const struct bb_kv_cache_options *options = &cache->options;
    if (options->context_size < 1 || options->context_size > MAX_CONTEXT)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "context size %d is not in [1, %d]", options->context_size, MAX_CONTEXT);
    if (options->sequence_count < 1 || options->sequence_count > MAX_SEQUENCES)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%d sequences are not in [1, %d]", options->sequence_count, MAX_SEQUENCES);
    if (options->max_kv_size != 0 && options->max_kv_size <= KEPT_POSITIONS)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "max_kv_size %d is not above %d, the first positions that are always kept",
                       options->max_kv_size, KEPT_POSITIONS);
    if (recipe->position_limit > 0 && options->context_size > recipe->position_limit)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED, "a context of %d positions: dynamic rope scaling is not supported beyond "
                       "max_position_embeddings, %d", options->context_size, recipe->position_limit);
    cache->group_size = choose_group_size(options->type, options->group_size, recipe->head_dim);
    if (cache->group_size == 0 && options->group_size != 0)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED, "kv_group_size %d does not divide this model's head_dim, %d", options->group_size,
                       recipe->head_dim);
    if (cache->group_size == 0)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED, "kv_bits needs a head_dim that is a multiple of 32, this model has %d",
                       recipe->head_dim);
    return BOMBUS_OK;
}

/* What a layer's rows see: its own sliding window, or max_kv_size where that is narrower. */
static void choose_window(const struct bb_kv_cache_options *options, int32_t sliding_window, int32_t *window, int32_t *keep)
{
    bool is_limited = options->max_kv_size > 0 && (sliding_window == 0 || sliding_window > options->max_kv_size);
    *window = is_limited ? options->max_kv_size - KEPT_POSITIONS : sliding_window;
    *keep = is_limited ? KEPT_POSITIONS : 0;
    if (*window >= options->context_size) /* every position is seen anyway */
        *window = *keep = 0;
}

static void place_layers(struct bb_kv_cache *cache, const struct bb_recipe *recipe)
{
    for (int32_t i = 0; i < cache->layer_count; i++) {
        int32_t window, keep, number = 0;
        choose_window(&cache->options, recipe->layers[i].sliding_window, &window, &keep);
        while (number < cache->group_count && (cache->groups[number].window != window || cache->groups[number].keep != keep))
            number++;
        struct group *group = &cache->groups[number];
        if (number == cache->group_count) {
            *group = (struct group){ .window = window, .keep = keep };
            cache->group_count++;
        }
        cache->layer_groups[i] = number;
        cache->layer_places[i] = group->layer_count++;
    }
}

static bombus_status create_group(struct bb_kv_cache *cache, struct group *group, bombus_error *error)
{
    size_t sequences = (size_t)cache->options.sequence_count, a_sequence = (size_t)cache->pages_per_sequence, bytes;
    size_t pages = cache->options.page_limit > 0 ? cache->options.page_limit : sequences * a_sequence; /* the latter at most 2^16 * 2^22 */
    group->layer_bytes = bb_kv_page_bytes(cache->options.type, cache->group_size, PAGE, cache->kv_heads, cache->head_dim);
    if (pages > INT32_MAX || !bb_multiply_size(group->layer_bytes, (size_t)group->layer_count, &group->stride) ||
        !bb_multiply_size(group->stride, pages, &bytes))
        return bb_fail(error, BOMBUS_ERROR_MEMORY, "a key-value cache of %zu pages of %d positions in %d layers is too large", pages, PAGE,
                       group->layer_count);
    group->page_count = group->free_count = (int32_t)pages;
    group->counts = bb_arena_allocate(&cache->arena, pages, sizeof *group->counts);
    group->free_pages = bb_arena_allocate(&cache->arena, pages, sizeof *group->free_pages);
    group->tables = bb_arena_allocate(&cache->arena, sequences, sizeof *group->tables);
    group->first_pages = bb_arena_allocate(&cache->arena, sequences, sizeof *group->first_pages);
    int32_t *entries = bb_arena_allocate(&cache->arena, sequences * a_sequence, sizeof *entries);
    if (group->counts == NULL || group->free_pages == NULL || group->tables == NULL || group->first_pages == NULL || entries == NULL)
        return bb_fail_memory(error, pages * 3 * sizeof *entries, "the page tables of the key-value cache");
    memset(entries, 255, sequences * a_sequence * sizeof *entries);
    for (size_t i = 0; i < sequences; i++)
        group->tables[i] = entries + i * a_sequence;
    for (size_t i = 0; i < pages; i++)
        group->free_pages[i] = (int32_t)(pages - 1 - i);
    void *memory;
    bombus_status status = cache->backend->table->allocate(cache->backend, bytes, &memory, error);
    group->memory = status == BOMBUS_OK ? memory : NULL;
    return status;
}

static bombus_status create_fresh_tables(struct bb_kv_cache *cache, bombus_error *error)
{
    size_t sequences = (size_t)cache->options.sequence_count, pages = sequences * (size_t)cache->pages_per_sequence;
    cache->fresh_tables = bb_arena_allocate(&cache->arena, sequences, sizeof *cache->fresh_tables);
    cache->fresh_pages = bb_arena_allocate(&cache->arena, pages, sizeof *cache->fresh_pages);
    if (cache->fresh_tables == NULL || cache->fresh_pages == NULL)
        return bb_fail_memory(error, pages * sizeof *cache->fresh_pages, "the page tables of the key-value cache");
    for (size_t i = 0; i < pages; i++)
        cache->fresh_pages[i] = (int32_t)i;
    return BOMBUS_OK;
}

bombus_status bb_kv_cache_create(struct bb_kv_cache **cache, const struct bb_recipe *recipe, struct bb_backend *backend,
                                 const struct bb_kv_cache_options *options, bombus_error *error)
{
    struct bb_kv_cache *created = bb_allocate(1, sizeof *created);
    *cache = NULL;
    if (created == NULL)
        return bb_fail_memory(error, sizeof *created, "a key-value cache");
    created->backend = backend;
    created->options = *options;
    created->kv_heads = recipe->num_key_value_heads;
    created->head_dim = recipe->head_dim;
    created->layer_count = recipe->num_hidden_layers;
    bombus_status status = check_options(created, recipe, error);
    if (status != BOMBUS_OK)
        goto done;
    size_t layers = (size_t)created->layer_count;
    created->pages_per_sequence = bb_kv_pages(options->context_size);
    created->groups = bb_arena_allocate(&created->arena, layers, sizeof *created->groups);
    created->layer_groups = bb_arena_allocate(&created->arena, layers, sizeof *created->layer_groups);
    created->layer_places = bb_arena_allocate(&created->arena, layers, sizeof *created->layer_places);
    created->lengths = bb_arena_allocate(&created->arena, (size_t)options->sequence_count, sizeof *created->lengths);
    created->staging = bb_arena_allocate(&created->arena, STAGING_BYTES, 1);
    if (created->groups == NULL || created->layer_groups == NULL || created->layer_places == NULL || created->lengths == NULL ||
        created->staging == NULL) {
        status = bb_fail_memory(error, layers * sizeof *created->groups + STAGING_BYTES, "a key-value cache");
        goto done;
    }
    if (bb_kv_is_quantized(options->type))
        status = create_fresh_tables(created, error);
    place_layers(created, recipe);
    for (int32_t i = 0; i < created->group_count && status == BOMBUS_OK; i++)
        status = create_group(created, &created->groups[i], error);
done:
    if (status != BOMBUS_OK)
        bb_kv_cache_free(created);
    else
        *cache = created;
    return status;
}

void bb_kv_cache_free(struct bb_kv_cache *cache)
{
    if (cache == NULL)
        return;
    for (int32_t i = 0; i < cache->group_count; i++)
        if (cache->groups[i].memory != NULL)
            cache->backend->table->release(cache->backend, cache->groups[i].memory);
    bb_arena_clear(&cache->arena);
    bb_release(cache);
}

int32_t bb_kv_cache_length(const struct bb_kv_cache *cache, int32_t sequence)
{
    return cache->lengths[sequence];
}

static int32_t take_page(struct group *group)
{
    int32_t page = group->free_pages[--group->free_count];
    group->counts[page] = 1;
    return page;
}

static void drop_page(struct group *group, int32_t *entry)
{
    if (*entry >= 0 && --group->counts[*entry] == 0)
        group->free_pages[group->free_count++] = *entry;
    *entry = -1;
}

static bombus_status copy_page(struct bb_kv_cache *cache, struct group *group, int32_t from, int32_t to, bombus_error *error)
{
    const struct bb_backend_table *table = cache->backend->table;
    bombus_status status = BOMBUS_OK;
    for (size_t done = 0; done < group->stride && status == BOMBUS_OK; done += STAGING_BYTES) {
        size_t count = group->stride - done < STAGING_BYTES ? group->stride - done : STAGING_BYTES;
        status = table->download(cache->backend, cache->staging, group->memory + (size_t)from * group->stride + done, count, error);
        if (status == BOMBUS_OK)
            status = table->upload(cache->backend, group->memory + (size_t)to * group->stride + done, cache->staging, count, error);
    }
    return status;
}

/* New pages that positions [length, end) need; with one for a shared page that will be written in. */
static int32_t missing_pages(const struct group *group, int32_t sequence, int32_t length, int32_t end)
{
    const int32_t *table = group->tables[sequence];
    int32_t missing = 0;
    for (int32_t i = length / PAGE; i < bb_kv_pages(end); i++)
        missing += table[i] < 0 || group->counts[table[i]] > 1;
    return missing;
}

bombus_status bb_kv_cache_reserve(struct bb_kv_cache *cache, int32_t sequence, int32_t count, bombus_error *error)
{
    int32_t length = cache->lengths[sequence];
    if (count < 0 || count > cache->options.context_size - length)
        return bb_fail(error, BOMBUS_ERROR_CONTEXT_FULL, "the context of %d positions is full: it holds %d, and %d more are wanted",
                       cache->options.context_size, length, count);
    for (int32_t i = 0; i < cache->group_count; i++) {
        int32_t missing = missing_pages(&cache->groups[i], sequence, length, length + count);
        if (missing > cache->groups[i].free_count)
            return bb_fail(error, BOMBUS_ERROR_CONTEXT_FULL, "the key-value cache is full: %d more pages of %d positions are wanted, %d are free",
                           missing, PAGE, cache->groups[i].free_count);
    }
    for (int32_t i = 0; i < cache->group_count; i++) {
        struct group *group = &cache->groups[i];
        int32_t *table = group->tables[sequence];
        for (int32_t j = length / PAGE; j < bb_kv_pages(length + count); j++) {
            if (table[j] >= 0 && group->counts[table[j]] == 1)
                continue;
            int32_t shared = table[j], page = take_page(group);
            bombus_status status = shared >= 0 ? copy_page(cache, group, shared, page, error) : BOMBUS_OK;
            if (status != BOMBUS_OK) {
                drop_page(group, &page);
                return status;
            }
            drop_page(group, &table[j]);
            table[j] = page;
        }
    }
    return BOMBUS_OK;
}

void bb_kv_cache_advance(struct bb_kv_cache *cache, int32_t sequence, int32_t count)
{
    int32_t length = cache->lengths[sequence] += count;
    for (int32_t i = 0; i < cache->group_count; i++) {
        struct group *group = &cache->groups[i];
        int32_t *first = &group->first_pages[sequence];
        /* A page more than the window is kept, so that a few positions can be taken back (speculation). */
        int32_t needed = length > PAGE ? first_seen(group, length - PAGE) / PAGE : 0;
        if (*first < kept_pages(group))
            *first = kept_pages(group);
        for (; *first < needed; ++*first)
            drop_page(group, &group->tables[sequence][*first]);
    }
}

/* Can a row at `length` see all that it should? */
static bool is_whole(const struct group *group, int32_t sequence, int32_t length)
{
    int32_t first = group->first_pages[sequence];
    return length == 0 || first <= kept_pages(group) || first_seen(group, length) >= first * PAGE;
}

static bombus_status check_whole(const struct bb_kv_cache *cache, int32_t sequence, int32_t length, bombus_error *error)
{
    if (length < 0 || length > cache->lengths[sequence])
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "position %d is not in the %d that the sequence holds", length, cache->lengths[sequence]);
    for (int32_t i = 0; i < cache->group_count; i++)
        if (!is_whole(&cache->groups[i], sequence, length))
            return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED, "cannot go back from position %d to %d: the cache has dropped positions that would be "
                           "seen again (sliding window or max_kv_size)", cache->lengths[sequence], length);
    return BOMBUS_OK;
}

bombus_status bb_kv_cache_truncate(struct bb_kv_cache *cache, int32_t sequence, int32_t length, bombus_error *error)
{
    bombus_status status = check_whole(cache, sequence, length, error);
    if (status != BOMBUS_OK)
        return status;
    for (int32_t i = 0; i < cache->group_count; i++) {
        struct group *group = &cache->groups[i];
        for (int32_t j = bb_kv_pages(length); j < cache->pages_per_sequence; j++)
            drop_page(group, &group->tables[sequence][j]);
        if (length == 0)
            group->first_pages[sequence] = 0;
    }
    cache->lengths[sequence] = length;
    return BOMBUS_OK;
}

bombus_status bb_kv_cache_share(struct bb_kv_cache *cache, int32_t from, int32_t to, int32_t length, bombus_error *error)
{
    bombus_status status = check_whole(cache, from, length, error);
    if (status != BOMBUS_OK)
        return status;
    status = bb_kv_cache_truncate(cache, to, 0, error);
    int32_t whole = length / PAGE;
    for (int32_t i = 0; i < cache->group_count && status == BOMBUS_OK; i++) {
        struct group *group = &cache->groups[i];
        const int32_t *source = group->tables[from];
        int32_t *table = group->tables[to];
        for (int32_t j = 0; j < whole; j++)
            if ((table[j] = source[j]) >= 0)
                group->counts[table[j]]++;
        group->first_pages[to] = group->first_pages[from];
        if (length % PAGE == 0)
            continue;
        if (group->free_count == 0) {
            status = bb_fail(error, BOMBUS_ERROR_CONTEXT_FULL, "the key-value cache is full: no page is free");
        } else {
            table[whole] = take_page(group);
            status = copy_page(cache, group, source[whole], table[whole], error);
        }
    }
    cache->lengths[to] = length;
    if (status != BOMBUS_OK) {
        bombus_status undone = bb_kv_cache_truncate(cache, to, 0, NULL);
        (void)undone; /* to 0 always succeeds */
    }
    return status;
}

int32_t bb_kv_cache_group_count(const struct bb_kv_cache *cache)
{
    return cache->group_count;
}

size_t bb_kv_cache_page_bytes(const struct bb_recipe *recipe, enum bb_kv_type type, int32_t group_size)
{
    int32_t chosen = choose_group_size(type, group_size, recipe->head_dim);
    size_t bytes;
    if (chosen == 0 || !bb_multiply_size(bb_kv_page_bytes(type, chosen, PAGE, recipe->num_key_value_heads, recipe->head_dim),
                                             (size_t)recipe->num_hidden_layers, &bytes))
        return 0;
    return bytes;
}

void bb_kv_cache_retain(struct bb_kv_cache *cache, int32_t sequence, int32_t index, int32_t *page)
{
    for (int32_t i = 0; i < cache->group_count; i++) {
        page[i] = cache->groups[i].tables[sequence][index];
        cache->groups[i].counts[page[i]]++;
    }
}

void bb_kv_cache_release(struct bb_kv_cache *cache, const int32_t *page)
{
    for (int32_t i = 0; i < cache->group_count; i++)
        drop_page(&cache->groups[i], &(int32_t){ page[i] });
}

void bb_kv_cache_attach(struct bb_kv_cache *cache, int32_t sequence, int32_t index, const int32_t *page)
{
    for (int32_t i = 0; i < cache->group_count; i++) {
        struct group *group = &cache->groups[i];
        group->counts[page[i]]++;
        drop_page(group, &group->tables[sequence][index]);
        group->tables[sequence][index] = page[i];
    }
}

int32_t bb_kv_cache_missing(const struct bb_kv_cache *cache, int32_t sequence, int32_t count)
{
    int32_t length = cache->lengths[sequence], most = 0;
    for (int32_t i = 0; i < cache->group_count; i++) {
        int32_t missing = missing_pages(&cache->groups[i], sequence, length, length + count) - cache->groups[i].free_count;
        most = missing > most ? missing : most;
    }
    return most;
}

struct bb_kv_view bb_kv_cache_view(const struct bb_kv_cache *cache, int32_t layer)
{
    const struct group *group = &cache->groups[cache->layer_groups[layer]];
    return (struct bb_kv_view){ .type = cache->options.type,
                                .group_size = cache->group_size,
                                .page_size = PAGE,
                                .kv_heads = cache->kv_heads,
                                .head_dim = cache->head_dim,
                                .base = group->memory + (size_t)cache->layer_places[layer] * group->layer_bytes,
                                .page_stride = group->stride,
                                .page_tables = (const int32_t *const *)group->tables,
                                .window = group->window,
                                .keep = group->keep };
}

int32_t bb_kv_cache_fresh(struct bb_kv_cache *cache, const struct bb_batch *batch, struct bb_kv_view *fresh)
{
    int32_t pages = 0;
    if (!bb_kv_is_quantized(cache->options.type))
        return 0;
    memset(cache->fresh_tables, 0, (size_t)cache->options.sequence_count * sizeof *cache->fresh_tables);
    for (int32_t i = 0; i < batch->span_count; i++) {
        const struct bb_span *span = &batch->spans[i];
        if (span->first_position != 0 || span->row_count < 2)
            continue;
        cache->fresh_tables[span->sequence] = cache->fresh_pages + pages;
        pages += bb_kv_pages(span->row_count);
    }
    if (pages > 0)
        *fresh = (struct bb_kv_view){ .type = BB_KV_F32,
                                      .page_size = PAGE,
                                      .kv_heads = cache->kv_heads,
                                      .head_dim = cache->head_dim,
                                      .page_stride = bb_kv_page_bytes(BB_KV_F32, 0, PAGE, cache->kv_heads, cache->head_dim),
                                      .page_tables = (const int32_t *const *)cache->fresh_tables };
    return pages;
}

size_t bb_kv_cache_bytes(const struct bb_kv_cache *cache)
{
    size_t bytes = 0;
    for (int32_t i = 0; i < cache->group_count; i++)
        bytes += (size_t)(cache->groups[i].page_count - cache->groups[i].free_count) * cache->groups[i].stride;
    return bytes;
}

/* What is written: the length, then a group after the other: how many pages, and each with its index in the page table before its bytes. Numbers are
 * int32 in the machine's order. */
static void add_number(struct bb_buffer *bytes, int32_t number)
{
    bb_buffer_add(bytes, &number, sizeof number);
}

bombus_status bb_kv_cache_write(const struct bb_kv_cache *cache, int32_t sequence, struct bb_buffer *bytes, bombus_error *error)
{
    const struct bb_backend_table *table = cache->backend->table;
    int32_t length = cache->lengths[sequence], page_count = bb_kv_pages(length);
    add_number(bytes, length);
    for (int32_t i = 0; i < cache->group_count; i++) {
        const struct group *group = &cache->groups[i];
        const int32_t *pages = group->tables[sequence];
        int32_t held = 0;
        for (int32_t j = 0; j < page_count; j++)
            held += pages[j] >= 0;
        add_number(bytes, held);
        for (int32_t j = 0; j < page_count; j++) {
            if (pages[j] < 0)
                continue;
            add_number(bytes, j);
            if (!bb_buffer_reserve(bytes, group->stride))
                break;
            bombus_status status = table->download(cache->backend, bytes->data + bytes->length,
                                                   group->memory + (size_t)pages[j] * group->stride, group->stride, error);
            if (status != BOMBUS_OK)
                return status;
            bytes->length += group->stride;
        }
    }
    bb_buffer_add(bytes, "", 0);
    return bytes->is_failed ? bb_fail_memory(error, bb_kv_cache_bytes(cache), "the bytes of a key-value cache") : BOMBUS_OK;
}

struct source {
    const char *bytes;
    size_t left;
};

static bool read_number(struct source *source, int32_t *number)
{
    if (source->left < sizeof *number)
        return false;
    memcpy(number, source->bytes, sizeof *number);
    source->bytes += sizeof *number;
    source->left -= sizeof *number;
    return true;
}

static bombus_status read_page(struct bb_kv_cache *cache, struct group *group, int32_t *entry, struct source *source, bombus_error *error)
{
    if (group->free_count == 0)
        return bb_fail(error, BOMBUS_ERROR_CONTEXT_FULL, "the key-value cache is full: no page is free");
    *entry = take_page(group);
    bombus_status status = cache->backend->table->upload(cache->backend, group->memory + (size_t)*entry * group->stride, source->bytes,
                                                         group->stride, error);
    source->bytes += group->stride;
    source->left -= group->stride;
    return status;
}

/* Pages must come in order, and none may be missing that a row at `length` would see. */
static bombus_status read_group(struct bb_kv_cache *cache, struct group *group, int32_t sequence, int32_t length, struct source *source,
                                bombus_error *error)
{
    static const char damaged[] = "the bytes of a key-value cache are damaged";
    int32_t held, page, next = 0, first_needed = first_seen(group, length) / PAGE, first = 0, kept = kept_pages(group);
    int32_t *table = group->tables[sequence];
    if (!read_number(source, &held) || held < 0 || held > bb_kv_pages(length))
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: a number of pages", damaged);
    for (int32_t i = 0; i < held; i++, next = page + 1) {
        if (!read_number(source, &page) || page < next || page >= bb_kv_pages(length) || source->left < group->stride)
            return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: page %d of %d", damaged, i + 1, held);
        bombus_status status = read_page(cache, group, &table[page], source, error);
        if (status != BOMBUS_OK)
            return status;
    }
    for (int32_t i = 0; i < bb_kv_pages(length); i++) {
        if (table[i] < 0 && (i < kept || i >= first_needed))
            return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: page %d is missing", damaged, i);
        if (table[i] < 0)
            first = i + 1;
    }
    group->first_pages[sequence] = first;
    return BOMBUS_OK;
}

bombus_status bb_kv_cache_read(struct bb_kv_cache *cache, int32_t sequence, const void *bytes, size_t size, bombus_error *error)
{
    struct source source = { bytes, size };
    int32_t length;
    bombus_status status = bb_kv_cache_truncate(cache, sequence, 0, error);
    if (status != BOMBUS_OK)
        return status;
    if (!read_number(&source, &length) || length < 0)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "the bytes of a key-value cache are damaged: length");
    if (length > cache->options.context_size)
        return bb_fail(error, BOMBUS_ERROR_CONTEXT_FULL, "%d positions do not fit into a context of %d", length, cache->options.context_size);
    for (int32_t i = 0; i < cache->group_count && status == BOMBUS_OK; i++)
        status = read_group(cache, &cache->groups[i], sequence, length, &source, error);
    if (status == BOMBUS_OK && source.left != 0)
        status = bb_fail(error, BOMBUS_ERROR_FORMAT, "the bytes of a key-value cache are damaged: %zu too many", source.left);
    cache->lengths[sequence] = status == BOMBUS_OK ? length : 0;
    if (status != BOMBUS_OK) {
        bombus_status undone = bb_kv_cache_truncate(cache, sequence, 0, NULL);
        (void)undone; /* to 0 always succeeds */
    }
    return status;
}
