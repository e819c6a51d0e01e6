/* The floor: the least that a launch can cost. One process, one clone, the kernel work of the bench's bundles written
 * down as straight calls: no config, no checks, no record of what was made. A yardstick, not a runtime.
 *
 *     floor ROOTFS CGROUP [FILTER]
 *
 * CGROUP is a directory that it makes, enters and removes. With FILTER (the raw instructions of a seccomp program) it
 * does the hardened bundle: a user namespace with maps, devices by bind, and the filter.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/keyctl.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

/* linux/mount.h, which has the new calls' constants, and sys/mount.h, which has these, do not go together. */
int mount(const char *, const char *, const char *, unsigned long, const void *);
int umount2(const char *, int);
#define MNT_DETACH 2
#ifndef AT_RECURSIVE
#define AT_RECURSIVE 0x8000
#endif

static const int BASE = MS_NOSUID | MS_NOEXEC;

static long must(long ret, const char *what)
{
	if (ret < 0) {
		dprintf(2, "floor: %s: %s\n", what, strerror(errno));
		_exit(125);
	}
	return ret;
}

static int tree(int dir, const char *path, int flags)
{
	return must(syscall(SYS_open_tree, dir, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | flags), path);
}

static void put(int fd, int dir, const char *path)
{
	must(syscall(SYS_move_mount, fd, "", dir, path, MOVE_MOUNT_F_EMPTY_PATH), path);
	close(fd);
}

static void attr(int fd, uint64_t set, uint64_t propagation, int flags)
{
	struct mount_attr a = { .attr_set = set, .propagation = propagation };
	must(syscall(SYS_mount_setattr, fd, "", AT_EMPTY_PATH | flags, &a, sizeof a), "mount_setattr");
}

static const struct { const char *name; int major, minor; } DEVICES[] = {
	{ "null", 1, 3 }, { "zero", 1, 5 }, { "full", 1, 7 }, { "random", 1, 8 }, { "urandom", 1, 9 }, { "tty", 5, 0 },
};

