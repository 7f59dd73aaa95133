/* Masks of tokens.
 *
 * * The vocabulary is a trie, and the automaton, followed from some states down the trie, is made deterministic as it
 * goes: a *set* is a set of configurations whose stacks stand on an unknown bottom. Most tokens are decided without
 * looking below: the mask of a place is that of its states, whatever called them. Where the called part may end inside
 * a token, the rest of the token depends on the caller: such places of the trie (*exits*) are followed further once
 * the caller is known, which makes an entry of its own, found by the entry before it and the caller's frame. So an
 * entry is a mask for the top of a stack, as deep as tokens can see, and stacks that differ only below share it.
 * Counts of loops are told apart only as far as a token can count. */
#include "generate/grammar/masks.h"

#include "base/lock.h"
#include "base/map.h"
#include "base/memory.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define UNKNOWN 0u
#define DEAD    UINT32_MAX
enum {
    MAX_SETS = 1 << 14,
    MAX_SET_ITEMS = 1 << 21,
    MAX_MASK_BYTES = 64 << 20,
    MAX_ENTRIES = 1 << 18,
    SHORT_LIST = 512, /* fewer tokens are kept as a list */
    MAX_WORK = 1 << 27
};

struct set {
    uint32_t begin, count; /* of its configurations, in `items` */
    uint32_t sibling;
    bool ends, is_first;
    uint32_t plain; /* where each plain character leads; DEAD: not to one set; UNKNOWN: not looked at yet */
};

struct entry {
    uint32_t parent;  /* the entry this one goes on from; 0: of states alone, */
    uint32_t *states; /* [count] */
    uint32_t count;   /* or of a frame: */
    uint32_t after, least, most;
    uint32_t sibling;
    bool is_first;  /* at the beginning of a text, from where its tokens go */
    uint64_t *bits; /* NULL: */
    int32_t *ids;   /* [id_count] */
    uint32_t id_count;
    uint32_t *exits; /* nodes of the trie below which the caller decides */
    uint32_t exit_count;
};

struct bb_masks {
    const struct bb_automaton *automaton;
    const struct bb_token_trie *trie;
    struct bb_lock lock; /* over all below */
    struct bb_mover mover;
    struct bb_configurations moved; /* the set that is being made */
    struct set *sets;               /* [0] is none */
    struct bb_configuration *items;
    uint32_t *moves; /* [set, class] */
    uint32_t set_count, item_count;
    size_t set_capacity, item_capacity, move_capacity;
    uint32_t set_buckets[1 << 12];
    struct entry *entries; /* [0] is none */
    uint32_t entry_count;
    size_t entry_capacity;
    uint32_t entry_buckets[1 << 12];
    size_t bytes; /* of entries */
    uint64_t *bits;
    uint32_t *path;  /* sets at each depth of the trie */
    uint32_t *exits; /* of the entry that is being made */
    uint32_t exit_count;
    size_t exit_capacity;
    size_t word_count;
    atomic_size_t all_bytes; /* relaxed: a figure. Of entries, sets and what they are made of */
};

static void forget_entries(struct bb_masks *masks)
{
    for (uint32_t i = 1; i < masks->entry_count; i++) {
        bb_release(masks->entries[i].states);
        bb_release(masks->entries[i].bits);
        bb_release(masks->entries[i].ids);
        bb_release(masks->entries[i].exits);
    }
    masks->entry_count = 1;
    masks->bytes = 0;
    memset(masks->entry_buckets, 0, sizeof masks->entry_buckets);
}

void bb_masks_free(struct bb_masks *masks)
{
    if (masks == NULL)
        return;
    forget_entries(masks);
    bb_frames_clear(&masks->mover.frames);
    bb_configurations_clear(&masks->moved);
    bb_release(masks->sets);
    bb_release(masks->items);
    bb_release(masks->moves);
    bb_release(masks->entries);
    bb_release(masks->bits);
    bb_release(masks->path);
    bb_release(masks->exits);
    bb_lock_clear(&masks->lock);
    bb_release(masks);
}

