/*
 * The contract between Python and C. Declarations only: cffi's cdef() and the
 * C compiler read this same file, so it has no preprocessor lines.
 *
 * A plan crosses as two immutable blocks: an array of struct step, and the
 * text they point into, NUL-terminated strings one after the other.
 */

enum step_kind {
	/* done by the parent, as arguments of clone3 */
	STEP_BIRTH_IN_CGROUP = 1, /* fd: directory of a v2 cgroup */
	STEP_CLONE,               /* flags: CLONE_NEW... */
	/* done by the child */
	STEP_ENTER_CGROUP,    /* fd: tasks file of a v1 cgroup */
	STEP_WAIT_FOR_PARENT, /* value: milliseconds at most; fd: as for die_with_parent, or -1 */
	STEP_WRITE_PROC,      /* text: path, content; fd: where a relative path begins */
	STEP_SET_NAMESPACES,  /* fd; flags: CLONE_NEW..., of what is to be joined */
	STEP_CLONE_AGAIN,     /* flags: CLONE_NEW...; another child goes on with the plan */
	STEP_SHOW_CGROUPS,    /* fd: a v2 cgroup, or -1; text: array of value int32_t, tasks files;
				 flags: pid of who goes there, 0 for any */
	STEP_HIDE_MEMORY, /* until the spawn is over: nobody may look at it, or at the child's fds */
	STEP_UNSHARE,     /* flags: CLONE_NEW... */
	STEP_SET_HOSTNAME,   /* text */
	STEP_SET_DOMAINNAME, /* text */
	STEP_LOOPBACK_UP,
	STEP_SET_PROPAGATION, /* flags: MS_PRIVATE, ...: of every mount */
	STEP_HOST_ROOT,       /* mounts go below the root as it is */
	STEP_NEW_ROOT,        /* text: directory. Mounts go below a copy of it */
	STEP_ATTACH_ROOT, /* text: directory. Mounts go below the mount in hand, attached there */
	STEP_OPEN_TREE,   /* text: source; flags: AT_RECURSIVE or 0; value: MS_PRIVATE, ... or 0 */
	STEP_TAKE_MOUNT,  /* fd: a mount that is attached nowhere, for the one in hand */
	STEP_SET_ATTRIBUTES, /* of the mount in hand. flags: MOUNT_ATTR_... */
	STEP_NEW_MOUNT,      /* text: fstype, then key, value or "", ...; flags: MOUNT_ATTR_... */
	STEP_ATTACH,         /* text: target of the mount in hand */
	STEP_PIVOT_ROOT,

	/* what is in mounts, and what is seen of them */
	STEP_MAKE_DIRECTORY, /* text: path; flags: RESOLVE_..., IN_HAND or beneath the root; value: mode */
	STEP_MAKE_SYMLINK, /* text: path, what it says; flags as above */
	STEP_WRITE_FILE,   /* text: path in hand, then value bytes of content; flags: mode */
	STEP_SEND_MOUNT,   /* fd: socket that the mount in hand goes through, to the caller */
	STEP_OPEN_WITHIN,  /* text: path in hand; a copy of it is the mount in hand then */
	STEP_SET_ASIDE,    /* the mount in hand, for a later step */
	STEP_TAKE_UP,      /* the mount that was first set aside */
	STEP_STAGE,        /* mount in hand: current directory. text: places for those set aside */
	STEP_COPY_MODE,    /* text: from, to: directories of the stage */
	STEP_UNSTAGE,
	STEP_SET_ROOT_ATTRIBUTES, /* flags: MOUNT_ATTR_...; value: 0 of it alone, 1 of all below it */
	STEP_TAKE_MASKS,          /* in hand: an empty mount; aside: the null device */
	STEP_MASK,                /* text: path beneath the root, if it is there */
	STEP_MAKE_READ_ONLY,      /* text: path beneath the root, if it is there */

	STEP_CHANGE_DIRECTORY, /* text; flags: RESOLVE_... of openat2 */
	STEP_SET_UMASK,        /* value */
	STEP_NEW_SESSION,
	STEP_SET_PROCESS_GROUP, /* value: pgid, 0 for its own */
	STEP_SET_GROUPS,        /* text: array of value uint32_t */
	STEP_SET_GID,           /* value: real, effective and saved */
	STEP_SET_UID,           /* value: real, effective and saved */
	STEP_DEFAULT_SIGNAL,    /* value: signal number */
	STEP_DUPLICATE,         /* fd, value: the new number; the same: only inheritable */
	STEP_CLOSE_RANGE,       /* flags: first; value: last */
	STEP_EXECUTE_INIT,      /* fd: pyns-init; text: two arguments; flags, value: fds it keeps */
	STEP_RESTORE_SIGNAL_MASK,
	/* hardening */
	STEP_SET_RLIMIT, /* value: RLIMIT_...; text: struct rlimit64 */
	STEP_NO_NEW_PRIVILEGES,
	STEP_DROP_BOUNDING,     /* flags: the capabilities to keep, a bit each */
	STEP_KEEP_CAPABILITIES, /* over a change of the uid */
	STEP_SET_CAPABILITIES,  /* flags: effective, permitted and inheritable */
	STEP_RAISE_AMBIENT,     /* flags: capabilities */
	STEP_DIE_WITH_PARENT,   /* fd: pidfd of the thread that clones */
	STEP_INSTALL_FILTER,    /* value: bytes of text, an array of struct sock_filter */
	STEP_NEW_KEYRING,       /* of the session */
	STEP_RESET_SIGNALS,     /* default actions, and none blocked */
	STEP_SET_OOM_SCORE_ADJ, /* text */
	STEP_SET_NICE,          /* value: int */
	STEP_SET_AFFINITY,      /* value: bytes of text, a cpu_set_t */
	STEP_SET_TIMER_SLACK,   /* value: nanoseconds */
	STEP_NEW_CORE_COOKIE,   /* of core scheduling */
	STEP_SET_EXEC_LABEL,    /* text: file, then what is written to it */
	STEP_CREATE_RULESET,    /* value: bytes of text, a struct landlock_ruleset_attr */
	STEP_ALLOW_PATH, /* text: path; flags: what beneath a directory, value: what for a file */
	STEP_ALLOW_PORT, /* value: port; flags: what */
	STEP_RESTRICT_SELF,
	/* a terminal of its own */
	STEP_OPEN_TERMINAL, /* text: devpts, ptmx; fd: socket for the master; value: rows, columns */
	STEP_SET_TERMINAL_OWNER,       /* fd; value: uid */
	STEP_SET_CONTROLLING_TERMINAL, /* fd */
	/* the last of all */
	STEP_EXECUTE, /* text: flags candidates, then value arguments, then environment */
	STEP_END,     /* no step: the number of kinds */
};

