/* The tape: nodes found by their memory, records appended. */
#include "ops/tape.h"

void bb_tape_begin(struct bb_tape *tape, struct bb_run *run, const struct bb_batch *batch)
{
    tape->batch = batch;
    tape->keys = tape->values = -1;
    tape->node_count = tape->record_count = 0;
    run->tape = tape;
}

void bb_tape_end(struct bb_run *run)
{
    run->tape = NULL;
}

static int32_t fail_full(struct bb_run *run)
{
    if (run->status == BOMBUS_OK)
        run->status = bb_fail(&run->error, BOMBUS_ERROR_UNSUPPORTED, "a block of more than %d operations has no room on the tape", BB_TAPE_RECORDS);
    return -1;
}

int32_t bb_tape_node(struct bb_run *run, struct bb_tensor tensor, bool is_wanted)
{
    struct bb_tape *tape = run->tape;
    if (tensor.data == NULL)
        return -1;
    for (int32_t i = 0; i < tape->node_count; i++)
        if (tape->nodes[i].value.data == tensor.data)
            return i;
    if (tape->node_count == BB_TAPE_NODES)
        return fail_full(run);
    tape->nodes[tape->node_count] = (struct bb_node){.value = tensor, .is_wanted = is_wanted};
    return tape->node_count++;
}

struct bb_record *bb_tape_add(struct bb_run *run, enum bb_record_kind kind, struct bb_tensor first, struct bb_tensor second, struct bb_tensor third,
                              struct bb_tensor out, bool has_parameters)
{
    struct bb_tape *tape = run->tape;
    if (tape == NULL || run->is_measuring || run->status != BOMBUS_OK || out.data == NULL)
        return NULL;
    struct bb_record record = {
        .kind = kind,
        .inputs = {bb_tape_node(run, first, false), bb_tape_node(run, second, false), bb_tape_node(run, third, false)},
        .is_exact = run->is_exact,
    };
    bool is_wanted = has_parameters;
    for (int32_t i = 0; i < 3; i++)
        is_wanted = is_wanted || (record.inputs[i] >= 0 && tape->nodes[record.inputs[i]].is_wanted);
    record.output = bb_tape_node(run, out, false);
    if (run->status != BOMBUS_OK || !is_wanted)
        return NULL;
    tape->nodes[record.output].is_wanted = true;
    if (tape->record_count == BB_TAPE_RECORDS) {
        fail_full(run);
        return NULL;
    }
    tape->records[tape->record_count] = record;
    return &tape->records[tape->record_count++];
}
