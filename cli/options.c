/* Parsing by a table, and --help from the same table. */
#include "cli/options.h"

#include "base/compiler.h"
#include "base/suggest.h"
#include "cli/command.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { HELP_COLUMN = 34, HELP_WIDTH = 110, NAME_LIMIT = 64 };

struct parser {
    const struct command *command;
    char *settings;
    char *message;
    size_t message_size;
};

static enum option_outcome wrong(struct parser *parser, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(parser->message, parser->message_size, format, arguments);
    va_end(arguments);
    return OPTIONS_WRONG;
}

/* Are these `length` characters the name, a hyphen and an underscore being the same? */
static bool is_name(const char *name, const char *text, size_t length)
{
    if (name == NULL || strlen(name) != length)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (name[i] != (text[i] == '_' ? '-' : text[i]))
            return false;
    }
    return true;
}

const struct option *options_find(const struct command *command, const char *name, size_t length,
                                  const struct option_group **group)
{
    for (size_t g = 0; g < command->group_count; g++) {
        for (size_t i = 0; i < command->groups[g].count; i++) {
            const struct option *option = &command->groups[g].options[i];
            if (is_name(option->name, name, length) || is_name(option->also, name, length)) {
                if (group != NULL)
                    *group = &command->groups[g];
                return option;
            }
        }
    }
    return NULL;
}

static const struct option *find_letter(const struct command *command, char letter, const struct option_group **group)
{
    for (size_t g = 0; g < command->group_count; g++) {
        for (size_t i = 0; i < command->groups[g].count; i++) {
            if (command->groups[g].options[i].letter == letter) {
                *group = &command->groups[g];
                return &command->groups[g].options[i];
            }
        }
    }
    return NULL;
}

static enum option_outcome unknown(struct parser *parser, const char *name, size_t length)
{
    const char *names[256];
    size_t count = 0;
    names[count++] = "help";
    for (size_t g = 0; g < parser->command->group_count; g++) {
        for (size_t i = 0; i < parser->command->groups[g].count && count + 2 <= BB_COUNT(names); i++) {
            names[count++] = parser->command->groups[g].options[i].name;
            if (parser->command->groups[g].options[i].also != NULL)
                names[count++] = parser->command->groups[g].options[i].also;
        }
    }
    char text[NAME_LIMIT + 1];
    snprintf(text, sizeof text, "%.*s", (int)(length < NAME_LIMIT ? length : NAME_LIMIT), name);
    const char *nearest = bb_suggest(text, names, count);
    if (nearest == NULL)
        return wrong(parser, "--%s: no such option", text);
    return wrong(parser, "--%s: no such option; did you mean --%s?", text, nearest);
}

int options_choice(const char *choices, const char *word)
{
    size_t length = strlen(word);
    int place = 0;
    if (length == 0 || strchr(word, '|') != NULL)
        return -1;
    for (; strncmp(choices, word, length) != 0 || (choices[length] != '|' && choices[length] != '\0'); place++) {
        choices = strchr(choices, '|');
        if (choices == NULL)
            return -1;
        choices++;
    }
    return place;
}

struct option_word options_word(const char *choices, int place)
{
    struct option_word word;
    for (; place > 0 && choices[0] != '\0'; place--) {
        choices += strcspn(choices, "|");
        choices += *choices == '|';
    }
    snprintf(word.text, sizeof word.text, "%.*s", (int)strcspn(choices, "|"), choices);
    return word;
}

static enum option_outcome set_number(struct parser *parser, const struct option *option, void *place,
                                      const char *value)
{
    char *end = NULL;
    double number;
    errno = 0;
    if (option->kind == OPTION_INTEGER) {
        long long integer = strtoll(value, &end, 10);
        *(int64_t *)place = integer;
        number = (double)integer;
    } else {
        *(double *)place = number = strtod(value, &end);
    }
    const char *what = option->kind == OPTION_INTEGER ? "a whole number" : "a number";
    if (end == value || *end != '\0' || errno == ERANGE || !isfinite(number))
        return wrong(parser, "--%s: '%s' is not %s", option->name, value, what);
    bool is_bounded = option->least < option->most;
    if (is_bounded && (number < option->least || number > option->most)) {
        if (option->most >= 9e15)
            return wrong(parser, "--%s: %s is too small; the least is %g", option->name, value, option->least);
        return wrong(parser, "--%s: %s is not between %g and %g", option->name, value, option->least, option->most);
    }
    return OPTIONS_PARSED;
}

