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

#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "raw.h"

static int enter_cgroup(const struct step *step)
{
	/* "0" is the writer itself: no pid to look up, no threadgroup lock. */
	long r = sys_write(step->fd, "0", 1);

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
	/* The kernel's struct sigaction, at most 32 bytes: SIG_DFL, no flags, empty mask. */
	const uint64_t action[4] = {0};

	return sys_rt_sigaction(signal, action);
}

static int duplicate(int fd, int number)
{
	int r = fd == number ? sys_fcntl(fd, F_SETFD, 0) : sys_dup3(fd, number, 0);

	return r < 0 ? r : 0;
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

static int run_step(struct child *child, const struct step *step)
{
	const char *text = child->text + step->text;

	switch (step->kind) {
	case STEP_ENTER_CGROUP:
		return enter_cgroup(step);
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
	case STEP_RESTORE_SIGNAL_MASK:
		return sys_rt_sigprocmask(SIG_SETMASK, &child->signal_mask, NULL);
	case STEP_EXECUTE:
		return execute(child, step, text);
	default:
		return mount_step(child, step, text);
	}
}

void run_child(void *argument)
{
	struct child *child = argument;
	int r = 0;

	for (uint32_t i = child->first; i < child->count && r == 0; i++) {
		child->report->index = i;
		r = run_step(child, &child->steps[i]);
	}
	child->report->error = -r;
	sys_exit_group(127);
}
