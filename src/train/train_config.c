/* mlx_lm's YAML settings: one table of keys says their types, bounds and places; values are judged as mlx_lm's loader reads them. */
#include "train/train_config.h"

#include "train/optimizer.h"
#include "train/train_options.h"

#include "base/file.h"
#include "base/suggest.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

enum { FILE_LIMIT = 1 << 20, NUMBER_LENGTH = 64 };

enum field_kind {
    FIELD_TEXT,
    FIELD_BOOLEAN,
    FIELD_INT32,
    FIELD_INT64,
    FIELD_BATCHES, /* FIELD_INT64 but 0: a count, or -1 for all */
    FIELD_NUMBER,
    FIELD_CHOICE,
    FIELD_IGNORED,     /* no effect here */
    FIELD_UNSUPPORTED, /* mlx_lm alone can do it */
    FIELD_TEXTS,       /* of lora_parameters: keys */
    FIELD_BETAS,
    FIELD_LORA,
    FIELD_OPTIMIZERS,
    FIELD_SCHEDULE
};

struct field {
    const char *name;
    enum field_kind kind;
    size_t offset;
    double least, most;         /* of numbers; both 0: any */
    const char *const *choices; /* NULL behind the last */
};

struct parse {
    struct bb_train_config *config;
    yaml_document_t *document;
    const char *path;
    bombus_error *error;
};

#define AT(member) offsetof(struct bb_train_config, member)
#define LARGEST    9007199254740992.0 /* 2^53 */

/* In the order of bombus_train_mode. */
static const char *const training_modes[] = {"normal", "dpo", "orpo", NULL};

static const struct field root_fields[] = {
    {"model", FIELD_TEXT, AT(model), 0, 0, NULL},
    {"data", FIELD_TEXT, AT(options.data), 0, 0, NULL},
    {"adapter_path", FIELD_TEXT, AT(options.adapter_path), 0, 0, NULL},
    {"resume_adapter_file", FIELD_TEXT, AT(options.resume_adapter_file), 0, 0, NULL},
    {"train", FIELD_BOOLEAN, AT(train), 0, 0, NULL},
    {"test", FIELD_BOOLEAN, AT(test), 0, 0, NULL},
    {"fine_tune_type", FIELD_CHOICE, AT(options.fine_tune), 0, 0, bb_fine_tune_names},
    {"training_mode", FIELD_CHOICE, AT(options.mode), 0, 0, training_modes},
    {"optimizer", FIELD_CHOICE, AT(options.optimizer), 0, 0, bb_optimizer_names},
    {"optimizer_config", FIELD_OPTIMIZERS, 0, 0, 0, NULL},
    {"seed", FIELD_INT64, AT(options.seed), 0, 4294967295.0, NULL},
    {"num_layers", FIELD_INT32, AT(options.num_layers), -1, INT32_MAX, NULL},
    {"batch_size", FIELD_INT32, AT(options.batch_size), 1, 1 << 20, NULL},
    {"grad_accumulation_steps", FIELD_INT32, AT(options.grad_accumulation_steps), 1, 1 << 20, NULL},
    {"iters", FIELD_INT64, AT(options.iters), 1, LARGEST, NULL},
    {"val_batches", FIELD_BATCHES, AT(options.val_batches), -1, LARGEST, NULL},
    {"test_batches", FIELD_BATCHES, AT(test_batches), -1, LARGEST, NULL},
    {"steps_per_report", FIELD_INT64, AT(options.steps_per_report), 1, LARGEST, NULL},
    {"steps_per_eval", FIELD_INT64, AT(options.steps_per_eval), 1, LARGEST, NULL},
    {"save_every", FIELD_INT64, AT(options.save_every), 1, LARGEST, NULL},
    {"max_seq_length", FIELD_INT32, AT(options.max_seq_length), 2, 1 << 24, NULL},
    {"learning_rate", FIELD_NUMBER, AT(options.learning_rate), 1e-30, 1e6, NULL},
    {"lr_schedule", FIELD_SCHEDULE, AT(options.schedule), 0, 0, NULL},
    {"lora_parameters", FIELD_LORA, AT(options), 0, 0, NULL},
    {"mask_prompt", FIELD_BOOLEAN, AT(options.mask_prompt), 0, 0, NULL},
    {"grad_checkpoint", FIELD_BOOLEAN, AT(grad_checkpoint), 0, 0, NULL},
    {"text_feature", FIELD_TEXT, AT(options.text_feature), 0, 0, NULL},
    {"prompt_feature", FIELD_TEXT, AT(options.prompt_feature), 0, 0, NULL},
    {"completion_feature", FIELD_TEXT, AT(options.completion_feature), 0, 0, NULL},
    {"chat_feature", FIELD_TEXT, AT(options.chat_feature), 0, 0, NULL},
    {"chosen_feature", FIELD_TEXT, AT(options.chosen_feature), 0, 0, NULL},
    {"rejected_feature", FIELD_TEXT, AT(options.rejected_feature), 0, 0, NULL},
    {"mask_history", FIELD_BOOLEAN, AT(options.mask_history), 0, 0, NULL},
    {"packing", FIELD_BOOLEAN, AT(options.packing), 0, 0, NULL},
    {"shuffle", FIELD_BOOLEAN, AT(shuffle), 0, 0, NULL},
    {"mlx_compatible_loss", FIELD_BOOLEAN, AT(options.mlx_compatible), 0, 0, NULL},
    {"max_grad_norm", FIELD_NUMBER, AT(options.max_grad_norm), 0, 1e30, NULL},
    {"neftune_alpha", FIELD_NUMBER, AT(options.neftune_alpha), 0, 1e6, NULL},
    {"beta", FIELD_NUMBER, AT(options.beta), 1e-9, 1e6, NULL},
    {"patience", FIELD_INT64, AT(options.patience), 0, LARGEST, NULL},
    {"clear_cache_threshold", FIELD_IGNORED, 0, 0, 0, NULL},
    {"report_to", FIELD_IGNORED, 0, 0, 0, NULL},
    {"project_name", FIELD_IGNORED, 0, 0, 0, NULL},
    {"wandb", FIELD_IGNORED, 0, 0, 0, NULL},
    {"trust_remote_code", FIELD_IGNORED, 0, 0, 0, NULL},
    {"config", FIELD_IGNORED, 0, 0, 0, NULL},
    {"hf_dataset", FIELD_UNSUPPORTED, 0, 0, 0, NULL},
};

