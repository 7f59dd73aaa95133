/* A trie over byte strings. */
#include "text/trie.h"

#include "base/memory.h"

static bool add_node(struct bb_trie *trie, uint8_t label, uint32_t *node)
{
    if (trie->count == trie->capacity) {
        size_t capacity = trie->capacity == 0 ? 256 : trie->capacity * 2;
        struct bb_trie_node *nodes = capacity < UINT32_MAX ? bb_resize(trie->nodes, capacity, sizeof *nodes) : NULL;
        if (nodes == NULL)
            return false;
        trie->nodes = nodes;
        trie->capacity = capacity;
    }
    *node = (uint32_t)trie->count;
    trie->nodes[trie->count++] = (struct bb_trie_node){.value = -1, .label = label};
    return true;
}

bool bb_trie_add(struct bb_trie *trie, const char *string, size_t length, int32_t value)
{
    uint32_t node = 0;
    if (trie->count == 0 && !add_node(trie, 0, &node))
        return false;
    if (length == 0)
        return true;
    node = 0;
    for (size_t i = 0; i < length; i++) {
        uint8_t label = (uint8_t)string[i];
        uint32_t child = trie->nodes[node].first_child;
        while (child != 0 && trie->nodes[child].label != label)
            child = trie->nodes[child].sibling;
        if (child == 0) {
            if (!add_node(trie, label, &child))
                return false;
            trie->nodes[child].sibling = trie->nodes[node].first_child;
            trie->nodes[node].first_child = child;
            trie->nodes[node].child_count++;
        }
        node = child;
    }
    trie->nodes[node].value = value;
    trie->starts[(uint8_t)string[0]] = true;
    return true;
}

/* Lays the nodes out breadth first, children side by side and sorted, so that a child is found by bisection. */
bool bb_trie_finish(struct bb_trie *trie)
{
    size_t done = 1;
    if (trie->count == 0)
        return true;
    struct bb_trie_node *laid = bb_allocate(trie->count, sizeof *laid);
    if (laid == NULL)
        return false;
    laid[0] = trie->nodes[0];
    for (size_t i = 0; i < done; i++) {
        uint32_t child = laid[i].first_child;
        laid[i].first_child = (uint32_t)done;
        for (; child != 0; child = trie->nodes[child].sibling) {
            size_t place = done++;
            while (place > laid[i].first_child && laid[place - 1].label > trie->nodes[child].label) {
                laid[place] = laid[place - 1];
                place--;
            }
            laid[place] = trie->nodes[child];
        }
    }
    bb_release(trie->nodes);
    trie->nodes = laid;
    trie->capacity = trie->count;
    return true;
}

void bb_trie_clear(struct bb_trie *trie)
{
    bb_release(trie->nodes);
    *trie = (struct bb_trie){0};
}

uint32_t bb_trie_child(const struct bb_trie *trie, uint32_t node, uint8_t label)
{
    uint32_t low = trie->nodes[node].first_child, high = low + trie->nodes[node].child_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (trie->nodes[middle].label < label)
            low = middle + 1;
        else if (trie->nodes[middle].label > label)
            high = middle;
        else
            return middle;
    }
    return 0;
}

size_t bb_trie_longest(const struct bb_trie *trie, const char *text, size_t length, int32_t *value)
{
    size_t longest = 0;
    uint32_t node = 0;
    for (size_t i = 0; i < length; i++) {
        node = bb_trie_child(trie, node, (uint8_t)text[i]);
        if (node == 0)
            break;
        if (trie->nodes[node].value >= 0) {
            longest = i + 1;
            *value = trie->nodes[node].value;
        }
    }
    return longest;
}
