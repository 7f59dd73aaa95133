/* bombus.h: 4-bit language models in C. The whole public interface of libbombus, to be read top to bottom.
 *
 * The nouns: a *model* is a folder of weights in MLX's (or plain Hugging Face) safetensors format, opened in place; a
 * *tokenizer* turns text into ids and back; a *chat template* turns messages into prompt text; a *session* is one mutable
 * timeline of tokens over a model; `bombus_generate` continues it. The *hub* finds and downloads model folders.
 *
 * Conventions. Every function that can fail returns a bombus_status and takes a `bombus_error *` last, which may be NULL.
 * Option structs are plain, and zero (or NULL for the whole struct) means the default. Text is UTF-8; `const char *` is
 * NUL-terminated unless a length stands beside it. The library never prints, exits, aborts, reads the environment or
 * touches signals. Not thread-safe except where a handle's comment says so. */
#ifndef BOMBUS_H
#define BOMBUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BOMBUS_VERSION "0.1.0"

#if defined(__GNUC__)
#define BOMBUS_API __attribute__((visibility("default")))
#define BOMBUS_RESULT __attribute__((visibility("default"), warn_unused_result))
#else
#define BOMBUS_API
#define BOMBUS_RESULT
#endif

/* ---- errors ---------------------------------------------------------------------------------------------------- */

typedef enum bombus_status {
    BOMBUS_OK = 0,
    BOMBUS_ERROR_ARGUMENT,     /* a call was made wrongly: an option out of range, a NULL where none may be */
    BOMBUS_ERROR_MEMORY,       /* out of memory */
    BOMBUS_ERROR_IO,           /* a file could not be read or written */
    BOMBUS_ERROR_NOT_FOUND,    /* no such file, model, revision or tensor */
    BOMBUS_ERROR_FORMAT,       /* a file's content is damaged or not what its format says */
    BOMBUS_ERROR_UNSUPPORTED,  /* well-formed, but not something that this library (or this device) can do */
    BOMBUS_ERROR_MISMATCH,     /* two things that do not belong together: a prompt cache of another model, ... */
    BOMBUS_ERROR_CONTEXT_FULL, /* the cache cannot hold the tokens; nothing was consumed */
    BOMBUS_ERROR_LIMIT,        /* a bound on work was reached: template steps, nesting, output size */
    BOMBUS_ERROR_NETWORK,      /* the hub could not be reached, or answered wrongly */
    BOMBUS_ERROR_CANCELLED,    /* stopped by the caller */
    BOMBUS_ERROR_TEMPLATE,     /* a chat template raised an error; line and column are set */
    BOMBUS_ERROR_DIVERGED      /* a training's loss or gradients are no number any more */
} bombus_status;

typedef struct bombus_error {
    bombus_status status;
    int32_t line, column; /* 1-based place in a template or JSON text, 0 where there is none */
    char message[1000];   /* names the file, tensor or option, and what was expected; always NUL-terminated */
} bombus_error;

/* "BOMBUS_ERROR_FORMAT" and so on; never NULL. */
BOMBUS_API const char *bombus_status_name(bombus_status status);

/* The version of the library that runs, "MAJOR.MINOR.PATCH". */
BOMBUS_API const char *bombus_version(void);

/* Frees text or arrays that a function of this header returned with the words "free with bombus_free". NULL is allowed. */
BOMBUS_API void bombus_free(void *memory);

/* ---- hub ------------------------------------------------------------------------------------------------------- */

/* Called while files download, from the calling thread: first once for every file that will be, then as they grow, and now and then
 * while the hub is waited for (`file` is "" then). Return false to cancel. */
typedef bool (*bombus_progress)(void *context, const char *file, uint64_t done_bytes, uint64_t total_bytes);

typedef struct bombus_hub_options {
    const char *cache_folder;    /* HF_HUB_CACHE, or HF_HOME/hub; required for hub references */
    const char *endpoint;        /* HF_ENDPOINT; NULL: https://huggingface.co */
    const char *token;           /* HF_TOKEN; NULL: anonymous */
    const char *proxy;           /* HTTPS_PROXY; NULL: none */
    const char *no_proxy;        /* NO_PROXY */
    const char *ca_file;         /* SSL_CERT_FILE: certificates to trust (PEM); NULL: the system's */
    bool is_offline;             /* HF_HUB_OFFLINE: use only what the cache holds */
    bool check_revision;         /* ask the hub even if the cache holds the model, and download what is new */
    bool force_download;         /* download even what the cache holds */
    int32_t connection_count;    /* files downloaded side by side; 0: 4 */
    int32_t retry_count;         /* tries of a file after a broken connection or wrong bytes; 0: 5 */
    int32_t connect_timeout_ms;  /* 0: 30000 */
    int32_t stall_timeout_ms;    /* without a byte; 0: 60000 */
    int32_t retry_delay_ms;      /* before the second try, then doubled up to 30 times; 0: 500 */
    const char *const *patterns; /* shell patterns of the files wanted, NULL-terminated; NULL: what a model or an adapter needs */
    bombus_progress progress;    /* may be NULL */
    void *progress_context;
} bombus_hub_options;

/* Turns a reference into a folder: an existing folder as it is, `hf:owner/name[@revision]` or `owner/name[@revision]`
 * by way of the Hugging Face cache, downloading what is absent. Interrupted downloads are resumed, every file is checked against the
 * hub's digest of it, and several processes may share the cache. *folder: free with bombus_free. */
BOMBUS_RESULT bombus_status bombus_hub_resolve(char **folder, const char *reference, const bombus_hub_options *options,
                                               bombus_error *error);

/* ---- model ----------------------------------------------------------------------------------------------------- */

/* A loaded model. Immutable after open: any number of threads may share it. */
typedef struct bombus_model bombus_model;

typedef enum bombus_precision {
    BOMBUS_PRECISION_FAST = 0, /* activations of the quantized products rounded to int8 a group, opened adapters to
                                  bf16; everything else f32 */
    BOMBUS_PRECISION_EXACT     /* activations with the accuracy of f32: in quantized products to 24 bits a group */
} bombus_precision;

typedef struct bombus_model_options {
    const char *device;         /* NULL or "auto", "cpu" */
    bombus_precision precision; /* default for sessions of this model */
    int32_t thread_count;       /* 0: one a physical core */
    const char *cpu_level;      /* "reference", "avx2", "avx512", "neon", ...; NULL: the best this machine has */
} bombus_model_options;

/* Opens the model in `folder` (config.json, *.safetensors). The weights stay in their files, mapped read-only.
 * On failure *model is NULL. Missing and surplus tensors are BOMBUS_ERROR_FORMAT and named. */
