/* A terminal of the program's own: the child opens it where the program will see it. */
#include "shim.h"

#include <sys/ioctl.h>
#include <sys/socket.h>

#include "raw.h"

enum {
	DEVPTS_SUPER_MAGIC = 0x1cd1, /* <linux/magic.h> */
	OPEN_TERMINAL = O_RDWR | O_NOCTTY | O_CLOEXEC,
};

/*
 * The root may be anybody's, and the child still has rights that the program will not have. So it is
 * the ptmx of a real devpts, whatever lies in its place. Its mode is 0 by default, and on the host as a
 * rule: there everybody has /dev/ptmx.
 */
static int open_master(const char *devpts, const char *node)
{
	int directory =
	    sys_openat2(AT_FDCWD, devpts, O_PATH | O_DIRECTORY | O_CLOEXEC, RESOLVE_NO_MAGICLINKS);
	struct statfs filesystem;
	int r;

	if (directory < 0)
		return directory;
	r = sys_fstatfs(directory, &filesystem);
	if (r == 0 && filesystem.f_type != DEVPTS_SUPER_MAGIC)
		r = -ENODEV;
	if (r == 0)
		r = sys_openat2(directory, "ptmx", OPEN_TERMINAL,
				RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
	sys_close(directory);
	return r == -EACCES ? sys_openat2(AT_FDCWD, node, OPEN_TERMINAL, RESOLVE_NO_MAGICLINKS) : r;
}

/* The other end, unlocked, with a window size; by no path (TIOCGPTPEER). */
static int open_slave(int master, uint64_t size)
{
	struct winsize window = {
	    .ws_row = (unsigned short)(size >> 16),
	    .ws_col = (unsigned short)size,
	};
	int locked = 0;
	int r = sys_ioctl(master, TIOCSPTLCK, &locked);

	if (r == 0)
		r = sys_ioctl(master, TIOCSWINSZ, &window);
	return r < 0 ? r : sys_ioctl(master, TIOCGPTPEER, (void *)(uintptr_t)OPEN_TERMINAL);
}

int send_fd(int socket, int fd)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {
	    .header =
		{
		    .cmsg_len = CMSG_LEN(sizeof(int)),
		    .cmsg_level = SOL_SOCKET,
		    .cmsg_type = SCM_RIGHTS,
		},
	};
	struct iovec byte = {.iov_base = "", .iov_len = 1};
	const struct msghdr message = {
	    .msg_iov = &byte,
	    .msg_iovlen = 1,
	    .msg_control = &control,
	    .msg_controllen = sizeof(control),
	};

	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	return sys_sendmsg(socket, &message);
}

/*
 * The caller has fds of its own: it gets the master through a socket. The slave takes the number of that,
 * which the steps that follow know.
 */
int open_terminal(const struct step *step, const char *text)
{
	int master = open_master(text, after(text));
	int slave, r;

	if (master < 0)
		return master;
	slave = open_slave(master, step->value);
	r = slave < 0 ? slave : send_fd(step->fd, master);
	if (r >= 0)
		r = sys_dup3(slave, step->fd, O_CLOEXEC);
	if (slave >= 0)
		sys_close(slave);
	sys_close(master);
	return r < 0 ? r : 0;
}
