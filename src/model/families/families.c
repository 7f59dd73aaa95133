/* The list of model families. */
#include "model/families/families.h"

#include <stdio.h>
#include <string.h>

static const struct bb_family *const families[] = {
    &bb_family_llama, &bb_family_qwen,    &bb_family_mixtral, &bb_family_gemma,  &bb_family_phi3,
    &bb_family_olmo2, &bb_family_granite, &bb_family_smollm3, &bb_family_gpt_oss,
};

const struct bb_family *bb_family_find(const char *model_type)
{
    for (size_t i = 0; i < BB_COUNT(families); i++)
        for (const char *const *name = families[i]->model_types; *name != NULL; name++)
            if (strcmp(*name, model_type) == 0)
                return families[i];
    return NULL;
}

void bb_family_list(char *text, size_t size)
{
    size_t length = 0;
    text[0] = '\0';
    for (size_t i = 0; i < BB_COUNT(families); i++)
        for (const char *const *name = families[i]->model_types; *name != NULL && length < size; name++)
            length += (size_t)snprintf(text + length, size - length, "%s%s", length > 0 ? ", " : "", *name);
}