#undef AT
#define AT(member) offsetof(bombus_train_options, member)
static const struct field lora_fields[] = {{"rank", FIELD_INT32, AT(rank), 1, 1 << 16, NULL},
                                           {"scale", FIELD_NUMBER, AT(scale), -1e6, 1e6, NULL},
                                           {"dropout", FIELD_NUMBER, AT(dropout), 0, 0.999, NULL},
                                           {"keys", FIELD_TEXTS, 0, 0, 0, NULL}};

#undef AT
#define AT(member) offsetof(bombus_optimizer_options, member)
#define ADAM_FIELDS                                        \
    {"betas", FIELD_BETAS, 0, 0, 0, NULL},                 \
        {"eps", FIELD_NUMBER, AT(eps), 0, 1, NULL},        \
        {"bias_correction", FIELD_BOOLEAN, AT(bias_correction), 0, 0, NULL}
static const struct field adam_fields[] = {ADAM_FIELDS};
static const struct field adamw_fields[] = {ADAM_FIELDS, {"weight_decay", FIELD_NUMBER, AT(weight_decay), 0, 1e6, NULL}};
static const struct field sgd_fields[] = {{"momentum", FIELD_NUMBER, AT(momentum), 0, 1, NULL},
                                          {"weight_decay", FIELD_NUMBER, AT(weight_decay), 0, 1e6, NULL},
                                          {"dampening", FIELD_NUMBER, AT(dampening), 0, 1, NULL},
                                          {"nesterov", FIELD_BOOLEAN, AT(nesterov), 0, 0, NULL}};
static const struct field muon_fields[] = {{"momentum", FIELD_NUMBER, AT(momentum), 0, 1, NULL},
                                           {"weight_decay", FIELD_NUMBER, AT(weight_decay), 0, 1e6, NULL},
                                           {"nesterov", FIELD_BOOLEAN, AT(nesterov), 0, 0, NULL},
                                           {"ns_steps", FIELD_INT32, AT(ns_steps), 1, 100, NULL}};
