/* Puts a tokenizer together from a folder's tokenizer.json, tokenizer_config.json, generation_config.json and
 * config.json, and takes it apart. */
#include "base/file.h"
#include "base/memory.h"
#include "text/token_trie.h"
#include "text/tokenizer_cache.h"
#include "text/tokenizer_parts.h"
#include "text/tokenizer_source.h"

#include <string.h>

enum {
    CONFIG_LIMIT = 64 * 1024 * 1024,
    CACHED_SIZE = 256 * 1024 /* smaller files are parsed faster than a copy is checked */
};

/* Releases what a folder's files were made into, and leaves a zeroed tokenizer. */
static void clear(struct bb_tokenizer *tokenizer)
{
    bb_unigram_clear(&tokenizer->unigram);
    bb_vocabulary_close(&tokenizer->vocabulary);
    bb_normalizer_free(tokenizer->normalizer);
    bb_pre_tokenizer_free(tokenizer->pre_tokenizer);
    bb_post_processor_clear(&tokenizer->post_processor);
    bb_decoder_free(tokenizer->decoder);
    bb_added_tokens_clear(&tokenizer->added);
    bb_ids_clear(&tokenizer->eos_ids);
    bb_arena_clear(&tokenizer->arena);
    *tokenizer = (struct bb_tokenizer){0};
}

/* `flags` of jansson. */
static bombus_status parse_json(json_t **json, const char *text, size_t length, size_t flags, const char *path,
                                bombus_error *error)
{
    json_error_t fault;
    *json = json_loadb(text, length, JSON_ALLOW_NUL | flags, &fault);
    if (*json == NULL && json_error_code(&fault) == json_error_out_of_memory)
        return bb_fail_memory(error, length, path);
    if (*json == NULL)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: %s", path, fault.text);
    return BOMBUS_OK;
}

/* *json is NULL where the folder has no such file. */
static bombus_status read_config(json_t **json, const char *folder, const char *name, bombus_error *error)
{
    char *data = NULL, *path = bb_path_join(folder, name);
    size_t size;
    bombus_status status = BOMBUS_OK;
    *json = NULL;
    if (path == NULL)
        return bb_fail_memory(error, strlen(folder), name);
    if (bb_file_exists(path)) {
        status = bb_file_read(&data, &size, path, CONFIG_LIMIT, error);
        if (status == BOMBUS_OK) /* model_max_length is often 1e30, written as an integer */
            status = parse_json(json, data, size, JSON_DECODE_INT_AS_REAL, path, error);
    }
    bb_release(data);
    bb_release(path);
    return status;
}

/* A text of the model's options; *text stays NULL where it is not set. */
static bombus_status copy_option(struct bb_tokenizer *tokenizer, json_t *model, const char *key, const char **text,
                                 bombus_error *error)
{
    json_t *value = json_object_get(model, key);
    if (!json_is_string(value))
        return BOMBUS_OK;
    *text = bb_arena_copy_text(&tokenizer->arena, json_string_value(value), json_string_length(value));
    return *text != NULL ? BOMBUS_OK : bb_fail_memory(error, json_string_length(value), "a tokenizer");
}

static bombus_status read_bpe_options(struct bb_tokenizer *tokenizer, const struct bb_component *model)
{
    struct bb_bpe *bpe = &tokenizer->bpe;
    json_t *dropout = json_object_get(model->json, "dropout");
    if (json_is_number(dropout) && json_number_value(dropout) != 0.0)
        return bb_fail(model->error, BOMBUS_ERROR_UNSUPPORTED, "%s: model.dropout: encoding at random is not supported",
                       model->path);
    bombus_status status = bb_component_flag(model, "fuse_unk", false, &bpe->fuse_unk);
    if (status == BOMBUS_OK)
        status = bb_component_flag(model, "byte_fallback", false, &bpe->byte_fallback);
    if (status == BOMBUS_OK)
        status = bb_component_flag(model, "ignore_merges", false, &bpe->ignore_merges);
    if (status == BOMBUS_OK)
        status = copy_option(tokenizer, model->json, "unk_token", &bpe->unk_token, model->error);
    if (status == BOMBUS_OK)
        status = copy_option(tokenizer, model->json, "continuing_subword_prefix", &bpe->subword_prefix, model->error);
    if (status == BOMBUS_OK)
        status = copy_option(tokenizer, model->json, "end_of_word_suffix", &bpe->word_suffix, model->error);
    return status;
}

