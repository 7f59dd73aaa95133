/* Sessions in files: a safetensors file with the tokens, the cache's bytes and the last logits, and what must agree in the metadata. */
#ifndef BB_PROMPT_CACHE_H
#define BB_PROMPT_CACHE_H

#include "generate/session.h"

/* See bombus_session_save and bombus_session_load. */
BB_RESULT bombus_status bb_prompt_cache_save(const struct bb_session *session, const char *path, bombus_error *error);
BB_RESULT bombus_status bb_prompt_cache_load(struct bb_session *session, const char *path, bombus_error *error);

#endif
