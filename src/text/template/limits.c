/* Bounds of what one compilation or rendering may take. */
#include "text/template/limits.h"

void bb_template_limits_fill(struct bb_template_limits *limits, const struct bb_template_limits *given)
{
    *limits = given != NULL ? *given : (struct bb_template_limits){0};
    if (limits->steps == 0)
        limits->steps = 20 * 1000 * 1000;
    if (limits->output_bytes == 0)
        limits->output_bytes = (size_t)64 << 20;
    if (limits->memory_bytes == 0)
        limits->memory_bytes = (size_t)256 << 20;
    if (limits->depth <= 0)
        limits->depth = 100;
}
