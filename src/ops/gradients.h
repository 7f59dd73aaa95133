/* The way back over a tape. */
#ifndef BB_OPS_GRADIENTS_H
#define BB_OPS_GRADIENTS_H

#include "ops/tape.h"

/* Given the gradient of one of the tape's tensors (its last), in memory that the walk may overwrite: walks the records from the last to the first, adds the
 * gradients of trained parameters (tape->trained) to theirs, and gives the gradient of `input`: data NULL if none was wanted or came. Gradients are
 * allocated in the run's scratch memory, each at most once a tensor. The run's batch must still be at work (bb_run_begin) and its tape ended. A failure is
 * sticky in run->status. */
struct bb_tensor bb_gradients_walk(struct bb_run *run, struct bb_tape *tape, struct bb_tensor output, struct bb_tensor d_output, struct bb_tensor input);

#endif
