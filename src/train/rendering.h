/* Conversations as the model's chat template writes them. */
#ifndef BB_RENDERING_H
#define BB_RENDERING_H

#include "base/error.h"
#include "text/tokenizer.h"

#include <jansson.h>

struct bb_template;

struct bb_renderer {
    const struct bb_template *template_; /* borrowed; NULL: the model has none */
    json_t *variables;                   /* of every rendering: special tokens, enable_thinking, arguments */
};

/* `arguments`: a JSON object of further variables; NULL: none. On failure it is cleared as usual. */
BB_RESULT bombus_status bb_renderer_init(struct bb_renderer *renderer, const struct bb_template *template_,
                                         const struct bb_tokenizer *tokenizer, const char *arguments,
                                         bombus_error *error);
void bb_renderer_clear(struct bb_renderer *renderer);

/* What a conversation was rendered to. Zeroed struct = nothing; cleared by bb_rendered_clear. */
struct bb_rendered {
    char *text;
    size_t length;
    bombus_span *spans; /* of generation blocks */
    size_t span_count;
};

/* `tools` may be NULL. flips_thinking: as if enable_thinking were the other. */
struct bb_rendering {
    const json_t *tools;
    bool adds_prompt, flips_thinking;
};

BB_RESULT bombus_status bb_render_messages(const struct bb_renderer *renderer, json_t *messages,
                                           const struct bb_rendering *rendering, struct bb_rendered *rendered,
                                           bombus_error *error);
void bb_rendered_clear(struct bb_rendered *rendered);

#endif