BOMBUS_RESULT bombus_status bombus_model_open(bombus_model **model, const char *folder, const bombus_model_options *options,
                                              bombus_error *error);

/* Releases the caller's hold. Sessions keep a hold of their own. NULL is allowed. */
BOMBUS_API void bombus_model_close(bombus_model *model);

typedef struct bombus_model_info {
    const char *architecture;   /* config.json's model_type; lives as long as the model */
    const char *device;         /* "cpu (avx512, 2 threads)" */
    int64_t parameter_count;    /* weights counted once, tied ones once */
    int64_t weight_bytes;       /* bytes of the tensors in their files */
    int64_t bytes_per_token;    /* weight bytes read to generate one token (all but the embedding's other rows) */
    int32_t vocab_size, hidden_size, layer_count, max_position_embeddings;
} bombus_model_info;

BOMBUS_API void bombus_model_get_info(const bombus_model *model, bombus_model_info *info);

/* Name of a device that models can be opened on here, "cpu" the last; NULL behind it. Static. */
BOMBUS_API const char *bombus_device_name(size_t index);

/* What a model folder holds, as one JSON object (architecture, sizes, quantization by tensor, memory needed, what is
 * unsupported), without loading it. *json: free with bombus_free. */
BOMBUS_RESULT bombus_status bombus_inspect(char **json, const char *folder, bombus_error *error);

/* ---- tokenizer ------------------------------------------------------------------------------------------------- */

/* Immutable after open: any number of threads may share it. */
typedef struct bombus_tokenizer bombus_tokenizer;

/* Opens tokenizer.json (and tokenizer_config.json, generation_config.json, config.json where present) in `folder`. A compiled
 * copy of large vocabularies is kept in `cache_folder` and read from there next time; NULL: none is kept. */
BOMBUS_RESULT bombus_status bombus_tokenizer_open(bombus_tokenizer **tokenizer, const char *folder, const char *cache_folder,
                                                  bombus_error *error);
BOMBUS_API void bombus_tokenizer_close(bombus_tokenizer *tokenizer);

/* Ids of `text` (may hold NUL bytes; invalid UTF-8 is replaced as by U+FFFD). `add_special`: with the tokens that the
 * post-processor inserts. *ids: [*count], free with bombus_free. */
BOMBUS_RESULT bombus_status bombus_tokenizer_encode(const bombus_tokenizer *tokenizer, const char *text, size_t length,
                                                    bool add_special, int32_t **ids, size_t *count, bombus_error *error);

/* Text of `ids`; ids that are not in the vocabulary are left out. *text: NUL-terminated, *length without the NUL, free with
 * bombus_free. */
BOMBUS_RESULT bombus_status bombus_tokenizer_decode(const bombus_tokenizer *tokenizer, const int32_t *ids, size_t count,
                                                    bool skip_special, char **text, size_t *length, bombus_error *error);

/* Ids that end a turn: of generation_config.json, config.json and the tokenizer, without duplicates. Lives as long as the
 * tokenizer. */
BOMBUS_API const int32_t *bombus_tokenizer_eos_ids(const bombus_tokenizer *tokenizer, size_t *count);

/* Id of a token exactly as it stands in the vocabulary ("<think>"); -1 if there is none. */
BOMBUS_API int32_t bombus_tokenizer_token_id(const bombus_tokenizer *tokenizer, const char *token);

/* Text of a special token as tokenizer_config.json names it ("bos_token", "eos_token"), for chat templates; NULL where it is not
 * set. Lives as long as the tokenizer. */
BOMBUS_API const char *bombus_tokenizer_special_token(const bombus_tokenizer *tokenizer, const char *name);

/* ---- chat template --------------------------------------------------------------------------------------------- */

/* Immutable after open: any number of threads may share it. */
typedef struct bombus_template bombus_template;

/* A byte range of rendered text that a `{% generation %}` block produced. */
typedef struct bombus_span {
    size_t begin, end;
} bombus_span;

/* Compiles template source. */
BOMBUS_RESULT bombus_status bombus_template_create(bombus_template **template_, const char *source, size_t length,
                                                   bombus_error *error);
/* The chat template of a model folder: chat_template.jinja, chat_template.json or tokenizer_config.json's chat_template (its
 * entry `name`; NULL: "default"). BOMBUS_ERROR_NOT_FOUND if there is none. */
BOMBUS_RESULT bombus_status bombus_template_open(bombus_template **template_, const char *folder, const char *name,
                                                 bombus_error *error);
BOMBUS_API void bombus_template_free(bombus_template *template_);

/* Renders with the variables of a JSON object (messages, tools, add_generation_prompt, bos_token, any other; "now": the ISO
 * time that strftime_now uses, the present time where absent). As in transformers, tools and documents are none and
 * add_generation_prompt is false where absent, reasoning is found under any of its names, and continue_final_message (true, or
 * the field's name) ends the text with the last message. *text, *spans: free with bombus_free; spans may be NULL. */
BOMBUS_RESULT bombus_status bombus_template_render(const bombus_template *template_, const char *variables_json, size_t length,
                                                   char **text, size_t *text_length, bombus_span **spans, size_t *span_count,
                                                   bombus_error *error);

/* ---- adapter --------------------------------------------------------------------------------------------------- */

/* A LoRA or DoRA adapter, loaded for a model. Immutable after open: any number of threads may share it. The model's weights are not touched. */
typedef struct bombus_adapter bombus_adapter;

typedef struct bombus_adapter_options {
    float scale;    /* in place of the one that its files give (mlx-lm's scale, PEFT's alpha / r) */
    bool has_scale;
} bombus_adapter_options;

/* Opens the adapter in `folder`, of mlx-lm (adapters.safetensors) or PEFT (adapter_model.safetensors), with adapter_config.json; for a
 * reference see bombus_hub_resolve. A tensor that fits nothing in the model, or another shape than it has there, is
 * BOMBUS_ERROR_MISMATCH; a missing half, a rank that is not the config's or damage BOMBUS_ERROR_FORMAT; what the format can say and this
 * library cannot do BOMBUS_ERROR_UNSUPPORTED. Each names file, tensor, what was expected and found. On failure *adapter is NULL. */
BOMBUS_RESULT bombus_status bombus_adapter_open(bombus_adapter **adapter, const bombus_model *model, const char *folder,
                                                const bombus_adapter_options *options, bombus_error *error);

/* Releases the caller's hold, at any time and from any thread: sessions that use the adapter keep holds of their own. NULL is allowed. */
BOMBUS_API void bombus_adapter_close(bombus_adapter *adapter);

