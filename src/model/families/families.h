/* The list of model families. */
#ifndef BB_FAMILIES_H
#define BB_FAMILIES_H

#include "model/families/family.h"

/* NULL if no family has that model_type. */
const struct bb_family *bb_family_find(const char *model_type);
/* All model types, in the order of the list, "a, b, c". */
void bb_family_list(char *text, size_t size);

#endif
