/* The environment, read here and nowhere else. */
#include "cli/environment.h"

#include "base/buffer.h"
#include "base/compiler.h"
#include "base/file.h"
#include "base/memory.h"
#include "cli/report.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#define DEFAULT_MODEL "bombus-stories-28m-4bit"

enum { PATH_LIMIT = 4096, TOKEN_LIMIT = 4096 };

/* The variable's value; NULL if it is unset or empty. */
static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value != NULL && *value != '\0' ? value : NULL;
}

/* "a" "b" joined as a path; NULL if a is. Releases a. */
static char *joined(char *a, const char *b)
{
    char *path = a != NULL ? report_if_null(bb_path_join(a, b)) : NULL;
    bb_release(a);
    return path;
}

static char *copy(const char *text)
{
    return text != NULL ? report_if_null(bb_copy_text(text, strlen(text))) : NULL;
}

/* $NAME, or FOLDER in the home folder. */
static char *base_folder(const char *name, const char *folder)
{
    const char *value = variable(name);
    return value != NULL ? copy(value) : joined(copy(variable("HOME")), folder);
}

static char *hugging_face_folder(void)
{
    const char *home = variable("HF_HOME");
    return home != NULL ? copy(home) : joined(base_folder("XDG_CACHE_HOME", ".cache"), "huggingface");
}

static bool is_true(const char *value)
{
    static const char *const words[] = {"1", "true", "yes", "on"};
    for (size_t i = 0; value != NULL && i < BB_COUNT(words); i++) {
        if (strcasecmp(value, words[i]) == 0)
            return true;
    }
    return false;
}

/* The first line of the token file, as other Hugging Face tools write it; NULL where there is none. */
static char *read_token_file(void)
{
    const char *named = variable("HF_TOKEN_PATH");
    char *path = named != NULL ? copy(named) : joined(hugging_face_folder(), "token"), *token = NULL;
    size_t size = 0;
    if (path != NULL && bb_file_exists(path) && bb_file_read(&token, &size, path, TOKEN_LIMIT, NULL) == BOMBUS_OK) {
        token[strcspn(token, " \t\r\n")] = '\0';
        if (*token == '\0') {
            bb_release(token);
            token = NULL;
        }
    }
    bb_release(path);
    return token;
}

void environment_hub_read(struct environment_hub *hub)
{
    *hub = (struct environment_hub){0};
    const char *cache = variable("HF_HUB_CACHE");
    hub->cache_folder = cache != NULL ? copy(cache) : joined(hugging_face_folder(), "hub");
    const char *token = variable("HF_TOKEN");
    hub->token = token != NULL ? copy(token) : read_token_file();
    hub->options.cache_folder = hub->cache_folder;
    hub->options.token = hub->token;
    hub->options.endpoint = variable("HF_ENDPOINT");
    hub->options.proxy = variable("HTTPS_PROXY") != NULL ? variable("HTTPS_PROXY") : variable("https_proxy");
    hub->options.no_proxy = variable("NO_PROXY") != NULL ? variable("NO_PROXY") : variable("no_proxy");
    hub->options.ca_file = variable("SSL_CERT_FILE");
    hub->options.is_offline = is_true(variable("HF_HUB_OFFLINE"));
}

void environment_hub_clear(struct environment_hub *hub)
{
    bb_release(hub->cache_folder);
    bb_release(hub->token);
    *hub = (struct environment_hub){0};
}

char *environment_cache_folder(void)
{
    return joined(base_folder("XDG_CACHE_HOME", ".cache"), "bombus");
}

char *environment_state_file(const char *name)
{
    char *folder = joined(base_folder("XDG_STATE_HOME", ".local/state"), "bombus");
    if (folder != NULL && bb_folder_create(folder, NULL) != BOMBUS_OK) {
        bb_release(folder);
        return NULL;
    }
    return joined(folder, name);
}

char *environment_default_model(void)
{
    static const char *const places[] = {"../../models/" DEFAULT_MODEL, "../share/bombus/models/" DEFAULT_MODEL};
    if (variable("BOMBUS_MODEL") != NULL)
        return copy(variable("BOMBUS_MODEL"));
    char program[PATH_LIMIT];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0)
        return NULL;
    program[length] = '\0';
    *strrchr(program, '/') = '\0';
    for (size_t i = 0; i < BB_COUNT(places); i++) {
        char *folder = report_if_null(bb_path_join(program, places[i]));
        char *real = bb_folder_exists(folder) ? realpath(folder, NULL) : NULL;
        bb_release(folder);
        if (real != NULL) {
            char *result = copy(real);
            free(real);
            return result;
        }
    }
    return NULL;
}

const char *environment_cpu_level(void)
{
    return variable("BOMBUS_CPU");
}

int64_t environment_process_count(void)
{
    static const char *const names[] = {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"}; /* Open MPI's; MPICH's and Slurm's */
    for (size_t i = 0; i < BB_COUNT(names); i++) {
        const char *value = variable(names[i]);
        if (value != NULL)
            return strtoll(value, NULL, 10);
    }
    return 1;
}
