/* From logits to a token: mlx-lm's chain. Bias and penalties on the logits; then top_p, min_p, xtc and top_k, each on
 * what the one before left; then the temperature, and a draw whose random numbers depend on the seed, the token's
 * position and the id alone. So the same seed gives the same text whatever the batch, the threads or the speculation,
 * and a draft model that draws with the same sampler often draws the same token. */
#ifndef BB_SAMPLER_H
#define BB_SAMPLER_H

#include "generate/logits.h"

struct bb_sampler;

/* Checks the options (each error names its option) and copies what they point at. */
BB_RESULT bombus_status bb_sampler_create(struct bb_sampler **sampler, const bombus_sampler_options *options,
                                          int32_t vocab_size, bombus_error *error);
void bb_sampler_free(struct bb_sampler *sampler); /* NULL is allowed */

/* The logits after bias and penalties; `tokens` are all tokens so far. Valid until the next call; `logits` itself where
 * there is nothing to do. */
const float *bb_sampler_process(struct bb_sampler *sampler, const float *logits, const int32_t *tokens, size_t count);

/* The token at position `count`, after `tokens`. BOMBUS_ERROR_FORMAT if no logit is a number. */
BB_RESULT bombus_status bb_sampler_draw(struct bb_sampler *sampler, const float *logits, const int32_t *tokens,
                                        size_t count, int32_t *id, bombus_error *error);

/* out [vocab_size]: ln of the distribution that bb_sampler_draw draws from, -infinity where a filter removed a token.
 */
BB_RESULT bombus_status bb_sampler_distribution(struct bb_sampler *sampler, const float *logits, const int32_t *tokens,
                                                size_t count, float *out, bombus_error *error);

#endif
