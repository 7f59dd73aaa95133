/* One step after another over whatever requests run.
 *
 * Memory. What a request may need at most is set aside when it begins: its `pages`, of which those that it shares with the tree are taken off. The
 * pages set aside and the busy ones of the tree are never more than the cache has, and all others can be evicted; so a page is there when it is
 * wanted.
 *
 * The same tokens whatever runs beside. A row's logits do not depend on the other rows, nor on how a prompt is cut; but a quantized cache shows the
 * first chunk of a prompt its own keys and values unrounded (model/kv_cache.h), so there that chunk is always one page, or the prompt but its last
 * token where that is less, and only pages behind or of a whole first page are shared. */
#include "generate/runner.h"

#include "base/clock.h"
#include "base/memory.h"

#include <string.h>

enum { PAGE = BB_KV_PAGE_SIZE };

struct bb_runner {
    const struct bb_model *model;
    struct bb_runner_options options;
    bb_runner_end end;
    void *context;
    struct bb_run run;
    struct bb_kv_cache *cache;
    struct bb_prefix_tree *tree;
    size_t page_bytes;
    struct bb_request **slots;                 /* [max_batch]: the request of each sequence of the cache, or NULL */
    int32_t *rows;                             /* [max_batch]: its rows in this step */
    int32_t *outputs;                          /* [max_batch]: its row among the logits, -1: none */
    int32_t *tokens, *positions, *output_rows; /* [max_batch + chunk_size] */
    struct bb_span *spans;                     /* [max_batch] */
    int32_t pages_aside;
    int32_t turn; /* whose prompt is first in this step */
    struct bb_runner_counts counts;
};

static bool is_quantized(const struct bb_runner *runner)
{
    return bb_kv_is_quantized(runner->options.kv_type);
}

/* ---- creation ---- */

/* Memory for the largest step, every sequence of which takes an adapter. Spans begin at position 0, which is where a quantized cache needs memory of its
 * own. */
static bombus_status reserve(struct bb_runner *runner, bombus_error *error)
{
    static const struct bb_adapter_use no_pairs;
    static const struct bb_adapter_set adapters = {.uses = &no_pairs, .count = 1};
    int32_t spans = runner->options.max_batch, rows = spans + runner->options.chunk_size, row = 0;
    for (int32_t i = 0; i < spans; i++) {
        int32_t left = rows - row, count = i == spans - 1 ? left : left / (spans - i) > 1 ? 2 : 1;
        runner->spans[i] = (struct bb_span){.first_row = row, .row_count = count, .sequence = i, .adapters = &adapters};
        runner->output_rows[i] = row + count - 1;
        for (int32_t j = 0; j < count; j++)
            runner->positions[row + j] = j;
        row += count;
    }
    memset(runner->tokens, 0, (size_t)rows * sizeof *runner->tokens);
    struct bb_batch batch = {.row_count = rows,
                             .tokens = runner->tokens,
                             .positions = runner->positions,
                             .span_count = spans,
                             .spans = runner->spans,
                             .output_count = spans,
                             .output_rows = runner->output_rows};
    return bb_decoder_reserve(&runner->run, runner->model, runner->cache, &batch, error);
}

static bombus_status create_rows(struct bb_runner *runner, bombus_error *error)
{
    size_t spans = (size_t)runner->options.max_batch, rows = spans + (size_t)runner->options.chunk_size;
    runner->slots = bb_allocate(spans, sizeof(struct bb_request *));
    runner->rows = bb_allocate(spans, sizeof *runner->rows);
    runner->outputs = bb_allocate(spans, sizeof *runner->outputs);
    runner->spans = bb_allocate(spans, sizeof *runner->spans);
    runner->tokens = bb_allocate(rows, sizeof *runner->tokens);
    runner->positions = bb_allocate(rows, sizeof *runner->positions);
    runner->output_rows = bb_allocate(rows, sizeof *runner->output_rows);
    if (runner->slots == NULL || runner->rows == NULL || runner->outputs == NULL || runner->spans == NULL ||
        runner->tokens == NULL || runner->positions == NULL || runner->output_rows == NULL)
        return bb_fail_memory(error, rows * 3 * sizeof *runner->tokens, "the rows of an engine");
    return BOMBUS_OK;
}

