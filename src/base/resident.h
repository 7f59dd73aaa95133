/* Memory of this process, and what it can still take, as the system counts them. */
#ifndef BB_RESIDENT_H
#define BB_RESIDENT_H

#include <stdint.h>

/* Bytes that were resident at most, so far. */
uint64_t bb_resident_peak(void);
/* Bytes that this process can still take, caches that the system would give up included; 0: not known. */
uint64_t bb_resident_room(void);

#endif
