/* Work on text that several filters and methods share: searching, stripping, splitting, letter case, escaping. */
#ifndef BB_TEMPLATE_TEXT_H
#define BB_TEMPLATE_TEXT_H

#include "text/template/work.h"

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

#endif
