/* Man pages and shell completions from the option tables. */
#include "cli/manual.h"

#include "base/compiler.h"

#include <ctype.h>
#include <string.h>

static const struct {
    const char *name, *what;
} environment[] = {
    {"BOMBUS_MODEL", "the model where --model is not given; else the story model that comes with bombus"},
    {"BOMBUS_CPU", "the CPU level to use: reference, avx2, avx512, neon (default: the best that this machine has)"},
    {"HF_HUB_CACHE", "where downloaded models lie (default: $HF_HOME/hub)"},
    {"HF_HOME", "the Hugging Face folder (default: $XDG_CACHE_HOME/huggingface, ~/.cache/huggingface)"},
    {"HF_TOKEN", "token for models that need one (default: what the file of HF_TOKEN_PATH holds)"},
    {"HF_TOKEN_PATH", "file of the token (default: $HF_HOME/token)"},
    {"HF_ENDPOINT", "the hub's address (default: https://huggingface.co)"},
    {"HF_HUB_OFFLINE", "1: use only what is downloaded already"},
    {"HTTPS_PROXY", "proxy to download through; hosts in NO_PROXY are reached without it"},
    {"SSL_CERT_FILE", "certificates to trust when downloading, in PEM (default: those of the system)"},
    {"XDG_CACHE_HOME", "where compiled tokenizers are kept, in bombus/ (default: ~/.cache)"},
    {"XDG_STATE_HOME", "where the lines typed into chat are kept, in bombus/ (default: ~/.local/state)"},
};

/* ---- man pages ---- */

/* roff text: a hyphen is a minus that can be copied, and no line begins with a control character. */
static void put_roff(FILE *file, const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        if ((c == text || c[-1] == '\n') && (*c == '.' || *c == '\''))
            fputs("\\&", file);
        if (*c == '-')
            fputs("\\-", file);
        else if (*c == '\\')
            fputs("\\e", file);
        else
            fputc(*c, file);
    }
}

static void put_title(FILE *file, const char *name, const char *version)
{
    fprintf(file, ".TH \"");
    for (const char *c = name; *c != '\0'; c++)
        fputc(toupper((unsigned char)*c), file);
    fprintf(file, "\" 1 \"\" \"bombus %s\" \"bombus\"\n", version);
}

static void put_option(FILE *file, const struct option *option)
{
    fputs(".TP\n", file);
    if (option->letter != 0)
        fprintf(file, "\\fB\\-%c\\fR, ", option->letter);
    fputs("\\fB\\-\\-", file);
    put_roff(file, option->name);
    fputs("\\fR", file);
    if (option->argument != NULL) {
        fputs(" \\fI", file);
        put_roff(file, option->argument);
        fputs("\\fR", file);
    }
    fputc('\n', file);
    put_roff(file, option->help);
    if (option->fallback != NULL) {
        fputs(" (default: ", file);
        put_roff(file, option->fallback);
        fputc(')', file);
    }
    fputs(".\n", file);
    if (option->kind == OPTION_LIST)
        fputs("May be repeated.\n", file);
    if (option->also != NULL) {
        fputs("Also \\fB\\-\\-", file);
        put_roff(file, option->also);
        fputs("\\fR.\n", file);
    }
}

void manual_print_command(FILE *file, const struct command *command, const char *version)
{
    char name[64];
    snprintf(name, sizeof name, "bombus-%s", command->name);
    put_title(file, name, version);
    fprintf(file, ".SH NAME\nbombus\\-%s \\- ", command->name);
    put_roff(file, command->summary);
    fprintf(file, "\n.SH SYNOPSIS\n\\fBbombus %s\\fR [\\fIOPTION\\fR]...", command->name);
    if (command->operand != NULL)
        fprintf(file, " \\fI%s\\fR", command->operand);
    fputs("\n.SH DESCRIPTION\n", file);
    put_roff(file, command->description);
    fputs("\n.SH OPTIONS\nA hyphen and an underscore in an option's name are the same.\n", file);
    for (size_t g = 0; g < command->group_count; g++) {
        fprintf(file, ".SS %s\n", command->groups[g].title);
        for (size_t i = 0; i < command->groups[g].count; i++)
            put_option(file, &command->groups[g].options[i]);
    }
    fputs(".SS Other\n.TP\n\\fB\\-h\\fR, \\fB\\-\\-help\\fR\nPrint a summary of the options.\n.SH EXAMPLES\n", file);
    for (size_t i = 0; i < BB_COUNT(command->examples); i++) {
        fputs(".TP\n\\fB", file);
        put_roff(file, command->examples[i].line);
        fputs("\\fR\n", file);
        put_roff(file, command->examples[i].what);
        fputc('\n', file);
    }
    fputs(".SH EXIT STATUS\n0 done, 1 failed, 2 wrong usage.\n.SH SEE ALSO\n\\fBbombus\\fR(1)\n", file);
}

