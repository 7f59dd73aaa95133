/* The flag that SIGINT sets: the one mutable global of the program, since a signal handler reaches nothing else. */
#include "cli/interrupt.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t is_pending;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    is_pending = 1;
}

void interrupt_catch(void)
{
    is_pending = 0;
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
}

void interrupt_release(void)
{
    is_pending = 0;
    signal(SIGINT, SIG_DFL);
}

bool interrupt_is_pending(void)
{
    return is_pending != 0;
}

bool interrupt_on_progress(void *context, size_t done, size_t total)
{
    (void)context;
    (void)done;
    (void)total;
    return !interrupt_is_pending();
}
