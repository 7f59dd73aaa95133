/* Text and ids as people and programs hand them in: arguments, files, standard input, "1,2,3". */
#ifndef CLI_TEXT_INPUT_H
#define CLI_TEXT_INPUT_H

#include "base/buffer.h"
#include "base/error.h"

#include <jansson.h>
#include <stdint.h>
#include <stdio.h>

/* Reads a file, or standard input where `path` is "-". The text is released by bb_buffer_clear. */
bombus_status text_input_read(struct bb_buffer *text, const char *path, bombus_error *error);

/* The text of an argument: itself, or standard input where it is "-". The text is released by bb_buffer_clear. */
bombus_status text_input_argument(struct bb_buffer *text, const char *argument, bombus_error *error);

/* Reads a line without its end; false at the end of the file. The buffer is used again for each line. */
bool text_input_line(struct bb_buffer *line, FILE *file);

/* The JSON value of the next line of standard input, number *number + 1, which must be of the type, named by `what`: *value, the caller's, or NULL at
 * the end and with an error. The buffer is used again for each line. */
bombus_status text_input_json_line(json_t **value, struct bb_buffer *line, int32_t *number, json_type type, const char *what, bombus_error *error);

/* Ids separated by commas, spaces or line ends, brackets allowed around them ("[1, 2, 3]"). *ids: released by
 * bb_release. */
bombus_status text_input_ids(int32_t **ids, size_t *count, const char *text, const char *option, bombus_error *error);

/* Puts U+FFFD for what is not UTF-8, as the JSON library insists. */
void text_input_repair(struct bb_buffer *result, const char *text, size_t length);

#endif