static const struct {
    const struct field *fields;
    size_t count;
} optimizer_fields[BB_OPTIMIZER_KINDS] = {{adam_fields, BB_COUNT(adam_fields)},
                                          {adamw_fields, BB_COUNT(adamw_fields)},
                                          {sgd_fields, BB_COUNT(sgd_fields)},
                                          {muon_fields, BB_COUNT(muon_fields)}};

void bb_train_config_init(struct bb_train_config *config)
{
    *config = (struct bb_train_config){
        .options = {.adapter_path = "adapters",
                    .num_layers = 16,
                    .rank = 8,
                    .scale = 20.0,
                    .batch_size = 4,
                    .grad_accumulation_steps = 1,
                    .iters = 1000,
                    .val_batches = 25,
                    .steps_per_report = 10,
                    .steps_per_eval = 200,
                    .save_every = 100,
                    .max_seq_length = 2048,
                    .learning_rate = 1e-5,
                    .beta = 0.1},
        .train = true,
        .shuffle = true,
        .test_batches = 500,
    };
    for (size_t i = 0; i < BB_COUNT(config->optimizers); i++)
        config->optimizers[i] = bb_optimizer_defaults((bombus_optimizer)i);
}

void bb_train_config_clear(struct bb_train_config *config)
{
    bb_arena_clear(&config->arena);
    *config = (struct bb_train_config){0};
}

/* ---- scalars, as PyYAML types them ---- */

static bombus_status wrong(const struct parse *parse, const yaml_node_t *node, const char *name, const char *expected)
{
    bool is_scalar = node->type == YAML_SCALAR_NODE;
    return bb_fail_at(parse->error, BOMBUS_ERROR_FORMAT, (int32_t)node->start_mark.line + 1,
                      (int32_t)node->start_mark.column + 1, "%s: line %zu: '%s' must be %s, not %s%.60s", parse->path,
                      node->start_mark.line + 1, name, expected, is_scalar ? "" : "a list or a map",
                      is_scalar ? (const char *)node->data.scalar.value : "");
}

static const char *plain(const yaml_node_t *node)
{
    bool is_plain = node->type == YAML_SCALAR_NODE && node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    const char *text = is_plain ? (const char *)node->data.scalar.value : NULL;
    return text != NULL && strlen(text) == node->data.scalar.length ? text : NULL;
}

static bool is_null(const yaml_node_t *node)
{
    const char *text = plain(node);
    return text != NULL && (*text == '\0' || strcmp(text, "~") == 0 || strcmp(text, "null") == 0 ||
                            strcmp(text, "Null") == 0 || strcmp(text, "NULL") == 0);
}

static bool read_boolean(const yaml_node_t *node, bool *value)
{
    static const char *const words[] = {"true", "True", "TRUE", "yes", "Yes", "YES", "on",  "On",  "ON",
                                        "false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"};
    const char *text = plain(node);
    for (size_t i = 0; i < BB_COUNT(words) && text != NULL; i++)
        if (strcmp(text, words[i]) == 0) {
            *value = i < BB_COUNT(words) / 2;
            return true;
        }
    return false;
}

/* Digits may have underscores. *is_whole: neither point nor exponent. */
static bool read_number(const yaml_node_t *node, double *value, bool *is_whole)
{
    const char *text = plain(node);
    char digits[NUMBER_LENGTH];
    size_t length = 0, digit_count = 0;
    if (text == NULL)
        return false;
    *is_whole = true;
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '_' && c > text)
            continue;
        if (length + 1 >= sizeof digits || strchr("+-.eE0123456789", *c) == NULL)
            return false;
        *is_whole &= strchr(".eE", *c) == NULL;
        digit_count += *c >= '0' && *c <= '9';
        digits[length++] = *c;
    }
    digits[length] = '\0';
    char *end;
    *value = strtod(digits, &end);
    const char *first = digits + (*digits == '-' || *digits == '+');
    bool is_octal = *is_whole && first[0] == '0' && first[1] != '\0'; /* PyYAML would take it for base 8 */
    return digit_count > 0 && *end == '\0' && isfinite(*value) && !is_octal;
}

