/* What a person reads besides the answer: errors, notes and download progress, all on standard error. */
#ifndef CLI_REPORT_H
#define CLI_REPORT_H

#include "base/compiler.h"
#include "cli/command.h"

#include "bombus.h"

/* Prints an error of the library and gives the exit code that belongs to it. */
int report_error(const bombus_error *error);

/* Prints "bombus COMMAND: ..." with a pointer to --help and gives EXIT_CODE_USAGE. */
int report_usage(const struct command *command, const char *format, ...) BB_PRINTF(2, 3);

/* Prints a line. */
void report_message(const char *format, ...) BB_PRINTF(1, 2);

/* Returns `memory`, or says that memory is out and ends the program: commands own no state that must be put back. */
void *report_if_null(void *memory);

/* "1.5 GB" */
struct report_size {
    char text[24];
};
struct report_size report_bytes(double bytes);

/* Progress of a download over all its files, drawn only where standard error is a terminal. Zeroed: not drawn. */
struct report_progress {
    struct {
        char name[64];
        uint64_t done_bytes, total_bytes;
    } files[64];
    size_t file_count;
    double start_seconds, drawn_seconds;
    uint64_t start_bytes; /* what the cache held already: no part of the speed */
};

/* A bombus_progress; `context` is a struct report_progress. Cancels after SIGINT (interrupt.h). */
bool report_download(void *context, const char *file, uint64_t done_bytes, uint64_t total_bytes);
void report_download_end(struct report_progress *progress);

#endif
