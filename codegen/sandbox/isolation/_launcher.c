// The compiled serving loop of a zygote of programs. _launcher.pyi documents the functions, loop.py
// has the same loop in Python, and confine.py the steps that confine a job.
//
// Reason: a fork shares the interpreter's memory, and each page that either side writes afterwards
// is copied. Python code that launches a job writes some four hundred pages by counting references;
// this file writes a few dozen. It needs only the C library, and uses the limited API.
//
// A zygote is a single-threaded process, so the state is static. Signals are sent only to pids that
// it forked and has not waited for.
#define _GNU_SOURCE
#include "_program.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <math.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#define LANDLOCK_RESTRICT_SELF 446

enum { CHANNEL_FD = 3, PRINTED_FD = 4 };  // wire.py, program.py
enum { MOST_SETS = 64, MOST_NAMESPACES = 4, PRINTED_BYTES = 2000, MESSAGE_BYTES = 200 };
enum { SIGNALS = 1024 };  // confine.py

static const double LONGEST_NAP_S = 0.05, SHORTEST_NAP_S = 0.02;

// orders.py: the layouts and their number, the operations, the descriptors, the reasons of an end.
enum { LAYOUT = 5 };
typedef struct {
    uint32_t op, id, fds, memory_mib, file_mib, open_files, processes, own_proc, address_mib, unused;
    double cpu_s, wall_s;
    uint64_t output_bytes;
} Order;
typedef struct {
    uint32_t id, reason;
    int32_t status;
    uint32_t unused;
    double cpu_s, wall_s, rss_mib;
} End;
_Static_assert(sizeof(Order) == 64 && sizeof(End) == 40, "the layouts of orders.py");
enum { RUN = 1, KILL = 2 };
enum { PAYLOAD, CHANNEL, STDIN, STDOUT, KINDS_OF_FD };
enum { EXIT, CPU, WALL, MEMORY, OUTPUT, ORDERED, FAILED };

typedef struct {
    int fd, kind;
} Namespace;

typedef struct {
    struct timespec changed, modified;
    nlink_t links;
} Stamp;

typedef struct {
    int made, busy, rules, namespaces;
    uint32_t uid, file_mib;
    Namespace namespace[MOST_NAMESPACES];
    int watched[2];
    Stamp untouched[2];
} NamespaceSet;

typedef struct {
    int going, set, stdout_fd, printed;
    pid_t pid;
    uint32_t id, reason, memory_mib;
    double started, cpu_s, wall_s, cpu_seen;
    uint64_t output_bytes;
} Job;

static struct {
    int control, errors, own_pid_namespace, uids, sets, last_used, order_waits;
    struct rlimit hard[RLIM_NLIMITS];
    struct sock_fprog filter;
    char directory[256];
    PyObject *make_proc, *show_proc;  // namespaces.py
    sigset_t asleep;  // signal mask while waiting: the process's, without SIGCHLD
    double look_at, look_at_all;
    unsigned long long own_bytes;  // address space of each job after its fork
    NamespaceSet set[MOST_SETS];
    Job job[MOST_SETS];
    Order order;
    int fds[KINDS_OF_FD];
} zygote;

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static PyObject* raise_errno(const char* what) {
    const int number = errno;
    PyErr_Format(PyExc_OSError, "%s: %s", what, strerror(number));
    return NULL;
}

static void close_all(int* fds, int count) {
    for (int i = 0; i < count; i++) {
        if (fds[i] >= 0) close(fds[i]);
        fds[i] = -1;
    }
}

static int look(const NamespaceSet* set, Stamp* seen) {
    for (int i = 0; i < 2; i++) {
        struct stat stat;
        if (fstat(set->watched[i], &stat) < 0) return -1;
        seen[i] = (Stamp){stat.st_ctim, stat.st_mtim, stat.st_nlink};
    }
    return 0;
}

