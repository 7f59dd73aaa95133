/* config.json -> recipe for every family, rotary frequencies, and the errors that name what is wrong or missing. */
#include "base/buffer.h"
#include "model/recipe.h"
#include "test.h"

#include <string.h>

struct fixture {
    struct bb_config *config;
    struct bb_arena arena;
    struct bb_recipe recipe;
    bombus_error error;
    bombus_status status;
};

static struct fixture fixture;

static void clear(void)
{
    bb_config_close(fixture.config);
    bb_arena_clear(&fixture.arena);
    memset(&fixture, 0, sizeof fixture);
}

static bombus_status read_text(const char *text)
{
    clear();
    fixture.status = bb_config_parse(&fixture.config, text, strlen(text), "config.json", &fixture.error);
    if (fixture.status == BOMBUS_OK)
        fixture.status = bb_recipe_read(&fixture.recipe, fixture.config, &fixture.arena, &fixture.error);
    return fixture.status;
}

/* A small config of `model_type`, with `more` (", \"key\": value") behind; later keys are not repeated: use `sizes` NULL for the common ones. */
static const struct bb_recipe *read_config(const char *model_type, const char *sizes, const char *more)
{
    static char text[4096];
    snprintf(text, sizeof text, "{\"model_type\": \"%s\", %s%s}", model_type,
             sizes != NULL ? sizes : "\"vocab_size\": 256, \"hidden_size\": 64, \"intermediate_size\": 96, \"num_hidden_layers\": 4, "
             "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 16, \"rms_norm_eps\": 1e-5", more);
    read_text(text);
    return &fixture.recipe;
}

static const struct bb_recipe *read_good(const char *model_type, const char *more)
{
    const struct bb_recipe *recipe = read_config(model_type, NULL, more);
    CHECK_OK(fixture.status, fixture.error);
    return recipe;
}

static void expect(const char *model_type, const char *sizes, const char *more, bombus_status status, const char *words)
{
    read_config(model_type, sizes, more);
    if (fixture.status != status || strstr(fixture.error.message, words) == NULL) {
        print_error("%s%s: got %s, \"%s\"; expected %s with \"%s\"\n", model_type, more, bombus_status_name(fixture.status),
                    fixture.error.message, bombus_status_name(status), words);
        fail();
    }
}

static void check_number(float actual, double expected)
{
    if (!(fabs((double)actual - expected) <= 1e-6 * fabs(expected)))
        fail_msg("%.9g, expected %.9g", (double)actual, expected);
}

static void test_llama(void **state)
{
    (void)state;
    const struct bb_recipe *recipe = read_good("llama", "");
    assert_string_equal(recipe->model_type, "llama");
    assert_int_equal(recipe->head_dim, 16);
    assert_true(recipe->has_pre_norm && !recipe->has_post_norm && !recipe->has_q_norm && !recipe->has_qkv_bias);
    assert_true(recipe->ties_without_head);
    check_number(recipe->attention_scale, 0.25);
    check_number(recipe->layers[3].rope->inverse_frequencies[1], pow(10000.0, -2.0 / 16));
    recipe = read_good("mistral", ", \"sliding_window\": 8, \"attention_bias\": true, \"tie_word_embeddings\": true");
    assert_int_equal(recipe->layers[0].sliding_window, 0);
    assert_true(recipe->has_qkv_bias && recipe->has_o_bias && recipe->tie_word_embeddings && !recipe->ties_without_head);
    recipe = read_good("llama", ", \"sliding_window\": 8, \"layer_types\": [\"full_attention\", \"sliding_attention\", "
                                "\"sliding_attention\", \"full_attention\"]");
    assert_int_equal(recipe->layers[0].sliding_window, 0);
    assert_int_equal(recipe->layers[1].sliding_window, 8);
    recipe = read_config("llama", "\"vocab_size\": 256, \"hidden_size\": 64, \"intermediate_size\": 96, \"num_hidden_layers\": 1, "
                         "\"num_attention_heads\": 4", "");
    CHECK_OK(fixture.status, fixture.error);
    assert_int_equal(recipe->head_dim, 16);
    assert_int_equal(recipe->num_key_value_heads, 4);
}

