/* The options of training, named as in mlx_lm, and their way into bombus_train_options. */
#ifndef CLI_TRAIN_OPTIONS_H
#define CLI_TRAIN_OPTIONS_H

#include "cli/options.h"

#include "bombus.h"

/* Words of choices, in the order of bombus.h's constants. */
#define TRAIN_FINE_TUNES "lora|dora|full"
#define TRAIN_MODES "sft|dpo|orpo"
#define TRAIN_DPO_LOSSES "sigmoid|ipo|hinge"
#define TRAIN_OPTIMIZERS "adam|adamw|sgd|muon"

struct train_settings {
    const char *config, *data, *adapter_path, *resume_adapter_file;
    bool resume, force, test;
    const char *fine_tune_type, *train_mode, *optimizer, *dpo_loss;
    int64_t num_layers, rank;
    double scale, dropout;
    bool rslora;
    struct option_list keys;
    int64_t iters, batch_size, grad_accumulation_steps;
    double learning_rate, max_grad_norm, neftune_alpha, beta, label_smoothing;
    bool bias_correction;
    int64_t max_seq_length, seed;
    bool mask_prompt, mask_history, mlx_compatible_loss, no_shuffle, packing, grad_checkpoint, keep_activations;
    int64_t steps_per_report, steps_per_eval, save_every, val_batches, test_batches, patience;
    double min_delta;
};
extern const struct option train_data_options[8], train_adapter_options[10], train_step_options[16],
    train_loss_options[8];

/* Options of the file of --config where there is one, else the defaults, and what was given on the command line over them. *config: closed by
 * the caller after training; NULL where none was given. `keys` is room for OPTION_LIST_LIMIT texts that live as long as the options. */
bombus_status train_options_read(bombus_train_options *options, bombus_train_config **config,
                                 const struct train_settings *settings, const char **keys, bombus_error *error);

#endif
