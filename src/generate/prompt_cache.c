/* Sessions in files. Metadata: "format" and "version", one entry for each thing that must agree between the writing and the reading session, and a
 * checksum of the three tensors (the safetensors reader checks the header, nothing would notice a flipped bit in the cache). */
#include "generate/prompt_cache.h"

#include "files/safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FORMAT_NAME    "bombus-session"
#define FORMAT_VERSION "2"

enum { TEXT_SIZE = 32 };

/* What must agree, as text, with the words that an error uses. */
struct agreement {
    const char *key, *what;
    char value[TEXT_SIZE];
};
enum { AGREEMENT_COUNT = 6 };

static const char *kv_type_name(int32_t type)
{
    switch ((enum bb_kv_type)type) {
    case BB_KV_F32: return "f32";
    case BB_KV_F16: return "f16";
    case BB_KV_Q8: return "8";
    case BB_KV_Q4: return "4";
    }
    return "unknown";
}

/* `adapters`: identity's content of a session to write, its adapters of one that reads. */
static void list_agreements(struct bb_session_identity identity, uint64_t adapters, struct agreement list[AGREEMENT_COUNT])
{
    list[0] = (struct agreement){.key = "model", .what = "model"};
    snprintf(list[0].value, TEXT_SIZE, "%016" PRIx64 "-%d", identity.fingerprint, identity.vocab_size);
    list[1] = (struct agreement){.key = "kv_bits", .what = "kv_bits"};
    if (identity.kv_group_size == 0)
        snprintf(list[1].value, TEXT_SIZE, "%s", kv_type_name(identity.kv_type));
    else
        snprintf(list[1].value, TEXT_SIZE, "%s in groups of %d", kv_type_name(identity.kv_type), identity.kv_group_size);
    list[2] = (struct agreement){.key = "precision", .what = "precision"};
    snprintf(list[2].value, TEXT_SIZE, "%s", identity.is_exact ? "exact" : "fast");
    list[3] = (struct agreement){.key = "max_kv_size", .what = "max_kv_size"};
    snprintf(list[3].value, TEXT_SIZE, "%d", identity.max_kv_size);
    list[4] = (struct agreement){.key = "context_size", .what = "context_size"};
    snprintf(list[4].value, TEXT_SIZE, "%d", identity.context_size);
    list[5] = (struct agreement){.key = "adapters", .what = "adapters"};
    if (adapters == 0)
        snprintf(list[5].value, TEXT_SIZE, "none");
    else
        snprintf(list[5].value, TEXT_SIZE, "%016" PRIx64, adapters);
}

struct content {
    const void *tokens, *cache, *logits; /* logits may be absent */
    size_t token_count, cache_size, logits_size;
};

static void checksum(const struct content *content, char text[TEXT_SIZE])
{
    uint64_t hash = bb_hash(content->tokens, content->token_count * sizeof(int32_t), 1);
    hash = bb_hash(content->cache, content->cache_size, hash);
    hash = bb_hash(content->logits, content->logits_size, hash);
    snprintf(text, TEXT_SIZE, "%016" PRIx64, hash);
}

bombus_status bb_prompt_cache_save(const struct bb_session *session, const char *path, bombus_error *error)
{
    struct agreement agreements[AGREEMENT_COUNT];
    struct bb_buffer bytes = {0};
    char sum[TEXT_SIZE];
    const char *metadata[2 * (AGREEMENT_COUNT + 3)] = {"format",       FORMAT_NAME, "version",
                                                       FORMAT_VERSION, "checksum",  sum};
    int32_t vocab_size = bb_session_model(session)->recipe.vocab_size;
    bombus_status status = bb_session_write(session, &bytes, error);
    if (status == BOMBUS_OK) {
        struct content content = {.tokens = session->tokens,
                                  .token_count = (size_t)session->committed,
                                  .cache = bytes.data,
                                  .cache_size = bytes.length,
                                  .logits = bb_session_logits(session)};
        content.logits_size = content.logits != NULL ? (size_t)vocab_size * sizeof(float) : 0;
        struct bb_safetensors_entry entries[3] = {
            {.name = "tokens",
             .dtype = BB_I32,
             .rank = 1,
             .shape = {session->committed},
             .data = content.tokens,
             .size = content.token_count * sizeof(int32_t)},
            {.name = "cache",
             .dtype = BB_U8,
             .rank = 1,
             .shape = {(int64_t)bytes.length},
             .data = bytes.data,
             .size = bytes.length},
            {.name = "logits",
             .dtype = BB_F32,
             .rank = 1,
             .shape = {vocab_size},
             .data = content.logits,
             .size = content.logits_size},
        };
        struct bb_session_identity identity = bb_session_identify(session);
        list_agreements(identity, session->count > 0 ? identity.content : identity.adapters, agreements);
        for (size_t i = 0; i < AGREEMENT_COUNT; i++) {
            metadata[6 + 2 * i] = agreements[i].key;
            metadata[7 + 2 * i] = agreements[i].value;
        }
        checksum(&content, sum);
        status =
            bb_safetensors_write(path, entries, content.logits != NULL ? 3 : 2, metadata, AGREEMENT_COUNT + 3, error);
    }
    bb_buffer_clear(&bytes);
    return status;
}

