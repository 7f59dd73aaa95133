/* The command line as a process: exit codes, JSON forms, standard input, documents, Ctrl-C. */
#include "process.h"

#include <jansson.h>

static const char *const commands[] = {"generate", "chat",  "tokenize", "detokenize", "template",
                                       "inspect",  "score", "pull",     "bench", "train"};

/* The default model, as it lies in the source tree. */
#define MODEL "models/bombus-stories-28m-4bit"

static int setup(void **state)
{
    if (scratch_setup(state) != 0)
        return -1;
    scratch_environment();
    setenv("HF_HOME", scratch_path("hub"), 1);
    unsetenv("HF_HUB_CACHE");
    unsetenv("BOMBUS_CPU");
    return 0;
}

/* The one JSON value that standard output must hold, on one line. */
static json_t *only_json(const struct process *process)
{
    json_error_t place;
    json_t *value = json_loadb(process->out, process->out_size, JSON_DECODE_ANY, &place);
    if (value == NULL)
        print_error("%s in '%s'\n", place.text, process->out);
    assert_non_null(value);
    assert_ptr_equal(strchr(process->out, '\n'), process->out + process->out_size - 1);
    return value;
}

/* Runs with --json at the end and gives the object. */
#define RUN_JSON(...) run_json((const char *const[]){__VA_ARGS__, "--json", NULL})
static json_t *run_json(const char *const *arguments)
{
    struct process process;
    process_run(&process, 0, "", arguments);
    json_t *object = only_json(&process);
    process_clear(&process);
    return object;
}

static size_t length_of(const json_t *object, const char *key)
{
    const json_t *array = json_object_get(object, key);
    assert_true(json_is_array(array));
    return json_array_size(array);
}

static double number_of(const json_t *object, const char *key)
{
    const json_t *number = json_object_get(object, key);
    if (!json_is_number(number))
        print_error("'%s' is no number\n", key);
    assert_true(json_is_number(number));
    return json_number_value(number);
}

/* ---- usage ---- */

static void test_usage(void **state)
{
    (void)state;
    struct process process;
    process_run(&process, 2, "", (const char *const[]){NULL});
    assert_string_equal(process.out, "");
    process_clear(&process);
    RUN(&process, 0, "", "--help");
    for (size_t i = 0; i < BB_COUNT(commands); i++)
        assert_non_null(strstr(process.out, commands[i]));
    process_clear(&process);
    RUN(&process, 0, "", "--version");
    assert_string_equal(process.out, "bombus " BOMBUS_VERSION "\n");
    process_clear(&process);
    RUN(&process, 2, "", "generat");
    assert_non_null(strstr(process.err, "did you mean generate?"));
    process_clear(&process);
    RUN(&process, 2, "", "elephant");
    assert_string_equal(process.out, "");
    process_clear(&process);
}

static void test_wrong_options(void **state)
{
    (void)state;
    static const char *const cases[][8] = {
        {"generate"},
        {"generate", "--max-tokns", "3", "hello"},
        {"generate", "-p", "a", "b"},
        {"generate", "--max-tokens", "0", "hello"},
        {"generate", "--logprobs", "2", "hello"},
        {"generate", "--raw", "--system", "x", "hello"},
        {"generate", "--tokens", "1,two"},
        {"generate", "--tokens", ""},
        {"generate", "--logit-bias", "[1]", "hello"},
        {"generate", "--logit-bias", "{\"a\": 1}", "hello"},
        {"generate", "--chat-template-config", "[]", "hello"},
        {"generate", "--precision", "half", "hello"},
        {"generate", "--draft-model", MODEL, "--ngram-size", "2", "hello"},
        {"generate", "--regex", "a", "--json-schema", "{}", "hello"},
        {"generate", "--regex", "a", "--grammar", "x.gbnf", "hello"},
        {"score"},
        {"score", "--text", "a", "--tokens", "1"},
        {"score", "--text", ""},
        {"template", "--jsonl", "--messages", "x.json"},
        {"template"},
        {"pull"},
        {"tokenize", "--jsonl", "--text", "x"},
        {"detokenize", "1,-2"},
        {"--completion", "tcsh"},
        {"--man", "nothing"},
    };
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        struct process process;
        process_run(&process, 2, "", cases[i]);
        assert_string_equal(process.out, "");
        assert_int_not_equal(strlen(process.err), 0);
        process_clear(&process);
    }
    /* The bounds of the table are the library's. */
    struct process process;
    RUN(&process, 2, "", "generate", "--prefill-step-size", "65537", "hello");
    assert_non_null(strstr(process.err, "not between 1 and 65536"));
    process_clear(&process);
    RUN(&process, 2, "", "generate", "--max-kv-size", "4", "hello");
    assert_non_null(strstr(process.err, "not between 5 and"));
    process_clear(&process);
    RUN(&process, 2, "", "generate", "--kv-bits", "8", "--kv-group-size", "48", "hello");
    assert_non_null(strstr(process.err, "--kv-group-size"));
    process_clear(&process);
    RUN(&process, 2, "", "generate", "--kv-group-size", "32", "hello");
    assert_non_null(strstr(process.err, "kv_bits"));
    process_clear(&process);
    RUN(&process, 0, "", "generate", "--kv-bits", "8", "--kv-group-size", "32", "--max-tokens", "1", "hello");
    process_clear(&process);
    RUN(&process, 0, "", "generate", "--max-kv-size", "5", "--prefill-step-size", "65536", "--max-tokens", "1",
        "hello");
    process_clear(&process);
}

