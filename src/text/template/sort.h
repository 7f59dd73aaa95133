/* Sorting values by keys. */
#ifndef BB_TEMPLATE_SORT_H
#define BB_TEMPLATE_SORT_H

#include "text/template/work.h"

/* Sorts in place, stable; keys[i] belongs to items[i]. */
void bb_value_sort(struct bb_work *work, struct bb_value *items, struct bb_value *keys, size_t count, bool is_reverse);

#endif
