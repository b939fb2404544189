/* The mounts of limit.c: for each kind, the system calls that pyns makes for it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "limit.h"
#include "raw.h"

/* <linux/mount.h> declares what raw.h does, and the compiler takes only one of them. */
enum {
	RDONLY = 0x01,
	NOSUID = 0x02,
	NODEV = 0x04,
	NOEXEC = 0x08,
	INERT = NOSUID | NODEV | NOEXEC,
};

struct option {
	const char *key, *value;
};

static int new_filesystem(const char *fstype, const struct option *options, uint64_t attributes)
{
	int fd = sys_fsopen(fstype, FSOPEN_CLOEXEC);
	int r = 0, tree;

	if (fd < 0)
		return fd;
	for (; options && options->key && r == 0; options++)
		r = sys_fsconfig(fd, FSCONFIG_SET_STRING, options->key, options->value);
	if (r == 0)
		r = sys_fsconfig(fd, FSCONFIG_CMD_CREATE, NULL, NULL);
	tree = r < 0 ? r : sys_fsmount(fd, FSMOUNT_CLOEXEC, attributes);
	sys_close(fd);
	return tree;
}

static int copy(const char *path, unsigned int flags, uint64_t attributes)
{
	struct mount_attr request = {.attr_set = attributes};
	int tree = sys_open_tree(AT_FDCWD, path, flags | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	int r = 0;

	if (tree < 0)
		return tree;
	if (attributes != 0)
		r = sys_mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &request);
	return r < 0 ? r : tree;
}

