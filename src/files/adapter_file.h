/* An adapter's folder: mlx-lm's adapters.safetensors or PEFT's adapter_model.safetensors with adapter_config.json, as a list of modules in one form.
 * Knows no model: what a module's projection must look like is for model/adapter.h to say. */
#ifndef BB_ADAPTER_FILE_H
#define BB_ADAPTER_FILE_H

#include "files/config.h"
#include "files/safetensors.h"

enum { BB_ADAPTER_RANK_LIMIT = 1 << 14 };

enum bb_adapter_format { BB_ADAPTER_MLX, BB_ADAPTER_PEFT };

enum bb_adapter_module_kind {
    BB_MODULE_LINEAR,
    BB_MODULE_EMBEDDING, /* rows are tokens: E[t] + scale * (row t of B's transpose) A */
    BB_MODULE_EXPERTS    /* a pair an expert */
};

/* One adapted projection, y += scale * B (A x). The tensors lie in the file as its format has them; bb_adapter_module_read turns them into the one
 * form of tensor/low_rank.h. */
struct bb_adapter_module {
    const char *path; /* in the model, as the format names it: "model.layers.3.self_attn.q_proj"; in the file's arena */
    enum bb_adapter_module_kind kind;
    int32_t rank, expert_count;                           /* experts: 0 unless BB_MODULE_EXPERTS */
    int64_t rows, cols;                                   /* of the projection (of one expert) */
    float scale;                                          /* of B (A x), whatever the format calls it */
    const struct bb_safetensors_entry *a, *b, *magnitude; /* magnitude: DoRA, [rows]; NULL: LoRA */
    bool a_is_transposed, b_is_transposed;                /* the file holds [cols, rank] for A, [rows, rank] for B */
};

struct bb_adapter_file {
    enum bb_adapter_format format;
    bool is_dora;
    char *path; /* of the safetensors file */
    struct bb_safetensors tensors;
    struct bb_config *config;
    struct bb_arena arena;
    struct bb_adapter_module *modules; /* [module_count], sorted by path */
    size_t module_count;
    int64_t parameter_count;
    int32_t rank;       /* the largest of its modules */
    float dropout;      /* of training; kept when it is converted */
    bool ties_head;     /* an embedding's pair serves a tied head too: mlx-lm's always, PEFT's by ensure_weight_tying */
    int32_t num_layers; /* mlx-lm's: the last so many blocks; -1: all, or not said */
};

/* Strict: a tensor that belongs to no module, half a module, a rank, type or shape that does not fit is BOMBUS_ERROR_FORMAT and named with the file;
 * what these formats can say and this library cannot do (biases, modules_to_save, ...) BOMBUS_ERROR_UNSUPPORTED, by its name in the config. */
BB_RESULT bombus_status bb_adapter_file_open(struct bb_adapter_file *file, const char *folder, bombus_error *error);
/* mlx-lm writes whole weights (fine_tune_type full) into files of the same names. *path: that of adapters.safetensors (bb_release it) if the folder
 * holds such, NULL if it holds an adapter. */
BB_RESULT bombus_status bb_adapter_file_find_full(char **path, const char *folder, bombus_error *error);
void bb_adapter_file_close(struct bb_adapter_file *file); /* a zeroed or half-open one is allowed */

/* A [rank, cols] and B [rank, rows] of expert `expert` (0 where there are none) in f32, and the magnitudes [rows] (may be NULL). */
void bb_adapter_module_read(const struct bb_adapter_module *module, int32_t expert, float *a, float *b,
                            float *magnitude);

/* A [rank, cols] and B [rank, rows] of all experts one after the other as the file's own elements, with rows of zeros up to `rank`; a and b are zeroed
 * and of the size that this takes. */
void bb_adapter_module_copy(const struct bb_adapter_module *module, int32_t rank, void *a, void *b);

/* What all modules of it are and the list of them, as one JSON object. *json is released by bb_release. */
BB_RESULT bombus_status bb_adapter_file_inspect(char **json, const struct bb_adapter_file *file, bombus_error *error);

/* A module to write, in the one form: A [experts, rank, cols], B [experts, rank, rows]. */
struct bb_adapter_part {
    const char *path;
    enum bb_adapter_module_kind kind;
    int32_t expert_count;
    int64_t rows, cols;
    enum bb_dtype a_dtype, b_dtype, magnitude_dtype;
    const void *a, *b, *magnitude; /* magnitude NULL: LoRA */
};

struct bb_adapter_content {
    enum bb_adapter_format format;
    bool is_dora;
    int32_t rank, num_layers; /* of all modules; num_layers as in bb_adapter_file */
    double scale;
    float dropout;
    const struct bb_adapter_part *parts;
    size_t part_count;
};

/* Writes tensors and adapter_config.json into `folder` (made where it is not there), each atomically. In PEFT's format
 * a part is no stack of experts, and an embedding has no magnitude; its pair is said to serve a tied head too. */
BB_RESULT bombus_status bb_adapter_file_write(const char *folder, const struct bb_adapter_content *content,
                                              bombus_error *error);

#endif
