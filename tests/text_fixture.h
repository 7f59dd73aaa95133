/* Tokenizer and chat template of a model of the reference data. */
#ifndef TEXT_FIXTURE_H
#define TEXT_FIXTURE_H

#include "golden.h"
#include "scratch.h"
#include "text/chat.h"
#include "text/tokenizer.h"

static struct bb_tokenizer *tokenizer; /* NULL where the model is absent */
static struct bb_template *template_;

static inline int text_setup(void **state)
{
    const char *folder = golden_model("qwen3-4bit-f32");
    bombus_error error;
    if (folder != NULL) {
        CHECK_OK(bb_tokenizer_open(&tokenizer, folder, NULL, &error), error);
        CHECK_OK(bb_chat_template_open(&template_, folder, NULL, &error), error);
    }
    return scratch_setup(state);
}

static inline int text_teardown(void **state)
{
    bb_template_free(template_);
    bb_tokenizer_close(tokenizer);
    return scratch_teardown(state);
}

#define SKIP_WITHOUT_MODEL() SKIP_WITHOUT_GOLDEN(tokenizer)

#endif
