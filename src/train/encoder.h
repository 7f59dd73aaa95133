/* One row of data as tokens: fields, chat template, tokenizer, truncation, and what is learnt. */
#ifndef BB_ENCODER_H
#define BB_ENCODER_H

#include "train/dataset.h"
#include "train/rendering.h"

struct bb_encoder {
    const struct bb_dataset_options *options; /* borrowed */
    struct bb_renderer renderer;
};

BB_RESULT bombus_status bb_encoder_create(struct bb_encoder **encoder, const struct bb_dataset_options *options,
                                          bombus_error *error);
void bb_encoder_free(struct bb_encoder *encoder);

/* A line as JSON: BOMBUS_ERROR_FORMAT with what is wrong with it, else *row is let go of by json_decref. */
BB_RESULT bombus_status bb_encoder_parse(json_t **row, const char *line, size_t length, bombus_error *error);
/* What kind of row this is; BOMBUS_ERROR_FORMAT names the fields of which it has none. */
BB_RESULT bombus_status bb_encoder_find_kind(const struct bb_encoder *encoder, const json_t *row, enum bb_row_kind *kind,
                                             bombus_error *error);
/* That the fields of `kind` are there and of the right types. */
BB_RESULT bombus_status bb_encoder_check(const struct bb_encoder *encoder, enum bb_row_kind kind, const json_t *row,
                                         bombus_error *error);

/* Fills the example. *is_truncated: it was longer than max_seq_length. All failures but BOMBUS_ERROR_MEMORY are the row's fault. */
BB_RESULT bombus_status bb_encoder_encode(const struct bb_encoder *encoder, enum bb_row_kind kind, const json_t *row,
                                          struct bb_example *example, bool *is_truncated, bombus_error *error);

#endif