static bombus_status check_metadata(const struct bb_session *session, const struct bb_safetensors *file,
                                    const char *path, bombus_error *error)
{
    const char *format = bb_safetensors_metadata(file, "format"), *version = bb_safetensors_metadata(file, "version");
    if (format == NULL || strcmp(format, FORMAT_NAME) != 0)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: not a prompt cache of bombus", path);
    if (version == NULL || strcmp(version, FORMAT_VERSION) != 0)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED, "%s: version %.20s of the format, expected " FORMAT_VERSION,
                       path, version == NULL ? "(none)" : version);
    struct agreement agreements[AGREEMENT_COUNT];
    struct bb_session_identity identity = bb_session_identify(session);
    list_agreements(identity, identity.adapters, agreements);
    for (size_t i = 0; i < AGREEMENT_COUNT; i++) {
        const char *value = bb_safetensors_metadata(file, agreements[i].key);
        if (value == NULL)
            return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: metadata '%s' is missing", path, agreements[i].key);
        if (strcmp(value, agreements[i].value) != 0)
            return bb_fail(error, BOMBUS_ERROR_MISMATCH, "%s: written with %s %.40s, the session has %s", path,
                           agreements[i].what, value, agreements[i].value);
    }
    return BOMBUS_OK;
}

static bombus_status find_part(const struct bb_safetensors *file, const char *path, const char *name,
                               enum bb_dtype dtype, int64_t expected, const void **data, size_t *size,
                               bombus_error *error)
{
    const struct bb_safetensors_entry *entry = bb_safetensors_find(file, name);
    if (entry == NULL)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: tensor '%s' is missing", path, name);
    if (entry->dtype != dtype || entry->rank != 1 || (expected >= 0 && entry->shape[0] != expected))
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: tensor '%s' has a wrong type or shape", path, name);
    *data = entry->data;
    *size = entry->size;
    return BOMBUS_OK;
}

static bombus_status find_content(const struct bb_session *session, const struct bb_safetensors *file, const char *path,
                                  struct content *content, bombus_error *error)
{
    size_t token_bytes = 0;
    int32_t vocab_size = bb_session_model(session)->recipe.vocab_size;
    char sum[TEXT_SIZE];
    bombus_status status = find_part(file, path, "tokens", BB_I32, -1, &content->tokens, &token_bytes, error);
    if (status == BOMBUS_OK)
        status = find_part(file, path, "cache", BB_U8, -1, &content->cache, &content->cache_size, error);
    if (status == BOMBUS_OK && bb_safetensors_find(file, "logits") != NULL)
        status = find_part(file, path, "logits", BB_F32, vocab_size, &content->logits, &content->logits_size, error);
    if (status != BOMBUS_OK)
        return status;
    content->token_count = token_bytes / sizeof(int32_t);
    checksum(content, sum);
    const char *written = bb_safetensors_metadata(file, "checksum");
    if (written == NULL || strcmp(written, sum) != 0)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: the content does not have the checksum it was written with",
                       path);
    if (content->token_count > (size_t)bb_session_context_size(session))
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: %zu tokens, more than its context_size", path,
                       content->token_count);
    return BOMBUS_OK;
}

/* The file's data may lie unaligned: copies of tokens and logits. */
static bombus_status replace(struct bb_session *session, const char *path, const struct content *content,
                             bombus_error *error)
{
    int32_t *tokens = bb_allocate(content->token_count, sizeof *tokens),
            vocab_size = bb_session_model(session)->recipe.vocab_size;
    float *logits = content->logits_size > 0 ? bb_allocate(1, content->logits_size) : NULL;
    bombus_status status = BOMBUS_OK;
    if (tokens == NULL || (content->logits_size > 0 && logits == NULL)) {
        status = bb_fail_memory(error, content->token_count * sizeof *tokens + content->logits_size, path);
        goto done;
    }
    if (content->token_count > 0)
        memcpy(tokens, content->tokens, content->token_count * sizeof *tokens);
    if (logits != NULL)
        memcpy(logits, content->logits, content->logits_size);
    for (size_t i = 0; i < content->token_count && status == BOMBUS_OK; i++)
        if (tokens[i] < 0 || tokens[i] >= vocab_size)
            status = bb_fail(error, BOMBUS_ERROR_FORMAT, "%s: token %d is not in the vocabulary of %d", path, tokens[i],
                             vocab_size);
    if (status == BOMBUS_OK)
        status = bb_session_replace(session, tokens, (int32_t)content->token_count, content->cache, content->cache_size,
                                    logits, error);
done:
    bb_release(tokens);
    bb_release(logits);
    return status;
}

bombus_status bb_prompt_cache_load(struct bb_session *session, const char *path, bombus_error *error)
{
    struct bb_safetensors file;
    struct content content = {0};
    bombus_status status = bb_safetensors_open(&file, path, error);
    if (status != BOMBUS_OK)
        return status;
    status = check_metadata(session, &file, path, error);
    if (status == BOMBUS_OK)
        status = find_content(session, &file, path, &content, error);
    if (status == BOMBUS_OK)
        status = replace(session, path, &content, error);
    bb_safetensors_close(&file);
    return status;
}
