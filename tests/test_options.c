/* The option table: parsing, errors and suggestions, --help, man pages and completions of one small command. */
#include "cli/command.h"
#include "cli/manual.h"
#include "test.h"

#include <string.h>

struct sample_settings {
    int64_t count;
    double share;
    const char *name, *mode;
    struct option_list words;
    bool loud, json;
};

static const struct option options[] = {
    {"word-count", 'n', OPTION_INTEGER, offsetof(struct sample_settings, count), "N", .help = "how many",
     .fallback = "3", .least = 1, .most = 10},
    {"share", 0, OPTION_NUMBER, offsetof(struct sample_settings, share), "P", .help = "a share", .least = 0, .most = 1},
    {"name", 'm', OPTION_TEXT, offsetof(struct sample_settings, name), "NAME", .help = "it's a \\name",
     .also = "called"},
    {"mode", 0, OPTION_CHOICE, offsetof(struct sample_settings, mode), "fast|exact", .help = "mode",
     .fallback = "fast"},
    {"word", 'w', OPTION_LIST, offsetof(struct sample_settings, words), "WORD", .help = "a word"},
    {"loud", 'l', OPTION_FLAG, offsetof(struct sample_settings, loud), NULL, .help = "shout [a lot]: really"},
    {"json", 'j', OPTION_FLAG, offsetof(struct sample_settings, json), NULL, .help = "JSON"},
};
static const struct option_group groups[] = {{"Sample", options, sizeof options / sizeof options[0], 0}};
static const struct command command = {
    .name = "sample",
    .summary = "a sample",
    .description = "Does nothing.",
    .operand = "[TEXT]",
    .operand_limit = 1,
    .groups = groups,
    .group_count = 1,
    .settings_size = sizeof(struct sample_settings),
    .examples = {{"bombus sample", "nothing"}, {"bombus sample -l", "nothing, loudly"}},
};

static struct sample_settings settings;
static struct operands operands;
static char message[256];
static const char *operand_room[32];

/* Words up to a NULL. */
#define PARSE(...) parse((const char *[]){__VA_ARGS__, NULL})
static enum option_outcome parse(const char *const *words)
{
    char *copies[32];
    int count = 0;
    for (; words[count] != NULL; count++)
        copies[count] = (char *)(uintptr_t)words[count];
    operands.values = operand_room;
    message[0] = '\0';
    return options_parse(&command, count, copies, &settings, &operands, message, sizeof message);
}

static void test_words(void **state)
{
    (void)state;
    static const char words[] = "fast|exact|other";
    static const char *const expected[] = {"fast", "exact", "other", "", ""};
    for (int i = 0; i < 5; i++) {
        assert_string_equal(options_word(words, i).text, expected[i]);
        if (i < 3)
            assert_int_equal(options_choice(words, expected[i]), i);
    }
}

static void test_unset_and_fallback(void **state)
{
    (void)state;
    assert_int_equal(PARSE("text"), OPTIONS_PARSED);
    assert_int_equal(settings.count, 3);
    assert_true(isnan(settings.share));
    assert_null(settings.name);
    assert_string_equal(settings.mode, "fast");
    assert_false(settings.loud);
    assert_int_equal(operands.count, 1);
    assert_string_equal(operands.values[0], "text");
}

static void test_forms(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--word-count", "4", "--share=0.5", "-mfox", "--mode=exact", "-lj"), OPTIONS_PARSED);
    assert_int_equal(settings.count, 4);
    assert_true(settings.share == 0.5);
    assert_string_equal(settings.name, "fox");
    assert_string_equal(settings.mode, "exact");
    assert_true(settings.loud && settings.json);
    assert_int_equal(PARSE("--word_count=5", "--called", "crow", "-n", "6"), OPTIONS_PARSED);
    assert_int_equal(settings.count, 6);
    assert_string_equal(settings.name, "crow");
    assert_int_equal(PARSE("-w", "a", "--word=b", "--word", "-c", "-wd"), OPTIONS_PARSED);
    assert_int_equal(settings.words.count, 4);
    assert_string_equal(settings.words.values[2], "-c");
    assert_string_equal(settings.words.values[3], "d");
    assert_null(settings.words.values[4]);
    assert_int_equal(PARSE("-"), OPTIONS_PARSED);
    assert_string_equal(operands.values[0], "-");
    assert_int_equal(PARSE("--", "--loud"), OPTIONS_PARSED);
    assert_false(settings.loud);
    assert_string_equal(operands.values[0], "--loud");
    assert_int_equal(PARSE("--name=", "--name=x=y"), OPTIONS_PARSED);
    assert_string_equal(settings.name, "x=y");
    assert_int_equal(PARSE("-h"), OPTIONS_HELP);
    assert_int_equal(PARSE("--loud", "--help"), OPTIONS_HELP);
}

