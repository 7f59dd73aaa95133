/* Model folders by reference: hf:owner/name[@revision] through the cache that the Hugging Face tools share. */
#ifndef BB_HUB_H
#define BB_HUB_H

#include "base/error.h"

/* As bombus_hub_resolve; *folder is released by bb_release. */
BB_RESULT bombus_status bb_hub_resolve(char **folder, const char *reference, const bombus_hub_options *options,
                                       bombus_error *error);

#endif
