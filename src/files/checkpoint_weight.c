/* The matrices of a model folder: which scheme packs each, and whether its tensors have the types and shapes that the
 * scheme asks for. */
#include "files/checkpoint_weight.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* MLX's modes with the sizes that each takes where none are given. */
static const struct {
    const char *name;
    struct bb_scheme scheme;
} modes[] = {
    {"affine", {BB_QUANT_AFFINE, 4, 64}},
    {"mxfp4", {BB_QUANT_MXFP4, 4, 32}},
    {"mxfp8", {BB_QUANT_MXFP8, 8, 32}},
    {"nvfp4", {BB_QUANT_NVFP4, 4, 16}},
};

static const char *mode_name(enum bb_quant mode)
{
    for (size_t i = 0; i < BB_COUNT(modes); i++)
        if (modes[i].scheme.mode == mode)
            return modes[i].name;
    return "none";
}

/* The floats of the mx and nv modes have one size each. */
static bool is_known_scheme(struct bb_scheme scheme)
{
    if (scheme.mode == BB_QUANT_AFFINE)
        return scheme.bits >= 2 && scheme.bits <= 8 && scheme.bits != 7 &&
               (scheme.group_size == 32 || scheme.group_size == 64 || scheme.group_size == 128);
    for (size_t i = 0; i < BB_COUNT(modes); i++)
        if (modes[i].scheme.mode == scheme.mode)
            return scheme.bits == modes[i].scheme.bits && scheme.group_size == modes[i].scheme.group_size;
    return false;
}

/* The parts of one matrix in the files; NULL where absent. */
struct parts {
    const char *folder, *base;
    const struct bb_safetensors_entry *weight, *scales, *biases;
};

static const struct bb_safetensors_entry *find_part(const struct bb_checkpoint *checkpoint, const char *base,
                                                    const char *part, uint64_t *place)
{
    char name[512];
    int length = snprintf(name, sizeof name, "%s.%s", base, part);
    if (length < 0 || (size_t)length >= sizeof name)
        return NULL;
    const uint64_t *found = bb_map_find(&checkpoint->index, name, (size_t)length);
    if (found == NULL)
        return NULL;
    *place = *found;
    return checkpoint->entries[*found];
}

static const struct bb_safetensors_entry *use_part(struct bb_checkpoint *checkpoint, const char *base, const char *part)
{
    uint64_t place;
    const struct bb_safetensors_entry *entry = find_part(checkpoint, base, part, &place);
    if (entry != NULL)
        checkpoint->is_used[place] = true;
    return entry;
}

/* Reads the object at `key` (an entry of a path, or the whole) over the defaults of its mode. */
static bombus_status read_scheme(const struct bb_config *config, const char *key, struct bb_scheme *scheme,
                                 bombus_error *error)
{
    char part[1024];
    const char *mode;
    snprintf(part, sizeof part, "%s/mode", key);
    bombus_status status = bb_config_text(config, part, "affine", &mode, error);
    if (status != BOMBUS_OK)
        return status;
    *scheme = (struct bb_scheme){0};
    for (size_t i = 0; i < BB_COUNT(modes); i++)
        if (strcmp(modes[i].name, mode) == 0)
            *scheme = modes[i].scheme;
    if (scheme->mode == BB_QUANT_NONE)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                       "%s: '%s' is '%.40s'; supported are affine, mxfp4, mxfp8 and nvfp4", bb_config_path(config),
                       part, mode);
    int64_t bits, group_size;
    snprintf(part, sizeof part, "%s/bits", key);
    status = bb_config_integer(config, part, scheme->bits, 1, 32, &bits, error);
    if (status != BOMBUS_OK)
        return status;
    snprintf(part, sizeof part, "%s/group_size", key);
    status = bb_config_integer(config, part, scheme->group_size, 1, 1 << 20, &group_size, error);
    if (status != BOMBUS_OK)
        return status;
    scheme->bits = (int32_t)bits;
    scheme->group_size = (int32_t)group_size;
    if (!is_known_scheme(*scheme))
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                       "%s: '%s': %s quantization with %d bits in groups of %d is not supported",
                       bb_config_path(config), key, mode, scheme->bits, scheme->group_size);
    return BOMBUS_OK;
}

