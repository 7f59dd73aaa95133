/* The nearest of several names to a word that is none of them. */
#ifndef BB_SUGGEST_H
#define BB_SUGGEST_H

#include <stddef.h>

/* Of `count` names the one likest to `name` (an underscore is a hyphen), or NULL if none is near. */
const char *bb_suggest(const char *name, const char *const *names, size_t count);

#endif
