/* Constraints. */
#include "api/handles.h"

bombus_status bombus_constraint_create(bombus_constraint **constraint, bombus_constraint_kind kind, const char *source,
                                       size_t length, const bombus_tokenizer *tokenizer, bombus_error *error)
{
    bombus_status status = bb_check_pointer(constraint, "constraint", error);
    if (status != BOMBUS_OK)
        return status;
    *constraint = NULL;
    status = bb_check_array(source, length, "source", error);
    if (status == BOMBUS_OK)
        status = bb_check_pointer(tokenizer, "tokenizer", error);
    return status != BOMBUS_OK ? status
                               : bb_constraint_cache_get(tokenizer->constraints, constraint, kind,
                                                         source != NULL ? source : "", length, error);
}

void bombus_constraint_free(bombus_constraint *constraint)
{
    bb_constraint_free(constraint);
}