typedef struct bombus_adapter_info {
    const char *type;   /* "lora" or "dora"; static */
    const char *format; /* "mlx" or "peft"; static */
    int32_t rank;       /* the largest */
    float scale;        /* of the first module; PEFT's alpha_pattern may give others another one */
    int32_t layer_count;  /* blocks of the model that it changes */
    int32_t module_count; /* projections */
    int64_t parameter_count;
} bombus_adapter_info;

BOMBUS_API void bombus_adapter_get_info(const bombus_adapter *adapter, bombus_adapter_info *info);

/* Whether the folder holds whole weights (mlx-lm's fine_tune_type full) in place of an adapter: bombus_adapter_open refuses these, bombus_fuse_full
 * makes a model of them. */
BOMBUS_RESULT bombus_status bombus_adapter_is_full(bool *is_full, const char *folder, bombus_error *error);

/* What an adapter's folder holds, as one JSON object (format, type, rank, scale, parameters, every module with its sizes), without a
 * model. *json: free with bombus_free. */
BOMBUS_RESULT bombus_status bombus_adapter_inspect(char **json, const char *folder, bombus_error *error);

/* Writes the adapter in `folder` into `out_folder` in another format, "mlx" or "peft", with every number as it is. What that format cannot
 * say (modules of different scales; DoRA of experts and of embeddings; experts that are not all there) is
 * BOMBUS_ERROR_UNSUPPORTED, by name, and nothing is written. */
BOMBUS_RESULT bombus_status bombus_adapter_convert(const char *folder, const char *format, const char *out_folder, bombus_error *error);

/* Writes one adapter (mlx-lm's format, f32) that does what the sum of weights[i] * folders[i] does: their ranks stand one behind the
 * other. DoRA cannot be summed and is BOMBUS_ERROR_UNSUPPORTED. */
BOMBUS_RESULT bombus_status bombus_adapter_merge(const char *const *folders, const float *weights, size_t count, const char *out_folder,
                                                 bombus_error *error);

typedef struct bombus_fuse_options {
    bool is_dequantized; /* quantized matrices become bf16 (f16 where their scales are f16) */
    int32_t bits;        /* new bits of the (affine) matrices that the adapters change; 0: as they are */
    bool (*progress)(void *context, size_t done, size_t total); /* matrices; return false to cancel; may be NULL */
    void *context;
} bombus_fuse_options;

/* Writes a new model folder whose weights are the model's plus the sum of weights[i] * adapters[i] (weights NULL: each 1). Quantized matrices
 * go back into their grid, group by group on the nearest one that is found; what is smaller than its steps is lost. *report_json (free
 * with bombus_free) tells how much is not: {"survival", "matrices": [{"path", "survival", "projection", "relative", "bits"}]}, where survival is
 * 1 - |W' - (W + D)|^2 / |D|^2 for W' written, D what the adapters add; projection the share of D that W' - W has along D; relative |D| / |W|;
 * bits 0 where W' is not quantized.
 * out_folder must not hold a model; files are written one by one, each whole or not at all, config.json last. */
BOMBUS_RESULT bombus_status bombus_fuse(const bombus_model *model, const bombus_adapter *const *adapters, const float *weights, size_t count,
                                        const char *out_folder, const bombus_fuse_options *options, char **report_json, bombus_error *error);

/* The same with whole weights in place of adapters, as training with BOMBUS_FINE_TUNE_FULL leaves them in `folder`: each tensor of its
 * adapters.safetensors stands for the model's of the same name, rounded to the model's dtype (the nearest, ties to even); the report's D is what
 * training changed, "path" the tensor's name without ".weight". All other tensors stay as they are. A tensor that the model lacks or has in another
 * shape is BOMBUS_ERROR_MISMATCH, one that is quantized there BOMBUS_ERROR_UNSUPPORTED; is_dequantized and bits are BOMBUS_ERROR_ARGUMENT. */
BOMBUS_RESULT bombus_status bombus_fuse_full(const bombus_model *model, const char *folder, const char *out_folder,
                                             const bombus_fuse_options *options, char **report_json, bombus_error *error);

/* ---- session --------------------------------------------------------------------------------------------------- */

/* One timeline of tokens with its cache. One thread at a time; different sessions of a model may run at once. */
typedef struct bombus_session bombus_session;

typedef struct bombus_session_options {
    int32_t context_size;  /* positions that the session can hold; 0: max_position_embeddings */
    int32_t max_kv_size;   /* keep the first 4 and the latest positions, this many in all; 0: all */
    int32_t kv_bits;       /* 8 or 4: quantized cache, from the first position on; 0: not quantized. A prompt's first chunk is
                            * rounded after its own attention, as in mlx-lm: there prefill_step_size matters */
    int32_t kv_group_size; /* with kv_bits, 32, 64 or 128: values of a head that share scale and bias, must divide head_dim; 0: 64,
                            * or 32 where head_dim needs it */
    int32_t prefill_step_size; /* prompt tokens a step; 0: 512 */
    bombus_precision precision;
    bool has_precision;    /* false: the model's */
} bombus_session_options;

BOMBUS_RESULT bombus_status bombus_session_create(bombus_session **session, bombus_model *model,
                                                  const bombus_session_options *options, bombus_error *error);
BOMBUS_API void bombus_session_free(bombus_session *session);

/* `count` sessions that share cache and scratch memory, so that bombus_sessions_step can carry a row of each in one batch. One thread
 * at a time uses them all together. Each is freed on its own. On failure all are NULL. */
BOMBUS_RESULT bombus_status bombus_sessions_create(bombus_session **sessions, size_t count, bombus_model *model,
                                                   const bombus_session_options *options, bombus_error *error);

/* From the next token on the session computes with the model plus the sum of weights[i] * adapters[i] (both copied; the session holds the
 * adapters; weights NULL: each 1; count 0: the model as it is). A weight multiplies what the adapter adds, whatever its own scale. Each
 * session of a batch (bombus_sessions_step) has its own. What the session holds already stays as it was computed, but bombus_generate does
 * not take it as a prefix any more. BOMBUS_ERROR_MISMATCH if an adapter was opened for another model; the session is then as before. */
BOMBUS_RESULT bombus_status bombus_session_set_adapters(bombus_session *session, const bombus_adapter *const *adapters, const float *weights,
                                                        size_t count, bombus_error *error);

/* Feeds `count` tokens (copied) and leaves the logits of the last one in the session. Split inside to fit memory.
 * BOMBUS_ERROR_CONTEXT_FULL with nothing consumed if the cache cannot hold them. */
BOMBUS_RESULT bombus_status bombus_session_step(bombus_session *session, const int32_t *tokens, size_t count, bombus_error *error);

