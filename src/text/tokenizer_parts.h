/* What a tokenizer is made of; for the sources of this folder that put it together and run it. */
#ifndef BB_TOKENIZER_PARTS_H
#define BB_TOKENIZER_PARTS_H

#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/decoder.h"
#include "text/normalizer.h"
#include "text/post_processor.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"
#include "text/unigram.h"

#include <stdatomic.h>

struct bb_token_trie;

/* How a stream of ids becomes text: mlx-lm chooses by the decoder, and so do we. */
enum bb_stream_kind {
    BB_STREAM_NAIVE,          /* decode all tokens of a line again and again */
    BB_STREAM_BYTE_LEVEL,     /* bytes as visible characters */
    BB_STREAM_SENTENCE,       /* SentencePiece, without the space that was put before the text */
    BB_STREAM_SENTENCE_SPACE, /* SentencePiece, spaces as they are */
};

struct bb_tokenizer {
    struct bb_vocabulary vocabulary;
    bool is_unigram;
    struct bb_bpe bpe;         /* unless is_unigram */
    struct bb_unigram unigram; /* if is_unigram */
    struct bb_normalizer *normalizer;
    struct bb_pre_tokenizer *pre_tokenizer;
    struct bb_post_processor post_processor;
    struct bb_decoder *decoder;
    struct bb_added_tokens added;
    enum bb_stream_kind stream_kind;
    struct bb_ids eos_ids;
    char *bos_token, *eos_token; /* of tokenizer_config.json; NULL where not set */
    _Atomic(struct bb_token_trie *) *trie; /* NULL in it until somebody asks (token_trie.h) */
    struct bb_arena arena;                 /* small texts */
};

/* The token of an id as the decoder takes it; NULL if there is none. */
const char *bb_tokenizer_decoder_token(const struct bb_tokenizer *tokenizer, int32_t id, size_t *length);

#endif