static int same(struct timespec a, struct timespec b) {
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static int is_untouched(const NamespaceSet* set) {
    Stamp seen[2];
    if (look(set, seen) < 0) return 0;
    for (int i = 0; i < 2; i++) {
        const Stamp *a = &seen[i], *b = &set->untouched[i];
        if (!same(a->changed, b->changed) || !same(a->modified, b->modified)) return 0;
        if (a->links != b->links) return 0;
    }
    return 1;
}

// Returns the free set to use, -1 if none: the last used, unless only another one fits.
static int free_set(uint32_t file_mib) {
    int found = -1;
    for (int i = 0; i < zygote.sets; i++) {
        const int at = (zygote.last_used + i) % zygote.sets;
        if (zygote.set[at].busy) continue;
        if (zygote.set[at].file_mib == file_mib) return at;
        if (found < 0) found = at;
    }
    return found;
}

// A job's confinement; see confine.py.

static int limit(int resource, rlim_t value) {
    const rlim_t hard = zygote.hard[resource].rlim_max;
    if (hard != RLIM_INFINITY && hard < value) value = hard;
    const struct rlimit both = {value, value};
    return setrlimit(resource, &both);
}

// Its standard output counts as a file too.
static rlim_t file_bytes(const Order* order) {
    const rlim_t mebibyte = 1 << 20, files = order->file_mib * mebibyte;
    const rlim_t output = order->output_bytes > 0 ? order->output_bytes + mebibyte : 0;
    return files > output ? files : output;
}

static const char* set_limits(const Order* order) {
    const rlim_t mebibyte = 1 << 20;
    const rlim_t address_mib = order->address_mib > 0 ? order->address_mib : order->memory_mib;
    const int failed = limit(RLIMIT_AS, address_mib * mebibyte + zygote.own_bytes) < 0 ||
                       // whole seconds; the zygote enforces the exact limit, this is a backup
                       limit(RLIMIT_CPU, (rlim_t)ceil(order->cpu_s) + 1) < 0 ||
                       limit(RLIMIT_FSIZE, file_bytes(order)) < 0 ||
                       limit(RLIMIT_NOFILE, order->open_files) < 0 ||
                       limit(RLIMIT_NPROC, order->processes) < 0 || limit(RLIMIT_CORE, 1) < 0 ||
                       limit(RLIMIT_MEMLOCK, 0) < 0 || limit(RLIMIT_MSGQUEUE, 0) < 0 ||
                       limit(RLIMIT_SIGPENDING, SIGNALS) < 0 || limit(RLIMIT_RTPRIO, 0) < 0 ||
                       limit(RLIMIT_NICE, 0) < 0;
    return failed ? "setrlimit" : NULL;
}

static const char* drop_rights(const NamespaceSet* set) {
    if (zygote.uids) {
        const long id = (long)set->uid;
        if (syscall(SYS_setgroups, 0L, NULL) < 0) return "setgroups";
        if (syscall(SYS_setresgid, id, id, id) < 0) return "setresgid";
        if (syscall(SYS_setresuid, id, id, id) < 0) return "setresuid";
    }
    // A change of user id keeps only the inheritable ones.
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    const struct __user_cap_data_struct none[2] = {{0, 0, 0}, {0, 0, 0}};
    return syscall(SYS_capset, &header, none) < 0 ? "capset" : NULL;
}

static int load(const struct sock_fprog* filter) {
    return filter->len > 0 ? prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter) : 0;
}

// Opens its own standard streams: locks, flags and owners of signals belong to an open file, and
// would outlive the job in one that it shares with the zygote.
static const char* open_streams(const int* fds) {
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null < 0) return "open /dev/null";
    if (dup2(fds[STDIN] >= 0 ? fds[STDIN] : null, 0) < 0) return "dup2";
    if (dup2(fds[STDOUT] >= 0 ? fds[STDOUT] : null, 1) < 0) return "dup2";
    if (dup2(null, 2) < 0) return "dup2";
    close(null);
    return NULL;
}

// Confines this process permanently; returns the name of the call that failed, NULL on success.
static const char* confine(const NamespaceSet* set, const Order* order, const int* fds) {
    if (setsid() < 0) return "setsid";
    PyObject* proc = NULL;
    if (order->own_proc && (proc = PyObject_CallNoArgs(zygote.make_proc)) == NULL)
        return "own_proc";
    for (int i = 0; i < set->namespaces; i++)
        if (setns(set->namespace[i].fd, set->namespace[i].kind) < 0) return "setns";
    if (proc != NULL && PyObject_CallFunctionObjArgs(zygote.show_proc, proc, NULL) == NULL)
        return "own_proc";
    const char* stream = open_streams(fds);
    if (stream != NULL) return stream;
    if (chdir(zygote.directory) < 0) return "chdir";
    const char* failed = set_limits(order);
    if (failed == NULL) failed = drop_rights(set);
    if (failed != NULL) return failed;
    // A process that can read its own /proc entry must be dumpable, so its children can read it too.
    if (order->own_proc && prctl(PR_SET_DUMPABLE, 1L, 0L, 0L, 0L) < 0) return "prctl";
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0L, 0L, 0L) < 0) return "prctl";
    if (set->rules >= 0 && syscall(LANDLOCK_RESTRICT_SELF, set->rules, 0) < 0)
        return "landlock_restrict_self";
    return load(&zygote.filter) < 0 ? "seccomp" : NULL;
}

