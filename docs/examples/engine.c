/* Three stories at once, by one engine: engine [FOLDER] */
#include <bombus.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int open_count, failed_count; /* requests that have not ended; that ended with an error */
/* From the engine's thread, once a request. */
static void finished(void *subject, uint64_t id, const bombus_generate_result *story, const bombus_error *error)
{
    if (error != NULL)
        printf("request %d failed: %s\n", (int)id, error->message);
    else
        printf("A story about a %s, after %.2f s:\n%s\n\n", (const char *)subject, story->prompt_seconds + story->generation_seconds, story->text);
    pthread_mutex_lock(&mutex);
    failed_count += error != NULL;
    open_count--;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&mutex);
}
/* Hands one request over; everything in it is copied. */
static bool ask(bombus_engine *engine, const bombus_tokenizer *tokenizer, const char *subject, bombus_error *error)
{
    char text[200];
    snprintf(text, sizeof text, "<|im_start|>user\nWrite a story about a %s<|im_end|>\n<|im_start|>assistant\n", subject);
    bombus_generate_options options = {.max_tokens = 60, .sampler = {.temperature = 0.7f, .top_k = 40, .seed = 7}};
    bombus_request request = {.options = &options, .finished = finished, .context = (void *)(uintptr_t)subject};
    int32_t *ids = NULL;
    bool ok = !bombus_tokenizer_encode(tokenizer, text, strlen(text), false, &ids, &request.prompt_count, error);
    request.prompt = ids;
    ok = ok && !bombus_engine_submit(engine, &request, NULL, error);
    bombus_free(ids);
    return ok;
}
int main(int argc, char **argv)
{
    static const char *const subjects[] = {"fox", "lighthouse", "bee"};
    const char *folder = argc > 1 ? argv[1] : "models/bombus-stories-28m-4bit";
    bombus_model *model = NULL;
    bombus_tokenizer *tokenizer = NULL;
    bombus_engine *engine = NULL;
    bombus_engine_options options = {.max_batch = 4, .kv_bytes = 64 << 20, .context_size = 512};
    bombus_error error;
    bool ok = !bombus_model_open(&model, folder, NULL, &error) && !bombus_tokenizer_open(&tokenizer, folder, NULL, &error) &&
              !bombus_engine_create(&engine, model, tokenizer, &options, &error);
    for (int i = 0; i < 3 && ok; i++) {
        pthread_mutex_lock(&mutex);
        open_count++;
        pthread_mutex_unlock(&mutex);
        ok = ask(engine, tokenizer, subjects[i], &error);
    }
    pthread_mutex_lock(&mutex);
    while (ok && open_count > 0)
        pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
    if (!ok)
        puts(error.message);
    bombus_engine_free(engine), bombus_tokenizer_close(tokenizer), bombus_model_close(model);
    return ok && failed_count == 0 ? 0 : 1;
}