static char *copy_scalar(const struct parse *parse, const yaml_node_t *node)
{
    return bb_arena_copy_text(&parse->config->arena, (const char *)node->data.scalar.value, node->data.scalar.length);
}

static bombus_status read_text(const struct parse *parse, const yaml_node_t *node, const char *name, const char **text)
{
    bool boolean, is_whole;
    double number;
    if (node->type != YAML_SCALAR_NODE || strlen((const char *)node->data.scalar.value) != node->data.scalar.length ||
        read_boolean(node, &boolean) || read_number(node, &number, &is_whole))
        return wrong(parse, node, name, "a text");
    *text = copy_scalar(parse, node);
    return *text != NULL ? BOMBUS_OK : bb_fail_memory(parse->error, node->data.scalar.length, name);
}

static bombus_status read_bounded(const struct parse *parse, const yaml_node_t *node, const struct field *field,
                                  double *value)
{
    bool is_whole;
    char expected[96];
    if (!read_number(node, value, &is_whole))
        return wrong(parse, node, field->name, field->kind == FIELD_NUMBER ? "a number" : "a whole number");
    if (field->kind != FIELD_NUMBER && !is_whole)
        return wrong(parse, node, field->name, "a whole number");
    snprintf(expected, sizeof expected, "within %.10g and %.10g", field->least, field->most);
    return *value >= field->least && *value <= field->most ? BOMBUS_OK : wrong(parse, node, field->name, expected);
}

/* ---- maps ---- */

static bombus_status read_field(const struct parse *parse, const yaml_node_t *node, const struct field *field, void *place);

static bombus_status unknown(const struct parse *parse, const yaml_node_t *key, const char *name, const char *inside,
                             const struct field *fields, size_t count)
{
    const char *names[BB_COUNT(root_fields)];
    for (size_t i = 0; i < count; i++)
        names[i] = fields[i].name;
    const char *nearest = bb_suggest(name, names, count);
    return bb_fail_at(parse->error, BOMBUS_ERROR_FORMAT, (int32_t)key->start_mark.line + 1,
                      (int32_t)key->start_mark.column + 1, "%s: line %zu: unknown key '%.100s'%s%s%s%s%s", parse->path,
                      key->start_mark.line + 1, name, inside != NULL ? " in " : "", inside != NULL ? inside : "",
                      nearest != NULL ? "; did you mean '" : "", nearest != NULL ? nearest : "", nearest != NULL ? "'?" : "");
}

/* Reads a map by its table into the struct at `base`; null leaves what is there. */
static bombus_status read_map(const struct parse *parse, const yaml_node_t *node, const char *inside,
                              const struct field *fields, size_t count, void *base)
{
    if (node->type != YAML_MAPPING_NODE)
        return wrong(parse, node, inside != NULL ? inside : "the file", "a map of keys to values");
    bombus_status status = BOMBUS_OK;
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top && status == BOMBUS_OK;
         pair++) {
        const yaml_node_t *key = yaml_document_get_node(parse->document, pair->key);
        const yaml_node_t *value = yaml_document_get_node(parse->document, pair->value);
        const char *name = key->type == YAML_SCALAR_NODE ? (const char *)key->data.scalar.value : "(not a word)";
        const struct field *field = NULL;
        for (size_t i = 0; i < count && field == NULL; i++)
            field = strcmp(fields[i].name, name) == 0 ? &fields[i] : NULL;
        if (field == NULL)
            status = unknown(parse, key, name, inside, fields, count);
        else if (!is_null(value))
            status = read_field(parse, value, field, (char *)base + field->offset);
    }
    return status;
}

static const yaml_node_t *item_at(const struct parse *parse, const yaml_node_t *list, size_t index)
{
    return yaml_document_get_node(parse->document, list->data.sequence.items.start[index]);
}

static size_t item_count(const yaml_node_t *list)
{
    return list->type == YAML_SEQUENCE_NODE ? (size_t)(list->data.sequence.items.top - list->data.sequence.items.start) : 0;
}

