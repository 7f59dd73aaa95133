/* The options of sampling, named as in mlx_lm, and their way into bombus_sampler_options. */
#ifndef CLI_SAMPLER_OPTIONS_H
#define CLI_SAMPLER_OPTIONS_H

#include "cli/end_tokens.h"

#include "bombus.h"

struct sampler_settings {
    double temp, top_p, min_p, xtc_probability, xtc_threshold;
    double repetition_penalty, presence_penalty, frequency_penalty;
    int64_t top_k, min_tokens_to_keep, seed;
    int64_t repetition_context_size, presence_context_size, frequency_context_size;
    const char *logit_bias;
};
extern const struct option sampler_options[15];

/* A sampler of the settings. What `options` points at lives until sampler_clear. */
struct sampler {
    bombus_sampler_options options;
    bombus_logit_bias *logit_bias;
    int32_t *xtc_special_tokens;
};

/* Unset options take the values of the generation_config.json in `folder`. `tokenizer` may be NULL. `ends`
 * are those of --extra-eos-token. An unset seed is taken from the clock. */
bombus_status sampler_init(struct sampler *sampler, const struct sampler_settings *settings, const char *folder,
                           const bombus_tokenizer *tokenizer, const struct end_tokens *ends,
                           bombus_error *error);
void sampler_clear(struct sampler *sampler);

#endif
