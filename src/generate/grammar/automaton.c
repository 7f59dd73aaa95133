/* From trees of rules to states. First a graph with empty moves (Thompson's), then the states that bytes and jumps
 * lead to, each with all that its empty moves reach; what cannot lead to an end is taken out, so that whatever is
 * still alive can be completed. */
#include "generate/grammar/automaton.h"

#include "base/memory.h"

#include <string.h>

enum { MAX_STATES = 1 << 19, MAX_EDGES = 1 << 21, EXPANDED_PARTS = 64 };

enum move_kind { EMPTY, BYTE, CALL, LOOP };

struct move {
    enum move_kind kind;
    uint8_t low, high;
    uint32_t target;  /* of a call: where it returns */
    uint32_t subject; /* the rule, the loop */
    uint32_t next;    /* of the same place; 0: none */
};

struct graph {
    const struct bb_rules *rules;
    struct bb_automaton *automaton;
    struct move *moves; /* [0] is none */
    uint32_t *places;   /* first move of each place */
    uint32_t move_count, place_count;
    size_t move_capacity, place_capacity, loop_capacity, loop_end_capacity, edge_capacity, jump_capacity;
    uint32_t *starts, *ends; /* places of each rule */
    uint32_t *loop_ends;     /* places where loop bodies end */
    bool *nullable;          /* of each rule */
    uint32_t *numbers;       /* of places: their state + 1 */
    uint32_t *marks;         /* of places: the state whose reach was last there */
    uint32_t *stack, *order; /* of places */
    bombus_status status;
    bombus_error *error;
};

void bb_automaton_clear(struct bb_automaton *automaton)
{
    bb_release(automaton->states);
    bb_release(automaton->edges);
    bb_release(automaton->jumps);
    bb_release(automaton->loops);
    *automaton = (struct bb_automaton){0};
}

size_t bb_automaton_bytes(const struct bb_automaton *automaton)
{
    return automaton->state_count * sizeof *automaton->states + automaton->edge_count * sizeof *automaton->edges +
           automaton->jump_count * sizeof *automaton->jumps + automaton->loop_count * sizeof *automaton->loops;
}

static void fail_limit(struct graph *graph)
{
    if (graph->status == BOMBUS_OK)
        graph->status = bb_fail(graph->error, BOMBUS_ERROR_LIMIT,
                                "constraint: too large when compiled, expected at most %d states and %d edges",
                                MAX_STATES, MAX_EDGES);
}

/* Makes room for one more in an array; false if that is not to be had. */
static bool grow(struct graph *graph, void *array, uint32_t count, size_t *capacity, size_t size, uint32_t limit)
{
    if (graph->status == BOMBUS_OK && count >= limit)
        fail_limit(graph);
    else if (graph->status == BOMBUS_OK && !bb_grow(array, count, 1, capacity, size))
        graph->status = bb_fail_memory(graph->error, *capacity * size, "a constraint");
    return graph->status == BOMBUS_OK;
}

static uint32_t add_place(struct graph *graph)
{
    if (!grow(graph, &graph->places, graph->place_count, &graph->place_capacity, sizeof *graph->places, MAX_STATES))
        return 0;
    graph->places[graph->place_count] = 0;
    return graph->place_count++;
}

static void add_move(struct graph *graph, uint32_t from, struct move move)
{
    if (!grow(graph, &graph->moves, graph->move_count + 1, &graph->move_capacity, sizeof *graph->moves, MAX_EDGES))
        return;
    move.next = graph->places[from];
    graph->moves[++graph->move_count] = move;
    graph->places[from] = graph->move_count;
}

static void connect(struct graph *graph, uint32_t from, uint32_t to)
{
    add_move(graph, from, (struct move){.kind = EMPTY, .target = to});
}

