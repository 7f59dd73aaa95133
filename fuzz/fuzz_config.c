/* Any text as config.json: the getters, and the quantization of a checkpoint. Recipes are fuzz_model_config.c. */
#include "files/checkpoint_weight.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Every getter on every key of the root. */
static void read_keys(const struct bb_config *config)
{
    const char *key, *text;
    double number;
    int64_t integer;
    bool boolean;
    bombus_error error;
    for (size_t i = 0; i < 100 && (key = bb_config_object_key(config, "", i)) != NULL; i++) {
        if (bb_config_integer(config, key, 1, -5, 1000, &integer, &error) == BOMBUS_OK &&
            (integer < -5 || integer > 1000))
            abort();
        if (bb_config_number(config, key, 1.0, &number, &error) == BOMBUS_OK && isnan(number))
            abort();
        if (bb_config_boolean(config, key, true, &boolean, &error) != BOMBUS_OK && error.status != BOMBUS_ERROR_FORMAT)
            abort();
        if (bb_config_text(config, key, NULL, &text, &error) == BOMBUS_OK && text != NULL && text[0] == 1)
            continue;
        size_t length = bb_config_array_length(config, key);
        for (size_t j = 0; j < length + 1 && j < 100; j++)
            if (bb_config_array_number(config, key, j, &number, &error) == BOMBUS_OK &&
                bb_config_array_text(config, key, j, &text, &error) == BOMBUS_OK)
                abort(); /* nothing is both */
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bb_checkpoint checkpoint = {0};
    bombus_error error;
    if (bb_config_parse(&checkpoint.config, (const char *)data, size, "fuzz.json", &error) != BOMBUS_OK)
        return 0;
    read_keys(checkpoint.config);
    bombus_status status = bb_checkpoint_read_quantization(&checkpoint, &error);
    if (status == BOMBUS_OK && (checkpoint.scheme.mode != BB_QUANT_NONE) != (checkpoint.quantization_key != NULL))
        abort();
    bb_checkpoint_close(&checkpoint);
    return 0;
}
