/* The settings of a training, as mlx_lm's YAML files (-c/--config) name them. */
#ifndef BB_TRAIN_CONFIG_H
#define BB_TRAIN_CONFIG_H

#include "base/error.h"
#include "base/memory.h"
#include "model/trainable.h"

enum bb_training_mode { BB_TRAINING_NORMAL, BB_TRAINING_DPO, BB_TRAINING_ORPO };
enum bb_optimizer_kind { BB_OPTIMIZER_ADAM, BB_OPTIMIZER_ADAMW, BB_OPTIMIZER_SGD, BB_OPTIMIZER_MUON };
enum { BB_OPTIMIZER_KINDS = 4, BB_SCHEDULE_PART_LIMIT = 16, BB_IGNORED_LIMIT = 8 };

/* What one optimizer takes; fields that it has not are 0. Defaults are mlx's. */
struct bb_optimizer_config {
    double betas[2], eps;  /* adam, adamw: 0.9, 0.999, 1e-8 */
    bool bias_correction;  /* adam, adamw: false in mlx */
    bool has_bias_correction; /* the file says which */
    double weight_decay;   /* adamw, muon: 0.01; sgd: 0 */
    double momentum;       /* sgd: 0; muon: 0.95 */
    double dampening;      /* sgd: 0 */
    bool nesterov;         /* sgd: false; muon: true */
    int32_t ns_steps;      /* muon: 5 */
};

enum bb_schedule_kind {
    BB_SCHEDULE_COSINE_DECAY,      /* init, decay_steps, end (0) */
    BB_SCHEDULE_LINEAR,            /* linear_schedule: init, end, steps */
    BB_SCHEDULE_EXPONENTIAL_DECAY, /* init, decay_rate */
    BB_SCHEDULE_STEP_DECAY         /* init, decay_rate, step_size */
};

struct bb_schedule_part {
    enum bb_schedule_kind kind;
    double arguments[3]; /* defaults filled in */
};

/* Part i holds until update boundaries[i], and the next begins there with its own step 0 (mlx's join_schedules). In front of all, a
 * linear warm-up from warmup_init to the first part's first argument over `warmup` updates, and the first part begins at update
 * warmup + 1 (boundaries count from there). part_count 0: no schedule, the learning rate stays. */
struct bb_schedule {
    int32_t part_count;
    struct bb_schedule_part parts[BB_SCHEDULE_PART_LIMIT];
    int64_t boundaries[BB_SCHEDULE_PART_LIMIT - 1]; /* [part_count - 1], ascending */
    int64_t warmup;                                 /* 0: none */
    double warmup_init;
};

struct bb_lora_config {
    int32_t rank;
    double scale, dropout;
    const char *const *keys; /* [key_count] slots, "self_attn.q_proj"; NULL: every linear layer of the blocks */
    size_t key_count;
};

/* Texts live in `arena`, until clear. Commentless names and defaults are those of mlx_lm's CONFIG_DEFAULTS. */
struct bb_train_config {
    const char *model; /* NULL where the file does not say */
    const char *data, *adapter_path, *resume_adapter_file; /* NULL, "adapters", NULL */
    bool train, test;
    enum bb_fine_tune fine_tune_type;
    enum bb_training_mode training_mode;
    enum bb_optimizer_kind optimizer;
    struct bb_optimizer_config optimizer_config[BB_OPTIMIZER_KINDS]; /* by kind */
    uint64_t seed;
    int32_t num_layers; /* 16; -1: all */
    int32_t batch_size, grad_accumulation_steps;
    int64_t iters, val_batches, test_batches; /* batches: -1: all */
    int64_t steps_per_report, steps_per_eval, save_every;
    int32_t max_seq_length;
    double learning_rate;
    struct bb_schedule lr_schedule;
    struct bb_lora_config lora_parameters;
    bool mask_prompt, grad_checkpoint;
    const char *text_feature, *prompt_feature, *completion_feature, *chat_feature; /* NULL where the file does not say */
    const char *chosen_feature, *rejected_feature;
    /* Ours, not mlx_lm's. */
    bool mask_history, packing, shuffle, mlx_compatible_loss; /* shuffle: true */
    double max_grad_norm;   /* 0: not clipped */
    double neftune_alpha;   /* 0: none */
    double beta;            /* of DPO and ORPO; 0.1 */
    int64_t patience;       /* evaluations without a better one before training stops; 0: never */
    const char *ignored[BB_IGNORED_LIMIT]; /* keys that were given and have no effect here: to be said */
    size_t ignored_count;
    struct bb_arena arena;
};

/* mlx_lm's defaults. */
void bb_train_config_init(struct bb_train_config *config);
void bb_train_config_clear(struct bb_train_config *config);

/* Reads YAML over what `config` holds; keys that are absent or null stay. An unknown key, a wrong type or a value out of range is
 * BOMBUS_ERROR_FORMAT and names file, line and key; what only mlx_lm can do (hf_dataset, adafactor) is BOMBUS_ERROR_UNSUPPORTED.
 * After a failure `config` is as before, but may hold memory until clear. */
BB_RESULT bombus_status bb_train_config_read(struct bb_train_config *config, const char *path, bombus_error *error);
/* The same of a text; `path` is for messages. */
BB_RESULT bombus_status bb_train_config_parse(struct bb_train_config *config, const char *text, size_t length,
                                              const char *path, bombus_error *error);

#endif
