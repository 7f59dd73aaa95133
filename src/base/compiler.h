/* The few compiler extensions the house allows itself. */
#ifndef BB_COMPILER_H
#define BB_COMPILER_H

#define BB_PRINTF(format_index, first_argument) __attribute__((format(printf, format_index, first_argument)))
#define BB_RESULT __attribute__((warn_unused_result))
#define BB_LIKELY(condition) __builtin_expect(!!(condition), 1)
#define BB_UNLIKELY(condition) __builtin_expect(!!(condition), 0)
/* For small functions that must melt into their caller: vectors of kernels, loops whose bounds are constants there. */
#define BB_INLINE static inline __attribute__((always_inline))
#define BB_COUNT(array) (sizeof(array) / sizeof((array)[0]))

#endif
