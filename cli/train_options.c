/* Tables of training's options. Defaults stand in the help, not in the tables: what was not given leaves the YAML file's value. */
#include "cli/train_options.h"

#include "base/compiler.h"
#include "base/error.h"

#include <math.h>
#include <string.h>

#define PLACE(field) offsetof(struct train_settings, field)

const struct option train_data_options[8] = {
    {"config", 'c', OPTION_FILE, PLACE(config), "FILE.yaml", .help = "settings in mlx_lm's YAML; options given here come before it"},
    {"data", 0, OPTION_FILE, PLACE(data), "FOLDER", .help = "train.jsonl, and valid.jsonl and test.jsonl where there are; or one jsonl file"},
    {"max-seq-length", 0, OPTION_INTEGER, PLACE(max_seq_length), "N", .help = "tokens of an example; longer ones are cut (2048)",
     .least = 2, .most = 1 << 24},
    {"mask-prompt", 0, OPTION_FLAG, PLACE(mask_prompt), NULL, .help = "learn the assistant's turns alone"},
    {"mask-history", 0, OPTION_FLAG, PLACE(mask_history), NULL, .help = "learn the last message alone"},
    {"no-shuffle", 0, OPTION_FLAG, PLACE(no_shuffle), NULL, .help = "take the examples in the file's order"},
    {"packing", 0, OPTION_FLAG, PLACE(packing), NULL, .help = "as many examples a batch as fit batch-size times max-seq-length tokens"},
    {"seed", 0, OPTION_INTEGER, PLACE(seed), "N", .help = "of the adapter's first values, the order and dropout (0)", .least = 0,
     .most = 9e15},
};

const struct option train_adapter_options[10] = {
    {"adapter-path", 'a', OPTION_FILE, PLACE(adapter_path), "FOLDER", .help = "where to write (adapters)"},
    {"resume", 0, OPTION_FLAG, PLACE(resume), NULL, .help = "go on with the run in --adapter-path"},
    {"force", 0, OPTION_FLAG, PLACE(force), NULL, .help = "overwrite the run in --adapter-path"},
    {"resume-adapter-file", 0, OPTION_FILE, PLACE(resume_adapter_file), "FILE", .help = "begin with the values of a safetensors file"},
    {"fine-tune-type", 0, OPTION_CHOICE, PLACE(fine_tune_type), TRAIN_FINE_TUNES, .help = "what is trained (lora)"},
    {"num-layers", 0, OPTION_INTEGER, PLACE(num_layers), "N", .help = "the last N blocks; -1 or 0: all (16)", .least = -1, .most = 100000},
    {"rank", 0, OPTION_INTEGER, PLACE(rank), "N", .help = "of the adapter (8)", .least = 1, .most = 65536},
    {"scale", 0, OPTION_NUMBER, PLACE(scale), "X", .help = "of what the adapter adds (20)", .least = -1e6, .most = 1e6},
    {"rslora", 0, OPTION_FLAG, PLACE(rslora), NULL, .help = "divide the scale by the root of the rank"},
    {"keys", 0, OPTION_LIST, PLACE(keys), "NAME", .help = "a projection that takes the adapter, self_attn.q_proj; all if not given"},
};