// Forks the init of a new PID namespace. On failure -1 and the name of the call that failed.
static pid_t fork_job(const char** failed) {
    *failed = "unshare";
    if (unshare(CLONE_NEWPID) < 0) return -1;
    PyOS_BeforeFork();
    const pid_t pid = fork();
    if (pid == 0) {
        PyOS_AfterFork_Child();
        signal(SIGCHLD, SIG_DFL);
        sigprocmask(SIG_SETMASK, &zygote.asleep, NULL);
        return 0;
    }
    const int number = errno;
    PyOS_AfterFork_Parent();
    *failed = "fork";
    if (setns(zygote.own_pid_namespace, CLONE_NEWPID) < 0) {
        // Never fork again into a namespace whose init is a job.
        fprintf(stderr, "the zygote can't return to its PID namespace\n");
        _exit(125);
    }
    errno = number;
    return pid;
}

static _Noreturn void die_unconfined(const char* failed) {
    char text[MESSAGE_BYTES];
    const int length = snprintf(text, sizeof text, "job: %s: %s\n", failed, strerror(errno));
    if (write(zygote.errors, text, (size_t)length) < 0) _exit(126);
    _exit(125);
}

// Returns 0, or -1 if the driver is gone.
static int tell(const End* end, const char* text, size_t length) {
    struct iovec parts[2] = {{(void*)end, sizeof *end}, {(void*)text, length}};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t sent;
    do sent = sendmsg(zygote.control, &message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -1 : 0;
}

static int tell_failed(uint32_t id, const char* what) {
    char text[MESSAGE_BYTES];
    const int length = snprintf(text, sizeof text, "%s: %s", what, strerror(errno));
    const End end = {.id = id, .reason = FAILED};
    return tell(&end, text, (size_t)length);
}

static void kill_job(Job* job, uint32_t reason) {
    // The pid stays reserved until it is waited for. Its namespace dies with it.
    if (job->reason == EXIT) job->reason = reason;
    kill(job->pid, SIGKILL);
}

static Job* job_of(uint32_t id) {
    for (int i = 0; i < zygote.sets; i++)
        if (zygote.job[i].going && zygote.job[i].id == id) return &zygote.job[i];
    return NULL;
}

static int finish(Job* job, int status, const struct rusage* usage) {
    const double cpu_s = (double)(usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) +
                         1e-6 * (double)(usage->ru_utime.tv_usec + usage->ru_stime.tv_usec);
    const End end = {
        .id = job->id,
        .reason = job->reason,
        .status = status,
        .cpu_s = cpu_s > job->cpu_seen ? cpu_s : job->cpu_seen,
        .wall_s = now() - job->started,
        .rss_mib = (double)usage->ru_maxrss / 1024,
    };
    char output[PRINTED_BYTES];
    ssize_t length = 0;
    if (job->printed >= 0) length = read(job->printed, output, sizeof output);
    close_all(&job->printed, 1);
    close_all(&job->stdout_fd, 1);
    job->going = 0;
    zygote.set[job->set].busy = 0;
    zygote.last_used = job->set;
    return tell(&end, output, length > 0 ? (size_t)length : 0);
}

static int reap(void) {
    for (int i = 0; i < zygote.sets; i++) {
        Job* job = &zygote.job[i];
        int status;
        struct rusage usage;
        if (job->going && wait4(job->pid, &status, WNOHANG, &usage) == job->pid &&
            finish(job, status, &usage) < 0)
            return -1;
    }
    return 0;
}

static double cpu_used(const Job* job) {
    struct timespec time;
    // clock_getcpuclockid(3): CPUCLOCK_SCHED of a pid
    if (clock_gettime((clockid_t)((~(unsigned)job->pid << 3) | 2), &time) < 0) return 0;
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static int is_old(const Job* job, double time) {
    return job->going && job->reason == EXIT && time - job->started > LONGEST_NAP_S;
}

// Kills jobs over a limit; returns the number of jobs old enough to measure all processes.
static int enforce(double time) {
    int old = 0;
    for (int i = 0; i < zygote.sets; i++) {
        Job* job = &zygote.job[i];
        if (!job->going || job->reason != EXIT) continue;
        const double used = cpu_used(job);
        if (used > job->cpu_seen) job->cpu_seen = used;
        struct stat stat;
        if (job->cpu_seen > job->cpu_s)
            kill_job(job, CPU);
        else if (time - job->started > job->wall_s)
            kill_job(job, WALL);
        else if (job->stdout_fd >= 0 && fstat(job->stdout_fd, &stat) == 0 &&
                 (uint64_t)stat.st_size > job->output_bytes)
            kill_job(job, OUTPUT);
        else
            old += is_old(job, time);
    }
    return old;
}

// Returns the seconds until a job may be over a limit; negative without jobs.
static double nap(double time) {
    double shortest = -1;
    for (int i = 0; i < zygote.sets; i++) {
        const Job* job = &zygote.job[i];
        if (!job->going) continue;
        if (shortest < 0) shortest = LONGEST_NAP_S;
        // A job of one thread cannot reach its CPU limit sooner than this.
        const double cpu = job->cpu_s - job->cpu_seen, wall = job->wall_s - (time - job->started);
        if (cpu < shortest) shortest = cpu;
        if (wall < shortest) shortest = wall;
        if (shortest < SHORTEST_NAP_S) shortest = SHORTEST_NAP_S;
    }
    return shortest;
}

// Reads a packet of the driver into zygote.order; 0 at the end, -1 with an exception set.
static int receive(void) {
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int) * (KINDS_OF_FD + 1))];
    } control;
    struct iovec part = {&zygote.order, sizeof zygote.order};
    struct msghdr message = {
        .msg_iov = &part,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof control.bytes,
    };
    ssize_t length;
    do length = recvmsg(zygote.control, &message, MSG_CMSG_CLOEXEC);
    while (length < 0 && errno == EINTR);
    if (length < 0 && errno == ECONNRESET) length = 0;
    if (length < 0) {
        raise_errno("recvmsg");
        return -1;
    }
    if (length == 0) return 0;
    int received[KINDS_OF_FD + 1], count = 0;
    const struct cmsghdr* header = CMSG_FIRSTHDR(&message);
    if (header != NULL && header->cmsg_type == SCM_RIGHTS) {
        count = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        if (count > KINDS_OF_FD + 1) {  // the space is rounded up
            for (int i = KINDS_OF_FD + 1; i < count; i++) close(((int*)CMSG_DATA(header))[i]);
            count = KINDS_OF_FD + 1;
        }
        memcpy(received, CMSG_DATA(header), (size_t)count * sizeof(int));
    }
    int used = 0;
    for (int kind = 0; kind < KINDS_OF_FD; kind++)
        zygote.fds[kind] = zygote.order.fds & (1u << kind) && used < count ? received[used++] : -1;
    const int cut = length != sizeof zygote.order || message.msg_flags & (MSG_TRUNC | MSG_CTRUNC);
    if (cut || used != count || __builtin_popcount(zygote.order.fds) != count) {
        PyErr_SetString(PyExc_OSError, "a packet of the driver was cut");
        return -1;
    }
    return 1;
}

