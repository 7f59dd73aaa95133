/* Memory as the system counts it: on Linux from the lines "name number" of its files. */
#include "base/resident.h"

#include <stdio.h>
#include <sys/resource.h>

/* The number behind `name` (name "": the first number); -1 where there is none ("max", or no such file). */
static int64_t read_number(const char *path, const char *name)
{
    FILE *file = fopen(path, "r");
    char line[256], format[64];
    long long number = -1;
    if (file == NULL)
        return -1;
    snprintf(format, sizeof format, "%s%%lld", name);
    while (fgets(line, sizeof line, file) != NULL && sscanf(line, format, &number) != 1)
        number = -1;
    fclose(file);
    return number;
}

uint64_t bb_resident_peak(void)
{
    /* Linux: getrusage's figure begins as that of the process that started this one, which may have been larger. */
    int64_t kilobytes = read_number("/proc/self/status", "VmHWM:");
    if (kilobytes > 0)
        return (uint64_t)kilobytes * 1024;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
#if defined(__APPLE__)
    return (uint64_t)usage.ru_maxrss;
#else
    return (uint64_t)usage.ru_maxrss * 1024;
#endif
}

uint64_t bb_resident_room(void)
{
    int64_t kilobytes = read_number("/proc/meminfo", "MemAvailable:");
    int64_t bytes = kilobytes > 0 ? kilobytes * 1024 : 0;
    int64_t limit = read_number("/sys/fs/cgroup/memory.max", ""),
            used = read_number("/sys/fs/cgroup/memory.current", "");
    if (limit >= 0 && used >= 0 && limit - used < bytes)
        bytes = limit > used ? limit - used : 1;
    return (uint64_t)bytes;
}