void manual_print_program(FILE *file, const struct command *const *commands, size_t count, const char *version)
{
    put_title(file, "bombus", version);
    fputs(".SH NAME\nbombus \\- run and fine\\-tune 4\\-bit language models\n"
          ".SH SYNOPSIS\n\\fBbombus\\fR \\fICOMMAND\\fR [\\fIOPTION\\fR]...\n"
          ".SH DESCRIPTION\nRuns language models in MLX's quantized safetensors format in place.\n"
          "A model is a folder, \\fBhf:owner/name\\fR[\\fB@revision\\fR] or \\fBowner/name\\fR, looked up in the "
          "Hugging Face cache and downloaded when absent.\n"
          "The answer goes to standard output, everything else to standard error.\n.SH COMMANDS\n",
          file);
    for (size_t i = 0; i < count; i++) {
        fprintf(file, ".TP\n\\fB%s\\fR\n", commands[i]->name);
        put_roff(file, commands[i]->summary);
        fprintf(file, "; see \\fBbombus\\-%s\\fR(1).\n", commands[i]->name);
    }
    fputs(".SH ENVIRONMENT\n", file);
    for (size_t i = 0; i < BB_COUNT(environment); i++) {
        fprintf(file, ".TP\n\\fB%s\\fR\n", environment[i].name);
        put_roff(file, environment[i].what);
        fputs(".\n", file);
    }
    fputs(".SH EXIT STATUS\n0 done, 1 failed, 2 wrong usage.\n", file);
}

void manual_print_environment(FILE *file)
{
    for (size_t i = 0; i < BB_COUNT(environment); i++)
        fprintf(file, "  %-16s%s\n", environment[i].name, environment[i].what);
}

/* ---- completions ---- */

/* Inside single quotes of a shell. */
static void put_quoted(FILE *file, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '\'')
            fputs("'\\''", file);
        else
            fputc(*text, file);
    }
}

/* "fast|exact" as "fast exact". */
static void put_choices(FILE *file, const char *choices)
{
    for (; *choices != '\0'; choices++)
        fputc(*choices == '|' ? ' ' : *choices, file);
}

static void print_bash_choices(FILE *file, const struct command *command)
{
    for (size_t g = 0; g < command->group_count; g++) {
        for (size_t i = 0; i < command->groups[g].count; i++) {
            const struct option *option = &command->groups[g].options[i];
            if (option->kind != OPTION_CHOICE)
                continue;
            fprintf(file, "        %s:--%s) COMPREPLY=($(compgen -W '", command->name, option->name);
            put_choices(file, option->argument);
            fputs("' -- \"$word\")); return ;;\n", file);
        }
    }
}

static void print_bash(FILE *file, const struct command *const *commands, size_t count)
{
    fputs("# bash completion of bombus\n_bombus() {\n    local word=${COMP_WORDS[COMP_CWORD]} "
          "before=${COMP_WORDS[COMP_CWORD-1]}\n"
          "    local command=${COMP_WORDS[1]} options=\n    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
          "        COMPREPLY=($(compgen -W '",
          file);
    for (size_t i = 0; i < count; i++)
        fprintf(file, "%s ", commands[i]->name);
    fputs("--help --version' -- \"$word\"))\n        return\n    fi\n    case $command:$before in\n", file);
    for (size_t i = 0; i < count; i++)
        print_bash_choices(file, commands[i]);
    fputs("    esac\n    case $command in\n", file);
    for (size_t i = 0; i < count; i++) {
        fprintf(file, "        %s) options='", commands[i]->name);
        for (size_t g = 0; g < commands[i]->group_count; g++) {
            for (size_t j = 0; j < commands[i]->groups[g].count; j++)
                fprintf(file, "--%s ", commands[i]->groups[g].options[j].name);
        }
        fputs("--help' ;;\n", file);
    }
    fputs("    esac\n    case $word in -*) COMPREPLY=($(compgen -W \"$options\" -- \"$word\")) ;; esac\n}\n"
          "complete -o default -F _bombus bombus\n",
          file);
}