static const yaml_node_t *member(const struct parse *parse, const yaml_node_t *map, const char *name)
{
    for (yaml_node_pair_t *pair = map->data.mapping.pairs.start; pair < map->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(parse->document, pair->key);
        if (key->type == YAML_SCALAR_NODE && strcmp((const char *)key->data.scalar.value, name) == 0)
            return yaml_document_get_node(parse->document, pair->value);
    }
    return NULL;
}

static bombus_status read_keys(const struct parse *parse, const yaml_node_t *node)
{
    size_t count = item_count(node);
    if (count == 0)
        return wrong(parse, node, "keys", "a list of layer names");
    const char **keys = bb_arena_allocate(&parse->config->arena, count, sizeof *keys);
    if (keys == NULL)
        return bb_fail_memory(parse->error, count * sizeof *keys, "keys");
    bombus_status status = BOMBUS_OK;
    for (size_t i = 0; i < count && status == BOMBUS_OK; i++)
        status = read_text(parse, item_at(parse, node, i), "keys", &keys[i]);
    parse->config->options.keys = keys;
    parse->config->options.key_count = count;
    return status;
}

static bombus_status read_betas(const struct parse *parse, const yaml_node_t *node, bombus_optimizer_options *options)
{
    double *const betas[] = {&options->beta1, &options->beta2};
    bool is_whole;
    if (item_count(node) != BB_COUNT(betas))
        return wrong(parse, node, "betas", "two numbers");
    for (size_t i = 0; i < BB_COUNT(betas); i++)
        if (!read_number(item_at(parse, node, i), betas[i], &is_whole) || *betas[i] < 0 || *betas[i] >= 1)
            return wrong(parse, item_at(parse, node, i), "betas", "numbers from 0 to below 1");
    return BOMBUS_OK;
}

static bombus_status read_optimizers(const struct parse *parse, const yaml_node_t *node)
{
    if (node->type != YAML_MAPPING_NODE)
        return wrong(parse, node, "optimizer_config", "a map of optimizers");
    bombus_status status = BOMBUS_OK;
    for (yaml_node_pair_t *pair = node->data.mapping.pairs.start; pair < node->data.mapping.pairs.top && status == BOMBUS_OK;
         pair++) {
        const yaml_node_t *key = yaml_document_get_node(parse->document, pair->key);
        const yaml_node_t *value = yaml_document_get_node(parse->document, pair->value);
        const char *name = key->type == YAML_SCALAR_NODE ? (const char *)key->data.scalar.value : "(not a word)";
        size_t kind = 0;
        if (strcmp(name, "adafactor") == 0 || is_null(value)) /* mlx_lm lists it with nothing in it; chosen, it is refused */
            continue;
        while (kind < BB_OPTIMIZER_KINDS && strcmp(bb_optimizer_names[kind], name) != 0)
            kind++;
        if (kind == BB_OPTIMIZER_KINDS)
            return wrong(parse, key, "optimizer_config", "a map of adam, adamw, sgd and muon");
        status = read_map(parse, value, name, optimizer_fields[kind].fields, optimizer_fields[kind].count,
                          &parse->config->optimizers[kind]);
    }
    return status;
}

/* ---- schedules ---- */

/* That the map has no other keys than these. */
static bombus_status check_keys(const struct parse *parse, const yaml_node_t *map, const char *inside,
                                const struct field *fields, size_t count)
{
    for (yaml_node_pair_t *pair = map->data.mapping.pairs.start; pair < map->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(parse->document, pair->key);
        const char *name = key->type == YAML_SCALAR_NODE ? (const char *)key->data.scalar.value : "(not a word)";
        size_t i = 0;
        while (i < count && strcmp(fields[i].name, name) != 0)
            i++;
        if (i == count)
            return unknown(parse, key, name, inside, fields, count);
    }
    return BOMBUS_OK;
}