/* Feeds tokens[i] to sessions[i], all `count` as the rows of one batch; the sessions are distinct and were made together
 * (bombus_sessions_create). The logits of each are what feeding it alone would give. On failure no session has changed. */
BOMBUS_RESULT bombus_status bombus_sessions_step(bombus_session *const *sessions, const int32_t *tokens, size_t count,
                                                 bombus_error *error);

/* Logits of the last token fed, f32 [vocab_size]; NULL where there are none: before the first step, and after tokens were
 * forgotten. Valid until the next call on the session or one made together with it. */
BOMBUS_API const float *bombus_session_logits(const bombus_session *session);

/* How many tokens the session holds, and the tokens (valid until the next call on the session). */
BOMBUS_API size_t bombus_session_length(const bombus_session *session);
BOMBUS_API const int32_t *bombus_session_tokens(const bombus_session *session);

/* Forgets all tokens from position `length` on. BOMBUS_ERROR_UNSUPPORTED where the cache has dropped positions that would be
 * seen again (max_kv_size, sliding windows). */
BOMBUS_RESULT bombus_status bombus_session_truncate(bombus_session *session, size_t length, bombus_error *error);

/* Writes the session (tokens and cache) to a file, atomically, and reads it back in any process with the same model; a file of
 * another model, of other adapters or of other session options (all but prefill_step_size) is BOMBUS_ERROR_MISMATCH, a damaged one
 * BOMBUS_ERROR_FORMAT; the session is then as before (empty, if context_size cannot hold its tokens and the file's at once). */
BOMBUS_RESULT bombus_status bombus_session_save(const bombus_session *session, const char *path, bombus_error *error);
BOMBUS_RESULT bombus_status bombus_session_load(bombus_session *session, const char *path, bombus_error *error);

/* Called with the logits of consecutive tokens: rows [first, first + count) of [count, vocab_size]. Return false to cancel. */
typedef bool (*bombus_logits_callback)(void *context, size_t first, size_t count, const float *logits, int32_t vocab_size);

/* Feeds tokens like bombus_session_step and gives ln p(tokens[i] | tokens before), natural log, in logprobs [count]; the very
 * first token of a session has none (NaN). `callback` (may be NULL) sees all logits. */
BOMBUS_RESULT bombus_status bombus_session_score(bombus_session *session, const int32_t *tokens, size_t count, double *logprobs,
                                                 bombus_logits_callback callback, void *context, bombus_error *error);

/* ---- constraint ------------------------------------------------------------------------------------------------ */

/* What a text must look like, compiled into masks of tokens. Any number of threads and requests may share it, and should: the masks that one has
 * needed are there for the next. */
typedef struct bombus_constraint bombus_constraint;

typedef enum bombus_constraint_kind {
    BOMBUS_CONSTRAINT_JSON_SCHEMA = 0, /* text: a JSON Schema; docs/structured.md lists what of it */
    BOMBUS_CONSTRAINT_REGEX,           /* a regular expression that the whole text matches */
    BOMBUS_CONSTRAINT_GBNF             /* a grammar in llama.cpp's notation; its rule is `root` */
} bombus_constraint_kind;

/* The tokenizer must outlive the constraint, and be that of the model. It keeps what was compiled last by its text (at most
 * 32 constraints and 256 MiB with their masks), so that the same text again costs nothing and gives the same handle, with
 * one more hold: each call is followed by a bombus_constraint_free of its own. Any number of threads. BOMBUS_ERROR_FORMAT for a faulty source (with line and column where it has
 * them), BOMBUS_ERROR_UNSUPPORTED, naming the keyword and its JSON pointer, for what is not done, BOMBUS_ERROR_LIMIT for what would take too much. */
BOMBUS_RESULT bombus_status bombus_constraint_create(bombus_constraint **constraint, bombus_constraint_kind kind,
                                                     const char *source, size_t length, const bombus_tokenizer *tokenizer,
                                                     bombus_error *error);
BOMBUS_API void bombus_constraint_free(bombus_constraint *constraint);

/* ---- generation ------------------------------------------------------------------------------------------------ */

typedef struct bombus_logit_bias {
    int32_t id;
    float bias;
} bombus_logit_bias;

/* mlx-lm's chain: penalties and bias on the logits, then top_p, min_p, xtc, top_k on log-probabilities, then temperature. */
typedef struct bombus_sampler_options {
    float temperature;         /* 0: the likeliest token */
    float top_p;               /* 0 or >= 1: off */
    int32_t top_k;             /* 0: off */
    float min_p;               /* 0: off */
    int32_t min_tokens_to_keep; /* for min_p; 0: 1 */
    float xtc_probability, xtc_threshold;
    float repetition_penalty;  /* 0 or 1: off */
    float presence_penalty, frequency_penalty;
    int32_t repetition_context_size, presence_context_size, frequency_context_size; /* tokens looked back at; 0: 20 */
    const bombus_logit_bias *logit_bias;
    size_t logit_bias_count;
    const int32_t *xtc_special_tokens; /* never removed by xtc (mlx-lm: newline and eos); may be NULL */
    size_t xtc_special_token_count;
    uint64_t seed;             /* the same seed gives the same text, whatever the batch or thread count */
} bombus_sampler_options;

/* Sets temperature, top_p, top_k, min_p and repetition_penalty to what generation_config.json in `folder` asks for where it samples
 * (do_sample), else to greedy; the other fields are not touched. No such file is greedy too. */
BOMBUS_RESULT bombus_status bombus_sampler_defaults(bombus_sampler_options *sampler, const char *folder, bombus_error *error);

typedef struct bombus_token_logprob {
    int32_t id;
    float logprob;
} bombus_token_logprob;

/* One generated token as the callback sees it. */
typedef struct bombus_token_event {
    int32_t id;
    const char *text; /* text that became certain with this token, may be empty; never half a character */
    size_t text_length;
    float logprob;    /* of the model's own distribution, before the sampler; only if logprobs were asked for */
    const bombus_token_logprob *top; /* [top_count], likeliest first */
    size_t top_count;
} bombus_token_event;

/* Return false to stop; finish_reason is then BOMBUS_FINISH_CANCELLED. */
typedef bool (*bombus_token_callback)(void *context, const bombus_token_event *event);

/* Called before each chunk of the prompt is computed: `done` tokens of `total` are. Return false to stop; the result is then
 * empty and its finish_reason BOMBUS_FINISH_CANCELLED. */
typedef bool (*bombus_prompt_progress)(void *context, size_t done, size_t total);

