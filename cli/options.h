/* One table of options: it parses the command line and prints --help; manual.h makes the man page and the shell
 * completions of it, so that they cannot disagree. A table holds offsets into the command's settings, so it is constant
 * and shared. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum option_kind {
    OPTION_FLAG,    /* bool: true when given */
    OPTION_TEXT,    /* const char *, borrowed from the command line */
    OPTION_FILE,    /* the same, completed as a path by shells */
    OPTION_CHOICE,  /* const char *: one of the words of `argument`, "fast|exact" */
    OPTION_LIST,    /* struct option_list: may be given more than once */
    OPTION_INTEGER, /* int64_t */
    OPTION_NUMBER   /* double */
};

/* The value of an INTEGER that was not given and has no fallback; a NUMBER is NaN then, a text NULL. */
#define OPTION_UNSET INT64_MIN

enum { OPTION_LIST_LIMIT = 64 };

struct option_list {
    const char *values[OPTION_LIST_LIMIT + 1]; /* NULL behind the last, borrowed from the command line */
    size_t count;
};

struct option {
    const char *name; /* with hyphens; on the command line an underscore means the same */
    char letter;      /* -x; 0: none */
    enum option_kind kind;
    size_t offset;        /* of the value in the group's part of the settings */
    const char *argument; /* how --help calls the value; NULL for a flag */
    const char *help;     /* one line */
    const char *fallback; /* the value where it is not given; NULL: unset */
    double least, most;   /* bounds of an INTEGER or NUMBER; both 0: none */
    const char *also;     /* a second name (mlx_lm's), or NULL */
};

struct option_group {
    const char *title; /* "Sampling" */
    const struct option *options;
    size_t count;
    size_t offset; /* of the group's part in the command's settings */
};

struct operands {
    const char **values; /* [count], borrowed from the command line */
    size_t count;
};

struct command;

enum option_outcome { OPTIONS_PARSED, OPTIONS_HELP, OPTIONS_WRONG };

/* Reads argv[0 .. argc) (behind the command's name) into `settings` (settings_size bytes, zeroed by this) and
 * `operands` (values: room for argc). On OPTIONS_WRONG `message` says what is wrong and names the option. */
enum option_outcome options_parse(const struct command *command, int argc, char **argv, void *settings,
                                  struct operands *operands, char *message, size_t message_size);

/* Prints --help of a command. */
void options_print_help(FILE *file, const struct command *command);

/* Place of a word in "a|b|c", from 0; -1 if it is none of them. */
int options_choice(const char *choices, const char *word);

/* The word at a place of "a|b|c"; "" behind the last. */
struct option_word {
    char text[32];
};
struct option_word options_word(const char *choices, int place);

/* The option of a name (hyphen or underscore, second names too; without dashes), or NULL. *group may be NULL. */
const struct option *options_find(const struct command *command, const char *name, size_t length,
                                  const struct option_group **group);

#endif
