/* Frequency tables of rotary embeddings, from config.json's rope_scaling or rope_parameters. */
#ifndef BB_ROPE_H
#define BB_ROPE_H

#include "model/families/family.h"

struct bb_rope_request {
    int32_t dims;              /* entries of a head that turn */
    const char *theta_key;     /* top-level key of the base; NULL: "rope_theta" */
    double theta;              /* where config.json has none */
    const char *layer_type;    /* key inside rope_parameters where those are nested by layer type; NULL: not looked for */
    bool ignores_scaling;      /* only the base is read (mlx-lm's qwen3_moe, mixtral, gemma2; gemma3's local layers) */
    bool is_traditional;
    int32_t original_max_position_embeddings; /* of longrope, where config.json has it at top level; 0: in the scaling */
};

/* In the reader's arena; NULL after a failure, which is sticky in the reader. May set recipe->position_limit. */
const struct bb_rope *bb_read_rope(struct bb_reader *reader, struct bb_recipe *recipe, const struct bb_rope_request *request);

/* The same rope in every layer, of whole heads, with base and scaling as config.json has them. */
void bb_read_common_rope(struct bb_reader *reader, struct bb_recipe *recipe, double theta);

#endif
