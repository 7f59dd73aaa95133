/* The two digests by which the hub names files: SHA-256 of large ones, git's blob SHA-1 of the others. */
#ifndef BB_DIGEST_H
#define BB_DIGEST_H

#include "base/error.h"

#include <stdbool.h>

enum { BB_DIGEST_TEXT_SIZE = 65 };

struct bb_digest {
    void *context; /* NULL: closed */
};

/* SHA-256, or (is_git) the SHA-1 that git gives a blob of `size` bytes. */
BB_RESULT bombus_status bb_digest_open(struct bb_digest *digest, bool is_git, uint64_t size, bombus_error *error);
bool bb_digest_add(struct bb_digest *digest, const void *bytes, size_t count) BB_RESULT;
/* In lower-case hexadecimal; false if the library fails. */
bool bb_digest_finish(struct bb_digest *digest, char text[BB_DIGEST_TEXT_SIZE]) BB_RESULT;
void bb_digest_close(struct bb_digest *digest); /* a zeroed one is allowed */

#endif