/* `node` is a map; its name is one of a schedule alone. */
static bombus_status read_part(const struct parse *parse, const yaml_node_t *node, bombus_schedule_part *part)
{
    static const struct {
        size_t least, most;
        const char *expected;
    } kinds[] = {{2, 3, "[init, decay_steps] or [init, decay_steps, end]"},
                 {3, 3, "[init, end, steps]"},
                 {2, 2, "[init, decay_rate]"},
                 {3, 3, "[init, decay_rate, step_size]"}};
    const yaml_node_t *name = member(parse, node, "name"), *arguments = member(parse, node, "arguments");
    size_t kind = 0, count = arguments != NULL ? item_count(arguments) : 0;
    bool is_whole;
    if (name == NULL || name->type != YAML_SCALAR_NODE)
        return wrong(parse, node, "lr_schedule", "a map with name and arguments");
    while (kind < BB_COUNT(kinds) && strcmp(bb_schedule_names[kind], (const char *)name->data.scalar.value) != 0)
        kind++;
    if (kind == BB_COUNT(kinds))
        return wrong(parse, name, "name",
                     "one of cosine_decay, linear_schedule, exponential_decay, step_decay and join_schedules");
    if (count < kinds[kind].least || count > kinds[kind].most)
        return wrong(parse, arguments != NULL ? arguments : node, "arguments", kinds[kind].expected);
    *part = (bombus_schedule_part){.kind = (bombus_schedule_kind)kind};
    for (size_t i = 0; i < count; i++)
        if (!read_number(item_at(parse, arguments, i), &part->arguments[i], &is_whole))
            return wrong(parse, item_at(parse, arguments, i), "arguments", kinds[kind].expected);
    size_t steps = kind == BOMBUS_COSINE_DECAY ? 1 : 2;
    if (kind != BOMBUS_EXPONENTIAL_DECAY && part->arguments[steps] < 1)
        return wrong(parse, item_at(parse, arguments, steps), "arguments", "a count of steps of at least 1 there");
    return BOMBUS_OK;
}

/* One of those that are joined: a map that says nothing else. */
static bombus_status read_joined(const struct parse *parse, const yaml_node_t *node, bombus_schedule_part *part)
{
    static const struct field fields[] = {{.name = "name"}, {.name = "arguments"}};
    if (node->type != YAML_MAPPING_NODE)
        return wrong(parse, node, "schedules", "a list of maps with name and arguments");
    bombus_status status = check_keys(parse, node, "schedules", fields, BB_COUNT(fields));
    return status == BOMBUS_OK ? read_part(parse, node, part) : status;
}

static bombus_status read_join(const struct parse *parse, const yaml_node_t *node, bombus_schedule *schedule)
{
    const yaml_node_t *parts = member(parse, node, "schedules"), *boundaries = member(parse, node, "boundaries");
    size_t count = parts != NULL ? item_count(parts) : 0;
    const struct field boundary = {"boundaries", FIELD_INT64, 0, 1, LARGEST, NULL};
    bombus_status status = BOMBUS_OK;
    if (count < 1 || count > BOMBUS_SCHEDULE_PART_LIMIT)
        return wrong(parse, parts != NULL ? parts : node, "schedules", "a list of 1 to 16 schedules");
    if ((boundaries != NULL ? item_count(boundaries) : 0) != count - 1)
        return wrong(parse, boundaries != NULL ? boundaries : node, "boundaries", "one number less than there are schedules");
    for (size_t i = 0; i < count && status == BOMBUS_OK; i++)
        status = read_joined(parse, item_at(parse, parts, i), &schedule->parts[i]);
    for (size_t i = 0; i + 1 < count && status == BOMBUS_OK; i++) {
        double value = 0;
        status = read_bounded(parse, item_at(parse, boundaries, i), &boundary, &value);
        schedule->boundaries[i] = (int64_t)value;
        if (status == BOMBUS_OK && i > 0 && schedule->boundaries[i] <= schedule->boundaries[i - 1])
            status = wrong(parse, item_at(parse, boundaries, i), "boundaries", "larger than the one before");
    }
    schedule->part_count = (int32_t)count;
    return status;
}

