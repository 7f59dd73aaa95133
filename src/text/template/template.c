/* A template's life: compiled once from its source, rendered with variables. */
#include "text/template/template.h"

#include "base/map.h"
#include "text/template/builder.h"
#include "text/template/call.h"
#include "text/template/compare.h"
#include "text/template/conversation.h"
#include "text/template/json.h"
#include "text/template/render.h"
#include "text/template/scope.h"
#include "text/template/statement.h"
#include "text/unicode.h"

#include <string.h>

struct bb_template {
    struct bb_arena arena; /* everything below but the source */
    char *source;
    size_t length;
    struct bb_template_limits limits;
    struct bb_syntax syntax;
};

/* Every newline as "\n", the last one left out, as jinja2 does before anything else. */
static char *normalize(const char *source, size_t length, size_t *normal_length)
{
    char *normal = bb_allocate(length + 1, 1);
    size_t count = 0;
    if (normal == NULL)
        return NULL;
    for (size_t i = 0; i < length; i++) {
        if (source[i] == '\r' && i + 1 < length && source[i + 1] == '\n')
            i++;
        normal[count++] = (char)(source[i] == '\r' ? '\n' : source[i]);
    }
    *normal_length = count > 0 && normal[count - 1] == '\n' ? count - 1 : count;
    return normal;
}

static bombus_status compile(struct bb_template *template_, const char *source, size_t length, bombus_error *error)
{
    size_t valid = bb_utf8_valid_length(source, length);
    if (length >= INT32_MAX)
        return bb_fail(error, BOMBUS_ERROR_LIMIT, "chat template: %zu bytes of source are too many", length);
    if (valid < length) {
        int32_t line, column;
        bb_find_place(source, valid, valid, &line, &column);
        return bb_fail_at(error, BOMBUS_ERROR_FORMAT, line, column, "chat template: the source is not UTF-8");
    }
    template_->source = normalize(source, length, &template_->length);
    if (template_->source == NULL)
        return bb_fail_memory(error, length, "a chat template");
    struct bb_work work = {
        .source = template_->source, .source_length = template_->length, .limits = template_->limits, .error = error};
    bb_template_parse(&work, &template_->syntax);
    template_->arena = work.arena;
    return work.status;
}

bombus_status bb_template_create(struct bb_template **result, const char *source, size_t length,
                                 const struct bb_template_limits *limits, bombus_error *error)
{
    struct bb_template *template_ = bb_allocate(1, sizeof *template_);
    bombus_status status;
    *result = NULL;
    if (template_ == NULL)
        return bb_fail_memory(error, sizeof *template_, "a chat template");
    bb_template_limits_fill(&template_->limits, limits);
    status = compile(template_, source, length, error);
    if (status == BOMBUS_OK)
        *result = template_;
    else
        bb_template_free(template_);
    return status;
}

void bb_template_free(struct bb_template *template_)
{
    if (template_ == NULL)
        return;
    bb_arena_clear(&template_->arena);
    bb_release(template_->source);
    bb_release(template_);
}

uint64_t bb_template_digest(const struct bb_template *template_)
{
    return bb_hash(template_->source, template_->length, 0);
}

/* What each name of the template means before anything is set. */
static void resolve_globals(struct bb_work *work, const struct bb_template *template_, struct bb_value variables)
{
    work->globals = bb_work_allocate(work, template_->syntax.name_count, sizeof *work->globals);
    for (uint32_t i = 0; i < template_->syntax.name_count && work->status == BOMBUS_OK; i++) {
        struct bb_value name = template_->syntax.names[i];
        const struct bb_value *found = bb_dict_find(work, variables.dict, name);
        const struct bb_function *function = found == NULL ? bb_find_global(name.text) : NULL;
        if (found != NULL)
            work->globals[i] = *found;
        else if (function != NULL)
            work->globals[i] = (struct bb_value){.kind = BB_VALUE_FUNCTION, .function = function};
    }
}

static void render(struct bb_work *work, const struct bb_template *template_, const char *variables_json, size_t length)
{
    struct bb_continuation continuation = {0};
    work->source = variables_json;
    work->source_length = length;
    struct bb_value variables = bb_json_read(work, variables_json, length);
    work->source = template_->source;
    work->source_length = template_->length;
    work->place = 0;
    if (work->status == BOMBUS_OK)
        variables = bb_prepare_variables(work, variables, &continuation);
    if (work->status == BOMBUS_OK)
        resolve_globals(work, template_, variables);
    if (work->status == BOMBUS_OK && (work->scope = bb_scope_create(work, NULL)) != NULL)
        bb_render_body(work, template_->syntax.body);
    bb_cut_continuation(work, &continuation, work->output);
}

static void take_spans(struct bb_work *work, const struct bb_builder *output, bombus_span **spans, size_t *count)
{
    if (spans == NULL || work->status != BOMBUS_OK)
        return;
    if ((*spans = bb_allocate(output->span_count, sizeof **spans)) == NULL) {
        work->status = bb_fail_memory(work->error, output->span_count * sizeof **spans, "spans of a chat template");
        return;
    }
    if (output->span_count > 0)
        memcpy(*spans, output->spans, output->span_count * sizeof **spans);
    *count = output->span_count;
}

bombus_status bb_template_render(const struct bb_template *template_, const char *variables_json, size_t length,
                                 char **text, size_t *text_length, bombus_span **spans, size_t *span_count,
                                 bombus_error *error)
{
    struct bb_work work = {.limits = template_->limits, .error = error};
    struct bb_builder output = {.work = &work, .is_result = true};
    size_t unused_length, unused_count;
    text_length = text_length != NULL ? text_length : &unused_length;
    span_count = span_count != NULL ? span_count : &unused_count;
    *text = NULL;
    *text_length = *span_count = 0;
    if (spans != NULL)
        *spans = NULL;
    work.output = &output;
    render(&work, template_, variables_json, length);
    take_spans(&work, &output, spans, span_count);
    if (work.status == BOMBUS_OK && (*text = bb_buffer_take(&output.buffer, text_length)) == NULL) {
        work.status = bb_fail_memory(error, output.buffer.length, "a chat template's text");
        if (spans != NULL) {
            bb_release(*spans);
            *spans = NULL;
        }
        *span_count = 0;
    }
    bb_build_drop(&output);
    bb_arena_clear(&work.arena);
    return work.status;
}