static void test_qwen(void **state)
{
    (void)state;
    const struct bb_recipe *recipe = read_good("qwen2", ", \"sliding_window\": 8, \"use_sliding_window\": false");
    assert_true(recipe->has_qkv_bias && !recipe->has_o_bias && !recipe->has_q_norm);
    recipe = read_good("qwen3", ", \"rope_parameters\": {\"rope_theta\": 5000, \"rope_type\": \"default\"}");
    assert_true(recipe->has_q_norm && !recipe->q_norm_is_whole && !recipe->has_qkv_bias);
    check_number(recipe->layers[0].rope->inverse_frequencies[1], pow(5000.0, -2.0 / 16));
    recipe = read_good("qwen3_moe", ", \"num_experts\": 8, \"num_experts_per_tok\": 2, \"moe_intermediate_size\": 32, "
                                    "\"norm_topk_prob\": true, \"decoder_sparse_step\": 2, \"mlp_only_layers\": [3]");
    assert_int_equal(recipe->moe_intermediate_size, 32);
    assert_int_equal(recipe->routing, BB_ROUTE_SOFTMAX_TOP_NORMALIZE);
    assert_false(recipe->layers[0].has_experts);
    assert_true(recipe->layers[1].has_experts);
    assert_false(recipe->layers[3].has_experts);
}

static void test_gemma(void **state)
{
    (void)state;
    const struct bb_recipe *recipe = read_good("gemma2", ", \"hidden_activation\": \"gelu_pytorch_tanh\", \"query_pre_attn_scalar\": 64");
    assert_true(recipe->has_post_norm && recipe->norm_is_plus_one && recipe->tie_word_embeddings);
    assert_int_equal(recipe->activation, BB_GELU_TANH);
    check_number(recipe->embedding_scale, 8.0);
    check_number(recipe->attention_scale, 0.125);
    check_number(recipe->attention_softcap, 50.0);
    check_number(recipe->logit_softcap, 30.0);
    recipe = read_config("gemma3_text", "\"vocab_size\": 256, \"hidden_size\": 128, \"intermediate_size\": 96, \"num_hidden_layers\": 4, "
                         "\"num_attention_heads\": 4, \"head_dim\": 16", ", \"sliding_window\": 32, \"sliding_window_pattern\": 2, "
                         "\"rope_theta\": 1000000, \"rope_local_base_freq\": 500");
    CHECK_OK(fixture.status, fixture.error);
    check_number(recipe->embedding_scale, 11.3125); /* bf16, as mlx-lm has it */
    assert_int_equal(recipe->layers[0].sliding_window, 32);
    assert_int_equal(recipe->layers[1].sliding_window, 0);
    check_number(recipe->layers[0].rope->inverse_frequencies[1], pow(500.0, -2.0 / 16));
    check_number(recipe->layers[1].rope->inverse_frequencies[1], pow(1e6, -2.0 / 16));
    recipe = read_good("gemma3_text", ", \"sliding_window\": 32, \"layer_types\": [\"sliding_attention\", \"full_attention\", "
                                      "\"sliding_attention\", \"sliding_attention\"], \"rope_parameters\": {\"full_attention\": {\"rope_type\": "
                                      "\"linear\", \"factor\": 8, \"rope_theta\": 1000}, \"sliding_attention\": {\"rope_type\": \"default\", "
                                      "\"rope_theta\": 100}}");
    assert_int_equal(recipe->layers[1].sliding_window, 0);
    assert_int_equal(recipe->layers[3].sliding_window, 32);
    check_number(recipe->layers[1].rope->inverse_frequencies[0], 0.125);
    check_number(recipe->layers[3].rope->inverse_frequencies[2], pow(100.0, -4.0 / 16));
}

static void test_others(void **state)
{
    (void)state;
    const struct bb_recipe *recipe = read_good("olmo2", "");
    assert_true(!recipe->has_pre_norm && recipe->has_post_norm && recipe->q_norm_is_whole);
    recipe = read_good("granite", ", \"embedding_multiplier\": 12, \"residual_multiplier\": 0.25, \"attention_multiplier\": 0.5, "
                                  "\"logits_scaling\": 8");
    check_number(recipe->embedding_scale, 12);
    check_number(recipe->residual_scale, 0.25);
    check_number(recipe->attention_scale, 0.5);
    check_number(recipe->logit_scale, 0.125);
    recipe = read_good("smollm3", "");
    assert_non_null(recipe->layers[0].rope);
    assert_null(recipe->layers[3].rope);
    recipe = read_good("smollm3", ", \"no_rope_layers\": [0, 1, 1, 1]");
    assert_null(recipe->layers[0].rope);
    assert_non_null(recipe->layers[3].rope);
    recipe = read_good("mixtral", ", \"num_local_experts\": 4");
    assert_true(recipe->layers[2].has_experts);
    assert_int_equal(recipe->routing, BB_ROUTE_TOP_SOFTMAX);
    recipe = read_good("gpt_oss", ", \"num_local_experts\": 4, \"num_experts_per_tok\": 2, \"sliding_window\": 16");
    assert_true(recipe->has_sinks && recipe->has_o_bias && recipe->has_mlp_bias);
    assert_int_equal(recipe->layers[0].sliding_window, 16);
    assert_int_equal(recipe->layers[1].sliding_window, 0);
    assert_int_equal(recipe->activation, BB_SWIGLU_CLIPPED);
    recipe = read_good("phi3", ", \"partial_rotary_factor\": 0.5, \"max_position_embeddings\": 512, \"original_max_position_embeddings\": 64, "
                               "\"rope_scaling\": {\"type\": \"longrope\", \"long_factor\": [1, 2, 3, 4], \"short_factor\": [1, 1, 1, 1]}");
    assert_int_equal(recipe->layers[0].rope->dims, 8);
    check_number(recipe->layers[0].rope->inverse_frequencies[3], pow(10000.0, -6.0 / 8) / 4);
    check_number(recipe->layers[0].rope->amplitude, sqrt(1 + log(8) / log(64)));
}

