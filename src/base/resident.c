/* The peak of resident memory. */
#include "base/resident.h"

#include <stdio.h>
#include <sys/resource.h>

uint64_t bb_resident_peak(void)
{
    /* Linux: getrusage's figure begins as that of the process that started this one, which may have been larger. */
    FILE *file = fopen("/proc/self/status", "r");
    char line[256];
    unsigned long long kilobytes = 0;
    while (file != NULL && fgets(line, sizeof line, file) != NULL && sscanf(line, "VmHWM: %llu", &kilobytes) != 1)
        kilobytes = 0;
    if (file != NULL)
        fclose(file);
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
