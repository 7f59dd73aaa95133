/* JSON: json.dumps as transformers' tojson uses it, and reading the variables. */
#ifndef BB_TEMPLATE_JSON_H
#define BB_TEMPLATE_JSON_H

#include "text/template/builder.h"

/* json.dumps; `indent`: none, integer or text. */
struct bb_json_style {
    bool ensure_ascii, sort_keys;
    struct bb_value indent; /* NONE or TEXT */
    const struct bb_text *item_separator, *key_separator;
};
void bb_json_write(struct bb_builder *builder, struct bb_value value, const struct bb_json_style *style);
/* JSON text to a value. Errors: BOMBUS_ERROR_FORMAT with line and column in the JSON. */
struct bb_value bb_json_read(struct bb_work *work, const char *text, size_t length);

#endif