bombus_status bb_runner_create(struct bb_runner **runner, const struct bb_model *model, struct bb_backend *backend,
                               const struct bb_runner_options *options, bb_runner_end end, void *context,
                               bombus_error *error)
{
    struct bb_runner *made = bb_allocate(1, sizeof *made);
    *runner = NULL;
    if (made == NULL)
        return bb_fail_memory(error, sizeof *made, "an engine");
    made->model = model;
    made->options = *options;
    made->end = end;
    made->context = context;
    made->page_bytes = bb_kv_cache_page_bytes(&model->recipe, options->kv_type, options->kv_group_size);
    bb_run_init(&made->run, backend, options->is_exact);
    struct bb_kv_cache_options cache_options = {.type = options->kv_type,
                                                .group_size = options->kv_group_size,
                                                .sequence_count = options->max_batch,
                                                .context_size = options->context_size,
                                                .page_limit = (size_t)options->page_limit};
    bombus_status status = bb_kv_cache_create(&made->cache, &model->recipe, backend, &cache_options, error);
    if (status == BOMBUS_OK)
        status = bb_prefix_tree_create(&made->tree, made->cache, error);
    if (status == BOMBUS_OK)
        status = create_rows(made, error);
    if (status == BOMBUS_OK)
        status = reserve(made, error);
    if (status == BOMBUS_OK)
        *runner = made;
    else
        bb_runner_free(made);
    return status;
}

void bb_runner_free(struct bb_runner *runner)
{
    if (runner == NULL)
        return;
    bb_prefix_tree_free(runner->tree);
    bb_kv_cache_free(runner->cache);
    bb_run_clear(&runner->run);
    bb_release(runner->slots);
    bb_release(runner->rows);
    bb_release(runner->outputs);
    bb_release(runner->spans);
    bb_release(runner->tokens);
    bb_release(runner->positions);
    bb_release(runner->output_rows);
    bb_release(runner);
}

/* ---- beginning and end of a request ---- */

static int32_t free_slot(const struct bb_runner *runner)
{
    int32_t slot = 0;
    while (slot < runner->options.max_batch && runner->slots[slot] != NULL)
        slot++;
    return slot;
}

static bool may_share(const struct bb_runner *runner, const struct bb_request *request)
{
    return runner->options.shares_prefixes && (!is_quantized(runner) || request->prompt_count > PAGE);
}

bool bb_runner_fits(const struct bb_runner *runner, const struct bb_request *request)
{
    if (free_slot(runner) == runner->options.max_batch)
        return false;
    int32_t idle = 0, shared = 0;
    if (may_share(runner, request))
        shared = bb_prefix_tree_match(runner->tree, bb_adapter_choice_fingerprint(request->adapters), request->timeline,
                                      (request->prompt_count - 1) / PAGE, &idle);
    int64_t taken = (int64_t)runner->pages_aside + bb_prefix_tree_busy(runner->tree) + idle;
    return taken + bb_request_page_limit(request) - shared <= runner->options.page_limit;
}

/* One page of those set aside for the request now belongs to the tree, where the request stands on it. */
static void descend(struct bb_runner *runner, struct bb_request *request, struct bb_prefix *child)
{
    bb_prefix_tree_descend(runner->tree, child);
    request->prefix = child;
    request->depth++;
    request->pages--;
    runner->pages_aside--;
}

/* Takes the next pages of its prompt from the tree, as far as they are there; the last token is always computed, for its logits. */
static void catch_up(struct bb_runner *runner, int32_t slot)
{
    struct bb_request *request = runner->slots[slot];
    while (request->shares && request->fed == request->depth * PAGE && request->prompt_count - request->fed > PAGE) {
        struct bb_prefix *child = bb_prefix_find(request->prefix, request->timeline + request->fed);
        if (child == NULL)
            return;
        bb_kv_cache_attach(runner->cache, slot, request->depth, bb_prefix_page(child));
        bb_kv_cache_advance(runner->cache, slot, PAGE);
        descend(runner, request, child);
        request->fed += PAGE;
        request->reused += PAGE;
        runner->counts.reused_tokens += PAGE;
    }
}

void bb_runner_add(struct bb_runner *runner, struct bb_request *request)
{
    int32_t slot = free_slot(runner);
    runner->slots[slot] = request;
    runner->rows[slot] = 0;
    request->began = bb_clock_seconds();
    request->pages = bb_request_page_limit(request);
    runner->pages_aside += request->pages;
    if (may_share(runner, request))
        request->prefix = bb_prefix_tree_enter(runner->tree, bb_adapter_choice_fingerprint(request->adapters));
    request->shares = request->prefix != NULL;
    catch_up(runner, slot);
}

static void end(struct bb_runner *runner, int32_t slot, const bombus_error *error)
{
    struct bb_request *request = runner->slots[slot];
    bombus_status emptied = bb_kv_cache_truncate(runner->cache, slot, 0, NULL); /* to 0 always succeeds */
    (void)emptied;
    if (request->prefix != NULL)
        bb_prefix_tree_leave(runner->tree, request->prefix);
    request->prefix = NULL;
    runner->pages_aside -= request->pages;
    runner->slots[slot] = NULL;
    runner->rows[slot] = 0;
    runner->end(runner->context, request, error);
}

