/* Sampling options: the model's own where nothing is set, then what the command line says. */
#include "cli/sampler_options.h"

#include "base/error.h"
#include "base/memory.h"
#include "base/random.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const struct option sampler_options[15] = {
    {"temp", 't', OPTION_NUMBER, offsetof(struct sampler_settings, temp), "T",
     .help = "temperature; 0 takes the likeliest token", .least = 0, .most = 100, .also = "temperature"},
    {"top-p", 0, OPTION_NUMBER, offsetof(struct sampler_settings, top_p), "P",
     .help = "sample from the likeliest tokens that have this share", .least = 0, .most = 1},
    {"top-k", 0, OPTION_INTEGER, offsetof(struct sampler_settings, top_k), "K",
     .help = "sample from the K likeliest tokens; 0: from all", .least = 0, .most = INT32_MAX},
    {"min-p", 0, OPTION_NUMBER, offsetof(struct sampler_settings, min_p), "P",
     .help = "drop tokens with less than this share of the likeliest one's probability", .least = 0, .most = 1},
    {"min-tokens-to-keep", 0, OPTION_INTEGER, offsetof(struct sampler_settings, min_tokens_to_keep), "N",
     .help = "tokens that --min-p leaves at least", .fallback = "1", .least = 1, .most = INT32_MAX},
    {"xtc-probability", 0, OPTION_NUMBER, offsetof(struct sampler_settings, xtc_probability), "P",
     .help = "how often the likeliest tokens are left out in favour of the last above the threshold", .fallback = "0",
     .least = 0, .most = 1},
    {"xtc-threshold", 0, OPTION_NUMBER, offsetof(struct sampler_settings, xtc_threshold), "P",
     .help = "the threshold of --xtc-probability", .fallback = "0.1", .least = 0, .most = 0.5},
    {"repetition-penalty", 0, OPTION_NUMBER, offsetof(struct sampler_settings, repetition_penalty), "X",
     .help = "divide the logits of recent tokens by this; 1: off", .least = 0, .most = 100},
    {"repetition-context-size", 0, OPTION_INTEGER, offsetof(struct sampler_settings, repetition_context_size), "N",
     .help = "tokens that --repetition-penalty looks back at", .fallback = "20", .least = 1, .most = INT32_MAX},
    {"presence-penalty", 0, OPTION_NUMBER, offsetof(struct sampler_settings, presence_penalty), "X",
     .help = "subtract this from the logits of recent tokens", .least = -100, .most = 100},
    {"presence-context-size", 0, OPTION_INTEGER, offsetof(struct sampler_settings, presence_context_size), "N",
     .help = "tokens that --presence-penalty looks back at", .fallback = "20", .least = 1, .most = INT32_MAX},
    {"frequency-penalty", 0, OPTION_NUMBER, offsetof(struct sampler_settings, frequency_penalty), "X",
     .help = "the same for each time that a token came", .least = -100, .most = 100},
    {"frequency-context-size", 0, OPTION_INTEGER, offsetof(struct sampler_settings, frequency_context_size), "N",
     .help = "tokens that --frequency-penalty looks back at", .fallback = "20", .least = 1, .most = INT32_MAX},
    {"logit-bias", 0, OPTION_TEXT, offsetof(struct sampler_settings, logit_bias), "JSON",
     .help = "what to add to the logits of ids: {\"42\": -5}"},
    {"seed", 0, OPTION_INTEGER, offsetof(struct sampler_settings, seed), "N",
     .help = "the same seed gives the same text; another each time if not given", .least = 0, .most = 9.2e18},
};

static bombus_status parse_logit_bias(struct sampler *sampler, const char *text, bombus_error *error)
{
    json_error_t place;
    json_t *object = json_loads(text, 0, &place), *value;
    if (!json_is_object(object)) {
        json_decref(object);
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "--logit-bias: not a JSON object of ids and numbers: %s",
                       object == NULL ? place.text : text);
    }
    bombus_status status = BOMBUS_OK;
    size_t count = 0;
    sampler->logit_bias = bb_allocate(json_object_size(object), sizeof *sampler->logit_bias);
    if (sampler->logit_bias == NULL)
        status = bb_fail_memory(error, json_object_size(object) * sizeof *sampler->logit_bias, "--logit-bias");
    const char *key;
    json_object_foreach(object, key, value)
    {
        char *end;
        errno = 0;
        long id = strtol(key, &end, 10);
        if (status != BOMBUS_OK)
            break;
        if (*key == '\0' || *end != '\0' || errno != 0 || id < 0 || id > INT32_MAX || !json_is_number(value))
            status = bb_fail(error, BOMBUS_ERROR_ARGUMENT, "--logit-bias: '%s' is not an id with a number", key);
        else
            sampler->logit_bias[count++] = (bombus_logit_bias){(int32_t)id, (float)json_number_value(value)};
    }
    json_decref(object);
    sampler->options.logit_bias = sampler->logit_bias;
    sampler->options.logit_bias_count = count;
    return status;
}

