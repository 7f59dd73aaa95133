/* The hub's wall: checks arguments and hands on. */
#include "files/hub.h"

bombus_status bombus_hub_resolve(char **folder, const char *reference, const bombus_hub_options *options,
                                 bombus_error *error)
{
    if (folder == NULL || reference == NULL)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "bombus_hub_resolve: folder and reference must be given");
    return bb_hub_resolve(folder, reference, options, error);
}
