/* What a hostile workload would try, in a program of its own: raw system calls, none of libc's manners in between.
 *
 *   probe calls 'LABEL NUMBER [ARG...]' ...   one line each: "LABEL = RESULT" (an errno is negative), "LABEL signal N"
 *   probe fds                                 the descriptors that are open, on one line
 *   probe sleep                               waits to be killed
 *   probe watch PATH                          until PATH is there: looks into every other process, takes hold of its
 *                                             program and writes it; prints what it saw, a line each, "OWNED" at the worst
 *   probe trace PATH EGAC                     until PATH is there: seizes every other process by ptrace and prints what it
 *                                             has, rights, descriptors, namespaces, and whether EGAC, read backwards, is
 *                                             in its memory; last, how many it held before and after they came to be
 *                                             programs of the image, and, of a child of its own, "control" and the same
 *
 * NUMBER may be i386:N (by int 0x80) or x32:N. ARG is a number; str=TEXT, a pointer to it; buf, a pointer to zeroes;
 * words=A,B,..., a pointer to these, of 64 bits each; open=PATH, a descriptor; child, the pid of a child. Each call is made by a process of its own, because some of them
 * change the caller. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char zeroes[4][4096] __attribute__((aligned(4096)));

static pid_t paused_child(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;)
            pause();
    }
    return pid;
}

static long argument(char *word, int position)
{
    if (strncmp(word, "str=", 4) == 0)
        return (long)(word + 4);
    if (strcmp(word, "buf") == 0)
        return (long)zeroes[position % 4];
    if (strncmp(word, "words=", 6) == 0) {
        static unsigned long long all[6][8];
        unsigned long long *to = all[position % 6];
        int n = 0;
        for (char *at = word + 6; *at && n < 8; at += *at == ',')
            to[n++] = strtoull(at, &at, 0);
        return (long)to;
    }
    if (strcmp(word, "child") == 0)
        return paused_child();
    if (strncmp(word, "open=", 5) == 0)
        return open(word + 5, O_RDONLY | O_CLOEXEC);
    return (long)strtoull(word, NULL, 0);
}

#ifdef __x86_64__
static long by_int80(long number, long *a)
{
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(a[0]), "c"(a[1]), "d"(a[2]), "S"(a[3]), "D"(a[4])
                     : "memory", "r8", "r9", "r10", "r11");
    return (int)result;
}

static long by_syscall(long number, long *a)
{
    long result;
    register long r10 __asm__("r10") = a[3];
    register long r8 __asm__("r8") = a[4];
    register long r9 __asm__("r9") = a[5];
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9)
                     : "memory", "rcx", "r11");
    return result;
}
#else
static long by_int80(long number, long *a) { (void)number, (void)a; abort(); }
static long by_syscall(long number, long *a)
{
    long result = syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    return result == -1 ? -errno : result;
}
#endif

static void call(char *text)
{
    char *words[8] = { 0 };
    int count = 0;
    for (char *word = strtok(text, " "); word && count < 8; word = strtok(NULL, " "))
        words[count++] = word;
    if (count < 2) {
        printf("%s ?\n", text);
        return;
    }
    fflush(stdout);
    pid_t pid = fork();
    if (pid < 0) {
        printf("%s cannot fork\n", words[0]);
        return;
    }
    if (pid == 0) {
        long a[6] = { 0 };
        for (int i = 2; i < count; i++)
            a[i - 2] = argument(words[i], i);
        char *colon = strchr(words[1], ':');
        long number = strtol(colon ? colon + 1 : words[1], NULL, 0);
        long result;
        if (colon && strncmp(words[1], "i386", 4) == 0)
            result = by_int80(number, a);
        else
            result = by_syscall(colon ? number | 0x40000000 : number, a);
        /* A new process of clone or clone3 has nothing to report. */
        if (result == 0 && !colon && (number == SYS_clone || number == SYS_clone3))
            _exit(0);
        printf("%s = %ld\n", words[0], result);
        fflush(stdout);
        _exit(0);
    }
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status))
        printf("%s signal %d\n", words[0], WTERMSIG(status));
}

/* Lines that were printed already: a process is looked at thousands of times. */
static char said[512][512];
static int lines;

static void say(const char *what, const char *text)
{
    char line[512];
    snprintf(line, sizeof(line), "%s %.480s", what, text);
    for (int i = 0; i < lines; i++)
        if (strcmp(said[i], line) == 0)
            return;
    if (lines < 512)
        strcpy(said[lines++], line);
    printf("%s\n", line);
}

static void look(const char *path, const char *what)
{
    char text[480];
    ssize_t n = readlink(path, text, sizeof(text) - 1);
    if (n > 0) {
        text[n] = 0;
        say(what, text);
    }
}

