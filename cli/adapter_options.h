/* -a/--adapter-path, which may be given more than once, and what opens what it names. */
#ifndef CLI_ADAPTER_OPTIONS_H
#define CLI_ADAPTER_OPTIONS_H

#include "cli/options.h"

#include "bombus.h"

struct adapter_settings {
    struct option_list adapters; /* "REFERENCE" or "REFERENCE=SCALE" */
};
extern const struct option adapter_options[1];

/* A reference and its factor: the part behind the last '=' where that is a number and no folder has the whole name. *reference: free with
 * bb_release. */
bombus_status adapter_split(const char *text, char **reference, float *factor, bombus_error *error);

/* Open adapters and their factors; zeroed = none. */
struct adapters {
    bombus_adapter *list[OPTION_LIST_LIMIT];
    float factors[OPTION_LIST_LIMIT];
    const char *names[OPTION_LIST_LIMIT]; /* as given, borrowed from the settings */
    size_t count;
};

/* Downloads what is not there, and opens all for the model. Close them also after failure. */
bombus_status adapters_open(struct adapters *adapters, const struct adapter_settings *settings, const bombus_model *model, bombus_error *error);
void adapters_close(struct adapters *adapters);
/* The session computes with their sum from now on. */
bombus_status adapters_apply(const struct adapters *adapters, bombus_session *session, bombus_error *error);

#endif
