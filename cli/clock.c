/* Monotonic time, and memory as the system counts it. */
#include "cli/clock.h"

#include "base/resident.h"

#include <stdio.h>
#include <time.h>

static double read_clock(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

double clock_seconds(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

double clock_processor_seconds(void)
{
    return read_clock(CLOCK_PROCESS_CPUTIME_ID);
}

int64_t clock_peak_memory_bytes(void)
{
    return (int64_t)bb_resident_peak();
}

/* The number behind `name` in a file of "name number" lines (name "": the first number); -1 where there is none ("max"). */
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

int64_t clock_free_memory_bytes(void)
{
    int64_t available = read_number("/proc/meminfo", "MemAvailable:");
    int64_t bytes = available < 0 ? 0 : available * 1024; /* kilobytes there */
    int64_t limit = read_number("/sys/fs/cgroup/memory.max", ""), used = read_number("/sys/fs/cgroup/memory.current", "");
    if (limit >= 0 && used >= 0 && limit - used < bytes)
        bytes = limit > used ? limit - used : 1;
    return bytes;
}