typedef enum bombus_finish_reason {
    BOMBUS_FINISH_LENGTH = 0, /* max_tokens, or the context is full */
    BOMBUS_FINISH_STOP,       /* an end-of-turn id, one of extra_eos_ids or a stop string */
    BOMBUS_FINISH_CANCELLED,
    BOMBUS_FINISH_DEADLINE    /* an engine's request: its deadline_ms passed */
} bombus_finish_reason;

typedef struct bombus_generate_options {
    bombus_sampler_options sampler;
    size_t max_tokens;             /* 0: 256 */
    const char *const *stop;       /* strings that end the text and are not part of it */
    size_t stop_count;
    bool ignore_eos;               /* the tokenizer's end-of-turn ids do not end it */
    const int32_t *extra_eos_ids;  /* further ids that do, in [0, vocab_size), whatever ignore_eos says; copied. Under a
                                    * constraint they may stand only where its text is complete */
    size_t extra_eos_count;
    bool wants_logprobs;
    int32_t top_logprobs;          /* alternatives listed a token, at most 1024; implies wants_logprobs */
    bombus_session *draft;         /* a session of a smaller model with the same vocabulary: speculative decoding */
    int32_t num_draft_tokens;      /* guesses a step, at most 64; 0: 3 */
    int32_t ngram_size;            /* > 0: speculation by looking up the last n tokens in the text so far */
    const bombus_constraint *constraint; /* NULL: none. The text is complete by it, unless max_tokens or the context end it before; it ends by
                                          * itself (BOMBUS_FINISH_STOP) where nothing can be added. Logprobs stay the model's own */
    bombus_token_callback callback;        /* may be NULL */
    bombus_prompt_progress prompt_progress; /* may be NULL */
    void *context;                         /* of both */
} bombus_generate_options;

typedef struct bombus_generate_result {
    int32_t *ids;        /* [count]; the end-of-turn id (or one of extra_eos_ids) that ended it is included, its text is not */
    size_t count;
    char *text;          /* without stop string and special tokens */
    size_t text_length;
    bombus_finish_reason finish_reason;
    size_t prompt_count, reused_count; /* prompt tokens; how many of them the session held already */
    size_t draft_count, accepted_count; /* tokens proposed by speculation, and those that were right */
    double queue_seconds; /* an engine's request: from submission until its prompt began */
    double prompt_seconds, generation_seconds;
} bombus_generate_result;

/* Continues `session` with `prompt` (the session's tokens that are a prefix of it are not computed again, the rest is
 * forgotten), then generates. Afterwards the session holds the prompt and the generated tokens but the last. `tokenizer` may be
 * NULL: no text, no end-of-turn ids but extra_eos_ids and no stop strings then. Speculation (draft, ngram_size: one of them) changes the speed
 * alone: each token is drawn from the model's own logits with the random numbers of its position, so that text and
 * log-probabilities are those of plain generation with the same seed. Clear the result with bombus_generate_result_clear, also
 * after failure. */
BOMBUS_RESULT bombus_status bombus_generate(bombus_session *session, const bombus_tokenizer *tokenizer, const int32_t *prompt,
                                            size_t prompt_count, const bombus_generate_options *options,
                                            bombus_generate_result *result, bombus_error *error);
BOMBUS_API void bombus_generate_result_clear(bombus_generate_result *result);

/* ---- training data --------------------------------------------------------------------------------------------- */

typedef enum bombus_post_format {
    BOMBUS_POSTS_AUTO = 0,   /* by the file's name; of .txt by its blank lines */
    BOMBUS_POSTS_LINES,      /* one a line */
    BOMBUS_POSTS_PARAGRAPHS, /* separated by blank lines */
    BOMBUS_POSTS_JSONL,      /* a field of each line's object, or each line's text */
    BOMBUS_POSTS_CSV,        /* a column, RFC 4180 */
    BOMBUS_POSTS_FILE        /* the whole file is one: what the .txt and .md files of a folder are */
} bombus_post_format;

/* Called for what had to be mended or left out. `line` is 0 where there is none. */
typedef void (*bombus_prepare_report)(void *context, const char *file, int64_t line, const char *message);

typedef struct bombus_prepare_options {
    const char *prompt;    /* what the user says before each post; NULL: rows of {"text"} */
    const char *system;    /* a system message before it; NULL: none */
    size_t min_length, max_length; /* characters of a post after trimming; 0: any */
    double valid_share, test_share; /* of the posts; valid_share 0: 0.1, below 0: none; at least one row where two posts are left */
    bool shuffle;          /* by `seed`; else in the order given, the last ones for validation and test */
    uint64_t seed;
    bool keep_duplicates;  /* posts that are equal to the byte after trimming are dropped otherwise */
    bool overwrite;        /* replaces train.jsonl, valid.jsonl and test.jsonl as a set; else any of them is an error */
    bombus_post_format format;
    const char *field;     /* of jsonl; NULL: text, content, body or post, the first that the first line has */
    const char *column;    /* of csv, its name or number from 1; NULL: the same names, or the only column */
    bombus_prepare_report report; /* may be NULL */
    void *context;
} bombus_prepare_options;

typedef struct bombus_prepare_result {
    int64_t found;         /* posts in the input, of which: */
    int64_t empty, too_short, too_long, duplicates, damaged; /* dropped (damaged: no JSON, no such field) */
    int64_t mended;        /* used, with U+FFFD for what was no UTF-8 */
    int64_t train, valid, test; /* rows written */
} bombus_prepare_result;

/* Writes posts as training data: train.jsonl, valid.jsonl and test.jsonl in `folder` (made if need be; a set without rows is not written), a row
 * a post. posts: [count] texts; lengths NULL: NUL-terminated. BOMBUS_ERROR_NOT_FOUND if no post is left, and nothing is written
 * then. `result` (may be NULL) is filled in also on that failure. */
BOMBUS_RESULT bombus_status bombus_prepare_data(const char *const *posts, const size_t *lengths, size_t count, const char *folder,
                                                const bombus_prepare_options *options, bombus_prepare_result *result,
                                                bombus_error *error);
/* The same of files and folders (whose .txt and .md files are a post each, those of folders inside them too; .jsonl and .csv as such). */
BOMBUS_RESULT bombus_status bombus_prepare_files(const char *const *paths, size_t count, const char *folder,
                                                 const bombus_prepare_options *options, bombus_prepare_result *result,
                                                 bombus_error *error);
/* ---- training -------------------------------------------------------------------------------------------------- */

/* Trains low-rank adapters (or, on an unquantized model, its blocks) on examples in jsonl files. A trainer is made, run once and
 * freed; one thread at a time uses it, but bombus_trainer_cancel. The model is shared: sessions may go on with it meanwhile. */
