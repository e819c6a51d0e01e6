/* Prints what a system call costs here, in hundredths of a nanosecond: getppid(2), which a profile allows by its number
 * alone, and personality(2) with a value that Docker's profile looks at. The least of nine rounds each. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long least(long number, long argument)
{
	enum { CALLS = 200000 };
	long best = 0;
	for (int round = 0; round < 9; round++) {
		struct timespec a, b;
		clock_gettime(CLOCK_MONOTONIC, &a);
		for (int i = 0; i < CALLS; i++)
			syscall(number, argument);
		clock_gettime(CLOCK_MONOTONIC, &b);
		long took = (b.tv_sec - a.tv_sec) * 1000000000L + (b.tv_nsec - a.tv_nsec);
		if (!best || took < best)
			best = took;
	}
	return best / (CALLS / 100);
}

int main(void)
{
	printf("%ld %ld\n", least(SYS_getppid, 0), least(SYS_personality, 0xffffffffL));
	return 0;
}
