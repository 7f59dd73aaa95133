/* parity_models GOLDEN FIXTURES: runs every model beside its reference logits in both precisions, and prints the tables of docs/parity.md. */
#include "../tests/parity.h"

#include <dirent.h>

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char **list_folder(const char *folder)
{
    char **names = calloc(257, sizeof *names);
    size_t count = 0;
    DIR *directory = opendir(folder);
    for (struct dirent *item = directory != NULL ? readdir(directory) : NULL; item != NULL && count < 256; item = readdir(directory))
        if (item->d_name[0] != '.')
            names[count++] = strdup(item->d_name);
    if (directory != NULL)
        closedir(directory);
    qsort(names, count, sizeof *names, compare_text);
    return names;
}

static void free_list(char **names)
{
    for (char **name = names; *name != NULL; name++)
        free(*name);
    free(names);
}

static void complain(const char *name, const struct parity_runner *runner)
{
    fprintf(stderr, "%s: %s\n", name, runner->error.message);
    exit(1);
}

static void open_model(struct parity_runner *runner, const char *name, const char *folder, bool is_exact, int32_t kv_bits)
{
    if (!parity_open(runner, folder, &(struct parity_options){ .is_exact = is_exact, .kv_bits = kv_bits }))
        complain(name, runner);
}

static void print_golden_row(const char *golden, const char *name, bool is_exact)
{
    char folder[512];
    struct parity_runner runner;
    struct parity_reference reference;
    struct parity_difference difference = {0};
    struct parity_greedy greedy = {0};
    double worst;
    snprintf(folder, sizeof folder, "%s/models/%s", golden, name);
    open_model(&runner, name, folder, is_exact, 0);
    snprintf(folder, sizeof folder, "%s/reference/%s", golden, name);
    if (!parity_reference_open(&reference, folder) || !parity_prompts(&runner, &reference, 0, &difference))
        complain(name, &runner);
    double expected = json_number_value(json_object_get(json_object_get(json_object_get(reference.root, "perplexity"), "f32"), "mean_nll"));
    double nll = parity_nll(&runner, &reference, &worst);
    if (!parity_greedy_all(&runner, &reference, "greedy", "f32", is_exact ? 2e-3 : 0.2, &greedy))
        complain(name, &runner);
    printf("| %s | %.1e | %.1e | %.1e | %.1e | %+.4f %% | %d of %d | %.3f |\n", name, difference.max_abs, parity_rms(&difference),
           parity_kl_mean(&difference), difference.kl_max, 100.0 * (exp(nll - expected) - 1.0), greedy.agreed, greedy.tokens, greedy.worst_margin);
    parity_reference_close(&reference);
    parity_close(&runner);
}

static void print_golden(const char *golden, bool is_exact)
{
    char folder[512];
    snprintf(folder, sizeof folder, "%s/models", golden);
    printf("\n| model | logits, worst | rms | KL, mean | KL, worst | perplexity | greedy tokens equal | margin where they part |\n"
           "|---|---|---|---|---|---|---|---|\n");
    char **names = list_folder(folder);
    for (char **name = names; *name != NULL; name++)
        print_golden_row(golden, *name, is_exact);
    free_list(names);
}

static void print_quantized_cache(const char *golden)
{
    char folder[512];
    printf("\n| cache | greedy tokens equal | margin where they part |\n|---|---|---|\n");
    for (int32_t kv_bits = 8; kv_bits >= 4; kv_bits -= 4) {
        struct parity_runner runner;
        struct parity_reference reference;
        struct parity_greedy greedy = {0};
        snprintf(folder, sizeof folder, "%s/models/qwen3-4bit", golden);
        open_model(&runner, "qwen3-4bit", folder, true, kv_bits);
        snprintf(folder, sizeof folder, "%s/reference/qwen3-4bit", golden);
        if (!parity_reference_open(&reference, folder) ||
            !parity_greedy_all(&runner, &reference, "greedy_kv_quant", kv_bits == 8 ? "f32.kv8" : "f32.kv4", 5e-3, &greedy))
            complain("qwen3-4bit", &runner);
        printf("| %d bits | %d of %d | %.3f |\n", kv_bits, greedy.agreed, greedy.tokens, greedy.worst_margin);
        parity_reference_close(&reference);
        parity_close(&runner);
    }
}