static int move(int tree, int place)
{
	return sys_move_mount(tree, "", place, "",
			      MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

/* Takes the tree over, or the error that came instead of it. */
static int attach(int root, int tree, const char *target)
{
	int place, r;

	if (tree < 0)
		return tree;
	place =
	    sys_openat2(root, target, O_PATH | O_CLOEXEC, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
	if (place < 0)
		return place;
	r = move(tree, place);
	sys_close(place);
	sys_close(tree);
	return r;
}

/* Writes a file, returns its size or -errno. */
static long fill(int tree, const char *name, const char *content)
{
	int fd = sys_create(tree, name, 0600);
	long r = 0;

	if (fd < 0)
		return fd;
	if (content)
		r = sys_write(fd, content, strlen(content));
	if (r >= 0)
		r = sys_fchmod(fd, 0666);
	sys_close(fd);
	return r;
}

static int file(int root, const struct mount *mount)
{
	const struct option options[] = {{"size", "65536"}, {"nr_inodes", "2"}, {0}};
	struct mount_attr request = {.attr_set = RDONLY};
	int all = new_filesystem("tmpfs", options, NOSUID | NODEV), tree, r;

	if (all < 0)
		return all;
	r = (int)fill(all, "file", mount->source);
	if (r < 0)
		return r;
	/* Before Linux 6.15 only a mount that is attached can be copied: EINVAL. */
	tree =
	    sys_open_tree(all, "file", AT_SYMLINK_NOFOLLOW | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	sys_close(all);
	if (tree < 0)
		return tree;
	r = sys_mount_setattr(tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &request);
	return r < 0 ? r : attach(root, tree, mount->target);
}

static int tmpfs(const char *mode)
{
	const struct option options[] = {{"mode", mode}, {0}};

	return new_filesystem("tmpfs", options, NOSUID | NODEV);
}

static int tmpfs_with_entries(void)
{
	int tree = tmpfs("1777"), r;

	if (tree < 0)
		return tree;
	r = sys_mkdirat(tree, "directory", 0755);
	if (r == 0)
		r = sys_symlinkat("directory", tree, "link");
	return r < 0 ? r : tree;
}

static int devpts(int root, const char *target)
{
	const struct option options[] = {{"mode", "620"}, {"ptmxmode", "666"}, {0}};

	return attach(root, new_filesystem("devpts", options, NOSUID | NOEXEC), target);
}

static const char *const nodes[] = {
    "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty",
};
static const char *const links[][2] = {
    {"ptmx", "pts/ptmx"},          {"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"},
    {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"},
};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Returns a tmpfs with places for the nodes. */
static int dev_places(void)
{
	const struct option options[] = {
	    {"mode", "755"}, {"size", "1048576"}, {"nr_inodes", "4096"}, {0}};
	int tree = new_filesystem("tmpfs", options, INERT);
	int r = 0;

	for (size_t i = 0; i < COUNT(nodes) && r >= 0 && tree >= 0; i++)
		r = (int)fill(tree, nodes[i] + strlen("/dev/"), NULL);
	if (r >= 0)
		r = sys_mkdirat(tree, "pts", 0755);
	if (r == 0)
		r = sys_mkdirat(tree, "shm", 0755);
	for (size_t i = 0; i < COUNT(links) && r == 0; i++)
		r = sys_symlinkat(links[i][1], tree, links[i][0]);
	return r < 0 ? r : tree;
}

/* On /dev: the targets of what is in it are the paths of the host's nodes. */
static int dev(int root)
{
	const struct option shm[] = {
	    {"mode", "1777"}, {"size", "67108864"}, {"nr_inodes", "4096"}, {0}};
	int trees[COUNT(nodes)];
	int r = 0;

	for (size_t i = 0; i < COUNT(nodes); i++)
		trees[i] = copy(nodes[i], 0, RDONLY | NOSUID | NOEXEC);
	r = attach(root, dev_places(), "/dev");
	for (size_t i = 0; i < COUNT(nodes) && r == 0; i++)
		r = attach(root, trees[i], nodes[i]);
	if (r == 0)
		r = devpts(root, "/dev/pts");
	return r < 0 ? r : attach(root, new_filesystem("tmpfs", shm, INERT), "/dev/shm");
}

/* Mode and owner of the lower's root, for the upper's. */
static int copy_mode(void)
{
	struct statx_result lower;
	int fd = sys_openat(AT_FDCWD, "0", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r = fd < 0 ? fd : sys_statx(fd, &lower);

	if (r < 0)
		return r;
	sys_close(fd);
	fd = sys_openat(AT_FDCWD, "upper", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return fd;
	r = sys_fchown(fd, lower.uid, lower.gid);
	if (r == 0)
		r = sys_fchmod(fd, lower.mode & 07777);
	sys_close(fd);
	return r;
}

/* overlayfs takes no layer of a mount that is attached nowhere: they lie over the root meanwhile. */
static int stage(int root, int layers, int lower)
{
	int place, r = move(layers, root);

	if (r == 0)
		r = sys_fchdir(layers);
	if (r < 0)
		return r;
	place = sys_openat2(AT_FDCWD, "0", O_PATH | O_DIRECTORY | O_CLOEXEC,
			    RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
	if (place < 0)
		return place;
	r = move(lower, place);
	sys_close(lower);
	sys_close(place);
	return r == 0 ? copy_mode() : r;
}

static int overlay(int root, const struct mount *mount)
{
	const struct option options[] = {
	    {"lowerdir", "0"}, {"upperdir", "upper"}, {"workdir", "work"}, {0}};
	int lower = copy(mount->source, 0, 0);
	int layers = new_filesystem("tmpfs", NULL, 0);
	int back = sys_openat(AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	int tree, r = layers < 0 ? layers : lower < 0 ? lower : back < 0 ? back : 0;

	if (r == 0)
		r = sys_mkdirat(layers, "0", 0755);
	if (r == 0)
		r = sys_mkdirat(layers, "upper", 0755);
	if (r == 0)
		r = sys_mkdirat(layers, "work", 0755);
	if (r == 0)
		r = stage(root, layers, lower);
	tree = r < 0 ? r : new_filesystem("overlay", options, 0);
	if (tree < 0)
		return tree;
	r = sys_umount2(".", MNT_DETACH);
	if (r == 0)
		r = sys_fchdir(back);
	sys_close(back);
	sys_close(layers);
	return r < 0 ? r : attach(root, tree, mount->target);
}

int mount_in(int root, const struct mount *mount)
{
	const char *target = mount->target;

	switch ((enum mount_kind)mount->kind) {
	case BIND:
		return attach(root, copy(mount->source, AT_RECURSIVE, 0), target);
	case BIND_READ_ONLY:
		return attach(root, copy(mount->source, AT_RECURSIVE, RDONLY), target);
	case TMPFS:
		return attach(root, tmpfs("1777"), target);
	case TMPFS_WITH_ENTRIES:
		return attach(root, tmpfs_with_entries(), target);
	case PROC:
		return attach(root, new_filesystem("proc", NULL, INERT), target);
	case SYSFS:
		return attach(root, new_filesystem("sysfs", NULL, INERT | RDONLY), target);
	case MQUEUE:
		return attach(root, new_filesystem("mqueue", NULL, INERT), target);
	case DEVPTS:
		return devpts(root, target);
	case DEV:
		return dev(root);
	case FILE_CONTENT:
		return file(root, mount);
	case OVERLAY:
		return overlay(root, mount);
	case CGROUP2:
		return attach(root, new_filesystem("cgroup2", NULL, INERT | RDONLY), target);
	}
	return -EINVAL;
}
