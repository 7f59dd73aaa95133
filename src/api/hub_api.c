/* The hub's wall: checks arguments and hands on. */
#include "api/handles.h"
#include "files/hub.h"

bombus_status bombus_hub_resolve(char **folder, const char *reference, const bombus_hub_options *options,
                                 bombus_error *error)
{
    bombus_status status = bb_check_pointer(folder, "folder", error);
    if (status != BOMBUS_OK)
        return status;
    *folder = NULL;
    status = bb_check_pointer(reference, "reference", error);
    if (status != BOMBUS_OK)
        return status;
    return bb_hub_resolve(folder, reference, options, error);
}
