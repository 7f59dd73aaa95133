/* Sorting values by keys. */
#include "text/template/sort.h"

#include "text/template/compare.h"

#include <string.h>

/* Merges the sorted runs [low, middle) and [middle, high) of order into `merged`. */
static void merge(struct bb_work *work, const struct bb_value *keys, const size_t *order, size_t *merged, size_t low,
                  size_t middle, size_t high, bool is_reverse)
{
    size_t left = low, right = middle;
    for (size_t i = low; i < high; i++) {
        bool takes_right = left == middle;
        if (!takes_right && right < high && work->status == BOMBUS_OK)
            takes_right = is_reverse ? bb_value_compare(work, keys[order[left]], keys[order[right]], "<") == -1
                                     : bb_value_compare(work, keys[order[right]], keys[order[left]], "<") == -1;
        merged[i] = takes_right ? order[right++] : order[left++];
    }
}

void bb_value_sort(struct bb_work *work, struct bb_value *items, struct bb_value *keys, size_t count, bool is_reverse)
{
    if (count < 2)
        return;
    size_t *order = bb_work_allocate(work, count, sizeof *order),
           *merged = bb_work_allocate(work, count, sizeof *merged);
    struct bb_value *sorted = bb_work_allocate(work, count, sizeof *sorted);
    if (order == NULL || merged == NULL || sorted == NULL)
        return;
    for (size_t i = 0; i < count; i++)
        order[i] = i;
    for (size_t width = 1; width < count && work->status == BOMBUS_OK; width *= 2) {
        for (size_t low = 0; low < count; low += 2 * width) {
            size_t middle = low + width < count ? low + width : count,
                   high = low + 2 * width < count ? low + 2 * width : count;
            merge(work, keys, order, merged, low, middle, high, is_reverse);
        }
        size_t *swapped = order;
        order = merged;
        merged = swapped;
    }
    for (size_t i = 0; i < count; i++)
        sorted[i] = items[order[i]];
    memcpy(items, sorted, count * sizeof *items);
    for (size_t i = 0; i < count; i++)
        sorted[i] = keys[order[i]];
    memcpy(keys, sorted, count * sizeof *keys);
}
