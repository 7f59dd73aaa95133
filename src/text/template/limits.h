/* Bounds of what one compilation or rendering may take. */
#ifndef BB_TEMPLATE_LIMITS_H
#define BB_TEMPLATE_LIMITS_H

#include <stddef.h>
#include <stdint.h>

struct bb_template_limits {
    uint64_t steps;      /* evaluated nodes and loop turns; 0: 20 million */
    size_t output_bytes; /* 0: 64 MiB */
    size_t memory_bytes; /* values made while rendering; 0: 256 MiB */
    int32_t depth;       /* nesting of source, calls and values; 0: 100 */
};

/* Zeros become the defaults. */
void bb_template_limits_fill(struct bb_template_limits *limits,
                             const struct bb_template_limits *given); /* given may be NULL */

#endif