bombus_status bb_masks_create(struct bb_masks **masks, const struct bb_automaton *automaton,
                              const struct bb_token_trie *trie, bombus_error *error)
{
    *masks = NULL;
    struct bb_masks *made = bb_allocate(1, sizeof *made);
    if (made == NULL)
        return bb_fail_memory(error, sizeof *made, "token masks");
    bombus_status status = bb_lock_init(&made->lock, false, error);
    if (status != BOMBUS_OK) {
        bb_release(made);
        return status;
    }
    made->automaton = made->mover.automaton = automaton;
    made->trie = trie;
    made->word_count = ((size_t)trie->size + 63) / 64;
    made->bits = bb_allocate(made->word_count, sizeof *made->bits);
    made->path = bb_allocate((size_t)trie->longest + 1, sizeof *made->path);
    made->entry_count = 1;
    if (made->bits == NULL || made->path == NULL || !bb_frames_reset(&made->mover.frames)) {
        size_t bytes = made->word_count * sizeof *made->bits;
        bb_masks_free(made);
        return bb_fail_memory(error, bytes, "token masks");
    }
    *masks = made;
    return BOMBUS_OK;
}

static int compare_configurations(const void *left, const void *right)
{
    const struct bb_configuration *a = left, *b = right;
    if (a->frame != b->frame)
        return a->frame < b->frame ? -1 : 1;
    return (a->state > b->state) - (a->state < b->state);
}

/* By insertion where there are few, as there mostly are: qsort may allocate. */
static void sort_configurations(struct bb_configurations *set)
{
    if (set->count > 64) {
        qsort(set->items, set->count, sizeof *set->items, compare_configurations);
        return;
    }
    for (uint32_t i = 1; i < set->count; i++) {
        struct bb_configuration moved = set->items[i];
        uint32_t place = i;
        for (; place > 0 && compare_configurations(&set->items[place - 1], &moved) > 0; place--)
            set->items[place] = set->items[place - 1];
        set->items[place] = moved;
    }
}

static bombus_status status_of(bombus_status status, bombus_error *error)
{
    if (status == BOMBUS_ERROR_MEMORY)
        return bb_fail_memory(error, sizeof(struct bb_configuration), "token masks");
    return bb_fail(error, BOMBUS_ERROR_LIMIT,
                   "constraint: too ambiguous or nested too deeply at this place of the text, expected at most %d ways "
                   "to read it and %d open rules",
                   BB_MAX_CONFIGURATIONS, BB_MAX_STACK);
}

/* ---- sets ---- */

static bool forget_sets(struct bb_masks *masks)
{
    masks->set_count = 1;
    masks->item_count = 0;
    memset(masks->set_buckets, 0, sizeof masks->set_buckets);
    return bb_frames_reset(&masks->mover.frames);
}

/* The set of what is in `moved`, closed; DEAD for none. */
static bombus_status intern(struct bb_masks *masks, uint32_t *set, bombus_error *error)
{
    struct bb_configurations *moved = &masks->moved;
    bb_mover_close(&masks->mover, moved);
    if (moved->status != BOMBUS_OK)
        return status_of(moved->status, error);
    if (masks->mover.work > MAX_WORK)
        return status_of(BOMBUS_ERROR_LIMIT, error);
    *set = DEAD;
    if (moved->count == 0 && !moved->ends)
        return BOMBUS_OK;
    sort_configurations(moved);
    size_t bytes = moved->count * sizeof *moved->items;
    uint64_t hash = bb_hash(bytes > 0 ? (const void *)moved->items : "", bytes, moved->ends + 2u * moved->is_first);
    uint32_t *bucket = &masks->set_buckets[hash & (BB_COUNT(masks->set_buckets) - 1)];
    for (uint32_t i = *bucket; i != 0; i = masks->sets[i].sibling) {
        const struct set *s = &masks->sets[i];
        if (s->count == moved->count && s->ends == moved->ends && s->is_first == moved->is_first &&
            (bytes == 0 || memcmp(masks->items + s->begin, moved->items, bytes) == 0)) {
            *set = i;
            return BOMBUS_OK;
        }
    }
    size_t classes = masks->automaton->class_count;
    if (masks->set_count > MAX_SETS || masks->item_count > MAX_SET_ITEMS)
        return status_of(BOMBUS_ERROR_LIMIT, error);
    if (!bb_grow(&masks->sets, masks->set_count, 1, &masks->set_capacity, sizeof *masks->sets) ||
        !bb_grow(&masks->moves, masks->set_count, 1, &masks->move_capacity, classes * sizeof *masks->moves) ||
        !bb_grow(&masks->items, masks->item_count, moved->count, &masks->item_capacity, sizeof *masks->items))
        return status_of(BOMBUS_ERROR_MEMORY, error);
    if (bytes > 0)
        memcpy(masks->items + masks->item_count, moved->items, bytes);
    *set = masks->set_count++;
    masks->sets[*set] = (struct set){.begin = masks->item_count,
                                     .count = moved->count,
                                     .sibling = *bucket,
                                     .ends = moved->ends,
                                     .is_first = moved->is_first};
    *bucket = *set;
    masks->item_count += moved->count;
    memset(masks->moves + *set * classes, 0, classes * sizeof *masks->moves);
    return BOMBUS_OK;
}

