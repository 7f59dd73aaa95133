/* Posts to training data: collected, cleaned, counted, divided, and written as jsonl. */
#ifndef BB_PREPARE_H
#define BB_PREPARE_H

#include "base/buffer.h"
#include "base/error.h"

/* Posts so far, one behind the other. Zeroed with options and result set: empty; cleared by bb_posts_clear. */
struct bb_posts {
    const bombus_prepare_options *options;
    bombus_prepare_result *result;
    struct bb_buffer text;
    struct bb_post *posts; /* [count] */
    size_t count, capacity;
    uint32_t *slots; /* of a hash table: number of the post + 1 */
    size_t slot_count;
};

/* Trims, mends and judges one post; `file` and `line` are for reports. */
BB_RESULT bombus_status bb_posts_add(struct bb_posts *posts, const char *text, size_t length, const char *file, int64_t line,
                                     bombus_error *error);
/* Adds those of a file or folder (train/prepare_read.c). */
BB_RESULT bombus_status bb_posts_read(struct bb_posts *posts, const char *path, bombus_error *error);
/* Divides and writes them. */
BB_RESULT bombus_status bb_posts_write(struct bb_posts *posts, const char *folder, bombus_error *error);
void bb_posts_clear(struct bb_posts *posts);

#endif