const struct option train_step_options[16] = {
    {"iters", 0, OPTION_INTEGER, PLACE(iters), "N", .help = "batches to learn (1000)", .least = 1, .most = 1e12},
    {"batch-size", 0, OPTION_INTEGER, PLACE(batch_size), "N", .help = "examples a batch (4)", .least = 1, .most = 65536},
    {"grad-accumulation-steps", 0, OPTION_INTEGER, PLACE(grad_accumulation_steps), "N", .help = "batches an update (1)", .least = 1,
     .most = 1 << 24},
    {"learning-rate", 0, OPTION_NUMBER, PLACE(learning_rate), "X", .help = "step of the optimizer (1e-5)", .least = 1e-30, .most = 1e6},
    {"optimizer", 0, OPTION_CHOICE, PLACE(optimizer), TRAIN_OPTIMIZERS, .help = "as mlx defines them (adam)"},
    {"bias-correction", 0, OPTION_FLAG, PLACE(bias_correction), NULL, .help = "Adam with the correction of its first steps, which mlx leaves out"},
    {"max-grad-norm", 0, OPTION_NUMBER, PLACE(max_grad_norm), "X", .help = "scale gradients down to this norm; not if not given",
     .least = 0, .most = 1e30},
    {"steps-per-report", 0, OPTION_INTEGER, PLACE(steps_per_report), "N", .help = "batches between reports; 0: none (10)", .least = -1,
     .most = 1e12},
    {"steps-per-eval", 0, OPTION_INTEGER, PLACE(steps_per_eval), "N", .help = "batches between evaluations; 0: none (200)", .least = -1,
     .most = 1e12},
    {"val-batches", 0, OPTION_INTEGER, PLACE(val_batches), "N", .help = "batches of an evaluation; -1: all (25)", .least = -1, .most = 1e12},
    {"save-every", 0, OPTION_INTEGER, PLACE(save_every), "N", .help = "batches between saved adapters; 0: only at the end (100)",
     .least = -1, .most = 1e12},
    {"patience", 0, OPTION_INTEGER, PLACE(patience), "N", .help = "stop after N evaluations without a better one; never if not given",
     .least = 0, .most = 1e12},
    {"min-delta", 0, OPTION_NUMBER, PLACE(min_delta), "X", .help = "how much lower a loss must be to be better (0)", .least = 0, .most = 1e30},
    {"test", 0, OPTION_FLAG, PLACE(test), NULL, .help = "evaluate test.jsonl at the end"},
    {"test-batches", 0, OPTION_INTEGER, PLACE(test_batches), "N", .help = "batches of that; -1: all (500)", .least = -1, .most = 1e12},
    {"keep-activations", 0, OPTION_FLAG, PLACE(keep_activations), NULL,
     .help = "do not compute them again in the backward pass: faster, and more memory"},
};

const struct option train_loss_options[8] = {
    {"train-mode", 0, OPTION_CHOICE, PLACE(train_mode), TRAIN_MODES, .help = "examples, or pairs of a chosen and a rejected answer (sft)"},
    {"beta", 0, OPTION_NUMBER, PLACE(beta), "X", .help = "of dpo and orpo (0.1)", .least = 1e-9, .most = 1e6},
    {"dpo-loss", 0, OPTION_CHOICE, PLACE(dpo_loss), TRAIN_DPO_LOSSES, .help = "kind of dpo (sigmoid)"},
    {"label-smoothing", 0, OPTION_NUMBER, PLACE(label_smoothing), "X", .help = "share of pairs taken as mislabelled (0)", .least = 0,
     .most = 0.5},
    {"dropout", 0, OPTION_NUMBER, PLACE(dropout), "X", .help = "of the adapter's input (0)", .least = 0, .most = 0.999},
    {"neftune-alpha", 0, OPTION_NUMBER, PLACE(neftune_alpha), "X", .help = "noise on the embeddings; none if not given", .least = 0, .most = 1e6},
    {"mlx-compatible-loss", 0, OPTION_FLAG, PLACE(mlx_compatible_loss), NULL, .help = "mlx-lm's loss, means and order to the last rule"},
    {"grad-checkpoint", 0, OPTION_FLAG, PLACE(grad_checkpoint), NULL, .help = "compute activations again: the default here"},
};

/* ---- over the file's ---- */

static void set_integer(int64_t given, int64_t *value)
{
    if (given != OPTION_UNSET)
        *value = given;
}

static void set_small(int64_t given, int32_t *value)
{
    if (given != OPTION_UNSET)
        *value = (int32_t)given;
}

static void set_number(double given, double *value)
{
    if (!isnan(given))
        *value = given;
}

static void set_text(const char *given, const char **value)
{
    if (given != NULL)
        *value = given;
}

/* How often: 0 and less are never. */
static void set_times(int64_t given, int64_t *value)
{
    if (given != OPTION_UNSET)
        *value = given > 0 ? given : -1;
}

static void set_choices(bombus_train_options *options, const bombus_train_config *config, const struct train_settings *settings)
{
    if (settings->fine_tune_type != NULL)
        options->fine_tune = (bombus_fine_tune)options_choice(TRAIN_FINE_TUNES, settings->fine_tune_type);
    if (settings->train_mode != NULL)
        options->mode = (bombus_train_mode)options_choice(TRAIN_MODES, settings->train_mode);
    if (settings->dpo_loss != NULL)
        options->dpo_loss = (bombus_dpo_loss)options_choice(TRAIN_DPO_LOSSES, settings->dpo_loss);
    if (settings->optimizer != NULL) {
        options->optimizer = (bombus_optimizer)options_choice(TRAIN_OPTIMIZERS, settings->optimizer);
        options->optimizer_options = bombus_train_config_optimizer(config, options->optimizer); /* the file may name several */
        options->has_optimizer_options = true;
    }
    if (!settings->bias_correction)
        return;
    if (!options->has_optimizer_options)
        options->optimizer_options = bombus_optimizer_defaults(options->optimizer);
    options->has_optimizer_options = options->optimizer_options.bias_correction = true;
}

