/* Normalizers of tokenizer.json: what happens to a text before it is cut. */
#ifndef BB_NORMALIZER_H
#define BB_NORMALIZER_H

#include "base/buffer.h"
#include "text/component.h"

#include <stdint.h>

struct bb_normalizer; /* a list of steps; immutable after create */

/* *normalizer is NULL for a JSON null. */
BB_RESULT bombus_status bb_normalizer_create(struct bb_normalizer **normalizer, const struct bb_component *component);
void bb_normalizer_free(struct bb_normalizer *normalizer); /* NULL is allowed */

/* Room for work, for one thread. Zeroed struct = none taken yet. */
struct bb_normalizer_scratch {
    struct bb_buffer texts[2];
    int32_t *characters;
    size_t character_capacity;
    struct bb_matcher matcher;
};
void bb_normalizer_scratch_clear(struct bb_normalizer_scratch *scratch);

/* A text under way. Valid UTF-8 all along. */
struct bb_normalized {
    const char *text; /* the input, or in the scratch until the next call */
    size_t length;
    bool is_at_start; /* the first character still comes from the first one of the whole input */
};
BB_RESULT bombus_status bb_normalizer_apply(const struct bb_normalizer *normalizer,
                                            struct bb_normalizer_scratch *scratch, struct bb_normalized *normalized,
                                            bombus_error *error);

/* The normal forms (unicode_normal.c). Appends to `result`; false if memory is out. */
enum bb_normal_form { BB_NFC, BB_NFD, BB_NFKC, BB_NFKD };
bool bb_normal_form_add(struct bb_normalizer_scratch *scratch, enum bb_normal_form form, const char *text,
                        size_t length, struct bb_buffer *result) BB_RESULT;

/* SentencePiece's compiled character map (precompiled.c). */
struct bb_charsmap;
BB_RESULT bombus_status bb_charsmap_create(struct bb_charsmap **charsmap, const struct bb_component *component);
void bb_charsmap_free(struct bb_charsmap *charsmap);
void bb_charsmap_apply(const struct bb_charsmap *charsmap, const char *text, size_t length, struct bb_buffer *result);

#endif
