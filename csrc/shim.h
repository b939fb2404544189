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
	ASIDE_MAX = 256,
};

/* report.gate: 0, then reached by the child, then open or -errno by the parent */
enum gate {
	GATE_REACHED = 1,
	GATE_OPEN = 2,
};

/* A mount that is copied each time but the first: before Linux 6.15 only an attached one can be. */
struct mask {
	int mount;
	bool is_attached;
};

/* Lies in the parent's frame; the child, on its own stack, works on it. */
struct child {
	const struct step *steps;
	uint32_t first, count;
	const char *text;
	char **pointers; /* room for the arrays that execve takes */
	uint64_t signal_mask;
	uint64_t second_stack; /* of STEP_CLONE_AGAIN */
	int ruleset;           /* Landlock's, not in force yet */
	int root;              /* where targets are resolved */
	int tree;              /* the mount in hand, not attached yet */
	int aside[ASIDE_MAX];
	uint32_t aside_first, aside_count; /* mounts put aside, the first come first */
	int directory;                     /* the caller's, while a stage is the current one */
	struct mask null, empty;           /* what covers files and directories */
	struct report *report;
};

_Noreturn void run_child(void *child);

/* Notes when a step begins, if that is asked for. */
void note_time(const struct child *child, uint32_t step);

/*
 * Around the clone. hides: the child becomes somebody else, or goes where others are, who are to be kept from
 * our memory. take_back_memory gets what lend_memory returned, and the pid of the child if it runs.
 */
bool lend_memory(bool hides);
void take_back_memory(bool hides, bool in_turn, int pid);

/* Does one of the steps about mounts; -EINVAL for any other kind. */
int mount_step(struct child *child, const struct step *step, const char *text);

/* Opens both ends of a terminal. */
int open_terminal(const struct step *step, const char *text);

/* Gives an fd to whoever has the other end. */
int send_fd(int socket, int fd);

/* The string that follows in the text of a step. */
static inline const char *after(const char *string)
{
	return string + strlen(string) + 1;
}

#endif
