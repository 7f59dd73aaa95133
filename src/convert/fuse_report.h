/* What survives of a change to a model's weights where they are written, matrix by matrix. */
#ifndef BB_FUSE_REPORT_H
#define BB_FUSE_REPORT_H

#include "base/memory.h"
#include "tensor/weight.h"

/* One matrix that changed. D is what is to be added to W, E what the new matrix differs by from W + D. */
struct bb_fuse_result {
    const char *path;  /* of the tensors; in the report's arena */
    double survival;   /* 1 - |E|^2 / |D|^2, at least 0: 1 where all of the change is there to the bit */
    double projection; /* of the change that is there, on D, as a share of |D| */
    double relative;   /* |D| / |W| */
    struct bb_scheme scheme;
};

struct bb_fuse_report {
    struct bb_arena arena;
    struct bb_fuse_result *results; /* [count] */
    size_t count;
    double survival; /* of all matrices together: sums of |E|^2 and |D|^2 */
    double error_sum, delta_sum;
};

/* |W|^2, |D|^2, |E|^2 and the product of D with the change that is there. */
struct bb_fuse_sums {
    double weight, delta, error, product;
};

void bb_fuse_report_add(struct bb_fuse_report *report, struct bb_fuse_result *result, const struct bb_fuse_sums *sums);
void bb_fuse_report_clear(struct bb_fuse_report *report);

#endif
