/* What all files of a trainer do with it. */
#include "train/trainer_parts.h"

#include "train/process_group.h"

void bb_trainer_cancel(struct bb_trainer *trainer)
{
    atomic_store_explicit(&trainer->is_cancelled, true,
                          memory_order_relaxed); /* a flag alone; nothing is handed over by it */
}

bool bb_trainer_is_cancelled(const struct bb_trainer *trainer)
{
    return atomic_load_explicit(&trainer->is_cancelled, memory_order_relaxed);
}

void bb_trainer_tell(struct bb_trainer *trainer, const bombus_train_event *event)
{
    const bombus_train_options *options = &trainer->options;
    if (options->callback != NULL && bb_process_rank(options->process_group) == 0 &&
        !options->callback(options->context, event))
        bb_trainer_cancel(trainer);
}

struct bb_sample_options bb_trainer_sample_options(const struct bb_trainer *trainer)
{
    return (struct bb_sample_options){.prompt = trainer->sample_prompt,
                                      .count = trainer->sample_prompt_count,
                                      .max_tokens = trainer->options.sample_tokens,
                                      .is_cancelled = &trainer->is_cancelled,
                                      .is_exact = trainer->objective.backward_options.is_exact};
}