/* Beside RESOLVE_... of openat2. */
enum step_flag {
	IN_HAND = 0x1000000,
};

struct step {
	uint32_t kind;
	int32_t fd;
	uint32_t text;  /* offset of the first string */
	uint32_t count; /* of strings */
	uint64_t flags;
	uint64_t value;
};

/*
 * What became of it. error 0: the program runs (or ran), pid and pidfd are the
 * caller's. Otherwise the errno of step index; pid and pidfd are -1, no process is left.
 */
struct report {
	int32_t pid;
	int32_t pidfd;
	uint32_t index;
	int32_t error;
	uint32_t gate; /* of STEP_WAIT_FOR_PARENT: a futex */
	uint64_t *
	    times; /* NULL, or room for when each step begins and all are over: CLOCK_MONOTONIC, ns */
};

/*
 * The file that pyns-init reads: this, then all steps, then the text. It does those that come after
 * STEP_EXECUTE_INIT, and writes to its fd what became of them, index and error as in a report
 * (uint32_t, int32_t); at the end, the program's wait status (int32_t).
 */
struct init_plan {
	uint32_t first; /* step of its child */
	uint32_t count; /* of all steps */
	int32_t fd;
	uint32_t unused;
	uint64_t signal_mask;
};

/*
 * Every signal is to be blocked around spawn, and for as long as the caller must not be
 * interrupted: a handler must not run in the child, on the shared memory.
 */
uint64_t get_signal_mask(void);
void set_signal_mask(uint64_t mask);

/*
 * Clones a child that runs the steps; returns when it has executed its program or failed.
 * signal_mask is what STEP_RESTORE_SIGNAL_MASK gives the program.
 * Returns 0 and the report, or -EINVAL for a plan that is malformed.
 */
int spawn(const char *steps, size_t steps_size, const char *text, size_t text_size,
	  uint64_t signal_mask, struct report *ret_report);

/*
 * What another thread does while the one that spawns is suspended: wait until the child has come to
 * the next STEP_WAIT_FOR_PARENT, do something for it, let it go on. error is 0, or the errno that
 * the step is to fail with. wait_for_child returns the pid, or -ECANCELED when the child will never
 * come there: spawn has returned, and let_go was called.
 */
int wait_for_child(struct report *report);
void let_go(struct report *report, int error);

/* How a process ended: kept, because a signal handler that raises takes away what a call returns. */
struct ending {
	int32_t pid; /* 0 until then */
	int32_t status;
	uint64_t user_us;
	uint64_t system_us;
};

/* wait4(2), once for all. Returns the pid, 0 while it runs (WNOHANG), or -errno. */
int take_ending(int pid, int flags, struct ending *ending);

/* What the calling thread does with its own namespaces and mounts. Each returns 0 or -errno. */
int thread_setns(int fd, uint64_t namespaces);
int thread_unshare(uint64_t namespaces);
int thread_mount(const char *source, const char *target, uint64_t flags);
int thread_umount(const char *target, int flags);

/* What not every Python has: PyPy, and those that are built for old systems. An fd or 0, or -errno. */
int thread_pidfd_open(int pid, unsigned int flags);
int thread_pidfd_send_signal(int pidfd, int number);
int thread_memfd_create(const char *name, unsigned int flags);

/*
 * A private copy of what is mounted at source, attached nowhere, and its ids mapped as in a user
 * namespace. The first returns an fd or -errno, the second 0 or -errno; flags: AT_RECURSIVE or 0.
 */
int thread_open_tree(const char *source, unsigned int flags);
int thread_map_ids(int tree, int user_namespace);

/*
 * Opens what others have made, for reading: beneath a directory, through no link, on no other mount, and
 * without waiting for whoever writes to a FIFO. Returns an fd or -errno.
 */
int thread_open_beneath(int directory, const char *path);

/* To be called in a child of fork(2): it has none of the other threads and their spawns. */
void after_fork(void);
