/* A short training on random text. */
#include "cli/train_bench.h"

#include "base/error.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "cli/interrupt.h"
#include "cli/report.h"
#include "cli/text_input.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct bench {
    double *speeds;
    int64_t count; /* of speeds that there are */
};

static bool on_event(void *context, const bombus_train_event *event)
{
    struct bench *bench = context;
    if (event->type == BOMBUS_TRAIN_STEP && event->iteration > 1)
        bench->speeds[bench->count++] = event->tokens_per_second;
    return !interrupt_is_pending();
}

/* A line of at least `length` tokens: the text of twice as many random ones. */
static bombus_status write_data(const char *path, const bombus_tokenizer *tokenizer, int32_t vocab_size, int32_t length, bombus_error *error)
{
    size_t count = 2 * (size_t)length + 64, text_length = 0;
    int32_t *ids = report_if_null(bb_allocate(count, sizeof *ids));
    char *text = NULL;
    for (size_t i = 0; i < count; i++)
        ids[i] = (int32_t)(bb_random_at(2, i) % (uint64_t)vocab_size);
    bombus_status status = bombus_tokenizer_decode(tokenizer, ids, count, true, &text, &text_length, error);
    bb_release(ids);
    if (status != BOMBUS_OK)
        return status;
    struct bb_buffer repaired = {0};
    text_input_repair(&repaired, text, text_length);
    bombus_free(text);
    json_t *row = report_if_null(json_pack("{s:s%}", "text", repaired.data != NULL ? repaired.data : "", repaired.length));
    char *line = report_if_null(json_dumps(row, JSON_COMPACT));
    size_t end = strlen(line);
    line[end] = '\n'; /* in the place of the NUL: the length says where it ends */
    status = bb_file_write(path, line, end + 1, error);
    free(line);
    json_decref(row);
    bb_buffer_clear(&repaired);
    return status;
}

static void remove_files(const char *folder)
{
    static const char *const names[] = {"train.jsonl", "adapter/adapters.safetensors", "adapter/adapter_config.json",
                                        "adapter/training_state.safetensors"};
    for (size_t i = 0; i < BB_COUNT(names); i++) {
        char *path = report_if_null(bb_path_join(folder, names[i]));
        unlink(path);
        bb_release(path);
    }
    char *adapter = report_if_null(bb_path_join(folder, "adapter"));
    rmdir(adapter);
    bb_release(adapter);
    rmdir(folder);
}

bombus_status train_bench_run(double *speeds, size_t count, bombus_model *model, const bombus_tokenizer *tokenizer, int32_t length,
                              bombus_error *error)
{
    char folder[] = "/tmp/bombus-bench-XXXXXX";
    bombus_model_info info;
    struct bench bench = {.speeds = speeds};
    bombus_trainer *trainer = NULL;
    bombus_train_result result = {0};
    if (mkdtemp(folder) == NULL)
        return bb_fail_io(error, errno, "cannot create", folder);
    char *data = report_if_null(bb_path_join(folder, "train.jsonl")), *adapter = report_if_null(bb_path_join(folder, "adapter"));
    bombus_model_get_info(model, &info);
    const bombus_train_options options = {.data = data,
                                          .adapter_path = adapter,
                                          .batch_size = 1,
                                          .max_seq_length = length + 1,
                                          .iters = (int64_t)count + 1,
                                          .steps_per_report = -1,
                                          .steps_per_eval = -1,
                                          .save_every = -1,
                                          .callback = on_event,
                                          .context = &bench};
    bombus_status status = write_data(data, tokenizer, info.vocab_size, length, error);
    if (status == BOMBUS_OK)
        status = bombus_trainer_create(&trainer, model, tokenizer, NULL, &options, error);
    if (status == BOMBUS_OK)
        status = bombus_trainer_run(trainer, &result, error);
    if (status == BOMBUS_OK && bench.count < (int64_t)count)
        status = bb_fail(error, BOMBUS_ERROR_CANCELLED, "interrupted");
    bombus_trainer_free(trainer);
    remove_files(folder);
    bb_release(data);
    bb_release(adapter);
    return status;
}