static enum option_outcome set(struct parser *parser, const struct option_group *group, const struct option *option,
                               const char *value)
{
    void *place = parser->settings + group->offset + option->offset;
    switch (option->kind) {
    case OPTION_FLAG: *(bool *)place = true; return OPTIONS_PARSED;
    case OPTION_CHOICE:
        if (options_choice(option->argument, value) < 0)
            return wrong(parser, "--%s: '%s' is not one of %s", option->name, value, option->argument);
        *(const char **)place = value;
        return OPTIONS_PARSED;
    case OPTION_TEXT:
    case OPTION_FILE: *(const char **)place = value; return OPTIONS_PARSED;
    case OPTION_LIST: {
        struct option_list *list = place;
        if (list->count == OPTION_LIST_LIMIT)
            return wrong(parser, "--%s: given more than %d times", option->name, (int)OPTION_LIST_LIMIT);
        list->values[list->count++] = value;
        return OPTIONS_PARSED;
    }
    case OPTION_INTEGER:
    case OPTION_NUMBER: return set_number(parser, option, place, value);
    }
    return OPTIONS_WRONG;
}

/* Unset values, and the table's fallbacks over them. */
static enum option_outcome set_fallbacks(struct parser *parser)
{
    const struct command *command = parser->command;
    memset(parser->settings, 0, command->settings_size);
    for (size_t g = 0; g < command->group_count; g++) {
        const struct option_group *group = &command->groups[g];
        for (size_t i = 0; i < group->count; i++) {
            const struct option *option = &group->options[i];
            void *place = parser->settings + group->offset + option->offset;
            if (option->kind == OPTION_INTEGER)
                *(int64_t *)place = OPTION_UNSET;
            else if (option->kind == OPTION_NUMBER)
                *(double *)place = (double)NAN;
            if (option->fallback != NULL && set(parser, group, option, option->fallback) != OPTIONS_PARSED)
                return OPTIONS_WRONG;
        }
    }
    return OPTIONS_PARSED;
}

/* argv[*i] begins with "--". */
static enum option_outcome parse_long(struct parser *parser, int argc, char **argv, int *i)
{
    const char *name = argv[*i] + 2, *equals = strchr(name, '=');
    size_t length = equals != NULL ? (size_t)(equals - name) : strlen(name);
    if (is_name("help", name, length))
        return OPTIONS_HELP;
    const struct option_group *group = NULL;
    const struct option *option = options_find(parser->command, name, length, &group);
    if (option == NULL)
        return unknown(parser, name, length);
    if (option->kind == OPTION_FLAG) {
        if (equals != NULL)
            return wrong(parser, "--%s takes no value", option->name);
        return set(parser, group, option, NULL);
    }
    if (equals != NULL)
        return set(parser, group, option, equals + 1);
    if (*i + 1 >= argc)
        return wrong(parser, "--%s needs a value (%s)", option->name, option->argument);
    return set(parser, group, option, argv[++*i]);
}

/* argv[*i] is "-x", "-xVALUE" or several flags together. */
static enum option_outcome parse_short(struct parser *parser, int argc, char **argv, int *i)
{
    for (const char *letter = argv[*i] + 1; *letter != '\0'; letter++) {
        if (*letter == 'h')
            return OPTIONS_HELP;
        const struct option_group *group = NULL;
        const struct option *option = find_letter(parser->command, *letter, &group);
        if (option == NULL)
            return wrong(parser, "-%c: no such option", *letter);
        if (option->kind == OPTION_FLAG) {
            enum option_outcome outcome = set(parser, group, option, NULL);
            if (outcome != OPTIONS_PARSED)
                return outcome;
            continue;
        }
        if (letter[1] != '\0')
            return set(parser, group, option, letter + 1);
        if (*i + 1 >= argc)
            return wrong(parser, "-%c (--%s) needs a value (%s)", *letter, option->name, option->argument);
        return set(parser, group, option, argv[++*i]);
    }
    return OPTIONS_PARSED;
}