/* Frequencies from transformers' own functions (float32), head_dim 16, theta 10000. */
static void test_rope_scaling(void **state)
{
    (void)state;
    static const float llama3[] = { 1.0F, 0.316227764F, 0.100000001F, 0.0316227786F, 0.00297535234F, 0.000395284733F, 0.000125000006F, 3.95284733e-05F };
    static const float yarn[] = { 1.0F, 0.237170815F, 0.049999997F, 0.00790569466F, 0.00249999994F, 0.000790569466F, 0.000250000012F, 7.90569466e-05F };
    static const float exact_ends[] = { 1.0F, 0.198583528F, 0.0255952496F, 0.00790569466F, 0.00249999994F, 0.000790569466F, 0.000250000012F,
                                        7.90569466e-05F };
    const struct bb_recipe *recipe = read_good("llama", ", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "
                                               "\"high_freq_factor\": 4.0, \"original_max_position_embeddings\": 1000}");
    CHECK_NEAR(recipe->layers[0].rope->inverse_frequencies, llama3, 8, 1e-7);
    recipe = read_good("llama", ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 4}");
    check_number(recipe->layers[0].rope->inverse_frequencies[0], 0.25);
    recipe = read_good("llama", ", \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 4}, \"max_position_embeddings\": 100");
    assert_int_equal(recipe->position_limit, 100);
    recipe = read_good("qwen3", ", \"rope_theta\": 10000, \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4.0, "
                                "\"original_max_position_embeddings\": 64}");
    check_number(recipe->layers[0].rope->amplitude, 1.138629436111989);
    CHECK_NEAR(recipe->layers[0].rope->inverse_frequencies, yarn, 8, 1e-7);
    recipe = read_good("qwen3", ", \"rope_parameters\": {\"rope_theta\": 10000, \"rope_type\": \"yarn\", \"factor\": 4.0, "
                                "\"original_max_position_embeddings\": 64, \"truncate\": false}");
    CHECK_NEAR(recipe->layers[0].rope->inverse_frequencies, exact_ends, 8, 1e-7);
}

static void test_errors(void **state)
{
    (void)state;
    expect("mamba", NULL, "", BOMBUS_ERROR_UNSUPPORTED, "model_type \"mamba\" is not supported; supported are llama, mistral, qwen2, qwen3, "
           "qwen3_moe, mixtral, gemma2, gemma3_text, phi3, olmo2, granite, smollm3, gpt_oss");
    assert_int_equal(read_text("{}"), BOMBUS_ERROR_FORMAT);
    assert_non_null(strstr(fixture.error.message, "model_type"));
    assert_int_equal(read_text("{\"model_type\": 7}"), BOMBUS_ERROR_FORMAT);
    expect("llama", NULL, ", \"hidden_act\": \"relu2\"", BOMBUS_ERROR_UNSUPPORTED, "relu2");
    expect("llama", NULL, ", \"attention_chunk_size\": 64", BOMBUS_ERROR_UNSUPPORTED, "chunk");
    expect("llama", NULL, ", \"rope_scaling\": {\"type\": \"spiral\", \"factor\": 2}", BOMBUS_ERROR_UNSUPPORTED, "spiral");
    expect("llama", NULL, ", \"rope_scaling\": {\"type\": \"linear\"}", BOMBUS_ERROR_FORMAT, "rope_scaling/factor is missing");
    expect("llama", NULL, ", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 0}", BOMBUS_ERROR_FORMAT, "factor");
    expect("llama", NULL, ", \"rope_theta\": -1", BOMBUS_ERROR_FORMAT, "rope_theta");
    expect("llama", NULL, ", \"rope_theta\": 1, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 2}", BOMBUS_ERROR_FORMAT, "yarn");
    expect("llama", NULL, ", \"layer_types\": [\"full_attention\"]", BOMBUS_ERROR_FORMAT, "layer_types has 1 entries for 4 layers");
    expect("llama", NULL, ", \"layer_types\": [\"full_attention\", \"full_attention\", \"linear_attention\", \"full_attention\"]",
           BOMBUS_ERROR_UNSUPPORTED, "linear_attention");
    expect("llama", NULL, ", \"layer_types\": [\"sliding_attention\", \"full_attention\", \"full_attention\", \"full_attention\"]",
           BOMBUS_ERROR_FORMAT, "sliding_window");
    expect("smollm3", NULL, ", \"no_rope_layers\": [1]", BOMBUS_ERROR_FORMAT, "no_rope_layers");
    expect("gpt_oss", NULL, ", \"swiglu_limit\": 5", BOMBUS_ERROR_UNSUPPORTED, "swiglu_limit");
    expect("mixtral", NULL, ", \"num_local_experts\": 2, \"num_experts_per_tok\": 3", BOMBUS_ERROR_FORMAT, "num_experts_per_tok");
    expect("granite", NULL, ", \"logits_scaling\": 0", BOMBUS_ERROR_FORMAT, "logits_scaling");
    expect("gemma2", NULL, ", \"query_pre_attn_scalar\": 0", BOMBUS_ERROR_FORMAT, "query_pre_attn_scalar");
    expect("phi3", NULL, ", \"partial_rotary_factor\": 0", BOMBUS_ERROR_FORMAT, "partial_rotary_factor");
    expect("phi3", NULL, ", \"rope_scaling\": {\"type\": \"su\", \"long_factor\": [1, 2]}", BOMBUS_ERROR_FORMAT, "long_factor has 2 entries");
}

