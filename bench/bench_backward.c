/* Time of a training step without the optimizer: forward and backward pass of a batch of random tokens, low-rank pairs of rank 8 at every projection of
 * the last blocks; and the process's peak of resident memory.
 *
 *   make build/release/bench/bench_backward
 *   build/release/bench/bench_backward FOLDER [LENGTH [SEQUENCES [LAYERS [THREADS [exact [kept [LEVEL]]]]]]]      LAYERS 0: all; exact, kept: 0 or 1 */
#include "base/random.h"
#include "model/backward.h"
#include "ops/backends.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { MOST_ROWS = 1 << 16, MOST_SPANS = 64, REPEATS = 3 };

static double seconds_of(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static bombus_error error;

static void check(bombus_status status)
{
    if (status == BOMBUS_OK)
        return;
    fprintf(stderr, "bench_backward: %s\n", error.message);
    exit(1);
}

static int32_t argument(char **arguments, int count, int index, int32_t fallback)
{
    return index < count ? (int32_t)atoi(arguments[index]) : fallback;
}

int main(int count, char **arguments)
{
    static int32_t tokens[MOST_ROWS], positions[MOST_ROWS], targets[MOST_ROWS];
    static float weights[MOST_ROWS], nll[MOST_ROWS];
    static struct bb_span spans[MOST_SPANS];
    const int32_t length = argument(arguments, count, 2, 256), span_count = argument(arguments, count, 3, 1);
    const int32_t rows = length * span_count;
    if (count < 2 || length < 1 || span_count < 1 || span_count > MOST_SPANS || rows > MOST_ROWS) {
        fprintf(stderr, "usage: bench_backward FOLDER [LENGTH [SEQUENCES [LAYERS [THREADS [exact [kept [LEVEL]]]]]]]\n");
        return 2;
    }
    struct bb_backend *backend;
    struct bb_model *model;
    struct bb_trainable *trainable;
    struct bb_backward *backward;
    const struct bb_backend_options device = {.thread_count = argument(arguments, count, 5, 1), .cpu_level = count > 8 ? arguments[8] : NULL};
    check(bb_backend_open(&backend, "cpu", &device, &error));
    check(bb_model_open(&model, arguments[1], backend, &error));
    const struct bb_trainable_options options = {.num_layers = argument(arguments, count, 4, 0), .rank = 8, .scale = 20.0f, .seed = 1};
    check(bb_trainable_create(&trainable, model, &options, &error));
    const struct bb_backward_options limits = {.is_exact = argument(arguments, count, 6, 0) != 0,
                                               .is_kept = argument(arguments, count, 7, 0) != 0,
                                               .row_limit = rows,
                                               .sequence_limit = span_count};
    check(bb_backward_create(&backward, trainable, backend, &limits, &error));
    for (int32_t i = 0; i < rows; i++) {
        tokens[i] = (int32_t)(bb_random_at(1, (uint64_t)i) % (uint64_t)model->recipe.vocab_size);
        targets[i] = (int32_t)(bb_random_at(2, (uint64_t)i) % (uint64_t)model->recipe.vocab_size);
        positions[i] = i % length;
        weights[i] = 1.0f / (float)rows;
        spans[i / length] = (struct bb_span){
            .first_row = i / length * length, .row_count = length, .sequence = i / length, .adapters = trainable->set};
    }
    const struct bb_batch batch = {.row_count = rows, .tokens = tokens, .positions = positions, .span_count = span_count, .spans = spans};
    const struct bb_backward_call call = {.batch = &batch, .targets = targets, .weights = weights, .nll = nll, .is_training = true};
    struct bb_backward_call forward = call;
    forward.weights = NULL;
    double best = 1e30, best_forward = 1e30, best_cpu = 1e30;
    for (int i = 0; i < REPEATS; i++) {
        const double begin = seconds_of(CLOCK_MONOTONIC);
        check(bb_backward_step(backward, &forward, &error));
        const double middle = seconds_of(CLOCK_MONOTONIC), cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID);
        check(bb_backward_step(backward, &call, &error));
        best_forward = fmin(best_forward, middle - begin);
        best = fmin(best, seconds_of(CLOCK_MONOTONIC) - middle);
        best_cpu = fmin(best_cpu, seconds_of(CLOCK_PROCESS_CPUTIME_ID) - cpu);
    }
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf("%s: %d x %d tokens, last %d layers, %s: loss alone %.3f s, step %.3f s (CPU %.3f s), %.1f tokens/s; peak %.0f MB, reserved %.0f MB, weights %.0f MB\n",
           backend->table->describe(backend), span_count, length, options.num_layers > 0 ? options.num_layers : model->recipe.num_hidden_layers,
           limits.is_exact ? "exact" : "fast", best_forward, best, best_cpu, rows / best, (double)usage.ru_maxrss / 1024.0,
           (double)bb_backward_bytes(backward) / 1048576.0, (double)model->weight_bytes / 1048576.0);
    bb_backward_free(backward);
    bb_trainable_free(trainable);
    bb_model_close(model);
    bb_backend_close(backend);
    return 0;
}
