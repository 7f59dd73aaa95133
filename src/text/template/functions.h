/* The tables of built-in filters, tests and global functions, and helpers of several of them. */
#ifndef BB_TEMPLATE_FUNCTIONS_H
#define BB_TEMPLATE_FUNCTIONS_H

#include "text/template/work.h"

/* A table ends with a NULL name. */
extern const struct bb_function bb_text_filters[], bb_sequence_filters[], bb_value_filters[], bb_tests[],
    bb_global_functions[];

/* Sorts in place, stable; keys[i] belongs to items[i]. */
void bb_value_sort(struct bb_work *work, struct bb_value *items, struct bb_value *keys, size_t count, bool is_reverse);
/* Byte offset of the first (last) occurrence in text[begin, end) or SIZE_MAX. */
size_t bb_text_find(struct bb_work *work, const struct bb_text *text, const struct bb_text *part, size_t begin,
                    size_t end);
size_t bb_text_find_last(struct bb_work *work, const struct bb_text *text, const struct bb_text *part, size_t begin,
                         size_t end);
struct bb_value bb_text_replace(struct bb_work *work, const struct bb_text *text, const struct bb_text *old,
                                const struct bb_text *new_, int64_t count);
struct bb_value bb_text_strip(struct bb_work *work, const struct bb_text *text, const struct bb_text *characters,
                              bool left, bool right);
struct bb_value bb_text_lines(struct bb_work *work, const struct bb_text *text, bool keep_ends);
struct bb_value bb_text_center(struct bb_work *work, const struct bb_text *text, int64_t width,
                               const struct bb_text *fill, int side);
enum bb_letter_case { BB_CASE_LOWER, BB_CASE_UPPER, BB_CASE_CAPITALIZE, BB_CASE_TITLE, BB_CASE_SWAP, BB_CASE_FOLD };
struct bb_value bb_text_case(struct bb_work *work, const struct bb_text *text, enum bb_letter_case letter_case);
bool bb_text_is_cased(struct bb_work *work, const struct bb_text *text, bool is_upper); /* str.isupper, str.islower */
/* HTML escaped, as Markup. */
struct bb_value bb_text_escape(struct bb_work *work, struct bb_value value);
/* `part` as it may be put into `text`: escaped if that is Markup. */
struct bb_value bb_text_escape_for(struct bb_work *work, const struct bb_text *text, struct bb_value part);
/* json.dumps; `indent`: none, integer or text. */
struct bb_json_style {
    bool ensure_ascii, sort_keys;
    struct bb_value indent; /* NONE or TEXT */
    const struct bb_text *item_separator, *key_separator;
};
void bb_json_write(struct bb_builder *builder, struct bb_value value, const struct bb_json_style *style);
/* JSON text to a value. Errors: BOMBUS_ERROR_FORMAT with line and column in the JSON. */
struct bb_value bb_json_read(struct bb_work *work, const char *text, size_t length);
/* int() and float() of text; false if it is no number. */
bool bb_parse_integer(struct bb_work *work, const struct bb_text *text, int64_t base, struct bb_value *value);
bool bb_parse_real(const struct bb_text *text, double *real);
struct bb_value bb_integer_of_real(struct bb_work *work, double real); /* truncated */
/* strftime of work->now. */
void bb_format_time(struct bb_builder *builder, const struct bb_text *format);

#endif
