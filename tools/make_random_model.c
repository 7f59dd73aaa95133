/* Writes a model folder in MLX's 4-bit format with random weights and the shape of a known model, to measure speed with.
 *
 *   make build/release/tools/make_random_model
 *   build/release/tools/make_random_model qwen3-0.6b FOLDER [TOKENIZER_FOLDER]
 *
 * The weights of a row are uniform with a standard deviation of 1 / sqrt(columns), so that activations neither vanish nor grow.
 * tokenizer.json and its companions are copied from TOKENIZER_FOLDER where they are there. */
#include "base/buffer.h"
#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GROUP_SIZE = 64, PIECE_BYTES = 1 << 20 };

struct shape {
    const char *name;
    int hidden_size, layers, heads, kv_heads, head_dim, intermediate_size, vocab_size;
    bool is_tied;
};

static const struct shape shapes[] = {
    {"tiny", 256, 2, 4, 2, 64, 768, 1024, true},
    {"qwen3-0.6b", 1024, 28, 16, 8, 128, 3072, 151936, true},
    {"qwen3-1.7b", 2048, 28, 16, 8, 128, 6144, 151936, true},
    {"qwen3-4b", 2560, 36, 32, 8, 128, 9728, 151936, true},
    {"qwen3-8b", 4096, 36, 32, 8, 128, 12288, 151936, false},
};

enum content { CODES, SCALES, BIASES, ONES };

struct entry {
    size_t bytes;
    enum content content;
    size_t columns; /* of the matrix */
};

struct model {
    struct bb_buffer header; /* the safetensors header as it grows */
    struct entry entries[16 * 64];
    size_t count, offset;
};

static void fail(const char *what)
{
    fprintf(stderr, "make_random_model: %s\n", what);
    exit(1);
}

