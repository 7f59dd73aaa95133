/* Memory of this process as the system counts it. */
#ifndef BB_RESIDENT_H
#define BB_RESIDENT_H

#include <stdint.h>

/* Bytes that were resident at most, so far. */
uint64_t bb_resident_peak(void);

#endif