typedef struct bombus_trainer bombus_trainer;

typedef enum bombus_fine_tune {
    BOMBUS_FINE_TUNE_LORA = 0,
    BOMBUS_FINE_TUNE_DORA,
    BOMBUS_FINE_TUNE_FULL /* projections, biases and norms of the blocks; the model must not be quantized */
} bombus_fine_tune;

typedef enum bombus_train_mode {
    BOMBUS_TRAIN_SFT = 0, /* next tokens of examples */
    BOMBUS_TRAIN_DPO,     /* preferences against the model without adapter (Rafailov et al. 2023) */
    BOMBUS_TRAIN_ORPO     /* preferences without a reference (Hong et al. 2024) */
} bombus_train_mode;

typedef enum bombus_dpo_loss {
    BOMBUS_DPO_SIGMOID = 0,
    BOMBUS_DPO_IPO,  /* of log-probabilities a token (Azar et al. 2023) */
    BOMBUS_DPO_HINGE
} bombus_dpo_loss;

typedef enum bombus_optimizer { BOMBUS_ADAM = 0, BOMBUS_ADAMW, BOMBUS_SGD, BOMBUS_MUON } bombus_optimizer;

/* As mlx.optimizers means them. */
typedef struct bombus_optimizer_options {
    double beta1, beta2, eps; /* adam, adamw: 0.9, 0.999, 1e-8 */
    bool bias_correction;     /* adam, adamw: false is the default, ours and mlx's */
    double weight_decay;      /* adamw, muon: 0.01; sgd: 0 */
    double momentum;          /* muon: 0.95; sgd: 0 */
    double dampening;         /* sgd */
    bool nesterov;            /* muon: true; sgd: false */
    int32_t ns_steps;         /* muon: 5 */
} bombus_optimizer_options;

/* The options that a kind has where none are given. */
BOMBUS_API bombus_optimizer_options bombus_optimizer_defaults(bombus_optimizer kind);

typedef enum bombus_schedule_kind {
    BOMBUS_COSINE_DECAY = 0,  /* init, decay_steps, end */
    BOMBUS_LINEAR_SCHEDULE,   /* init, end, steps */
    BOMBUS_EXPONENTIAL_DECAY, /* init, decay_rate */
    BOMBUS_STEP_DECAY         /* init, decay_rate, step_size */
} bombus_schedule_kind;

typedef struct bombus_schedule_part {
    bombus_schedule_kind kind;
    double arguments[3];
} bombus_schedule_part;

enum { BOMBUS_SCHEDULE_PART_LIMIT = 16 };

/* The learning rate by update (from 0). Part i holds until boundaries[i]; there the next begins with its own step 0 (join_schedules).
 * Before all, a line from warmup_init to the first part's first argument over `warmup` updates; the first part begins at update
 * warmup + 1, and boundaries count from there. */
typedef struct bombus_schedule {
    int32_t part_count; /* 0: learning_rate throughout */
    bombus_schedule_part parts[BOMBUS_SCHEDULE_PART_LIMIT];
    int64_t boundaries[BOMBUS_SCHEDULE_PART_LIMIT - 1];
    int64_t warmup;
    double warmup_init;
} bombus_schedule;

/* Processes that train one adapter together, each on its share of the batches, with sums over all of them. The caller brings the
 * functions (the bombus command: MPI's); they return false where communication failed. */
typedef struct bombus_process_group {
    int32_t rank, size;
    bool (*sum_floats)(void *context, float *values, size_t count);   /* in place: every process gets the same bits */
    bool (*sum_doubles)(void *context, double *values, size_t count);
    void *context;
} bombus_process_group;

typedef enum bombus_train_event_type {
    BOMBUS_TRAIN_BEGIN,      /* iteration (0, or where a resumed run goes on), parameter_count, example_count, text: which lines of the data are not used as they are, or NULL */
    BOMBUS_TRAIN_ESTIMATE,   /* estimated_seconds, estimated_bytes, seconds: of the warm-up step */
    BOMBUS_TRAIN_STEP,       /* after every iteration: loss, learning_rate, tokens_per_second of this one */
    BOMBUS_TRAIN_REPORT,     /* every steps_per_report: means since the last report */
    BOMBUS_TRAIN_VALIDATION, /* loss, seconds, is_best */
    BOMBUS_TRAIN_TEST,       /* loss, seconds */
    BOMBUS_TRAIN_SAVED,      /* text: the folder or file */
    BOMBUS_TRAIN_SAMPLE,     /* text: what the adapter, as it is now, answers to the sample prompt; prompt: the text of it */
    BOMBUS_TRAIN_EVALUATION, /* after every batch of an evaluation or test: done, total */
    BOMBUS_TRAIN_LINE        /* text: what is wrong with a line of the data, by file and number; at the end, how many there were */
} bombus_train_event_type;

/* Fields that a type does not name are 0 or NULL. Texts are valid during the call. */
typedef struct bombus_train_event {
    bombus_train_event_type type;
    int64_t iteration;
    double loss, learning_rate, tokens_per_second, iterations_per_second, seconds;
    int64_t trained_tokens; /* targets learnt since the beginning */
    bool is_best;
    double estimated_seconds;
    int64_t estimated_bytes; /* of peak resident memory */
    int64_t parameter_count, example_count;
    int64_t done, total; /* batches of an evaluation; total is what they are at most */
    const char *text, *prompt;
} bombus_train_event;

/* Called from the thread that runs the trainer. Return false to stop like bombus_trainer_cancel. */
typedef bool (*bombus_train_callback)(void *context, const bombus_train_event *event);

