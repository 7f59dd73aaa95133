/* One row of logits [vocab_size]: its largest entries, its normalizer, and selections of it without a full sort. Plain
 * C that compilers turn into vector code; the same numbers on every machine level (no reassociation). NaN counts as
 * absent. */
#ifndef BB_LOGITS_H
#define BB_LOGITS_H

#include "base/error.h"

enum { BB_LOGITS_BLOCK = 64 }; /* entries a block maximum covers */

/* Index of the largest entry, the first of equal ones; -1 if no entry is a number above -infinity. */
int32_t bb_logits_argmax(const float *logits, int32_t count);

/* out[i] = e^((logits[i] - maximum) * scale), relative error below 1e-6; 0 where that is below e^-87. */
void bb_logits_exp(float *out, const float *logits, int32_t count, float maximum, float scale);

/* The sum of e^(logits[i] - maximum). */
double bb_logits_sum_exp(const float *logits, int32_t count, float maximum);

/* ln of the sum of e^logits[i]: `fast` as above, `exact` in f64 throughout. -infinity where there is nothing to sum. */
double bb_logits_log_sum_exp(const float *logits, int32_t count);
double bb_logits_log_sum_exp_exact(const float *logits, int32_t count);

struct bb_candidate {
    float logit;
    float weight; /* set by bb_selection_weigh */
    int32_t id;
};

/* Some entries of a row. Made once for a vocabulary and used for every row: no allocation a token. */
struct bb_selection {
    int32_t vocab_size;
    float *maxima;                   /* of the blocks of the row last measured */
    float *scratch;                  /* [blocks] */
    struct bb_candidate *candidates; /* [vocab_size] */
    int32_t count;                   /* of candidates chosen */
};

BB_RESULT bombus_status bb_selection_init(struct bb_selection *selection, int32_t vocab_size, bombus_error *error);
void bb_selection_clear(struct bb_selection *selection); /* a zeroed one is allowed */

/* Block maxima of a row (of the block that holds `id` alone); measured before gather and gather_top. */
void bb_selection_measure(struct bb_selection *selection, const float *logits);
void bb_selection_measure_block(struct bb_selection *selection, const float *logits, int32_t id);
/* Chooses the entries >= bound (and above -infinity), in order of id. */
void bb_selection_gather(struct bb_selection *selection, const float *logits, float bound);
/* Chooses a few more than the `keep` largest entries: all that are >= some bound which at least `keep` reach. */
void bb_selection_gather_top(struct bb_selection *selection, const float *logits, int32_t keep);
/* Of the chosen ones, keeps the `keep` largest (of equal ones those of lower id), in no particular order. */
void bb_selection_keep_top(struct bb_selection *selection, int32_t keep);
/* Gives the chosen ones their weights, e^(logit - maximum); returns the sum. */
double bb_selection_weigh(struct bb_selection *selection, float maximum);
/* Of the chosen and weighed ones, keeps those before which, in falling order, less than `mass` stands; and all that
 * equal the last of them. */
void bb_selection_keep_mass(struct bb_selection *selection, double mass);
/* Falling order; equal ones by id. For short selections: the time grows with the square. */
void bb_selection_sort(struct bb_selection *selection);

#endif
