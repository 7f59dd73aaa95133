/* What a model folder holds, as JSON. */
#ifndef BB_INSPECT_H
#define BB_INSPECT_H

#include "base/buffer.h"
#include "base/error.h"

/* Appends one JSON object. A folder that cannot be run is described all the same, with the reasons under "unsupported";
 * `problems` [problem_count] are further reasons that the caller knows. Fails where there is nothing to describe: no
 * folder, no config.json, damaged files. */
BB_RESULT bombus_status bb_inspect(struct bb_buffer *json, const char *folder, const char *const *problems,
                                   size_t problem_count, bombus_error *error);

#endif
