/* Granite 3 (dense): Llama's block with multipliers on embedding, attention, residual and logits. */
#include "model/families/family.h"
#include "model/rope.h"

static void configure(struct bb_reader *reader, struct bb_recipe *recipe)
{
    recipe->embedding_scale = bb_read_number(reader, "embedding_multiplier", 1.0);
    recipe->residual_scale = bb_read_number(reader, "residual_multiplier", 1.0);
    recipe->attention_scale = bb_read_number(reader, "attention_multiplier", 1.0);
    float scaling = bb_read_number(reader, "logits_scaling", 1.0);
    if (scaling == 0.0F)
        bb_read_reject(reader, "logits_scaling must not be 0");
    else
        recipe->logit_scale = 1.0F / scaling;
    bb_read_common_rope(reader, recipe, 10000.0);
}

static const char *const model_types[] = { "granite", NULL };

const struct bb_family bb_family_granite = { .model_types = model_types, .names = &bb_llama_names, .configure = configure };
