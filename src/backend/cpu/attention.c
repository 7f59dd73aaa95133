/* Attention over the paged cache: writing keys and values, and the softmax-weighted sum of values.
 *
 * The work is cut into tiles of rows that share a key head: all query heads of the group, for as many tokens as fit
 * (one while generating, some dozens in a prompt). A tile goes over the cache by segments of 512 positions, each
 * with an online softmax of its own, merged in order. The cut into segments depends on positions alone, so that long
 * contexts can hand segments to different threads (flash decoding) and give the same bits. */
#include "backend/cpu/cpu.h"

#include "backend/cpu/kernels/kernel.h"
#include "quant/quant_mode.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum {
    SEGMENT = 512,         /* positions: a multiple of BB_ATTENTION_BLOCK */
    INLINE_WORK = 1 << 15, /* multiply-adds below which handing them out costs more than it brings */
    TILES_A_THREAD = 4     /* fewer, and segments become work of their own */
};

static int32_t min32(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static int32_t max32(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

/* ---- writing ---- */

static int32_t span_tile_count(const struct bb_span *span)
{
    return (span->first_position + span->row_count + BB_KV_TILE - 1) / BB_KV_TILE - span->first_position / BB_KV_TILE;
}

int32_t bb_cpu_row_tile_count(const struct bb_batch *batch)
{
    int32_t count = 0;
    for (int32_t i = 0; i < batch->span_count; i++)
        count += span_tile_count(&batch->spans[i]);
    return count;
}

struct bb_cpu_row_tile bb_cpu_row_tile(const struct bb_batch *batch, int32_t index)
{
    const struct bb_span *span = batch->spans;
    for (int32_t count; index >= (count = span_tile_count(span)); span++)
        index -= count;
    int32_t tile = span->first_position / BB_KV_TILE + index;
    int32_t begin = max32(tile * BB_KV_TILE, span->first_position);
    int32_t end = min32((tile + 1) * BB_KV_TILE, span->first_position + span->row_count);
    return (struct bb_cpu_row_tile){.first_row = span->first_row + begin - span->first_position,
                                    .row_count = end - begin,
                                    .first_position = begin,
                                    .sequence = span->sequence};
}

/* Where the parts of one key head begin in a page, for positions from `in_page` (a multiple of 16) on. */
struct page_parts {
    char *keys, *values; /* elements or codes */
    float *key_scales, *key_biases, *value_scales, *value_biases; /* NULL: not quantized */
};

static struct page_parts parts_of(const struct bb_kv_view *cache, int32_t page, int32_t head, int32_t in_page)
{
    size_t positions = (size_t)cache->kv_heads * (size_t)cache->page_size, dim = (size_t)cache->head_dim;
    size_t place = (size_t)head * (size_t)cache->page_size + (size_t)in_page;
    size_t padded = (dim + BB_KV_TILE - 1) / BB_KV_TILE * BB_KV_TILE;
    char *base = cache->base + (size_t)page * cache->page_stride;
    if (!bb_kv_is_quantized(cache->type)) {
        size_t size = (size_t)bb_kv_bits(cache->type) / 8;
        return (struct page_parts){.keys = base + place * dim * size,
                                   .values = base + (positions * dim + place * padded) * size};
    }
    size_t codes = dim * (size_t)bb_kv_bits(cache->type) / 8, groups = dim / (size_t)cache->group_size;
    size_t part = positions * groups;
    float *key_scales = (float *)(void *)(base + positions * codes);
    char *value_codes = (char *)(key_scales + 2 * part);
    float *value_scales = (float *)(void *)(value_codes + positions * codes);
    return (struct page_parts){.keys = base + place * codes,
                               .values = value_codes + place * codes,
                               .key_scales = key_scales + place * groups,
                               .key_biases = key_scales + part + place * groups,
                               .value_scales = value_scales + place * groups,
                               .value_biases = value_scales + part + place * groups};
}

static void write_f32(const struct bb_kv_view *cache, struct page_parts parts, int32_t slot, const float *k,
                      const float *v)
{
    int32_t dim = cache->head_dim, width = (dim + BB_KV_TILE - 1) / BB_KV_TILE * BB_KV_TILE;
    float *keys = (float *)(void *)parts.keys, *value = (float *)(void *)parts.values + slot * width;
    for (int32_t i = 0; i < dim; i++)
        keys[i * BB_KV_TILE + slot] = k[i];
    memcpy(value, v, (size_t)dim * sizeof(float));
    memset(value + dim, 0, (size_t)(width - dim) * sizeof(float));
}

static void write_f16(const struct bb_cpu *cpu, const struct bb_kv_view *cache, struct page_parts parts, int32_t slot,
                      const float *k, const float *v)
{
    int32_t dim = cache->head_dim, width = (dim + BB_KV_TILE - 1) / BB_KV_TILE * BB_KV_TILE;
    uint16_t *keys = (uint16_t *)(void *)parts.keys, *value = (uint16_t *)(void *)parts.values + slot * width;
    uint16_t halves[BB_KV_HEAD_DIM_LIMIT];
    cpu->kernels->attention.f32_to_f16(halves, k, dim);
    for (int32_t i = 0; i < dim; i++)
        keys[i * BB_KV_TILE + slot] = halves[i];
    cpu->kernels->attention.f32_to_f16(value, v, dim);
    memset(value + dim, 0, (size_t)(width - dim) * sizeof(uint16_t));
}

static void write_quantized(const struct bb_kv_view *cache, struct page_parts parts, int32_t slot, const float *k,
                            const float *v)
{
    uint8_t codes[BB_KV_HEAD_DIM_LIMIT];
    float scales[BB_KV_HEAD_DIM_LIMIT / BB_KV_TILE], biases[BB_KV_HEAD_DIM_LIMIT / BB_KV_TILE];
    int32_t bits = bb_kv_bits(cache->type), bytes = cache->head_dim * bits / 8,
            groups = cache->head_dim / cache->group_size;
    struct bb_scheme scheme = {.mode = BB_QUANT_AFFINE, .bits = bits, .group_size = cache->group_size};
    struct bb_packed_row row = {.codes = codes, .scales = scales, .biases = biases, .dtype = BB_F32};
    bb_quant_affine.pack_row(scheme, k, cache->head_dim, row);
    for (int32_t i = 0; i < bytes; i++)
        parts.keys[i * BB_KV_TILE + slot] = (char)codes[i];
    for (int32_t i = 0; i < groups; i++) {
        parts.key_scales[i * BB_KV_TILE + slot] = scales[i];
        parts.key_biases[i * BB_KV_TILE + slot] = biases[i];
    }
    row = (struct bb_packed_row){.codes = (uint8_t *)parts.values + slot * bytes,
                                 .scales = parts.value_scales + slot * groups,
                                 .biases = parts.value_biases + slot * groups,
                                 .dtype = BB_F32};
    bb_quant_affine.pack_row(scheme, v, cache->head_dim, row);
}

void bb_cpu_write_tile(const struct bb_cpu *cpu, const struct bb_kv_view *cache, const float *k, const float *v,
                       const struct bb_cpu_row_tile *tile, int32_t first_head, int32_t head_count)
{
    const struct bb_kv_view *other = bb_kv_view_of(cache, tile->sequence);
    if (other != cache)
        bb_cpu_write_tile(cpu, other, k, v, tile, first_head, head_count);
    int32_t page = cache->page_tables[tile->sequence][tile->first_position / cache->page_size];
    int32_t slot = tile->first_position % BB_KV_TILE, in_page = tile->first_position % cache->page_size - slot;
    if (page < 0)
        return; /* dropped: no later position sees it */
    for (int32_t head = first_head; head < first_head + head_count; head++) {
        struct page_parts parts = parts_of(cache, page, head, in_page);
        for (int32_t i = 0; i < tile->row_count; i++) {
            int64_t place = ((int64_t)(tile->first_row + i) * cache->kv_heads + head) * cache->head_dim;
            if (cache->type == BB_KV_F32)
                write_f32(cache, parts, slot + i, k + place, v + place);
            else if (cache->type == BB_KV_F16)
                write_f16(cpu, cache, parts, slot + i, k + place, v + place);
            else
                write_quantized(cache, parts, slot + i, k + place, v + place);
        }
    }
}

struct write_job {
    const struct bb_cpu *cpu;
    const struct bb_kv_view *cache;
    const struct bb_batch *batch;
    const float *k, *v;
};

static void write_chunk(void *context, int32_t chunk, int32_t worker)
{
    const struct write_job *job = context;
    struct bb_cpu_row_tile tile = bb_cpu_row_tile(job->batch, chunk);
    (void)worker;
    bb_cpu_write_tile(job->cpu, job->cache, job->k, job->v, &tile, 0, job->cache->kv_heads);
}

static bombus_status write_cache(struct bb_backend *backend, const struct bb_kv_view *cache, struct bb_tensor k,
                                 struct bb_tensor v, const struct bb_batch *batch, bombus_error *error)
{
    struct bb_cpu *cpu = (struct bb_cpu *)backend;
    struct write_job job = {.cpu = cpu, .cache = cache, .batch = batch, .k = k.data, .v = v.data};
    (void)error;
    bb_cpu_run(cpu, bb_cpu_row_tile_count(batch), write_chunk, &job);
    return BOMBUS_OK;
}

/* ---- reading ---- */

/* The softmax of some rows over some positions: maxima and sums [rows], outputs [rows, width], in one run of memory. */
struct partial {
    float *maxima, *sums, *outputs;
};

/* One call: how it is cut into tiles, and the scratch memory. */
struct attention_job {
    const struct bb_cpu *cpu;
    const struct bb_attention_shape *shape;
    const struct bb_kv_view *cache;
    const struct bb_batch *batch;
    const float *q;
    float *out;
    int32_t width;                     /* head_dim padded to 16 */
    int32_t group;                     /* query heads a key head */
    int32_t part_heads, parts;         /* query heads a tile; tiles of a group */
    int32_t tokens;                    /* of a span, a tile */
    int32_t rows;                      /* that partials have room for: a tile's, rounded up to 16 */
    int32_t tile_count, segment_count; /* segment_count > 1: chunks are (tile, segment), else tiles */
    int32_t next_tile;                 /* how many tiles on a thread's next one is, as a rule */
    float *worker_memory;              /* [threads, worker_floats] */
    size_t worker_floats, partial_floats;
    float *partials;        /* [tile_count, segment_count, partial_floats] */
    atomic_int *unfinished; /* [tile_count]: segments to come; who brings it to 0 merges */
};

/* A tile: some tokens of a span times some heads of a group. Row r is token r / heads, head first_head + r % heads. */
struct tile {
    int32_t index;
    const struct bb_span *span;
    int32_t first_token, token_count; /* of the span */
    int32_t kv_head, first_head, head_count;
    int32_t first_seen, last_seen; /* positions that any row sees, those below cache->keep apart */
};

static int32_t span_token_tiles(const struct attention_job *job, const struct bb_span *span)
{
    return (span->row_count + job->tokens - 1) / job->tokens;
}

static int32_t first_seen(const struct bb_kv_view *cache, int32_t position)
{
    return cache->window > 0 ? max32(0, position - cache->window + 1) : 0;
}

/* A span's tiles of one key head follow one another, so that its keys and values are met again while they are in the second cache. */
static struct tile find_tile(const struct attention_job *job, int32_t index)
{
    struct tile tile = {.index = index, .span = job->batch->spans};
    int32_t heads = job->cache->kv_heads * job->parts, count;
    for (; index >= (count = span_token_tiles(job, tile.span)) * heads; tile.span++)
        index -= count * heads;
    int32_t part = index / count % job->parts;
    tile.kv_head = index / count / job->parts;
    /* The last tokens see most: they come first, so that the short work fills up the end. */
    tile.first_token = (count - 1 - index % count) * job->tokens;
    tile.token_count = min32(job->tokens, tile.span->row_count - tile.first_token);
    tile.first_head = tile.kv_head * job->group + part * job->part_heads;
    tile.head_count = min32(job->part_heads, job->group - part * job->part_heads);
    tile.first_seen = first_seen(job->cache, tile.span->first_position + tile.first_token);
    tile.last_seen = tile.span->first_position + tile.first_token + tile.token_count - 1;
    return tile;
}

static struct partial partial_at(const struct attention_job *job, float *memory)
{
    return (struct partial){memory, memory + job->rows, memory + 2 * job->rows};
}

static void clear_partial(const struct attention_job *job, struct partial partial, int32_t row_count)
{
    for (int32_t row = 0; row < row_count; row++) {
        partial.maxima[row] = -INFINITY;
        partial.sums[row] = 0.0f;
    }
    memset(partial.outputs, 0, (size_t)row_count * (size_t)job->width * sizeof(float));
}

/* Adds the softmax over further positions. */
static void merge_partial(const struct attention_job *job, struct partial total, struct partial other,
                          int32_t row_count)
{
    for (int32_t row = 0; row < row_count; row++) {
        float *into = total.outputs + (int64_t)row * job->width;
        const float *from = other.outputs + (int64_t)row * job->width;
        if (other.maxima[row] == -INFINITY)
            continue;
        float largest = fmaxf(total.maxima[row], other.maxima[row]);
        float fading = expf(total.maxima[row] - largest), share = expf(other.maxima[row] - largest);
        total.maxima[row] = largest;
        total.sums[row] = total.sums[row] * fading + other.sums[row] * share;
        for (int32_t i = 0; i < job->width; i++)
            into[i] = into[i] * fading + from[i] * share;
    }
}

/* Divides by the sums, sinks included, and stores the tile's rows. */
static void finish_tile(const struct attention_job *job, const struct tile *tile, struct partial total)
{
    const struct bb_attention_shape *shape = job->shape;
    for (int32_t row = 0; row < tile->token_count * tile->head_count; row++) {
        int32_t token = tile->span->first_row + tile->first_token + row / tile->head_count;
        int32_t head = tile->first_head + row % tile->head_count;
        const float *from = total.outputs + (int64_t)row * job->width;
        float *into = job->out + ((int64_t)token * shape->heads + head) * shape->head_dim, share;
        float sum = total.sums[row], fading = 1.0f;
        if (shape->sinks != NULL) {
            float sink = bb_dtype_load(shape->sinks, shape->sinks_dtype, (size_t)head),
                  largest = fmaxf(sink, total.maxima[row]);
            fading = expf(total.maxima[row] - largest);
            sum = sum * fading + expf(sink - largest);
        }
        share = sum > 0.0f ? fading / sum : 0.0f;
        for (int32_t i = 0; i < shape->head_dim; i++)
            into[i] = from[i] * share;
    }
}

/* A worker's memory, cut: what a tile needs at work. */
struct workspace {
    float *queries, *scores, *keys, *values;
    int32_t *positions, *begins;
    struct partial local, total;
};

static size_t workspace_floats(const struct attention_job *job)
{
    size_t rows = BB_ATTENTION_ROWS, dim = (size_t)job->shape->head_dim, width = (size_t)job->width;
    size_t unpacked = job->cache->type == BB_KV_F32 ? 0 : BB_ATTENTION_BLOCK * (dim + width);
    return (rows * (dim + BB_ATTENTION_BLOCK + 2) + unpacked + 2 * job->partial_floats + 15) / 16 * 16;
}

static struct workspace workspace_of(const struct attention_job *job, int32_t worker)
{
    size_t rows = BB_ATTENTION_ROWS, dim = (size_t)job->shape->head_dim;
    float *memory = job->worker_memory + (size_t)worker * job->worker_floats;
    struct workspace space = {.scores = memory};
    space.queries = memory += rows * BB_ATTENTION_BLOCK;
    space.local = partial_at(job, memory += rows * dim);
    space.total = partial_at(job, memory += job->partial_floats);
    space.positions = (int32_t *)(void *)(memory += job->partial_floats);
    space.begins = space.positions + rows;
    space.keys = memory += 2 * rows;
    space.values = memory + BB_ATTENTION_BLOCK * dim;
    return space;
}

/* The tile as the kernel takes it: queries times scale, and what each row sees. */
static struct bb_attention_tile load_tile(const struct attention_job *job, const struct tile *tile,
                                          struct workspace *space)
{
    const struct bb_attention_shape *shape = job->shape;
    int32_t row_count = tile->token_count * tile->head_count;
    for (int32_t row = 0; row < row_count; row++) {
        int32_t token = tile->first_token + row / tile->head_count, head = tile->first_head + row % tile->head_count;
        const float *from = job->q + ((int64_t)(tile->span->first_row + token) * shape->heads + head) * shape->head_dim;
        float *into = space->queries + (int64_t)row * shape->head_dim;
        for (int32_t i = 0; i < shape->head_dim; i++)
            into[i] = from[i] * shape->scale;
        space->positions[row] = tile->span->first_position + token;
        space->begins[row] = first_seen(job->cache, space->positions[row]);
    }
    return (struct bb_attention_tile){.row_count = row_count,
                                      .head_dim = shape->head_dim,
                                      .width = job->width,
                                      .queries = space->queries,
                                      .positions = space->positions,
                                      .begins = space->begins,
                                      .keep = job->cache->keep,
                                      .softcap = shape->softcap,
                                      .scores = space->scores};
}

static struct bb_attention_entries keys_of(struct page_parts parts)
{
    return (struct bb_attention_entries){parts.keys, parts.key_scales, parts.key_biases};
}

static struct bb_attention_entries values_of(struct page_parts parts)
{
    return (struct bb_attention_entries){parts.values, parts.value_scales, parts.value_biases};
}

/* Keys and values of a block: where they lie, or for many rows as f32 in the workspace. */
static struct bb_attention_block load_block(const struct attention_job *job, const struct bb_kv_view *cache,
                                            struct page_parts parts, int32_t first, int32_t count, int32_t row_count,
                                            const struct workspace *space)
{
    const struct bb_attention_kernels *kernels = &job->cpu->kernels->attention;
    int32_t dim = cache->head_dim, tiles = (count + BB_KV_TILE - 1) / BB_KV_TILE;
    struct bb_attention_block block = {.first = first,
                                       .count = count,
                                       .type = cache->type,
                                       .group_size = cache->group_size,
                                       .keys = keys_of(parts),
                                       .values = values_of(parts)};
    if (cache->type == BB_KV_F32 || row_count <= BB_ATTENTION_DIRECT)
        return block;
    block.type = BB_KV_F32;
    block.keys = (struct bb_attention_entries){.data = space->keys};
    block.values = (struct bb_attention_entries){.data = space->values};
    if (cache->type == BB_KV_F16) {
        kernels->f16_to_f32(space->keys, (const uint16_t *)(const void *)parts.keys, (int64_t)tiles * BB_KV_TILE * dim);
        kernels->f16_to_f32(space->values, (const uint16_t *)(const void *)parts.values, (int64_t)count * job->width);
        return block;
    }
    int32_t bits = bb_kv_bits(cache->type), bytes = dim * bits / 8, groups = dim / cache->group_size;
    for (int32_t tile = 0; tile < tiles; tile++)
        kernels->unpack_keys(space->keys + tile * dim * BB_KV_TILE,
                             (const uint8_t *)parts.keys + tile * bytes * BB_KV_TILE,
                             parts.key_scales + tile * groups * BB_KV_TILE,
                             parts.key_biases + tile * groups * BB_KV_TILE, dim, cache->group_size, bits);
    for (int32_t i = 0; i < count; i++)
        kernels->unpack_values(space->values + i * job->width, (const uint8_t *)parts.values + i * bytes,
                               parts.value_scales + i * groups, parts.value_biases + i * groups, dim, cache->group_size,
                               bits);
    return block;
}

static bool is_seen(const struct attention_job *job, const struct tile *tile, int32_t begin, int32_t end)
{
    return begin <= tile->last_seen && (end > tile->first_seen || begin < job->cache->keep);
}

static struct bb_ahead piece(const void *begin, const void *end)
{
    return (struct bb_ahead){begin, (size_t)((const char *)end - (const char *)begin)};
}

/* The pieces of keys, or of values, between two places; how many. */
static int32_t pieces_between(struct bb_ahead *pieces, struct bb_attention_entries begin, struct bb_attention_entries end)
{
    pieces[0] = piece(begin.data, end.data);
    if (begin.scales == NULL)
        return 1;
    pieces[1] = piece(begin.scales, end.scales);
    pieces[2] = piece(begin.biases, end.biases);
    return BB_ATTENTION_PIECES;
}

/* Tells a block what this thread is to read next: the block at `first`, or behind the tile's last one the first of its next tile. */
static void look_ahead(const struct attention_job *job, const struct tile *tile, int32_t first, int32_t block_size, struct bb_attention_block *block)
{
    struct tile next = *tile;
    if (job->segment_count > 1 && first % SEGMENT == 0)
        return; /* of another thread */
    if (first > tile->last_seen) {
        if (tile->index + job->next_tile >= job->tile_count)
            return; /* none */
        next = find_tile(job, tile->index + job->next_tile);
        if (next.kv_head == tile->kv_head && next.span == tile->span)
            return; /* read before */
        first = next.first_seen / block_size * block_size;
    }
    const struct bb_kv_view *cache = bb_kv_view_of(job->cache, next.span->sequence);
    int32_t page = cache->page_tables[next.span->sequence][first / cache->page_size];
    if (page < 0)
        return;
    int32_t in_page = first % cache->page_size, count = min32(block_size, next.last_seen + 1 - first);
    struct page_parts parts = parts_of(cache, page, next.kv_head, in_page);
    struct page_parts end = parts_of(cache, page, next.kv_head, in_page + (count + BB_KV_TILE - 1) / BB_KV_TILE * BB_KV_TILE);
    block->next_count = pieces_between(block->next_keys, keys_of(parts), keys_of(end));
    pieces_between(block->next_values, values_of(parts), values_of(end));
}

/* The tile's softmax over the positions of one segment, into attention->maxima, sums and outputs. */
static void run_segment(const struct attention_job *job, const struct tile *tile,
                        const struct bb_attention_tile *attention, int32_t segment, const struct workspace *space)
{
    const struct bb_kv_view *cache = bb_kv_view_of(job->cache, tile->span->sequence);
    const int32_t *pages = cache->page_tables[tile->span->sequence];
    int32_t block = min32(BB_ATTENTION_BLOCK, cache->page_size),
            end = min32((segment + 1) * SEGMENT, tile->last_seen + 1);
    for (int32_t first = segment * SEGMENT; first < end; first += block) {
        int32_t page = pages[first / cache->page_size], count = min32(block, tile->last_seen + 1 - first);
        if (page < 0 || !is_seen(job, tile, first, first + block))
            continue;
        struct page_parts parts = parts_of(cache, page, tile->kv_head, first % cache->page_size);
        struct bb_attention_block loaded = load_block(job, cache, parts, first, count, attention->row_count, space);
        look_ahead(job, tile, first + block, block, &loaded);
        job->cpu->kernels->attention.attend(attention, &loaded);
    }
}

/* All segments of a tile in order. */
static void run_tile(const struct attention_job *job, int32_t index, int32_t worker)
{
    struct workspace space = workspace_of(job, worker);
    struct tile tile = find_tile(job, index);
    struct bb_attention_tile attention = load_tile(job, &tile, &space);
    attention.maxima = space.local.maxima;
    attention.sums = space.local.sums;
    attention.outputs = space.local.outputs;
    clear_partial(job, space.total, attention.row_count);
    for (int32_t segment = 0; segment <= tile.last_seen / SEGMENT; segment++) {
        if (!is_seen(job, &tile, segment * SEGMENT, (segment + 1) * SEGMENT))
            continue;
        clear_partial(job, space.local, attention.row_count);
        run_segment(job, &tile, &attention, segment, &space);
        merge_partial(job, space.total, space.local, attention.row_count);
    }
    finish_tile(job, &tile, space.total);
}

/* How many segments a tile of positions [first_seen, last_seen] sees, that of the kept positions included. */
static int32_t seen_segments(const struct bb_kv_view *cache, int32_t first_seen, int32_t last_seen)
{
    int32_t has_kept = cache->keep > 0 && first_seen >= SEGMENT;
    return has_kept + last_seen / SEGMENT - first_seen / SEGMENT + 1;
}

/* Number `index` of these segments; beyond the last: one that no row sees. */
static int32_t seen_segment(const struct bb_kv_view *cache, const struct tile *tile, int32_t index)
{
    int32_t has_kept = cache->keep > 0 && tile->first_seen >= SEGMENT;
    return has_kept != 0 && index == 0 ? 0 : tile->first_seen / SEGMENT + index - has_kept;
}

/* One of the segments that a tile sees; who ends the tile's last one merges them in order. */
static void run_tile_segment(const struct attention_job *job, int32_t tile_index, int32_t index, int32_t worker)
{
    struct workspace space = workspace_of(job, worker);
    struct tile tile = find_tile(job, tile_index);
    float *partials = job->partials + (size_t)tile_index * (size_t)job->segment_count * job->partial_floats;
    struct partial own = partial_at(job, partials + (size_t)index * job->partial_floats);
    struct bb_attention_tile attention = load_tile(job, &tile, &space);
    attention.maxima = own.maxima;
    attention.sums = own.sums;
    attention.outputs = own.outputs;
    clear_partial(job, own, attention.row_count);
    run_segment(job, &tile, &attention, seen_segment(job->cache, &tile, index), &space);
    /* Acquire and release pair with each other: the last one sees what the others wrote. */
    if (atomic_fetch_sub_explicit(&job->unfinished[tile_index], 1, memory_order_acq_rel) != 1)
        return;
    clear_partial(job, space.total, attention.row_count);
    for (int32_t i = 0; i < job->segment_count; i++)
        merge_partial(job, space.total, partial_at(job, partials + (size_t)i * job->partial_floats),
                      attention.row_count);
    finish_tile(job, &tile, space.total);
}

static void attention_chunk(void *context, int32_t chunk, int32_t worker)
{
    const struct attention_job *job = context;
    if (job->segment_count > 1)
        run_tile_segment(job, chunk / job->segment_count, chunk % job->segment_count, worker);
    else
        run_tile(job, chunk, worker);
}

/* Sizes, the cut into tiles and whether to cut these into segments; gives the number of multiply-adds, roughly. */
static double plan(struct attention_job *job, int32_t thread_count)
{
    const struct bb_attention_shape *shape = job->shape;
    int32_t most_segments = 1, most_tokens = 1;
    double work = 0.0;
    job->width = (shape->head_dim + BB_KV_TILE - 1) / BB_KV_TILE * BB_KV_TILE;
    job->group = shape->heads / shape->kv_heads;
    job->parts = (job->group + BB_ATTENTION_ROWS - 1) / BB_ATTENTION_ROWS;
    job->part_heads = (job->group + job->parts - 1) / job->parts;
    job->tokens = BB_ATTENTION_ROWS / job->part_heads;
    for (int32_t i = 0; i < job->batch->span_count; i++) {
        const struct bb_span *span = &job->batch->spans[i];
        int32_t first = first_seen(job->cache, span->first_position), last = span->first_position + span->row_count - 1;
        job->tile_count += span_token_tiles(job, span) * shape->kv_heads * job->parts;
        most_segments = max32(most_segments, seen_segments(job->cache, first, last));
        most_tokens = max32(most_tokens, min32(span->row_count, job->tokens));
        work += 2.0 * span->row_count * (last - first + 1 + job->cache->keep) * shape->heads * shape->head_dim;
    }
    job->segment_count = 1;
    if (thread_count > 1 && job->tile_count < TILES_A_THREAD * thread_count && work > INLINE_WORK)
        job->segment_count = most_segments;
    job->rows = (job->part_heads * most_tokens + 15) / 16 * 16;
    job->partial_floats = (size_t)job->rows * (2 + (size_t)job->width);
    job->worker_floats = workspace_floats(job);
    return work;
}

static bombus_status attention_locked(struct bb_cpu *cpu, struct attention_job *job, bombus_error *error)
{
    int32_t thread_count = bb_pool_thread_count(cpu->pool);
    double work = plan(job, thread_count);
    size_t tiles = (size_t)job->tile_count, workers = (size_t)thread_count * job->worker_floats;
    /* Room for more segments than there are: a growing sequence is to ask for memory seldom. */
    size_t room = 8;
    while (room < (size_t)job->segment_count)
        room *= 2;
    size_t partials = job->segment_count > 1 ? tiles * room * job->partial_floats : 0;
    job->worker_memory = bb_cpu_scratch(cpu, BB_SCRATCH_ATTENTION,
                                        (workers + partials) * sizeof(float) + tiles * sizeof(atomic_int), error);
    if (job->worker_memory == NULL)
        return BOMBUS_ERROR_MEMORY;
    job->partials = job->worker_memory + workers;
    job->unfinished = (atomic_int *)(void *)(job->partials + partials);
    for (size_t i = 0; i < tiles; i++)
        atomic_init(&job->unfinished[i], job->segment_count);
    if (work > INLINE_WORK) {
        job->next_tile = thread_count;
        bb_pool_run(cpu->pool, job->tile_count * job->segment_count, attention_chunk, job);
    } else {
        job->next_tile = 1;
        for (int32_t i = 0; i < job->tile_count; i++)
            attention_chunk(job, i, 0);
    }
    return BOMBUS_OK;
}

static bombus_status attention(struct bb_backend *backend, const struct bb_attention_shape *shape,
                               const struct bb_kv_view *cache, struct bb_tensor q, const struct bb_batch *batch,
                               struct bb_tensor out, bombus_error *error)
{
    struct bb_cpu *cpu = (struct bb_cpu *)backend;
    struct attention_job job = {
        .cpu = cpu, .shape = shape, .cache = cache, .batch = batch, .q = q.data, .out = out.data};
    bb_pool_lock(cpu->pool);
    bombus_status status = attention_locked(cpu, &job, error);
    bb_pool_unlock(cpu->pool);
    return status;
}

void bb_cpu_fill_attention(struct bb_backend_table *table)
{
    table->write_cache = write_cache;
    table->attention = attention;
}
