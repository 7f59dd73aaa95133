/* bombus prepare: posts to training data. */
#include "base/compiler.h"
#include "cli/command.h"
#include "cli/json_output.h"
#include "cli/report.h"

#include <math.h>
#include <string.h>

struct prepare_settings {
    const char *out, *prompt, *system, *format, *field, *column;
    int64_t min_length, max_length, seed;
    double split, valid, test;
    bool shuffle, keep_duplicates, force, json;
};

#define FORMATS "auto|lines|paragraphs|jsonl|csv|file" /* in the order of BOMBUS_POSTS_... */
#define AT(member) offsetof(struct prepare_settings, member)
static const struct option row_options[] = {
    {"prompt", 'p', OPTION_TEXT, AT(prompt), "TEXT",
     .help = "what the user says before each post; without it rows are plain text"},
    {"system", 0, OPTION_TEXT, AT(system), "TEXT", .help = "a system message before it"},
    {"min-length", 0, OPTION_INTEGER, AT(min_length), "N", .help = "drop posts of fewer characters", .fallback = "0",
     .least = 0, .most = 1e9},
    {"max-length", 0, OPTION_INTEGER, AT(max_length), "N", .help = "drop posts of more characters; 0: none",
     .fallback = "0", .least = 0, .most = 1e9},
    {"keep-duplicates", 0, OPTION_FLAG, AT(keep_duplicates), NULL, .help = "keep posts that are there already"},
};
static const struct option input_options[] = {
    {"format", 0, OPTION_CHOICE, AT(format), FORMATS, .help = "how posts stand in the input",
     .fallback = "auto"},
    {"field", 0, OPTION_TEXT, AT(field), "NAME", .help = "field of jsonl (else text, content, body or post)"},
    {"column", 0, OPTION_TEXT, AT(column), "NAME", .help = "column of csv, by name or number from 1"},
};
static const struct option output_options[] = {
    {"out", 'o', OPTION_FILE, AT(out), "DIR", .help = "folder of train.jsonl, valid.jsonl and test.jsonl"},
    {"split", 0, OPTION_NUMBER, AT(split), "SHARE", .help = "share of the posts to train on; the rest is for validation",
     .least = 0.0001, .most = 1},
    {"valid", 0, OPTION_NUMBER, AT(valid), "SHARE", .help = "share of the posts for validation (0.1)", .least = 0,
     .most = 0.9999},
    {"test", 0, OPTION_NUMBER, AT(test), "SHARE", .help = "share of the posts for the test", .fallback = "0", .least = 0,
     .most = 0.9999},
    {"shuffle", 0, OPTION_FLAG, AT(shuffle), NULL, .help = "shuffle the posts before they are divided"},
    {"seed", 0, OPTION_INTEGER, AT(seed), "N", .help = "of --shuffle, which it implies", .least = 0, .most = 9e15},
    {"force", 'f', OPTION_FLAG, AT(force), NULL, .help = "replace the files of an earlier run"},
    {"json", 0, OPTION_FLAG, AT(json), NULL, .help = "print the counts as one JSON object"},
};
#undef AT

static const struct option_group groups[] = {
    {"Rows", row_options, BB_COUNT(row_options), 0},
    {"Input", input_options, BB_COUNT(input_options), 0},
    {"Output", output_options, BB_COUNT(output_options), 0},
};

enum { REPORT_LIMIT = 20 };

static void on_report(void *context, const char *file, int64_t line, const char *message)
{
    int64_t *count = context;
    if (++*count > REPORT_LIMIT)
        return;
    if (line > 0)
        report_message("%s:%lld: %s", file, (long long)line, message);
    else
        report_message("%s: %s", file, message);
}

static void print_counts(const bombus_prepare_result *result, const char *out)
{
    const struct {
        const char *name;
        int64_t count;
    } rows[] = {{"posts found", result->found},          {"  empty", result->empty},
                {"  too short", result->too_short},      {"  too long", result->too_long},
                {"  duplicates", result->duplicates},    {"  damaged", result->damaged},
                {"  mended, and kept", result->mended},  {"train.jsonl", result->train},
                {"valid.jsonl", result->valid},          {"test.jsonl", result->test}};
    for (size_t i = 0; i < BB_COUNT(rows); i++)
        if (rows[i].count > 0 || i == 0)
            report_message("%-20s %8lld", rows[i].name, (long long)rows[i].count);
    report_message("written to %s", out);
}