/* "quantization" is MLX's own; "quantization_config" is shared with other kinds, which name their "quant_method". */
static bombus_status check_method(const struct bb_checkpoint *checkpoint, bombus_error *error)
{
    const struct bb_config *config = checkpoint->config;
    const char *method = NULL;
    if (strcmp(checkpoint->quantization_key, "quantization") == 0)
        return BOMBUS_OK;
    bombus_status status = bb_config_text(config, "quantization_config/quant_method", NULL, &method, error);
    if (status != BOMBUS_OK)
        return status;
    if (method == NULL && bb_config_type(config, "quantization_config/bits") == BB_CONFIG_ABSENT)
        method = "unknown";
    if (method != NULL)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                       "%s: quantization method '%.60s' is not supported: use a folder in MLX's format, or the "
                       "unquantized weights",
                       bb_config_path(config), method);
    return BOMBUS_OK;
}

bombus_status bb_checkpoint_read_quantization(struct bb_checkpoint *checkpoint, bombus_error *error)
{
    static const char *const keys[] = {"quantization", "quantization_config"};
    const struct bb_config *config = checkpoint->config;
    for (size_t i = 0; i < BB_COUNT(keys) && checkpoint->quantization_key == NULL; i++) {
        enum bb_config_type type = bb_config_type(config, keys[i]);
        if (type == BB_CONFIG_OBJECT)
            checkpoint->quantization_key = keys[i];
        else if (type != BB_CONFIG_ABSENT && type != BB_CONFIG_NULL)
            return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: '%s' must be an object", bb_config_path(config), keys[i]);
    }
    if (checkpoint->quantization_key == NULL)
        return BOMBUS_OK;
    bombus_status status = check_method(checkpoint, error);
    if (status != BOMBUS_OK)
        return status;
    return read_scheme(config, checkpoint->quantization_key, &checkpoint->scheme, error);
}

/* Whether the matrix is quantized, and by which entry of config.json: *has_entry means that *scheme is what it must be;
 * otherwise the shapes decide, as mlx-lm has it since some folders leave matrices out of the list. */
static bombus_status choose_scheme(const struct bb_checkpoint *checkpoint, const struct parts *parts,
                                   struct bb_scheme *scheme, bool *has_entry, bombus_error *error)
{
    char key[1000];
    *scheme = (struct bb_scheme){0};
    *has_entry = false;
    if (parts->scales == NULL && parts->weight->dtype != BB_U32)
        return BOMBUS_OK;
    if (checkpoint->quantization_key == NULL)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: has no 'quantization', but '%s' is quantized",
                       bb_config_path(checkpoint->config), parts->base);
    snprintf(key, sizeof key, "%s/%s", checkpoint->quantization_key, parts->base);
    enum bb_config_type type = bb_config_type(checkpoint->config, key);
    bool is_quantized = true;
    if (type == BB_CONFIG_OBJECT) {
        *has_entry = true;
        return read_scheme(checkpoint->config, key, scheme, error);
    }
    bombus_status status = bb_config_boolean(checkpoint->config, key, true, &is_quantized, error);
    if (status == BOMBUS_OK && !is_quantized)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: '%s' says that '%s' is not quantized, but its tensors are",
                       bb_config_path(checkpoint->config), checkpoint->quantization_key, parts->base);
    return status;
}

/* The scheme that the last dimensions of weight and scales imply for `cols` columns. */
static bombus_status infer_scheme(const struct parts *parts, int64_t cols, struct bb_scheme *scheme,
                                  bombus_error *error)
{
    int64_t words = parts->weight->shape[parts->weight->rank - 1],
            groups = parts->scales->shape[parts->scales->rank - 1];
    int64_t bits = words <= cols ? words * 32 / cols : 0, group_size = groups > 0 ? cols / groups : 0;
    if (bits * cols == words * 32 && group_size * groups == cols && group_size <= INT32_MAX)
        for (size_t i = 0; i < BB_COUNT(modes); i++) {
            *scheme = (struct bb_scheme){modes[i].scheme.mode, (int32_t)bits, (int32_t)group_size};
            if ((parts->scales->dtype == BB_U8) == (scheme->mode != BB_QUANT_AFFINE) && is_known_scheme(*scheme))
                return BOMBUS_OK;
        }
    char weight_shape[BB_SHAPE_TEXT_SIZE], scales_shape[BB_SHAPE_TEXT_SIZE];
    bb_shape_format(weight_shape, parts->weight->shape, parts->weight->rank);
    bb_shape_format(scales_shape, parts->scales->shape, parts->scales->rank);
    return bb_fail(error, BOMBUS_ERROR_FORMAT,
                   "%s: tensor '%s.weight' %s with '%s.scales' %s %s: no known quantization of %" PRId64
                   " columns has these shapes",
                   parts->folder, parts->base, weight_shape, parts->base, bb_dtype_name(parts->scales->dtype),
                   scales_shape, cols);
}