static void end_as(struct bb_runner *runner, int32_t slot, bombus_finish_reason reason)
{
    runner->slots[slot]->completion.finish_reason = reason;
    end(runner, slot, NULL);
}

static bool is_cancelled(const struct bb_request *request)
{
    return atomic_load_explicit(&request->is_cancelled, memory_order_relaxed);
}

void bb_runner_end_unwanted(struct bb_runner *runner)
{
    double now = bb_clock_seconds();
    for (int32_t i = 0; i < runner->options.max_batch; i++) {
        if (runner->slots[i] != NULL && bb_request_is_unwanted(runner->slots[i], now))
            end(runner, i, NULL);
    }
}

/* ---- who gets rows ---- */

/* How many of `offered` rows a prompt takes: all that it needs, or up to the end of a page. */
static int32_t grant(const struct bb_runner *runner, const struct bb_request *request, int32_t offered)
{
    int32_t left = request->count - request->fed;
    if (is_quantized(runner) && request->fed == 0) {
        int32_t first = left > PAGE ? PAGE : left - 1;
        return offered >= first ? first : 0;
    }
    if (offered >= left)
        return left;
    int32_t taken = offered - (request->fed + offered) % PAGE;
    return taken > 0 ? taken : 0;
}

/* Does another prompt compute the same page in this step? Then waiting for it saves the work. */
static bool is_computed_elsewhere(const struct bb_runner *runner, int32_t slot)
{
    const struct bb_request *request = runner->slots[slot];
    int32_t begin = request->depth * PAGE;
    if (!request->shares || request->fed != begin || request->prompt_count - begin <= PAGE)
        return false;
    for (int32_t i = 0; i < runner->options.max_batch; i++) {
        const struct bb_request *other = runner->slots[i];
        if (other != NULL && i != slot && runner->rows[i] >= PAGE && other->shares &&
            other->prefix == request->prefix && other->fed == begin &&
            memcmp(other->timeline + begin, request->timeline + begin, PAGE * sizeof *request->timeline) == 0)
            return true;
    }
    return false;
}

/* Rows for one more look at every prompt, in turn; at most `share` for each. Returns what is left of the budget. */
static int32_t deal(struct bb_runner *runner, int32_t share, int32_t budget)
{
    for (int32_t i = 0; i < runner->options.max_batch; i++) {
        int32_t slot = (runner->turn + i) % runner->options.max_batch, given = runner->rows[slot];
        const struct bb_request *request = runner->slots[slot];
        if (request == NULL || request->count - request->fed == 1 ||
            (given == 0 && is_computed_elsewhere(runner, slot)))
            continue;
        runner->rows[slot] = grant(runner, request, given + (budget < share ? budget : share));
        budget -= runner->rows[slot] - given;
    }
    return budget;
}

/* Who has one token left to feed feeds it; prompts share the step's budget: each gets the same whole pages, the rest goes to who can use it. */
static void plan(struct bb_runner *runner)
{
    int32_t prompts = 0, budget = runner->options.chunk_size;
    for (int32_t i = 0; i < runner->options.max_batch; i++) {
        runner->rows[i] = 0;
        if (runner->slots[i] == NULL)
            continue;
        catch_up(runner, i);
        if (runner->slots[i]->count - runner->slots[i]->fed == 1)
            runner->rows[i] = 1;
        else
            prompts++;
    }
    if (prompts == 0)
        return;
    int32_t share = budget / prompts / PAGE * PAGE;
    budget = deal(runner, share > PAGE ? share : PAGE, budget);
    deal(runner, budget, budget);
    runner->turn = (runner->turn + 1) % runner->options.max_batch;
}

/* ---- a step ---- */

static bombus_status make_room(struct bb_runner *runner, int32_t slot, bombus_error *error)
{
    while (bb_kv_cache_missing(runner->cache, slot, runner->rows[slot]) > 0 && bb_prefix_tree_evict(runner->tree))
        runner->counts.evicted_bytes += runner->page_bytes;
    return bb_kv_cache_reserve(runner->cache, slot, runner->rows[slot], error);
}

/* Progress and pages of what has rows; who stops or fails is ended. */
static void prepare(struct bb_runner *runner)
{
    bombus_error error;
    for (int32_t i = 0; i < runner->options.max_batch; i++) {
        struct bb_request *request = runner->slots[i];
        if (request == NULL || runner->rows[i] == 0)
            continue;
        if (request->fed < request->prompt_count && request->progress != NULL &&
            !request->progress(request->progress_context, (size_t)request->fed, (size_t)request->prompt_count))
            end_as(runner, i, BOMBUS_FINISH_CANCELLED);
        else if (make_room(runner, i, &error) != BOMBUS_OK)
            end(runner, i, &error);
    }
}

