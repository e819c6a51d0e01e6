# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_stockade_global_optspecs
    string join \n root= log= log-format= debug log-level= policy= systemd-cgroup cgroup-manager= criu= rootless= v/version h/help
end

function __fish_stockade_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_stockade_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_stockade_using_subcommand
    set -l cmd (__fish_stockade_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c stockade -n "__fish_stockade_needs_command" -l root -d 'Where states of containers are kept [default: /run/stockade, or $XDG_RUNTIME_DIR/stockade]' -r -F
complete -c stockade -n "__fish_stockade_needs_command" -l log -d 'Write errors (and debug lines) to this file, too' -r
complete -c stockade -n "__fish_stockade_needs_command" -l log-format -d 'The form of lines in the log file' -r -f -a "text\t'logfmt: time= level= msg='
json\t'One JSON object a line'"
complete -c stockade -n "__fish_stockade_needs_command" -l log-level -d 'crun\'s form of --debug: error, warning or debug' -r -f -a "error\t'Failures'
warning\t'The same: findings are no log lines'
debug\t'Each step, too'"
complete -c stockade -n "__fish_stockade_needs_command" -l policy -d 'A shipped policy (strict, engine, engine-build, oci) or a file of your own [default: STOCKADE_POLICY, the configuration file, strict]' -r
complete -c stockade -n "__fish_stockade_needs_command" -l cgroup-manager -d 'crun\'s form of --systemd-cgroup; disabled: the container stays in the caller\'s cgroup' -r -f -a "cgroupfs\t'We do'
systemd\t'systemd does'
disabled\t'Nobody'"
complete -c stockade -n "__fish_stockade_needs_command" -l criu -d 'The criu that checkpoint and restore use' -r -F
complete -c stockade -n "__fish_stockade_needs_command" -l rootless -d 'Accepted for runc\'s callers: stockade sees by itself who it is' -r -f -a "true\t''
false\t''
auto\t''
1\t''
0\t''
t\t''
f\t''
T\t''
F\t''
TRUE\t''
FALSE\t''
True\t''
False\t''"
complete -c stockade -n "__fish_stockade_needs_command" -l debug -d 'Say more: each step as it is done'
complete -c stockade -n "__fish_stockade_needs_command" -l systemd-cgroup -d 'Let systemd make the cgroup, as a scope; linux.cgroupsPath is then slice:prefix:name'
complete -c stockade -n "__fish_stockade_needs_command" -s v -l version -d 'Print the version'
complete -c stockade -n "__fish_stockade_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "run" -d 'Create a container and start it; in the foreground, wait for it and return its status'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "create" -d 'Create a container; its process waits for `start`'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "start" -d 'Start a created container'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "exec" -d 'Run one more command in a container, confined as its process is'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "state" -d 'Print the state of a container as JSON'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "kill" -d 'Send a signal to a container\'s process'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "delete" -d 'Delete a stopped container and all that belongs to it'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "list" -d 'List containers'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "update" -d 'Change the limits of a container while it runs'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "pause" -d 'Stop all processes of a container where they are'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "resume" -d 'Let the processes of a paused container go on'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "ps" -d 'Show the processes of a container, by the host\'s pids'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "pids" -d 'Show the processes of a container, by their numbers on the host and inside'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "events" -d 'Show what a container uses and when the OOM killer strikes, or what happens to all containers'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "inspect" -d 'Show what a container is: namespaces, ids, capabilities, filters, mounts, limits'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "diff" -d 'Show what differs between two containers, or a container and the host'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "checkpoint" -d 'Write images of a running container, to be restored later, with criu'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "restore" -d 'Make a container again from the images of a checkpoint, with criu'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "spec" -d 'Write a config.json to start from'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "features" -d 'Show what this runtime implements, as JSON (features.md of the specification)'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "explain" -d 'Show what a launch would do: the facts, the findings and the plan, step by step'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "audit" -d 'Check a bundle or a running container against the rules of a policy and the CIS benchmark'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "doctor" -d 'Show what this host can enforce, what strict has to do without, and the remedies'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "seccomp" -d 'Make, try and explain seccomp profiles'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "sandbox" -d 'Run a command of this host in a throwaway hardened container, without an image'
complete -c stockade -n "__fish_stockade_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c stockade -n "__fish_stockade_using_subcommand run" -s b -l bundle -d 'The bundle: a directory with a config.json' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand run" -s f -l config -d 'The name of its configuration, relative to the bundle' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand run" -l pid-file -d 'Write the pid of the container\'s process to this file' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand run" -l console-socket -d 'Send the master of the container\'s terminal to this socket' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand run" -l pidfd-socket -d 'Send a pidfd of the container\'s process to this socket' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand run" -l secret -d 'Give it a secret: what FILE (or stdin, as -) has, at /run/secrets/NAME for the workload\'s user alone, in memory that is never swapped; may be given more than once' -r
complete -c stockade -n "__fish_stockade_using_subcommand run" -l preserve-fds -d 'Hand so many descriptors above 2 to the container' -r
complete -c stockade -n "__fish_stockade_using_subcommand run" -l timing -d 'Say on stderr how long each step took, of the parent and of the child: as a table, or as json' -r -f -a "table\t'A table'
json\t'One JSON object'"
complete -c stockade -n "__fish_stockade_using_subcommand run" -l denials -d 'Tell on stderr each system call that seccomp denies, once a kind, and at the end how many: who made it, which rule denied it, and the least change that would allow it' -r -f -a "text\t'For people'
json\t'A JSON object a line, as `events` writes them'"
complete -c stockade -n "__fish_stockade_using_subcommand run" -l denials-to -d 'Tell it to this file instead' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand run" -l no-new-keyring -d 'Keep the caller\'s session keyring'
complete -c stockade -n "__fish_stockade_using_subcommand run" -l no-pivot -d 'chroot instead of pivot_root, where the policy allows a root that can be left'
complete -c stockade -n "__fish_stockade_using_subcommand run" -s d -l detach -d 'Return when the container runs'
complete -c stockade -n "__fish_stockade_using_subcommand run" -l keep -d 'Keep the stopped container until it is deleted'
complete -c stockade -n "__fish_stockade_using_subcommand run" -l narrate -d 'Tell on stderr each step as it happens: why, how long it took, and what changed in /proc'
complete -c stockade -n "__fish_stockade_using_subcommand run" -l json -d 'With --narrate: a JSON object a step'
complete -c stockade -n "__fish_stockade_using_subcommand run" -l no-subreaper -d 'Accepted for runc\'s callers: stockade never becomes a subreaper'
complete -c stockade -n "__fish_stockade_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stockade -n "__fish_stockade_using_subcommand create" -s b -l bundle -d 'The bundle: a directory with a config.json' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand create" -s f -l config -d 'The name of its configuration, relative to the bundle' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand create" -l pid-file -d 'Write the pid of the container\'s process to this file' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand create" -l console-socket -d 'Send the master of the container\'s terminal to this socket' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand create" -l pidfd-socket -d 'Send a pidfd of the container\'s process to this socket' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand create" -l secret -d 'Give it a secret: what FILE (or stdin, as -) has, at /run/secrets/NAME for the workload\'s user alone, in memory that is never swapped; may be given more than once' -r
complete -c stockade -n "__fish_stockade_using_subcommand create" -l preserve-fds -d 'Hand so many descriptors above 2 to the container' -r
complete -c stockade -n "__fish_stockade_using_subcommand create" -l timing -d 'Say on stderr how long each step took, of the parent and of the child: as a table, or as json' -r -f -a "table\t'A table'
json\t'One JSON object'"
complete -c stockade -n "__fish_stockade_using_subcommand create" -l no-new-keyring -d 'Keep the caller\'s session keyring'
complete -c stockade -n "__fish_stockade_using_subcommand create" -l no-pivot -d 'chroot instead of pivot_root, where the policy allows a root that can be left'
complete -c stockade -n "__fish_stockade_using_subcommand create" -l narrate -d 'Tell on stderr each step as it happens: why, how long it took, and what changed in /proc'
complete -c stockade -n "__fish_stockade_using_subcommand create" -l json -d 'With --narrate: a JSON object a step'
complete -c stockade -n "__fish_stockade_using_subcommand create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stockade -n "__fish_stockade_using_subcommand start" -s h -l help -d 'Print help'
complete -c stockade -n "__fish_stockade_using_subcommand exec" -s p -l process -d 'Read the specification\'s process as JSON from this file; other flags about the process are not used then' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand exec" -s u -l user -d 'A user of the container, by numbers or by names; a name brings its groups along' -r
complete -c stockade -n "__fish_stockade_using_subcommand exec" -s g -l additional-gids -d 'One more group' -r
complete -c stockade -n "__fish_stockade_using_subcommand exec" -l cwd -d 'The directory to start in' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand exec" -s e -l env -d 'Set an environment variable' -r
complete -c stockade -n "__fish_stockade_using_subcommand exec" -s c -l cap -d 'One more capability: up to the container\'s bounding set, beyond it as the container\'s policy says' -r
complete -c stockade -n "__fish_stockade_using_subcommand exec" -l apparmor -d 'An AppArmor profile for it' -r
complete -c stockade -n "__fish_stockade_using_subcommand exec" -l process-label -d 'An SELinux label for it' -r
complete -c stockade -n "__fish_stockade_using_subcommand exec" -l pid-file -d 'Write its pid to this file' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand exec" -l console-socket -d 'Send the master of its terminal to this socket' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand exec" -l pidfd-socket -d 'Send a pidfd of the process to this socket' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand exec" -l preserve-fds -d 'Hand so many descriptors above 2 to it' -r
complete -c stockade -n "__fish_stockade_using_subcommand exec" -l cgroup -d 'A cgroup below the container\'s own' -r
complete -c stockade -n "__fish_stockade_using_subcommand exec" -s t -l tty -d 'Give it a terminal'
complete -c stockade -n "__fish_stockade_using_subcommand exec" -s d -l detach -d 'Return when it runs'
complete -c stockade -n "__fish_stockade_using_subcommand exec" -l no-new-privs -d 'Set no_new_privs, where the container does not have it already'
complete -c stockade -n "__fish_stockade_using_subcommand exec" -l ignore-paused -d 'Go into a paused container, too: the process waits until it is resumed'
complete -c stockade -n "__fish_stockade_using_subcommand exec" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stockade -n "__fish_stockade_using_subcommand state" -s h -l help -d 'Print help'
complete -c stockade -n "__fish_stockade_using_subcommand kill" -s a -l all -d 'To every process of the container'
complete -c stockade -n "__fish_stockade_using_subcommand kill" -s h -l help -d 'Print help'
complete -c stockade -n "__fish_stockade_using_subcommand delete" -s f -l force -d 'Kill it first if it runs; succeed if it does not exist; clear what a killed runtime left'
complete -c stockade -n "__fish_stockade_using_subcommand delete" -l regex -d 'ID is a regular expression: delete all containers whose id has a part that matches'
complete -c stockade -n "__fish_stockade_using_subcommand delete" -s h -l help -d 'Print help'
complete -c stockade -n "__fish_stockade_using_subcommand list" -s f -l format -d 'table or json' -r -f -a "table\t''
json\t''"
complete -c stockade -n "__fish_stockade_using_subcommand list" -s q -l quiet -d 'Only ids'
complete -c stockade -n "__fish_stockade_using_subcommand list" -s h -l help -d 'Print help'
complete -c stockade -n "__fish_stockade_using_subcommand update" -s r -l resources -d 'Read the specification\'s LinuxResources as JSON from a file, or - for stdin; other flags are ignored' -r
complete -c stockade -n "__fish_stockade_using_subcommand update" -l memory -d 'memory.max' -r
complete -c stockade -n "__fish_stockade_using_subcommand update" -l memory-reservation -d 'memory.low' -r
complete -c stockade -n "__fish_stockade_using_subcommand update" -l memory-swap -d 'Memory and swap together' -r
complete -c stockade -n "__fish_stockade_using_subcommand update" -l kernel-memory -d 'Not in cgroup v2' -r
complete -c stockade -n "__fish_stockade_using_subcommand update" -l kernel-memory-tcp -d 'Not in cgroup v2' -r
complete -c stockade -n "__fish_stockade_using_subcommand update" -l cpus -d 'CPU time in CPUs, such as 1.5' -r
complete -c stockade -n "__fish_stockade_using_subcommand update" -l cpu-quota -d 'Microseconds of CPU time in each period' -r
complete -c stockade -n "__fish_stockade_using_subcommand update" -l cpu-period -d 'Microseconds of a period' -r
complete -c stockade -n "__fish_stockade_using_subcommand update" -l cpu-burst -d 'Microseconds of CPU time that may be saved up' -r
complete -c stockade -n "__fish_stockade_using_subcommand update" -l cpu-share -d 'The weight against others, on cgroup v1\'s scale (1024 is usual)' -r
complete -c stockade -n "__fish_stockade_using_subcommand update" -l cpu-idle -d '1: runs only when nobody else wants to' -r
complete -c stockade -n "__fish_stockade_using_subcommand update" -l cpu-rt-period -d 'Not in cgroup v2' -r
complete -c stockade -n "__fish_stockade_using_subcommand update" -l cpu-rt-runtime -d 'Not in cgroup v2' -r
complete -c stockade -n "__fish_stockade_using_subcommand update" -l cpuset-cpus -d 'CPUs that may be used, such as 0-3,7' -r
complete -c stockade -n "__fish_stockade_using_subcommand update" -l cpuset-mems -d 'Memory nodes that may be used' -r
complete -c stockade -n "__fish_stockade_using_subcommand update" -l pids-limit -d 'pids.max' -r
complete -c stockade -n "__fish_stockade_using_subcommand update" -l blkio-weight -d 'The weight of block I/O, 10 to 1000' -r
complete -c stockade -n "__fish_stockade_using_subcommand update" -l l3-cache-schema -d 'Intel RDT' -r
complete -c stockade -n "__fish_stockade_using_subcommand update" -l mem-bw-schema -d 'Intel RDT' -r
complete -c stockade -n "__fish_stockade_using_subcommand update" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stockade -n "__fish_stockade_using_subcommand pause" -s h -l help -d 'Print help'
complete -c stockade -n "__fish_stockade_using_subcommand resume" -s h -l help -d 'Print help'
complete -c stockade -n "__fish_stockade_using_subcommand ps" -s f -l format -d 'table or json' -r -f -a "table\t''
json\t''"
complete -c stockade -n "__fish_stockade_using_subcommand ps" -s h -l help -d 'Print help'
complete -c stockade -n "__fish_stockade_using_subcommand pids" -l interval -d 'With --watch: how often to look' -r
complete -c stockade -n "__fish_stockade_using_subcommand pids" -s w -l watch -d 'Again whenever something changed, until the container ends; with --json a line each time'
complete -c stockade -n "__fish_stockade_using_subcommand pids" -l json -d 'As JSON'
complete -c stockade -n "__fish_stockade_using_subcommand pids" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stockade -n "__fish_stockade_using_subcommand events" -l interval -d 'How often statistics are printed, and throttling is looked for, which the kernel does not announce' -r
complete -c stockade -n "__fish_stockade_using_subcommand events" -l all -d 'All containers, as without an ID'
complete -c stockade -n "__fish_stockade_using_subcommand events" -l stats -d 'Statistics once, and end'
complete -c stockade -n "__fish_stockade_using_subcommand events" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stockade -n "__fish_stockade_using_subcommand inspect" -l against -d 'Show only what differs from another container, or from `host`' -r
complete -c stockade -n "__fish_stockade_using_subcommand inspect" -l json -d 'As JSON'
complete -c stockade -n "__fish_stockade_using_subcommand inspect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stockade -n "__fish_stockade_using_subcommand diff" -l json -d 'As JSON'
complete -c stockade -n "__fish_stockade_using_subcommand diff" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stockade -n "__fish_stockade_using_subcommand checkpoint" -l image-path -d 'Where the images are' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand checkpoint" -l work-path -d 'Where criu writes its log [default: the images\' directory]' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand checkpoint" -l manage-cgroups-mode -d 'soft or ignore: the cgroup and its limits come from config.json, never from images' -r -f -a "soft\t''
ignore\t''
full\t''
strict\t''"
complete -c stockade -n "__fish_stockade_using_subcommand checkpoint" -l empty-ns -d 'A namespace whose properties are left out: network' -r -f -a "network\t''"
complete -c stockade -n "__fish_stockade_using_subcommand checkpoint" -l parent-path -d 'Images of an earlier --pre-dump, relative to --image-path: only what changed since is written' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand checkpoint" -l page-server -d 'Send the memory to a `criu page-server`' -r
complete -c stockade -n "__fish_stockade_using_subcommand checkpoint" -l status-fd -d 'Goes with --lazy-pages' -r
complete -c stockade -n "__fish_stockade_using_subcommand checkpoint" -l tcp-established -d 'Allow open TCP connections'
complete -c stockade -n "__fish_stockade_using_subcommand checkpoint" -l ext-unix-sk -d 'Allow unix sockets whose other end is outside'
complete -c stockade -n "__fish_stockade_using_subcommand checkpoint" -l shell-job -d 'Allow a terminal that is not the container\'s own'
complete -c stockade -n "__fish_stockade_using_subcommand checkpoint" -l file-locks -d 'Allow file locks'
complete -c stockade -n "__fish_stockade_using_subcommand checkpoint" -l auto-dedup -d 'Free the memory of older images that newer ones replace'
complete -c stockade -n "__fish_stockade_using_subcommand checkpoint" -l lazy-pages -d 'Refused: memory would come over the network while the workload runs already'
complete -c stockade -n "__fish_stockade_using_subcommand checkpoint" -l pre-dump -d 'Only the memory, while the container runs on'
complete -c stockade -n "__fish_stockade_using_subcommand checkpoint" -l leave-running -d 'Let the container run on'
complete -c stockade -n "__fish_stockade_using_subcommand checkpoint" -l tcp-skip-in-flight -d 'Leave connections out that are not established yet'
complete -c stockade -n "__fish_stockade_using_subcommand checkpoint" -l link-remap -d 'Write files that were removed while they are open beside where they were'
complete -c stockade -n "__fish_stockade_using_subcommand checkpoint" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stockade -n "__fish_stockade_using_subcommand restore" -l image-path -d 'Where the images are' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand restore" -l work-path -d 'Where criu writes its log [default: the images\' directory]' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand restore" -l manage-cgroups-mode -d 'soft or ignore: the cgroup and its limits come from config.json, never from images' -r -f -a "soft\t''
ignore\t''
full\t''
strict\t''"
complete -c stockade -n "__fish_stockade_using_subcommand restore" -l empty-ns -d 'A namespace whose properties are left out: network' -r -f -a "network\t''"
complete -c stockade -n "__fish_stockade_using_subcommand restore" -s b -l bundle -d 'The bundle' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand restore" -l pid-file -d 'Write the pid of the container\'s process to this file' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand restore" -l console-socket -d 'Send the master of the container\'s terminal to this socket' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand restore" -l lsm-profile -d 'The LSM\'s profile in place of the checkpoint\'s' -r
complete -c stockade -n "__fish_stockade_using_subcommand restore" -l lsm-mount-context -d 'The SELinux context of mounts in place of the checkpoint\'s' -r
complete -c stockade -n "__fish_stockade_using_subcommand restore" -l tcp-established -d 'Allow open TCP connections'
complete -c stockade -n "__fish_stockade_using_subcommand restore" -l ext-unix-sk -d 'Allow unix sockets whose other end is outside'
complete -c stockade -n "__fish_stockade_using_subcommand restore" -l shell-job -d 'Allow a terminal that is not the container\'s own'
complete -c stockade -n "__fish_stockade_using_subcommand restore" -l file-locks -d 'Allow file locks'
complete -c stockade -n "__fish_stockade_using_subcommand restore" -l auto-dedup -d 'Free the memory of older images that newer ones replace'
complete -c stockade -n "__fish_stockade_using_subcommand restore" -l lazy-pages -d 'Refused: memory would come over the network while the workload runs already'
complete -c stockade -n "__fish_stockade_using_subcommand restore" -s d -l detach -d 'Return when the container runs'
complete -c stockade -n "__fish_stockade_using_subcommand restore" -l no-pivot -d 'chroot instead of pivot_root: refused, a root that can be left is none'
complete -c stockade -n "__fish_stockade_using_subcommand restore" -l no-subreaper -d 'Accepted for runc\'s callers: stockade never becomes a subreaper'
complete -c stockade -n "__fish_stockade_using_subcommand restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stockade -n "__fish_stockade_using_subcommand spec" -s b -l bundle -d 'Where to write it' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand spec" -l rootless -d 'For an ordinary user: a user namespace, and no limits that need delegation'
complete -c stockade -n "__fish_stockade_using_subcommand spec" -s h -l help -d 'Print help'
complete -c stockade -n "__fish_stockade_using_subcommand features" -s h -l help -d 'Print help'
complete -c stockade -n "__fish_stockade_using_subcommand explain" -s f -l config -d 'The name of its configuration, relative to the bundle' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand explain" -l id -d 'The id to plan with' -r
complete -c stockade -n "__fish_stockade_using_subcommand explain" -l json -d 'As JSON'
complete -c stockade -n "__fish_stockade_using_subcommand explain" -s h -l help -d 'Print help'
complete -c stockade -n "__fish_stockade_using_subcommand audit" -s f -l format -d 'How it is written' -r -f -a "table\t'For people'
json\t'For programs'
sarif\t'SARIF 2.1.0, for code scanning'"
complete -c stockade -n "__fish_stockade_using_subcommand audit" -l threshold -d 'The least severity whose failure is the status 2' -r -f -a "info\t'Good to know'
low\t'A little more than needed'
medium\t'A layer is missing'
high\t'One bug away from the host'
critical\t'The host is open'"
complete -c stockade -n "__fish_stockade_using_subcommand audit" -l policy -d 'The measure, as before the verb' -r
complete -c stockade -n "__fish_stockade_using_subcommand audit" -l fix -d 'Print the config.json with everything mended that config.json can mend, and say on stderr what that was'
complete -c stockade -n "__fish_stockade_using_subcommand audit" -l deep -d 'Also look for shells and compilers in the root file system'
complete -c stockade -n "__fish_stockade_using_subcommand audit" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stockade -n "__fish_stockade_using_subcommand doctor" -l json -d 'As JSON'
complete -c stockade -n "__fish_stockade_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and not __fish_seen_subcommand_from record check show diff test help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and not __fish_seen_subcommand_from record check show diff test help" -f -a "record" -d 'Run a trusted workload and write the profile that allows what it called, and nothing else'
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and not __fish_seen_subcommand_from record check show diff test help" -f -a "check" -d 'Run a workload under a profile and report what it breaks; status 2 if anything'
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and not __fish_seen_subcommand_from record check show diff test help" -f -a "show" -d 'Explain a profile'
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and not __fish_seen_subcommand_from record check show diff test help" -f -a "diff" -d 'Compare what two profiles mean; status 2 if they differ'
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and not __fish_seen_subcommand_from record check show diff test help" -f -a "test" -d 'Say what a profile does with one system call; status 2 if it is not let through'
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and not __fish_seen_subcommand_from record check show diff test help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from record" -s b -l bundle -d 'Run this bundle' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from record" -l ro -d 'Show a file or directory of the host to the command, read-only' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from record" -l rw -d 'Show a file or directory of the host to the command, writable' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from record" -s e -l env -d 'Set an environment variable' -r
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from record" -l workdir -d 'The directory to start in' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from record" -l merge -d 'Allow what this earlier profile allows, too; may be given more than once' -r
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from record" -s o -l output -d 'Where the profile is written' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from record" -s h -l help -d 'Print help'
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from check" -s b -l bundle -d 'Run this bundle' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from check" -l ro -d 'Show a file or directory of the host to the command, read-only' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from check" -l rw -d 'Show a file or directory of the host to the command, writable' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from check" -s e -l env -d 'Set an environment variable' -r
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from check" -l workdir -d 'The directory to start in' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help'
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from show" -l json -d 'As it is written in linux.seccomp'
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from show" -s h -l help -d 'Print help'
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from diff" -s h -l help -d 'Print help'
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from test" -s h -l help -d 'Print help'
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from help" -f -a "record" -d 'Run a trusted workload and write the profile that allows what it called, and nothing else'
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from help" -f -a "check" -d 'Run a workload under a profile and report what it breaks; status 2 if anything'
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from help" -f -a "show" -d 'Explain a profile'
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from help" -f -a "diff" -d 'Compare what two profiles mean; status 2 if they differ'
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from help" -f -a "test" -d 'Say what a profile does with one system call; status 2 if it is not let through'
complete -c stockade -n "__fish_stockade_using_subcommand seccomp; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c stockade -n "__fish_stockade_using_subcommand sandbox" -l timing -d 'Say on stderr how long each step took, of the parent and of the child: as a table, or as json' -r -f -a "table\t'A table'
json\t'One JSON object'"
complete -c stockade -n "__fish_stockade_using_subcommand sandbox" -l memory -d 'The most memory it may use, such as 128m' -r
complete -c stockade -n "__fish_stockade_using_subcommand sandbox" -l cpus -d 'The most CPU time it may use, in CPUs, such as .5' -r
complete -c stockade -n "__fish_stockade_using_subcommand sandbox" -l pids -d 'The most processes and threads it may have' -r
complete -c stockade -n "__fish_stockade_using_subcommand sandbox" -l ro -d 'Show a file or directory of the host, read-only, at the same path' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand sandbox" -l rw -d 'Show a file or directory of the host, writable, at the same path; its files keep the caller\'s owner' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand sandbox" -s e -l env -d 'Set an environment variable' -r
complete -c stockade -n "__fish_stockade_using_subcommand sandbox" -l secret -d 'Give it a secret: what FILE (or stdin, as -) has, at /run/secrets/NAME, in memory that is never swapped; may be given more than once' -r
complete -c stockade -n "__fish_stockade_using_subcommand sandbox" -l workdir -d 'The directory to start in [default: the empty home]' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand sandbox" -l denials -d 'Tell on stderr each system call that seccomp denies, once a kind, and at the end how many: who made it, which rule denied it, and the least change that would allow it' -r -f -a "text\t'For people'
json\t'A JSON object a line, as `events` writes them'"
complete -c stockade -n "__fish_stockade_using_subcommand sandbox" -l denials-to -d 'Tell it to this file instead' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand sandbox" -l net -d 'The network: none, or out through pasta(1) of the package passt, with names looked up by the host\'s resolver, and nothing of the host\'s loopback within reach' -r -f -a "none\t'lo'
pasta\t'Outbound, in user space'"
complete -c stockade -n "__fish_stockade_using_subcommand sandbox" -l publish -d 'With --net pasta: let a port of the host\'s loopback lead to a port of the sandbox, where the server must listen on 0.0.0.0, and of udp on the same number; may be given more than once' -r
complete -c stockade -n "__fish_stockade_using_subcommand sandbox" -l hostname -d 'The host name inside' -r
complete -c stockade -n "__fish_stockade_using_subcommand sandbox" -l emit-bundle -d 'Write the bundle to this directory, with the policy that lets it name the host\'s paths, and run nothing' -r -F
complete -c stockade -n "__fish_stockade_using_subcommand sandbox" -l no-jit -d 'No memory both written and executed: whatever compiles while it runs (node, java) fails then; needs Linux 6.3'
complete -c stockade -n "__fish_stockade_using_subcommand sandbox" -l explain -d 'Show the plan and run nothing'
complete -c stockade -n "__fish_stockade_using_subcommand sandbox" -l narrate -d 'Tell on stderr each step as it happens: why, how long it took, and what changed in /proc'
complete -c stockade -n "__fish_stockade_using_subcommand sandbox" -l json -d 'With --explain or --narrate: as JSON'
complete -c stockade -n "__fish_stockade_using_subcommand sandbox" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "run" -d 'Create a container and start it; in the foreground, wait for it and return its status'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "create" -d 'Create a container; its process waits for `start`'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "start" -d 'Start a created container'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "exec" -d 'Run one more command in a container, confined as its process is'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "state" -d 'Print the state of a container as JSON'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "kill" -d 'Send a signal to a container\'s process'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "delete" -d 'Delete a stopped container and all that belongs to it'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "list" -d 'List containers'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "update" -d 'Change the limits of a container while it runs'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "pause" -d 'Stop all processes of a container where they are'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "resume" -d 'Let the processes of a paused container go on'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "ps" -d 'Show the processes of a container, by the host\'s pids'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "pids" -d 'Show the processes of a container, by their numbers on the host and inside'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "events" -d 'Show what a container uses and when the OOM killer strikes, or what happens to all containers'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "inspect" -d 'Show what a container is: namespaces, ids, capabilities, filters, mounts, limits'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "diff" -d 'Show what differs between two containers, or a container and the host'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "checkpoint" -d 'Write images of a running container, to be restored later, with criu'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "restore" -d 'Make a container again from the images of a checkpoint, with criu'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "spec" -d 'Write a config.json to start from'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "features" -d 'Show what this runtime implements, as JSON (features.md of the specification)'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "explain" -d 'Show what a launch would do: the facts, the findings and the plan, step by step'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "audit" -d 'Check a bundle or a running container against the rules of a policy and the CIS benchmark'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "doctor" -d 'Show what this host can enforce, what strict has to do without, and the remedies'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "seccomp" -d 'Make, try and explain seccomp profiles'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "sandbox" -d 'Run a command of this host in a throwaway hardened container, without an image'
complete -c stockade -n "__fish_stockade_using_subcommand help; and not __fish_seen_subcommand_from run create start exec state kill delete list update pause resume ps pids events inspect diff checkpoint restore spec features explain audit doctor seccomp sandbox help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c stockade -n "__fish_stockade_using_subcommand help; and __fish_seen_subcommand_from seccomp" -f -a "record" -d 'Run a trusted workload and write the profile that allows what it called, and nothing else'
complete -c stockade -n "__fish_stockade_using_subcommand help; and __fish_seen_subcommand_from seccomp" -f -a "check" -d 'Run a workload under a profile and report what it breaks; status 2 if anything'
complete -c stockade -n "__fish_stockade_using_subcommand help; and __fish_seen_subcommand_from seccomp" -f -a "show" -d 'Explain a profile'
complete -c stockade -n "__fish_stockade_using_subcommand help; and __fish_seen_subcommand_from seccomp" -f -a "diff" -d 'Compare what two profiles mean; status 2 if they differ'
complete -c stockade -n "__fish_stockade_using_subcommand help; and __fish_seen_subcommand_from seccomp" -f -a "test" -d 'Say what a profile does with one system call; status 2 if it is not let through'
