/* What the hub's parts share: texts in its arena, waiting between tries, progress. */
#include "files/hub_parts.h"

#include <stdarg.h>
#include <stdio.h>

enum { MAX_DELAY_MS = 15000, MAX_RETRY_AFTER_S = 120 };

const char *bb_hub_format(struct bb_hub *hub, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    char *text = length >= 0 ? bb_arena_allocate(&hub->arena, (size_t)length + 1, 1) : NULL;
    if (text != NULL)
        vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

int32_t bb_hub_retry_count(const struct bb_hub *hub)
{
    return hub->options->retry_count > 0 ? hub->options->retry_count : 5;
}

int64_t bb_hub_delay_ms(const struct bb_hub *hub, int32_t attempt, int64_t retry_after_s)
{
    int64_t delay = hub->options->retry_delay_ms > 0 ? hub->options->retry_delay_ms : 500;
    for (int32_t i = 1; i < attempt && delay < MAX_DELAY_MS; i++)
        delay *= 2;
    if (retry_after_s > MAX_RETRY_AFTER_S)
        return -1;
    if (delay < retry_after_s * 1000)
        delay = retry_after_s * 1000;
    return delay;
}

bombus_status bb_hub_report(const struct bb_hub *hub, const char *file, uint64_t done, uint64_t total,
                            bombus_error *error)
{
    const bombus_hub_options *options = hub->options;
    if (options->progress == NULL || options->progress(options->progress_context, file, done, total))
        return BOMBUS_OK;
    return bb_fail(error, BOMBUS_ERROR_CANCELLED, "%s: the download was cancelled", hub->repository);
}