static void add(struct model *model, const char *name, const char *dtype, size_t rows, size_t columns, size_t bytes,
                enum content content, size_t matrix_columns)
{
    if (model->count == BB_COUNT(model->entries))
        fail("too many tensors");
    bb_buffer_format(&model->header, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%zu", model->count == 0 ? "{" : ",", name,
                     dtype, rows);
    if (columns > 0)
        bb_buffer_format(&model->header, ",%zu", columns);
    bb_buffer_format(&model->header, "],\"data_offsets\":[%zu,%zu]}", model->offset, model->offset + bytes);
    model->entries[model->count++] = (struct entry){bytes, content, matrix_columns};
    model->offset += bytes;
}

static void add_matrix(struct model *model, const char *name, int row_count, int column_count)
{
    char text[256];
    size_t rows = (size_t)row_count, columns = (size_t)column_count, groups = columns / GROUP_SIZE;
    snprintf(text, sizeof text, "%s.weight", name);
    add(model, text, "U32", rows, columns / 8, rows * columns / 2, CODES, columns);
    snprintf(text, sizeof text, "%s.scales", name);
    add(model, text, "BF16", rows, groups, rows * groups * 2, SCALES, columns);
    snprintf(text, sizeof text, "%s.biases", name);
    add(model, text, "BF16", rows, groups, rows * groups * 2, BIASES, columns);
}

static void add_norm(struct model *model, const char *name, int size)
{
    add(model, name, "BF16", (size_t)size, 0, (size_t)size * 2, ONES, 0);
}

static void add_layer(struct model *model, const struct shape *shape, int layer)
{
    char name[128];
    int query = shape->heads * shape->head_dim, key = shape->kv_heads * shape->head_dim;
    const struct {
        const char *name;
        int rows, columns;
    } matrices[] = {
        {"self_attn.q_proj", query, shape->hidden_size},
        {"self_attn.k_proj", key, shape->hidden_size},
        {"self_attn.v_proj", key, shape->hidden_size},
        {"self_attn.o_proj", shape->hidden_size, query},
        {"mlp.gate_proj", shape->intermediate_size, shape->hidden_size},
        {"mlp.up_proj", shape->intermediate_size, shape->hidden_size},
        {"mlp.down_proj", shape->hidden_size, shape->intermediate_size},
    };
    for (size_t i = 0; i < BB_COUNT(matrices); i++) {
        snprintf(name, sizeof name, "model.layers.%d.%s", layer, matrices[i].name);
        add_matrix(model, name, matrices[i].rows, matrices[i].columns);
    }
    const struct {
        const char *name;
        int size;
    } norms[] = {{"input_layernorm", shape->hidden_size},
                 {"post_attention_layernorm", shape->hidden_size},
                 {"self_attn.q_norm", shape->head_dim},
                 {"self_attn.k_norm", shape->head_dim}};
    for (size_t i = 0; i < BB_COUNT(norms); i++) {
        snprintf(name, sizeof name, "model.layers.%d.%s.weight", layer, norms[i].name);
        add_norm(model, name, norms[i].size);
    }
}

static uint16_t bf16(double value)
{
    float number = (float)value;
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    return (uint16_t)((bits + 0x8000u) >> 16);
}

static void write_entry(struct bb_file_writer *writer, const struct entry *entry, struct bb_random *random,
                        uint64_t *piece)
{
    bombus_error error = {0};
    /* 16 levels a step apart, centred: standard deviation step * sqrt((16 * 16 - 1) / 12) = 4.61 steps */
    double step = entry->columns > 0 ? 1.0 / (4.61 * sqrt((double)entry->columns)) : 0.0;
    uint16_t value = bf16(entry->content == SCALES ? step : entry->content == BIASES ? -7.5 * step : 1.0);
    uint64_t four_values = value * UINT64_C(0x0001000100010001);
    for (size_t done = 0; done < entry->bytes; done += PIECE_BYTES) {
        size_t bytes = entry->bytes - done < PIECE_BYTES ? entry->bytes - done : PIECE_BYTES;
        for (size_t i = 0; i < (bytes + 7) / 8; i++)
            piece[i] = entry->content == CODES ? bb_random_next(random) : four_values;
        if (bb_file_writer_add(writer, piece, bytes, &error) != BOMBUS_OK)
            fail(error.message);
    }
}

static void write_weights(const struct shape *shape, const char *folder)
{
    struct model *model = bb_allocate(1, sizeof *model);
    uint64_t *piece = bb_allocate(1, PIECE_BYTES);
    char *path = bb_path_join(folder, "model.safetensors");
    if (model == NULL || piece == NULL || path == NULL)
        fail("out of memory");
    add_matrix(model, "model.embed_tokens", shape->vocab_size, shape->hidden_size);
    for (int layer = 0; layer < shape->layers; layer++)
        add_layer(model, shape, layer);
    add_norm(model, "model.norm.weight", shape->hidden_size);
    if (!shape->is_tied)
        add_matrix(model, "lm_head", shape->vocab_size, shape->hidden_size);
    bb_buffer_add_text(&model->header, "}");
    while (model->header.length % 64 != 56) /* 8 bytes of length before it: the data begin on a cache line */
        bb_buffer_add_byte(&model->header, ' ');
    bombus_error error = {0};
    struct bb_file_writer writer;
    uint64_t length = model->header.length;
    if (bb_file_writer_open(&writer, path, &error) != BOMBUS_OK ||
        bb_file_writer_add(&writer, &length, sizeof length, &error) != BOMBUS_OK ||
        bb_file_writer_add(&writer, model->header.data, model->header.length, &error) != BOMBUS_OK)
        fail(error.message);
    struct bb_random random = {.seed = 1};
    for (size_t i = 0; i < model->count; i++)
        write_entry(&writer, &model->entries[i], &random, piece);
    if (bb_file_writer_finish(&writer, &error) != BOMBUS_OK)
        fail(error.message);
    printf("%s: %zu tensors, %.2f GB\n", path, model->count, (double)model->offset / 1e9);
    bb_buffer_clear(&model->header);
    bb_release(path);
    bb_release(piece);
    bb_release(model);
}

static void write_config(const struct shape *shape, const char *folder)
{
    struct bb_buffer text = {0};
    bb_buffer_format(
        &text,
        "{\"architectures\": [\"Qwen3ForCausalLM\"], \"model_type\": \"qwen3\", \"hidden_act\": \"silu\", "
        "\"attention_bias\": false,\n \"hidden_size\": %d, \"num_hidden_layers\": %d, \"num_attention_heads\": %d, "
        "\"num_key_value_heads\": %d,\n \"head_dim\": %d, \"intermediate_size\": %d, \"vocab_size\": %d, "
        "\"max_position_embeddings\": 40960,\n \"rms_norm_eps\": 1e-06, \"rope_theta\": 1000000, "
        "\"rope_scaling\": null, \"tie_word_embeddings\": %s, \"eos_token_id\": %d,\n "
        "\"quantization\": {\"group_size\": %d, \"bits\": 4, \"mode\": \"affine\"}}\n",
        shape->hidden_size, shape->layers, shape->heads, shape->kv_heads, shape->head_dim, shape->intermediate_size,
        shape->vocab_size, shape->is_tied ? "true" : "false",
        shape->vocab_size > 151645 ? 151645 : shape->vocab_size - 1, (int)GROUP_SIZE);
    char *path = bb_path_join(folder, "config.json");
    bombus_error error = {0};
    if (path == NULL || text.is_failed || bb_file_write(path, text.data, text.length, &error) != BOMBUS_OK)
        fail(error.message);
    bb_release(path);
    bb_buffer_clear(&text);
}

static void copy_tokenizer(const char *from, const char *folder)
{
    static const char *const names[] = {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"};
    for (size_t i = 0; i < BB_COUNT(names); i++) {
        char *source = bb_path_join(from, names[i]), *target = bb_path_join(folder, names[i]), *data = NULL;
        size_t size = 0;
        bombus_error error = {0};
        if (source == NULL || target == NULL)
            fail("out of memory");
        if (bb_file_exists(source) && (bb_file_read(&data, &size, source, (size_t)1 << 30, &error) != BOMBUS_OK ||
                                       bb_file_write(target, data, size, &error) != BOMBUS_OK))
            fail(error.message);
        bb_release(data);
        bb_release(source);
        bb_release(target);
    }
}

int main(int argc, char **argv)
{
    const struct shape *shape = NULL;
    for (size_t i = 0; argc >= 3 && i < BB_COUNT(shapes); i++) {
        if (strcmp(shapes[i].name, argv[1]) == 0)
            shape = &shapes[i];
    }
    if (shape == NULL) {
        fputs("usage: make_random_model SHAPE FOLDER [TOKENIZER_FOLDER]; SHAPE is one of", stderr);
        for (size_t i = 0; i < BB_COUNT(shapes); i++)
            fprintf(stderr, " %s", shapes[i].name);
        fputc('\n', stderr);
        return 2;
    }
    bombus_error error = {0};
    if (bb_folder_create(argv[2], &error) != BOMBUS_OK)
        fail(error.message);
    write_config(shape, argv[2]);
    if (argc > 3)
        copy_tokenizer(argv[3], argv[2]);
    write_weights(shape, argv[2]);
    return 0;
}
