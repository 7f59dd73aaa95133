/* The one forward pass: rows in, logits out. */
#ifndef BB_DECODER_H
#define BB_DECODER_H

#include "model/kv_cache.h"
#include "model/weights.h"
#include "ops/run.h"

/* Logits of the batch's output rows, f32 [output_count, vocab_size], in the run's scratch memory (valid until the run's next reset). The rows' keys and
 * values are written to the cache, which must have pages for them (bb_kv_cache_reserve); the caller advances it. Check run->status. With
 * run->is_measuring nothing is computed and run->scratch_peak tells the memory that such a batch needs. */
struct bb_tensor bb_decoder_forward(struct bb_run *run, const struct bb_model *model, struct bb_kv_cache *cache,
                                    const struct bb_batch *batch);

/* Makes the run's scratch memory large enough for such a batch, by a measuring pass. The run is reset. */
BB_RESULT bombus_status bb_decoder_reserve(struct bb_run *run, const struct bb_model *model, struct bb_kv_cache *cache,
                                           const struct bb_batch *batch, bombus_error *error);

#endif
