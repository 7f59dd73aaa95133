/* Frequency tables of rotary embeddings: plain, linear, dynamic, llama3, yarn and longrope, as mlx-lm computes them.
 *
 * Pair i of `dims` entries turns by position / wavelength_i, wavelength_i = theta^(2i / dims) (in radians); a scaling stretches the wavelengths. Where
 * transformers differs from mlx-lm (longrope's short factors, yarn's attention_factor) mlx-lm is followed; yarn's "truncate" is the model's
 * own word and followed as transformers does (mlx-lm always truncates), which gpt_oss needs. */
#include "model/rope.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double PI = 3.14159265358979323846;

/* The scaling object in the config, and its place as a key prefix. */
struct scaling {
    struct bb_reader *reader;
    const char *section; /* NULL: none */
};

static double number(const struct scaling *scaling, const char *name, double fallback)
{
    char key[128];
    snprintf(key, sizeof key, "%s/%s", scaling->section, name);
    return (double)bb_read_number(scaling->reader, key, fallback);
}

static bool has(const struct scaling *scaling, const char *name)
{
    char key[128];
    snprintf(key, sizeof key, "%s/%s", scaling->section, name);
    return bb_read_has(scaling->reader, key);
}

static double factor_of(const struct scaling *scaling)
{
    if (!has(scaling, "factor"))
        bb_read_reject(scaling->reader, "%s/factor is missing", scaling->section);
    double factor = number(scaling, "factor", 1.0);
    if (!(factor > 0.0))
        bb_read_reject(scaling->reader, "%s/factor must be above 0", scaling->section);
    return factor;
}

static void scale_llama3(const struct scaling *scaling, float *inverse, int32_t count)
{
    double factor = factor_of(scaling), low = number(scaling, "low_freq_factor", 1.0), high = number(scaling, "high_freq_factor", 4.0);
    double length = number(scaling, "original_max_position_embeddings", 8192.0);
    if (!(low > 0.0) || !(high > 0.0) || high == low || !(length > 0.0)) {
        bb_read_reject(scaling->reader, "%s: llama3 needs low_freq_factor and high_freq_factor above 0 that differ", scaling->section);
        return;
    }
    for (int32_t i = 0; i < count; i++) {
        double wavelength = 2.0 * PI / (double)inverse[i]; /* in positions */
        if (wavelength > length / low) {
            inverse[i] = (float)((double)inverse[i] / factor);
        } else if (wavelength > length / high) {
            double smooth = (length / wavelength - low) / (high - low);
            inverse[i] = (float)((double)inverse[i] * ((1.0 - smooth) / factor + smooth));
        }
    }
}

static double yarn_magnitude(double factor, double mscale)
{
    return factor <= 1.0 ? 1.0 : 0.1 * mscale * log(factor) + 1.0;
}

/* Between full extrapolation (fast pairs keep their wavelength) and interpolation (slow pairs are stretched by factor) lies a ramp, from the pair
 * that turns beta_fast times in the original context to the one that turns beta_slow times. */
static void scale_yarn(const struct scaling *scaling, double theta, int32_t dims, float *inverse, float *amplitude)
{
    double factor = factor_of(scaling), length = number(scaling, "original_max_position_embeddings", 4096.0);
    double turns[2] = { number(scaling, "beta_fast", 32.0), number(scaling, "beta_slow", 1.0) }, ends[2];
    char key[128];
    snprintf(key, sizeof key, "%s/truncate", scaling->section);
    bool truncate = bb_read_boolean(scaling->reader, key, true);
    for (int i = 0; i < 2; i++) {
        ends[i] = dims * log(length / (turns[i] * 2.0 * PI)) / (2.0 * log(theta));
        if (!(fabs(ends[i]) < 1e9)) {
            bb_read_reject(scaling->reader, "%s: yarn cannot be computed from these numbers (rope_theta, beta_fast, beta_slow, "
                           "original_max_position_embeddings)", scaling->section);
            return;
        }
    }
    double low = fmax(truncate ? floor(ends[0]) : ends[0], 0.0);
    double high = fmin(truncate ? ceil(ends[1]) : ends[1], dims - 1.0);
    if (low == high)
        high += 0.001;
    for (int32_t i = 0; i < dims / 2; i++) {
        double ramp = fmin(fmax((i - low) / (high - low), 0.0), 1.0);
        inverse[i] = (float)((double)inverse[i] * (ramp / factor + (1.0 - ramp)));
    }
    *amplitude = (float)(yarn_magnitude(factor, number(scaling, "mscale", 1.0)) /
                         yarn_magnitude(factor, number(scaling, "mscale_all_dim", 0.0)));
}