/* Sizes that no model has, each of which would break something further down. */
static void test_hostile_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value;
    } cases[] = {
        { "num_attention_heads", "0" },     { "num_attention_heads", "-4" },        { "num_attention_heads", "3" },
        { "num_key_value_heads", "0" },     { "num_key_value_heads", "3" },         { "num_hidden_layers", "1000000000" },
        { "num_hidden_layers", "0" },       { "head_dim", "17" },                   { "head_dim", "0" },
        { "head_dim", "1e18" },             { "hidden_size", "0" },                 { "hidden_size", "9223372036854775807" },
        { "hidden_size", "\"64\"" },        { "vocab_size", "0" },                  { "vocab_size", "4294967297" },
        { "vocab_size", "null" },           { "intermediate_size", "-1" },          { "intermediate_size", "1.5" },
        { "rms_norm_eps", "-1" },           { "rms_norm_eps", "1e300" },            { "max_position_embeddings", "0" },
        { "num_hidden_layers", "[4]" },     { "num_attention_heads", "1000000" },
    };
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        static const char *const keys[] = { "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                                            "num_key_value_heads", "head_dim", "rms_norm_eps", "max_position_embeddings" };
        static const char *const values[] = { "256", "64", "96", "4", "4", "4", "16", "1e-5", "512" };
        struct bb_buffer text = {0};
        bb_buffer_add_text(&text, "{\"model_type\": \"qwen3\"");
        for (size_t j = 0; j < BB_COUNT(keys); j++)
            bb_buffer_format(&text, ", \"%s\": %s", keys[j], strcmp(keys[j], cases[i].key) == 0 ? cases[i].value : values[j]);
        bb_buffer_add_text(&text, "}");
        if (read_text(text.data) != BOMBUS_ERROR_FORMAT)
            fail_msg("%s: %s gave %s: %s", cases[i].key, cases[i].value, bombus_status_name(fixture.status), fixture.error.message);
        bb_buffer_clear(&text);
    }
}

static void test_failing_allocation(void **state)
{
    (void)state;
    read_good("qwen3", "");
    for (uint64_t i = 1;; i++) {
        struct bb_arena arena = {0};
        bb_memory_fail_at(i, false);
        bombus_status status = bb_recipe_read(&fixture.recipe, fixture.config, &arena, &fixture.error);
        bb_memory_fail_at(0, false);
        bb_arena_clear(&arena);
        if (status == BOMBUS_OK) {
            assert_true(i > 1);
            break;
        }
        assert_int_equal(status, BOMBUS_ERROR_MEMORY);
    }
}

static int teardown(void **state)
{
    (void)state;
    clear();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama),  cmocka_unit_test(test_qwen),         cmocka_unit_test(test_gemma),
        cmocka_unit_test(test_others), cmocka_unit_test(test_rope_scaling), cmocka_unit_test(test_errors),
        cmocka_unit_test(test_hostile_sizes), cmocka_unit_test(test_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, teardown);
}