static bool is_nullable(const struct graph *graph, uint32_t index)
{
    const struct bb_rule_node *node = &graph->rules->nodes[index];
    switch (node->kind) {
    case BB_RULE_BYTE: return false;
    case BB_RULE_CALL: return graph->nullable[node->first];
    case BB_RULE_REPEAT: return node->least == 0 || node->most == 0 || is_nullable(graph, node->first);
    default: break;
    }
    for (uint32_t child = node->first; child != 0; child = graph->rules->nodes[child].next)
        if (is_nullable(graph, child) == (node->kind == BB_RULE_CHOICE))
            return node->kind == BB_RULE_CHOICE;
    return node->kind == BB_RULE_SEQUENCE;
}

static void find_nullable(struct graph *graph)
{
    for (bool changes = true; changes;) {
        changes = false;
        for (uint32_t rule = 0; rule < graph->rules->rule_count; rule++)
            if (!graph->nullable[rule] && is_nullable(graph, graph->rules->bodies[rule]))
                graph->nullable[rule] = changes = true;
    }
}

/* Nodes of a tree, counted up to a bound. */
static uint32_t count_parts(const struct graph *graph, uint32_t index)
{
    uint32_t count = 1;
    const struct bb_rule_node *node = &graph->rules->nodes[index];
    if (node->kind != BB_RULE_BYTE && node->kind != BB_RULE_CALL)
        for (uint32_t child = node->first; child != 0 && count <= EXPANDED_PARTS;
             child = graph->rules->nodes[child].next)
            count += count_parts(graph, child);
    return node->kind == BB_RULE_REPEAT && node->most > 1 ? count * 4 : count;
}

static void lower(struct graph *graph, uint32_t index, uint32_t from, uint32_t to);

static void lower_loop(struct graph *graph, const struct bb_rule_node *node, uint32_t from, uint32_t to)
{
    struct bb_automaton *automaton = graph->automaton;
    uint32_t body = add_place(graph), end = add_place(graph);
    if (!grow(graph, &automaton->loops, automaton->loop_count, &graph->loop_capacity, sizeof *automaton->loops,
              MAX_STATES) ||
        !grow(graph, &graph->loop_ends, automaton->loop_count, &graph->loop_end_capacity, sizeof *graph->loop_ends,
              MAX_STATES))
        return;
    uint32_t loop = automaton->loop_count++;
    graph->loop_ends[loop] = end;
    automaton->loops[loop] =
        (struct bb_automaton_loop){.body = body, .exit = to, .least = node->least, .most = node->most};
    add_move(graph, from, (struct move){.kind = LOOP, .target = to, .subject = loop});
    if (node->least == 0)
        connect(graph, from, to);
    lower(graph, node->first, body, end);
}

static void lower_star(struct graph *graph, uint32_t child, uint32_t from, uint32_t to)
{
    uint32_t middle = add_place(graph);
    connect(graph, from, middle);
    lower(graph, child, middle, middle);
    connect(graph, middle, to);
}

/* Few copies of a small part are written out, others counted: the count of a loop stands on the stack. A loop's body
 * is never empty (it would go round without a byte), so a part that may be empty is always written out: as x{0,n},
 * which is the same. */
static void lower_repeat(struct graph *graph, const struct bb_rule_node *node, uint32_t from, uint32_t to)
{
    bool is_empty = is_nullable(graph, node->first), is_open = node->most == BB_UNLIMITED;
    uint32_t least = is_empty ? 0 : node->least, copies = is_open ? least : node->most;
    if ((uint64_t)copies * count_parts(graph, node->first) > EXPANDED_PARTS && copies > 1 && !is_empty) {
        lower_loop(graph, node, from, to);
        return;
    }
    for (uint32_t i = 0; i < copies && graph->status == BOMBUS_OK; i++) {
        uint32_t next = add_place(graph);
        if (i >= least)
            connect(graph, from, to);
        lower(graph, node->first, from, next);
        from = next;
    }
    if (is_open)
        lower_star(graph, node->first, from, to);
    else
        connect(graph, from, to);
}

