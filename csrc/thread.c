/* What a thread of the parent's does with its own namespaces and mounts: no child is involved. */
#include "shim.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "raw.h"

int thread_setns(int fd, uint64_t namespaces)
{
	return sys_setns(fd, namespaces);
}

int thread_unshare(uint64_t namespaces)
{
	return sys_unshare(namespaces);
}

int thread_mount(const char *source, const char *target, uint64_t flags)
{
	return sys_mount(source, target, NULL, flags, NULL);
}

int thread_umount(const char *target, int flags)
{
	return sys_umount2(target, flags);
}

enum {
	NR_PIDFD_SEND_SIGNAL = 424, /* no call of the child's */
};

static int or_errno(long result)
{
	return result < 0 ? -errno : (int)result;
}

int thread_pidfd_open(int pid, unsigned int flags)
{
	return or_errno(syscall(NR_PIDFD_OPEN, pid, flags));
}

int thread_pidfd_send_signal(int pidfd, int number)
{
	return or_errno(syscall(NR_PIDFD_SEND_SIGNAL, pidfd, number, NULL, 0));
}

int thread_memfd_create(const char *name, unsigned int flags)
{
	return or_errno(syscall(SYS_memfd_create, name, flags));
}

int thread_open_tree(const char *source, unsigned int flags)
{
	return sys_open_tree(AT_FDCWD, source, flags | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
}

int thread_open_beneath(int directory, const char *path)
{
	return sys_openat2(
	    directory, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
	    RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV);
}

/* Private as well: what is mounted on a copy of a shared mount would appear on the host. */
int thread_map_ids(int tree, int user_namespace)
{
	struct mount_attr request = {
	    .attr_set = MOUNT_ATTR_IDMAP,
	    .propagation = MS_PRIVATE,
	    .userns_fd = (uint64_t)user_namespace,
	};

	return sys_mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &request);
}