static bombus_status read_schedule(const struct parse *parse, const yaml_node_t *node, bombus_schedule *schedule)
{
    static const struct field warmup = {"warmup", FIELD_INT64, 0, 0, LARGEST, NULL},
                              warmup_init = {"warmup_init", FIELD_NUMBER, 0, 0, 1e6, NULL};
    static const struct field alone[] = {{.name = "name"}, {.name = "warmup"}, {.name = "warmup_init"}, {.name = "arguments"}},
                              joined[] = {{.name = "name"},        {.name = "warmup"},    {.name = "warmup_init"},
                                          {.name = "schedules"}, {.name = "boundaries"}};
    if (node->type != YAML_MAPPING_NODE)
        return wrong(parse, node, "lr_schedule", "a map with name and arguments");
    const yaml_node_t *name = member(parse, node, "name"), *steps = member(parse, node, "warmup"),
                      *init = member(parse, node, "warmup_init");
    const char *text = name != NULL && name->type == YAML_SCALAR_NODE ? (const char *)name->data.scalar.value : "";
    bool is_join = strcmp(text, "join_schedules") == 0 || strcmp(text, "join") == 0;
    double value = 0;
    *schedule = (bombus_schedule){.part_count = 1};
    bombus_status status = check_keys(parse, node, "lr_schedule", is_join ? joined : alone,
                                      is_join ? BB_COUNT(joined) : BB_COUNT(alone));
    if (status == BOMBUS_OK)
        status = is_join ? read_join(parse, node, schedule) : read_part(parse, node, &schedule->parts[0]);
    if (status == BOMBUS_OK && steps != NULL && !is_null(steps))
        status = read_bounded(parse, steps, &warmup, &value);
    schedule->warmup = (int64_t)value;
    if (status == BOMBUS_OK && init != NULL && !is_null(init))
        status = read_bounded(parse, init, &warmup_init, &schedule->warmup_init);
    return status;
}

/* ---- fields ---- */

static bombus_status read_choice(const struct parse *parse, const yaml_node_t *node, const struct field *field, void *place)
{
    const char *text = node->type == YAML_SCALAR_NODE ? (const char *)node->data.scalar.value : "";
    char expected[96] = "one of";
    for (size_t i = 0; field->choices[i] != NULL; i++) {
        size_t used = strlen(expected);
        if (strcasecmp(field->choices[i], text) == 0) {
            *(int *)place = (int)i;
            return BOMBUS_OK;
        }
        snprintf(expected + used, sizeof expected - used, "%s %s", i > 0 ? "," : "", field->choices[i]);
    }
    if (field->choices == bb_optimizer_names && strcasecmp(text, "adafactor") == 0)
        return bb_fail(parse->error, BOMBUS_ERROR_UNSUPPORTED,
                       "%s: line %zu: optimizer: adafactor is not supported; there are adam, adamw, sgd and muon",
                       parse->path, node->start_mark.line + 1);
    return wrong(parse, node, field->name, expected);
}

static bombus_status read_field(const struct parse *parse, const yaml_node_t *node, const struct field *field, void *place)
{
    struct bb_train_config *config = parse->config;
    double value = 0;
    bombus_status status = BOMBUS_OK;
    switch (field->kind) {
    case FIELD_TEXT: return read_text(parse, node, field->name, place);
    case FIELD_BOOLEAN:
        return read_boolean(node, place) ? BOMBUS_OK : wrong(parse, node, field->name, "true or false");
    case FIELD_INT32:
        status = read_bounded(parse, node, field, &value);
        *(int32_t *)place = status == BOMBUS_OK ? (int32_t)value : *(int32_t *)place;
        return status;
    case FIELD_INT64:
        status = read_bounded(parse, node, field, &value);
        *(int64_t *)place = status == BOMBUS_OK ? (int64_t)value : *(int64_t *)place;
        return status;
    case FIELD_BATCHES:
        status = read_bounded(parse, node, field, &value);
        if (status == BOMBUS_OK && value == 0)
            status = wrong(parse, node, field->name, "a count of batches, or -1 for all");
        *(int64_t *)place = status == BOMBUS_OK ? (int64_t)value : *(int64_t *)place;
        return status;
    case FIELD_NUMBER: return read_bounded(parse, node, field, place);
    case FIELD_CHOICE: return read_choice(parse, node, field, place);
    case FIELD_IGNORED:
        if (config->ignored_count < BB_IGNORED_LIMIT)
            config->ignored[config->ignored_count++] = field->name;
        return BOMBUS_OK;
    case FIELD_UNSUPPORTED:
        return bb_fail(parse->error, BOMBUS_ERROR_UNSUPPORTED,
                       "%s: line %zu: '%s' is not supported: download the data set and name its folder as data", parse->path,
                       node->start_mark.line + 1, field->name);
    case FIELD_TEXTS: return read_keys(parse, node);
    case FIELD_BETAS: return read_betas(parse, node, place);
    case FIELD_LORA:
        status = read_map(parse, node, field->name, lora_fields, BB_COUNT(lora_fields), place);
        if (status == BOMBUS_OK && config->options.scale == 0.0)
            status = wrong(parse, member(parse, node, "scale"), "scale", "other than 0, with which nothing is learnt");
        return status;
    case FIELD_OPTIMIZERS: return read_optimizers(parse, node);
    case FIELD_SCHEDULE: return read_schedule(parse, node, place);
    }
    return status;
}

