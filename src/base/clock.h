/* Monotonic time. */
#ifndef BB_CLOCK_H
#define BB_CLOCK_H

double bb_clock_seconds(void); /* since some moment, never going back */

#endif
