/* Lists, and what other values have in common with them: a length, and items to walk. */
#ifndef BB_TEMPLATE_LIST_H
#define BB_TEMPLATE_LIST_H

#include "text/template/work.h"

struct bb_value bb_value_list(struct bb_work *work, enum bb_value_kind kind, const struct bb_value *items,
                              size_t count);                                                        /* copies */
struct bb_value bb_value_pair(struct bb_work *work, struct bb_value first, struct bb_value second); /* a tuple of two */
struct bb_value bb_value_group(struct bb_work *work, struct bb_value key, struct bb_value members);

/* A list that grows. */
struct bb_list_builder {
    struct bb_work *work;
    struct bb_value *items;
    size_t count, capacity;
};
void bb_list_add(struct bb_list_builder *builder, struct bb_value value);
struct bb_value bb_list_finish(struct bb_list_builder *builder, enum bb_value_kind kind);

/* len(); false, and an error, if it has none. */
bool bb_value_length(struct bb_work *work, struct bb_value value, size_t *length);
bool bb_value_is_true(struct bb_work *work, struct bb_value value);

struct bb_value bb_value_iterator(struct bb_work *work, const char *type_name, struct bb_list items);
/* Everything that iterating over a value gives; walks an iterator to its end. An error if it cannot be iterated. */
struct bb_list bb_value_iterate(struct bb_work *work, struct bb_value value);

#endif