static void test_failures(void **state)
{
    (void)state;
    struct process process;
    RUN(&process, 1, "", "generate", "-m", scratch_path("nothing"), "hello");
    assert_non_null(strstr(process.err, "nothing"));
    process_clear(&process);
    RUN(&process, 1, "", "pull", "owner/absent");
    assert_non_null(strstr(process.err, "owner/absent"));
    process_clear(&process);
    RUN(&process, 1, "", "score", "--file", scratch_path("absent.txt"));
    assert_non_null(strstr(process.err, "absent.txt"));
    process_clear(&process);
    RUN(&process, 1, "\"fine\"\nnot json\n", "tokenize", "--jsonl");
    assert_non_null(strstr(process.err, "line 2"));
    process_clear(&process);
    RUN(&process, 1, "[1]\n[\"a\"]\n", "detokenize", "--jsonl");
    assert_non_null(strstr(process.err, "line 2"));
    process_clear(&process);
    RUN(&process, 1, "", "generate", "--device", "cuda", "hello");
    assert_non_null(strstr(process.err, "cuda"));
    process_clear(&process);
    setenv("BOMBUS_CPU", "abacus", 1);
    RUN(&process, 1, "", "generate", "hello");
    unsetenv("BOMBUS_CPU");
    assert_non_null(strstr(process.err, "abacus"));
    process_clear(&process);
}

/* ---- documents ---- */

static void test_documents(void **state)
{
    (void)state;
    for (size_t i = 0; i < BB_COUNT(commands); i++) {
        struct process help, man;
        RUN(&help, 0, "", commands[i], "--help");
        RUN(&man, 0, "", "--man", commands[i]);
        assert_non_null(strstr(help.out, "\nExamples:\n  bombus "));
        assert_non_null(strstr(man.out, ".SH EXAMPLES\n"));
        size_t count = 0;
        for (const char *place = strstr(help.out, " --"); place != NULL; place = strstr(place + 3, " --")) {
            char name[128] = "";
            size_t length = 0;
            for (const char *c = place + 1; (*c == '-' || (*c >= 'a' && *c <= 'z')) && length < sizeof name - 3; c++) {
                if (*c == '-')
                    name[length++] = '\\'; /* as roff writes it */
                name[length++] = *c;
            }
            name[length] = '\0';
            if (strstr(man.out, name) == NULL)
                print_error("the page of %s has no %s\n", commands[i], name);
            assert_non_null(strstr(man.out, name));
            count++;
        }
        assert_in_range(count, 3, 200);
        process_clear(&help);
        process_clear(&man);
    }
    static const char *const variables[] = {"BOMBUS_MODEL", "BOMBUS_CPU",    "HF_HUB_CACHE",   "HF_HOME",
                                            "HF_TOKEN",     "HF_TOKEN_PATH", "HF_ENDPOINT",    "HF_HUB_OFFLINE",
                                            "HTTPS_PROXY",  "SSL_CERT_FILE", "XDG_CACHE_HOME", "XDG_STATE_HOME"};
    struct process help, man;
    RUN(&help, 0, "", "--help");
    RUN(&man, 0, "", "--man");
    for (size_t i = 0; i < BB_COUNT(variables); i++) {
        char line[64];
        snprintf(line, sizeof line, "\n  %s ", variables[i]);
        assert_non_null(strstr(help.out, line));
        snprintf(line, sizeof line, "\\fB%s\\fR\n", variables[i]);
        assert_non_null(strstr(man.out, line));
    }
    process_clear(&help);
    process_clear(&man);
    static const char *const shells[] = {"bash", "zsh", "fish"};
    for (size_t i = 0; i < BB_COUNT(shells); i++) {
        struct process process;
        RUN(&process, 0, "", "--completion", shells[i]);
        for (size_t j = 0; j < BB_COUNT(commands); j++)
            assert_non_null(strstr(process.out, commands[j]));
        process_clear(&process);
    }
}

