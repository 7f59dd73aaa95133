/* bombus: the list of commands, and the way to one of them. */
#include "base/compiler.h"
#include "base/memory.h"
#include "base/suggest.h"
#include "cli/command.h"
#include "cli/manual.h"

#include "bombus.h"

#include <locale.h>
#include <string.h>

static const struct command *const commands[] = {
    &command_generate, &command_chat,  &command_tokenize, &command_detokenize, &command_template,
    &command_inspect,  &command_score, &command_pull,     &command_bench,      &command_adapter,
    &command_fuse,     &command_prepare, &command_train,
};

static void print_usage(FILE *file)
{
    fprintf(file, "bombus %s: run and fine-tune 4-bit language models\n\nusage: bombus COMMAND [OPTION]...\n\nCommands:\n",
            bombus_version());
    for (size_t i = 0; i < BB_COUNT(commands); i++)
        fprintf(file, "  %-16s%s\n", commands[i]->name, commands[i]->summary);
    fputs("\nOptions:\n  --version       print the version\n"
          "  --man [COMMAND] print a man page\n  --completion bash|zsh|fish\n                  print the completions "
          "of a shell\n"
          "\nEnvironment:\n",
          file);
    manual_print_environment(file);
    fputs(
        "\nbombus COMMAND --help tells the options of a command. Try: bombus generate \"Write a story about a fox\"\n",
        file);
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < BB_COUNT(commands); i++) {
        if (strcmp(commands[i]->name, name) == 0)
            return commands[i];
    }
    return NULL;
}

static int unknown_command(const char *name)
{
    const char *names[BB_COUNT(commands)];
    for (size_t i = 0; i < BB_COUNT(commands); i++)
        names[i] = commands[i]->name;
    const char *nearest = bb_suggest(name, names, BB_COUNT(names));
    if (nearest != NULL)
        fprintf(stderr, "bombus: '%s' is no command; did you mean %s?\n", name, nearest);
    else
        fprintf(stderr, "bombus: '%s' is no command; bombus --help lists them\n", name);
    return EXIT_CODE_USAGE;
}

static int run_command(const struct command *command, int argc, char **argv)
{
    struct operands operands = {.values = bb_allocate((size_t)argc + 1, sizeof *operands.values)};
    void *settings = bb_allocate(1, command->settings_size);
    char message[512];
    int code = EXIT_CODE_FAILED;
    if (operands.values == NULL || settings == NULL) {
        fputs("bombus: out of memory\n", stderr);
    } else {
        switch (options_parse(command, argc, argv, settings, &operands, message, sizeof message)) {
        case OPTIONS_PARSED: code = command->run(settings, &operands); break;
        case OPTIONS_HELP:
            options_print_help(stdout, command);
            code = EXIT_CODE_DONE;
            break;
        case OPTIONS_WRONG:
            fprintf(stderr, "bombus %s: %s\nbombus %s --help tells the options\n", command->name, message,
                    command->name);
            code = EXIT_CODE_USAGE;
        }
    }
    bb_release(settings);
    bb_release(operands.values);
    return code;
}

/* --man [COMMAND] and --completion SHELL */
static int print_document(int argc, char **argv)
{
    if (strcmp(argv[1], "--man") == 0) {
        const struct command *command = argc > 2 ? find_command(argv[2]) : NULL;
        if (argc > 2 && command == NULL)
            return unknown_command(argv[2]);
        if (command != NULL)
            manual_print_command(stdout, command, BOMBUS_VERSION);
        else
            manual_print_program(stdout, commands, BB_COUNT(commands), BOMBUS_VERSION);
        return EXIT_CODE_DONE;
    }
    if (argc < 3 || !manual_print_completion(stdout, argv[2], commands, BB_COUNT(commands))) {
        fputs("bombus: --completion needs one of bash, zsh, fish\n", stderr);
        return EXIT_CODE_USAGE;
    }
    return EXIT_CODE_DONE;
}

static int run(int argc, char **argv)
{
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_CODE_USAGE;
    }
    const char *word = argv[1];
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || (strcmp(word, "help") == 0 && argc == 2)) {
        print_usage(stdout);
        return EXIT_CODE_DONE;
    }
    if (strcmp(word, "--version") == 0) {
        printf("bombus %s\n", bombus_version());
        return EXIT_CODE_DONE;
    }
    if (strcmp(word, "--man") == 0 || strcmp(word, "--completion") == 0)
        return print_document(argc, argv);
    bool is_help = strcmp(word, "help") == 0;
    const struct command *command = find_command(is_help ? argv[2] : word);
    if (command == NULL)
        return unknown_command(is_help ? argv[2] : word);
    if (is_help) {
        options_print_help(stdout, command);
        return EXIT_CODE_DONE;
    }
    return run_command(command, argc - 2, argv + 2);
}

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, ""); /* line editing needs to know the width of characters; numbers keep their point */
    int code = run(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fputs("bombus: standard output: could not be written\n", stderr);
        return EXIT_CODE_FAILED;
    }
    return code;
}
