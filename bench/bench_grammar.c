/* Cost of a constraint a token in time of the processor: mask, masked logits, going past the token; cold (masks found as they are met) and warm (walked
 * before). The worst warm token is the one whose fastest of ROUNDS walks is the slowest: what it costs, not what interrupts it.
 *
 * usage: bench_grammar TOKENIZER_FOLDER [VOCAB_SIZE] */
#include "base/memory.h"
#include "base/random.h"
#include "generate/grammar/matcher.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WALKS = 20, STEPS = 200, ROUNDS = 6 };

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

struct figures {
    double mask, apply, advance;
    double best[WALKS * STEPS]; /* of each token over the rounds */
    size_t tokens, rounds;
};

/* Random allowed tokens, the same in each round. */
static bool walk(const struct bombus_constraint *constraint, const float *logits, float *out, int32_t vocab_size,
                 struct figures *figures, bombus_error *error)
{
    struct bb_grammar_matcher matcher;
    struct bb_random random = {.seed = 7};
    bombus_status status = bb_grammar_matcher_init(&matcher, constraint, error);
    figures->tokens = 0;
    for (int i = 0; i < WALKS && status == BOMBUS_OK; i++) {
        status = bb_grammar_matcher_reset(&matcher, error);
        for (int step = 0; step < STEPS && status == BOMBUS_OK && !matcher.must_end; step++) {
            size_t count;
            double start = now();
            status = bb_grammar_matcher_find_mask(&matcher, &count, error);
            double masked = now();
            bb_grammar_matcher_mask(&matcher, out, logits, vocab_size);
            double applied = now();
            size_t place = count > 0 ? (size_t)(bb_random_next(&random) % count) : 0;
            int32_t id = 0;
            while (!bb_grammar_matcher_allows(&matcher, id) || place-- > 0)
                id++;
            if (constraint->eos_count > 0 && id == constraint->eos_ids[0])
                break;
            double chosen = now();
            if (status == BOMBUS_OK)
                status = bb_grammar_matcher_advance(&matcher, id, error);
            double advanced = now(), all = applied - start + advanced - chosen;
            figures->mask += masked - start;
            figures->apply += applied - masked;
            figures->advance += advanced - chosen;
            double *best = &figures->best[figures->tokens++];
            *best = figures->rounds == 0 || all < *best ? all : *best;
        }
    }
    bb_grammar_matcher_clear(&matcher);
    figures->rounds++;
    return status == BOMBUS_OK;
}

static void print_figures(const char *name, const struct figures *figures)
{
    double scale = 1e6 / (double)(figures->tokens * figures->rounds), worst = 0.0;
    for (size_t i = 0; i < figures->tokens; i++)
        worst = figures->best[i] > worst ? figures->best[i] : worst;
    printf("  %s %6zu tokens: %8.1f us a token (mask %.1f, logits %.1f, advance %.1f), worst %.1f us\n", name,
           figures->tokens, (figures->mask + figures->apply + figures->advance) * scale, figures->mask * scale,
           figures->apply * scale, figures->advance * scale, worst * 1e6);
}

int main(int argc, char **argv)
{
    static const struct {
        bombus_constraint_kind kind;
        const char *name, *source;
    } cases[] = {
        {BOMBUS_CONSTRAINT_JSON_SCHEMA, "any JSON", "true"},
        {BOMBUS_CONSTRAINT_JSON_SCHEMA, "schema",
         "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":\"integer\",\"minimum\":0},\"tags\":{\"type\":"
         "\"array\",\"items\":{\"enum\":[\"red\",\"green\",\"blue\"]}},\"friend\":{\"$ref\":\"#\"}},\"required\":[\"name\",\"age\"]}"},
        {BOMBUS_CONSTRAINT_JSON_SCHEMA, "maxLength 40", "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"maxLength\":40}}"},
        {BOMBUS_CONSTRAINT_REGEX, "regex", "([A-Z][a-z]+ ){1,12}\\d{4}-\\d{2}-\\d{2}"},
        {BOMBUS_CONSTRAINT_GBNF, "gbnf", "root ::= e\ne ::= t ([-+*/] t)*\nt ::= [a-z]+ | [0-9]+ | \"(\" e \")\""},
    };
    bombus_error error;
    struct bb_tokenizer *tokenizer;
    int32_t vocab_size = argc > 2 ? atoi(argv[2]) : 151936;
    if (argc < 2 || bb_tokenizer_open(&tokenizer, argv[1], NULL, &error) != BOMBUS_OK) {
        fprintf(stderr, "%s\n", argc < 2 ? "usage: bench_grammar TOKENIZER_FOLDER [VOCAB_SIZE]" : error.message);
        return 1;
    }
    float *logits = bb_allocate((size_t)vocab_size, sizeof *logits), *out = bb_allocate((size_t)vocab_size, sizeof *out);
    for (size_t i = 0; i < sizeof cases / sizeof *cases && logits != NULL && out != NULL; i++) {
        struct bombus_constraint *constraint;
        double start = now();
        if (bb_constraint_create(&constraint, cases[i].kind, cases[i].source, strlen(cases[i].source), tokenizer,
                                 &error) != BOMBUS_OK) {
            fprintf(stderr, "%s\n", error.message);
            return 1;
        }
        printf("%-13s compiled in %.1f ms\n", cases[i].name, (now() - start) * 1e3);
        struct figures cold = {0}, warm = {0};
        bool is_done = walk(constraint, logits, out, vocab_size, &cold, &error);
        while (is_done && warm.rounds < ROUNDS)
            is_done = walk(constraint, logits, out, vocab_size, &warm, &error);
        if (!is_done) {
            fprintf(stderr, "%s\n", error.message);
            return 1;
        }
        print_figures("cold", &cold);
        print_figures("warm", &warm);
        bb_constraint_free(constraint);
    }
    bb_release(logits);
    bb_release(out);
    bb_tokenizer_close(tokenizer);
    return 0;
}