static bombus_status prepare_model(struct bb_tokenizer *tokenizer, const struct bb_component *model)
{
    const struct bb_vocabulary *vocabulary = &tokenizer->vocabulary;
    json_t *unk = json_object_get(model->json, "unk_id");
    bool has_unk = json_is_integer(unk);
    if ((vocabulary->scores != NULL) != tokenizer->is_unigram)
        return bb_component_fail(model, "vocab",
                                 tokenizer->is_unigram ? "a list of [token, score]" : "an object {token: id}");
    if (!tokenizer->is_unigram) {
        tokenizer->bpe.vocabulary = vocabulary;
        bb_bpe_prepare(&tokenizer->bpe);
        return BOMBUS_OK;
    }
    if (has_unk && (json_integer_value(unk) < 0 || json_integer_value(unk) >= vocabulary->token_count))
        return bb_component_fail(model, "unk_id", "an id of the vocabulary");
    tokenizer->unigram.vocabulary = vocabulary;
    tokenizer->unigram.unk_id = has_unk ? (int32_t)json_integer_value(unk) : -1;
    bombus_status status = bb_component_flag(model, "byte_fallback", false, &tokenizer->unigram.byte_fallback);
    return status == BOMBUS_OK ? bb_unigram_prepare(&tokenizer->unigram, model->error) : status;
}

/* Reads the model's options, and its vocabulary unless the cache gave it already. */
static bombus_status load_model(struct bb_tokenizer *tokenizer, const struct bb_component *model,
                                const struct bb_tokenizer_source *source, bool has_vocabulary)
{
    static const char *const names[] = {"BPE", "Unigram"};
    size_t kind = 0;
    bombus_status status = BOMBUS_OK;
    if (json_object_get(model->json, "type") != NULL)
        status = bb_component_kind(model, names, BB_COUNT(names), &kind);
    else if (!has_vocabulary && source->merges.text == NULL) /* old files name no type: only BPE has merges */
        status = bb_fail(model->error, BOMBUS_ERROR_UNSUPPORTED,
                         "%s: model without type or merges; known are BPE, Unigram", model->path);
    tokenizer->is_unigram = kind == 1;
    if (status == BOMBUS_OK && !tokenizer->is_unigram)
        status = read_bpe_options(tokenizer, model);
    if (status == BOMBUS_OK && !has_vocabulary)
        status = bb_vocabulary_read(&tokenizer->vocabulary, source->vocab, source->merges,
                                    tokenizer->bpe.subword_prefix, model->path, model->error);
    return status == BOMBUS_OK ? prepare_model(tokenizer, model) : status;
}

/* mlx-lm's choice of a streaming detokenizer, by the decoder's JSON. */
static bombus_status choose_stream(struct bb_tokenizer *tokenizer, const struct bb_component *decoder)
{
    static const struct {
        const char *json;
        enum bb_stream_kind kind;
    } known[] = {
        {"{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\","
         "\"pattern\":{\"String\":\"\xE2\x96\x81\"},\"content\":\" \"},"
         "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
         "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]}",
         BB_STREAM_SENTENCE},
        {"{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\","
         "\"pattern\":{\"String\":\"\xE2\x96\x81\"},\"content\":\" \"},"
         "{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"}]}",
         BB_STREAM_SENTENCE_SPACE},
    };
    const char *type = json_string_value(json_object_get(decoder->json, "type"));
    tokenizer->stream_kind = type != NULL && strcmp(type, "ByteLevel") == 0 ? BB_STREAM_BYTE_LEVEL : BB_STREAM_NAIVE;
    for (size_t i = 0; i < BB_COUNT(known); i++) {
        json_t *json;
        bombus_status status = parse_json(&json, known[i].json, strlen(known[i].json), 0, "a decoder", decoder->error);
        if (status != BOMBUS_OK)
            return status;
        if (json_equal(json, decoder->json))
            tokenizer->stream_kind = known[i].kind;
        json_decref(json);
    }
    return BOMBUS_OK;
}