/* ---- text and ids ---- */

static void test_tokenize(void **state)
{
    (void)state;
    struct process process;
    json_t *object = RUN_JSON("tokenize", "--text", "Once upon a time, a fox");
    size_t count = length_of(object, "ids");
    assert_in_range(count, 3, 12);
    json_decref(object);
    RUN(&process, 0, "", "tokenize", "Once upon a time, a fox");
    char ids[256];
    snprintf(ids, sizeof ids, "%s", process.out);
    ids[strcspn(ids, "\n")] = '\0';
    process_clear(&process);
    RUN(&process, 0, "Once upon a time, a fox", "tokenize");
    assert_int_equal(strncmp(process.out, ids, strlen(ids)), 0);
    process_clear(&process);
    RUN(&process, 0, "", "detokenize", ids);
    assert_string_equal(process.out, "Once upon a time, a fox\n");
    process_clear(&process);
    RUN(&process, 0, ids, "detokenize", "--json");
    assert_string_equal(process.out, "{\"text\": \"Once upon a time, a fox\"}\n");
    process_clear(&process);
    RUN(&process, 0, "\"fox\"\n\"\"\n\"f\\u0000x \\u00e9\"", "tokenize", "--jsonl", "-m", MODEL);
    char lines[512];
    snprintf(lines, sizeof lines, "%s", process.out);
    process_clear(&process);
    RUN(&process, 0, lines, "detokenize", "--jsonl");
    assert_string_equal(process.out, "\"fox\"\n\"\"\n\"f\\u0000x \xC3\xA9\"\n");
    process_clear(&process);
}