/* A program that is not the image's: held open, and written as soon as nobody runs it. */
static void grab(const char *path, const struct stat *image, int *held, int *count)
{
    struct stat stat;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int own = fd >= 0 && fstat(fd, &stat) == 0 &&
        (stat.st_ino == image[0].st_ino || stat.st_ino == image[1].st_ino);
    if (fd >= 0 && !own && *count < 64) {
        say("HELD", "a program that is not of the image");
        held[(*count)++] = fd;
    } else if (fd >= 0) {
        close(fd);
    }
}

static void overwrite(const int *held, int count)
{
    char path[64];
    for (int i = 0; i < count; i++) {
        snprintf(path, sizeof(path), "/proc/self/fd/%d", held[i]);
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd >= 0) {
            if (write(fd, "#!owned\n", 8) == 8)
                say("OWNED", "a program that is not of the image");
            close(fd);
        }
    }
}

static void watch(const char *until)
{
    struct stat image[2];
    int held[64], count = 0;
    if (stat("/bin/busybox", &image[0]) != 0 || stat("/proc/self/exe", &image[1]) != 0)
        exit(2);
    say("watching", "");
    while (access(until, F_OK) != 0) {
        DIR *all = opendir("/proc");
        struct dirent *entry;
        char path[512];
        while (all && (entry = readdir(all))) {
            int pid = atoi(entry->d_name);
            if (pid <= 0 || pid == getpid())
                continue;
            snprintf(path, sizeof(path), "/proc/%d/exe", pid);
            look(path, "exe");
            grab(path, image, held, &count);
            snprintf(path, sizeof(path), "/proc/%d/cwd", pid);
            look(path, "cwd");
            snprintf(path, sizeof(path), "/proc/%d/root", pid);
            look(path, "root");
            snprintf(path, sizeof(path), "/proc/%d/fd", pid);
            DIR *fds = opendir(path);
            struct dirent *fd;
            while (fds && (fd = readdir(fds))) {
                snprintf(path, sizeof(path), "/proc/%d/fd/%s", pid, fd->d_name);
                look(path, "fd");
            }
            if (fds)
                closedir(fds);
        }
        if (all)
            closedir(all);
        overwrite(held, count);
    }
    overwrite(held, count);
}

/* What /proc/PID/status says of a set of capabilities; of another process, or of us. */
static unsigned long long rights(int pid, const char *set)
{
    char path[64], line[256];
    unsigned long long bits = 0;
    snprintf(path, sizeof(path), "/proc/%d/status", pid);
    FILE *status = fopen(path, "re");
    while (status && fgets(line, sizeof(line), status))
        if (strncmp(line, set, strlen(set)) == 0)
            bits = strtoull(line + strlen(set) + 1, NULL, 16);
    if (status)
        fclose(status);
    return bits;
}

/* Whether the text is in the writable memory of a process. */
static int remembers(int pid, const char *text)
{
    static char block[1 << 20];
    char path[64], line[512];
    int found = 0;
    snprintf(path, sizeof(path), "/proc/%d/mem", pid);
    int mem = open(path, O_RDONLY | O_CLOEXEC);
    snprintf(path, sizeof(path), "/proc/%d/maps", pid);
    FILE *maps = fopen(path, "re");
    while (mem >= 0 && maps && fgets(line, sizeof(line), maps)) {
        unsigned long from, to;
        char mode[8];
        if (sscanf(line, "%lx-%lx %7s", &from, &to, mode) != 3 || mode[1] != 'w')
            continue;
        for (; from < to; from += sizeof(block)) {
            size_t want = to - from < sizeof(block) ? to - from : sizeof(block);
            ssize_t n = pread(mem, block, want, (off_t)from);
            found |= n > 0 && memmem(block, (size_t)n, text, strlen(text)) != NULL;
        }
    }
    if (maps)
        fclose(maps);
    if (mem >= 0)
        close(mem);
    return found;
}

/* What it is by the numbers of the kernel, and not by a path that every root has. */
static void look_at(const char *path, const char *what)
{
    char text[480], line[512];
    struct stat stat_;
    ssize_t n = readlink(path, text, sizeof(text) - 1);
    if (n <= 0)
        return;
    text[n] = 0;
    /* A pipe and a socket are new each time. */
    char *number = strchr(text, '[');
    if (text[0] != '/' && number)
        *number = 0;
    if (text[0] == '/' && stat(path, &stat_) == 0)
        snprintf(line, sizeof(line), "%.440s %lu", text, (unsigned long)stat_.st_ino);
    else
        snprintf(line, sizeof(line), "%.440s", text);
    say(what, line);
}

