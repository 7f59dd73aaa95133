/* config.json -> recipe, from any bytes. */
#include "base/memory.h"
#include "model/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct bb_recipe recipe;
    struct bb_config *config = NULL;
    struct bb_arena arena = {0};
    bombus_error error;
    bombus_status status = bb_config_parse(&config, (const char *)data, size, "config.json", &error);
    if (status == BOMBUS_OK)
        status = bb_recipe_read(&recipe, config, &arena, &error);
    if (status == BOMBUS_OK && (recipe.num_hidden_layers < 1 || recipe.num_attention_heads % recipe.num_key_value_heads != 0))
        __builtin_trap();
    bb_arena_clear(&arena);
    bb_config_close(config);
    return 0;
}