/* [rows, last], or any leading dimensions whose product is rows. */
static bool has_shape(const struct bb_safetensors_entry *entry, int64_t rows, int64_t last)
{
    int64_t product = 1;
    if (entry->rank < 2 || entry->shape[entry->rank - 1] != last)
        return false;
    for (int32_t i = 0; i + 1 < entry->rank; i++)
        if (__builtin_mul_overflow(product, entry->shape[i], &product))
            return false;
    return product == rows;
}

static bombus_status check_part(const struct parts *parts, const char *part, const struct bb_safetensors_entry *entry,
                                enum bb_dtype dtype, int64_t rows, int64_t last, const char *scheme_text,
                                bombus_error *error)
{
    if (entry->dtype == dtype && has_shape(entry, rows, last))
        return BOMBUS_OK;
    char shape[BB_SHAPE_TEXT_SIZE];
    bb_shape_format(shape, entry->shape, entry->rank);
    return bb_fail(error, BOMBUS_ERROR_FORMAT,
                   "%s: tensor '%s.%s': expected %s [%" PRId64 ", %" PRId64 "]%s, found %s %s", parts->folder,
                   parts->base, part, bb_dtype_name(dtype), rows, last, scheme_text, bb_dtype_name(entry->dtype),
                   shape);
}

static bombus_status fill_plain(const struct parts *parts, int64_t rows, int64_t cols, struct bb_weight *weight,
                                bombus_error *error)
{
    if (!bb_dtype_is_weight_float(parts->weight->dtype))
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                       "%s: tensor '%s.weight': type %s; plain weights must be F32, F16 or BF16", parts->folder,
                       parts->base, bb_dtype_name(parts->weight->dtype));
    weight->dtype = parts->weight->dtype;
    return check_part(parts, "weight", parts->weight, weight->dtype, rows, cols, "", error);
}

static bombus_status fill_quantized(const struct parts *parts, int64_t rows, int64_t cols, struct bb_weight *weight,
                                    bombus_error *error)
{
    struct bb_scheme scheme = weight->scheme;
    bool is_affine = scheme.mode == BB_QUANT_AFFINE;
    char text[100];
    snprintf(text, sizeof text, " (%s, %d bits, groups of %d)", mode_name(scheme.mode), scheme.bits, scheme.group_size);
    if (cols % scheme.group_size != 0)
        return bb_fail(error, BOMBUS_ERROR_FORMAT,
                       "%s: '%s': %" PRId64 " columns are not a multiple of the group size%s", parts->folder,
                       parts->base, cols, text);
    bombus_status status =
        check_part(parts, "weight", parts->weight, BB_U32, rows, cols * scheme.bits / 32, text, error);
    if (status != BOMBUS_OK)
        return status;
    weight->dtype = is_affine ? parts->scales->dtype : BB_U8;
    if (is_affine && !bb_dtype_is_weight_float(weight->dtype))
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: tensor '%s.scales': expected F32, F16 or BF16%s, found %s",
                       parts->folder, parts->base, text, bb_dtype_name(weight->dtype));
    status = check_part(parts, "scales", parts->scales, weight->dtype, rows, cols / scheme.group_size, text, error);
    if (status != BOMBUS_OK || !is_affine)
        return status;
    status = check_part(parts, "biases", parts->biases, weight->dtype, rows, cols / scheme.group_size, text, error);
    weight->biases = parts->biases->data;
    return status;
}

/* Names every part that is not there. */
static bombus_status check_complete(const struct bb_checkpoint *checkpoint, const struct parts *parts,
                                    bool is_quantized, bool is_affine, bombus_error *error)
{
    bool lacks_weight = parts->weight == NULL, lacks_scales = is_quantized && parts->scales == NULL;
    bool lacks_biases = is_affine && parts->biases == NULL;
    if (!lacks_weight && !lacks_scales && !lacks_biases)
        return BOMBUS_OK;
    return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: '%s' is incomplete: missing%s%s%s", checkpoint->folder, parts->base,
                   lacks_weight ? " .weight" : "", lacks_scales ? " .scales" : "", lacks_biases ? " .biases" : "");
}

/* Parts -> weight, with all checks. */
static bombus_status resolve(const struct bb_checkpoint *checkpoint, const struct parts *parts, int64_t rows,
                             int64_t cols, struct bb_weight *weight, bombus_error *error)
{
    bool has_entry = false;
    *weight = (struct bb_weight){.rows = rows, .cols = cols, .data = parts->weight->data};
    bombus_status status = choose_scheme(checkpoint, parts, &weight->scheme, &has_entry, error);
    if (status != BOMBUS_OK)
        return status;
    if (parts->scales == NULL)
        return fill_plain(parts, rows, cols, weight, error);
    weight->scales = parts->scales->data;
    if (!has_entry)
        status = infer_scheme(parts, cols, &weight->scheme, error);
    if (status == BOMBUS_OK)
        status = check_complete(checkpoint, parts, true, weight->scheme.mode == BB_QUANT_AFFINE, error);
    return status == BOMBUS_OK ? fill_quantized(parts, rows, cols, weight, error) : status;
}

