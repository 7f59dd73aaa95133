/* Post-processors of tokenizer.json: the special tokens around a text. */
#ifndef BB_POST_PROCESSOR_H
#define BB_POST_PROCESSOR_H

#include "text/component.h"
#include "text/pieces.h"

/* A list of templates, applied in turn. Zeroed struct = none. Immutable after create. */
struct bb_post_processor {
    struct bb_ids *templates; /* each a list of ids, among them -1 for the text itself */
    size_t count;
};

BB_RESULT bombus_status bb_post_processor_create(struct bb_post_processor *post_processor,
                                                 const struct bb_component *component);
void bb_post_processor_clear(struct bb_post_processor *post_processor);

/* Puts the special tokens around the ids. */
BB_RESULT bombus_status bb_post_processor_apply(const struct bb_post_processor *post_processor, struct bb_ids *ids,
                                                bombus_error *error);

#endif