static void lower(struct graph *graph, uint32_t index, uint32_t from, uint32_t to)
{
    const struct bb_rule_node *node = &graph->rules->nodes[index];
    if (graph->status != BOMBUS_OK)
        return;
    switch (node->kind) {
    case BB_RULE_BYTE:
        add_move(graph, from,
                 (struct move){.kind = BYTE, .low = (uint8_t)node->least, .high = (uint8_t)node->most, .target = to});
        break;
    case BB_RULE_CALL: add_move(graph, from, (struct move){.kind = CALL, .target = to, .subject = node->first}); break;
    case BB_RULE_REPEAT: lower_repeat(graph, node, from, to); break;
    case BB_RULE_CHOICE:
        for (uint32_t child = node->first; child != 0; child = graph->rules->nodes[child].next)
            lower(graph, child, from, to);
        break;
    case BB_RULE_SEQUENCE:
        for (uint32_t child = node->first; child != 0 && graph->status == BOMBUS_OK;
             child = graph->rules->nodes[child].next) {
            uint32_t next = add_place(graph);
            lower(graph, child, from, next);
            from = next;
        }
        connect(graph, from, to);
    }
}

/* ---- states ---- */

/* The state of a place; a new one is put in line. */
static uint32_t number_of(struct graph *graph, uint32_t place)
{
    struct bb_automaton *automaton = graph->automaton;
    if (graph->numbers[place] == 0) {
        graph->order[automaton->state_count++] = place;
        graph->numbers[place] = automaton->state_count;
    }
    return graph->numbers[place] - 1;
}

static void add_edge(struct graph *graph, const struct move *move)
{
    struct bb_automaton *automaton = graph->automaton;
    uint32_t target = number_of(graph, move->target);
    if (grow(graph, &automaton->edges, automaton->edge_count, &graph->edge_capacity, sizeof *automaton->edges,
             MAX_EDGES))
        automaton->edges[automaton->edge_count++] =
            (struct bb_automaton_edge){.low = move->low, .high = move->high, .target = target};
}

static void add_jump(struct graph *graph, const struct move *move)
{
    struct bb_automaton *automaton = graph->automaton;
    bool is_loop = move->kind == LOOP;
    uint32_t after = number_of(graph, move->target);
    uint32_t start = number_of(graph, is_loop ? automaton->loops[move->subject].body : graph->starts[move->subject]);
    if (grow(graph, &automaton->jumps, automaton->jump_count, &graph->jump_capacity, sizeof *automaton->jumps,
             MAX_EDGES))
        automaton->jumps[automaton->jump_count++] =
            (struct bb_automaton_jump){.start = start, .after = is_loop ? move->subject | BB_LOOP_FLAG : after};
}

/* All that a state's empty moves reach. */
static void gather(struct graph *graph, uint32_t state, const bool *is_end)
{
    struct bb_automaton *automaton = graph->automaton;
    struct bb_automaton_state gathered = {.edge_begin = automaton->edge_count, .jump_begin = automaton->jump_count};
    uint32_t depth = 0;
    graph->stack[depth++] = graph->order[state];
    graph->marks[graph->order[state]] = state + 1;
    while (depth > 0 && graph->status == BOMBUS_OK) {
        uint32_t place = graph->stack[--depth];
        gathered.accepts = gathered.accepts || is_end[place];
        for (uint32_t i = graph->places[place]; i != 0; i = graph->moves[i].next) {
            const struct move *move = &graph->moves[i];
            if (move->kind == BYTE) {
                add_edge(graph, move);
            } else if (move->kind != EMPTY) {
                add_jump(graph, move);
            } else if (graph->marks[move->target] != state + 1) {
                graph->marks[move->target] = state + 1;
                graph->stack[depth++] = move->target;
            }
        }
    }
    gathered.edge_end = automaton->edge_count;
    gathered.jump_end = automaton->jump_count;
    automaton->states[state] = gathered;
}

