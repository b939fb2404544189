/* What every file of the shim needs: system headers, the contract, the child's state. */
#ifndef SHIM_H
#define SHIM_H

#ifndef __linux__
#error "pyns needs Linux"
#endif

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "plan.h"

enum {
	STACK_SIZE = 64 * 1024,
	GUARD_SIZE = 64 * 1024, /* a page, of whatever size it is */
};

/* report.gate: 0, then reached by the child, then open or -errno by the parent */
enum gate {
	GATE_REACHED = 1,
	GATE_OPEN = 2,
};

/* Lies in the parent's frame; the child, on its own stack, works on it. */
struct child {
	const struct step *steps;
	uint32_t first, count;
	const char *text;
	char **pointers; /* room for the arrays that execve takes */
	uint64_t signal_mask;
	uint64_t second_stack; /* of STEP_CLONE_AGAIN */
	int root;              /* where targets are resolved */
	int tree;              /* the mount in hand, not attached yet */
	struct report *report;
};

_Noreturn void run_child(void *child);

#endif
