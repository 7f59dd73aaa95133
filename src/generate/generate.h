/* The whole of a request on a session: prompt, tokens, end. */
#ifndef BB_GENERATE_H
#define BB_GENERATE_H

#include "generate/session.h"
#include "text/tokenizer.h"

enum { BB_MAX_DRAFT_TOKENS = BB_MAX_TRY_ROWS - 1 };

/* See bombus_generate; `draft` stands for options->draft. The result is set also on failure, to what there is. */
BB_RESULT bombus_status bb_generate(struct bb_session *session, struct bb_session *draft,
                                    const struct bb_tokenizer *tokenizer, const int32_t *prompt, size_t prompt_count,
                                    const bombus_generate_options *options, bombus_generate_result *result,
                                    bombus_error *error);

/* See bombus_sampler_defaults. */
BB_RESULT bombus_status bb_sampler_defaults(bombus_sampler_options *sampler, const char *folder, bombus_error *error);

#endif
