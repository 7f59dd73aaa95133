/* Text values, made at once or piece by piece. */
#ifndef BB_TEMPLATE_BUILDER_H
#define BB_TEMPLATE_BUILDER_H

#include "base/buffer.h"
#include "text/template/work.h"

struct bb_value bb_value_text(struct bb_work *work, const char *bytes, size_t length); /* copies */
struct bb_value bb_value_string(struct bb_work *work, const char *text);               /* copies */
struct bb_value bb_value_part(struct bb_work *work, const struct bb_text *text, size_t begin,
                              size_t end); /* bytes; borrows them */
struct bb_value bb_value_markup(struct bb_work *work, struct bb_value text);

/* Text being made. Its bytes count against the work's memory, or, if `is_result`, against limits.output_bytes. */
struct bb_builder {
    struct bb_work *work;
    struct bb_buffer buffer;
    bool is_result;
    bombus_span *spans; /* of generation blocks, in the work's memory */
    size_t span_count, span_capacity;
};

void bb_build(struct bb_builder *builder, const void *bytes, size_t count);
void bb_build_string(struct bb_builder *builder, const char *text);
void bb_build_byte(struct bb_builder *builder, char byte);
void bb_build_repeated(struct bb_builder *builder, const struct bb_text *text, int64_t count);
void bb_build_code(struct bb_builder *builder, uint32_t code);                             /* a code point as UTF-8 */
void bb_build_format(struct bb_builder *builder, const char *format, ...) BB_PRINTF(2, 3); /* at most 500 bytes */
void bb_build_span(struct bb_builder *builder, size_t begin, size_t end);
struct bb_value
bb_build_finish(struct bb_builder *builder); /* the text; the builder is empty then, also after an error */
void bb_build_drop(struct bb_builder *builder);

#endif
