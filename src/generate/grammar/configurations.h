/* Where a text may stand in an automaton: sets of a state with a stack of what called it. Stacks share their frames. */
#ifndef BB_CONFIGURATIONS_H
#define BB_CONFIGURATIONS_H

#include "generate/grammar/automaton.h"

enum { BB_MAX_CONFIGURATIONS = 2048, BB_MAX_STACK = 1 << 14 };

struct bb_frame {
    uint32_t after; /* a state, or a loop (BB_LOOP_FLAG) with */
    uint32_t count; /* the rounds begun */
    uint32_t parent, depth;
    uint32_t sibling; /* in the bucket */
};

/* Equal stacks are the same frame. Frame 0 is the bottom. Zeroed struct = the bottom alone, once reserved. */
struct bb_frames {
    struct bb_frame *items;
    uint32_t count;
    size_t capacity;
    uint32_t buckets[256];
};

struct bb_configurations {
    struct bb_configuration {
        uint32_t state, frame;
    } * items;
    uint32_t count;
    size_t capacity;
    bool ends;            /* the bottom was left: what the automaton was asked for may be complete */
    bool is_first;        /* the beginning of a text whose first space is dropped */
    bombus_status status; /* MEMORY, LIMIT: sticky until reset */
};

/* What moves configurations about. */
struct bb_mover {
    const struct bb_automaton *automaton;
    struct bb_frames frames;
    uint64_t work; /* configurations made, for bounds */
};

BB_RESULT bool bb_frames_reset(struct bb_frames *frames); /* keeps memory; false if there is none */
/* Puts a frame at a place that there is room for. */
void bb_frames_place(struct bb_frames *frames, uint32_t place, struct bb_frame frame);
void bb_frames_clear(struct bb_frames *frames);
void bb_configurations_reset(struct bb_configurations *set);
void bb_configurations_clear(struct bb_configurations *set);

/* Adds a configuration; a state where nothing but the end is left is left at once. */
void bb_mover_land(struct bb_mover *mover, struct bb_configurations *set, uint32_t state, uint32_t frame);
/* Adds what follows when the caller of `frame` goes on. */
void bb_mover_return(struct bb_mover *mover, struct bb_configurations *set, uint32_t frame);
/* The same for a frame by value. */
void bb_mover_leave(struct bb_mover *mover, struct bb_configurations *set, struct bb_frame top);
/* Adds all that is reached without a byte. */
void bb_mover_close(struct bb_mover *mover, struct bb_configurations *set);
/* The configurations after a byte; `from` is closed, `to` is not. */
void bb_mover_step(struct bb_mover *mover, const struct bb_configurations *from, uint8_t byte,
                   struct bb_configurations *to);

#endif