static void test_errors_name_the_option(void **state)
{
    (void)state;
    static const struct {
        const char *words[4], *message;
    } cases[] = {
        {{"--word-cuont", "4"}, "--word-cuont: no such option; did you mean --word-count?"},
        {{"--caled=x"}, "--caled: no such option; did you mean --called?"},
        {{"--elephant"}, "--elephant: no such option"},
        {{"-x"}, "-x: no such option"},
        {{"--word-count"}, "--word-count needs a value (N)"},
        {{"-n"}, "-n (--word-count) needs a value (N)"},
        {{"--word-count", "four"}, "--word-count: 'four' is not a whole number"},
        {{"--word-count", "4.5"}, "--word-count: '4.5' is not a whole number"},
        {{"--word-count", "99999999999999999999"}, "--word-count: '99999999999999999999' is not a whole number"},
        {{"--word-count", "11"}, "--word-count: 11 is not between 1 and 10"},
        {{"--share", "nan"}, "--share: 'nan' is not a number"},
        {{"--share", ""}, "--share: '' is not a number"},
        {{"--share=-0.1"}, "--share: -0.1 is not between 0 and 1"},
        {{"--mode", "fas"}, "--mode: 'fas' is not one of fast|exact"},
        {{"--mode", ""}, "--mode: '' is not one of fast|exact"},
        {{"--mode", "fast|exact"}, "--mode: 'fast|exact' is not one of fast|exact"},
        {{"--loud=yes"}, "--loud takes no value"},
        {{"one", "two"}, "'two': one operand too many; quote a text of several words"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(parse(cases[i].words), OPTIONS_WRONG);
        assert_string_equal(message, cases[i].message);
    }
}

static void test_too_many_repetitions(void **state)
{
    (void)state;
    char *words[2 * OPTION_LIST_LIMIT + 2];
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i += 2) {
        words[i] = (char *)(uintptr_t) "-w";
        words[i + 1] = (char *)(uintptr_t) "x";
    }
    operands.values = operand_room;
    assert_int_equal(
        options_parse(&command, 2 * OPTION_LIST_LIMIT, words, &settings, &operands, message, sizeof message),
        OPTIONS_PARSED);
    assert_int_equal(
        options_parse(&command, 2 * OPTION_LIST_LIMIT + 2, words, &settings, &operands, message, sizeof message),
        OPTIONS_WRONG);
    assert_string_equal(message, "--word: given more than 64 times");
}

/* What `print` writes, in a static buffer. */
static const char *printed(void (*print)(FILE *file))
{
    static char text[16384];
    memset(text, 0, sizeof text);
    FILE *file = fmemopen(text, sizeof text - 1, "w");
    assert_non_null(file);
    print(file);
    fclose(file);
    return text;
}

static void print_help(FILE *file)
{
    options_print_help(file, &command);
}

static void print_man(FILE *file)
{
    manual_print_command(file, &command, "1.2.3");
}

static const struct command *const commands[] = {&command};

static void print_bash(FILE *file)
{
    assert_true(manual_print_completion(file, "bash", commands, 1));
}

static void print_zsh(FILE *file)
{
    assert_true(manual_print_completion(file, "zsh", commands, 1));
}

static void print_fish(FILE *file)
{
    assert_true(manual_print_completion(file, "fish", commands, 1));
    assert_false(manual_print_completion(file, "tcsh", commands, 1));
}

static void test_documents_hold_every_option(void **state)
{
    (void)state;
    static void (*const printers[])(FILE *) = {print_help, print_man, print_bash, print_zsh, print_fish};
    for (size_t p = 0; p < sizeof printers / sizeof printers[0]; p++) {
        const char *text = printed(printers[p]);
        for (size_t i = 0; i < groups[0].count; i++) {
            char name[64];
            size_t length = 0;
            for (const char *c = options[i].name; *c != '\0'; c++) {
                if (*c == '-' && printers[p] == print_man)
                    name[length++] = '\\'; /* roff's minus */
                name[length++] = *c;
            }
            name[length] = '\0';
            if (strstr(text, name) == NULL)
                print_error("document %zu has no '%s':\n%s\n", p, name, text);
            assert_non_null(strstr(text, name));
        }
    }
}

static void test_documents_escape(void **state)
{
    (void)state;
    assert_non_null(strstr(printed(print_help), "--name NAME                 it's a \\name; also --called"));
    assert_non_null(strstr(printed(print_help), "how many (3)"));
    assert_non_null(strstr(printed(print_man), "it's a \\ename"));
    assert_non_null(strstr(printed(print_man), ".TH \"BOMBUS-SAMPLE\" 1"));
    assert_non_null(strstr(printed(print_zsh), "'--loud[shout \\[a lot\\]\\: really]'"));
    assert_non_null(strstr(printed(print_zsh), "'--name=[it'\\''s a \\\\name]:value: '"));
    assert_non_null(strstr(printed(print_fish), "-l mode -x -a 'fast exact'"));
    assert_non_null(strstr(printed(print_bash), "sample:--mode) COMPREPLY=($(compgen -W 'fast exact'"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words), cmocka_unit_test(test_unset_and_fallback),          cmocka_unit_test(test_forms),
        cmocka_unit_test(test_errors_name_the_option),      cmocka_unit_test(test_too_many_repetitions),
        cmocka_unit_test(test_documents_hold_every_option), cmocka_unit_test(test_documents_escape),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
