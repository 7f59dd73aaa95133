/* Ctrl-C: the first asks the work in hand to stop, so that what is there can be printed; a second ends the program. */
#ifndef CLI_INTERRUPT_H
#define CLI_INTERRUPT_H

#include <stdbool.h>
#include <stddef.h>

/* From now on (again) the next SIGINT only sets the flag. */
void interrupt_catch(void);
/* SIGINT ends the program again, as where nothing was caught. */
void interrupt_release(void);
bool interrupt_is_pending(void);
/* A bombus_prompt_progress (of fusing too) that stops after SIGINT. */
bool interrupt_on_progress(void *context, size_t done, size_t total);

#endif
