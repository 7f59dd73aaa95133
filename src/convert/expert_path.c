/* Names of experts, split at the folder that holds them. */
#include "convert/expert_path.h"

#include "base/compiler.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DIGITS = 6 };

static const char stack_folder[] = ".switch_mlp.", alone_folder[] = ".experts.", mixtral[] = "block_sparse_moe";
static const struct {
    const char *stacked, *alone;
} mixtral_names[] = {{"gate_proj", "w1"}, {"up_proj", "w3"}, {"down_proj", "w2"}};

/* "PARENT.experts.7.NAME" */
struct split {
    size_t parent; /* length */
    int32_t expert;
    const char *name;
};

static bool split_alone(const char *path, struct split *split)
{
    const char *folder = strstr(path, alone_folder);
    const char *number = folder != NULL ? folder + sizeof alone_folder - 1 : "";
    const size_t digits = strspn(number, "0123456789");
    if (digits == 0 || digits > DIGITS || number[digits] != '.')
        return false;
    *split = (struct split){.parent = (size_t)(folder - path),
                            .expert = (int32_t)strtol(number, NULL, 10),
                            .name = number + digits + 1};
    return true;
}

static bool split_stack(const char *path, struct split *split)
{
    const char *folder = strstr(path, stack_folder);
    if (folder == NULL)
        return false;
    *split = (struct split){.parent = (size_t)(folder - path), .name = folder + sizeof stack_folder - 1};
    return true;
}

bool bb_expert_path_is_alone(const char *path)
{
    struct split split;
    return split_alone(path, &split);
}

bool bb_expert_path_is_stack(const char *path)
{
    struct split split;
    return split_stack(path, &split);
}

static bool is_in_mixtral(const char *path, const struct split *split)
{
    const size_t length = sizeof mixtral - 1;
    return split->parent >= length && memcmp(path + split->parent - length, mixtral, length) == 0;
}

const char *bb_expert_path_alone(struct bb_arena *arena, const char *stack, int32_t expert)
{
    struct split split = {0};
    (void)split_stack(stack, &split);
    for (size_t i = 0; i < BB_COUNT(mixtral_names) && is_in_mixtral(stack, &split); i++)
        if (strcmp(split.name, mixtral_names[i].stacked) == 0) {
            split.name = mixtral_names[i].alone;
            break;
        }
    const size_t size = strlen(stack) + sizeof alone_folder + DIGITS + 8;
    char *path = bb_arena_allocate(arena, 1, size);
    if (path != NULL)
        snprintf(path, size, "%.*s%s%d.%s", (int)split.parent, stack, alone_folder, expert, split.name);
    return path;
}

const char *bb_expert_path_stack(struct bb_arena *arena, const char *alone, int32_t *expert)
{
    struct split split = {0};
    (void)split_alone(alone, &split);
    for (size_t i = 0; i < BB_COUNT(mixtral_names) && is_in_mixtral(alone, &split); i++)
        if (strcmp(split.name, mixtral_names[i].alone) == 0) {
            split.name = mixtral_names[i].stacked;
            break;
        }
    *expert = split.expert;
    const size_t size = strlen(alone) + sizeof stack_folder + sizeof "gate_proj";
    char *path = bb_arena_allocate(arena, 1, size);
    if (path != NULL)
        snprintf(path, size, "%.*s%s%s", (int)split.parent, alone, stack_folder, split.name);
    return path;
}
