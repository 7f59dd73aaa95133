/* Everything that commands take from the environment: folders, the hub's settings, the default model. */
#ifndef CLI_ENVIRONMENT_H
#define CLI_ENVIRONMENT_H

#include "bombus.h"

/* The hub's settings. What `options` points at lives in `hub`, until environment_hub_clear. */
struct environment_hub {
    bombus_hub_options options;
    char *cache_folder, *token;
};
void environment_hub_read(struct environment_hub *hub);
void environment_hub_clear(struct environment_hub *hub);

/* Where compiled tokenizers are kept: $XDG_CACHE_HOME/bombus. NULL where there is no home. Released by bb_release. */
char *environment_cache_folder(void);

/* $XDG_STATE_HOME/bombus/NAME, its folder made; NULL where that is not possible. Released by bb_release. */
char *environment_state_file(const char *name);

/* BOMBUS_MODEL, or the folder of the model that comes with the program: in models/ two levels above it in a build, in
 * share/bombus/models when installed. NULL where there is none. Released by bb_release. */
char *environment_default_model(void);

/* How many processes mpirun (or srun) started together; 1 where it did not. */
int64_t environment_process_count(void);

const char *environment_cpu_level(void); /* BOMBUS_CPU or NULL */

#endif
