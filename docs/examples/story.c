/* Asks a model for a story: story [FOLDER] */
#include <bombus.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "models/bombus-stories-28m-4bit";
    const char *ask = "<|im_start|>user\nWrite a story about a fox<|im_end|>\n<|im_start|>assistant\n";
    bombus_model *model = NULL;
    bombus_tokenizer *tokenizer = NULL;
    bombus_session *session = NULL;
    bombus_generate_result story = {0};
    bombus_generate_options options = {.max_tokens = 120, .sampler = {.temperature = 0.7f, .top_k = 40, .seed = 7}};
    bombus_error error;
    int32_t *ids = NULL;
    size_t count = 0;
    bool ok = !bombus_model_open(&model, folder, NULL, &error) && !bombus_tokenizer_open(&tokenizer, folder, NULL, &error) &&
              !bombus_tokenizer_encode(tokenizer, ask, strlen(ask), false, &ids, &count, &error) &&
              !bombus_session_create(&session, model, NULL, &error) &&
              !bombus_generate(session, tokenizer, ids, count, &options, &story, &error);
    puts(ok ? story.text : error.message);
    bombus_generate_result_clear(&story), bombus_free(ids);
    bombus_session_free(session), bombus_tokenizer_close(tokenizer), bombus_model_close(model);
    return ok ? 0 : 1;
}
