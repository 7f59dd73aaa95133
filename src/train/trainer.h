/* The loop of a training: batches, updates, evaluations, files, and what the caller hears of it.
 *
 * An iteration is one micro-batch, as in mlx-lm; every grad_accumulation_steps of them there is an update. Everything that an iteration
 * depends on is in bb_train_state and the arrays saved with it, so that a run which goes on from a file ends in the same bits. */
#ifndef BB_TRAINER_H
#define BB_TRAINER_H

#include "train/trainer_parts.h"

/* See bombus_trainer_create and so on. */
BB_RESULT bombus_status bb_trainer_create(struct bb_trainer **trainer, const struct bb_train_inputs *inputs,
                                          const bombus_train_options *options, bombus_error *error);
void bb_trainer_free(struct bb_trainer *trainer); /* NULL is allowed */
BB_RESULT bombus_status bb_trainer_run(struct bb_trainer *trainer, bombus_train_result *result, bombus_error *error);

#endif