/* Runs `arguments` on one JSON value a line (`lines` of them) and compares each answer with `expected`. */
static void check_lines(const struct bb_buffer *input, const json_t *expected, const char *const *arguments)
{
    struct process process;
    process_run(&process, 0, input->length > 0 ? input->data : "", arguments);
    char *rest = process.out;
    size_t i;
    json_t *value;
    json_array_foreach((json_t *)(uintptr_t)expected, i, value)
    {
        char *end = strchr(rest, '\n');
        assert_non_null(end);
        json_t *line = json_loadb(rest, (size_t)(end - rest), JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        if (!json_equal(line, value))
            print_error("case %zu: %.*s\n", i, (int)(end - rest), rest);
        assert_true(json_equal(line, value));
        json_decref(line);
        rest = end + 1;
    }
    assert_string_equal(rest, "");
    process_clear(&process);
}

static void add_line(struct bb_buffer *input, const json_t *value)
{
    char *text = json_dumps(value, JSON_ENCODE_ANY);
    assert_non_null(text);
    bb_buffer_add_text(input, text);
    bb_buffer_add_text(input, "\n");
    free(text);
}

static void test_golden_tokenizers(void **state)
{
    (void)state;
    static const char *const names[] = {"tiny-qwen", "tiny-llama3", "tiny-gemma"};
    for (size_t n = 0; n < BB_COUNT(names); n++) {
        char name[64];
        snprintf(name, sizeof name, "tokenizers/%s", names[n]);
        const char *folder = golden_path(name);
        SKIP_WITHOUT_GOLDEN(folder);
        snprintf(name, sizeof name, "tokenizers/%s/vectors.json", names[n]);
        json_t *vectors = json_load_file(golden_path(name), JSON_ALLOW_NUL, NULL), *vector;
        assert_non_null(vectors);
        struct bb_buffer texts = {0}, ids = {0};
        json_t *expected_ids = json_array(), *expected_texts = json_array();
        size_t i;
        json_array_foreach(json_object_get(vectors, "encode"), i, vector)
        {
            add_line(&texts, json_object_get(vector, "text"));
            add_line(&ids, json_object_get(vector, "ids"));
            json_array_append(expected_ids, json_object_get(vector, "ids"));
            json_array_append(expected_texts, json_object_get(vector, "decoded"));
        }
        assert_in_range(json_array_size(expected_ids), 10, 100000);
        check_lines(&texts, expected_ids,
                    (const char *const[]){"tokenize", "-m", folder, "--jsonl", "--no-special", NULL});
        check_lines(&ids, expected_texts, (const char *const[]){"detokenize", "-m", folder, "--jsonl", NULL});
        json_decref(expected_ids);
        json_decref(expected_texts);
        json_decref(vectors);
        bb_buffer_clear(&texts);
        bb_buffer_clear(&ids);
    }
}

/* ---- templates ---- */

static void test_template(void **state)
{
    (void)state;
    struct process process;
    scratch_text("talk.json", "[{\"role\": \"user\", \"content\": \"caf\xC3\xA9\"}]");
    RUN(&process, 0, "", "template", "-m", MODEL, "--messages", scratch_path("talk.json"), "--add-generation-prompt");
    assert_string_equal(process.out, "<|im_start|>user\ncaf\xC3\xA9<|im_end|>\n<|im_start|>assistant\n");
    process_clear(&process);
    RUN(&process, 0, "[]", "template", "--messages", "-");
    assert_string_equal(process.out, "");
    process_clear(&process);
    scratch_text("t.jinja",
                 "{{ x }}{% if y is defined %}\n{{ raise_exception('no ' ~ y) }}{% endif %}|{{ z is defined }}|{{ tools is none }}");
    RUN(&process, 0, "{\"x\": \"a\\nb\"}\n{\"x\": 1, \"y\": 2}\n", "template", "--template", scratch_path("t.jinja"),
        "--jsonl");
    char *second = strchr(process.out, '\n');
    assert_non_null(second);
    *second++ = '\0';
    assert_string_equal(process.out, "\"a\\nb|False|True\"");
    json_t *object = json_loads(second, 0, NULL);
    assert_non_null(strstr(json_string_value(json_object_get(object, "error")), "no 2"));
    assert_int_equal((int)number_of(object, "line"), 2);
    assert_true(number_of(object, "column") >= 1);
    json_decref(object);
    process_clear(&process);
    RUN(&process, 0, "", "template", "--template", scratch_path("t.jinja"), "--messages", scratch_path("talk.json"),
        "--kwargs", "{\"x\": true}");
    assert_string_equal(process.out, "True|False|True");
    process_clear(&process);
    scratch_text("bad.jinja", "line one\n{% if %}");
    RUN(&process, 1, "", "template", "--template", scratch_path("bad.jinja"), "--messages", scratch_path("talk.json"));
    assert_non_null(strstr(process.err, "line 2"));
    process_clear(&process);
}

static void test_golden_templates(void **state)
{
    (void)state;
    const char *path = golden_path("templates/cases.json");
    SKIP_WITHOUT_GOLDEN(path);
    json_t *root = json_load_file(path, JSON_ALLOW_NUL, NULL), *test;
    json_t *cases = json_is_array(root) ? root : json_object_get(root, "cases");
    struct bb_buffer input = {0};
    json_t *expected = json_array();
    size_t i;
    json_array_foreach(cases, i, test)
    {
        if (json_object_get(test, "rendered") == NULL ||
            strcmp(json_string_value(json_object_get(test, "template")), "own-qwen3") != 0)
            continue;
        json_t *variables = json_deep_copy(json_object_get(test, "input"));
        static const char *const others[] = {"bos_token", "eos_token", "now"}, *const absent[] = {"tools", "documents"};
        for (size_t j = 0; j < BB_COUNT(absent); j++) { /* transformers passes none for them */
            if (json_object_get(variables, absent[j]) == NULL)
                json_object_set_new(variables, absent[j], json_null());
        }
        for (size_t j = 0; j < BB_COUNT(others); j++)
            json_object_set(variables, others[j], json_object_get(test, others[j]));
        add_line(&input, variables);
        json_array_append(expected, json_object_get(test, "rendered"));
        json_decref(variables);
    }
    assert_in_range(json_array_size(expected), 1, 1000);
    const char *template_path = golden_path("templates/jinja/own-qwen3.jinja");
    check_lines(&input, expected, (const char *const[]){"template", "--template", template_path, "--jsonl", NULL});
    json_decref(expected);
    json_decref(root);
    bb_buffer_clear(&input);
}

/* ---- generation ---- */

static void test_generate_json(void **state)
{
    (void)state;
    json_t *object =
        RUN_JSON("generate", "--seed", "3", "--max-tokens", "12", "--logprobs", "2", "Write a story about a fox");
    static const char *const keys[] = {"model",         "device",   "text",  "token_ids", "prompt_token_ids",
                                       "finish_reason", "logprobs", "usage", "timings"};
    for (size_t i = 0; i < BB_COUNT(keys); i++)
        assert_non_null(json_object_get(object, keys[i]));
    assert_int_equal(json_object_size(object), BB_COUNT(keys));
    assert_non_null(strstr(json_string_value(json_object_get(object, "model")), "bombus-stories-28m-4bit"));
    assert_int_equal(length_of(object, "token_ids"), 12);
    assert_string_equal(json_string_value(json_object_get(object, "finish_reason")), "length");
    assert_in_range(json_string_length(json_object_get(object, "text")), 10, 200);
    const json_t *usage = json_object_get(object, "usage"), *timings = json_object_get(object, "timings");
    assert_int_equal((int)number_of(usage, "prompt_tokens"), (int)length_of(object, "prompt_token_ids"));
    assert_int_equal((int)number_of(usage, "completion_tokens"), 12);
    static const char *const times[] = {
        "load_s", "prompt_s", "prompt_tokens_per_s", "generation_s", "generation_tokens_per_s", "peak_memory_bytes"};
    for (size_t i = 0; i < BB_COUNT(times); i++)
        assert_true(number_of(timings, times[i]) > 0.0);
    assert_int_equal(json_object_size(timings), BB_COUNT(times));
    assert_int_equal(length_of(object, "logprobs"), 12);
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(object, "logprobs"), i, entry)
    {
        const json_t *top = json_object_get(entry, "top");
        assert_true(json_equal(json_object_get(entry, "id"), json_array_get(json_object_get(object, "token_ids"), i)));
        assert_int_equal(json_array_size(top), 2);
        assert_true(number_of(json_array_get(top, 0), "logprob") >= number_of(json_array_get(top, 1), "logprob"));
        assert_true(number_of(json_array_get(top, 0), "logprob") >= number_of(entry, "logprob"));
        assert_true(number_of(entry, "logprob") <= 0.0);
    }
    json_decref(object);
}

