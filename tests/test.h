/* cmocka, and what it lacks: comparing arrays of floats with the worst element in the message, and finding test data. */
#ifndef TEST_H
#define TEST_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "bombus.h"

/* Fails unless |actual[i] - expected[i]| <= tolerance for all i (NaN fails); says the worst element. */
static inline void check_near(const float *actual, const float *expected, size_t count, double tolerance, const char *what,
                              const char *file, int line)
{
    double worst = -1.0;
    size_t place = 0;
    for (size_t i = 0; i < count; i++) {
        double difference = actual[i] == expected[i] ? 0.0 : fabs((double)actual[i] - (double)expected[i]);
        if (!(difference <= worst) && !(worst != worst)) {
            worst = difference;
            place = i;
        }
    }
    if (!(worst <= tolerance))
    {
        print_error("%s: worst difference %g at %zu: %.9g, expected %.9g (tolerance %g)\n", what, worst, place,
                    (double)actual[place], (double)expected[place], tolerance);
        _fail(file, line);
    }
}
#define CHECK_NEAR(actual, expected, count, tolerance) \
    check_near((actual), (expected), (count), (tolerance), #actual, __FILE__, __LINE__)

/* Fails with the error's message unless `call` gives BOMBUS_OK. */
#define CHECK_OK(call, error)                                                                \
    do {                                                                                     \
        bombus_status check_status = (call);                                                 \
        if (check_status != BOMBUS_OK) {                                                     \
            print_error("%s: %s: %s\n", #call, bombus_status_name(check_status), (error).message); \
            _fail(__FILE__, __LINE__);                                                       \
        }                                                                                    \
    } while (0)

/* Path of reference data (../shared/golden/NAME) in a static buffer, or NULL where it is absent: a test then says
 * `SKIP_WITHOUT_GOLDEN` and skips. Tests run from the repository's root. */
static inline const char *golden_path(const char *name)
{
    static char paths[8][512];
    static int next;
    const char *root = getenv("BOMBUS_GOLDEN");
    char *path = paths[next++ & 7];
    snprintf(path, sizeof paths[0], "%s/%s", root != NULL ? root : "../shared/golden", name);
    return access(path, R_OK) == 0 ? path : NULL;
}
#define SKIP_WITHOUT_GOLDEN(path)                                                            \
    do {                                                                                     \
        if ((path) == NULL) {                                                                \
            print_message("skipped: reference data (golden/) is not on this machine\n");     \
            skip();                                                                          \
        }                                                                                    \
    } while (0)

#endif