/* Holds a process, says what it has, and lets it go. 0: it was gone; 1: it runs a program of the image; 2: not yet. */
static int hold(int pid, const char *text, const struct stat *image, const char *who)
{
    static const char *types[] = { "user", "pid", "mnt", "net", "ipc", "uts", "cgroup" };
    char path[320], what[64];
    int status;
    if (ptrace(PTRACE_SEIZE, pid, 0, 0) != 0)
        return 0;
    if (ptrace(PTRACE_INTERRUPT, pid, 0, 0) != 0 || waitpid(pid, &status, __WALL) != pid || !WIFSTOPPED(status))
        return 0;
    struct stat exe;
    snprintf(path, sizeof(path), "/proc/%d/exe", pid);
    int own = stat(path, &exe) != 0 || exe.st_ino == image[0].st_ino || exe.st_ino == image[1].st_ino;
    if (!own || *who) {
        const char *links[] = { "exe", "cwd", "root" };
        for (int i = 0; i < 3; i++) {
            snprintf(path, sizeof(path), "/proc/%d/%s", pid, links[i]);
            snprintf(what, sizeof(what), "%s%s", who, links[i]);
            look(path, what);
        }
        snprintf(path, sizeof(path), "/proc/%d/fd", pid);
        snprintf(what, sizeof(what), "%sfd", who);
        DIR *fds = opendir(path);
        struct dirent *fd;
        while (fds && (fd = readdir(fds))) {
            snprintf(path, sizeof(path), "/proc/%d/fd/%s", pid, fd->d_name);
            look_at(path, what);
        }
        if (fds)
            closedir(fds);
        snprintf(what, sizeof(what), "%srights", who);
        const char *sets[] = { "CapPrm", "CapEff", "CapInh", "CapBnd", "CapAmb" };
        for (int i = 0; i < 5; i++)
            if (rights(pid, sets[i]) & ~rights(getpid(), sets[i]))
                say(what, sets[i]);
        snprintf(what, sizeof(what), "%snamespace", who);
        for (int i = 0; i < 7; i++) {
            snprintf(path, sizeof(path), "/proc/%d/ns/%s", pid, types[i]);
            look(path, what);
        }
        snprintf(what, sizeof(what), "%smemory", who);
        if (remembers(pid, text))
            say(what, "of the host");
    }
    ptrace(PTRACE_DETACH, pid, 0, 0);
    return own ? 1 : 2;
}

static void trace(const char *until, char *text)
{
    struct stat image[2];
    int early = 0, late = 0, seen[4096] = { 0 }, looks[4096] = { 0 };
    if (stat("/bin/busybox", &image[0]) != 0 || stat("/proc/self/exe", &image[1]) != 0)
        exit(2);
    for (size_t i = 0, n = strlen(text); i < n / 2; i++) {
        char c = text[i];
        text[i] = text[n - 1 - i];
        text[n - 1 - i] = c;
    }
    /* The control: it has the text in its memory, a namespace of its own, and a descriptor. */
    pid_t child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (open("/etc/passwd", O_RDONLY) < 0)
            _exit(2);
        for (;;)
            pause();
    }
    usleep(100000);
    hold(child, text, image, "control ");
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    say("watching", "");
    while (access(until, F_OK) != 0) {
        DIR *all = opendir("/proc");
        struct dirent *entry;
        while (all && (entry = readdir(all))) {
            int pid = atoi(entry->d_name);
            /* Those that were here before us are no news; a number may come again, long after. */
            if (pid <= 0 || pid <= getpid() || seen[pid % 4096] == pid)
                continue;
            int how = hold(pid, text, image, "");
            early += how == 2;
            late += how == 1;
            /* One that has not yet become the program is looked at again, now and then at another place. */
            if (how == 1 || (how == 2 && ++looks[pid % 4096] % 3 == 0))
                seen[pid % 4096] = pid;
        }
        if (all)
            closedir(all);
        while (waitpid(-1, NULL, WNOHANG | __WALL) > 0)
            ;
    }
    printf("held %d before and %d after\n", early, late);
}

/* Starts a command without a system call, as a service manager's filter leaves it: the call answers ENOSYS. */
static int without(char **words)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)atoi(words[0]), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { .len = 4, .filter = code };
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0)
        return 2;
    execvp(words[1], words + 1);
    return 127;
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOFBF, 1 << 16);
    if (argc > 2 && strcmp(argv[1], "calls") == 0) {
        /* A seccomp kill must not write a core. */
        struct rlimit none = { 0, 0 };
        setrlimit(RLIMIT_CORE, &none);
        for (int i = 2; i < argc; i++)
            call(argv[i]);
    } else if (argc == 2 && strcmp(argv[1], "fds") == 0) {
        for (int fd = 0; fd < 65536; fd++)
            if (fcntl(fd, F_GETFD) >= 0)
                printf("%d ", fd);
        printf("\n");
    } else if (argc == 3 && strcmp(argv[1], "watch") == 0) {
        setvbuf(stdout, NULL, _IOLBF, 0);
        watch(argv[2]);
    } else if (argc == 4 && strcmp(argv[1], "trace") == 0) {
        setvbuf(stdout, NULL, _IOLBF, 0);
        trace(argv[2], argv[3]);
    } else if (argc > 3 && strcmp(argv[1], "without") == 0) {
        return without(argv + 2);
    } else if (argc == 2 && strcmp(argv[1], "sleep") == 0) {
        for (;;)
            pause();
    } else {
        fprintf(stderr, "probe: what?\n");
        return 2;
    }
    return 0;
}