static bombus_status load_components(struct bb_tokenizer *tokenizer, json_t *json,
                                     const struct bb_tokenizer_source *source, bool has_vocabulary, const char *path,
                                     bombus_error *error)
{
    struct bb_component model = {
        .json = json_object_get(json, "model"), .path = path, .where = "model", .error = error};
    struct bb_component normalizer = model, pre_tokenizer = model, post_processor = model, decoder = model,
                        added = model;
    normalizer.json = json_object_get(json, normalizer.where = "normalizer");
    pre_tokenizer.json = json_object_get(json, pre_tokenizer.where = "pre_tokenizer");
    post_processor.json = json_object_get(json, post_processor.where = "post_processor");
    decoder.json = json_object_get(json, decoder.where = "decoder");
    added.json = json_object_get(json, added.where = "added_tokens");
    bombus_status status = load_model(tokenizer, &model, source, has_vocabulary);
    if (status == BOMBUS_OK)
        status = bb_normalizer_create(&tokenizer->normalizer, &normalizer);
    if (status == BOMBUS_OK)
        status = bb_pre_tokenizer_create(&tokenizer->pre_tokenizer, &pre_tokenizer);
    if (status == BOMBUS_OK)
        status = bb_post_processor_create(&tokenizer->post_processor, &post_processor);
    if (status == BOMBUS_OK)
        status = bb_decoder_create(&tokenizer->decoder, &decoder);
    if (status == BOMBUS_OK)
        status = choose_stream(tokenizer, &decoder);
    if (status == BOMBUS_OK)
        status = bb_added_tokens_create(&tokenizer->added, &added, &tokenizer->vocabulary, tokenizer->normalizer);
    return status;
}

/* tokenizer.json, by way of the cache where that has it. */
static bombus_status load_tokenizer_json(struct bb_tokenizer *tokenizer, const char *path, const char *cache_folder,
                                         bool may_read_cache, bombus_error *error)
{
    struct bb_tokenizer_source source;
    json_t *json = NULL;
    bool is_cached = false;
    bombus_status status = bb_tokenizer_source_open(&source, path, error);
    if (cache_folder != NULL && source.size < CACHED_SIZE)
        cache_folder = NULL;
    if (status == BOMBUS_OK && cache_folder != NULL && may_read_cache)
        is_cached = bb_tokenizer_cache_read(cache_folder, &source, &tokenizer->vocabulary);
    if (status == BOMBUS_OK && !is_cached)
        status = bb_tokenizer_source_split(&source, path, error);
    if (status == BOMBUS_OK)
        status = parse_json(&json, source.rest.data, source.rest.length, 0, path, error);
    if (status == BOMBUS_OK)
        status = load_components(tokenizer, json, &source, is_cached, path, error);
    if (status == BOMBUS_OK && cache_folder != NULL && !is_cached)
        bb_tokenizer_cache_write(cache_folder, &source, &tokenizer->vocabulary);
    json_decref(json);
    bb_tokenizer_source_close(&source);
    if (is_cached && status != BOMBUS_OK && status != BOMBUS_ERROR_MEMORY) {
        /* If the copy is to blame, the file itself will do; if the file is, it gives the same error. */
        clear(tokenizer);
        return load_tokenizer_json(tokenizer, path, cache_folder, false, error);
    }
    return status;
}

static void add_eos_id(struct bb_tokenizer *tokenizer, double id)
{
    if (!(id >= 0 && id <= BB_MAX_TOKEN_ID) || id != (double)(int32_t)id)
        return;
    for (size_t i = 0; i < tokenizer->eos_ids.count; i++)
        if (tokenizer->eos_ids.items[i] == (int32_t)id)
            return;
    bb_ids_add(&tokenizer->eos_ids, (int32_t)id);
}

