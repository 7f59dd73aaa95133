/* Variables of chat templates: JSON text given to a template that looks at all of them in many ways. */
#include "base/memory.h"
#include "text/template/template.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char source[] =
    "{% macro walk(v) %}{% if v is mapping %}{% for k, w in v | items %}{{ k ~ walk(w) }}{% endfor %}{% elif v is string %}"
    "{{ v | upper ~ v[1:-1:2] ~ v[::-1] ~ v | title ~ v | indent(2) ~ v.split() ~ v.rsplit(none, 1) ~ v.splitlines() ~ v | e | "
    "truncate(9) ~ v | wordcount ~ v | int ~ v | float ~ v.strip() ~ v | urlencode ~ v | striptags ~ v.casefold() }}{% elif v is "
    "iterable %}{% for w in v %}{{ walk(w) }}{% endfor %}{% elif v is number %}{{ '%s %r' % (v, v) ~ v | round(1) ~ '{:>8}'.format(v) "
    "~ v | filesizeformat }}{% else %}{{ v }}{% endif %}{% endmacro %}"
    "{{ messages | tojson }}{{ messages | tojson(indent=2, sort_keys=true, ensure_ascii=true) }}{{ messages }}{{ walk(messages) }}"
    "{% for m in messages %}{% generation %}{{ m.content }}{{ m['role'] }}{% endgeneration %}{{ m.reasoning_content }}{% endfor %}"
    "{{ strftime_now('%c %j %U %V %G') }}{{ tools | default([], true) | list | length }}{{ (messages | list) == (messages | list) }}"
    "{{ messages | map('string') | unique | sort | join(',') }}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct bb_template *template_;
    const struct bb_template_limits limits = {.steps = 200000, .output_bytes = 4 << 20, .memory_bytes = 32 << 20};
    bombus_error error;
    bombus_span *spans;
    char *text;
    size_t length, count;
    if (template_ == NULL && bb_template_create(&template_, source, strlen(source), &limits, &error) != BOMBUS_OK)
        __builtin_trap();
    if (bb_template_render(template_, (const char *)data, size, &text, &length, &spans, &count, &error) == BOMBUS_OK) {
        for (size_t i = 0; i < count; i++)
            if (spans[i].begin > spans[i].end || spans[i].end > length)
                __builtin_trap();
        bb_release(text);
        bb_release(spans);
    }
    return 0;
}
