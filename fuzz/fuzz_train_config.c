/* Any text as a YAML file of training settings: read or refused, and what is read lies within its bounds. */
#include "train/train_config.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bb_train_config config;
    bombus_error error;
    bb_train_config_init(&config);
    bombus_status status = bb_train_config_parse(&config, (const char *)data, size, "fuzz.yaml", &error);
    if (config.options.batch_size < 1 || config.options.iters < 1 || config.options.max_seq_length < 2 || config.options.rank < 1 ||
        !isfinite(config.options.learning_rate) || config.options.schedule.part_count > BOMBUS_SCHEDULE_PART_LIMIT ||
        config.ignored_count > BB_IGNORED_LIMIT || config.options.adapter_path == NULL)
        abort();
    if (status != BOMBUS_OK && config.options.iters != 1000)
        abort(); /* a refused file leaves the settings alone */
    bb_train_config_clear(&config);
    return 0;
}
