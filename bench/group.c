/*
 * The floor of making and removing a cgroup: a mkdir in each hierarchy, a write for each limit, an
 * rmdir in each. The lists end with NULL; files and values go together.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int put(const char *file, const char *value)
{
	int fd = open(file, O_WRONLY | O_CLOEXEC);
	int r = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, value, strlen(value)) < 0)
		r = -errno;
	close(fd);
	return r;
}

/* Removes those that are there, the last first. Returns 0 or -errno. */
int remove_groups(const char *const *directories)
{
	int count = 0, r = 0;

	while (directories[count] != NULL)
		count++;
	while (count-- > 0)
		if (rmdir(directories[count]) < 0 && errno != ENOENT && r == 0)
			r = -errno;
	return r;
}

/* Returns 0 or -errno; then nothing is left of what was made. */
int make_groups(const char *const *directories, const char *const *files, const char *const *values)
{
	int r = 0;

	for (int i = 0; directories[i] != NULL && r == 0; i++)
		if (mkdir(directories[i], 0755) < 0)
			r = -errno;
	for (int i = 0; files[i] != NULL && r == 0; i++)
		r = put(files[i], values[i]);
	if (r < 0)
		remove_groups(directories);
	return r;
}

int make_and_remove(const char *const *directories, const char *const *files,
		    const char *const *values)
{
	int r = make_groups(directories, files, values);

	return r < 0 ? r : remove_groups(directories);
}
