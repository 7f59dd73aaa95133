/* Chat templates. */
#include "api/handles.h"

/* A handle for what `compiled` was made into; on failure it is freed. */
static bombus_status wrap(bombus_template **template_, bombus_status status, struct bb_template *compiled,
                          bombus_error *error)
{
    if (status != BOMBUS_OK)
        return status;
    bombus_template *made = bb_allocate(1, sizeof *made);
    if (made == NULL) {
        bb_template_free(compiled);
        return bb_fail_memory(error, sizeof *made, "a chat template");
    }
    made->compiled = compiled;
    *template_ = made;
    return BOMBUS_OK;
}

bombus_status bombus_template_create(bombus_template **template_, const char *source, size_t length,
                                     bombus_error *error)
{
    bombus_status status = bb_check_pointer(template_, "template_", error);
    if (status != BOMBUS_OK)
        return status;
    *template_ = NULL;
    status = bb_check_array(source, length, "source", error);
    if (status != BOMBUS_OK)
        return status;
    struct bb_template *compiled = NULL;
    status = bb_template_create(&compiled, source != NULL ? source : "", length, NULL, error);
    return wrap(template_, status, compiled, error);
}

bombus_status bombus_template_open(bombus_template **template_, const char *folder, const char *name,
                                   bombus_error *error)
{
    bombus_status status = bb_check_pointer(template_, "template_", error);
    if (status != BOMBUS_OK)
        return status;
    *template_ = NULL;
    status = bb_check_pointer(folder, "folder", error);
    if (status != BOMBUS_OK)
        return status;
    struct bb_template *compiled = NULL;
    status = bb_chat_template_open(&compiled, folder, name, error);
    return wrap(template_, status, compiled, error);
}

void bombus_template_free(bombus_template *template_)
{
    if (template_ == NULL)
        return;
    bb_template_free(template_->compiled);
    bb_release(template_);
}

bombus_status bombus_template_render(const bombus_template *template_, const char *variables_json, size_t length,
                                     char **text, size_t *text_length, bombus_span **spans, size_t *span_count,
                                     bombus_error *error)
{
    size_t unused;
    bombus_status status = bb_check_pointer(text, "text", error);
    if (status != BOMBUS_OK)
        return status;
    *text = NULL;
    text_length = text_length != NULL ? text_length : &unused;
    *text_length = 0;
    if (spans != NULL) {
        status = bb_check_pointer(span_count, "span_count", error);
        if (status != BOMBUS_OK)
            return status;
        *spans = NULL;
        *span_count = 0;
    }
    status = bb_check_pointer(template_, "template_", error);
    if (status == BOMBUS_OK)
        status = bb_check_pointer(variables_json, "variables_json", error);
    if (status != BOMBUS_OK)
        return status;
    return bb_template_render(template_->compiled, variables_json, length, text, text_length, spans, span_count, error);
}
