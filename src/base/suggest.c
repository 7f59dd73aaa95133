/* The nearest of several names to a word that is none of them. */
#include "base/suggest.h"

#include <stdbool.h>
#include <string.h>

enum { NAME_LIMIT = 64 };

/* How many characters to insert, delete or replace. Names longer than NAME_LIMIT are far from everything. */
static size_t edit_distance(const char *a, const char *b)
{
    size_t a_length = strlen(a), b_length = strlen(b), row[NAME_LIMIT + 1];
    if (a_length > NAME_LIMIT || b_length > NAME_LIMIT)
        return NAME_LIMIT;
    for (size_t j = 0; j <= b_length; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            bool is_same = a[i - 1] == b[j - 1] || (a[i - 1] == '_' && b[j - 1] == '-');
            size_t best = diagonal + (is_same ? 0 : 1);
            diagonal = row[j];
            best = best < row[j] + 1 ? best : row[j] + 1;
            row[j] = best < row[j - 1] + 1 ? best : row[j - 1] + 1;
        }
    }
    return row[b_length];
}

const char *bb_suggest(const char *name, const char *const *names, size_t count)
{
    const char *nearest = NULL;
    size_t least =
        strlen(name) / 3 + 2; /* a third of the letters wrong, and one more: further off it is another word */
    for (size_t i = 0; i < count; i++) {
        size_t distance = edit_distance(name, names[i]);
        if (distance < least) {
            least = distance;
            nearest = names[i];
        }
    }
    return nearest;
}
