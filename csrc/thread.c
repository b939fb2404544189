/* What a thread of the parent's does with its own namespaces and mounts: no child is involved. */
#include "shim.h"

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