/* What holds for the parts whatever the scheme. */
static bombus_status check_parts(const struct bb_checkpoint *checkpoint, const struct parts *parts, bombus_error *error)
{
    uint64_t place;
    bool may_be_affine = parts->scales != NULL && parts->scales->dtype != BB_U8;
    bool is_packed = parts->weight != NULL && parts->weight->dtype == BB_U32;
    bombus_status status = check_complete(checkpoint, parts, is_packed, may_be_affine, error);
    if (status != BOMBUS_OK)
        return status;
    if (parts->weight->rank < 1 || (parts->scales != NULL && parts->scales->rank < 1))
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: tensor '%s.weight' or its scales: a scalar, expected a matrix",
                       parts->folder, parts->base);
    if (find_part(checkpoint, parts->base, "global_scale", &place) != NULL)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                       "%s: tensor '%s.global_scale': scales of whole matrices are not supported", parts->folder,
                       parts->base);
    return BOMBUS_OK;
}

bombus_status bb_checkpoint_weight(struct bb_checkpoint *checkpoint, const char *base, int64_t rows, int64_t cols,
                                   struct bb_weight *weight, bombus_error *error)
{
    *weight = (struct bb_weight){0};
    if (rows < 1 || cols < 1 || cols > INT32_MAX)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: '%s': %" PRId64 " rows of %" PRId64 " columns",
                       checkpoint->folder, base, rows, cols);
    const struct parts parts = {checkpoint->folder, base, use_part(checkpoint, base, "weight"),
                                use_part(checkpoint, base, "scales"), use_part(checkpoint, base, "biases")};
    bombus_status status = check_parts(checkpoint, &parts, error);
    return status == BOMBUS_OK ? resolve(checkpoint, &parts, rows, cols, weight, error) : status;
}

/* Columns of a packed matrix: the scheme that config.json gives, if the shapes agree with it, or the first known one
 * with which they do. */
static int64_t guess_cols(const struct parts *parts, struct bb_scheme scheme)
{
    int64_t words = parts->weight->shape[parts->weight->rank - 1],
            groups = parts->scales->shape[parts->scales->rank - 1];
    if (words > INT32_MAX || groups > INT32_MAX)
        return 0;
    if (scheme.bits > 0 && words * 32 == groups * scheme.group_size * scheme.bits)
        return groups * scheme.group_size;
    for (int32_t bits = 1; bits <= 8; bits++)
        for (int32_t group_size = 16; group_size <= 128; group_size *= 2)
            for (size_t i = 0; i < BB_COUNT(modes); i++) {
                bool is_fit = (parts->scales->dtype == BB_U8) == (modes[i].scheme.mode != BB_QUANT_AFFINE);
                if (is_fit && is_known_scheme((struct bb_scheme){modes[i].scheme.mode, bits, group_size}) &&
                    words * 32 == groups * group_size * bits)
                    return groups * group_size;
            }
    return 0;
}

bombus_status bb_checkpoint_describe(const struct bb_checkpoint *checkpoint, const char *base, struct bb_weight *weight,
                                     bombus_error *error)
{
    uint64_t place;
    struct bb_scheme scheme = {0};
    bool has_entry = false;
    const struct parts parts = {checkpoint->folder, base, find_part(checkpoint, base, "weight", &place),
                                find_part(checkpoint, base, "scales", &place),
                                find_part(checkpoint, base, "biases", &place)};
    *weight = (struct bb_weight){0};
    bombus_status status = check_parts(checkpoint, &parts, error);
    if (status == BOMBUS_OK)
        status = choose_scheme(checkpoint, &parts, &scheme, &has_entry, error);
    if (!has_entry)
        scheme = checkpoint->scheme;
    if (status != BOMBUS_OK)
        return status;
    int64_t rows = 1, cols = parts.weight->shape[parts.weight->rank - 1];
    if (parts.scales != NULL)
        cols = guess_cols(&parts, scheme);
    for (int32_t i = 0; i + 1 < parts.weight->rank; i++)
        if (__builtin_mul_overflow(rows, parts.weight->shape[i], &rows))
            rows = 0;
    if (rows < 1 || cols < 1 || cols > INT32_MAX)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: '%s': its shapes are of no known quantization", parts.folder,
                       base);
    return resolve(checkpoint, &parts, rows, cols, weight, error);
}
