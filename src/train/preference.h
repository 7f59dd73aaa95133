/* The losses of preferences: what a pair of log-probabilities costs, and how the cost changes with each of them. */
#ifndef BB_PREFERENCE_H
#define BB_PREFERENCE_H

#include "base/error.h"

/* Of one answer: sums of ln p over its tokens, under the model that is trained and under the one that it began from. */
struct bb_answer {
    double logprob, reference;
    int64_t count; /* tokens */
};

struct bb_preference {
    double loss;
    double chosen_slope, rejected_slope; /* d loss / d logprob of each answer */
};

/* Rafailov et al. 2023, with d = (chosen - its reference) - (rejected - its reference):
 *   sigmoid  -(1 - s) ln sigmoid(beta d) - s ln sigmoid(-beta d), s the label smoothing
 *   hinge    max(0, 1 - beta d)
 *   ipo      (d - 1 / (2 beta))^2 with each answer's part of d divided by its count of tokens */
struct bb_preference bb_preference_dpo(const struct bb_answer *chosen, const struct bb_answer *rejected,
                                       bombus_dpo_loss kind, double beta, double label_smoothing);

/* Hong et al. 2024, the part of the odds: -beta ln sigmoid(ln odds(chosen) - ln odds(rejected)), where odds(p) = p / (1 - p) of the mean
 * log-probability of a token. The log-likelihood of the chosen answer comes beside it (objective.c). */
struct bb_preference bb_preference_orpo(const struct bb_answer *chosen, const struct bb_answer *rejected, double beta);

#endif