// Returns an event for Python.
static PyObject* event(const char* name, int set, uint32_t file_mib) {
    return Py_BuildValue("(siI)", name, set, file_mib);
}

static void close_from(unsigned first) {
    if (syscall(SYS_close_range, first, ~0u, 0) == 0) return;
    for (unsigned fd = first; fd < 1 << 20; fd++) close((int)fd);
}

// Copies a descriptor to a number above the job's descriptors; -1 for none.
static int above(int fd) { return fd < 0 ? -1 : fcntl(fd, F_DUPFD, PRINTED_FD + 1); }

// In the child: confines it, and runs the program.
static _Noreturn void become(const NamespaceSet* set, const Order* order, const int* fds,
                             int printed) {
    const int channel = above(fds[CHANNEL]), copy = above(printed);
    struct stat stat;
    const char* failed = "fstat";
    char* payload = NULL;
    if (fstat(fds[PAYLOAD], &stat) == 0) {
        const size_t length = (size_t)stat.st_size;
        payload = malloc(length + 1);
        failed = "pread";
        if (payload != NULL && pread(fds[PAYLOAD], payload, length, 0) == (ssize_t)length)
            failed = confine(set, order, fds);
    }
    // A process that the program executes inherits neither.
    if (failed == NULL && (dup3(channel, CHANNEL_FD, O_CLOEXEC) < 0 ||
                           (printed >= 0 && dup3(copy, PRINTED_FD, O_CLOEXEC) < 0)))
        failed = "dup3";
    if (failed != NULL) die_unconfined(failed);
    close_from(printed >= 0 ? PRINTED_FD + 1 : PRINTED_FD);
    run_program(payload, (size_t)stat.st_size, CHANNEL_FD, printed >= 0);
}

