/*
 * The mount steps of the child half: what is put together out of sight, a mount in hand that is
 * attached nowhere, and what is attached beneath the root.
 *
 * The rules are those of child.c. Whatever lies beneath the root may be another's: it is resolved by
 * openat2, once, and what is done is done to the fd.
 */
#include "shim.h"

#include <sys/stat.h>

#include "raw.h"

enum {
	TRIES_MAX = 1 << 16, /* a third of a second */
};

/* The mount in hand is the child's own fd, close-on-exec; a new one replaces it. */
static int take(int *slot, int fd)
{
	if (fd < 0)
		return fd;
	if (*slot >= 0)
		sys_close(*slot);
	*slot = fd;
	return 0;
}

static int move_mount(int mount, int place)
{
	return sys_move_mount(mount, "", place, "",
			      MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
}

static int host_root(struct child *child)
{
	return take(&child->root, sys_openat(AT_FDCWD, "/", O_PATH | O_DIRECTORY | O_CLOEXEC));
}

/* Only a mount can become the root: mount a copy of the directory over itself. */
static int new_root(struct child *child, const char *path)
{
	int directory = sys_openat(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (directory < 0)
		return directory;
	r = take(&child->root,
		 sys_open_tree(directory, "",
			       AT_EMPTY_PATH | AT_RECURSIVE | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
	if (r == 0)
		r = move_mount(child->root, directory);
	sys_close(directory);
	return r;
}

/* pivot_root takes only what is attached. */
static int attach_root(struct child *child, const char *path)
{
	int directory = sys_openat(AT_FDCWD, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (directory < 0)
		return directory;
	r = move_mount(child->tree, directory);
	sys_close(directory);
	if (r < 0)
		return r;
	r = take(&child->root, child->tree);
	child->tree = -1;
	return r;
}

/* In the caller's mount namespace a mount on what is shared would appear there: hence propagation. */
static int open_tree(struct child *child, const struct step *step, const char *source)
{
	struct mount_attr request = {.propagation = step->value};
	int r = take(&child->tree, sys_open_tree(AT_FDCWD, source,
						 (unsigned int)step->flags | OPEN_TREE_CLONE |
						     OPEN_TREE_CLOEXEC));

	if (r == 0 && step->value != 0)
		r = sys_mount_setattr(child->tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &request);
	return r;
}

static int set_attributes(struct child *child, uint64_t attributes)
{
	struct mount_attr request = {.attr_set = attributes};

	return sys_mount_setattr(child->tree, "", AT_EMPTY_PATH | AT_RECURSIVE, &request);
}

static int new_mount(struct child *child, const struct step *step, const char *text)
{
	int fd = sys_fsopen(text, FSOPEN_CLOEXEC);
	int r = 0;

	if (fd < 0)
		return fd;
	for (uint32_t i = 1; i + 1 < step->count && r == 0; i += 2) {
		const char *key = after(text);

		text = after(key);
		r = *text == '\0' ? sys_fsconfig(fd, FSCONFIG_SET_FLAG, key, NULL)
				  : sys_fsconfig(fd, FSCONFIG_SET_STRING, key, text);
	}
	if (r == 0)
		r = sys_fsconfig(fd, FSCONFIG_CMD_CREATE, NULL, NULL);
	if (r == 0)
		r = take(&child->tree, sys_fsmount(fd, FSMOUNT_CLOEXEC, step->flags));
	sys_close(fd);
	return r;
}

/* 1, 0 or -errno */
static int tree_is_directory(const struct child *child)
{
	int fd = sys_openat(child->tree, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return fd == -ENOTDIR ? 0 : fd;
	sys_close(fd);
	return 1;
}

/*
 * Resolves path beneath the anchor, whatever symlinks lie on the way. A ".." in one of them says
 * EAGAIN when anything at all on this machine was mounted or renamed in the meantime: while somebody
 * copies a mount table of thousands, some hundred times in a row.
 */
static int open_beneath(int anchor, const char *path, uint64_t flags, uint64_t resolve)
{
	int fd = -EAGAIN;

	for (int tries = 0; tries < TRIES_MAX && fd == -EAGAIN; tries++)
		fd = sys_openat2(anchor, path, O_PATH | O_CLOEXEC | flags,
				 RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | resolve);
	return fd;
}

/* Makes name, whose parent directory is open; whoever else made it in the meantime is as good. */
static int make(int parent, const char *name, bool directory)
{
	int r =
	    directory ? sys_mkdirat(parent, name, 0755) : sys_mknodat(parent, name, S_IFREG | 0644);

	if (r < 0 && r != -EEXIST)
		return r;
	/* EEXIST may also be a symlink to nowhere. Making what it points to could be a way out: ELOOP. */
	return sys_openat2(parent, name, O_PATH | O_CLOEXEC, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
}

/*
 * Opens the directory that the last component of path is to lie in; makes it when missing, one
 * component after the other, each resolved beneath the anchor whatever links there are.
 */
static int open_parent(int anchor, const char *path, uint64_t resolve, const char **ret_name)
{
	char prefix[PATH_MAX];
	char *end = prefix;
	int parent;

	if (path[0] != '/' || strlen(path) >= sizeof(prefix))
		return -EINVAL;
	memcpy(prefix, path, strlen(path) + 1);
	parent = sys_openat(anchor, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	while (parent >= 0) {
		const char *name = end + strspn(end, "/");
		int fd;

		end += strspn(end, "/");
		end += strcspn(end, "/");
		if (end[strspn(end, "/")] == '\0') {
			*ret_name = path + (name - prefix);
			return parent;
		}
		*end = '\0';
		fd = open_beneath(anchor, prefix, 0, resolve);
		if (fd == -ENOENT)
			fd = make(parent, name, true);
		*end = '/';
		sys_close(parent);
		parent = fd;
	}
	return parent;
}

static int make_target(const struct child *child, const char *target)
{
	const char *name;
	int directory = tree_is_directory(child), parent, fd;

	if (directory < 0)
		return directory;
	parent = open_parent(child->root, target, 0, &name);
	if (parent < 0)
		return parent;
	fd = make(parent, name, directory != 0);
	sys_close(parent);
	return fd;
}

/* -ELOOP for the root: only a link leads there, and nobody would see what is mounted over it. */
static int refuse_root(const struct child *child, int fd)
{
	struct statx_result root, other;
	int r = sys_statx(child->root, &root);

	if (r == 0)
		r = sys_statx(fd, &other);
	if (r == 0 && root.ino == other.ino && root.mnt_id == other.mnt_id)
		r = -ELOOP;
	return r;
}

static int attach(struct child *child, const char *target)
{
	unsigned int mask;
	int fd, r;

	fd = open_beneath(child->root, target, 0, 0);
	if (fd == -ENOENT) {
		mask = sys_umask(0);
		fd = make_target(child, target);
		sys_umask(mask);
	}
	if (fd < 0)
		return fd;
	r = refuse_root(child, fd);
	if (r == 0)
		r = move_mount(child->tree, fd);
	sys_close(fd);
	sys_close(child->tree);
	child->tree = -1;
	return r;
}

static int pivot_root(struct child *child)
{
	int r = sys_fchdir(child->root);

	if (r == 0)
		/* The old root ends up on top of the new one, at ".": no directory needed to put it. */
		r = sys_pivot_root(".", ".");
	if (r == 0)
		r = sys_umount2(".", MNT_DETACH);
	if (r == 0)
		r = sys_chdir("/");
	sys_close(child->root);
	child->root = -1;
	return r;
}

static int anchor_of(const struct child *child, const struct step *step)
{
	return step->flags & IN_HAND ? child->tree : child->root;
}

static int make_directory(const struct child *child, const struct step *step, const char *path)
{
	uint64_t resolve = step->flags & ~(uint64_t)IN_HAND;
	int anchor = anchor_of(child, step), fd, r;
	const char *name;
	int parent = open_parent(anchor, path, resolve, &name);

	if (parent < 0)
		return parent;
	r = sys_mkdirat(parent, name, (unsigned int)step->value);
	sys_close(parent);
	if (r != -EEXIST)
		return r;
	fd = open_beneath(anchor, path, O_DIRECTORY, resolve);
	if (fd < 0)
		return fd;
	sys_close(fd);
	return 0;
}

static int make_symlink(const struct child *child, const struct step *step, const char *path)
{
	const char *text = after(path), *name;
	int parent, r;
	char there[PATH_MAX];
	long size;

	parent = open_parent(anchor_of(child, step), path, step->flags & ~(uint64_t)IN_HAND, &name);
	if (parent < 0)
		return parent;
	r = sys_symlinkat(text, parent, name);
	if (r == -EEXIST) {
		size = sys_readlinkat(parent, name, there, sizeof(there));
		if (size == (long)strlen(text) && memcmp(there, text, (size_t)size) == 0)
			r = 0;
	}
	sys_close(parent);
	return r;
}

static int write_all(int fd, const char *data, uint64_t size)
{
	while (size > 0) {
		long r = sys_write(fd, data, size);

		if (r < 0)
			return (int)r;
		data += r;
		size -= (uint64_t)r;
	}
	return 0;
}

static int write_file(const struct child *child, const struct step *step, const char *path)
{
	int fd = sys_create(child->tree, path, 0600);
	int r;

	if (fd < 0)
		return fd;
	r = write_all(fd, after(path), step->value);
	if (r == 0)
		r = sys_fchmod(fd, step->flags);
	sys_close(fd);
	return r;
}

/*
 * Mounts the mount in hand over the root and makes it the current directory. Nothing is to be looked up
 * beneath the root until detach(): a ".." there would end in here.
 */
static int attach_over_root(struct child *child)
{
	int r =
	    take(&child->directory, sys_openat(AT_FDCWD, ".", O_PATH | O_DIRECTORY | O_CLOEXEC));

	if (r == 0)
		r = move_mount(child->tree, child->root);
	if (r == 0)
		r = sys_fchdir(child->tree);
	return r;
}

static int detach(struct child *child)
{
	int r;

	if (child->directory < 0)
		return -EBADF;
	r = sys_umount2(".", MNT_DETACH);
	if (r == 0)
		r = sys_fchdir(child->directory);
	sys_close(child->directory);
	child->directory = -1;
	return r;
}

static int copy_tree(int directory, const char *path, unsigned int flags)
{
	return sys_open_tree(directory, path, flags | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
}

/* Before Linux 6.15 only a mount that is attached can be copied. */
static int open_within(struct child *child, const char *path)
{
	int fd = copy_tree(child->tree, path, AT_SYMLINK_NOFOLLOW);
	int r;

	if (fd != -EINVAL)
		return take(&child->tree, fd);
	r = attach_over_root(child);
	if (r < 0)
		return r;
	fd = copy_tree(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW);
	r = detach(child);
	if (fd >= 0 && r < 0)
		sys_close(fd);
	return r < 0 ? r : take(&child->tree, fd);
}

static int set_aside(struct child *child)
{
	if (child->tree < 0)
		return -EBADF;
	if (child->aside_count == ASIDE_MAX)
		return -EMFILE;
	child->aside[child->aside_count++] = child->tree;
	child->tree = -1;
	return 0;
}

/* The mount that was set aside first; the caller owns it. */
static int next_aside(struct child *child)
{
	int mount;

	if (child->aside_count == 0)
		return -EBADF;
	mount = child->aside[child->aside_first++];
	if (child->aside_first == child->aside_count)
		child->aside_first = child->aside_count = 0;
	return mount;
}

static int take_up(struct child *child)
{
	return take(&child->tree, next_aside(child));
}

static int attach_aside(struct child *child, const char *name)
{
	int place = sys_openat2(AT_FDCWD, name, O_PATH | O_DIRECTORY | O_CLOEXEC,
				RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
	int mount, r;

	if (place < 0)
		return place;
	mount = next_aside(child);
	r = mount < 0 ? mount : move_mount(mount, place);
	if (mount >= 0)
		sys_close(mount);
	sys_close(place);
	return r;
}

static int stage(struct child *child, const struct step *step, const char *name)
{
	int r = attach_over_root(child);

	for (uint32_t i = 0; i < step->count && r == 0; i++, name = after(name))
		r = attach_aside(child, name);
	return r;
}

/* Mode and owner. An owner that this user namespace does not have can't be given: left as it is. */
static int copy_mode(const char *from, const char *to)
{
	struct statx_result source;
	int fd = sys_openat(AT_FDCWD, from, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r;

	if (fd < 0)
		return fd;
	r = sys_statx(fd, &source);
	sys_close(fd);
	if (r < 0)
		return r;
	fd = sys_openat(AT_FDCWD, to, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return fd;
	r = sys_fchown(fd, source.uid, source.gid);
	if (r == 0 || r == -EINVAL || r == -EPERM)
		r = sys_fchmod(fd, source.mode & 07777);
	sys_close(fd);
	return r;
}

/*
 * Of the mounts below the root alone: mount_setattr knows only all or the one, so the root gets back
 * what it had.
 */
static int set_root_attributes(const struct child *child, uint64_t attributes, bool below)
{
	struct mount_attr request = {.attr_set = attributes};
	struct statfs before;
	int r;

	if (!below)
		return sys_mount_setattr(child->root, "", AT_EMPTY_PATH, &request);
	r = sys_fstatfs(child->root, &before);
	if (r == 0)
		r = sys_mount_setattr(child->root, "", AT_EMPTY_PATH | AT_RECURSIVE, &request);
	request.attr_set = 0;
	request.attr_clr = attributes & MOUNT_ATTR_COMMON & ~(uint64_t)before.f_flags;
	if (r == 0 && request.attr_clr != 0)
		r = sys_mount_setattr(child->root, "", AT_EMPTY_PATH, &request);
	return r;
}

/*
 * Takes the null device to cover files with, which was set aside, and the mount in hand, which is empty, for
 * directories. What was called /dev/null may be something else (CVE-2025-31133): it is looked at.
 */
static int take_masks(struct child *child)
{
	struct statx_result found;
	int r;

	if (child->tree < 0)
		return -EBADF;
	r = take(&child->null.mount, next_aside(child));
	if (r == 0)
		r = sys_statx(child->null.mount, &found);
	if (r < 0)
		return r;
	if (!S_ISCHR(found.mode) || found.rdev_major != 1 || found.rdev_minor != 3)
		return -ENODEV;
	r = take(&child->empty.mount, child->tree);
	child->tree = -1;
	child->null.is_attached = child->empty.is_attached = false;
	return r;
}

static int cover(struct mask *with, int place)
{
	int mount, r;

	if (!with->is_attached) {
		r = move_mount(with->mount, place);
		with->is_attached = r == 0;
		return r;
	}
	mount = copy_tree(with->mount, "", AT_EMPTY_PATH);
	if (mount < 0)
		return mount;
	r = move_mount(mount, place);
	sys_close(mount);
	return r;
}

static int mask(struct child *child, const char *path)
{
	int place = open_beneath(child->root, path, 0, RESOLVE_NO_SYMLINKS);
	struct statx_result found;
	int r;

	if (place < 0)
		return place == -ENOENT ? 0 : place;
	r = sys_statx(place, &found);
	if (r == 0)
		r = cover(S_ISDIR(found.mode) ? &child->empty : &child->null, place);
	sys_close(place);
	return r;
}

static int cover_read_only(int place)
{
	struct mount_attr request = {.attr_set = MOUNT_ATTR_RDONLY};
	int mount = copy_tree(place, "", AT_EMPTY_PATH | AT_RECURSIVE);
	int r;

	if (mount < 0)
		return mount;
	r = sys_mount_setattr(mount, "", AT_EMPTY_PATH | AT_RECURSIVE, &request);
	if (r == 0)
		r = move_mount(mount, place);
	sys_close(mount);
	return r;
}

static int make_read_only(const struct child *child, const char *path)
{
	int place = open_beneath(child->root, path, 0, 0);
	int r;

	if (place < 0)
		return place == -ENOENT ? 0 : place;
	r = refuse_root(child, place);
	if (r == 0)
		r = cover_read_only(place);
	sys_close(place);
	return r;
}

static int with_all_modes(int (*make_it)(const struct child *, const struct step *, const char *),
			  const struct child *child, const struct step *step, const char *text)
{
	unsigned int umask = sys_umask(0);
	int r = make_it(child, step, text);

	sys_umask(umask);
	return r;
}

int mount_step(struct child *child, const struct step *step, const char *text)
{
	switch (step->kind) {
	case STEP_HOST_ROOT:
		return host_root(child);
	case STEP_NEW_ROOT:
		return new_root(child, text);
	case STEP_SEND_MOUNT: {
		int r = send_fd(step->fd, child->tree);

		return r < 0 ? r : 0;
	}
	case STEP_ATTACH_ROOT:
		return attach_root(child, text);
	case STEP_OPEN_TREE:
		return open_tree(child, step, text);
	case STEP_TAKE_MOUNT:
		return take(&child->tree, sys_fcntl(step->fd, F_DUPFD_CLOEXEC, 0));
	case STEP_SET_ATTRIBUTES:
		return set_attributes(child, step->flags);
	case STEP_NEW_MOUNT:
		return new_mount(child, step, text);
	case STEP_ATTACH:
		return attach(child, text);
	case STEP_PIVOT_ROOT:
		return pivot_root(child);
	case STEP_MAKE_DIRECTORY:
		return with_all_modes(make_directory, child, step, text);
	case STEP_MAKE_SYMLINK:
		return with_all_modes(make_symlink, child, step, text);
	case STEP_WRITE_FILE:
		return write_file(child, step, text);
	case STEP_OPEN_WITHIN:
		return open_within(child, text);
	case STEP_SET_ASIDE:
		return set_aside(child);
	case STEP_TAKE_UP:
		return take_up(child);
	case STEP_STAGE:
		return stage(child, step, text);
	case STEP_COPY_MODE:
		return copy_mode(text, after(text));
	case STEP_UNSTAGE:
		return detach(child);
	case STEP_SET_ROOT_ATTRIBUTES:
		return set_root_attributes(child, step->flags, step->value != 0);
	case STEP_TAKE_MASKS:
		return take_masks(child);
	case STEP_MASK:
		return mask(child, text);
	case STEP_MAKE_READ_ONLY:
		return make_read_only(child, text);
	default:
		return -EINVAL; /* a step of the parent's after the clone */
	}
}
