/* Runs commands one after another and says what they cost, with all that they left running: one line
 *
 *     wall_us cpu_us peak_kib
 *
 * It is C, static and tiny, because a child's peak memory begins with that of the process that forked it, and it is a
 * subreaper, so that a container which `create` leaves behind is waited for and counted too.
 *
 *     meter [-f FILE] COMMAND ARGS... [@then COMMAND ARGS...] [@wait ...]
 *
 * -f FILE opens FILE as descriptor 9 of every command (bubblewrap takes its filter so). @then is the next command;
 * @wait is the same after everything left running has ended, as an engine would wait.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long cpu, peak;
static int failed;

static void count(const struct rusage *use)
{
	cpu += (use->ru_utime.tv_sec + use->ru_stime.tv_sec) * 1000000L + use->ru_utime.tv_usec + use->ru_stime.tv_usec;
	if (use->ru_maxrss > peak)
		peak = use->ru_maxrss;
}

/* Waits for `pid`, or with -1 for everything. */
static void await(pid_t pid)
{
	struct rusage use;
	int status;
	pid_t got;
	while ((got = wait4(pid, &status, __WALL, &use)) > 0) {
		count(&use);
		/* What was left running may have been killed: bubblewrap does that. */
		if (pid > 0 && (!WIFEXITED(status) || WEXITSTATUS(status)))
			failed = 1;
	}
}

static void run(char **argv)
{
	pid_t pid = vfork();
	if (pid == 0) {
		execv(argv[0], argv);
		_exit(127);
	}
	if (pid < 0)
		failed = 1;
	else
		await(pid);
}

int main(int argc, char **argv)
{
	struct timespec a, b;
	char **at = argv + 1;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (argc > 2 && !strcmp(at[0], "-f")) {
		int fd = open(at[1], O_RDONLY);
		if (fd < 0 || dup2(fd, 9) < 0 || close(fd))
			return 2;
		at += 2;
	}
	clock_gettime(CLOCK_MONOTONIC, &a);
	while (*at) {
		char **end = at;
		while (*end && strcmp(*end, "@then") && strcmp(*end, "@wait"))
			end++;
		int more = *end != NULL, wait = more && !strcmp(*end, "@wait");
		*end = NULL;
		run(at);
		if (wait)
			await(-1);
		at = more ? end + 1 : end;
	}
	await(-1);
	clock_gettime(CLOCK_MONOTONIC, &b);
	printf("%ld %ld %ld\n", (b.tv_sec - a.tv_sec) * 1000000L + (b.tv_nsec - a.tv_nsec) / 1000, cpu, peak);
	return failed;
}
