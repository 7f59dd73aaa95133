/* Tables of unicode.c: sorted, disjoint ranges of characters outside ASCII. Made by tools/make_unicode_tables.py. */
#ifndef BB_UNICODE_TABLES_H
#define BB_UNICODE_TABLES_H

#include <stddef.h>
#include <stdint.h>

struct bb_character_range {
    uint32_t first, last;
};

/* lower case = character + difference, for every `stride`th character of the range */
struct bb_character_mapping {
    uint32_t first, last;
    int32_t difference, stride;
};

/* `stand_in` is an older character of the same category, script and UTF-8 size */
struct bb_character_stand_in {
    uint32_t first, last, stand_in;
};

extern const struct bb_character_range bb_number_ranges[], bb_punctuation_ranges[], bb_word_ranges[], bb_mark_ranges[],
    bb_inert_ranges[];
extern const size_t bb_number_range_count, bb_punctuation_range_count, bb_word_range_count, bb_mark_range_count,
    bb_inert_range_count;
extern const struct bb_character_stand_in bb_newer_ranges[];
extern const size_t bb_newer_range_count;
extern const struct bb_character_mapping bb_lower_ranges[];
extern const size_t bb_lower_range_count;

#endif