/* The default devices and no others, as every runtime's program says. */
static void device_program(int cgroup)
{
	static const int allowed[][2] = { { 1, 3 }, { 1, 5 }, { 1, 7 }, { 1, 8 }, { 1, 9 }, { 5, 0 }, { 5, 2 }, { 136, -1 } };
	struct bpf_insn p[64];
	int n = 0;
#define I(c, d, s, o, i) p[n++] = (struct bpf_insn){ .code = c, .dst_reg = d, .src_reg = s, .off = o, .imm = i }
	I(BPF_LDX | BPF_MEM | BPF_W, 4, 1, 4, 0);
	I(BPF_LDX | BPF_MEM | BPF_W, 5, 1, 8, 0);
	for (unsigned i = 0; i < sizeof allowed / sizeof *allowed; i++) {
		int any = allowed[i][1] < 0;
		I(BPF_JMP | BPF_JNE | BPF_K, 4, 0, any ? 2 : 3, allowed[i][0]);
		if (!any)
			I(BPF_JMP | BPF_JNE | BPF_K, 5, 0, 2, allowed[i][1]);
		I(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1);
		I(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	}
	I(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
	I(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	union bpf_attr load, attach;
	memset(&load, 0, sizeof load);
	load.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	load.insns = (uintptr_t)p;
	load.insn_cnt = n;
	load.license = (uintptr_t) "GPL";
	int fd = must(syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load), "device program");
	memset(&attach, 0, sizeof attach);
	attach.target_fd = cgroup;
	attach.attach_bpf_fd = fd;
	attach.attach_type = BPF_CGROUP_DEVICE;
	attach.attach_flags = BPF_F_ALLOW_MULTI;
	must(syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach), "attach");
	close(fd);
}

static void write_to(const char *path, const char *text)
{
	int fd = must(open(path, O_WRONLY | O_CLOEXEC), path);
	must(write(fd, text, strlen(text)), path);
	close(fd);
}

static void child(int root, int go, const char *filter)
{
	char byte;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	must(read(go, &byte, 1) - 1, "go");
	must(setsid(), "setsid");
	syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL);
	if (filter) {
		must(syscall(SYS_setgroups, 0, NULL), "setgroups");
		must(syscall(SYS_setresgid, 0, 0, 0), "setresgid");
		must(syscall(SYS_setresuid, 0, 0, 0), "setresuid");
		prctl(PR_SET_DUMPABLE, 0);
	}
	must(mount(NULL, "/", NULL, MS_PRIVATE | MS_REC, NULL), "private");
	must(syscall(SYS_move_mount, root, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH), "root");
	must(fchdir(root), "root");

	must(mount("proc", "proc", "proc", 0, NULL), "proc");
	must(mount("tmpfs", "dev", "tmpfs", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k"), "dev");
	must(mkdir("dev/pts", 0755), "pts");
	must(mount("devpts", "dev/pts", "devpts", BASE, "newinstance,ptmxmode=0666,mode=0620,gid=5"), "devpts");
	must(mkdir("dev/shm", 0755), "shm");
	must(mount("shm", "dev/shm", "tmpfs", BASE | MS_NODEV, "mode=1777,size=65536k"), "shm");
	must(mkdir("dev/mqueue", 0755), "mqueue");
	must(mount("mqueue", "dev/mqueue", "mqueue", BASE | MS_NODEV, NULL), "mqueue");
	must(mount("sysfs", "sys", "sysfs", BASE | MS_NODEV | MS_RDONLY, NULL), "sysfs");
	must(mount("cgroup", "sys/fs/cgroup", "cgroup2", BASE | MS_NODEV | MS_RDONLY, NULL), "cgroup2");

	for (unsigned i = 0; i < sizeof DEVICES / sizeof *DEVICES; i++) {
		char path[32], host[32];
		snprintf(path, sizeof path, "dev/%s", DEVICES[i].name);
		if (filter) {
			snprintf(host, sizeof host, "/dev/%s", DEVICES[i].name);
			int fd = tree(AT_FDCWD, host, 0);
			must(mknod(path, S_IFREG | 0644, 0), path);
			put(fd, AT_FDCWD, path);
		} else {
			must(mknod(path, S_IFCHR | 0666, makedev(DEVICES[i].major, DEVICES[i].minor)), path);
		}
	}
	must(symlink("pts/ptmx", "dev/ptmx"), "ptmx");
	must(symlink("/proc/self/fd", "dev/fd"), "fd");
	must(symlink("/proc/self/fd/0", "dev/stdin"), "stdin");
	must(symlink("/proc/self/fd/1", "dev/stdout"), "stdout");
	must(symlink("/proc/self/fd/2", "dev/stderr"), "stderr");

	static const char *const frozen[] = { "proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger" };
	for (unsigned i = 0; i < sizeof frozen / sizeof *frozen; i++) {
		if (access(frozen[i], F_OK) < 0)
			continue;
		int fd = tree(AT_FDCWD, frozen[i], AT_RECURSIVE);
		attr(fd, MOUNT_ATTR_RDONLY, 0, AT_RECURSIVE);
		put(fd, AT_FDCWD, frozen[i]);
	}
	static const char *const masked[] = { "proc/acpi", "proc/asound", "proc/kcore", "proc/keys", "proc/latency_stats",
		"proc/timer_list", "proc/timer_stats", "proc/sched_debug", "proc/scsi", "sys/firmware",
		"sys/devices/virtual/powercap" };
	for (unsigned i = 0; i < sizeof masked / sizeof *masked; i++) {
		struct stat st;
		if (stat(masked[i], &st) < 0)
			continue;
		if (S_ISDIR(st.st_mode))
			must(mount("tmpfs", masked[i], "tmpfs", MS_RDONLY, NULL), masked[i]);
		else
			put(tree(AT_FDCWD, "/dev/null", 0), AT_FDCWD, masked[i]);
	}
	attr(root, MOUNT_ATTR_RDONLY, 0, 0);
	must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
	must(umount2(".", MNT_DETACH), "old root");
	must(chdir("/"), "/");
	must(sethostname("bench", 5), "hostname");

	int net = must(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
	struct ifreq lo = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	must(ioctl(net, SIOCSIFFLAGS, &lo), "lo");
	struct rlimit files = { 1024, 1024 };
	must(setrlimit(RLIMIT_NOFILE, &files), "rlimit");
	must(syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC), "close_range");

	uint64_t keep = 1ULL << CAP_AUDIT_WRITE | 1ULL << CAP_KILL | 1ULL << CAP_NET_BIND_SERVICE;
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (!(keep >> cap & 1))
			prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	must(syscall(SYS_setgroups, 0, NULL), "setgroups");
	must(syscall(SYS_setresgid, 0, 0, 0), "setresgid");
	must(syscall(SYS_setresuid, 0, 0, 0), "setresuid");
	struct __user_cap_header_struct head = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { { keep, keep, 0 }, { keep >> 32, keep >> 32, 0 } };
	must(syscall(SYS_capset, &head, data), "capset");
	must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
	if (filter) {
		/* Its descriptor was opened before the pivot and kept at a known number. */
		static struct sock_filter code[4096];
		ssize_t size = must(pread(8, code, sizeof code, 0), "filter");
		struct sock_fprog prog = { size / sizeof *code, code };
		must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog), "seccomp");
	}
	char *argv[] = { "true", NULL }, *envp[] = { "PATH=/bin", "HOME=/root", NULL };
	must(execve("/bin/true", argv, envp), "execve");
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	const char *filter = argc > 3 ? argv[3] : NULL;
	int go[2], pidfd = -1, status;
	if (filter) {
		int fd = must(open(filter, O_RDONLY), filter);
		must(dup3(fd, 8, O_CLOEXEC), "filter");
		close(fd);
	}
	must(pipe2(go, O_CLOEXEC), "pipe");
	int root = tree(AT_FDCWD, argv[1], AT_RECURSIVE);
	attr(root, 0, MS_PRIVATE, AT_RECURSIVE);
	must(mkdir(argv[2], 0755), argv[2]);
	int cgroup = must(open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC), argv[2]);
	device_program(cgroup);

	struct clone_args args = {
		.flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNET | CLONE_NEWCGROUP
			| CLONE_INTO_CGROUP | CLONE_PIDFD | (filter ? CLONE_NEWUSER : 0),
		.pidfd = (uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
		.cgroup = cgroup,
	};
	pid_t pid = must(syscall(SYS_clone3, &args, sizeof args), "clone3");
	if (pid == 0)
		child(root, go[0], filter);
	if (filter) {
		char path[64];
		snprintf(path, sizeof path, "/proc/%d/uid_map", pid);
		write_to(path, "0 1000000 65536\n");
		snprintf(path, sizeof path, "/proc/%d/gid_map", pid);
		write_to(path, "0 1000000 65536\n");
	}
	must(write(go[1], "", 1), "go");
	must(waitpid(pid, &status, 0), "wait");
	must(rmdir(argv[2]), "rmdir");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
