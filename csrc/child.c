/*
 * The child half: does the steps in order, reports the first that failed, and
 * ends in execve.
 *
 * It runs in the parent's memory, on a stack of its own, with every signal blocked, while the
 * parent's thread is suspended and its other threads run on. So here are only raw
 * system calls: no libc wrapper (errno and the thread descriptor are the parent's), no malloc, no lock,
 * no Python, and nothing that blocks for long (the parent cannot even be killed meanwhile). Memory
 * that is not ours to write: everything but this stack, the report and the pointer arrays.
 *
 * Each step function returns 0 or -errno.
 */
#include "shim.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "raw.h"

static int enter_cgroup(const struct step *step)
{
	/* "0" is the writer itself: no pid to look up, no threadgroup lock. */
	long r = sys_write(step->fd, "0", 1);

	return r < 0 ? (int)r : 0;
}

/* /proc/self of the caller's /proc is this process, whatever its PID namespace. */
static int write_proc(int directory, const char *path, const char *content)
{
	int fd = sys_openat(directory, path, O_WRONLY | O_CLOEXEC);
	long r;

	if (fd < 0)
		return fd;
	r = sys_write(fd, content, strlen(content));
	sys_close(fd);
	return r < 0 ? (int)r : 0;
}

static int loopback_up(void)
{
	struct ifreq request = {.ifr_name = "lo"};
	int fd = sys_socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int r;

	if (fd < 0)
		return fd;
	r = sys_ioctl(fd, SIOCGIFFLAGS, &request);
	if (r == 0) {
		request.ifr_flags |= IFF_UP;
		r = sys_ioctl(fd, SIOCSIFFLAGS, &request);
	}
	sys_close(fd);
	return r;
}

static int change_directory(const char *path, uint64_t resolve)
{
	char reached[PATH_MAX];
	int fd = sys_openat2(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC, resolve);
	int r;

	if (fd < 0)
		return fd;
	r = sys_fchdir(fd);
	sys_close(fd);
	if (r < 0 || resolve == 0)
		return r;
	/* A directory that is not below our root reads "(unreachable)/...". */
	r = sys_getcwd(reached, sizeof(reached));
	if (r < 0)
		return r;
	return reached[0] == '/' ? 0 : -EXDEV;
}

/* The kernel looks at 32 bits and takes ~0 for "as it is": either would leave the program root. */
static bool is_id(uint64_t value)
{
	return value < UINT32_MAX;
}

static int default_signal(int signal)
{
	const uint64_t action[4] = {0}; /* SIG_DFL, no flags, empty mask */

	return sys_rt_sigaction(signal, action, NULL);
}

static int duplicate(int fd, int number)
{
	int r = fd == number ? sys_fcntl(fd, F_SETFD, 0) : sys_dup3(fd, number, 0);

	return r < 0 ? r : 0;
}

/* Up to the kernel's last one, also those that no header knows yet. */
static int drop_bounding(uint64_t kept)
{
	for (unsigned long capability = 0; capability < 64; capability++) {
		int r = sys_prctl(PR_CAPBSET_READ, capability);

		if (r == -EINVAL)
			break;
		if (r == 1 && !(kept >> capability & 1))
			r = sys_prctl(PR_CAPBSET_DROP, capability);
		if (r < 0)
			return r;
	}
	return 0;
}

static int set_capabilities(uint64_t mask)
{
	const uint32_t header[2] = {0x20080522 /* _LINUX_CAPABILITY_VERSION_3 */, 0};
	const uint32_t low = (uint32_t)mask, high = (uint32_t)(mask >> 32);
	const uint32_t data[6] = {low, low, low, high, high, high};

	return sys_capset(header, data);
}

static int raise_ambient(uint64_t mask)
{
	int r = 0;

	for (unsigned long capability = 0; capability < 64 && r == 0; capability++)
		if (mask >> capability & 1)
			r = sys_prctl_ambient(PR_CAP_AMBIENT_RAISE, capability);
	return r;
}

/*
 * To be looked at after the signal is asked for: a parent that dies from now on kills us, one that was
 * dead already shows in its pidfd. getppid() is 0 in a new PID namespace, whoever the parent is.
 */
static int die_with_parent(int pidfd)
{
	const uint64_t now[2] = {0};
	struct pollfd parent = {.fd = pidfd, .events = POLLIN};
	int r = sys_prctl(PR_SET_PDEATHSIG, SIGKILL);

	if (r < 0)
		return r;
	r = sys_ppoll(&parent, 1, now);
	if (r < 0)
		return r;
	return r == 0 ? 0 : -ESRCH;
}

