/* Chat template sources: compiled and rendered with fixed variables under small limits. */
#include "base/memory.h"
#include "text/template/template.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char variables[] =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi \\u00e9 <b>\"}, {\"role\": \"assistant\", \"content\": null, \"tool_calls\": "
    "[{\"function\": {\"name\": \"f\", \"arguments\": {\"x\": [1, 2.5, null, true]}}}]}, {\"role\": \"tool\", \"content\": [{\"text\": "
    "\"a\\nb\"}]}], \"tools\": [{\"type\": \"function\"}], \"words\": [\"b\", \"A\", \"c\"], \"numbers\": [3, -1, 2.5], \"text\": "
    "\"The quick\\nfox\\u2028\\ud83d\\ude00\", \"big\": 12345678901234567890, \"now\": \"2025-03-14T09:26:53\"}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct bb_template_limits limits = {.steps = 100000, .output_bytes = 1 << 20, .memory_bytes = 16 << 20};
    struct bb_template *template_;
    bombus_error error;
    bombus_span *spans;
    char *text;
    size_t length, count;
    if (bb_template_create(&template_, (const char *)data, size, &limits, &error) != BOMBUS_OK)
        return 0;
    if (bb_template_render(template_, variables, strlen(variables), &text, &length, &spans, &count, &error) ==
        BOMBUS_OK) {
        for (size_t i = 0; i < count; i++)
            if (spans[i].begin > spans[i].end || spans[i].end > length)
                __builtin_trap();
        bb_release(text);
        bb_release(spans);
    }
    bb_template_free(template_);
    return 0;
}
