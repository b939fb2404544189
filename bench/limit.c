/*
 * The floor that pyns is measured against: the system calls that the same isolation takes, in the
 * order in which pyns makes them, without plan, loop, checks or Python. test_same.py holds both
 * against each other, by strace.
 * A shared object, not a program, so that the parent (its memory, its threads) is the same.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "limit.h"
#include "raw.h"

#define NEW_TIME 0x00000080ULL
#define NEW_MOUNT 0x00020000ULL
#define NEW_NET 0x40000000ULL
#define MS_REC_PRIVATE (0x4000ULL | 0x40000ULL)

enum {
	STACK_SIZE = 64 * 1024,
	GUARD_SIZE = 64 * 1024,
};

/* A call of the vdso: 30 ns, and no system call. */
static void ended(const struct request *request, enum stage stage)
{
	struct timespec now;

	if (request->times == NULL)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	request->times[stage] = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int enter_cgroups(const int32_t *tasks)
{
	long r = 0;

	for (; *tasks >= 0 && r >= 0; tasks++)
		r = sys_write(*tasks, "0", 1);
	return r < 0 ? (int)r : 0;
}

static int write_proc(const char *path, const char *content)
{
	int fd = sys_openat(AT_FDCWD, path, O_WRONLY | O_CLOEXEC);
	long r;

	if (fd < 0)
		return fd;
	r = sys_write(fd, content, strlen(content));
	sys_close(fd);
	return r < 0 ? (int)r : 0;
}

static int write_own_maps(const struct request *request)
{
	int r = write_proc("/proc/self/uid_map", request->uid_map);

	if (r == 0)
		r = write_proc("/proc/self/setgroups", "deny");
	return r == 0 ? write_proc("/proc/self/gid_map", request->gid_map) : r;
}

static void wait_for_maps(struct child *child)
{
	__atomic_store_n(&child->gate, REACHED, __ATOMIC_RELEASE);
	sys_futex_wake(&child->gate);
	while (__atomic_load_n(&child->gate, __ATOMIC_ACQUIRE) == REACHED)
		sys_futex_wait(&child->gate, REACHED, NULL);
}

static int map_ids(struct child *child)
{
	const struct request *request = child->request;
	int r = 0;

	if (request->maps_by_parent)
		wait_for_maps(child);
	else if (request->uid_map)
		r = write_own_maps(request);
	return r == 0 && request->namespaces & NEW_TIME ? sys_unshare(NEW_TIME) : r;
}

static int loopback_up(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	int fd = sys_socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r;

	if (fd < 0)
		return fd;
	r = sys_ioctl(fd, SIOCGIFFLAGS, &request);
	request.ifr_flags |= IFF_UP;
	if (r == 0)
		r = sys_ioctl(fd, SIOCSIFFLAGS, &request);
	sys_close(fd);
	return r;
}

static int set_names(const struct request *request)
{
	int r = 0;

	if (request->hostname)
		r = sys_sethostname(request->hostname, strlen(request->hostname));
	return r == 0 && request->namespaces & NEW_NET ? loopback_up() : r;
}

/* Returns an fd of the new root: only a mount can become one, so a copy is mounted over itself. */
static int new_root(const char *path)
{
	int directory = sys_openat(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int root, r;

	if (directory < 0)
		return directory;
	root = sys_open_tree(directory, "",
			     AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (root < 0)
		return root;
	r = sys_move_mount(root, "", directory, "",
			   MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
	sys_close(directory);
	return r < 0 ? r : root;
}

static int pivot(int root)
{
	int r = sys_fchdir(root);

	if (r == 0)
		r = sys_pivot_root(".", ".");
	if (r == 0)
		r = sys_umount2(".", MNT_DETACH);
	if (r == 0)
		r = sys_chdir("/");
	sys_close(root);
	return r;
}

static int change_mounts(const struct request *request)
{
	int r = sys_mount(NULL, "/", NULL, MS_REC_PRIVATE, NULL);
	int root;

	if (r < 0 || request->root == NULL)
		return r;
	root = new_root(request->root);
	if (root < 0)
		return root;
	ended(request, NEW_ROOT);
	for (uint64_t i = 0; i < request->mount_count && r == 0; i++)
		r = mount_in(root, &request->mounts[i]);
	ended(request, MOUNTS);
	return r == 0 ? pivot(root) : r;
}

/* What Popen's restore_signals, close_fds and the blocked signals ask for, then the program. */
static int execute(const struct child *child)
{
	const struct request *request = child->request;
	const uint64_t default_action[4] = {0};
	int r = sys_rt_sigaction(SIGPIPE, default_action, NULL);

	if (r == 0)
		r = sys_rt_sigaction(SIGXFSZ, default_action, NULL);
	if (r == 0)
		r = sys_close_range(3, ~0U);
	if (r == 0)
		r = sys_rt_sigprocmask(SIG_SETMASK, &child->signal_mask, NULL);
	ended(request, DEFAULTS);
	return r == 0 ? sys_execve(request->program, request->arguments, request->environment) : r;
}

static void run_child(void *argument)
{
	struct child *child = argument;
	const struct request *request = child->request;
	int r;

	ended(request, CLONE);
	r = request->tasks ? enter_cgroups(request->tasks) : 0;
	ended(request, CGROUPS);
	if (r == 0)
		r = map_ids(child);
	ended(request, ID_MAPS);
	if (r == 0)
		r = set_names(request);
	ended(request, NAMES);
	if (r == 0 && request->namespaces & NEW_MOUNT)
		r = change_mounts(request);
	ended(request, PIVOT);
	if (r == 0)
		r = execute(child);
	child->error = r;
	sys_exit_group(127);
}

int clone_child(struct child *child, int *ret_pidfd)
{
	const struct request *request = child->request;
	struct clone_args args = {
	    .flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | CLONE_CLEAR_SIGHAND |
		     CLONE_PARENT_SETTID | (request->namespaces & ~NEW_TIME),
	    .pidfd = (uint64_t)(uintptr_t)ret_pidfd,
	    .parent_tid = (uint64_t)(uintptr_t)&child->pid,
	    .exit_signal = SIGCHLD,
	    .stack_size = STACK_SIZE,
	};
	size_t size = GUARD_SIZE + STACK_SIZE;
	char *block = sys_mmap(size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
	int pid;

	if ((unsigned long)block > -4096UL)
		return (int)(long)block;
	pid = sys_mprotect(block + GUARD_SIZE, STACK_SIZE, PROT_READ | PROT_WRITE);
	if (request->birth >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)request->birth;
	}
	args.stack = (uint64_t)(uintptr_t)(block + GUARD_SIZE);
	if (pid == 0)
		pid = (int)clone3_call(&args, run_child, child);
	sys_munmap(block, size);
	return pid;
}

/* Starts a program and waits for its end. Returns its wait status or -errno. */
int start_and_wait(const struct request *request)
{
	const uint64_t all = ~(uint64_t)0;
	struct child child = {.request = request};
	struct rusage usage;
	int pidfd, status, pid, r;

	ended(request, BEGIN);
	sys_rt_sigprocmask(SIG_SETMASK, &all, &child.signal_mask);
	pid =
	    request->maps_by_parent ? clone_with_help(&child, &pidfd) : clone_child(&child, &pidfd);
	sys_rt_sigprocmask(SIG_SETMASK, &child.signal_mask, NULL);
	if (pid < 0)
		return pid;
	ended(request, EXECUTE);
	do
		r = (int)RAW(SYS_wait4, pid, &status, 0, &usage, 0);
	while (r == -EINTR);
	sys_close(pidfd);
	ended(request, END);
	if (child.error < 0)
		return child.error;
	return r < 0 ? r : status;
}