/*
 * The thread that cloned us is suspended: another one of the parent's opens the gate. If the parent
 * is killed, nobody will.
 */
static int wait_for_parent(struct report *report, const struct step *step)
{
	const struct timespec timeout = {
	    .tv_sec = (time_t)(step->value / 1000),
	    .tv_nsec = (long)(step->value % 1000) * 1000000,
	};
	int r = die_with_parent(step->fd);

	if (r < 0)
		return r;
	__atomic_store_n(&report->gate, GATE_REACHED, __ATOMIC_RELEASE);
	sys_futex_wake(&report->gate);
	while (__atomic_load_n(&report->gate, __ATOMIC_ACQUIRE) == GATE_REACHED) {
		r = sys_futex_wait(&report->gate, GATE_REACHED, &timeout);
		if (r < 0 && r != -EAGAIN && r != -EINTR)
			return r;
	}
	r = (int)__atomic_load_n(&report->gate, __ATOMIC_ACQUIRE);
	return r == GATE_OPEN ? sys_prctl(PR_SET_PDEATHSIG, 0) : r;
}

static int new_keyring(void)
{
	int r = sys_keyctl(1 /* KEYCTL_JOIN_SESSION_KEYRING */, NULL);

	return r < 0 ? r : 0;
}

static int reset_signals(struct child *child)
{
	int r = 0;

	for (int signal = 1; signal <= 64 && r == 0; signal++)
		if (signal != SIGKILL && signal != SIGSTOP)
			r = default_signal(signal);
	child->signal_mask = 0;
	return r;
}

/* A right that only directories have is EINVAL for a file. */
static int allow_path(const struct child *child, const struct step *step, const char *path)
{
	struct landlock_path rule = {.allowed = step->flags};
	int r;

	rule.fd = sys_openat2(AT_FDCWD, path, O_PATH | O_CLOEXEC, RESOLVE_NO_MAGICLINKS);
	if (rule.fd < 0)
		return rule.fd;
	r = sys_landlock_add_rule(child->ruleset, LANDLOCK_PATH, &rule);
	if (r == -EINVAL) {
		rule.allowed = step->value;
		r = sys_landlock_add_rule(child->ruleset, LANDLOCK_PATH, &rule);
	}
	sys_close(rule.fd);
	return r;
}

static int allow_port(const struct child *child, const struct step *step)
{
	struct landlock_port rule = {.allowed = step->flags, .port = step->value};

	return sys_landlock_add_rule(child->ruleset, LANDLOCK_PORT, &rule);
}

static int restrict_self(struct child *child)
{
	int r = sys_landlock_restrict_self(child->ruleset);

	sys_close(child->ruleset);
	child->ruleset = -1;
	return r;
}

static int install_filter(const struct step *step, const char *text)
{
	struct sock_fprog program = {.filter = (struct sock_filter *)text};

	program.len = (unsigned short)(step->value / sizeof(struct sock_filter));
	if (program.len * sizeof(struct sock_filter) != step->value)
		return -EINVAL;
	return sys_seccomp(SECCOMP_SET_MODE_FILTER, 0, &program);
}

/* Fills one array of execve's, ended by NULL; returns the text after its last string. */
static const char *fill(char ***pointers, const char *text, uint64_t count)
{
	for (; count > 0; count--) {
		*(*pointers)++ = (char *)text;
		text = after(text);
	}
	*(*pointers)++ = NULL;
	return text;
}

/* Tries every candidate, as execvp(3) does: one that is not there does not hide another's error. */
static int execute(struct child *child, const struct step *step, const char *text)
{
	const char *candidate = text;
	char **arguments = child->pointers, **environment, **next = arguments;
	int r, error = -ENOENT;
	bool found = false;

	for (uint64_t i = 0; i < step->flags; i++)
		text = after(text);
	text = fill(&next, text, step->value);
	environment = next;
	fill(&next, text, step->count - step->flags - step->value);
	for (uint64_t i = 0; i < step->flags; i++, candidate = after(candidate)) {
		r = sys_execve(candidate, arguments, environment);
		if (found)
			continue;
		error = r;
		found = r != -ENOENT && r != -ENOTDIR;
	}
	return error;
}

/*
 * A process stays in the PID namespace that it was born in, and who has joined one can only have
 * children there. So the rest of the plan is for another child, which is the caller's as well
 * (CLONE_PARENT); this one is done when that one has executed its program or failed.
 */
