/* The shape of a command: a file of cli/commands fills one of these, and main.c lists them all. */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include "cli/options.h"

enum exit_code { EXIT_CODE_DONE = 0, EXIT_CODE_FAILED = 1, EXIT_CODE_USAGE = 2 };

struct command_example {
    const char *line; /* what to type */
    const char *what; /* what it does */
};

struct command {
    const char *name;
    const char *summary;     /* one line, for the list */
    const char *description; /* a paragraph or two, for --help and the man page */
    const char *operand;     /* "[PROMPT]"; NULL: takes none */
    size_t operand_limit;    /* how many operands may stand */
    const struct option_group *groups;
    size_t group_count;
    size_t settings_size;
    struct command_example examples[2];
    int (*run)(const void *settings, const struct operands *operands); /* gives an exit_code */
};

extern const struct command command_generate, command_chat, command_tokenize, command_detokenize, command_template,
    command_inspect, command_score, command_pull, command_bench, command_adapter, command_fuse, command_prepare,
    command_train;

#endif
