/* The few compiler extensions the house allows itself. */
#ifndef BB_COMPILER_H
#define BB_COMPILER_H

#define BB_PRINTF(format_index, first_argument) __attribute__((format(printf, format_index, first_argument)))
#define BB_RESULT __attribute__((warn_unused_result))
#define BB_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define BB_UNLIKELY(condition) __builtin_expect(!!(condition), 0)
/* For small functions that must melt into their caller: vectors of kernels, loops whose bounds are constants there. */
#define BB_INLINE static inline __attribute__((always_inline))
/* Before a loop of a constant count (at most 32): repeats its body, so that arrays indexed by the counter stay in registers. */
#if defined(__clang__)
#define BB_UNROLL _Pragma("clang loop unroll(full)")
#else
#define BB_UNROLL _Pragma("GCC unroll 32")
#endif
/* What lies in memory is not carried over this place in registers, which a tile needs for its sums. */
#define BB_FORGET_MEMORY() __asm__ volatile("" ::: "memory")
#define BB_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