static int clone_again(struct child *child, uint64_t namespaces)
{
	struct clone_args args = {
	    .flags = CLONE_VM | CLONE_VFORK | CLONE_PARENT | CLONE_PARENT_SETTID | namespaces,
	    .parent_tid = (uint64_t)(uintptr_t)&child->report->pid,
	    .stack = child->second_stack,
	    .stack_size = STACK_SIZE,
	};
	long pid;

	child->first = child->report->index + 1;
	pid = clone3_call(&args, run_child, child);
	if (pid < 0)
		return (int)pid;
	sys_exit_group(0);
}

struct visit {
	const char *tasks;
	uint64_t count;
	int result; /* fd of the namespace, or -errno */
};

static int enter_and_unshare(const struct visit *visit)
{
	struct step enter = {0};
	int r = 0;

	for (uint64_t i = 0; i < visit->count && r == 0; i++) {
		memcpy(&enter.fd, visit->tasks + i * sizeof(enter.fd), sizeof(enter.fd));
		r = enter_cgroup(&enter);
	}
	if (r == 0)
		r = sys_unshare(CLONE_NEWCGROUP);
	return r < 0 ? r : sys_openat(AT_FDCWD, "/proc/self/ns/cgroup", O_RDONLY | O_CLOEXEC);
}

static void pay_visit(void *argument)
{
	struct visit *visit = argument;

	visit->result = enter_and_unshare(visit);
	sys_exit_group(0);
}

/*
 * A cgroup namespace shows as / what its maker is in. Who is not to be in there himself, and could
 * perhaps not come back, sends a child. It shares his fds, and leaves the namespace among them.
 */
static int show_cgroups(const struct step *step, const char *text)
{
	char stack[8192] __attribute__((aligned(16)));
	const int32_t pid_inside = (int32_t)step->flags;
	struct visit visit = {
	    .tasks = text, .count = step->value, .result = -ECANCELED, /* killed on the way */
	};
	struct clone_args args = {
	    .flags = CLONE_VM | CLONE_VFORK | CLONE_FILES,
	    .stack = (uint64_t)(uintptr_t)stack,
	    .stack_size = sizeof(stack),
	};
	long pid;
	int r;

	if (step->fd >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)step->fd;
	}
	if (pid_inside != 0) {
		args.set_tid = (uint64_t)(uintptr_t)&pid_inside;
		args.set_tid_size = 1;
	}
	pid = clone3_call(&args, pay_visit, &visit);
	if (pid < 0)
		return (int)pid;
	sys_wait4((int)pid, NULL, __WALL);
	if (visit.result < 0)
		return visit.result;
	r = sys_setns(visit.result, CLONE_NEWCGROUP);
	sys_close(visit.result);
	return r;
}

/* Its environment is empty. The fd of the program itself is close-on-exec, unlike those it keeps. */
static int execute_init(const struct step *step, const char *text)
{
	char *const arguments[] = {(char *)text, (char *)after(text), NULL};
	int r = sys_fcntl((int)step->flags, F_SETFD, 0);

	if (r == 0)
		r = sys_fcntl((int)step->value, F_SETFD, 0);
	return r < 0 ? r : sys_execveat(step->fd, arguments, &arguments[2]);
}