static struct bb_batch lay_out(struct bb_runner *runner)
{
    struct bb_batch batch = {.tokens = runner->tokens,
                             .positions = runner->positions,
                             .spans = runner->spans,
                             .output_rows = runner->output_rows};
    for (int32_t i = 0; i < runner->options.max_batch; i++) {
        const struct bb_request *request = runner->slots[i];
        int32_t count = runner->rows[i];
        runner->outputs[i] = -1;
        if (count == 0)
            continue;
        runner->spans[batch.span_count++] = (struct bb_span){.first_row = batch.row_count,
                                                             .row_count = count,
                                                             .first_position = request->fed,
                                                             .sequence = i,
                                                             .adapters = bb_adapter_choice_set(request->adapters)};
        memcpy(runner->tokens + batch.row_count, request->timeline + request->fed,
               (size_t)count * sizeof *runner->tokens);
        for (int32_t j = 0; j < count; j++)
            runner->positions[batch.row_count + j] = request->fed + j;
        batch.row_count += count;
        if (request->fed + count == request->count) {
            runner->outputs[i] = batch.output_count;
            runner->output_rows[batch.output_count++] = batch.row_count - 1;
        }
    }
    if (batch.row_count > 0 && batch.output_count == 0) /* a step gives logits of one row at least */
        runner->output_rows[batch.output_count++] = batch.row_count - 1;
    return batch;
}

static void fail_step(struct bb_runner *runner)
{
    bombus_error error = runner->run.error;
    for (int32_t i = 0; i < runner->options.max_batch; i++)
        if (runner->rows[i] > 0)
            end(runner, i, &error);
}

/* Leaves the pages that are full with this step in the tree, before a window can drop them. Where the tree has one of the same tokens, that takes
 * the place of the request's own. */
static void leave_pages(struct bb_runner *runner, int32_t slot)
{
    struct bb_request *request = runner->slots[slot];
    while (request->shares && (request->depth + 1) * PAGE <= request->fed + runner->rows[slot]) {
        const int32_t *tokens = request->timeline + request->depth * PAGE;
        struct bb_prefix *child = bb_prefix_find(request->prefix, tokens);
        if (child != NULL)
            bb_kv_cache_attach(runner->cache, slot, request->depth, bb_prefix_page(child));
        else
            child = bb_prefix_tree_add(runner->tree, request->prefix, tokens, slot, request->depth);
        if (child != NULL)
            descend(runner, request, child);
        else
            request->shares = false; /* no memory: it goes on alone */
    }
}

/* The step was computed: what it wrote counts. */
static void settle(struct bb_runner *runner)
{
    for (int32_t i = 0; i < runner->options.max_batch; i++) {
        struct bb_request *request = runner->slots[i];
        int32_t count = runner->rows[i];
        if (count == 0)
            continue;
        leave_pages(runner, i);
        bb_kv_cache_advance(runner->cache, i, count);
        if (request->fed < request->prompt_count)
            runner->counts.prompt_tokens += (uint64_t)count;
        request->fed += count;
    }
}

/* Tokens from the logits. Callbacks run here, so a request may be cancelled by one before it. */
static void draw(struct bb_runner *runner, const float *logits)
{
    bombus_error error;
    for (int32_t i = 0; i < runner->options.max_batch; i++) {
        struct bb_request *request = runner->slots[i];
        if (runner->rows[i] == 0 || runner->outputs[i] < 0 || is_cancelled(request))
            continue;
        const float *row = logits + (size_t)runner->outputs[i] * (size_t)runner->model->recipe.vocab_size;
        bombus_status status = bb_request_draw(request, row, &error);
        runner->counts.generated_tokens += status == BOMBUS_OK;
        if (status != BOMBUS_OK)
            end(runner, i, &error);
        else if (request->completion.is_done)
            end(runner, i, NULL);
    }
}

void bb_runner_step(struct bb_runner *runner)
{
    bb_runner_end_unwanted(runner);
    plan(runner);
    prepare(runner);
    struct bb_batch batch = lay_out(runner);
    if (batch.row_count == 0)
        return;
    bb_run_reset(&runner->run);
    struct bb_tensor logits = bb_decoder_forward(&runner->run, runner->model, runner->cache, &batch);
    runner->counts.steps++;
    if (runner->run.status != BOMBUS_OK) {
        fail_step(runner);
        return;
    }
    settle(runner);
    draw(runner, logits.data);
}

struct bb_runner_counts bb_runner_count(const struct bb_runner *runner)
{
    struct bb_runner_counts counts = runner->counts;
    counts.used_bytes = bb_kv_cache_bytes(runner->cache);
    counts.kept_bytes = (uint64_t)bb_prefix_tree_count(runner->tree) * runner->page_bytes;
    return counts;
}
