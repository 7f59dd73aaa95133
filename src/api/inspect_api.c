/* The wall before model/inspect.h; tokenizer and template, which model does not know, are tried here. */
#include "api/handles.h"
#include "model/inspect.h"

/* A refusal is a problem to tell; a file that is not there is told elsewhere. */
static bool is_problem(bombus_status status)
{
    return status != BOMBUS_OK && status != BOMBUS_ERROR_NOT_FOUND && status != BOMBUS_ERROR_MEMORY;
}

bombus_status bombus_inspect(char **json, const char *folder, bombus_error *error)
{
    struct bb_tokenizer *tokenizer = NULL;
    struct bb_template *template_ = NULL;
    struct bb_buffer buffer = {0};
    bombus_error problems[2];
    const char *messages[2];
    size_t count = 0;
    bombus_status status = bb_check_pointer(json, "json", error);
    if (status != BOMBUS_OK)
        return status;
    *json = NULL;
    status = bb_check_pointer(folder, "folder", error);
    if (status != BOMBUS_OK)
        return status;
    status = bb_tokenizer_open(&tokenizer, folder, NULL, &problems[count]);
    if (is_problem(status)) {
        messages[count] = problems[count].message;
        count++;
    }
    bb_tokenizer_close(tokenizer);
    if (status != BOMBUS_ERROR_MEMORY)
        status = bb_chat_template_open(&template_, folder, NULL, &problems[count]);
    if (is_problem(status)) {
        messages[count] = problems[count].message;
        count++;
    }
    bb_template_free(template_);
    if (status == BOMBUS_ERROR_MEMORY)
        return bb_fail(error, status, "%s", problems[count].message);
    status = bb_inspect(&buffer, folder, messages, count, error);
    if (status == BOMBUS_OK && (*json = bb_buffer_take(&buffer, NULL)) == NULL)
        status = bb_fail_memory(error, buffer.length, folder);
    bb_buffer_clear(&buffer);
    return status;
}
