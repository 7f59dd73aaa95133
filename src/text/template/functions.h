/* The tables of built-in filters, tests, methods and global functions, and how they are called. */
#ifndef BB_TEMPLATE_FUNCTIONS_H
#define BB_TEMPLATE_FUNCTIONS_H

#include "text/template/work.h"

enum { BB_MAX_PARAMETERS = 6 };

/* A table ends with a NULL name. */
extern const struct bb_function bb_text_filters[], bb_sequence_filters[], bb_value_filters[], bb_tests[],
    bb_global_functions[];
extern const struct bb_function bb_text_methods[], bb_text_search_methods[], bb_dict_methods[], bb_list_methods[];

/* NULL if there is none of that name. One without a body is known but not supported. */
const struct bb_function *bb_find_filter(const struct bb_text *name);
const struct bb_function *bb_find_test(const struct bb_text *name);
const struct bb_function *bb_find_global(const struct bb_text *name);
/* A method of the value: BB_VALUE_FUNCTION bound to it, or MISSING if it has none of that name; one that would change the value
 * or leads into Python is undefined, with the sandbox's message. */
struct bb_value bb_find_method(struct bb_work *work, struct bb_value value, struct bb_value name);

/* Calls a function with arguments put in the order of its parameters. */
struct bb_value bb_call_function(struct bb_work *work, const struct bb_function *function, struct bb_value self,
                                 const struct bb_arguments *arguments);
/* Filters and tests by name, for map, select and the like. */
struct bb_value bb_call_filter(struct bb_work *work, struct bb_value name, struct bb_value value,
                               const struct bb_arguments *arguments);
bool bb_call_test(struct bb_work *work, struct bb_value name, struct bb_value value,
                  const struct bb_arguments *arguments);
/* Any callable value: functions, methods, macros, loops, joiners. */
struct bb_value bb_value_call(struct bb_work *work, struct bb_value callee, const struct bb_arguments *arguments);

/* ---- operators and access ---- */

const char *bb_operation_name(int32_t operation);
struct bb_value bb_value_arithmetic(struct bb_work *work, int32_t operation, struct bb_value a, struct bb_value b);
struct bb_value bb_value_negate(struct bb_work *work, struct bb_value value, bool is_negative);
bool bb_value_contains(struct bb_work *work, struct bb_value container, struct bb_value value);
struct bb_value bb_value_attribute(struct bb_work *work, struct bb_value value, struct bb_value name); /* value.name */
struct bb_value bb_value_item(struct bb_work *work, struct bb_value value, struct bb_value index); /* value[index] */
struct bb_value bb_value_slice(struct bb_work *work, struct bb_value value, struct bb_value start, struct bb_value stop,
                               struct bb_value step);

/* ---- helpers of several tables ---- */

/* Text of a parameter: str() of it. */
const struct bb_text *bb_text_argument(struct bb_work *work, struct bb_value value);
/* A parameter that must be text, or an integer; an error otherwise. `what` names it. */
const struct bb_text *bb_require_text(struct bb_work *work, struct bb_value value, const char *what);
int64_t bb_require_integer(struct bb_work *work, struct bb_value value, int64_t missing);
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
/* A keyword more; grows in the work's memory. */
bool bb_arguments_append(struct bb_work *work, struct bb_arguments *arguments, struct bb_value name,
                         struct bb_value value);
/* HTML escaped, as Markup. */
struct bb_value bb_text_escape(struct bb_work *work, struct bb_value value);
/* `part` as it may be put into `text`: escaped if that is Markup. */
struct bb_value bb_text_escape_for(struct bb_work *work, const struct bb_text *text, struct bb_value part);
/* text % value; str.format; format() of one value by a format specification. */
struct bb_value bb_format_percent(struct bb_work *work, const struct bb_text *format, struct bb_value values);
struct bb_value bb_format_braces(struct bb_work *work, const struct bb_text *format,
                                 const struct bb_arguments *arguments);
void bb_format_value(struct bb_builder *builder, struct bb_value value, const char *specification, size_t length);
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
