/* value[start:stop:step] of text, lists and ranges. */
#ifndef BB_TEMPLATE_SLICE_H
#define BB_TEMPLATE_SLICE_H

#include "text/template/work.h"

struct bb_value bb_value_slice(struct bb_work *work, struct bb_value value, struct bb_value start, struct bb_value stop,
                               struct bb_value step);

#endif
