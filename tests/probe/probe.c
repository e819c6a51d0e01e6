/* What a hostile workload would try, in a program of its own: raw system calls, none of libc's manners in between.
 *
 *   probe calls 'LABEL NUMBER [ARG...]' ...   one line each: "LABEL = RESULT" (an errno is negative), "LABEL signal N"
 *   probe fds                                 the descriptors that are open, on one line
 *   probe sleep                               waits to be killed
 *   probe watch PATH                          until PATH is there: looks into every other process, takes hold of its
 *                                             program and writes it; prints what it saw, a line each, "OWNED" at the worst
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