/* Zero is the default, and the defaults are mlx_lm's. Numbers of times (steps_per_...): < 0 is never. */
typedef struct bombus_train_options {
    const char *data;                /* a folder of train.jsonl, valid.jsonl, test.jsonl (the last two need not be), or a file; required */
    const char *adapter_path;        /* the folder to write; required */
    const char *resume_adapter_file; /* a safetensors file that training begins from; NULL: none */
    bool resume;                     /* go on with the run in adapter_path */
    bool force;                      /* overwrite another run's files there; without it they are BOMBUS_ERROR_MISMATCH */
    bombus_fine_tune fine_tune;
    bombus_train_mode mode;
    int32_t num_layers;              /* the last so many blocks; 0: 16, < 0: all */
    int32_t rank;                    /* 0: 8 */
    double scale;                    /* 0: 20 */
    bool use_rslora;                 /* scale / sqrt(rank) in place of scale */
    double dropout;
    const char *const *keys;         /* [key_count] projections, "self_attn.q_proj"; NULL: all of the blocks */
    size_t key_count;
    int64_t iters;                   /* micro-batches; 0: 1000 */
    int32_t batch_size;              /* 0: 4 */
    int32_t grad_accumulation_steps; /* micro-batches an update; 0: 1 */
    double learning_rate;            /* 0: 1e-5 */
    bombus_schedule schedule;
    bombus_optimizer optimizer;
    bool has_optimizer_options;      /* false: the optimizer's defaults */
    bombus_optimizer_options optimizer_options;
    double max_grad_norm;            /* > 0: gradients are scaled down to this norm over all parameters */
    double neftune_alpha;            /* > 0: noise on the embeddings (Jain et al. 2023) */
    double beta;                     /* of DPO and ORPO; 0: 0.1 */
    double label_smoothing;          /* of DPO's sigmoid loss: the share of pairs that are labelled the wrong way round */
    bombus_dpo_loss dpo_loss;
    int32_t max_seq_length;          /* 0: 2048 */
    bool mask_prompt;                /* learn the assistant's turns alone */
    bool mask_history;               /* learn the last message alone */
    bool mlx_compatible;             /* mlx-lm's loss, mean over micro-batches and order of batches, to the last rule */
    bool no_shuffle;                 /* batches in the file's order */
    bool packing;                    /* as many examples in a batch as fit batch_size * max_seq_length tokens */
    bool keep_activations;           /* do not compute activations again in the backward pass: faster, more memory */
    bombus_precision precision;      /* of the forward products */
    bool has_precision;              /* false: the model's */
    uint64_t seed;
    int64_t steps_per_report, steps_per_eval, save_every; /* 0: 10, 200, 100 */
    int64_t val_batches;             /* 0: 25, < 0: all */
    int64_t test_batches;            /* 0: no test, < 0: all */
    int64_t patience;                /* stop after so many evaluations without a better one; 0: never */
    double min_delta;                /* how much lower the loss must be to be better */
    const char *text_feature, *prompt_feature, *completion_feature, *chat_feature, *chosen_feature, *rejected_feature; /* NULL: mlx_lm's */
    const char *template_arguments;  /* JSON object of template variables; NULL: none */
    const int32_t *sample_prompt;    /* [sample_prompt_count] ids; 0 of them: the first prompt of the validation set */
    size_t sample_prompt_count;
    int32_t sample_tokens;           /* of a sample text, at evaluations; 0: no samples */
    const char *model_name;          /* written to adapter_config.json; NULL: none */
    int64_t memory_limit_bytes;      /* what cannot fit is refused before the first step; 0: not looked at */
    const bombus_process_group *process_group; /* NULL: this process alone */
    bombus_train_callback callback;  /* may be NULL */
    void *context;
} bombus_train_options;

typedef enum bombus_train_end {
    BOMBUS_TRAIN_FINISHED = 0,  /* all iterations were made */
    BOMBUS_TRAIN_STOPPED_EARLY, /* patience ran out */
    BOMBUS_TRAIN_CANCELLED      /* after saving what there was */
} bombus_train_end;

typedef struct bombus_train_result {
    bombus_train_end end;
    int64_t iteration, trained_tokens;
    double train_loss;      /* of the last report; NaN where there was none */
    double validation_loss; /* of the last evaluation; NaN where there was none */
    double best_loss;
    int64_t best_iteration; /* of best/adapters.safetensors; -1: none */
    double seconds;
} bombus_train_result;

/* Checks the options, opens the data and makes room. Nothing is written yet. Model, tokenizer, template (NULL: the model has none) and
 * texts of the options must live until the trainer is freed. On failure *trainer is NULL. */
BOMBUS_RESULT bombus_status bombus_trainer_create(bombus_trainer **trainer, bombus_model *model, const bombus_tokenizer *tokenizer,
                                                  const bombus_template *template_, const bombus_train_options *options,
                                                  bombus_error *error);
BOMBUS_API void bombus_trainer_free(bombus_trainer *trainer);

/* The options that it trains with: those given, with the default in the place of each 0. They live as long as the trainer. */
BOMBUS_API const bombus_train_options *bombus_trainer_options(const bombus_trainer *trainer);

/* Trains, once: a second call is BOMBUS_ERROR_ARGUMENT. The folder then holds adapters.safetensors (the last) and adapter_config.json in
 * mlx-lm's format, best/ (the one of the lowest validation loss, the same two files), 0000100_adapters.safetensors every save_every iterations,
 * and what `resume` goes on from. A resumed run ends in the same bits as one that was never broken off. On a loss that is no number, a full disk
 * or any other failure the last saved state stays as it is and the message names it. */
BOMBUS_RESULT bombus_status bombus_trainer_run(bombus_trainer *trainer, bombus_train_result *result, bombus_error *error);

/* Asks a running trainer to finish its step, save and return; an evaluation is broken off and comes again when the run is resumed. From any thread
 * or a signal handler. */
BOMBUS_API void bombus_trainer_cancel(bombus_trainer *trainer);

/* Settings read from one of mlx_lm's YAML files (-c/--config). */
typedef struct bombus_train_config bombus_train_config;

/* An unknown key is BOMBUS_ERROR_FORMAT and named. */
BOMBUS_RESULT bombus_status bombus_train_config_open(bombus_train_config **config, const char *path, bombus_error *error);
BOMBUS_API void bombus_train_config_close(bombus_train_config *config);
/* The settings as options, mlx_lm's defaults where the file is silent; texts live as long as the config. */
BOMBUS_API const bombus_train_options *bombus_train_config_options(const bombus_train_config *config);
/* What its optimizer_config says of an optimizer, the chosen one or another; mlx's defaults where it is silent. */
BOMBUS_API bombus_optimizer_options bombus_train_config_optimizer(const bombus_train_config *config, bombus_optimizer kind);
/* The model that the file names, NULL where it names none. */
BOMBUS_API const char *bombus_train_config_model(const bombus_train_config *config);
/* Key `index` that was given and has no effect here; NULL behind the last. */
BOMBUS_API const char *bombus_train_config_ignored(const bombus_train_config *config, size_t index);

/* ---- engine ---------------------------------------------------------------------------------------------------- */

/* Many generations at once. An engine has a thread of its own that computes all running requests as the rows of one batch: they join and
 * leave between steps, and prompts are computed in chunks beside running generations. A request gives the tokens and log-probabilities that
 * bombus_generate would, whatever runs beside it. Any thread may submit, cancel and ask for figures; docs/engine.md tells the rules. */
typedef struct bombus_engine bombus_engine;