static int run_step(struct child *child, const struct step *step)
{
	const char *text = child->text + step->text;

	switch (step->kind) {
	case STEP_ENTER_CGROUP:
		return enter_cgroup(step);
	case STEP_WAIT_FOR_PARENT:
		return wait_for_parent(child->report, step);
	case STEP_SET_NAMESPACES:
		return sys_setns(step->fd, step->flags);
	case STEP_CLONE_AGAIN:
		return clone_again(child, step->flags);
	case STEP_SHOW_CGROUPS:
		return show_cgroups(step, text);
	case STEP_HIDE_MEMORY:
		return sys_prctl(PR_SET_DUMPABLE, 0);
	case STEP_WRITE_PROC:
		return write_proc(step->fd >= 0 ? step->fd : AT_FDCWD, text, after(text));
	case STEP_UNSHARE:
		return sys_unshare(step->flags);
	case STEP_SET_HOSTNAME:
		return sys_sethostname(text, strlen(text));
	case STEP_SET_DOMAINNAME:
		return sys_setdomainname(text, strlen(text));
	case STEP_LOOPBACK_UP:
		return loopback_up();
	case STEP_SET_PROPAGATION:
		return sys_mount(NULL, "/", NULL, step->flags, NULL);
	case STEP_CHANGE_DIRECTORY:
		return change_directory(text, step->flags);
	case STEP_SET_UMASK:
		sys_umask((unsigned int)step->value);
		return 0;
	case STEP_NEW_SESSION: {
		int r = sys_setsid();

		return r < 0 ? r : 0;
	}
	case STEP_OPEN_TERMINAL:
		return open_terminal(step, text);
	case STEP_SET_TERMINAL_OWNER:
		return is_id(step->value) ? sys_fchown(step->fd, (uint32_t)step->value, ~0U)
					  : -EINVAL;
	case STEP_SET_CONTROLLING_TERMINAL:
		return sys_ioctl(step->fd, TIOCSCTTY, NULL);
	case STEP_SET_PROCESS_GROUP:
		return sys_setpgid(0, (int)step->value);
	case STEP_SET_GROUPS:
		return sys_setgroups(step->value, text);
	case STEP_SET_GID:
		return is_id(step->value) ? sys_setresgid((uint32_t)step->value) : -EINVAL;
	case STEP_SET_UID:
		return is_id(step->value) ? sys_setresuid((uint32_t)step->value) : -EINVAL;
	case STEP_DEFAULT_SIGNAL:
		return default_signal((int)step->value);
	case STEP_DUPLICATE:
		return duplicate(step->fd, (int)step->value);
	case STEP_CLOSE_RANGE:
		return sys_close_range((unsigned int)step->flags, (unsigned int)step->value);
	case STEP_EXECUTE_INIT:
		return execute_init(step, text);
	case STEP_RESTORE_SIGNAL_MASK:
		return sys_rt_sigprocmask(SIG_SETMASK, &child->signal_mask, NULL);
	case STEP_SET_RLIMIT:
		return sys_prlimit64(0, (unsigned int)step->value, text, NULL);
	case STEP_NO_NEW_PRIVILEGES:
		return sys_prctl(PR_SET_NO_NEW_PRIVS, 1);
	case STEP_DROP_BOUNDING:
		return drop_bounding(step->flags);
	case STEP_KEEP_CAPABILITIES:
		return sys_prctl(PR_SET_KEEPCAPS, 1);
	case STEP_SET_CAPABILITIES:
		return set_capabilities(step->flags);
	case STEP_RAISE_AMBIENT:
		return raise_ambient(step->flags);
	case STEP_DIE_WITH_PARENT:
		return die_with_parent(step->fd);
	case STEP_NEW_KEYRING:
		return new_keyring();
	case STEP_RESET_SIGNALS:
		return reset_signals(child);
	case STEP_SET_OOM_SCORE_ADJ:
		return write_proc(AT_FDCWD, "/proc/self/oom_score_adj", text);
	case STEP_SET_NICE:
		return sys_setpriority(PRIO_PROCESS, 0, (int)step->value);
	case STEP_SET_AFFINITY:
		return sys_sched_setaffinity(0, step->value, text);
	case STEP_SET_TIMER_SLACK:
		return sys_prctl(PR_SET_TIMERSLACK, step->value);
	case STEP_NEW_CORE_COOKIE:
		/* the other arguments, 0: this thread, which is all of it */
		return sys_prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE);
	case STEP_SET_EXEC_LABEL:
		return write_proc(AT_FDCWD, text, after(text));
	case STEP_CREATE_RULESET:
		child->ruleset = sys_landlock_create_ruleset(text, step->value);
		return child->ruleset < 0 ? child->ruleset : 0;
	case STEP_ALLOW_PATH:
		return allow_path(child, step, text);
	case STEP_ALLOW_PORT:
		return allow_port(child, step);
	case STEP_RESTRICT_SELF:
		return restrict_self(child);
	case STEP_INSTALL_FILTER:
		return install_filter(step, text);
	case STEP_EXECUTE:
		return execute(child, step, text);
	default:
		return mount_step(child, step, text);
	}
}

void note_time(const struct child *child, uint32_t step)
{
	struct timespec now;

	if (child->report->times == NULL)
		return;
	sys_clock_gettime(CLOCK_MONOTONIC, &now);
	child->report->times[step] = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void run_child(void *argument)
{
	struct child *child = argument;
	int r = 0;

	for (uint32_t i = child->first; i < child->count && r == 0; i++) {
		child->report->index = i;
		note_time(child, i);
		r = run_step(child, &child->steps[i]);
	}
	child->report->error = -r;
	sys_exit_group(127);
}