static void make_states(struct graph *graph)
{
    struct bb_automaton *automaton = graph->automaton;
    size_t places = graph->place_count;
    bool *is_end = bb_allocate(places, sizeof *is_end);
    graph->numbers = bb_allocate(places, sizeof *graph->numbers);
    graph->marks = bb_allocate(places, sizeof *graph->marks);
    graph->stack = bb_allocate(places, sizeof *graph->stack);
    graph->order = bb_allocate(places, sizeof *graph->order);
    automaton->states = bb_allocate(places, sizeof *automaton->states);
    if (is_end == NULL || graph->numbers == NULL || graph->marks == NULL || graph->stack == NULL ||
        graph->order == NULL || automaton->states == NULL) {
        graph->status = bb_fail_memory(graph->error, places * sizeof *automaton->states, "a constraint");
    } else {
        for (uint32_t rule = 0; rule < graph->rules->rule_count; rule++)
            is_end[graph->ends[rule]] = true;
        for (uint32_t loop = 0; loop < automaton->loop_count; loop++)
            is_end[graph->loop_ends[loop]] = true;
        automaton->root = number_of(graph, graph->starts[0]);
        for (uint32_t state = 0; state < automaton->state_count && graph->status == BOMBUS_OK; state++)
            gather(graph, state, is_end);
        for (uint32_t i = 0; i < automaton->loop_count && graph->status == BOMBUS_OK; i++) {
            struct bb_automaton_loop *loop = &automaton->loops[i]; /* one that nothing reaches has no states */
            loop->body = graph->numbers[loop->body] != 0 ? number_of(graph, loop->body) : automaton->root;
            loop->exit = graph->numbers[loop->exit] != 0 ? number_of(graph, loop->exit) : automaton->root;
        }
    }
    bb_release(is_end);
}

/* ---- what cannot end ---- */

/* Where a jump goes on after it returned. */
static uint32_t resumed(const struct bb_automaton *automaton, const struct bb_automaton_jump *jump)
{
    return (jump->after & BB_LOOP_FLAG) != 0 ? automaton->loops[jump->after & ~BB_LOOP_FLAG].exit : jump->after;
}

static bool can_end(const struct bb_automaton *automaton, const bool *ends, uint32_t state)
{
    const struct bb_automaton_state *s = &automaton->states[state];
    if (s->accepts)
        return true;
    for (uint32_t i = s->edge_begin; i < s->edge_end; i++)
        if (ends[automaton->edges[i].target])
            return true;
    for (uint32_t i = s->jump_begin; i < s->jump_end; i++)
        if (ends[automaton->jumps[i].start] && ends[resumed(automaton, &automaton->jumps[i])])
            return true;
    return false;
}

/* Takes the moves to states that cannot end out of a state. */
static void prune(struct bb_automaton *automaton, const bool *ends, struct bb_automaton_state *state)
{
    uint32_t kept = state->edge_begin;
    for (uint32_t i = state->edge_begin; i < state->edge_end; i++)
        if (ends[automaton->edges[i].target])
            automaton->edges[kept++] = automaton->edges[i];
    state->edge_end = kept;
    kept = state->jump_begin;
    for (uint32_t i = state->jump_begin; i < state->jump_end; i++)
        if (ends[automaton->jumps[i].start] && ends[resumed(automaton, &automaton->jumps[i])])
            automaton->jumps[kept++] = automaton->jumps[i];
    state->jump_end = kept;
    state->is_end = state->accepts && state->edge_begin == state->edge_end && state->jump_begin == state->jump_end;
}