/* ---- files ---- */

static bombus_status fail_yaml(const yaml_parser_t *parser, const char *path, bombus_error *error)
{
    size_t line = parser->problem_mark.line + 1;
    if (parser->error == YAML_MEMORY_ERROR)
        return bb_fail_memory(error, 0, "a YAML file");
    return bb_fail_at(error, BOMBUS_ERROR_FORMAT, (int32_t)line, (int32_t)parser->problem_mark.column + 1,
                      "%s: line %zu: no valid YAML: %s", path, line, parser->problem != NULL ? parser->problem : "?");
}

static bombus_status parse_document(struct parse *parse, yaml_parser_t *parser)
{
    yaml_document_t document, next;
    if (!yaml_parser_load(parser, &document))
        return fail_yaml(parser, parse->path, parse->error);
    parse->document = &document;
    const yaml_node_t *root = yaml_document_get_root_node(&document);
    bombus_status status = BOMBUS_OK;
    if (root == NULL || is_null(root))
        status = bb_fail(parse->error, BOMBUS_ERROR_FORMAT, "%s: there are no settings in it", parse->path);
    else
        status = read_map(parse, root, NULL, root_fields, BB_COUNT(root_fields), parse->config);
    yaml_document_delete(&document);
    if (status != BOMBUS_OK)
        return status;
    if (!yaml_parser_load(parser, &next))
        return fail_yaml(parser, parse->path, parse->error);
    if (yaml_document_get_root_node(&next) != NULL)
        status = bb_fail(parse->error, BOMBUS_ERROR_FORMAT, "%s: more than one YAML document", parse->path);
    yaml_document_delete(&next);
    return status;
}

bombus_status bb_train_config_parse(struct bb_train_config *config, const char *text, size_t length, const char *path,
                                    bombus_error *error)
{
    struct bb_train_config read = *config;
    struct parse parse = {.config = &read, .path = path, .error = error};
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return bb_fail_memory(error, sizeof parser, "a YAML file");
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, length);
    bombus_status status = parse_document(&parse, &parser);
    yaml_parser_delete(&parser);
    if (status == BOMBUS_OK && !read.train && read.ignored_count < BB_IGNORED_LIMIT)
        read.ignored[read.ignored_count++] = "train: false";
    if (status == BOMBUS_OK)
        *config = read;
    else
        config->arena = read.arena;
    return status;
}

bombus_train_options bb_train_config_options(const struct bb_train_config *config)
{
    bombus_train_options options = config->options;
    options.optimizer_options = config->optimizers[options.optimizer];
    options.has_optimizer_options = true;
    options.no_shuffle = !config->shuffle;
    options.test_batches = config->test ? config->test_batches : 0;
    options.num_layers = options.num_layers == 0 ? -1 : options.num_layers; /* mlx_lm takes 0 for all */
    options.model_name = config->model;
    return options;
}

bombus_status bb_train_config_read(struct bb_train_config *config, const char *path, bombus_error *error)
{
    char *text = NULL;
    size_t length = 0;
    bombus_status status = bb_file_read(&text, &length, path, FILE_LIMIT, error);
    if (status == BOMBUS_OK)
        status = bb_train_config_parse(config, text, length, path, error);
    bb_release(text);
    return status;
}