enum option_outcome options_parse(const struct command *command, int argc, char **argv, void *settings,
                                  struct operands *operands, char *message, size_t message_size)
{
    struct parser parser = {command, settings, message, message_size};
    operands->count = 0;
    enum option_outcome outcome = set_fallbacks(&parser);
    bool is_past_options = false;
    for (int i = 0; i < argc && outcome == OPTIONS_PARSED; i++) {
        const char *word = argv[i];
        if (!is_past_options && strcmp(word, "--") == 0) {
            is_past_options = true;
        } else if (!is_past_options && word[0] == '-' && word[1] == '-') {
            outcome = parse_long(&parser, argc, argv, &i);
        } else if (!is_past_options && word[0] == '-' && word[1] != '\0') {
            outcome = parse_short(&parser, argc, argv, &i);
        } else if (operands->count == command->operand_limit) {
            return command->operand == NULL
                       ? wrong(&parser, "'%s': %s takes no operand", word, command->name)
                       : wrong(&parser, "'%s': one operand too many; quote a text of several words", word);
        } else {
            operands->values[operands->count++] = word;
        }
    }
    return outcome;
}

/* ---- --help ---- */

/* Prints text from column `column`, broken at words. */
static void print_wrapped(FILE *file, const char *text, size_t column, size_t indent)
{
    bool is_first = true;
    while (*text != '\0') {
        size_t word = strcspn(text, " ");
        if (!is_first && column + 1 + word > HELP_WIDTH) {
            fprintf(file, "\n%*s", (int)indent, "");
            column = indent;
        } else if (!is_first) {
            fputc(' ', file);
            column++;
        }
        fprintf(file, "%.*s", (int)word, text);
        column += word;
        text += word;
        text += strspn(text, " ");
        is_first = false;
    }
    fputc('\n', file);
}

static void print_option(FILE *file, const struct option *option)
{
    char left[256], help[512];
    int length = option->letter != 0 ? snprintf(left, sizeof left, "  -%c, --%s", option->letter, option->name)
                                     : snprintf(left, sizeof left, "      --%s", option->name);
    if (option->argument != NULL)
        snprintf(left + length, sizeof left - (size_t)length, " %s", option->argument);
    length = snprintf(help, sizeof help, "%s", option->help);
    if (option->fallback != NULL)
        length += snprintf(help + length, sizeof help - (size_t)length, " (%s)", option->fallback);
    if (option->kind == OPTION_LIST)
        length += snprintf(help + length, sizeof help - (size_t)length, "; may be repeated");
    if (option->also != NULL)
        snprintf(help + length, sizeof help - (size_t)length, "; also --%s", option->also);
    fprintf(file, "%-*s", HELP_COLUMN, left);
    if (strlen(left) >= HELP_COLUMN)
        fprintf(file, "\n%*s", HELP_COLUMN, "");
    print_wrapped(file, help, HELP_COLUMN, HELP_COLUMN);
}

void options_print_help(FILE *file, const struct command *command)
{
    fprintf(file, "bombus %s: %s\n\n", command->name, command->summary);
    fprintf(file, "usage: bombus %s [OPTION]...%s%s\n\n", command->name, command->operand != NULL ? " " : "",
            command->operand != NULL ? command->operand : "");
    print_wrapped(file, command->description, 0, 0);
    for (size_t g = 0; g < command->group_count; g++) {
        fprintf(file, "\n%s:\n", command->groups[g].title);
        for (size_t i = 0; i < command->groups[g].count; i++)
            print_option(file, &command->groups[g].options[i]);
    }
    fprintf(file, "\nOther:\n%-*s%s\n\nExamples:\n", HELP_COLUMN, "  -h, --help", "this text");
    for (size_t i = 0; i < BB_COUNT(command->examples); i++)
        fprintf(file, "  %s\n      %s\n", command->examples[i].line, command->examples[i].what);
}