/* mlx-lm uses long_factor at every length, and the magnitude that belongs to it. */
static void scale_longrope(const struct scaling *scaling, const struct bb_recipe *recipe, int32_t original, int32_t count,
                           float *inverse, float *amplitude)
{
    struct bb_reader *reader = scaling->reader;
    char key[128];
    snprintf(key, sizeof key, "%s/long_factor", scaling->section);
    size_t found = bb_config_array_length(reader->config, key);
    if (found != (size_t)count && found != 1) {
        bb_read_reject(reader, "%s has %zu entries, expected %d", key, found, count);
        return;
    }
    for (int32_t i = 0; i < count && reader->status == BOMBUS_OK; i++) {
        double stretch = 1.0;
        reader->status = bb_config_array_number(reader->config, key, found == 1 ? 0 : (size_t)i, &stretch, reader->error);
        if (reader->status == BOMBUS_OK && !(stretch > 0.0))
            bb_read_reject(reader, "%s: entry %d must be above 0", key, i);
        inverse[i] = (float)((double)inverse[i] / stretch);
    }
    double length = original > 0 ? original : number(scaling, "original_max_position_embeddings", 4096.0);
    if (!(length > 1.0)) {
        bb_read_reject(reader, "original_max_position_embeddings must be above 1");
        return;
    }
    double factor = recipe->max_position_embeddings / length;
    double magnitude = factor <= 1.0 ? 1.0 : sqrt(1.0 + log(factor) / log(length));
    *amplitude = (float)magnitude;
}

static void apply_scaling(const struct scaling *scaling, struct bb_recipe *recipe, const struct bb_rope_request *request,
                          double theta, float *inverse, float *amplitude)
{
    struct bb_reader *reader = scaling->reader;
    char key[128];
    snprintf(key, sizeof key, "%s/%s", scaling->section, has(scaling, "type") ? "type" : "rope_type");
    const char *type = bb_read_text(reader, key, "default");
    int32_t count = request->dims / 2;
    if (reader->status != BOMBUS_OK || strcmp(type, "default") == 0 || strcmp(type, "mrope") == 0) {
        return; /* mrope on text alone is the plain one */
    } else if (strcmp(type, "linear") == 0) {
        double factor = factor_of(scaling);
        for (int32_t i = 0; i < count; i++)
            inverse[i] = (float)((double)inverse[i] / factor);
    } else if (strcmp(type, "dynamic") == 0) {
        /* Up to max_position_embeddings it is the plain one; beyond, every step would turn with another base than the keys in the cache. */
        recipe->position_limit = recipe->max_position_embeddings;
    } else if (strcmp(type, "llama3") == 0) {
        scale_llama3(scaling, inverse, count);
    } else if (strcmp(type, "yarn") == 0 || strcmp(type, "deepseek_yarn") == 0) {
        scale_yarn(scaling, theta, request->dims, inverse, amplitude);
    } else if (strcmp(type, "longrope") == 0 || strcmp(type, "su") == 0) {
        scale_longrope(scaling, recipe, request->original_max_position_embeddings, count, inverse, amplitude);
    } else {
        bb_read_refuse(reader, "rope type \"%.100s\" is not supported (default, linear, dynamic, llama3, yarn, longrope)", type);
    }
}