/* As mlx_lm: XTC never leaves out the newline and the ends of a turn. */
static bombus_status find_xtc_special_tokens(struct sampler *sampler, const bombus_tokenizer *tokenizer,
                                             const struct end_tokens *ends, bombus_error *error)
{
    size_t newline_count = 0, eos_count = 0;
    int32_t *newline = NULL;
    const int32_t *eos = bombus_tokenizer_eos_ids(tokenizer, &eos_count);
    bombus_status status = bombus_tokenizer_encode(tokenizer, "\n", 1, true, &newline, &newline_count, error);
    if (status != BOMBUS_OK)
        return status;
    size_t total = newline_count + eos_count + ends->count;
    sampler->xtc_special_tokens = bb_allocate(total, sizeof *eos);
    if (sampler->xtc_special_tokens == NULL) {
        status = bb_fail_memory(error, total * sizeof *eos, "--xtc-probability");
    } else {
        for (size_t i = 0; i < newline_count; i++)
            sampler->xtc_special_tokens[i] = newline[i];
        for (size_t i = 0; i < eos_count; i++)
            sampler->xtc_special_tokens[newline_count + i] = eos[i];
        for (size_t i = 0; i < ends->count; i++)
            sampler->xtc_special_tokens[newline_count + eos_count + i] = ends->ids[i];
        sampler->options.xtc_special_tokens = sampler->xtc_special_tokens;
        sampler->options.xtc_special_token_count = total;
    }
    bombus_free(newline);
    return status;
}

static void set_number(float *place, double value)
{
    if (!isnan(value))
        *place = (float)value;
}

static void set_integer(int32_t *place, int64_t value)
{
    if (value != OPTION_UNSET)
        *place = (int32_t)value;
}

static uint64_t seed_of_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return bb_random_at((uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec, (uint64_t)getpid()) >> 32;
}

bombus_status sampler_init(struct sampler *sampler, const struct sampler_settings *settings, const char *folder,
                           const bombus_tokenizer *tokenizer, const struct end_tokens *ends, bombus_error *error)
{
    *sampler = (struct sampler){0};
    bombus_sampler_options *options = &sampler->options;
    bombus_status status = bombus_sampler_defaults(options, folder, error);
    set_number(&options->temperature, settings->temp);
    set_number(&options->top_p, settings->top_p);
    set_integer(&options->top_k, settings->top_k);
    set_number(&options->min_p, settings->min_p);
    set_integer(&options->min_tokens_to_keep, settings->min_tokens_to_keep);
    set_number(&options->xtc_probability, settings->xtc_probability);
    set_number(&options->xtc_threshold, settings->xtc_threshold);
    set_number(&options->repetition_penalty, settings->repetition_penalty);
    set_number(&options->presence_penalty, settings->presence_penalty);
    set_number(&options->frequency_penalty, settings->frequency_penalty);
    set_integer(&options->repetition_context_size, settings->repetition_context_size);
    set_integer(&options->presence_context_size, settings->presence_context_size);
    set_integer(&options->frequency_context_size, settings->frequency_context_size);
    options->seed = settings->seed == OPTION_UNSET ? seed_of_clock() : (uint64_t)settings->seed;
    if (status == BOMBUS_OK && settings->logit_bias != NULL)
        status = parse_logit_bias(sampler, settings->logit_bias, error);
    if (status == BOMBUS_OK && options->xtc_probability > 0.0f && tokenizer != NULL)
        status = find_xtc_special_tokens(sampler, tokenizer, ends, error);
    if (status != BOMBUS_OK)
        sampler_clear(sampler);
    return status;
}

void sampler_clear(struct sampler *sampler)
{
    bb_release(sampler->logit_bias);
    bb_release(sampler->xtc_special_tokens);
    *sampler = (struct sampler){0};
}