static bombus_status find_move(struct bb_masks *masks, uint32_t set, uint8_t byte, uint32_t *next, bombus_error *error)
{
    const struct set *from = &masks->sets[set];
    struct bb_configurations view = {
        .items = masks->items + from->begin, .count = from->count, .ends = from->ends, .is_first = from->is_first};
    bb_mover_step(&masks->mover, &view, byte, &masks->moved);
    bombus_status status = intern(masks, next, error);
    if (status == BOMBUS_OK)
        masks->moves[(size_t)set * masks->automaton->class_count + masks->automaton->classes[byte]] = *next;
    return status;
}

static bombus_status move(struct bb_masks *masks, uint32_t set, uint8_t byte, uint32_t *next, bombus_error *error)
{
    *next = masks->moves[(size_t)set * masks->automaton->class_count + masks->automaton->classes[byte]];
    return *next == UNKNOWN ? find_move(masks, set, byte, next, error) : BOMBUS_OK;
}

/* ---- free text ---- */

/* Where all bytes of a range lead from a set, DEAD where they part ways. */
static bombus_status move_range(struct bb_masks *masks, uint32_t set, uint8_t first, uint8_t last, uint32_t *next,
                                bombus_error *error)
{
    bombus_status status = move(masks, set, first, next, error);
    for (uint32_t byte = first + 1u, other; byte <= last && *next != DEAD && status == BOMBUS_OK; byte++) {
        status = move(masks, set, (uint8_t)byte, &other, error);
        if (other != *next)
            *next = DEAD;
    }
    return status;
}

/* Where the characters of a range lead, DEAD where they part ways. */
static bombus_status move_plain(struct bb_masks *masks, uint32_t set, const struct bb_plain_range *range,
                                uint32_t *next, bombus_error *error)
{
    bombus_status status = move_range(masks, set, range->first, range->last, next, error);
    if (status == BOMBUS_OK && *next != DEAD && range->tail_count >= 0)
        status = move_range(masks, *next, range->second_first, range->second_last, next, error);
    for (int8_t i = 0; i < range->tail_count && status == BOMBUS_OK && *next != DEAD; i++)
        status = move_range(masks, *next, 0x80, 0xBF, next, error);
    return status;
}

/* Within a string each plain character leads to the same place, the place before where its length has no bound. Not so
 * where the text may end: what follows there depends on a caller. */
static bombus_status find_plain(struct bb_masks *masks, uint32_t set, bombus_error *error)
{
    uint32_t all = DEAD, next;
    bombus_status status = BOMBUS_OK;
    for (size_t i = 0; i < BB_PLAIN_RANGE_COUNT && status == BOMBUS_OK; i++) {
        status = move_plain(masks, set, &bb_plain_ranges[i], &next, error);
        if (status != BOMBUS_OK)
            return status;
        all = i == 0 ? next : all;
        if (next != all || next == DEAD || masks->sets[next].ends) {
            all = DEAD;
            break;
        }
    }
    masks->sets[set].plain = all;
    return status;
}

/* Do `count` plain characters, whichever, all stay alive from a set? */
static bombus_status can_reach(struct bb_masks *masks, uint32_t set, uint32_t count, bool *can, bombus_error *error)
{
    *can = true;
    for (; count > 0 && *can; count--) {
        uint32_t before = set;
        if (masks->sets[set].plain == UNKNOWN) {
            bombus_status status = find_plain(masks, set, error);
            if (status != BOMBUS_OK)
                return status;
        }
        set = masks->sets[set].plain;
        *can = set != DEAD;
        if (set == before)
            break;
    }
    return BOMBUS_OK;
}

/* ---- walks ---- */

