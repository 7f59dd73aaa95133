/* Training and its settings. */
#include "api/handles.h"
#include "train/optimizer.h"
#include "train/train_config.h"
#include "train/trainer.h"

struct bombus_trainer {
    struct bb_trainer *trainer;
    bombus_model *model; /* held */
};

struct bombus_train_config {
    struct bb_train_config config;
    bombus_train_options options;
};

bombus_optimizer_options bombus_optimizer_defaults(bombus_optimizer kind)
{
    return bb_optimizer_defaults(kind);
}

bombus_status bombus_trainer_create(bombus_trainer **trainer, bombus_model *model, const bombus_tokenizer *tokenizer,
                                    const bombus_template *template_, const bombus_train_options *options,
                                    bombus_error *error)
{
    bombus_status status = bb_check_pointer(trainer, "trainer", error);
    if (status != BOMBUS_OK)
        return status;
    *trainer = NULL;
    status = bb_check_pointer(model, "model", error);
    if (status == BOMBUS_OK)
        status = bb_check_pointer(tokenizer, "tokenizer", error);
    if (status == BOMBUS_OK)
        status = bb_check_pointer(options, "options", error);
    if (status != BOMBUS_OK)
        return status;
    bombus_trainer *made = bb_allocate(1, sizeof *made);
    if (made == NULL)
        return bb_fail_memory(error, sizeof *made, "a trainer");
    const struct bb_train_inputs inputs = {.model = model->model,
                                           .backend = model->backend,
                                           .tokenizer = tokenizer->tokenizer,
                                           .template_ = template_ != NULL ? template_->compiled : NULL,
                                           .is_exact = model->is_exact,
                                           .thread_count = model->thread_count};
    status = bb_trainer_create(&made->trainer, &inputs, options, error);
    if (status != BOMBUS_OK) {
        bb_release(made);
        return status;
    }
    made->model = model;
    atomic_fetch_add_explicit(&model->holders, 1, memory_order_relaxed); /* the caller has a hold, so it cannot be the first */
    *trainer = made;
    return BOMBUS_OK;
}

void bombus_trainer_free(bombus_trainer *trainer)
{
    if (trainer == NULL)
        return;
    bb_trainer_free(trainer->trainer);
    bombus_model_close(trainer->model);
    bb_release(trainer);
}

const bombus_train_options *bombus_trainer_options(const bombus_trainer *trainer)
{
    return trainer != NULL ? &trainer->trainer->options : NULL;
}

bombus_status bombus_trainer_run(bombus_trainer *trainer, bombus_train_result *result, bombus_error *error)
{
    bombus_train_result ignored;
    bombus_status status = bb_check_pointer(trainer, "trainer", error);
    if (status != BOMBUS_OK)
        return status;
    return bb_trainer_run(trainer->trainer, result != NULL ? result : &ignored, error);
}

void bombus_trainer_cancel(bombus_trainer *trainer)
{
    if (trainer != NULL)
        bb_trainer_cancel(trainer->trainer);
}

bombus_status bombus_train_config_open(bombus_train_config **config, const char *path, bombus_error *error)
{
    bombus_status status = bb_check_pointer(config, "config", error);
    if (status != BOMBUS_OK)
        return status;
    *config = NULL;
    status = bb_check_pointer(path, "path", error);
    if (status != BOMBUS_OK)
        return status;
    bombus_train_config *made = bb_allocate(1, sizeof *made);
    if (made == NULL)
        return bb_fail_memory(error, sizeof *made, path);
    bb_train_config_init(&made->config);
    status = bb_train_config_read(&made->config, path, error);
    if (status != BOMBUS_OK) {
        bombus_train_config_close(made);
        return status;
    }
    made->options = bb_train_config_options(&made->config);
    *config = made;
    return BOMBUS_OK;
}

void bombus_train_config_close(bombus_train_config *config)
{
    if (config == NULL)
        return;
    bb_train_config_clear(&config->config);
    bb_release(config);
}

const bombus_train_options *bombus_train_config_options(const bombus_train_config *config)
{
    return config != NULL ? &config->options : NULL;
}

bombus_optimizer_options bombus_train_config_optimizer(const bombus_train_config *config, bombus_optimizer kind)
{
    bool is_known = config != NULL && (int)kind >= 0 && (int)kind < (int)BB_OPTIMIZER_KINDS;
    return is_known ? config->config.optimizers[kind] : bb_optimizer_defaults(kind);
}

const char *bombus_train_config_model(const bombus_train_config *config)
{
    return config != NULL ? config->config.model : NULL;
}

const char *bombus_train_config_ignored(const bombus_train_config *config, size_t index)
{
    return config != NULL && index < config->config.ignored_count ? config->config.ignored[index] : NULL;
}