/* In a zsh _arguments spec a colon, bracket or backslash is escaped. */
static void put_zsh(FILE *file, const char *text)
{
    for (; *text != '\0'; text++) {
        if (strchr(":[]\\", *text) != NULL)
            fputc('\\', file);
        if (*text == '\'')
            fputs("'\\''", file);
        else
            fputc(*text, file);
    }
}

static void print_zsh_option(FILE *file, const struct option *option)
{
    fprintf(file, " \\\n            '%s--%s%s[", option->kind == OPTION_LIST ? "*" : "", option->name,
            option->kind == OPTION_FLAG ? "" : "=");
    put_zsh(file, option->help);
    fputc(']', file);
    if (option->kind == OPTION_CHOICE) {
        fputs(":value:(", file);
        put_choices(file, option->argument);
        fputc(')', file);
    } else if (option->kind == OPTION_FILE) {
        fputs(":path:_files", file);
    } else if (option->kind != OPTION_FLAG) {
        fputs(":value: ", file);
    }
    fputc('\'', file);
}

static void print_zsh(FILE *file, const struct command *const *commands, size_t count)
{
    fputs("#compdef bombus\n# zsh completion of bombus\n_bombus() {\n    local -a commands\n    commands=(\n", file);
    for (size_t i = 0; i < count; i++) {
        fprintf(file, "        '%s:", commands[i]->name);
        put_quoted(file, commands[i]->summary);
        fputs("'\n", file);
    }
    fputs("    )\n    if (( CURRENT == 2 )); then\n        _describe command commands\n        return\n    fi\n"
          "    local command=$words[2]\n    shift words\n    (( CURRENT-- ))\n    case $command in\n",
          file);
    for (size_t i = 0; i < count; i++) {
        fprintf(file, "        %s)\n            _arguments", commands[i]->name);
        for (size_t g = 0; g < commands[i]->group_count; g++) {
            for (size_t j = 0; j < commands[i]->groups[g].count; j++)
                print_zsh_option(file, &commands[i]->groups[g].options[j]);
        }
        fputs(" \\\n            '--help[summary of the options]' '*: :_files' ;;\n", file);
    }
    fputs("    esac\n}\n_bombus \"$@\"\n", file);
}

static void print_fish(FILE *file, const struct command *const *commands, size_t count)
{
    fputs("# fish completion of bombus\ncomplete -c bombus -f\n", file);
    for (size_t i = 0; i < count; i++) {
        fprintf(file, "complete -c bombus -n __fish_use_subcommand -a %s -d '", commands[i]->name);
        put_quoted(file, commands[i]->summary);
        fputs("'\n", file);
        for (size_t g = 0; g < commands[i]->group_count; g++) {
            for (size_t j = 0; j < commands[i]->groups[g].count; j++) {
                const struct option *option = &commands[i]->groups[g].options[j];
                fprintf(file, "complete -c bombus -n '__fish_seen_subcommand_from %s' -l %s", commands[i]->name,
                        option->name);
                if (option->letter != 0)
                    fprintf(file, " -s %c", option->letter);
                if (option->kind == OPTION_CHOICE) {
                    fputs(" -x -a '", file);
                    put_choices(file, option->argument);
                    fputc('\'', file);
                } else if (option->kind != OPTION_FLAG) {
                    fputs(option->kind == OPTION_FILE ? " -r -F" : " -x", file);
                }
                fputs(" -d '", file);
                put_quoted(file, option->help);
                fputs("'\n", file);
            }
        }
    }
}

bool manual_print_completion(FILE *file, const char *shell, const struct command *const *commands, size_t count)
{
    if (strcmp(shell, "bash") == 0)
        print_bash(file, commands, count);
    else if (strcmp(shell, "zsh") == 0)
        print_zsh(file, commands, count);
    else if (strcmp(shell, "fish") == 0)
        print_fish(file, commands, count);
    else
        return false;
    return true;
}