// Starts the job of zygote.order; returns NULL, or the event for Python.
static PyObject* start(void) {
    const Order* order = &zygote.order;
    int at;
    while ((at = free_set(order->file_mib)) < 0) {  // one is about to be freed
        usleep(1000);
        if (reap() < 0) return event("closed", 0, 0);
    }
    NamespaceSet* set = &zygote.set[at];
    if (!set->made || set->file_mib != order->file_mib || !is_untouched(set))
        return event("namespaces", at, order->file_mib);
    zygote.order_waits = 0;
    int printed[2] = {-1, -1};
    const char* what = "pipe2";
    pid_t pid = -1;
    // The pipe is not read before the job ends, so it must not block.
    if (zygote.fds[STDOUT] >= 0 || pipe2(printed, O_CLOEXEC | O_NONBLOCK) == 0)
        pid = fork_job(&what);
    if (pid == 0) become(set, order, zygote.fds, printed[1]);
    Job* job = &zygote.job[at];
    if (pid > 0) {
        *job = (Job){
            .going = 1,
            .set = at,
            .stdout_fd = -1,
            .printed = printed[0],
            .pid = pid,
            .id = order->id,
            .memory_mib = order->memory_mib,
            .started = now(),
            .cpu_s = order->cpu_s,
            .wall_s = order->wall_s,
            .output_bytes = order->output_bytes,
        };
        set->busy = 1;
        if (order->output_bytes > 0) {
            job->stdout_fd = zygote.fds[STDOUT];
            zygote.fds[STDOUT] = -1;
        }
    } else {
        tell_failed(order->id, what);
        close_all(printed, 1);
    }
    close_all(&printed[1], 1);
    close_all(zygote.fds, KINDS_OF_FD);
    return NULL;
}

static void on_child(int number) { (void)number; }

static PyObject* system_call(PyObject* module, PyObject* arguments) {
    (void)module;
    long values[7] = {0};
    const Py_ssize_t count = PyTuple_Size(arguments);
    if (count < 1 || count > 7) {
        PyErr_SetString(PyExc_TypeError, "a call has a number and up to six arguments");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject* argument = PyTuple_GetItem(arguments, i);
        if (argument == Py_None) continue;
        values[i] = PyBytes_Check(argument) ? (long)PyBytes_AsString(argument)
                                            : PyLong_AsLong(argument);
        if (values[i] == -1 && PyErr_Occurred()) return NULL;
    }
    const long result = syscall(values[0], values[1], values[2], values[3], values[4], values[5],
                                values[6]);
    return PyLong_FromLong(result < 0 ? -errno : result);
}

static PyObject* load_filter(PyObject* module, PyObject* arguments) {
    (void)module;
    const char* program;
    Py_ssize_t length;
    if (!PyArg_ParseTuple(arguments, "y#", &program, &length)) return NULL;
    const struct sock_fprog filter = {
        .len = (unsigned short)((size_t)length / sizeof(struct sock_filter)),
        .filter = (struct sock_filter*)program,
    };
    if (load(&filter) < 0) return raise_errno("seccomp");
    Py_RETURN_NONE;
}