/* eos_token_id: a number or a list of numbers. */
static void add_eos_field(struct bb_tokenizer *tokenizer, json_t *config)
{
    json_t *field = json_object_get(config, "eos_token_id");
    if (json_is_number(field))
        add_eos_id(tokenizer, json_number_value(field));
    for (size_t i = 0; i < json_array_size(field); i++)
        if (json_is_number(json_array_get(field, i)))
            add_eos_id(tokenizer, json_number_value(json_array_get(field, i)));
}

/* A token of tokenizer_config.json: a text, or an object with `content`. */
static bombus_status copy_token(struct bb_tokenizer *tokenizer, json_t *config, const char *key, char **token,
                                bombus_error *error)
{
    json_t *field = json_object_get(config, key);
    if (json_is_object(field))
        field = json_object_get(field, "content");
    if (!json_is_string(field))
        return BOMBUS_OK;
    *token = bb_arena_copy_text(&tokenizer->arena, json_string_value(field), json_string_length(field));
    return *token != NULL ? BOMBUS_OK : bb_fail_memory(error, json_string_length(field), key);
}

/* Fills a zeroed tokenizer. */
static bombus_status load(struct bb_tokenizer *tokenizer, const char *folder, const char *cache_folder,
                          bombus_error *error)
{
    static const char *const id_files[] = {"generation_config.json", "config.json"};
    json_t *json = NULL;
    char *path = bb_path_join(folder, "tokenizer.json");
    if (path == NULL)
        return bb_fail_memory(error, strlen(folder), "tokenizer.json");
    bombus_status status = load_tokenizer_json(tokenizer, path, cache_folder, true, error);
    bb_release(path);
    for (size_t i = 0; i < BB_COUNT(id_files) && status == BOMBUS_OK; i++) {
        status = read_config(&json, folder, id_files[i], error);
        add_eos_field(tokenizer, json);
        add_eos_field(tokenizer, json_object_get(json, "text_config"));
        json_decref(json);
    }
    if (status != BOMBUS_OK)
        return status;
    status = read_config(&json, folder, "tokenizer_config.json", error);
    if (status == BOMBUS_OK)
        status = copy_token(tokenizer, json, "bos_token", &tokenizer->bos_token, error);
    if (status == BOMBUS_OK)
        status = copy_token(tokenizer, json, "eos_token", &tokenizer->eos_token, error);
    json_decref(json);
    if (status == BOMBUS_OK && tokenizer->eos_token != NULL)
        add_eos_id(tokenizer, bb_tokenizer_id(tokenizer, tokenizer->eos_token, strlen(tokenizer->eos_token)));
    if (status == BOMBUS_OK && tokenizer->eos_ids.is_failed)
        status = bb_fail_memory(error, 0, "end-of-turn ids");
    return status;
}

bombus_status bb_tokenizer_open(struct bb_tokenizer **tokenizer, const char *folder, const char *cache_folder,
                                bombus_error *error)
{
    *tokenizer = bb_allocate(1, sizeof **tokenizer);
    if (*tokenizer == NULL)
        return bb_fail_memory(error, sizeof **tokenizer, "a tokenizer");
    bombus_status status = load(*tokenizer, folder, cache_folder, error);
    if (status == BOMBUS_OK && ((*tokenizer)->trie = bb_allocate(1, sizeof *(*tokenizer)->trie)) == NULL)
        status = bb_fail_memory(error, sizeof *(*tokenizer)->trie, "a tokenizer");
    if (status != BOMBUS_OK) {
        bb_tokenizer_close(*tokenizer);
        *tokenizer = NULL;
    }
    return status;
}

void bb_tokenizer_close(struct bb_tokenizer *tokenizer)
{
    if (tokenizer == NULL)
        return;
    if (tokenizer->trie != NULL)
        bb_token_trie_free(atomic_load_explicit(tokenizer->trie, memory_order_relaxed));
    bb_release(tokenizer->trie);
    clear(tokenizer);
    bb_release(tokenizer);
}