/* The text of a generation with --json. */
static void text_of(char *text, size_t size, const char *const *arguments)
{
    json_t *object = run_json(arguments);
    snprintf(text, size, "%s", json_string_value(json_object_get(object, "text")));
    json_decref(object);
}
#define TEXT_OF(text, ...) text_of(text, sizeof text, (const char *const[]){__VA_ARGS__, "--json", NULL})

static void test_generate_forms(void **state)
{
    (void)state;
    char first[4096], second[4096];
    TEXT_OF(first, "generate", "--seed", "5", "--max-tokens", "16", "Tell me a story");
    assert_int_not_equal(strlen(first), 0);
    TEXT_OF(second, "generate", "--seed=5", "--max_tokens=16", "-p", "Tell me a story", "--threads", "1");
    assert_string_equal(first, second);
    TEXT_OF(second, "generate", "--seed", "6", "--max-tokens", "16", "Tell me a story");
    assert_string_not_equal(first, second);
    struct process process;
    RUN(&process, 0, "Tell me a story", "generate", "--seed", "5", "--max-tokens", "16", "-");
    assert_int_equal(strncmp(process.out, first, strlen(first)), 0);
    assert_non_null(strstr(process.err, "tokens/s"));
    process_clear(&process);
    /* the prompt's ids as they are give the same answer */
    json_t *object = RUN_JSON("generate", "--temp", "0", "--max-tokens", "8", "Tell me a story"), *id;
    struct bb_buffer ids = {0};
    size_t i;
    json_array_foreach(json_object_get(object, "prompt_token_ids"), i, id)
        bb_buffer_format(&ids, "%s%d", i > 0 ? "," : "", (int)json_integer_value(id));
    json_t *again = RUN_JSON("generate", "--temp", "0", "--max-tokens", "8", "--tokens", ids.data);
    assert_true(json_equal(json_object_get(object, "token_ids"), json_object_get(again, "token_ids")));
    bb_buffer_clear(&ids);
    json_decref(again);
    /* speculation does not change what the likeliest tokens are */
    again = RUN_JSON("generate", "--temp", "0", "--max-tokens", "8", "--ngram-size", "2", "Tell me a story");
    assert_true(json_equal(json_object_get(object, "token_ids"), json_object_get(again, "token_ids")));
    json_decref(again);
    again = RUN_JSON("generate", "--temp", "0", "--max-tokens", "8", "--draft-model", MODEL, "Tell me a story");
    assert_true(json_equal(json_object_get(object, "token_ids"), json_object_get(again, "token_ids")));
    json_decref(again);
    json_decref(object);
}

static void test_generate_stops(void **state)
{
    (void)state;
    char text[4096], cut[4096];
    TEXT_OF(text, "generate", "--temp", "0", "--max-tokens", "40", "--raw", "Once upon a time");
    char *space = strchr(text + 8, ' ');
    assert_non_null(space);
    char stop[8] = "";
    snprintf(stop, sizeof stop, "%.4s", space);
    TEXT_OF(cut, "generate", "--temp", "0", "--max-tokens", "40", "--raw", "--stop", "zzzz", "--stop", stop,
            "Once upon a time");
    assert_null(strstr(cut, stop));
    assert_int_equal(strncmp(text, cut, strlen(cut)), 0);
    json_t *object = RUN_JSON("generate", "--temp", "0", "--stop", stop, "--raw", "Once upon a time");
    assert_string_equal(json_string_value(json_object_get(object, "finish_reason")), "stop");
    json_decref(object);
    /* a bias that leaves one token */
    object = RUN_JSON("generate", "--temp", "0", "--max-tokens", "3", "--logit-bias", "{\"300\": 1000}", "hello");
    assert_int_equal(json_integer_value(json_array_get(json_object_get(object, "token_ids"), 2)), 300);
    json_decref(object);
}

