/* Runs the built command as a process, for tests of what people and programs see. */
#ifndef PROCESS_H
#define PROCESS_H

#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

enum { PROCESS_ARGUMENT_LIMIT = 64, PROCESS_SECONDS = 120 };

struct process {
    pid_t id;
    int code;        /* exit code; 128 + signal where one ended it */
    char *out, *err; /* what it wrote, NUL-terminated; released by process_clear */
    size_t out_size;
};

/* The program beside the tests: build/KIND/bombus. */
static inline const char *process_program(void)
{
    static char path[4096];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 32);
    assert_true(length > 0);
    path[length] = '\0';
    *strrchr(path, '/') = '\0';
    strcpy(strrchr(path, '/'), "/bombus");
    return path;
}

/* Starts it with `input` as standard input; what it writes goes to files of the scratch folder. */
static inline void process_start(struct process *process, const char *input, const char *const *arguments)
{
    char *words[PROCESS_ARGUMENT_LIMIT + 2] = {(char *)(uintptr_t)process_program()};
    for (size_t i = 0; arguments[i] != NULL; i++) {
        assert_true(i < PROCESS_ARGUMENT_LIMIT);
        words[i + 1] = (char *)(uintptr_t)arguments[i];
    }
    *process = (struct process){0};
    scratch_text("process-in", input);
    fflush(NULL);
    process->id = fork();
    assert_true(process->id >= 0);
    if (process->id == 0) {
        int in = open(scratch_path("process-in"), O_RDONLY);
        int out = open(scratch_path("process-out"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
        int err = open(scratch_path("process-err"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (in < 0 || out < 0 || err < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
            _exit(127);
        execv(words[0], words);
        _exit(127);
    }
}

static inline char *process_read(const char *name, size_t *size)
{
    char *data = NULL;
    bombus_error error;
    CHECK_OK(bb_file_read(&data, size, scratch_path(name), (size_t)1 << 30, &error), error);
    return data;
}

/* Waits for its end, at most PROCESS_SECONDS. */
static inline void process_wait(struct process *process)
{
    int status = 0;
    struct timespec pause = {.tv_nsec = 2000000};
    time_t start = time(NULL);
    while (waitpid(process->id, &status, WNOHANG) == 0) {
        if (time(NULL) - start > PROCESS_SECONDS) {
            kill(process->id, SIGKILL);
            waitpid(process->id, &status, 0);
            print_error("the program was still running after %d seconds\n", (int)PROCESS_SECONDS);
            break;
        }
        nanosleep(&pause, NULL);
    }
    size_t size;
    process->code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    process->out = process_read("process-out", &process->out_size);
    process->err = process_read("process-err", &size);
}

static inline void process_clear(struct process *process)
{
    bb_release(process->out);
    bb_release(process->err);
    *process = (struct process){0};
}

/* Runs it to its end, which must have this exit code. */
static inline void process_run(struct process *process, int code, const char *input, const char *const *arguments)
{
    process_start(process, input, arguments);
    process_wait(process);
    if (process->code != code) {
        print_error("exit code %d, expected %d:", process->code, code);
        for (size_t i = 0; arguments[i] != NULL; i++)
            print_error(" '%s'", arguments[i]);
        print_error("\n%s\n%s\n", process->out, process->err);
    }
    assert_int_equal(process->code, code);
}

#define RUN(process, code, input, ...) process_run(process, code, input, (const char *const[]){__VA_ARGS__, NULL})

#endif
