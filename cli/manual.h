/* The man page of each command and the completions of each shell, written from the option tables. */
#ifndef CLI_MANUAL_H
#define CLI_MANUAL_H

#include "cli/command.h"

/* roff, as man(1) reads it. */
void manual_print_command(FILE *file, const struct command *command, const char *version);
/* The page of bombus itself: its commands and environment. */
void manual_print_program(FILE *file, const struct command *const *commands, size_t count, const char *version);

/* The environment variables that commands read, for `bombus --help`. */
void manual_print_environment(FILE *file);

/* `shell`: bash, zsh or fish; false if it is none of them. */
bool manual_print_completion(FILE *file, const char *shell, const struct command *const *commands, size_t count);

#endif