/* --extra-eos-token: by name and by id. The bias leaves one token, "a", whose id is 64. */
static void test_extra_eos_token(void **state)
{
    (void)state;
    static const char *const names[] = {"a", "64"}, *const wrong[] = {"no such token", "", "8192", "99999999999999999999"};
    struct process process;
    for (size_t i = 0; i < BB_COUNT(names); i++) {
        json_t *object = RUN_JSON("generate", "--logit-bias", "{\"64\": 1000}", "--max-tokens", "3", "--extra-eos-token",
                                  "<|im_start|>", "--extra-eos-token", names[i], "hello");
        assert_string_equal(json_string_value(json_object_get(object, "finish_reason")), "stop");
        assert_string_equal(json_string_value(json_object_get(object, "text")), "");
        assert_int_equal(length_of(object, "token_ids"), 1);
        json_decref(object);
    }
    /* Not before the text is complete, whatever the bias wants. */
    json_t *object = RUN_JSON("generate", "--temp", "0", "--logit-bias", "{\"64\": 1000}", "--extra-eos-token", "a", "--regex",
                              "[ab]+", "hello");
    assert_string_equal(json_string_value(json_object_get(object, "finish_reason")), "stop");
    assert_int_equal(json_string_value(json_object_get(object, "text"))[0], 'b');
    assert_int_equal(length_of(object, "token_ids"), 2);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(object, "token_ids"), 1)), 64);
    json_decref(object);
    for (size_t i = 0; i < BB_COUNT(wrong); i++) {
        RUN(&process, 2, "", "generate", "--extra-eos-token", wrong[i], "hello");
        assert_non_null(strstr(process.err, "--extra-eos-token"));
        assert_non_null(strstr(process.err, wrong[i]));
        process_clear(&process);
    }
    RUN(&process, 0, "hello\n", "chat", "--logit-bias", "{\"64\": 1000}", "--max-tokens", "3", "--extra-eos-token", "a");
    assert_null(strchr(process.out, 'a'));
    process_clear(&process);
    RUN(&process, 0, "hello\n", "chat", "--logit-bias", "{\"64\": 1000}", "--max-tokens", "3");
    assert_non_null(strstr(process.out, "aaa"));
    process_clear(&process);
    RUN(&process, 2, "", "chat", "--extra-eos-token", "no such token");
    assert_non_null(strstr(process.err, "no such token"));
    process_clear(&process);
}

static void test_generate_forms_of_answers(void **state)
{
    (void)state;
    static const char schema[] = "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":9},"
                                 "\"legs\":{\"enum\":[2,4]}},\"required\":[\"name\",\"legs\"]}";
    char first[4096], second[4096], path[4096];
    struct process process;
    TEXT_OF(first, "generate", "--seed", "4", "--json-schema", schema, "Which animal?");
    json_t *json = json_loads(first, JSON_REJECT_DUPLICATES, NULL);
    assert_true(json_is_string(json_object_get(json, "name")));
    assert_true(json_is_integer(json_object_get(json, "legs")));
    assert_int_equal(json_object_size(json), 2);
    json_decref(json);
    snprintf(path, sizeof path, "%s", scratch_text("schema.json", schema));
    TEXT_OF(second, "generate", "--seed", "4", "--json-schema", path, "Which animal?");
    assert_string_equal(first, second);
    TEXT_OF(second, "generate", "--seed", "4", "--ngram-size", "2", "--json-schema", path, "Which animal?");
    assert_string_equal(first, second);
    TEXT_OF(first, "generate", "--regex", "(red|gr(e|a)y)!", "Which colour?");
    assert_true(strcmp(first, "red!") == 0 || strcmp(first, "grey!") == 0 || strcmp(first, "gray!") == 0);
    snprintf(path, sizeof path, "%s", scratch_text("list.gbnf", "root ::= item item\nitem ::= \"- \" [a-z]{3} \"\\n\"\n"));
    TEXT_OF(first, "generate", "--seed", "2", "--grammar", path, "Two things");
    assert_int_equal(strlen(first), 12);
    assert_true(first[0] == '-' && first[6] == '-');
    /* What is wrong is told by where it stands. */
    RUN(&process, 1, "", "generate", "--json-schema", "{\"properties\":{\"a\":{\"not\":{}}}}", "hello");
    assert_non_null(strstr(process.err, "/properties/a/not"));
    process_clear(&process);
    RUN(&process, 1, "", "generate", "--regex", "a(b", "hello");
    assert_non_null(strstr(process.err, "column 2"));
    process_clear(&process);
    snprintf(path, sizeof path, "%s", scratch_text("wrong.gbnf", "root ::= \"a\"\n  | other\n"));
    RUN(&process, 1, "", "generate", "--grammar", path, "hello");
    assert_non_null(strstr(process.err, "line 2"));
    process_clear(&process);
    RUN(&process, 1, "", "generate", "--json-schema", scratch_path("absent.json"), "hello");
    assert_non_null(strstr(process.err, "absent.json"));
    process_clear(&process);
    RUN(&process, 1, "", "generate", "--grammar", scratch_path("absent.gbnf"), "hello");
    assert_non_null(strstr(process.err, "absent.gbnf"));
    process_clear(&process);
}