static void print_json(const bombus_prepare_result *result, const char *out)
{
    json_output_print(json_pack(
        "{s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "out", json_output_text(out, strlen(out)), "found",
        (json_int_t)result->found, "empty", (json_int_t)result->empty, "too_short", (json_int_t)result->too_short, "too_long",
        (json_int_t)result->too_long, "duplicates", (json_int_t)result->duplicates, "damaged", (json_int_t)result->damaged,
        "mended", (json_int_t)result->mended, "train", (json_int_t)result->train, "valid", (json_int_t)result->valid, "test",
        (json_int_t)result->test));
}

static int run(const void *given, const struct operands *operands)
{
    const struct prepare_settings *settings = given;
    int64_t reported = 0;
    double valid = !isnan(settings->valid)   ? settings->valid
                   : !isnan(settings->split) ? 1 - settings->split - settings->test
                                             : 0.1;
    if (settings->out == NULL || operands->count == 0)
        return report_usage(&command_prepare, "%s", settings->out == NULL ? "--out is needed" : "no input is named");
    if (!isnan(settings->split) && !isnan(settings->valid))
        return report_usage(&command_prepare, "--split and --valid say the same; give one of them");
    if (valid < -1e-9 || valid + settings->test >= 1)
        return report_usage(&command_prepare, "the shares leave nothing to train on");
    bombus_prepare_options options = {
        .prompt = settings->prompt,
        .system = settings->system,
        .min_length = (size_t)settings->min_length,
        .max_length = (size_t)settings->max_length,
        .valid_share = valid < 1e-9 ? -1 : valid,
        .test_share = settings->test,
        .shuffle = settings->shuffle || settings->seed != OPTION_UNSET,
        .seed = settings->seed != OPTION_UNSET ? (uint64_t)settings->seed : 0,
        .keep_duplicates = settings->keep_duplicates,
        .overwrite = settings->force,
        .format = (bombus_post_format)options_choice(FORMATS, settings->format),
        .field = settings->field,
        .column = settings->column,
        .report = on_report,
        .context = &reported,
    };
    bombus_prepare_result result;
    bombus_error error = {0};
    bombus_status status =
        bombus_prepare_files(operands->values, operands->count, settings->out, &options, &result, &error);
    if (reported > REPORT_LIMIT)
        report_message("... and %lld more", (long long)(reported - REPORT_LIMIT));
    if (status != BOMBUS_OK)
        return report_error(&error);
    print_counts(&result, settings->out);
    if (settings->json)
        print_json(&result, settings->out);
    return EXIT_CODE_DONE;
}

const struct command command_prepare = {
    .name = "prepare",
    .summary = "posts (txt, jsonl, csv, a folder) to training data",
    .description =
        "Reads posts and writes train.jsonl, valid.jsonl and test.jsonl, a row a post: {\"messages\"} with --prompt as the "
        "user's turn and the post as the answer, or {\"text\"} without. Posts are trimmed; empty, too short, too long and "
        "repeated ones are dropped, and all of it is counted. A .txt file holds a post a line, or, if blank lines part it, a "
        "post a paragraph; in a folder each .txt and .md file is a post. Without --shuffle posts keep their order and the "
        "last ones are for validation and test.",
    .operand = "INPUT...",
    .operand_limit = SIZE_MAX,
    .groups = groups,
    .group_count = BB_COUNT(groups),
    .settings_size = sizeof(struct prepare_settings),
    .examples = {{"bombus prepare posts.txt --out data --prompt \"Write a post in my style\" --min-length 160",
                  "questions and answers from a text file"},
                 {"bombus prepare posts.csv --column body --out data --split 0.8 --seed 7 --json",
                  "plain text from a column of csv, shuffled"}},
    .run = run,
};
