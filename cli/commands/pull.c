/* bombus pull: download a model. */
#include "cli/command.h"
#include "cli/environment.h"
#include "cli/interrupt.h"
#include "cli/json_output.h"
#include "cli/report.h"

#include <string.h>

struct pull_settings {
    struct option_list include;
    int64_t connections;
    bool force, json;
};

static const struct option options[] = {
    {"include", 0, OPTION_LIST, offsetof(struct pull_settings, include), "PATTERN",
     .help = "files to download, as a shell pattern; what a model needs if not given"},
    {"connections", 0, OPTION_INTEGER, offsetof(struct pull_settings, connections), "N", .help = "downloads at once",
     .fallback = "4", .least = 1, .most = 64},
    {"force", 0, OPTION_FLAG, offsetof(struct pull_settings, force), NULL, .help = "download even what is there",
     .also = "force-download"},
    {"json", 0, OPTION_FLAG, offsetof(struct pull_settings, json), NULL, .help = "print {\"model\", \"folder\"}"},
};

static const struct option_group groups[] = {{"Download", options, BB_COUNT(options), 0}};

static int run(const void *given, const struct operands *operands)
{
    const struct pull_settings *settings = given;
    if (operands->count == 0)
        return report_usage(&command_pull, "which model? owner/name is needed");
    struct environment_hub hub;
    struct report_progress progress = {0};
    environment_hub_read(&hub);
    hub.options.check_revision = true;
    hub.options.force_download = settings->force;
    hub.options.connection_count = (int32_t)settings->connections;
    hub.options.patterns = settings->include.count > 0 ? settings->include.values : NULL;
    hub.options.progress = report_download;
    hub.options.progress_context = &progress;
    bombus_error error = {0};
    char *folder = NULL;
    interrupt_catch();
    bombus_status status = bombus_hub_resolve(&folder, operands->values[0], &hub.options, &error);
    interrupt_release();
    report_download_end(&progress);
    environment_hub_clear(&hub);
    if (status == BOMBUS_OK && settings->json)
        json_output_print(json_pack("{s:o, s:o}", "model",
                                    json_output_text(operands->values[0], strlen(operands->values[0])), "folder",
                                    json_output_text(folder, strlen(folder))));
    else if (status == BOMBUS_OK)
        puts(folder);
    bombus_free(folder);
    return status == BOMBUS_OK ? EXIT_CODE_DONE : report_error(&error);
}

const struct command command_pull = {
    .name = "pull",
    .summary = "download a model",
    .description =
        "Downloads a model into the Hugging Face cache, where other tools find it too, and prints its folder. "
        "What is there already and has not changed is not loaded again; a broken download goes on where it "
        "stopped; every file is checked against the hub's hash.",
    .operand = "OWNER/NAME[@REVISION]",
    .operand_limit = 1,
    .groups = groups,
    .group_count = BB_COUNT(groups),
    .settings_size = sizeof(struct pull_settings),
    .examples = {{"bombus pull lmstudio-community/Qwen3-8B-MLX-4bit", "4.6 GB, resumed where it breaks"},
                 {"bombus pull hf:owner/name@main --include '*.json'", "only the JSON files of a revision"}},
    .run = run,
};
