/* Text to ids and back, from tokenizer.json. Immutable after open. */
#ifndef BB_TOKENIZER_H
#define BB_TOKENIZER_H

#include "base/buffer.h"
#include "base/error.h"

struct bb_tokenizer;

/* See bombus_tokenizer_open. */
BB_RESULT bombus_status bb_tokenizer_open(struct bb_tokenizer **tokenizer, const char *folder, const char *cache_folder,
                                          bombus_error *error);
void bb_tokenizer_close(struct bb_tokenizer *tokenizer);

/* *ids is grown with bb_resize as needed and released by the caller. */
BB_RESULT bombus_status bb_tokenizer_encode(const struct bb_tokenizer *tokenizer, const char *text, size_t length,
                                            bool add_special, int32_t **ids, size_t *count, bombus_error *error);
/* Appends the text of the ids. */
BB_RESULT bombus_status bb_tokenizer_decode(const struct bb_tokenizer *tokenizer, const int32_t *ids, size_t count,
                                            bool skip_special, struct bb_buffer *text, bombus_error *error);

int32_t bb_tokenizer_size(const struct bb_tokenizer *tokenizer); /* largest id + 1, added tokens included */
int32_t bb_tokenizer_id(const struct bb_tokenizer *tokenizer, const char *token, size_t length); /* -1 if absent */
/* As in the vocabulary; NULL if absent. */
const char *bb_tokenizer_token(const struct bb_tokenizer *tokenizer, int32_t id, size_t *length);
bool bb_tokenizer_is_special(const struct bb_tokenizer *tokenizer, int32_t id);
const int32_t *bb_tokenizer_eos_ids(const struct bb_tokenizer *tokenizer, size_t *count);
/* Of tokenizer_config.json; NULL where not set. For chat templates. */
const char *bb_tokenizer_bos_token(const struct bb_tokenizer *tokenizer);
const char *bb_tokenizer_eos_token(const struct bb_tokenizer *tokenizer);

/* Streaming decoder: text as it becomes certain, never half a character; the pieces put together are what mlx-lm's
 * streaming detokenizers give (golden/tokenizers stream vectors). One thread at a time. No allocation per token
 * once its buffers have grown. */
struct bb_stream_decoder;
BB_RESULT bombus_status bb_stream_decoder_create(struct bb_stream_decoder **decoder,
                                                 const struct bb_tokenizer *tokenizer, bombus_error *error);
void bb_stream_decoder_free(struct bb_stream_decoder *decoder);
void bb_stream_decoder_reset(struct bb_stream_decoder *decoder);
/* *text (valid until the next call, with a NUL behind) is what became certain, possibly empty. */
BB_RESULT bombus_status bb_stream_decoder_add(struct bb_stream_decoder *decoder, int32_t id, const char **text,
                                              size_t *length, bombus_error *error);
/* What is left, incomplete bytes as U+FFFD. */
BB_RESULT bombus_status bb_stream_decoder_finish(struct bb_stream_decoder *decoder, const char **text, size_t *length,
                                                 bombus_error *error);

#endif
