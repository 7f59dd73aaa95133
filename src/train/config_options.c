/* Options from mlx_lm's settings. */
#include "train/train_config.h"
#include "train/train_options.h"

static void set_optimizer(bombus_train_options *options, const struct bb_train_config *config)
{
    static const bombus_optimizer kinds[BB_OPTIMIZER_KINDS] = {[BB_OPTIMIZER_ADAM] = BOMBUS_ADAM,
                                                               [BB_OPTIMIZER_ADAMW] = BOMBUS_ADAMW,
                                                               [BB_OPTIMIZER_SGD] = BOMBUS_SGD,
                                                               [BB_OPTIMIZER_MUON] = BOMBUS_MUON};
    const struct bb_optimizer_config *given = &config->optimizer_config[config->optimizer];
    options->optimizer = kinds[config->optimizer];
    options->has_optimizer_options = true;
    options->optimizer_options = (bombus_optimizer_options){.beta1 = given->betas[0],
                                                            .beta2 = given->betas[1],
                                                            .eps = given->eps,
                                                            .bias_correction = given->bias_correction,
                                                            .weight_decay = given->weight_decay,
                                                            .momentum = given->momentum,
                                                            .dampening = given->dampening,
                                                            .nesterov = given->nesterov,
                                                            .ns_steps = given->ns_steps};
}

static void set_schedule(bombus_schedule *schedule, const struct bb_schedule *given)
{
    static const bombus_schedule_kind kinds[] = {[BB_SCHEDULE_COSINE_DECAY] = BOMBUS_COSINE_DECAY,
                                                 [BB_SCHEDULE_LINEAR] = BOMBUS_LINEAR_SCHEDULE,
                                                 [BB_SCHEDULE_EXPONENTIAL_DECAY] = BOMBUS_EXPONENTIAL_DECAY,
                                                 [BB_SCHEDULE_STEP_DECAY] = BOMBUS_STEP_DECAY};
    _Static_assert((int)BB_SCHEDULE_PART_LIMIT == (int)BOMBUS_SCHEDULE_PART_LIMIT, "as many parts in both");
    schedule->part_count = given->part_count;
    schedule->warmup = given->warmup;
    schedule->warmup_init = given->warmup_init;
    for (int32_t i = 0; i < given->part_count; i++) {
        schedule->parts[i].kind = kinds[given->parts[i].kind];
        for (int argument = 0; argument < 3; argument++)
            schedule->parts[i].arguments[argument] = given->parts[i].arguments[argument];
        if (i + 1 < given->part_count)
            schedule->boundaries[i] = given->boundaries[i];
    }
}

void bb_train_options_from_config(bombus_train_options *options, const struct bb_train_config *config)
{
    static const bombus_fine_tune types[] = {[BB_FINE_TUNE_LORA] = BOMBUS_FINE_TUNE_LORA,
                                             [BB_FINE_TUNE_DORA] = BOMBUS_FINE_TUNE_DORA,
                                             [BB_FINE_TUNE_FULL] = BOMBUS_FINE_TUNE_FULL};
    static const bombus_train_mode modes[] = {[BB_TRAINING_NORMAL] = BOMBUS_TRAIN_SFT,
                                              [BB_TRAINING_DPO] = BOMBUS_TRAIN_DPO,
                                              [BB_TRAINING_ORPO] = BOMBUS_TRAIN_ORPO};
    *options = (bombus_train_options){
        .data = config->data,
        .adapter_path = config->adapter_path,
        .resume_adapter_file = config->resume_adapter_file,
        .fine_tune = types[config->fine_tune_type],
        .mode = modes[config->training_mode],
        .num_layers = config->num_layers,
        .rank = config->lora_parameters.rank,
        .scale = config->lora_parameters.scale,
        .dropout = config->lora_parameters.dropout,
        .keys = config->lora_parameters.keys,
        .key_count = config->lora_parameters.key_count,
        .iters = config->iters,
        .batch_size = config->batch_size,
        .grad_accumulation_steps = config->grad_accumulation_steps,
        .learning_rate = config->learning_rate,
        .max_grad_norm = config->max_grad_norm,
        .neftune_alpha = config->neftune_alpha,
        .beta = config->beta,
        .max_seq_length = config->max_seq_length,
        .mask_prompt = config->mask_prompt,
        .mask_history = config->mask_history,
        .mlx_compatible = config->mlx_compatible_loss,
        .no_shuffle = !config->shuffle,
        .packing = config->packing,
        .seed = config->seed,
        .steps_per_report = config->steps_per_report,
        .steps_per_eval = config->steps_per_eval,
        .save_every = config->save_every,
        .val_batches = config->val_batches,
        .test_batches = config->test ? config->test_batches : 0,
        .patience = config->patience,
        .text_feature = config->text_feature,
        .prompt_feature = config->prompt_feature,
        .completion_feature = config->completion_feature,
        .chat_feature = config->chat_feature,
        .chosen_feature = config->chosen_feature,
        .rejected_feature = config->rejected_feature,
        .model_name = config->model,
    };
    set_optimizer(options, config);
    set_schedule(&options->schedule, &config->lr_schedule);
}
