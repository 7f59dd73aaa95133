/* Training data from posts. */
#include "api/handles.h"
#include "train/prepare.h"

#include <string.h>

static bombus_status finish(struct bb_posts *posts, bombus_status status, const char *folder, bombus_error *error)
{
    if (status == BOMBUS_OK)
        status = bb_posts_write(posts, folder, error);
    bb_posts_clear(posts);
    return status;
}

/* What both calls begin with; `own` stands in for a result that is not wanted. */
static bombus_status begin(struct bb_posts *posts, const void *array, size_t count, const char *folder,
                           const bombus_prepare_options *options, bombus_prepare_result *result, bombus_error *error)
{
    static const bombus_prepare_options defaults;
    *result = (bombus_prepare_result){0};
    *posts = (struct bb_posts){.options = options != NULL ? options : &defaults, .result = result};
    bombus_status status = bb_check_array(array, count, "posts", error);
    return status == BOMBUS_OK ? bb_check_pointer(folder, "folder", error) : status;
}

bombus_status bombus_prepare_data(const char *const *texts, const size_t *lengths, size_t count, const char *folder,
                                  const bombus_prepare_options *options, bombus_prepare_result *result, bombus_error *error)
{
    struct bb_posts posts;
    bombus_prepare_result own;
    bombus_status status = begin(&posts, texts, count, folder, options, result != NULL ? result : &own, error);
    for (size_t i = 0; i < count && status == BOMBUS_OK; i++) {
        status = bb_check_pointer(texts[i], "posts", error);
        if (status == BOMBUS_OK)
            status = bb_posts_add(&posts, texts[i], lengths != NULL ? lengths[i] : strlen(texts[i]), "", (int64_t)i + 1, error);
    }
    return finish(&posts, status, folder, error);
}

bombus_status bombus_prepare_files(const char *const *paths, size_t count, const char *folder,
                                   const bombus_prepare_options *options, bombus_prepare_result *result, bombus_error *error)
{
    struct bb_posts posts;
    bombus_prepare_result own;
    bombus_status status = begin(&posts, paths, count, folder, options, result != NULL ? result : &own, error);
    for (size_t i = 0; i < count && status == BOMBUS_OK; i++) {
        status = bb_check_pointer(paths[i], "paths", error);
        if (status == BOMBUS_OK)
            status = bb_posts_read(&posts, paths[i], error);
    }
    return finish(&posts, status, folder, error);
}
