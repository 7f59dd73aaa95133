/* What a training will take in memory and time: told before its first step, and refused where it cannot fit. */
#ifndef BB_ESTIMATE_H
#define BB_ESTIMATE_H

#include "train/trainer_parts.h"

/* Sets trainer->expected_rows, makes room for such a batch, and compares what all of it takes with the caller's limit; a failure says
 * what to reduce. */
BB_RESULT bombus_status bb_estimate_room(struct bb_trainer *trainer, bombus_error *error);

/* Measures a warm-up step and tells the caller (BOMBUS_TRAIN_ESTIMATE). State, parameters and gradients are as before. */
BB_RESULT bombus_status bb_estimate_run(struct bb_trainer *trainer, bombus_error *error);

#endif