static void test_prompt_cache(void **state)
{
    (void)state;
    struct process first, second;
    char file[512];
    snprintf(file, sizeof file, "%s", scratch_path("prompt.cache"));
    RUN(&first, 0, "", "generate", "--temp", "0", "--max-tokens", "8", "--prompt-cache-file", file, "Tell me a story");
    assert_non_null(strstr(first.err, "(0 kept)"));
    RUN(&second, 0, "", "generate", "--temp", "0", "--max-tokens", "8", "--prompt-cache-file", file, "Tell me a story");
    assert_string_equal(first.out, second.out);
    assert_null(strstr(second.err, "(0 kept)"));
    process_clear(&first);
    process_clear(&second);
    const char *other = golden_path("models/qwen3-4bit");
    if (other != NULL) {
        RUN(&first, 1, "", "generate", "-m", other, "--prompt-cache-file", file, "hello");
        assert_non_null(strstr(first.err, "prompt.cache"));
        process_clear(&first);
    }
    scratch_text("prompt.cache", "nonsense");
    RUN(&first, 1, "", "generate", "--prompt-cache-file", file, "hello");
    process_clear(&first);
}

static void test_interrupt(void **state)
{
    (void)state;
    struct process process;
    process_start(&process, "",
                  (const char *const[]){"generate", "--seed", "1", "--ignore-eos", "--max-tokens", "100000",
                                        "--max-kv-size", "256", "Write a story about a fox", NULL});
    struct stat status = {0};
    struct timespec pause = {.tv_nsec = 5000000};
    for (int i = 0; i < 6000 && status.st_size < 20; i++) { /* until some text is there */
        nanosleep(&pause, NULL);
        stat(scratch_path("process-out"), &status);
    }
    assert_int_equal(kill(process.id, SIGINT), 0);
    process_wait(&process);
    assert_int_equal(process.code, 0);
    assert_true(process.out_size >= 20);
    assert_int_equal(process.out[process.out_size - 1], '\n');
    assert_non_null(strstr(process.err, "tokens/s"));
    process_clear(&process);
}

static void test_chat(void **state)
{
    (void)state;
    struct process process;
    char input[1024];
    snprintf(input, sizeof input,
             "/help\nTell me a story\nAnd then?\n/save %s\n/reset\nHello\n/save %s\n/exit\nnever\n",
             scratch_path("one.json"), scratch_path("two.json"));
    RUN(&process, 0, input, "chat", "--seed", "2", "--max-tokens", "10", "--system", "Be kind.");
    assert_non_null(strstr(process.err, "/reset"));
    process_clear(&process);
    json_t *messages = json_load_file(scratch_path("one.json"), 0, NULL);
    static const char *const roles[] = {"system", "user", "assistant", "user", "assistant"};
    assert_int_equal(json_array_size(messages), BB_COUNT(roles));
    for (size_t i = 0; i < BB_COUNT(roles); i++)
        assert_string_equal(json_string_value(json_object_get(json_array_get(messages, i), "role")), roles[i]);
    assert_string_equal(json_string_value(json_object_get(json_array_get(messages, 3), "content")), "And then?");
    json_decref(messages);
    messages = json_load_file(scratch_path("two.json"), 0, NULL);
    assert_int_equal(json_array_size(messages), 3);
    json_decref(messages);
}

/* ---- the others ---- */

