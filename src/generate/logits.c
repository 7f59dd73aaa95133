/* Selections of a row of logits. The vocabulary has 150,000 entries and a token is due every few milliseconds, so each
 * pass over the whole row is a loop without branches, and what branches works on the few entries that a bound leaves.
 */
#include "generate/logits.h"
#include "base/memory.h"
#include "base/random.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum { LANES = 16 };

/* The largest of a whole block; NaN loses every comparison. */
static float block_maximum(const float *logits)
{
    float lanes[LANES];
    for (int32_t j = 0; j < LANES; j++)
        lanes[j] = -INFINITY;
    for (int32_t i = 0; i < BB_LOGITS_BLOCK; i += LANES)
        for (int32_t j = 0; j < LANES; j++)
            lanes[j] = logits[i + j] > lanes[j] ? logits[i + j] : lanes[j];
    for (int32_t width = LANES / 2; width > 0; width /= 2)
        for (int32_t j = 0; j < width; j++)
            lanes[j] = lanes[j + width] > lanes[j] ? lanes[j + width] : lanes[j];
    return lanes[0];
}

static float maximum_of(const float *logits, int32_t count)
{
    float maximum = -INFINITY;
    int32_t i = 0;
    for (; i + BB_LOGITS_BLOCK <= count; i += BB_LOGITS_BLOCK) {
        float block = block_maximum(logits + i);
        maximum = block > maximum ? block : maximum;
    }
    for (; i < count; i++)
        maximum = logits[i] > maximum ? logits[i] : maximum;
    return maximum;
}

int32_t bb_logits_argmax(const float *logits, int32_t count)
{
    float maximum = -INFINITY;
    int32_t begin = -1;
    for (int32_t i = 0; i < count; i += BB_LOGITS_BLOCK) {
        int32_t size = count - i < BB_LOGITS_BLOCK ? count - i : BB_LOGITS_BLOCK;
        float block = size == BB_LOGITS_BLOCK ? block_maximum(logits + i) : maximum_of(logits + i, size);
        if (block > maximum) {
            maximum = block;
            begin = i;
        }
    }
    if (begin < 0)
        return -1;
    while (logits[begin] != maximum)
        begin++;
    return begin;
}

/* e^x for x <= 0, 0 below e^-87 and for NaN: x = n ln 2 + r, |r| <= ln 2 / 2, Taylor polynomial of degree 7 for e^r, n
 * into the exponent. The bound is taken on the bits of |x|: a comparison of floats would keep the loops from becoming
 * vector code. */
static inline float exp_below_zero(float x)
{
    const float round_to_integer = 12582912.0f; /* 1.5 * 2^23: adding it leaves the integer in the low bits */
    const int32_t limit = 0x42AE0000;           /* 87.0f; infinity and NaN are above it */
    int32_t magnitude, bits, exponent;
    float bounded;
    memcpy(&magnitude, &x, sizeof magnitude);
    magnitude &= INT32_MAX;
    int32_t is_within = -(int32_t)(magnitude < limit); /* a mask */
    magnitude = magnitude < limit ? magnitude : limit;
    memcpy(&bounded, &magnitude, sizeof bounded);
    float shifted = round_to_integer - bounded * 1.44269504f;
    float n = shifted - round_to_integer;
    float r = -bounded - n * 0.693359375f + n * 2.12194440e-4f;
    float sum =
        1.0f + r * (1.0f + r * (0.5f + r * (0.166666667f +
                                            r * (4.16666667e-2f +
                                                 r * (8.33333333e-3f + r * (1.38888889e-3f + r * 1.98412698e-4f))))));
    memcpy(&bits, &sum, sizeof bits);
    memcpy(&exponent, &shifted, sizeof exponent);
    bits += (int32_t)((uint32_t)exponent
                      << 23); /* the low 9 bits of `shifted` are n modulo 512: enough, since n is in [-126, 0] */
    bits &= is_within;
    memcpy(&sum, &bits, sizeof sum);
    return sum;
}

void bb_logits_exp(float *out, const float *logits, int32_t count, float maximum, float scale)
{
    for (int32_t i = 0; i < count; i++)
        out[i] = exp_below_zero((logits[i] - maximum) * scale);
}

