/* strftime of the work's clock, in English whatever the locale. */
#ifndef BB_TEMPLATE_CLOCK_H
#define BB_TEMPLATE_CLOCK_H

#include "text/template/builder.h"

/* Of work->now. */
void bb_format_time(struct bb_builder *builder, const struct bb_text *format);

#endif
