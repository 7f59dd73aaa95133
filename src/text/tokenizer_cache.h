/* Compiled copies of vocabularies, so that a large tokenizer.json is parsed once. */
#ifndef BB_TOKENIZER_CACHE_H
#define BB_TOKENIZER_CACHE_H

#include "text/tokenizer_source.h"

/* Maps the copy that belongs to the source's bytes: fills vocabulary and the source's rest. False if there is none,
 * or it is stale or damaged in any way; nothing is taken then. */
bool bb_tokenizer_cache_read(const char *cache_folder, struct bb_tokenizer_source *source,
                             struct bb_vocabulary *vocabulary);

/* Keeps a copy. What goes wrong is of no account: the next open parses again. */
void bb_tokenizer_cache_write(const char *cache_folder, const struct bb_tokenizer_source *source,
                              const struct bb_vocabulary *vocabulary);

#endif