typedef struct bombus_engine_options {
    int32_t max_batch;     /* requests that run at once, at most 1024; 0: 16 */
    int32_t context_size;  /* positions that one request can take, prompt and tokens; 0: max_position_embeddings */
    uint64_t kv_bytes;     /* memory for the cache of all requests and of shared prefixes; 0: 1 GiB, or what one request of context_size
                            * positions needs where that is more */
    int32_t kv_bits;       /* as in bombus_session_options; a prompt's first chunk is then 64 tokens */
    int32_t kv_group_size; /* as there */
    int32_t prefill_step_size; /* prompt tokens a step, of all requests together, at least 64; 0: 128 */
    int32_t queue_limit;   /* requests that wait at most; 0: 1024 */
    bool no_prefix_sharing; /* true: each request computes its whole prompt */
    bombus_precision precision;
    bool has_precision;    /* false: the model's */
} bombus_engine_options;

/* Starts an engine. It keeps a hold of the model; the tokenizer (NULL: no text, no end-of-turn ids, no stop strings) is borrowed and must
 * outlive it. On failure *engine is NULL. */
BOMBUS_RESULT bombus_status bombus_engine_create(bombus_engine **engine, bombus_model *model, const bombus_tokenizer *tokenizer,
                                                 const bombus_engine_options *options, bombus_error *error);
/* Ends all requests as cancelled (their callbacks are called), then the thread. Not from a callback. NULL is allowed. */
BOMBUS_API void bombus_engine_free(bombus_engine *engine);

/* The end of a request, called once for every request that was submitted, as the last of its callbacks. `error` is NULL where it went well:
 * result->finish_reason then says how it ended. After a failure the result holds what was generated until then. Both, and what they point
 * at, live until the callback returns. */
typedef void (*bombus_request_finished)(void *context, uint64_t id, const bombus_generate_result *result, const bombus_error *error);

typedef struct bombus_request {
    const int32_t *prompt;           /* [prompt_count], at least one token */
    size_t prompt_count;
    /* May be NULL. Without speculation (draft, ngram_size). Its callbacks and `finished` are called from the engine's thread, one at a
     * time and never under a lock: they may submit and cancel, and should be quick, since all requests wait for them. */
    const bombus_generate_options *options;
    const bombus_adapter *const *adapters; /* [adapter_count], of the engine's model; held while it runs, so the caller may close them */
    const float *adapter_weights;    /* [adapter_count]; NULL: each 1 */
    size_t adapter_count;            /* 0: the model as it is */
    int32_t priority;                /* higher first; of equals, the one submitted first */
    int32_t deadline_ms;             /* from submission to the last token; 0: none */
    bombus_request_finished finished; /* may be NULL */
    void *context;                   /* of `finished` */
} bombus_request;

/* Hands a request to the engine, which copies it. *id (may be NULL) is set before any callback, and never used twice. Refused at once:
 * a wrong option (ARGUMENT), an adapter of another model (MISMATCH), more than context_size or kv_bytes can ever hold (CONTEXT_FULL), a full queue (LIMIT), an engine that is
 * being freed (CANCELLED); no callback is called then. max_tokens is cut to what context_size leaves. */
BOMBUS_RESULT bombus_status bombus_engine_submit(bombus_engine *engine, const bombus_request *request, uint64_t *id, bombus_error *error);

/* The request ends as cancelled before its next token. False if there is none of this id (any more). */
BOMBUS_API bool bombus_engine_cancel(bombus_engine *engine, uint64_t id);

typedef struct bombus_engine_stats {
    int32_t running_count, waiting_count; /* requests now */
    uint64_t finished_count, failed_count, cancelled_count; /* requests since the beginning; deadlines count as cancelled */
    uint64_t step_count;
    uint64_t prompt_tokens, reused_tokens, generated_tokens; /* prompt tokens computed, and those found in the cache */
    uint64_t kv_bytes, kv_limit_bytes; /* cache memory in use, shared prefixes included, and the bound on it */
    uint64_t prefix_bytes;             /* of it, prefixes kept for later requests */
    uint64_t evicted_bytes;            /* prefixes given up for room, since the beginning */
} bombus_engine_stats;

BOMBUS_API void bombus_engine_get_stats(const bombus_engine *engine, bombus_engine_stats *stats);

/* ---- matrices -------------------------------------------------------------------------------------------------- */

/* A weight matrix [rows, cols] (out, in) as it lies in MLX's files: codes with a scale (and bias) a group of columns, or plain floats. */
typedef struct bombus_matrix {
    const char *mode;              /* "affine", "mxfp4", "mxfp8", "nvfp4"; NULL: plain */
    int32_t bits, group_size;
    const char *dtype;             /* "F32", "F16" or "BF16": of plain elements; of scales and biases where the mode is affine */
    int64_t rows, cols;
    const void *data, *scales, *biases;          /* biases only where the mode is affine */
    size_t data_bytes, scale_bytes, bias_bytes;  /* set by bombus_matrix_measure */
} bombus_matrix;

/* Checks mode, bits, group_size, dtype, rows and cols, and sets the sizes that follow from them. */
BOMBUS_RESULT bombus_status bombus_matrix_measure(bombus_matrix *matrix, bombus_error *error);

/* A matrix of the model by the path that its tensors have ("model.layers.0.self_attn.q_proj"), where it lies in the mapped file: valid as long as
 * the model. */
BOMBUS_RESULT bombus_status bombus_model_get_matrix(const bombus_model *model, const char *path, bombus_matrix *matrix, bombus_error *error);

/* Packs `in`, f32 [rows, cols], into memory of the sizes that bombus_matrix_measure gives, as MLX does. */
BOMBUS_RESULT bombus_status bombus_matrix_quantize(const bombus_matrix *matrix, const float *in, void *data, void *scales, void *biases,
                                                   bombus_error *error);
/* out: f32 [rows, cols]. */
BOMBUS_RESULT bombus_status bombus_matrix_dequantize(const bombus_matrix *matrix, float *out, bombus_error *error);

/* out [count, rows] = x [count, cols] W^T in f32, exact but not fast: for looking at single matrices. */
BOMBUS_RESULT bombus_status bombus_matrix_multiply(const bombus_matrix *matrix, const float *x, size_t count, float *out,
                                                   bombus_error *error);

/* ---- the machine ----------------------------------------------------------------------------------------------- */

/* Read bandwidth of main memory, bytes a second, measured over `bytes` (0: 256 MiB) with `thread_count` threads (0: one a
 * physical core) in about `seconds`. */
BOMBUS_RESULT bombus_status bombus_measure_bandwidth(double *bytes_per_second, int32_t thread_count, size_t bytes, double seconds,
                                                     bombus_error *error);

#ifdef __cplusplus
}
#endif
#endif
