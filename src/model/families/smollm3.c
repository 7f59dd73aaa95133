/* SmolLM3: Llama's block; every fourth layer (or as no_rope_layers says: 1 has rope, 0 has none) is without rotary embedding. */
#include "model/families/family.h"
#include "model/rope.h"

static void configure(struct bb_reader *reader, struct bb_recipe *recipe)
{
    bb_read_layer_types(reader, recipe, bb_read_integer(reader, "sliding_window", 0, 0, INT32_MAX), false);
    bb_read_common_rope(reader, recipe, 2e6);
    int32_t interval = bb_read_integer(reader, "no_rope_layer_interval", 4, 1, INT32_MAX);
    bool has_list = bb_read_has(reader, "no_rope_layers");
    size_t count = bb_config_array_length(reader->config, "no_rope_layers");
    if (has_list && count != (size_t)recipe->num_hidden_layers)
        bb_read_reject(reader, "no_rope_layers has %zu entries for %d layers", count, recipe->num_hidden_layers);
    for (int32_t i = 0; i < recipe->num_hidden_layers && reader->status == BOMBUS_OK; i++) {
        double has_rope = (i + 1) % interval != 0;
        if (has_list)
            reader->status = bb_config_array_number(reader->config, "no_rope_layers", (size_t)i, &has_rope, reader->error);
        if (has_rope == 0.0)
            recipe->layers[i].rope = NULL;
    }
}

static const char *const model_types[] = { "smollm3", NULL };

const struct bb_family bb_family_smollm3 = { .model_types = model_types, .names = &bb_llama_names, .configure = configure };