/* transformers 4 has rope_theta and rope_scaling at top level, transformers 5 both in rope_parameters, perhaps one a layer type. */
static const char *find_section(const struct bb_reader *reader, const char *layer_type, char *text, size_t size)
{
    if (bb_config_type(reader->config, "rope_scaling") == BB_CONFIG_OBJECT)
        return "rope_scaling";
    if (layer_type != NULL) {
        snprintf(text, size, "rope_parameters/%s", layer_type);
        if (bb_config_type(reader->config, text) == BB_CONFIG_OBJECT)
            return text;
    }
    return bb_config_type(reader->config, "rope_parameters") == BB_CONFIG_OBJECT ? "rope_parameters" : NULL;
}

static double read_theta(struct bb_reader *reader, const struct bb_rope_request *request)
{
    char section[64], key[96];
    const char *parameters = "rope_parameters";
    if (request->layer_type != NULL) {
        snprintf(section, sizeof section, "rope_parameters/%s", request->layer_type);
        if (bb_config_type(reader->config, section) == BB_CONFIG_OBJECT)
            parameters = section;
    }
    snprintf(key, sizeof key, "%s/rope_theta", parameters);
    /* A base at top level is for the key's own layers only: gemma's local layers do not take rope_theta. */
    double theta = (double)bb_read_number(reader, key, request->theta);
    theta = (double)bb_read_number(reader, request->theta_key != NULL ? request->theta_key : "rope_theta", theta);
    if (!(theta > 0.0))
        bb_read_reject(reader, "rope_theta must be above 0");
    return theta;
}

const struct bb_rope *bb_read_rope(struct bb_reader *reader, struct bb_recipe *recipe, const struct bb_rope_request *request)
{
    int32_t dims = request->dims;
    if (dims < 2 || dims % 2 != 0 || dims > recipe->head_dim)
        bb_read_reject(reader, "a rotary embedding of %d of head_dim %d entries is not possible (an even number is needed)", dims,
                       recipe->head_dim);
    double theta = read_theta(reader, request);
    if (reader->status != BOMBUS_OK)
        return NULL;
    struct bb_rope *rope = bb_arena_allocate(reader->arena, 1, sizeof *rope);
    float *inverse = bb_arena_allocate(reader->arena, (size_t)dims / 2, sizeof *inverse);
    if (rope == NULL || inverse == NULL) {
        reader->status = bb_fail_memory(reader->error, (size_t)dims * sizeof *inverse, "rotary embedding tables");
        return NULL;
    }
    for (int32_t i = 0; i < dims / 2; i++)
        inverse[i] = (float)pow(theta, -2.0 * i / dims);

    float amplitude = 1.0F;
    char text[64];
    struct scaling scaling = { reader, request->ignores_scaling ? NULL : find_section(reader, request->layer_type, text, sizeof text) };
    if (scaling.section != NULL)
        apply_scaling(&scaling, recipe, request, theta, inverse, &amplitude);
    for (int32_t i = 0; i < dims / 2; i++)
        if (!(inverse[i] >= 0.0F) || inverse[i] > 1e6F || !(fabsf(amplitude) < 1e6F))
            bb_read_reject(reader, "the rotary embedding's numbers give no usable frequencies");
    *rope = (struct bb_rope){ .inverse_frequencies = inverse, .dims = dims, .amplitude = amplitude, .is_traditional = request->is_traditional };
    return reader->status == BOMBUS_OK ? rope : NULL;
}

void bb_read_common_rope(struct bb_reader *reader, struct bb_recipe *recipe, double theta)
{
    const struct bb_rope *rope = bb_read_rope(reader, recipe, &(struct bb_rope_request){
        .dims = recipe->head_dim, .theta = theta, .is_traditional = bb_read_boolean(reader, "rope_traditional", false) });
    for (int32_t i = 0; i < recipe->num_hidden_layers; i++)
        recipe->layers[i].rope = rope;
}
