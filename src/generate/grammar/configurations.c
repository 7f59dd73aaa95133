/* Moves of configurations. */
#include "generate/grammar/configurations.h"

#include "base/memory.h"

#include <string.h>

bool bb_frames_reset(struct bb_frames *frames)
{
    if (!bb_grow(&frames->items, 0, 1, &frames->capacity, sizeof *frames->items))
        return false;
    frames->items[0] = (struct bb_frame){0};
    memset(frames->buckets, 0, sizeof frames->buckets);
    frames->count = 1;
    return true;
}

void bb_frames_clear(struct bb_frames *frames)
{
    bb_release(frames->items);
    *frames = (struct bb_frames){0};
}

void bb_configurations_reset(struct bb_configurations *set)
{
    set->count = 0;
    set->ends = set->is_first = false;
    set->status = BOMBUS_OK;
}

void bb_configurations_clear(struct bb_configurations *set)
{
    bb_release(set->items);
    *set = (struct bb_configurations){0};
}

static uint32_t bucket_of(const struct bb_frame *frame)
{
    return (frame->after * 0x9E3779B1u ^ frame->count * 0x85EBCA77u ^ frame->parent * 0xC2B2AE3Du) >> 24;
}

void bb_frames_place(struct bb_frames *frames, uint32_t place, struct bb_frame frame)
{
    uint32_t bucket = bucket_of(&frame);
    frame.sibling = frames->buckets[bucket];
    frames->items[place] = frame;
    frames->buckets[bucket] = place;
}

/* The frame; 0 with a status in the set if there is none to be had. */
static uint32_t push(struct bb_mover *mover, struct bb_configurations *set, uint32_t after, uint32_t count,
                     uint32_t parent)
{
    struct bb_frames *frames = &mover->frames;
    struct bb_frame frame = {.after = after, .count = count, .parent = parent};
    for (uint32_t i = frames->buckets[bucket_of(&frame)]; i != 0; i = frames->items[i].sibling)
        if (frames->items[i].after == after && frames->items[i].count == count && frames->items[i].parent == parent)
            return i;
    frame.depth = parent == 0 ? 1 : frames->items[parent].depth + 1;
    if (frame.depth > BB_MAX_STACK) {
        set->status = BOMBUS_ERROR_LIMIT;
        return 0;
    }
    if (!bb_grow(&frames->items, frames->count, 1, &frames->capacity, sizeof *frames->items)) {
        set->status = BOMBUS_ERROR_MEMORY;
        return 0;
    }
    bb_frames_place(frames, frames->count, frame);
    return frames->count++;
}

static void add(struct bb_mover *mover, struct bb_configurations *set, uint32_t state, uint32_t frame)
{
    mover->work += 1 + set->count / 16;
    for (uint32_t i = 0; i < set->count; i++)
        if (set->items[i].state == state && set->items[i].frame == frame)
            return;
    if (set->count >= BB_MAX_CONFIGURATIONS) {
        set->status = BOMBUS_ERROR_LIMIT;
        return;
    }
    if (!bb_grow(&set->items, set->count, 1, &set->capacity, sizeof *set->items)) {
        set->status = BOMBUS_ERROR_MEMORY;
        return;
    }
    set->items[set->count++] = (struct bb_configuration){state, frame};
}

/* Begins round `count` of a loop. */
static void begin_round(struct bb_mover *mover, struct bb_configurations *set, uint32_t loop, uint32_t count,
                        uint32_t parent)
{
    uint32_t frame = push(mover, set, loop | BB_LOOP_FLAG, count, parent);
    if (set->status == BOMBUS_OK)
        bb_mover_land(mover, set, mover->automaton->loops[loop].body, frame);
}

void bb_mover_leave(struct bb_mover *mover, struct bb_configurations *set, struct bb_frame top)
{
    /* What a frame leads to may be an end again: the way down is walked here, not by recursion. */
    while (set->status == BOMBUS_OK) {
        uint32_t after = top.after;
        if ((after & BB_LOOP_FLAG) != 0) {
            const struct bb_automaton_loop *loop = &mover->automaton->loops[after & ~BB_LOOP_FLAG];
            /* Of a loop without bound only that it has enough rounds matters. */
            uint32_t next = loop->most == BB_UNLIMITED && top.count >= loop->least ? top.count : top.count + 1;
            if (top.count < loop->most)
                begin_round(mover, set, after & ~BB_LOOP_FLAG, next, top.parent);
            if (top.count < loop->least)
                return;
            after = loop->exit;
        }
        if (!mover->automaton->states[after].is_end) {
            add(mover, set, after, top.parent);
            return;
        }
        if (top.parent == 0) {
            set->ends = true;
            return;
        }
        top = mover->frames.items[top.parent];
        mover->work++;
    }
}

void bb_mover_return(struct bb_mover *mover, struct bb_configurations *set, uint32_t frame)
{
    if (frame == 0)
        set->ends = true;
    else
        bb_mover_leave(mover, set, mover->frames.items[frame]);
}

void bb_mover_land(struct bb_mover *mover, struct bb_configurations *set, uint32_t state, uint32_t frame)
{
    if (mover->automaton->states[state].is_end)
        bb_mover_return(mover, set, frame);
    else
        add(mover, set, state, frame);
}

void bb_mover_close(struct bb_mover *mover, struct bb_configurations *set)
{
    const struct bb_automaton *automaton = mover->automaton;
    for (uint32_t i = 0; i < set->count && set->status == BOMBUS_OK; i++) {
        struct bb_configuration from = set->items[i];
        const struct bb_automaton_state *state = &automaton->states[from.state];
        for (uint32_t j = state->jump_begin; j < state->jump_end && set->status == BOMBUS_OK; j++) {
            const struct bb_automaton_jump *jump = &automaton->jumps[j];
            if (jump->after != BB_NO_STATE && (jump->after & BB_LOOP_FLAG) != 0) {
                begin_round(mover, set, jump->after & ~BB_LOOP_FLAG, 1, from.frame);
                continue;
            }
            uint32_t frame = jump->after == BB_NO_STATE ? from.frame : push(mover, set, jump->after, 0, from.frame);
            if (set->status == BOMBUS_OK)
                bb_mover_land(mover, set, jump->start, frame);
        }
        if (state->accepts)
            bb_mover_return(mover, set, from.frame);
    }
}

void bb_mover_step(struct bb_mover *mover, const struct bb_configurations *from, uint8_t byte,
                   struct bb_configurations *to)
{
    const struct bb_automaton *automaton = mover->automaton;
    bb_configurations_reset(to);
    if (from->is_first && byte == ' ') {
        bb_mover_land(mover, to, automaton->root, 0);
        return;
    }
    for (uint32_t i = 0; i < from->count && to->status == BOMBUS_OK; i++) {
        const struct bb_automaton_state *state = &automaton->states[from->items[i].state];
        for (uint32_t j = state->edge_begin; j < state->edge_end; j++)
            if (byte >= automaton->edges[j].low && byte <= automaton->edges[j].high)
                bb_mover_land(mover, to, automaton->edges[j].target, from->items[i].frame);
    }
}
