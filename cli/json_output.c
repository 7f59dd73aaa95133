/* JSON values and lines. */
#include "cli/json_output.h"

#include "base/buffer.h"
#include "cli/report.h"
#include "cli/text_input.h"

#include <math.h>
#include <stdlib.h>

void json_output_print(json_t *value)
{
    report_if_null(value);
    char *text = report_if_null(json_dumps(value, JSON_ENCODE_ANY));
    puts(text);
    free(text);
    json_decref(value);
}

json_t *json_output_text(const char *text, size_t length)
{
    json_t *value = json_stringn(text, length);
    if (value == NULL) {
        struct bb_buffer repaired = {0};
        text_input_repair(&repaired, text, length);
        value = json_stringn(repaired.data, repaired.length);
        bb_buffer_clear(&repaired);
    }
    return report_if_null(value);
}

json_t *json_output_ids(const int32_t *ids, size_t count)
{
    json_t *array = report_if_null(json_array());
    for (size_t i = 0; i < count; i++)
        json_array_append_new(array, json_integer(ids[i]));
    return array;
}

json_t *json_output_number(double number)
{
    return isfinite(number) ? json_real(number) : json_null();
}
