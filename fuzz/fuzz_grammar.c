/* Constraints from any bytes. Input: a letter that chooses the kind, the source, then optionally a NUL and a text to match. */
#include "generate/grammar/configurations.h"
#include "generate/grammar/constraint.h"
#include "text/unicode.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* All ways through the text, as far as bounds allow; what is alive must be something. */
static void follow(const struct bb_automaton *automaton, const char *text, size_t length)
{
    struct bb_mover mover = {.automaton = automaton};
    struct bb_configurations now = {0}, next = {0};
    if (bb_frames_reset(&mover.frames))
        bb_mover_land(&mover, &now, automaton->root, 0);
    for (size_t i = 0; i < length && now.status == BOMBUS_OK && now.count > 0; i++) {
        bb_mover_close(&mover, &now);
        if (now.status != BOMBUS_OK)
            break;
        bb_mover_step(&mover, &now, (uint8_t)text[i], &next);
        struct bb_configurations kept = now;
        now = next;
        next = kept;
    }
    bb_frames_clear(&mover.frames);
    bb_configurations_clear(&now);
    bb_configurations_clear(&next);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bb_rules rules = {0};
    struct bb_automaton automaton;
    if (size == 0 || size > 4096)
        return 0;
    const char *source = (const char *)data + 1, *end = memchr(source, 0, size - 1);
    size_t length = end != NULL ? (size_t)(end - source) : size - 1;
    if (bb_utf8_valid_length(source, length) < length)
        return 0;
    bombus_status status = data[0] % 3 == 0   ? bb_schema_read(&rules, source, length, NULL)
                           : data[0] % 3 == 1 ? bb_pattern_read(&rules, source, length, NULL)
                                              : bb_gbnf_read(&rules, source, length, NULL);
    if (status == BOMBUS_OK && bb_automaton_create(&automaton, &rules, NULL) == BOMBUS_OK) {
        if (end != NULL)
            follow(&automaton, end + 1, size - 2 - length);
        bb_automaton_clear(&automaton);
    }
    bb_rules_clear(&rules);
    return 0;
}