static bool add_exit(struct bb_masks *masks, uint32_t node)
{
    if (masks->trie->nodes[node].end == node + 1)
        return true;
    if (!bb_grow(&masks->exits, masks->exit_count, 1, &masks->exit_capacity, sizeof *masks->exits))
        return false;
    masks->exits[masks->exit_count++] = node;
    return true;
}

/* Sets the bits of tokens by their order in the trie. */
static void allow(struct bb_masks *masks, uint32_t begin, uint32_t end)
{
    const int32_t *ids = masks->trie->ids;
    for (uint32_t i = begin; i < end; i++)
        masks->bits[ids[i] / 64] |= UINT64_C(1) << (ids[i] % 64);
}

/* Follows `set` into all tokens below `root`: sets their bits, notes exits. */
static bombus_status walk(struct bb_masks *masks, uint32_t root, uint32_t set, bombus_error *error)
{
    const struct bb_token_trie *trie = masks->trie;
    const struct bb_token_node *nodes = trie->nodes;
    const size_t classes = masks->automaton->class_count;
    uint32_t next = set;
    for (uint32_t node = root; node < nodes[root].end;) {
        if (node != root) {
            uint32_t from = masks->path[nodes[node].depth - 1];
            next = masks->moves[from * classes + masks->automaton->classes[nodes[node].label]];
            if (BB_UNLIKELY(next == UNKNOWN)) {
                bombus_status status = find_move(masks, from, nodes[node].label, &next, error);
                if (status != BOMBUS_OK)
                    return status;
            }
            if (next == DEAD) {
                node = nodes[node].end;
                continue;
            }
            allow(masks, nodes[node].first_id, nodes[node + 1].first_id);
        }
        masks->path[nodes[node].depth] = next;
        if (masks->sets[next].ends && !add_exit(masks, node))
            return status_of(BOMBUS_ERROR_MEMORY, error);
        if (masks->sets[next].plain != DEAD && nodes[node].reach != BB_NOT_PLAIN) {
            bool is_all;
            bombus_status status = can_reach(masks, next, nodes[node].reach, &is_all, error);
            if (status != BOMBUS_OK)
                return status;
            if (is_all) {
                allow(masks, nodes[node + 1].first_id, nodes[nodes[node].end].first_id);
                node = nodes[node].end;
                continue;
            }
        }
        node++;
    }
    return BOMBUS_OK;
}