static const void *tensor_of(const struct bb_safetensors *file, const char *name, size_t *count)
{
    const struct bb_safetensors_entry *entry = bb_safetensors_find(file, name);
    *count = entry != NULL ? entry->size / 4 : 0;
    void *copy = malloc(*count * 4 + 1);
    if (entry != NULL)
        memcpy(copy, entry->data, entry->size);
    return copy;
}

static void measure_fixture(const char *name, const char *folder, bool is_exact, struct parity_difference *difference)
{
    char path[600];
    struct parity_runner runner;
    struct bb_safetensors file;
    size_t id_count, row_count, entry_count;
    snprintf(path, sizeof path, "%s/reference.safetensors", folder);
    open_model(&runner, name, folder, is_exact, 0);
    if (bb_safetensors_open(&file, path, &runner.error) != BOMBUS_OK)
        complain(name, &runner);
    const int32_t *ids = tensor_of(&file, "ids", &id_count), *positions = tensor_of(&file, "positions", &row_count);
    const float *expected = tensor_of(&file, "logits", &entry_count);
    const float *logits = parity_feed(&runner, ids, (int32_t)id_count, true);
    int32_t vocab_size = runner.model->recipe.vocab_size;
    if (logits == NULL || entry_count != row_count * (size_t)vocab_size)
        complain(name, &runner);
    for (size_t i = 0; i < row_count; i++)
        parity_compare(difference, logits + (size_t)positions[i] * (size_t)vocab_size, expected + i * (size_t)vocab_size, vocab_size);
    free((void *)(uintptr_t)ids);
    free((void *)(uintptr_t)positions);
    free((void *)(uintptr_t)expected);
    bb_safetensors_close(&file);
    parity_close(&runner);
}

static void print_fixtures(const char *fixtures)
{
    char folder[512];
    printf("\n| model | exact: logits, worst | exact: KL, worst | fast: logits, worst | fast: KL, mean | fast: KL, worst |\n|---|---|---|---|---|---|\n");
    char **names = list_folder(fixtures);
    for (char **name = names; *name != NULL; name++) {
        struct parity_difference exact = {0}, fast = {0};
        snprintf(folder, sizeof folder, "%s/%s", fixtures, *name);
        measure_fixture(*name, folder, true, &exact);
        measure_fixture(*name, folder, false, &fast);
        printf("| %s | %.1e | %.1e | %.1e | %.1e | %.1e |\n", *name, exact.max_abs, exact.kl_max, fast.max_abs, parity_kl_mean(&fast), fast.kl_max);
    }
    free_list(names);
}

int main(int count, char **arguments)
{
    if (count != 3) {
        fprintf(stderr, "usage: parity_models GOLDEN FIXTURES\n");
        return 2;
    }
    printf("## Reference models, precision exact\n\nBounds: logits within 1e-3, perplexity within 0.01 %%, greedy tokens equal (64 after each of three "
           "prompts) unless the reference's\nmargin is below 2e-3.\n");
    print_golden(arguments[1], true);
    printf("\n## Reference models, precision fast\n\nBounds: KL to the float32 reference at most 1e-3 nats on average and 2e-2 at worst (dense models), "
           "perplexity within 0.5 %%. Greedy text is\ncompared up to the first token that differs; there the reference's two best tokens lie no "
           "further apart than the last column.\n");
    print_golden(arguments[1], false);
    printf("\n## Quantized key-value cache (qwen3-4bit, exact)\n\n32 tokens after each of three prompts, beside mlx-lm's `--kv-bits` in float32.\n");
    print_quantized_cache(arguments[1]);
    printf("\n## Tiny random models of the other families and features (tests/fixtures/models)\n\nMade by tools/make_tiny_models.py. Their logits are "
           "harder ground for rounding than a trained model's: 64 columns of random weights.\n");
    print_fixtures(arguments[2]);
    return 0;
}
