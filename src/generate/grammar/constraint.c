/* Constraints: read, compiled, bound to a vocabulary. */
#include "generate/grammar/constraint.h"

#include "base/map.h"
#include "base/memory.h"
#include "text/unicode.h"

#include <string.h>

enum { MAX_SOURCE_BYTES = 4 << 20 };

struct bb_constraint_text bb_constraint_text(bombus_constraint_kind kind, const char *source, size_t length)
{
    return (struct bb_constraint_text){
        .kind = kind, .source = source, .length = length, .hash = bb_hash(source, length, (uint64_t)kind)};
}

bool bb_constraint_text_is_same(const struct bb_constraint_text *a, const struct bb_constraint_text *b)
{
    return a->hash == b->hash && a->kind == b->kind && a->length == b->length &&
           memcmp(a->source, b->source, a->length) == 0;
}

void bb_constraint_hold(struct bombus_constraint *constraint)
{
    atomic_fetch_add_explicit(&constraint->holders, 1,
                              memory_order_relaxed); /* the caller has a hold while this runs */
}

void bb_constraint_free(struct bombus_constraint *constraint)
{
    /* acquire and release: all that other holders did comes before the freeing */
    if (constraint == NULL || atomic_fetch_sub_explicit(&constraint->holders, 1, memory_order_acq_rel) != 1)
        return;
    bb_release((char *)(uintptr_t)constraint->text.source);
    bb_masks_free(constraint->masks);
    bb_automaton_clear(&constraint->automaton);
    bb_release(constraint);
}

size_t bb_constraint_bytes(const struct bombus_constraint *constraint)
{
    return sizeof *constraint + constraint->text.length + bb_automaton_bytes(&constraint->automaton) +
           bb_masks_bytes(constraint->masks);
}

static bombus_status compile(struct bb_automaton *automaton, bombus_constraint_kind kind, const char *source,
                             size_t length, bombus_error *error)
{
    struct bb_rules rules = {.error = error};
    bombus_status status = BOMBUS_OK;
    if (length > MAX_SOURCE_BYTES)
        return bb_fail(error, BOMBUS_ERROR_LIMIT, "constraint: %zu bytes, expected at most %d", length,
                       MAX_SOURCE_BYTES);
    size_t valid = bb_utf8_valid_length(source, length);
    if (valid < length)
        return bb_fail(error, BOMBUS_ERROR_FORMAT, "constraint: byte %zu is no valid UTF-8", valid);
    switch (kind) {
    case BOMBUS_CONSTRAINT_JSON_SCHEMA: status = bb_schema_read(&rules, source, length, error); break;
    case BOMBUS_CONSTRAINT_REGEX: status = bb_pattern_read(&rules, source, length, error); break;
    case BOMBUS_CONSTRAINT_GBNF: status = bb_gbnf_read(&rules, source, length, error); break;
    default: status = bb_fail(error, BOMBUS_ERROR_ARGUMENT, "kind: %d, expected a bombus_constraint_kind", (int)kind);
    }
    if (status == BOMBUS_OK)
        status = bb_automaton_create(automaton, &rules, error);
    bb_rules_clear(&rules);
    return status;
}

bombus_status bb_constraint_create(struct bombus_constraint **constraint, bombus_constraint_kind kind,
                                   const char *source, size_t length, const struct bb_tokenizer *tokenizer,
                                   bombus_error *error)
{
    *constraint = NULL;
    struct bombus_constraint *made = bb_allocate(1, sizeof *made);
    if (made == NULL)
        return bb_fail_memory(error, sizeof *made, "a constraint");
    atomic_init(&made->holders, 1);
    bombus_status status = compile(&made->automaton, kind, source, length, error);
    if (status == BOMBUS_OK) {
        char *copy = bb_copy_text(source, length);
        if (copy != NULL)
            made->text = bb_constraint_text(kind, copy, length);
        else
            status = bb_fail_memory(error, length, "a constraint");
    }
    if (status == BOMBUS_OK)
        status = bb_tokenizer_trie(tokenizer, &made->trie, error);
    if (status == BOMBUS_OK) {
        made->eos_ids = bb_tokenizer_eos_ids(tokenizer, &made->eos_count);
        status = bb_masks_create(&made->masks, &made->automaton, made->trie, error);
    }
    if (status == BOMBUS_OK)
        *constraint = made;
    else
        bb_constraint_free(made);
    return status;
}
