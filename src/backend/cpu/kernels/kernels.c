/* The list of instruction sets: reads the CPU, and lets each level that it runs fill its slots over those of the level below. */
#include "backend/cpu/kernels/kernels.h"

#include <stdio.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

enum cpu_feature {
    CPU_ANY = 0,
    CPU_AVX2 = 1 << 0,   /* with FMA, F16C and BMI2, and the system saving 256-bit registers */
    CPU_AVX512 = 1 << 1, /* F, BW, VL, DQ, VBMI and VNNI, and the system saving 512-bit registers */
    CPU_AVX512_BF16 = 1 << 5,
    CPU_NEON = 1 << 2,
    CPU_NEON_DOT = 1 << 3,
    CPU_NEON_I8MM = 1 << 4
};

struct level {
    const char *name;
    uint32_t feature;
    /* NULL: as the level below */
    void (*fill_linear)(struct bb_kernels *kernels);
    void (*fill_rows)(struct bb_row_kernels *kernels);
    void (*fill_attention)(struct bb_attention_kernels *kernels);
    void (*fill_gradients)(struct bb_gradient_kernels *kernels);
};

static const struct level levels[] = {
    { "reference", CPU_ANY, bb_kernels_fill_reference_linear, bb_kernels_fill_reference_rows, bb_kernels_fill_reference_attention,
      bb_kernels_fill_reference_gradients },
#if defined(__x86_64__)
    { "avx2", CPU_AVX2, bb_kernels_fill_avx2_linear, bb_kernels_fill_avx2_rows, bb_kernels_fill_avx2_attention,
      bb_kernels_fill_avx2_gradients },
    { "avx512", CPU_AVX512, bb_kernels_fill_avx512_linear, bb_kernels_fill_avx512_rows, bb_kernels_fill_avx512_attention,
      bb_kernels_fill_avx512_gradients },
    { "avx512_bf16", CPU_AVX512_BF16, NULL, NULL, NULL, bb_kernels_fill_avx512_bf16_gradients },
#elif defined(__aarch64__)
    { "neon", CPU_NEON, bb_kernels_fill_neon_linear, bb_kernels_fill_neon_rows, bb_kernels_fill_neon_attention,
      bb_kernels_fill_neon_gradients },
    { "neon_dot", CPU_NEON_DOT, bb_kernels_fill_neon_dot_linear, NULL, NULL, NULL },
    { "neon_i8mm", CPU_NEON_I8MM, bb_kernels_fill_neon_i8mm_linear, NULL, NULL, NULL },
#endif
};

#if defined(__x86_64__)
/* Register states that the system saves (XCR0). */
static uint32_t saved_states(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static uint32_t read_features(void)
{
    uint32_t a, b, c, d, features = 0;
    const uint32_t osxsave = 1u << 27, fma = 1u << 12, f16c = 1u << 29, avx2 = (1u << 5) | (1u << 8); /* and BMI2 */
    const uint32_t avx512 = (1u << 16) | (1u << 17) | (1u << 30) | (1u << 31), vbmi_vnni = (1u << 1) | (1u << 11);
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & (osxsave | fma | f16c)) != (osxsave | fma | f16c))
        return 0;
    uint32_t states = saved_states();
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return 0;
    if ((states & 0x06) == 0x06 && (b & avx2) == avx2)
        features |= CPU_AVX2;
    if ((states & 0xE6) == 0xE6 && (b & avx512) == avx512 && (c & vbmi_vnni) == vbmi_vnni)
        features |= CPU_AVX512;
    const uint32_t bf16 = 1u << 5;
    if ((features & CPU_AVX512) != 0 && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & bf16) != 0)
        features |= CPU_AVX512_BF16;
    return features;
}
#elif defined(__aarch64__) && defined(__linux__)
static uint32_t read_features(void)
{
    const unsigned long dot = 1ul << 20, i8mm = 1ul << 13; /* HWCAP_ASIMDDP, HWCAP2_I8MM */
    uint32_t features = CPU_NEON;
    if ((getauxval(AT_HWCAP) & dot) != 0)
        features |= CPU_NEON_DOT;
    if ((getauxval(AT_HWCAP2) & i8mm) != 0)
        features |= CPU_NEON_I8MM;
    return features;
}
#elif defined(__aarch64__)
static uint32_t read_features(void)
{
    return CPU_NEON | CPU_NEON_DOT; /* every 64-bit Apple CPU that runs a current system; i8mm begins with the M2 */
}
#else
static uint32_t read_features(void)
{
    return 0;
}
#endif

/* With its own reading ahead alone an Intel core (Sapphire Rapids) multiplies at 65 % of the speed at which it reads, with prefetches this far
 * ahead at 85 %; AMD's (Zen 4, Zen 5) are slower for any prefetch. */
static int64_t read_ahead(void)
{
#if defined(__x86_64__)
    uint32_t a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid(0, &a, &b, &c, &d) && b == signature_INTEL_ebx && c == signature_INTEL_ecx && d == signature_INTEL_edx)
        return 8192;
#endif
    return 0;
}

/* How many levels, from the lowest, this machine runs: each needs the one below. */
static int32_t usable_count(void)
{
    uint32_t features = read_features();
    int32_t count = 0;
    while (count < (int32_t)BB_COUNT(levels) && (levels[count].feature & ~features) == 0)
        count++;
    return count;
}

const char *bb_kernels_level_name(int32_t index)
{
    return index >= 0 && index < usable_count() ? levels[index].name : NULL;
}

bombus_status bb_kernels_choose(struct bb_kernels *kernels, const char *level, bombus_error *error)
{
    int32_t count = usable_count(), last = count - 1;
    *kernels = (struct bb_kernels){0};
    if (level != NULL && strcmp(level, "auto") != 0) {
        char names[128] = "";
        last = -1;
        for (int32_t i = 0; i < count; i++) {
            size_t length = strlen(names);
            snprintf(names + length, sizeof names - length, "%s%s", i > 0 ? ", " : "", levels[i].name);
            if (strcmp(level, levels[i].name) == 0)
                last = i;
        }
        if (last < 0)
            return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED, "cpu level '%s' is not one that this machine runs: %s", level, names);
    }
    for (int32_t i = 0; i <= last; i++) {
        if (levels[i].fill_linear != NULL)
            levels[i].fill_linear(kernels);
        if (levels[i].fill_rows != NULL)
            levels[i].fill_rows(&kernels->rows);
        if (levels[i].fill_attention != NULL)
            levels[i].fill_attention(&kernels->attention);
        if (levels[i].fill_gradients != NULL)
            levels[i].fill_gradients(&kernels->gradients);
    }
    kernels->level = levels[last].name;
    kernels->read_ahead = read_ahead();
    return BOMBUS_OK;
}