static int compare_nodes(const void *left, const void *right)
{
    const uint32_t *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

static void tidy_exits(struct bb_masks *masks)
{
    uint32_t kept = 0;
    if (masks->exit_count > 1)
        qsort(masks->exits, masks->exit_count, sizeof *masks->exits, compare_nodes);
    for (uint32_t i = 0; i < masks->exit_count; i++)
        if (kept == 0 || masks->exits[kept - 1] != masks->exits[i])
            masks->exits[kept++] = masks->exits[i];
    masks->exit_count = kept;
}

/* Puts the found bits and exits into the entry. */
static bool keep_mask(struct bb_masks *masks, struct entry *entry)
{
    uint32_t count = 0;
    for (size_t i = 0; i < masks->word_count; i++)
        count += (uint32_t)__builtin_popcountll(masks->bits[i]);
    if (count > SHORT_LIST) {
        entry->bits = bb_allocate(masks->word_count, sizeof *entry->bits);
        if (entry->bits == NULL)
            return false;
        memcpy(entry->bits, masks->bits, masks->word_count * sizeof *entry->bits);
        masks->bytes += masks->word_count * sizeof *entry->bits;
    } else {
        entry->ids = bb_allocate(count, sizeof *entry->ids);
        if (entry->ids == NULL)
            return false;
        for (size_t i = 0; i < masks->word_count; i++)
            for (uint64_t word = masks->bits[i]; word != 0; word &= word - 1)
                entry->ids[entry->id_count++] = (int32_t)(i * 64) + __builtin_ctzll(word);
        masks->bytes += count * sizeof *entry->ids;
    }
    tidy_exits(masks);
    entry->exits = bb_allocate(masks->exit_count, sizeof *entry->exits);
    if (entry->exits == NULL)
        return false;
    if (masks->exit_count > 0)
        memcpy(entry->exits, masks->exits, masks->exit_count * sizeof *entry->exits);
    entry->exit_count = masks->exit_count;
    masks->bytes += masks->exit_count * sizeof *entry->exits;
    return true;
}

/* The walk of a new entry, from what is in `moved`. */
static bombus_status fill_entry(struct bb_masks *masks, struct entry *entry, bombus_error *error)
{
    static const uint32_t root[] = {0};
    uint32_t set;
    memset(masks->bits, 0, masks->word_count * sizeof *masks->bits);
    masks->exit_count = 0;
    bombus_status status = intern(masks, &set, error);
    const uint32_t *begins = entry->parent != 0 ? masks->entries[entry->parent].exits : root;
    uint32_t count = entry->parent != 0 ? masks->entries[entry->parent].exit_count : 1;
    for (uint32_t i = 0; i < count && status == BOMBUS_OK && set != DEAD; i++)
        status = walk(masks, begins[i], set, error);
    for (size_t i = 0; entry->is_first && masks->trie->late != NULL && i < masks->word_count; i++)
        masks->bits[i] &= ~masks->trie->late[i];
    if (status == BOMBUS_OK && !keep_mask(masks, entry))
        status = status_of(BOMBUS_ERROR_MEMORY, error);
    return status;
}

static bombus_status add_entry(struct bb_masks *masks, struct entry entry, uint32_t *bucket, uint32_t *index,
                               bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    if (!bb_grow(&masks->entries, masks->entry_count, 1, &masks->entry_capacity, sizeof *masks->entries))
        status = status_of(BOMBUS_ERROR_MEMORY, error);
    if (status == BOMBUS_OK)
        status = fill_entry(masks, &entry, error);
    if (status != BOMBUS_OK) {
        bb_release(entry.states);
        bb_release(entry.bits);
        bb_release(entry.ids);
        bb_release(entry.exits);
        return status;
    }
    entry.sibling = *bucket;
    *index = *bucket = masks->entry_count;
    masks->entries[masks->entry_count++] = entry;
    return BOMBUS_OK;
}

/* Readies for a walk: sets that grew too many are forgotten (entries do not refer to them). */
static bombus_status begin_walk(struct bb_masks *masks, bombus_error *error)
{
    masks->mover.work = 0;
    bb_configurations_reset(&masks->moved);
    if ((masks->set_count == 0 || masks->set_count > MAX_SETS / 2 || masks->item_count > MAX_SET_ITEMS / 2 ||
         masks->mover.frames.count > MAX_SET_ITEMS / 2) &&
        !forget_sets(masks))
        return status_of(BOMBUS_ERROR_MEMORY, error);
    return BOMBUS_OK;
}

/* ---- entries ---- */

/* The entry of the states of `count` configurations that share a frame. */
static bombus_status find_states(struct bb_masks *masks, const struct bb_configuration *group, uint32_t count,
                                 bool is_first, uint32_t *index, bombus_error *error)
{
    uint64_t hash = is_first;
    for (uint32_t i = 0; i < count; i++)
        hash = (hash ^ group[i].state) * UINT64_C(0x9E3779B97F4A7C15);
    uint32_t *bucket = &masks->entry_buckets[hash >> 52];
    for (*index = *bucket; *index != 0; *index = masks->entries[*index].sibling) {
        const struct entry *entry = &masks->entries[*index];
        bool is_same = entry->parent == 0 && entry->count == count && entry->is_first == is_first;
        for (uint32_t i = 0; i < count && is_same; i++)
            is_same = entry->states[i] == group[i].state;
        if (is_same)
            return BOMBUS_OK;
    }
    struct entry entry = {.count = count, .is_first = is_first, .states = bb_allocate(count, sizeof *entry.states)};
    bombus_status status = entry.states != NULL ? begin_walk(masks, error) : status_of(BOMBUS_ERROR_MEMORY, error);
    for (uint32_t i = 0; i < count && status == BOMBUS_OK; i++) {
        entry.states[i] = group[i].state;
        bb_mover_land(&masks->mover, &masks->moved, group[i].state, 0);
    }
    masks->moved.is_first = is_first;
    if (status != BOMBUS_OK) {
        bb_release(entry.states);
        return status;
    }
    return add_entry(masks, entry, bucket, index, error);
}

static uint32_t least_of(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* The entry that goes on from *index when its caller is `frame`. */
static bombus_status find_caller(struct bb_masks *masks, const struct bb_frame *frame, uint32_t *index,
                                 bombus_error *error)
{
    struct entry entry = {.parent = *index, .after = frame->after, .is_first = masks->entries[*index].is_first};
    if ((frame->after & BB_LOOP_FLAG) != 0) {
        /* How many rounds it needs at least and may have at most, as far as a token can tell. */
        const struct bb_automaton_loop *loop = &masks->automaton->loops[frame->after & ~BB_LOOP_FLAG];
        uint32_t far = masks->trie->longest + 1;
        entry.least = frame->count < loop->least ? least_of(loop->least - frame->count, far) : 0;
        entry.most = loop->most == BB_UNLIMITED ? far : least_of(loop->most - frame->count, far);
    }
    uint64_t hash = ((uint64_t)entry.parent << 32 | entry.after) * UINT64_C(0x9E3779B97F4A7C15);
    hash = (hash ^ ((uint64_t)entry.least << 32 | entry.most)) * UINT64_C(0xD6E8FEB86659FD93);
    uint32_t *bucket = &masks->entry_buckets[hash >> 52];
    for (*index = *bucket; *index != 0; *index = masks->entries[*index].sibling) {
        const struct entry *found = &masks->entries[*index];
        if (found->parent == entry.parent && found->after == entry.after && found->least == entry.least &&
            found->most == entry.most)
            return BOMBUS_OK;
    }
    bombus_status status = begin_walk(masks, error);
    if (status != BOMBUS_OK)
        return status;
    /* The same frame on an unknown bottom, left. */
    struct bb_frame bare = *frame;
    bare.parent = 0;
    bare.depth = 1;
    bb_mover_leave(&masks->mover, &masks->moved, bare);
    return add_entry(masks, entry, bucket, index, error);
}

static void put(const struct bb_masks *masks, uint32_t index, uint64_t *bits)
{
    const struct entry *entry = &masks->entries[index];
    for (size_t i = 0; entry->bits != NULL && i < masks->word_count; i++)
        bits[i] |= entry->bits[i];
    for (uint32_t i = 0; i < entry->id_count; i++)
        bits[entry->ids[i] / 64] |= UINT64_C(1) << (entry->ids[i] % 64);
}

static bombus_status find(struct bb_masks *masks, const struct bb_configurations *set, const struct bb_frames *frames,
                          uint64_t *bits, bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    if (masks->bytes > MAX_MASK_BYTES || masks->entry_count > MAX_ENTRIES)
        forget_entries(masks);
    for (uint32_t begin = 0, end; begin < set->count && status == BOMBUS_OK; begin = end) {
        uint32_t frame = set->items[begin].frame, index;
        for (end = begin + 1; end < set->count && set->items[end].frame == frame;)
            end++;
        status = find_states(masks, set->items + begin, end - begin, set->is_first, &index, error);
        if (status == BOMBUS_OK)
            put(masks, index, bits);
        for (; status == BOMBUS_OK && frame != 0 && masks->entries[index].exit_count > 0;
             frame = frames->items[frame].parent) {
            status = find_caller(masks, &frames->items[frame], &index, error);
            if (status == BOMBUS_OK)
                put(masks, index, bits);
        }
    }
    return status;
}

static size_t count_bytes(const struct bb_masks *masks)
{
    return sizeof *masks + masks->bytes + masks->entry_capacity * sizeof *masks->entries +
           masks->set_capacity * sizeof *masks->sets + masks->item_capacity * sizeof *masks->items +
           masks->move_capacity * masks->automaton->class_count * sizeof *masks->moves +
           masks->mover.frames.capacity * sizeof *masks->mover.frames.items;
}

size_t bb_masks_bytes(const struct bb_masks *masks)
{
    return atomic_load_explicit(&masks->all_bytes, memory_order_relaxed);
}

bombus_status bb_masks_find(struct bb_masks *masks, struct bb_configurations *set, const struct bb_frames *frames,
                            uint64_t *bits, bombus_error *error)
{
    memset(bits, 0, masks->word_count * sizeof *bits);
    sort_configurations(set);
    bb_lock_take(&masks->lock);
    bombus_status status = find(masks, set, frames, bits, error);
    atomic_store_explicit(&masks->all_bytes, count_bytes(masks), memory_order_relaxed);
    bb_lock_give(&masks->lock);
    return status;
}
