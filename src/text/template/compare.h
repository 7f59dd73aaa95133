/* Comparing values, and dicts: they find keys by hash and equality, and two are equal if one finds the other's keys. */
#ifndef BB_TEMPLATE_COMPARE_H
#define BB_TEMPLATE_COMPARE_H

#include "text/template/work.h"

bool bb_value_is_equal(struct bb_work *work, struct bb_value a, struct bb_value b);
/* -1, 0, 1; 2 if unordered (NaN). A pair of types without order is an error naming `operation` ("<"). */
int bb_value_compare(struct bb_work *work, struct bb_value a, struct bb_value b, const char *operation);
uint64_t bb_value_hash(struct bb_work *work, struct bb_value value);

struct bb_dict *bb_dict_create(struct bb_work *work); /* NULL after an error */
struct bb_value bb_value_dict(struct bb_dict *dict);
/* A later value of the same key replaces the earlier one, in its place. Unhashable keys are an error. */
void bb_dict_set(struct bb_work *work, struct bb_dict *dict, struct bb_value key, struct bb_value value);
const struct bb_value *bb_dict_find(struct bb_work *work, const struct bb_dict *dict,
                                    struct bb_value key); /* NULL if absent */
const struct bb_value *bb_dict_find_string(struct bb_work *work, const struct bb_dict *dict, const char *key);

#endif
