/* Calls: built-in functions, found by name, get their arguments in order; macros and loops carry what a call of them does. */
#ifndef BB_TEMPLATE_CALL_H
#define BB_TEMPLATE_CALL_H

#include "text/template/work.h"

/* NULL if there is none of that name. One without a body is known but not supported. */
const struct bb_function *bb_find_filter(const struct bb_text *name);
const struct bb_function *bb_find_test(const struct bb_text *name);
const struct bb_function *bb_find_global(const struct bb_text *name);

/* Calls a function with arguments put in the order of its parameters. */
struct bb_value bb_call_function(struct bb_work *work, const struct bb_function *function, struct bb_value self,
                                 const struct bb_arguments *arguments);
/* Filters and tests by name, for map, select and the like. */
struct bb_value bb_call_filter(struct bb_work *work, struct bb_value name, struct bb_value value,
                               const struct bb_arguments *arguments);
bool bb_call_test(struct bb_work *work, struct bb_value name, struct bb_value value,
                  const struct bb_arguments *arguments);
/* Any callable value: functions, methods, macros, loops, joiners. */
struct bb_value bb_value_call(struct bb_work *work, struct bb_value callee, const struct bb_arguments *arguments);

#endif