double bb_logits_sum_exp(const float *logits, int32_t count, float maximum)
{
    double total = 0.0;
    int32_t i = 0;
    for (; i + BB_LOGITS_BLOCK <= count; i += BB_LOGITS_BLOCK) {
        float lanes[LANES] = {0};
        for (int32_t k = 0; k < BB_LOGITS_BLOCK; k += LANES)
            for (int32_t j = 0; j < LANES; j++)
                lanes[j] += exp_below_zero(logits[i + k + j] - maximum);
        float sum = 0.0f;
        for (int32_t j = 0; j < LANES; j++)
            sum += lanes[j];
        total += (double)sum;
    }
    for (; i < count; i++)
        total += (double)exp_below_zero(logits[i] - maximum);
    return total;
}

double bb_logits_log_sum_exp(const float *logits, int32_t count)
{
    float maximum = maximum_of(logits, count);
    if (!isfinite(maximum))
        return (double)maximum;
    return (double)maximum + log(bb_logits_sum_exp(logits, count, maximum));
}

double bb_logits_log_sum_exp_exact(const float *logits, int32_t count)
{
    float maximum = maximum_of(logits, count);
    if (!isfinite(maximum))
        return (double)maximum;
    double sum = 0.0;
    for (int32_t i = 0; i < count; i++) {
        double difference = (double)logits[i] - (double)maximum;
        if (difference >
            -60.0) /* smaller ones together are below 2^-53 of the sum for any vocabulary that fits a file */
            sum += exp(difference);
    }
    return (double)maximum + log(sum);
}

static int32_t block_count(int32_t vocab_size)
{
    return vocab_size / BB_LOGITS_BLOCK + (vocab_size % BB_LOGITS_BLOCK != 0);
}

bombus_status bb_selection_init(struct bb_selection *selection, int32_t vocab_size, bombus_error *error)
{
    *selection = (struct bb_selection){.vocab_size = vocab_size};
    size_t blocks = (size_t)block_count(vocab_size);
    selection->maxima = bb_allocate(blocks, sizeof *selection->maxima);
    selection->scratch = bb_allocate(blocks, sizeof *selection->scratch);
    selection->candidates = bb_allocate((size_t)vocab_size, sizeof *selection->candidates);
    if (selection->maxima == NULL || selection->scratch == NULL || selection->candidates == NULL) {
        bb_selection_clear(selection);
        return bb_fail_memory(error, (size_t)vocab_size * sizeof *selection->candidates, "the sampler");
    }
    return BOMBUS_OK;
}

void bb_selection_clear(struct bb_selection *selection)
{
    bb_release(selection->maxima);
    bb_release(selection->scratch);
    bb_release(selection->candidates);
    *selection = (struct bb_selection){0};
}

static void measure(struct bb_selection *selection, const float *logits, int32_t block)
{
    int32_t begin = block * BB_LOGITS_BLOCK, size = selection->vocab_size - begin;
    selection->maxima[block] =
        size >= BB_LOGITS_BLOCK ? block_maximum(logits + begin) : maximum_of(logits + begin, size);
}

void bb_selection_measure(struct bb_selection *selection, const float *logits)
{
    for (int32_t block = 0; block < block_count(selection->vocab_size); block++)
        measure(selection, logits, block);
}

void bb_selection_measure_block(struct bb_selection *selection, const float *logits, int32_t id)
{
    measure(selection, logits, id / BB_LOGITS_BLOCK);
}

void bb_selection_gather(struct bb_selection *selection, const float *logits, float bound)
{
    int32_t count = 0;
    if (!(bound > -INFINITY))
        bound = -FLT_MAX;
    for (int32_t block = 0; block < block_count(selection->vocab_size); block++) {
        if (!(selection->maxima[block] >= bound))
            continue;
        int32_t begin = block * BB_LOGITS_BLOCK, left = selection->vocab_size - begin;
        int32_t end = begin + (left < BB_LOGITS_BLOCK ? left : BB_LOGITS_BLOCK);
        for (int32_t id = begin; id < end; id++) {
            selection->candidates[count] = (struct bb_candidate){.logit = logits[id], .id = id};
            count += logits[id] >= bound;
        }
    }
    selection->count = count;
}

/* Reorders so that values[place] is what sorting in falling order would put there. */
static void partition_values(float *values, int32_t count, int32_t place)
{
    int32_t low = 0, high = count - 1;
    for (uint64_t round = 0; low < high; round++) {
        float pivot = values[low + (int32_t)(bb_random_at(0, round) % (uint64_t)(high - low + 1))];
        int32_t i = low, j = high;
        while (i <= j) {
            while (values[i] > pivot)
                i++;
            while (values[j] < pivot)
                j--;
            if (i <= j) {
                float swapped = values[i];
                values[i++] = values[j];
                values[j--] = swapped;
            }
        }
        if (place <= j)
            high = j;
        else if (place >= i)
            low = i;
        else
            return;
    }
}

