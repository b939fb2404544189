/*
 * The floor that pyns is measured against: the system calls that pyns makes for
 * the same isolation, in the same order (strace -f shows it), without plan, loop or Python.
 * A shared object, not a program, so that the parent (its memory, its threads) is the same.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "raw.h"

/*
 * <linux/sched.h>, <linux/mount.h>: they and <sys/mount.h> declare what raw.h declares, and the
 * compiler takes only one of them.
 */
#define NEW_NAMESPACES (0x00020000ULL | 0x04000000ULL | 0x08000000ULL | 0x20000000ULL)
#define MS_REC_PRIVATE (0x4000ULL | 0x40000ULL)
#define MOUNT_ATTR_NOSUID_NODEV_NOEXEC (0x02ULL | 0x04ULL | 0x08ULL)

enum {
	STACK_SIZE = 64 * 1024,
	GUARD_SIZE = 64 * 1024,
};

struct child {
	const char *program, *root, *hostname;
	char *const *arguments, *const *environment;
	uint64_t signal_mask;
	int error;
};

/* Leaves fds to close-on-exec when it fails: the child ends then. */
static int mount_proc(int root)
{
	int filesystem = sys_fsopen("proc", FSOPEN_CLOEXEC);
	int tree, target, r;

	if (filesystem < 0)
		return filesystem;
	r = sys_fsconfig(filesystem, FSCONFIG_CMD_CREATE, NULL, NULL);
	if (r < 0)
		return r;
	tree = sys_fsmount(filesystem, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID_NODEV_NOEXEC);
	if (tree < 0)
		return tree;
	sys_close(filesystem);
	target =
	    sys_openat2(root, "/proc", O_PATH | O_CLOEXEC, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
	if (target < 0)
		return target;
	r = sys_move_mount(tree, "", target, "", MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
	sys_close(target);
	sys_close(tree);
	return r;
}

static int enter_root(const char *path)
{
	int directory, root, r;

	directory = sys_openat(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		return directory;
	root = sys_open_tree(directory, "",
			     AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (root < 0)
		return root;
	r = sys_move_mount(root, "", directory, "",
			   MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
	sys_close(directory);
	if (r == 0)
		r = mount_proc(root);
	if (r == 0)
		r = sys_fchdir(root);
	if (r == 0)
		r = sys_pivot_root(".", ".");
	if (r == 0)
		r = sys_umount2(".", MNT_DETACH);
	if (r == 0)
		r = sys_chdir("/");
	sys_close(root);
	return r;
}

static int isolate(const struct child *child)
{
	int r = sys_sethostname(child->hostname, strlen(child->hostname));

	if (r == 0)
		r = sys_mount(NULL, "/", NULL, MS_REC_PRIVATE, NULL);
	return r == 0 ? enter_root(child->root) : r;
}

/* What Popen's restore_signals, close_fds and the blocked signals ask for, then the program. */
static int execute(const struct child *child)
{
	const uint64_t default_action[4] = {0};
	int r = sys_rt_sigaction(SIGPIPE, default_action, NULL);

	if (r == 0)
		r = sys_rt_sigaction(SIGXFSZ, default_action, NULL);
	if (r == 0)
		r = sys_close_range(3, ~0U);
	if (r == 0)
		r = sys_rt_sigprocmask(SIG_SETMASK, &child->signal_mask, NULL);
	return r == 0 ? sys_execve(child->program, child->arguments, child->environment) : r;
}

static void run_child(void *argument)
{
	struct child *child = argument;
	int r = child->root ? isolate(child) : 0;

	if (r == 0)
		r = execute(child);
	child->error = r;
	sys_exit_group(127);
}

/* Returns the pid or -errno; the child has executed its program, or child->error says why not. */
static int clone_child(struct child *child, int *ret_pidfd)
{
	struct clone_args args = {
	    .flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
	    .pidfd = (uint64_t)(uintptr_t)ret_pidfd,
	    .exit_signal = SIGCHLD,
	    .stack_size = STACK_SIZE,
	};
	const uint64_t all = ~(uint64_t)0;
	size_t size = GUARD_SIZE + STACK_SIZE;
	char *block = sys_mmap(size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
	int pid;

	if ((unsigned long)block > -4096UL)
		return (int)(long)block;
	pid = sys_mprotect(block + GUARD_SIZE, STACK_SIZE, PROT_READ | PROT_WRITE);
	if (pid == 0) {
		args.stack = (uint64_t)(uintptr_t)(block + GUARD_SIZE);
		if (child->root)
			args.flags |= NEW_NAMESPACES;
		sys_rt_sigprocmask(SIG_SETMASK, &all, &child->signal_mask);
		/* not needed here: pyns asks whether a change of uid has cleared the flag */
		sys_prctl(PR_GET_DUMPABLE, 0);
		pid = (int)clone3_call(&args, run_child, child);
		sys_prctl(PR_GET_DUMPABLE, 0);
		sys_rt_sigprocmask(SIG_SETMASK, &child->signal_mask, NULL);
	}
	sys_munmap(block, size);
	return pid;
}

/*
 * Starts a program and waits for its end; with a root in new MOUNT, UTS, IPC and PID namespaces,
 * with that hostname and a fresh /proc (whose directory exists).
 * Returns its wait status or -errno.
 */
int start_and_wait(const char *program, char *const *arguments, char *const *environment,
		   const char *root, const char *hostname)
{
	struct child child = {
	    .program = program,
	    .root = root,
	    .hostname = hostname,
	    .arguments = arguments,
	    .environment = environment,
	};
	struct rusage usage;
	int pidfd, status, r;
	int pid = clone_child(&child, &pidfd);

	if (pid < 0)
		return pid;
	do
		r = (int)RAW(SYS_wait4, pid, &status, 0, &usage, 0);
	while (r == -EINTR);
	sys_close(pidfd);
	if (child.error < 0)
		return child.error;
	return r < 0 ? r : status;
}
