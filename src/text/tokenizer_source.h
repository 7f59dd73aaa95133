/* The text of tokenizer.json, taken apart: the two large values of the model, and the small rest as JSON. */
#ifndef BB_TOKENIZER_SOURCE_H
#define BB_TOKENIZER_SOURCE_H

#include "base/buffer.h"
#include "text/vocabulary.h"

struct bb_tokenizer_source {
    char *data; /* the file */
    size_t size;
    struct bb_buffer rest;             /* the file with null for `vocab` and `merges` */
    struct bb_json_text vocab, merges; /* in data; NULL where the file has none */
};

BB_RESULT bombus_status bb_tokenizer_source_open(struct bb_tokenizer_source *source, const char *path,
                                                 bombus_error *error);
/* Fills rest, vocab and merges. */
BB_RESULT bombus_status bb_tokenizer_source_split(struct bb_tokenizer_source *source, const char *path,
                                                  bombus_error *error);
void bb_tokenizer_source_close(struct bb_tokenizer_source *source);

#endif
