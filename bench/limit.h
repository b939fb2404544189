/* What limit.c is asked for; floor.py has the same structs. */
#ifndef LIMIT_H
#define LIMIT_H

#include <stdint.h>

/* Each is on a target that exists, with the options that pyns gives it. */
enum mount_kind {
	BIND,
	BIND_READ_ONLY,
	TMPFS,
	TMPFS_WITH_ENTRIES, /* a directory and a symbolic link in it */
	PROC,
	SYSFS,
	MQUEUE,
	DEVPTS,
	DEV,
	FILE_CONTENT,
	OVERLAY, /* of one lower, with a throw-away upper */
	CGROUP2,
};

struct mount {
	uint64_t kind;
	const char *source, *target;
};

/* The moment at which each ends; those that are not asked for end where the one before does. */
enum stage {
	BEGIN,
	CLONE,    /* and a stack for the child */
	CGROUPS,  /* v1: entered by the child */
	ID_MAPS,  /* and a time namespace */
	NAMES,    /* hostname, and the loopback interface */
	NEW_ROOT, /* propagation, and a copy of the directory */
	MOUNTS,   /* in the new root */
	PIVOT,    /* and letting go of the old root */
	DEFAULTS, /* signals, and fds from 3 on */
	EXECUTE,  /* until the parent goes on */
	END,      /* the program runs, ends and is reaped */
	STAGES,
};

struct request {
	const char *program;
	char *const *arguments, *const *environment;
	uint64_t namespaces; /* CLONE_NEW... */
	const char *root, *hostname;
	const char *uid_map, *gid_map;
	uint64_t maps_by_parent; /* several ranges: the child may not write them itself */
	const int32_t *tasks;    /* fds of tasks files of v1, ended by -1 */
	int64_t birth;           /* fd of a v2 cgroup, or -1 */
	const struct mount *mounts;
	uint64_t mount_count;
	uint64_t *times; /* STAGES, in ns of CLOCK_MONOTONIC; or NULL */
};

/* Where the child stands that waits for its id maps. */
enum gate { NOT_REACHED, REACHED, OPEN };

struct child {
	const struct request *request;
	uint64_t signal_mask;
	int pid, error;
	uint32_t gate; /* a futex */
};

/* Returns the pid or -errno; the child has executed its program, or child->error says why not. */
int clone_child(struct child *child, int *ret_pidfd);

/* The same, while a thread writes the maps of the child. */
int clone_with_help(struct child *child, int *ret_pidfd);

/* Mounts one beneath the root. Leaves fds to close-on-exec when it fails: the child ends then. */
int mount_in(int root, const struct mount *mount);

#endif
