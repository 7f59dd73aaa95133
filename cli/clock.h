/* Time and memory of this process, for the timings that commands print. */
#ifndef CLI_CLOCK_H
#define CLI_CLOCK_H

#include <stdint.h>

double clock_seconds(void);            /* since some moment, never going back */
int64_t clock_peak_memory_bytes(void); /* the most that was resident at once */

#endif
