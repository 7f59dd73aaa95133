/* What transformers does to the variables before a chat template sees them, and to the text after. */
#ifndef BB_TEMPLATE_CONVERSATION_H
#define BB_TEMPLATE_CONVERSATION_H

#include "text/template/work.h"

struct bb_continuation {
    const struct bb_text *message; /* the final message that the text shall end in; NULL: none */
};

/* The variables with tools, documents and add_generation_prompt always there, without `now` and continue_final_message, and with
 * reasoning_content and thinking as names for the same; sets work->now.. */
struct bb_value bb_prepare_variables(struct bb_work *work, struct bb_value variables,
                                     struct bb_continuation *continuation);

/* Cuts what follows the final message from the output, and the spans with it. */
void bb_cut_continuation(struct bb_work *work, const struct bb_continuation *continuation, struct bb_builder *output);

#endif
