/* Post-processors of tokenizer.json, for a single text. */
#include "text/post_processor.h"

#include "base/memory.h"
#include "text/vocabulary.h"

#include <string.h>

enum kind { BYTE_LEVEL, TEMPLATE, ROBERTA, BERT, SEQUENCE, KIND_COUNT };

static const char *const kind_names[KIND_COUNT] = {
    [BYTE_LEVEL] = "ByteLevel", [TEMPLATE] = "TemplateProcessing", [ROBERTA] = "RobertaProcessing",
    [BERT] = "BertProcessing",  [SEQUENCE] = "Sequence",
};

enum { TEXT_ITSELF = -1 };

void bb_post_processor_clear(struct bb_post_processor *post_processor)
{
    for (size_t i = 0; i < post_processor->count; i++)
        bb_ids_clear(&post_processor->templates[i]);
    bb_release(post_processor->templates);
    *post_processor = (struct bb_post_processor){0};
}

static bombus_status add_id(const struct bb_component *component, struct bb_ids *template_, json_t *id)
{
    if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > BB_MAX_TOKEN_ID)
        return bb_component_fail(component, "ids", "whole numbers from 0 to 16777215");
    bb_ids_add(template_, (int32_t)json_integer_value(id));
    return BOMBUS_OK;
}

/* One piece of `single`: {"Sequence": {"id": "A"}} or {"SpecialToken": {"id": name}}, with special_tokens[name].ids. */
static bombus_status add_template_piece(const struct bb_component *component, struct bb_ids *template_, json_t *piece)
{
    json_t *sequence = json_object_get(piece, "Sequence"), *special = json_object_get(piece, "SpecialToken");
    const char *name = json_string_value(json_object_get(sequence != NULL ? sequence : special, "id"));
    if (name == NULL)
        return bb_component_fail(component, "single", "a list of {\"Sequence\": ...} and {\"SpecialToken\": ...}");
    if (sequence != NULL) {
        if (strcmp(name, "A") != 0)
            return bb_component_fail(component, "single", "a template of sequence A");
        bb_ids_add(template_, TEXT_ITSELF);
        return BOMBUS_OK;
    }
    json_t *token = json_object_get(json_object_get(component->json, "special_tokens"), name);
    json_t *ids = json_object_get(token, "ids");
    if (!json_is_array(ids))
        return bb_component_fail(component, "special_tokens", "an object with every token of the template and its ids");
    bombus_status status = BOMBUS_OK;
    for (size_t i = 0; i < json_array_size(ids) && status == BOMBUS_OK; i++)
        status = add_id(component, template_, json_array_get(ids, i));
    return status;
}

static bombus_status read_template(const struct bb_component *component, struct bb_ids *template_)
{
    json_t *single;
    bombus_status status = bb_component_list(component, "single", &single);
    for (size_t i = 0; status == BOMBUS_OK && i < json_array_size(single); i++)
        status = add_template_piece(component, template_, json_array_get(single, i));
    return status;
}

/* "cls": [token, id], "sep": [token, id] around the text */
static bombus_status read_cls_and_sep(const struct bb_component *component, struct bb_ids *template_)
{
    bombus_status status = add_id(component, template_, json_array_get(json_object_get(component->json, "cls"), 1));
    bb_ids_add(template_, TEXT_ITSELF);
    if (status == BOMBUS_OK)
        status = add_id(component, template_, json_array_get(json_object_get(component->json, "sep"), 1));
    return status;
}

static bombus_status add_template(void *context, size_t kind, const struct bb_component *component)
{
    struct bb_post_processor *post_processor = context;
    if (kind == BYTE_LEVEL) /* it only trims offsets */
        return BOMBUS_OK;
    struct bb_ids *templates = bb_resize(post_processor->templates, post_processor->count + 1, sizeof *templates);
    if (templates == NULL)
        return bb_fail_memory(component->error, sizeof *templates, "a post-processor");
    post_processor->templates = templates;
    struct bb_ids *template_ = &templates[post_processor->count++];
    *template_ = (struct bb_ids){0};
    bombus_status status =
        kind == TEMPLATE ? read_template(component, template_) : read_cls_and_sep(component, template_);
    if (status == BOMBUS_OK && template_->is_failed)
        status = bb_fail_memory(component->error, 0, "a post-processor");
    return status;
}

bombus_status bb_post_processor_create(struct bb_post_processor *post_processor, const struct bb_component *component)
{
    *post_processor = (struct bb_post_processor){0};
    if (component->json == NULL || json_is_null(component->json))
        return BOMBUS_OK;
    bombus_status status =
        bb_component_walk(component, kind_names, KIND_COUNT, "processors", add_template, post_processor);
    if (status != BOMBUS_OK)
        bb_post_processor_clear(post_processor);
    return status;
}

bombus_status bb_post_processor_apply(const struct bb_post_processor *post_processor, struct bb_ids *ids,
                                      bombus_error *error)
{
    for (size_t i = 0; i < post_processor->count; i++) {
        const struct bb_ids *template_ = &post_processor->templates[i];
        struct bb_ids result = {0};
        if (bb_ids_reserve(&result, ids->count + template_->count)) {
            for (size_t j = 0; j < template_->count; j++) {
                if (template_->items[j] != TEXT_ITSELF)
                    bb_ids_add(&result, template_->items[j]);
                else if (ids->count > 0 && bb_ids_reserve(&result, ids->count)) {
                    memcpy(result.items + result.count, ids->items, ids->count * sizeof *ids->items);
                    result.count += ids->count;
                }
            }
        }
        bb_ids_clear(ids);
        *ids = result;
        if (ids->is_failed)
            return bb_fail_memory(error, 0, "encoding a text");
    }
    return BOMBUS_OK;
}