static void test_score(void **state)
{
    (void)state;
    json_t *object = RUN_JSON("score", "--tokens", "100,200,300,400", "--logits", scratch_path("out.safetensors"));
    assert_int_equal((int)number_of(object, "tokens"), 4);
    assert_int_equal(length_of(object, "token_logprobs"), 3);
    double sum = 0.0;
    for (size_t i = 0; i < 3; i++)
        sum -= json_number_value(json_array_get(json_object_get(object, "token_logprobs"), i));
    assert_true(fabs(number_of(object, "nll") - sum / 3.0) < 1e-9);
    assert_true(fabs(number_of(object, "perplexity") - exp(sum / 3.0)) < 1e-6 * exp(sum / 3.0));
    assert_int_equal(json_object_size(object), 4);
    size_t size = 0;
    char *file = process_read("out.safetensors", &size);
    uint64_t length;
    memcpy(&length, file, sizeof length);
    assert_int_equal(size, 8 + length + 4 * 8192 * sizeof(float));
    json_t *header = json_loadb(file + 8, length, 0, NULL);
    json_t *shape = json_pack("[i, i]", 4, 8192);
    assert_true(json_equal(json_object_get(json_object_get(header, "logits"), "shape"), shape));
    json_decref(shape);
    /* the logits give the log-probabilities */
    float *logits = bb_allocate(8192, sizeof *logits);
    memcpy(logits, file + 8 + length + 2 * 8192 * sizeof(float), 8192 * sizeof(float));
    double total = 0.0;
    for (size_t i = 0; i < 8192; i++)
        total += exp((double)logits[i] - (double)logits[400]);
    double logprob = json_number_value(json_array_get(json_object_get(object, "token_logprobs"), 2));
    assert_true(fabs(-log(total) - logprob) < 1e-4);
    bb_release(logits);
    bb_release(file);
    json_decref(header);
    json_decref(object);
    object = RUN_JSON("score", "--tokens", "5");
    assert_true(json_is_null(json_object_get(object, "nll")));
    json_decref(object);
    scratch_text("text.txt", "The fox ran into the wood.");
    object = RUN_JSON("score", "--file", scratch_path("text.txt"));
    json_t *same = RUN_JSON("score", "--text", "The fox ran into the wood.");
    assert_true(json_equal(object, same));
    json_decref(object);
    json_decref(same);
    struct process process;
    RUN(&process, 1, "", "score", "--tokens", "1,2", "--logits", scratch_path("no/such/folder/out.safetensors"));
    process_clear(&process);
}

static void test_inspect(void **state)
{
    (void)state;
    json_t *object = RUN_JSON("inspect", "-m", MODEL);
    assert_true(json_is_object(object));
    char *text = json_dumps(object, 0);
    assert_non_null(strstr(text, "qwen3"));
    free(text);
    json_decref(object);
    struct process process;
    RUN(&process, 0, "", "inspect", MODEL);
    assert_non_null(strstr(process.out, "qwen3"));
    process_clear(&process);
}

static void test_bench(void **state)
{
    (void)state;
    json_t *object = RUN_JSON("bench", "--prompt-tokens", "8", "--generation-tokens", "4", "--repetitions", "3",
                              "--batch", "2", "--threads", "1");
    static const char *const speeds[] = {"prompt_tokens_per_s", "generation_tokens_per_s", "single_generation_tokens_per_s"};
    for (size_t i = 0; i < BB_COUNT(speeds); i++) {
        const json_t *speed = json_object_get(object, speeds[i]);
        assert_true(number_of(speed, "min") > 0.0);
        assert_true(number_of(speed, "min") <= number_of(speed, "median"));
        assert_true(number_of(speed, "median") <= number_of(speed, "max"));
    }
    assert_true(number_of(object, "read_bandwidth_bytes_per_s") > 1e8);
    assert_true(number_of(object, "batch_ratio") > 0.0);
    assert_true(number_of(object, "bandwidth_share") > 0.0);
    assert_true(number_of(object, "load_s") > 0.0);
    assert_true(number_of(object, "peak_memory_bytes") > 1e6);
    json_decref(object);
    struct process process;
    RUN(&process, 0, "", "bench", "--prompt-tokens", "8", "--generation-tokens", "4", "--repetitions", "1");
    assert_non_null(strstr(process.out, "GB/s"));
    process_clear(&process);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_usage),          cmocka_unit_test(test_wrong_options),
        cmocka_unit_test(test_failures),       cmocka_unit_test(test_documents),
        cmocka_unit_test(test_tokenize),       cmocka_unit_test(test_golden_tokenizers),
        cmocka_unit_test(test_template),       cmocka_unit_test(test_golden_templates),
        cmocka_unit_test(test_generate_json),  cmocka_unit_test(test_generate_forms),
        cmocka_unit_test(test_generate_stops), cmocka_unit_test(test_extra_eos_token), cmocka_unit_test(test_generate_forms_of_answers), cmocka_unit_test(test_prompt_cache),
        cmocka_unit_test(test_interrupt),      cmocka_unit_test(test_chat),
        cmocka_unit_test(test_score),          cmocka_unit_test(test_inspect),
        cmocka_unit_test(test_bench),
    };
    return cmocka_run_group_tests(tests, setup, scratch_teardown);
}
