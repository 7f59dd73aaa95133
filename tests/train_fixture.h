/* Data to train on: lines of a few words. */
#ifndef TRAIN_FIXTURE_H
#define TRAIN_FIXTURE_H

#include "base/buffer.h"
#include "scratch.h"

/* Lines [first, first + count) of an endless text, as jsonl in the scratch folder. */
static inline void write_lines(const char *name, size_t first, size_t count)
{
    static const char *const words[] = {"fox", "moon", "river", "stone", "a", "the", "sings", "waits", "under", "bread"};
    struct bb_buffer text = {0};
    for (size_t i = first; i < first + count; i++) {
        bb_buffer_add_text(&text, "{\"text\": \"");
        for (size_t word = 0; word < 3 + i % 9; word++)
            bb_buffer_format(&text, "%s ", words[(i * 7 + word * word * 3 + word) % BB_COUNT(words)]);
        bb_buffer_add_text(&text, "\"}\n");
    }
    scratch_write(name, text.data, text.length);
    bb_buffer_clear(&text);
}

#endif
