/* JSON on standard output: with --json a command prints one object there (or one a line) and nothing else. */
#ifndef CLI_JSON_OUTPUT_H
#define CLI_JSON_OUTPUT_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

/* Prints the value in one line and lets go of it. NULL (memory ran out while it was made) ends the program with a
 * message. */
void json_output_print(json_t *value);

/* A string; what is not UTF-8 becomes U+FFFD. */
json_t *json_output_text(const char *text, size_t length);
json_t *json_output_ids(const int32_t *ids, size_t count);
/* null for NaN and infinity, which JSON has not. */
json_t *json_output_number(double number);

#endif
