/* Unicode's general categories, by their short names. */
#ifndef BB_CATEGORY_H
#define BB_CATEGORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The categories that a name ("L", "Lu", ...) stands for, one bit each; 0 for no such name. */
uint32_t bb_category_find(const char *name, size_t length);
bool bb_category_has(uint32_t categories, uint32_t character);

#endif
