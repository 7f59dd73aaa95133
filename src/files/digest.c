/* The two digests by which the hub names files: SHA-256 of large ones, git's blob SHA-1 of the others. */
#include "files/digest.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdio.h>

bombus_status bb_digest_open(struct bb_digest *digest, bool is_git, uint64_t size, bombus_error *error)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    *digest = (struct bb_digest){context};
    bool is_made = context != NULL && EVP_DigestInit_ex(context, is_git ? EVP_sha1() : EVP_sha256(), NULL) == 1;
    if (is_made && is_git) {
        char head[40];
        int length = snprintf(head, sizeof head, "blob %" PRIu64, size);
        is_made = EVP_DigestUpdate(context, head, (size_t)length + 1) == 1; /* with its NUL */
    }
    if (is_made)
        return BOMBUS_OK;
    bb_digest_close(digest);
    return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED, "this machine's libcrypto makes no %s",
                   is_git ? "SHA-1" : "SHA-256");
}

bool bb_digest_add(struct bb_digest *digest, const void *bytes, size_t count)
{
    return EVP_DigestUpdate(digest->context, bytes, count) == 1;
}

bool bb_digest_finish(struct bb_digest *digest, char text[BB_DIGEST_TEXT_SIZE])
{
    unsigned char bytes[EVP_MAX_MD_SIZE];
    unsigned int count = 0;
    if (EVP_DigestFinal_ex(digest->context, bytes, &count) != 1 || 2 * count >= BB_DIGEST_TEXT_SIZE)
        return false;
    for (unsigned int i = 0; i < count; i++)
        snprintf(text + 2 * (size_t)i, 3, "%02x", bytes[i]);
    return true;
}

void bb_digest_close(struct bb_digest *digest)
{
    EVP_MD_CTX_free(digest->context);
    digest->context = NULL;
}