void bb_selection_gather_top(struct bb_selection *selection, const float *logits, int32_t keep)
{
    /* The maxima of different blocks are different entries, so `keep` entries reach the keep-th largest maximum. */
    int32_t blocks = block_count(selection->vocab_size);
    float bound = -INFINITY;
    if (keep <= blocks) {
        memcpy(selection->scratch, selection->maxima, (size_t)blocks * sizeof *selection->scratch);
        partition_values(selection->scratch, blocks, keep - 1);
        bound = selection->scratch[keep - 1];
    }
    bb_selection_gather(selection, logits, bound);
}

static inline bool comes_before(struct bb_candidate a, struct bb_candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* Splits [low, high) about a pivot: returns its place; the ones before it come before it. Ids differ, so no two are
 * equal. */
static int32_t split(struct bb_candidate *candidates, int32_t low, int32_t high, uint64_t round)
{
    int32_t chosen = low + (int32_t)(bb_random_at(0, round) % (uint64_t)(high - low));
    struct bb_candidate pivot = candidates[chosen];
    candidates[chosen] = candidates[high - 1];
    int32_t place = low;
    for (int32_t i = low; i < high - 1; i++) {
        struct bb_candidate candidate = candidates[i];
        candidates[i] = candidates[place];
        candidates[place] = candidate;
        place += comes_before(candidate, pivot);
    }
    candidates[high - 1] = candidates[place];
    candidates[place] = pivot;
    return place;
}

void bb_selection_keep_top(struct bb_selection *selection, int32_t keep)
{
    if (keep >= selection->count)
        return;
    int32_t low = 0, high = selection->count;
    for (uint64_t round = 0; high - low > 1; round++) {
        int32_t place = split(selection->candidates, low, high, round);
        if (place == keep)
            break;
        if (place < keep)
            low = place + 1;
        else
            high = place;
    }
    selection->count = keep;
}

double bb_selection_weigh(struct bb_selection *selection, float maximum)
{
    double total = 0.0;
    float values[BB_LOGITS_BLOCK], weights[BB_LOGITS_BLOCK];
    for (int32_t begin = 0; begin < selection->count; begin += BB_LOGITS_BLOCK) {
        struct bb_candidate *candidates = selection->candidates + begin;
        int32_t left = selection->count - begin, size = left < BB_LOGITS_BLOCK ? left : BB_LOGITS_BLOCK;
        for (int32_t i = 0; i < size; i++)
            values[i] = candidates[i].logit;
        bb_logits_exp(weights, values, size, maximum, 1.0f);
        for (int32_t i = 0; i < size; i++)
            total += (double)(candidates[i].weight = weights[i]);
    }
    return total;
}

void bb_selection_keep_mass(struct bb_selection *selection, double mass)
{
    struct bb_candidate *candidates = selection->candidates;
    if (selection->count == 0)
        return;
    /* In falling order the one at `low` stays, and the last that stays is in [low, high); `before` is the weight of [0,
     * low). */
    int32_t low = 0, high = selection->count;
    double before = 0.0;
    for (uint64_t round = 0; high - low > 1; round++) {
        int32_t place = split(candidates, low, high, round);
        double sum = before;
        for (int32_t i = low; i < place; i++)
            sum += (double)candidates[i].weight;
        if (sum >= mass) {
            high = place;
            continue;
        }
        low = place; /* the pivot stays */
        before = sum + (double)candidates[place].weight;
        if (before >= mass || place + 1 == high)
            break;
        low = place + 1;
    }
    float bound = candidates[low].logit;
    int32_t count = 0;
    for (int32_t i = 0; i < selection->count; i++) {
        candidates[count] = candidates[i];
        count += candidates[i].logit >= bound;
    }
    selection->count = count;
}

/* By insertion: the lists that are sorted are short (top_logprobs), and qsort may allocate. */
void bb_selection_sort(struct bb_selection *selection)
{
    struct bb_candidate *candidates = selection->candidates;
    for (int32_t i = 1; i < selection->count; i++) {
        struct bb_candidate moved = candidates[i];
        int32_t place = i;
        for (; place > 0 && comes_before(moved, candidates[place - 1]); place--)
            candidates[place] = candidates[place - 1];
        candidates[place] = moved;
    }
}
