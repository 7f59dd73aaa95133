/* DPO's and ORPO's losses of one pair, in f64. */
#include "train/preference.h"

#include <math.h>

static double sigmoid(double x)
{
    return x >= 0.0 ? 1.0 / (1.0 + exp(-x)) : exp(x) / (1.0 + exp(x));
}

static double log_sigmoid(double x)
{
    return x >= 0.0 ? -log1p(exp(-x)) : x - log1p(exp(x));
}

static double tokens_of(const struct bb_answer *answer)
{
    return answer->count > 0 ? (double)answer->count : 1.0;
}

struct bb_preference bb_preference_dpo(const struct bb_answer *chosen, const struct bb_answer *rejected,
                                       bombus_dpo_loss kind, double beta, double label_smoothing)
{
    double chosen_ratio = chosen->logprob - chosen->reference, rejected_ratio = rejected->logprob - rejected->reference;
    struct bb_preference result = {0};
    double margin = beta * (chosen_ratio - rejected_ratio), slope = 0.0;
    switch (kind) {
    case BOMBUS_DPO_SIGMOID:
        result.loss = -(1.0 - label_smoothing) * log_sigmoid(margin) - label_smoothing * log_sigmoid(-margin);
        slope = -(1.0 - label_smoothing) * sigmoid(-margin) + label_smoothing * sigmoid(margin);
        break;
    case BOMBUS_DPO_HINGE:
        result.loss = margin < 1.0 ? 1.0 - margin : 0.0;
        slope = margin < 1.0 ? -1.0 : 0.0;
        break;
    case BOMBUS_DPO_IPO: {
        double distance = chosen_ratio / tokens_of(chosen) - rejected_ratio / tokens_of(rejected) - 0.5 / beta;
        result.loss = distance * distance;
        result.chosen_slope = 2.0 * distance / tokens_of(chosen);
        result.rejected_slope = -2.0 * distance / tokens_of(rejected);
        return result;
    }
    }
    result.chosen_slope = beta * slope;
    result.rejected_slope = -beta * slope;
    return result;
}

/* ln(1 - e^x) for x < 0, without loss of digits on either side. A mean of exactly 0 (certainty) is taken as the least below it. */
static double log_one_minus_exp(double x)
{
    x = fmin(x, -1e-12);
    return x > -0.6931471805599453 ? log(-expm1(x)) : log1p(-exp(x));
}

struct bb_preference bb_preference_orpo(const struct bb_answer *chosen, const struct bb_answer *rejected, double beta)
{
    double chosen_mean = chosen->logprob / tokens_of(chosen), rejected_mean = rejected->logprob / tokens_of(rejected);
    double log_odds = (chosen_mean - log_one_minus_exp(chosen_mean)) - (rejected_mean - log_one_minus_exp(rejected_mean));
    double slope = -beta * sigmoid(-log_odds);
    return (struct bb_preference){
        .loss = -beta * log_sigmoid(log_odds),
        /* d (x - ln(1 - e^x)) / dx = 1 / (1 - e^x) */
        .chosen_slope = slope * exp(-log_one_minus_exp(chosen_mean)) / tokens_of(chosen),
        .rejected_slope = -slope * exp(-log_one_minus_exp(rejected_mean)) / tokens_of(rejected),
    };
}
