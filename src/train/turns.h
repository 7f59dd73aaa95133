/* Where the assistant's turns lie in a rendered conversation.
 *
 * Where the template marks them ({% generation %}), that is what they are. Else a turn begins behind the text that asks for it (the prompt
 * as generation would see it) and ends with what the template writes behind a message:
 *
 *   1. The conversation up to the turn, with the generation prompt, is rendered; if the whole text begins so, the turn begins there, and it
 *      ends where the conversation up to and with the turn ends, if the whole begins with that too.
 *   2. Templates that write a turn differently once others follow (Qwen3 drops the thinking of earlier turns) fail the first test. Then the
 *      message is replaced by a mark and the whole is rendered again: what stands behind the mark is unchanged and tells where the body ends.
 *      The header is the generation prompt that stands last before the mark. What stands behind the mark and also at the end of a
 *      conversation that stops there (the end-of-turn token) belongs to the turn.
 *
 * A turn that neither finds is an error: nothing is guessed. The last turn goes to the end of the text, as in mlx-lm. */
#ifndef BB_TURNS_H
#define BB_TURNS_H

#include "train/rendering.h"

struct bb_turns {
    bombus_span *spans; /* [count], bytes of the text, ascending */
    size_t count;
};

/* `whole` is what the messages were rendered to. No turns at all is count 0. */
BB_RESULT bombus_status bb_turns_find(struct bb_turns *turns, const struct bb_renderer *renderer, json_t *messages,
                                      const json_t *tools, const struct bb_rendered *whole, bombus_error *error);
void bb_turns_clear(struct bb_turns *turns);

#endif