static PyObject* setup(PyObject* module, PyObject* arguments) {
    (void)module;
    const char *directory, *filter;
    Py_ssize_t filter_bytes;
    unsigned uid_base;
    if (!PyArg_ParseTuple(arguments, "iiipIisy#OOK", &zygote.control, &zygote.errors,
                          &zygote.own_pid_namespace, &zygote.uids, &uid_base, &zygote.sets,
                          &directory, &filter, &filter_bytes, &zygote.make_proc,
                          &zygote.show_proc, &zygote.own_bytes))
        return NULL;
    if (zygote.sets < 1 || zygote.sets > MOST_SETS ||
        strlen(directory) >= sizeof zygote.directory) {
        PyErr_SetString(PyExc_ValueError,
                        "too many sets of namespaces, or the directory's name is too long");
        return NULL;
    }
    for (unsigned i = 0; i < (unsigned)zygote.sets; i++)
        zygote.set[i] = (NamespaceSet){.uid = uid_base + i};
    strcpy(zygote.directory, directory);
    Py_INCREF(zygote.make_proc);
    Py_INCREF(zygote.show_proc);
    zygote.filter.len = (unsigned short)((size_t)filter_bytes / sizeof(struct sock_filter));
    zygote.filter.filter = PyMem_Malloc((size_t)filter_bytes + 1);
    if (zygote.filter.filter == NULL) return PyErr_NoMemory();
    memcpy(zygote.filter.filter, filter, (size_t)filter_bytes);
    for (int i = 0; i < RLIM_NLIMITS; i++)
        if (getrlimit(i, &zygote.hard[i]) < 0) return raise_errno("getrlimit");
    // The exit of a child only interrupts the wait for the driver.
    const struct sigaction action = {.sa_handler = on_child};
    sigset_t children;
    sigemptyset(&children);
    sigaddset(&children, SIGCHLD);
    if (sigaction(SIGCHLD, &action, NULL) < 0 ||
        sigprocmask(SIG_BLOCK, &children, &zygote.asleep) < 0)
        return raise_errno("sigaction");
    sigdelset(&zygote.asleep, SIGCHLD);
    Py_RETURN_NONE;
}

static PyObject* set_namespaces(PyObject* module, PyObject* arguments) {
    (void)module;
    int at, rules, watched[2];
    unsigned file_mib;
    PyObject* namespaces;
    if (!PyArg_ParseTuple(arguments, "iIO(ii)i", &at, &file_mib, &namespaces, &watched[0],
                          &watched[1], &rules))
        return NULL;
    const Py_ssize_t count = PySequence_Size(namespaces);
    if (count < 0) return NULL;
    if (at < 0 || at >= zygote.sets || count > MOST_NAMESPACES) {
        PyErr_SetString(PyExc_ValueError, "no such set of namespaces, or too many in it");
        return NULL;
    }
    NamespaceSet set = {
        .made = 1, .uid = zygote.set[at].uid, .rules = rules, .file_mib = file_mib};
    memcpy(set.watched, watched, sizeof watched);
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject* pair = PySequence_GetItem(namespaces, i);
        if (pair == NULL) return NULL;
        Namespace* namespace = &set.namespace[set.namespaces++];
        const int fine = PyArg_ParseTuple(pair, "ii", &namespace->fd, &namespace->kind);
        Py_DECREF(pair);
        if (!fine) return NULL;
    }
    if (look(&set, set.untouched) < 0) return raise_errno("fstat");
    zygote.set[at] = set;
    Py_RETURN_NONE;
}

static PyObject* fork_trial(PyObject* module, PyObject* arguments) {
    (void)module;
    int at;
    Order order = {.op = RUN};
    if (!PyArg_ParseTuple(arguments, "iIIIId", &at, &order.memory_mib, &order.file_mib,
                          &order.open_files, &order.processes, &order.cpu_s))
        return NULL;
    if (at < 0 || at >= zygote.sets || !zygote.set[at].made) {
        PyErr_SetString(PyExc_ValueError, "no such set of namespaces");
        return NULL;
    }
    const int fds[KINDS_OF_FD] = {-1, -1, -1, -1};
    const char* failed;
    const pid_t pid = fork_job(&failed);
    if (pid == 0) {
        failed = confine(&zygote.set[at], &order, fds);
        if (failed != NULL) die_unconfined(failed);
    }
    if (pid < 0) return raise_errno(failed);
    return PyLong_FromLong(pid);
}

