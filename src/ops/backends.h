/* The list of devices. */
#ifndef BB_BACKENDS_H
#define BB_BACKENDS_H

#include "backend/backend.h"

/* name: NULL or "auto" (the best device present), "cpu". Another one is BOMBUS_ERROR_UNSUPPORTED with the usable ones listed. */
BB_RESULT bombus_status bb_backend_open(struct bb_backend **backend, const char *name, const struct bb_backend_options *options,
                                        bombus_error *error);
const char *bb_backend_name(size_t index); /* of those usable here; NULL behind the last */
void bb_backend_close(struct bb_backend *backend); /* NULL is allowed */
const char *bb_backend_describe(const struct bb_backend *backend);

#endif
