/* For tests that open a model of the reference data, with the open_model of their fixture. */
#ifndef OPEN_OR_SKIP_H
#define OPEN_OR_SKIP_H

#include "golden.h"

#define OPEN_OR_SKIP(opened, name, threads)                                                                            \
    do {                                                                                                               \
        if (!open_model(&(opened), (name), (threads))) {                                                               \
            SKIP_WITHOUT_GOLDEN(NULL);                                                                                 \
            return;                                                                                                    \
        }                                                                                                              \
    } while (0)

#endif