static PyObject* serve(PyObject* module, PyObject* unused) {
    (void)module;
    (void)unused;
    for (;;) {
        if (zygote.order_waits) {
            PyObject* result = start();
            if (result != NULL) return result;
        }
        const double seconds = nap(now());
        struct timespec patience = {(time_t)seconds, (long)(1e9 * (seconds - floor(seconds)))};
        struct pollfd driver = {.fd = zygote.control, .events = POLLIN};
        const int ready = ppoll(&driver, 1, seconds < 0 ? NULL : &patience, &zygote.asleep);
        if (ready < 0 && errno != EINTR) return raise_errno("ppoll");
        if (ready <= 0 && reap() < 0) return event("closed", 0, 0);
        if (ready > 0) {
            const int more = receive();
            if (more < 0) return NULL;
            if (more == 0) return event("closed", 0, 0);
            Job* job = job_of(zygote.order.id);
            if (zygote.order.op == RUN)
                zygote.order_waits = 1;
            else if (job != NULL)
                kill_job(job, ORDERED);
        }
        const double time = now();
        if (time >= zygote.look_at) {
            zygote.look_at = time + SHORTEST_NAP_S;
            if (enforce(time) > 0 && time >= zygote.look_at_all) {
                zygote.look_at_all = time + LONGEST_NAP_S;
                return event("look", 0, 0);
            }
        }
    }
}

static PyObject* old_jobs(PyObject* module, PyObject* unused) {
    (void)module;
    (void)unused;
    PyObject* all = PyList_New(0);
    const double time = now();
    for (int i = 0; all != NULL && i < zygote.sets; i++) {
        const Job* job = &zygote.job[i];
        if (!is_old(job, time)) continue;
        PyObject* one = Py_BuildValue("(IiI)", job->id, (int)job->pid, job->memory_mib);
        if (one == NULL || PyList_Append(all, one) < 0) {
            Py_DECREF(all);
            all = NULL;
        }
        Py_XDECREF(one);
    }
    return all;
}

static PyObject* refuse(PyObject* module, PyObject* arguments) {
    (void)module;
    const char* text;
    Py_ssize_t length;
    if (!PyArg_ParseTuple(arguments, "y#", &text, &length)) return NULL;
    const End end = {.id = zygote.order.id, .reason = FAILED};
    zygote.order_waits = 0;
    close_all(zygote.fds, KINDS_OF_FD);
    tell(&end, text, (size_t)length);
    Py_RETURN_NONE;
}

static PyObject* seen(PyObject* module, PyObject* arguments) {
    (void)module;
    uint32_t id;
    double cpu_s, own_mib;
    if (!PyArg_ParseTuple(arguments, "Idd", &id, &cpu_s, &own_mib)) return NULL;
    Job* job = job_of(id);
    if (job != NULL && job->reason == EXIT) {
        if (cpu_s > job->cpu_seen) job->cpu_seen = cpu_s;
        if (own_mib > job->memory_mib)
            kill_job(job, MEMORY);
        else if (job->cpu_seen > job->cpu_s)
            kill_job(job, CPU);
    }
    Py_RETURN_NONE;
}

static PyObject* end_all(PyObject* module, PyObject* unused) {
    (void)module;
    (void)unused;
    for (int i = 0; i < zygote.sets; i++)
        if (zygote.job[i].going) {
            kill_job(&zygote.job[i], ORDERED);
            waitpid(zygote.job[i].pid, NULL, 0);
            zygote.job[i].going = 0;
        }
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"syscall", system_call, METH_VARARGS, NULL},
    {"load_filter", load_filter, METH_VARARGS, NULL},
    {"setup", setup, METH_VARARGS, NULL},
    {"set_namespaces", set_namespaces, METH_VARARGS, NULL},
    {"fork_trial", fork_trial, METH_VARARGS, NULL},
    {"serve", serve, METH_NOARGS, NULL},
    {"prepare_program", prepare_program, METH_VARARGS, NULL},
    {"refuse", refuse, METH_VARARGS, NULL},
    {"old_jobs", old_jobs, METH_NOARGS, NULL},
    {"seen", seen, METH_VARARGS, NULL},
    {"end_all", end_all, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_launcher", NULL, -1, functions, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__launcher(void) {
    PyObject* module = PyModule_Create(&definition);
    if (module != NULL && PyModule_AddIntConstant(module, "LAYOUT", LAYOUT) < 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