static void set_numbers(bombus_train_options *options, const struct train_settings *settings)
{
    set_small(settings->num_layers == 0 ? -1 : settings->num_layers, &options->num_layers);
    set_small(settings->rank, &options->rank);
    set_small(settings->batch_size, &options->batch_size);
    set_small(settings->grad_accumulation_steps, &options->grad_accumulation_steps);
    set_small(settings->max_seq_length, &options->max_seq_length);
    set_integer(settings->iters, &options->iters);
    set_times(settings->steps_per_report, &options->steps_per_report);
    set_times(settings->steps_per_eval, &options->steps_per_eval);
    set_times(settings->save_every, &options->save_every);
    set_integer(settings->val_batches, &options->val_batches);
    set_integer(settings->patience, &options->patience);
    if (settings->test && options->test_batches == 0)
        options->test_batches = 500;
    if (options->test_batches != 0)
        set_integer(settings->test_batches, &options->test_batches);
    if (settings->seed != OPTION_UNSET)
        options->seed = (uint64_t)settings->seed;
    set_number(settings->scale, &options->scale);
    set_number(settings->dropout, &options->dropout);
    set_number(settings->max_grad_norm, &options->max_grad_norm);
    set_number(settings->neftune_alpha, &options->neftune_alpha);
    set_number(settings->beta, &options->beta);
    set_number(settings->label_smoothing, &options->label_smoothing);
    set_number(settings->min_delta, &options->min_delta);
    if (!isnan(settings->learning_rate)) { /* a rate that was typed stands for the file's schedule too */
        options->learning_rate = settings->learning_rate;
        options->schedule = (bombus_schedule){0};
    }
}

static void set_flags(bombus_train_options *options, const struct train_settings *settings)
{
    options->resume = settings->resume;
    options->force = settings->force;
    options->use_rslora = options->use_rslora || settings->rslora;
    options->mask_prompt = options->mask_prompt || settings->mask_prompt;
    options->mask_history = options->mask_history || settings->mask_history;
    options->mlx_compatible = options->mlx_compatible || settings->mlx_compatible_loss;
    options->no_shuffle = options->no_shuffle || settings->no_shuffle;
    options->packing = options->packing || settings->packing;
    options->keep_activations = options->keep_activations || settings->keep_activations;
}

/* 0 is the default in bombus_train_options, so one that was typed is not to be taken for it. */
static bombus_status check_zeros(const struct train_settings *settings, bombus_error *error)
{
    const struct {
        bool is_zero;
        const char *message;
    } zeros[] = {{settings->scale == 0.0, "--scale: 0, with which nothing is learnt"},
                 {settings->val_batches == 0, "--val-batches: 0, expected a count of batches, or -1 for all"},
                 {settings->test_batches == 0, "--test-batches: 0, expected a count of batches, or -1 for all"}};
    for (size_t i = 0; i < BB_COUNT(zeros); i++)
        if (zeros[i].is_zero)
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s", zeros[i].message);
    return BOMBUS_OK;
}

bombus_status train_options_read(bombus_train_options *options, bombus_train_config **config,
                                 const struct train_settings *settings, const char **keys, bombus_error *error)
{
    *options = (bombus_train_options){.adapter_path = "adapters"};
    *config = NULL;
    bombus_status status = check_zeros(settings, error);
    if (status != BOMBUS_OK)
        return status;
    if (settings->config != NULL) {
        status = bombus_train_config_open(config, settings->config, error);
        if (status != BOMBUS_OK)
            return status;
        *options = *bombus_train_config_options(*config);
    }
    set_text(settings->data, &options->data);
    set_text(settings->adapter_path, &options->adapter_path);
    set_text(settings->resume_adapter_file, &options->resume_adapter_file);
    set_choices(options, *config, settings);
    set_numbers(options, settings);
    set_flags(options, settings);
    if (settings->keys.count > 0) {
        for (size_t i = 0; i < settings->keys.count; i++)
            keys[i] = settings->keys.values[i];
        options->keys = keys;
        options->key_count = settings->keys.count;
    }
    if (settings->grad_checkpoint && settings->keep_activations)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "--grad-checkpoint and --keep-activations: give one of them");
    if (options->data == NULL)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "--data: not given; a folder with train.jsonl, or one jsonl file");
    return BOMBUS_OK;
}
