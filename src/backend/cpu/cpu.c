/* Scratch memory of the CPU backend's operations. */
#include "backend/cpu/cpu.h"

#include "base/memory.h"

enum { SCRATCH_ALIGNMENT = 64 };

void *bb_cpu_scratch(struct bb_cpu *cpu, enum bb_cpu_scratch_use use, size_t bytes, bombus_error *error)
{
    if (cpu->scratch[use].size < bytes || cpu->scratch[use].memory == NULL) {
        bb_release(cpu->scratch[use].memory);
        cpu->scratch[use].size = 0;
        cpu->scratch[use].memory = bb_allocate_untouched(SCRATCH_ALIGNMENT, bytes, 1);
        if (cpu->scratch[use].memory == NULL) {
            bb_fail_memory(error, bytes, "scratch memory");
            return NULL;
        }
        cpu->scratch[use].size = bytes;
    }
    return cpu->scratch[use].memory;
}
