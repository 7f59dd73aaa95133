/* Time and memory of this process and machine, for what commands print. */
#ifndef CLI_CLOCK_H
#define CLI_CLOCK_H

#include <stdint.h>

double clock_seconds(void);            /* since some moment, never going back */
double clock_processor_seconds(void);  /* that this process's threads have run, all together */
int64_t clock_peak_memory_bytes(void); /* the most that was resident at once */

#endif