static void prune_all(struct graph *graph)
{
    struct bb_automaton *automaton = graph->automaton;
    bool *ends = bb_allocate(automaton->state_count, sizeof *ends);
    if (ends == NULL) {
        graph->status = bb_fail_memory(graph->error, automaton->state_count, "a constraint");
        return;
    }
    for (bool changes = true; changes;) {
        changes = false;
        for (uint32_t i = automaton->state_count; i-- > 0;)
            if (!ends[i] && can_end(automaton, ends, i))
                ends[i] = changes = true;
    }
    for (uint32_t i = 0; i < automaton->state_count; i++)
        prune(automaton, ends, &automaton->states[i]);
    if (!ends[automaton->root])
        graph->status = bb_fail(graph->error, BOMBUS_ERROR_FORMAT, "constraint: no text can match it");
    bb_release(ends);
    /* A call in the last place leaves nothing on the stack: right recursion needs none. */
    for (uint32_t i = 0; i < automaton->jump_count; i++) {
        struct bb_automaton_jump *jump = &automaton->jumps[i];
        if ((jump->after & BB_LOOP_FLAG) == 0 && automaton->states[jump->after].is_end)
            jump->after = BB_NO_STATE;
    }
}

/* ---- left recursion ---- */

/* What is called before any byte, by what is called itself, must have no circle: those that nobody calls are taken
 * away until none is left. */
struct order {
    uint32_t *callers; /* of each state where calls begin: how many others call it so */
    uint32_t *marks;   /* of states: the last call whose walk was there */
    uint32_t *stack, *line;
    uint32_t count; /* in line */
    bool *is_start, *nullable;
};

/* Counts the calls that one beginning at `start` makes before any byte, or takes the counts back. */
static void count_calls(const struct bb_automaton *automaton, struct order *order, uint32_t start, uint32_t mark,
                        bool is_removal)
{
    uint32_t depth = 0;
    order->stack[depth++] = start;
    order->marks[start] = mark;
    while (depth > 0) {
        const struct bb_automaton_state *state = &automaton->states[order->stack[--depth]];
        for (uint32_t i = state->jump_begin; i < state->jump_end; i++) {
            const struct bb_automaton_jump *jump = &automaton->jumps[i];
            if (!is_removal)
                order->callers[jump->start]++;
            else if (--order->callers[jump->start] == 0)
                order->line[order->count++] = jump->start;
            if (!order->nullable[jump->start] || jump->after == BB_NO_STATE)
                continue;
            uint32_t next = resumed(automaton, jump);
            if (order->marks[next] != mark) {
                order->marks[next] = mark;
                order->stack[depth++] = next;
            }
        }
    }
}

static bool is_state_nullable(const struct bb_automaton *automaton, const bool *nullable, uint32_t state)
{
    const struct bb_automaton_state *s = &automaton->states[state];
    for (uint32_t i = s->jump_begin; i < s->jump_end; i++) {
        const struct bb_automaton_jump *jump = &automaton->jumps[i];
        if (nullable[jump->start] && (jump->after == BB_NO_STATE || nullable[resumed(automaton, jump)]))
            return true;
    }
    return s->accepts;
}

static void find_nullable_states(const struct bb_automaton *automaton, bool *nullable)
{
    for (bool changes = true; changes;) {
        changes = false;
        for (uint32_t i = automaton->state_count; i-- > 0;)
            if (!nullable[i] && is_state_nullable(automaton, nullable, i))
                nullable[i] = changes = true;
    }
}

static bool has_circle(const struct bb_automaton *automaton, struct order *order)
{
    uint32_t starts = 0, mark = 1;
    find_nullable_states(automaton, order->nullable);
    order->is_start[automaton->root] = true;
    for (uint32_t i = 0; i < automaton->state_count; i++)
        for (uint32_t j = automaton->states[i].jump_begin; j < automaton->states[i].jump_end; j++)
            order->is_start[automaton->jumps[j].start] = true;
    for (uint32_t i = 0; i < automaton->state_count; i++)
        if (order->is_start[i])
            count_calls(automaton, order, i, mark++, false);
    for (uint32_t i = 0; i < automaton->state_count; i++) {
        starts += order->is_start[i];
        if (order->is_start[i] && order->callers[i] == 0)
            order->line[order->count++] = i;
    }
    for (uint32_t i = 0; i < order->count; i++)
        count_calls(automaton, order, order->line[i], mark++, true);
    return order->count < starts;
}

static void check_recursion(struct graph *graph)
{
    const struct bb_automaton *automaton = graph->automaton;
    uint32_t count = automaton->state_count;
    struct order order = {.callers = bb_allocate(count, sizeof(uint32_t)),
                          .marks = bb_allocate(count, sizeof(uint32_t)),
                          .stack = bb_allocate(count, sizeof(uint32_t)),
                          .line = bb_allocate(count, sizeof(uint32_t)),
                          .is_start = bb_allocate(count, sizeof(bool)),
                          .nullable = bb_allocate(count, sizeof(bool))};
    if (order.callers == NULL || order.marks == NULL || order.stack == NULL || order.line == NULL ||
        order.is_start == NULL || order.nullable == NULL)
        graph->status = bb_fail_memory(graph->error, count * sizeof(uint32_t), "a constraint");
    else if (has_circle(automaton, &order))
        graph->status = bb_fail(graph->error, BOMBUS_ERROR_UNSUPPORTED,
                                "constraint: a rule begins with itself (left recursion); write it as a repetition");
    bb_release(order.callers);
    bb_release(order.marks);
    bb_release(order.stack);
    bb_release(order.line);
    bb_release(order.is_start);
    bb_release(order.nullable);
}

/* Bytes are told apart where some range begins or ends, and at the space, which may be dropped at the beginning. */
static void find_classes(struct bb_automaton *automaton)
{
    bool begins[257] = {[0] = true, [' '] = true, [' ' + 1] = true};
    for (uint32_t i = 0; i < automaton->edge_count; i++)
        begins[automaton->edges[i].low] = begins[automaton->edges[i].high + 1] = true;
    for (uint32_t byte = 0; byte < 256; byte++) {
        automaton->class_count += begins[byte];
        automaton->classes[byte] = (uint8_t)(automaton->class_count - 1);
    }
}

bombus_status bb_automaton_create(struct bb_automaton *automaton, const struct bb_rules *rules, bombus_error *error)
{
    *automaton = (struct bb_automaton){0};
    if (rules->status != BOMBUS_OK)
        return rules->status;
    struct graph graph = {.rules = rules, .automaton = automaton, .error = error};
    uint32_t count = rules->rule_count;
    graph.starts = bb_allocate(count, sizeof *graph.starts);
    graph.ends = bb_allocate(count, sizeof *graph.ends);
    graph.nullable = bb_allocate(count, sizeof *graph.nullable);
    if (graph.starts == NULL || graph.ends == NULL || graph.nullable == NULL)
        graph.status = bb_fail_memory(error, count * sizeof *graph.starts, "a constraint");
    else
        find_nullable(&graph);
    for (uint32_t rule = 0; rule < count && graph.status == BOMBUS_OK; rule++) {
        graph.starts[rule] = add_place(&graph);
        graph.ends[rule] = add_place(&graph);
    }
    for (uint32_t rule = 0; rule < count && graph.status == BOMBUS_OK; rule++)
        lower(&graph, rules->bodies[rule], graph.starts[rule], graph.ends[rule]);
    if (graph.status == BOMBUS_OK)
        make_states(&graph);
    if (graph.status == BOMBUS_OK)
        prune_all(&graph);
    if (graph.status == BOMBUS_OK)
        check_recursion(&graph);
    if (graph.status == BOMBUS_OK)
        find_classes(automaton);
    bb_release(graph.moves);
    bb_release(graph.places);
    bb_release(graph.starts);
    bb_release(graph.ends);
    bb_release(graph.loop_ends);
    bb_release(graph.nullable);
    bb_release(graph.numbers);
    bb_release(graph.marks);
    bb_release(graph.stack);
    bb_release(graph.order);
    if (graph.status != BOMBUS_OK)
        bb_automaton_clear(automaton);
    return graph.status;
}
