//! The rows: what is known to have broken runtimes, the lesson, and the test that asks whether it breaks this one.
//!
//! `UPDATE_GOLDEN=1 cargo test --test escape the_table` prints the table into docs/escape.md.

use std::collections::BTreeSet;
use std::path::Path;

/// What must hold of a row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Safe under every policy: the image, a race, or whoever comes in attacks the runtime itself.
    Runtime,
    /// What the config asks for or omits: strict refuses or confines it, engine as its table says, oci does exactly that.
    Wish,
    /// A door of the kernel's that strict and engine shut.
    Kernel,
    /// No runtime answers it.
    Not,
}
use Class::{Kernel, Not, Runtime, Wish};

/// A row: what it is called, its class, the lesson (or why no runtime answers it), its test, and which of Debian's
/// runtimes fail that test here, published weaknesses only.
pub struct Row(pub &'static str, pub Class, pub &'static str, pub &'static str, pub &'static str);

pub const ROWS: &[Row] = &[
    // ---- the image
    Row(
        "CVE-2019-18837",
        Runtime,
        "a destination is resolved in the root, links and all",
        "cve_2019_18837_mount_targets_that_are_links",
        "",
    ),
    Row(
        "CVE-2019-16884",
        Runtime,
        "what is written to procfs is written to a procfs",
        "cve_2019_16884_an_image_that_mounts_over_proc",
        "",
    ),
    Row(
        "CVE-2019-19921, CVE-2023-27561",
        Runtime,
        "procfs goes to /proc itself, never through a link",
        "cve_2019_19921_proc_is_a_link_into_a_volume",
        "",
    ),
    Row(
        "CVE-2023-28642",
        Runtime,
        "a label is in force or the launch fails",
        "cve_2023_28642_a_label_behind_a_linked_proc",
        "",
    ),
    Row(
        "CVE-2025-62596",
        Runtime,
        "a label is written through the runtime's own procfs",
        "cve_2025_62596_a_label_for_a_file_of_the_image",
        "",
    ),
    Row("CVE-2025-54867", Runtime, "/proc and /sys are directories", "cve_2025_54867_proc_and_sys_are_links", ""),
    Row(
        "CVE-2025-31133",
        Runtime,
        "a mask is the host's /dev/null, verified, never the image's",
        "cve_2025_31133_the_null_of_the_image",
        "runc",
    ),
    Row(
        "CVE-2025-62161",
        Runtime,
        "the numbers of a device are compared, not only its type",
        "cve_2025_62161_the_null_of_the_image_is_another_device",
        "",
    ),
    Row(
        "CVE-2025-52565",
        Runtime,
        "a terminal is opened through its master, never by name",
        "cve_2025_52565_the_terminal_of_the_image",
        "",
    ),
    Row(
        "CVE-2026-88264",
        Runtime,
        "/dev/console is made without following a link",
        "cve_2026_88264_the_console_of_the_image",
        "",
    ),
    Row(
        "CVE-2026-41579",
        Runtime,
        "/dev is filled by descriptor",
        "cve_2026_41579_dev_is_a_link_to_a_directory_of_the_host",
        "runc",
    ),
    Row(
        "CVE-2026-47766",
        Runtime,
        "default devices are made by descriptor",
        "cve_2026_47766_default_devices_behind_links",
        "",
    ),
    Row(
        "CVE-2026-88265",
        Runtime,
        "nothing is chowned that the runtime did not make",
        "cve_2026_88265_a_null_that_is_elsewhere",
        "",
    ),
    Row(
        "CVE-2025-24965",
        Runtime,
        "nothing is written into the image",
        "cve_2025_24965_nothing_is_written_into_the_image",
        "",
    ),
    Row("anything at /dev", Runtime, "the image is hostile", "the_image_puts_anything_at_dev", ""),
    Row(
        "anything at a device node",
        Runtime,
        "the image is hostile",
        "the_image_puts_anything_at_the_device_nodes",
        "",
    ),
    Row(
        "anything at /proc and /sys",
        Runtime,
        "the image is hostile",
        "the_image_puts_anything_at_the_kernels_files",
        "",
    ),
    Row("anything at a mount point", Runtime, "the image is hostile", "the_image_puts_anything_at_mount_points", ""),
    Row(
        "anything at a masked path",
        Runtime,
        "the image is hostile",
        "the_image_puts_anything_at_masked_and_read_only_paths",
        "",
    ),
    Row(
        "anything at the cwd or the program",
        Runtime,
        "the image is hostile",
        "the_image_puts_anything_at_the_cwd_and_the_program",
        "",
    ),
    // ---- races
    Row(
        "openat2 that answers ENOSYS",
        Runtime,
        "a filter takes openat2 away: then no destination with a link is entered",
        "the_same_where_openat2_answers_enosys",
        "",
    ),
    Row(
        "CVE-2021-30465",
        Runtime,
        "a destination is resolved once, and the mount moved onto that descriptor",
        "cve_2021_30465_a_mount_target_that_moves",
        "",
    ),
    Row(
        "CVE-2024-45310",
        Runtime,
        "directories are made one by one, below a descriptor",
        "cve_2024_45310_directories_that_are_made_while_they_move",
        "",
    ),
    Row("a race for /proc", Runtime, "procfs is mounted on what was looked at", "a_proc_that_becomes_a_link", ""),
    Row(
        "CVE-2025-52881",
        Runtime,
        "what is written to procfs goes to one that was never attached",
        "cve_2025_52881_what_is_written_while_proc_moves",
        "",
    ),
    Row("a race for /dev/null", Runtime, "the mask comes from the host", "a_mask_whose_null_moves", ""),
    Row(
        "GHSA-3q8j-pf29-vwv8",
        Runtime,
        "read-only paths and masks are one look: a copy made read-only, then moved",
        "ghsa_3q8j_pf29_vwv8_a_read_only_path_that_moves",
        "",
    ),
    Row(
        "a race for the cwd and passwd",
        Runtime,
        "the cwd is checked after it was entered",
        "a_cwd_and_a_program_that_move",
        "",
    ),
    Row(
        "CVE-2026-87766",
        Runtime,
        "no component of a destination leads out, whatever it becomes",
        "cve_2026_87766_a_parent_that_becomes_a_link",
        "",
    ),
    // ---- who comes in
    Row(
        "CVE-2016-9962",
        Runtime,
        "a joining process is not dumpable and holds nothing of the host",
        "cve_2016_9962_nobody_inside_sees_who_comes",
        "",
    ),
    Row(
        "whoever comes in, traced by CAP_SYS_PTRACE (as CVE-2016-9962)",
        Runtime,
        "who comes in is seen only with the workload's rights and nothing of the runtime's",
        "nobody_inside_traces_who_comes",
        "",
    ),
    Row(
        "the same in the pid namespace of a pod",
        Runtime,
        "a launch emerges into a shared pid namespace when it is complete",
        "nobody_in_a_shared_pid_namespace_traces_a_launch",
        "",
    ),
    Row(
        "the same with hooks, which are told its pid, or with the mount namespace of others",
        Wish,
        "what is seen from its beginning is said in a finding",
        "a_launch_that_can_be_traced_is_a_finding",
        "",
    ),
    Row(
        "CVE-2016-8659",
        Runtime,
        "not dumpable from before the first namespace until execve",
        "cve_2016_8659_at_the_gate_nothing_can_be_read",
        "",
    ),
    Row(
        "CVE-2024-21626",
        Runtime,
        "close_range before execve, and a cwd that is inside",
        "cve_2024_21626_leaked_descriptors",
        "",
    ),
    Row(
        "CVE-2019-5736",
        Runtime,
        "what an id of the container could write is a sealed stub or copy",
        "cve_2019_5736_own_binary",
        "",
    ),
    Row(
        "CVE-2019-5736 by an interpreter line",
        Runtime,
        "the same, when the kernel opens it",
        "cve_2019_5736_own_binary_by_an_interpreter_line",
        "",
    ),
    Row(
        "exec of a leaked program",
        Runtime,
        "descriptors of the caller are gone before the path is looked up",
        "exec_of_a_program_of_the_host_by_a_descriptor",
        "",
    ),
    Row(
        "CVE-2016-3697",
        Runtime,
        "a number stays a number, whatever passwd says",
        "cve_2016_3697_a_number_that_is_a_name_in_the_image",
        "",
    ),
    Row(
        "CVE-2026-30892",
        Runtime,
        "exec -u NUMBER is that number, and what looks like one is no name",
        "cve_2026_30892_exec_as_a_user_by_its_number",
        "",
    ),
    Row("CVE-2024-40635", Runtime, "ids above 2^31 are refused", "cve_2024_40635_ids_that_wrap", ""),
    Row(
        "CVE-2016-8867, CVE-2021-20188, CVE-2018-10856",
        Runtime,
        "another user than root starts without capabilities",
        "cve_2016_8867_another_user_than_root_has_no_capabilities",
        "",
    ),
    Row(
        "CVE-2022-29162, CVE-2022-27650, CVE-2022-27649, CVE-2022-27651, CVE-2022-27652, CVE-2022-24769, CVE-2025-27612",
        Runtime,
        "no inheritable capabilities unless the config lists them",
        "cve_2022_29162_nothing_is_inherited",
        "",
    ),
    Row(
        "exec without the filter",
        Runtime,
        "exec applies what create recorded",
        "exec_keeps_no_new_privs_and_the_filter",
        "",
    ),
    Row(
        "CVE-2022-36109, CVE-2023-25173, CVE-2022-2989, CVE-2022-2995",
        Runtime,
        "the groups are those that were asked for",
        "cve_2022_36109_groups_of_the_caller",
        "",
    ),
    Row(
        "CVE-2015-1331, CVE-2015-1334, CVE-2015-1335, CVE-2016-8649, CVE-2017-5985, CVE-2018-6556, CVE-2022-47952, CVE-2026-39402",
        Runtime,
        "whoever joins never uses the container's /proc; no setuid helper",
        "cve_2015_1331_attaching_by_a_proc_of_the_container",
        "",
    ),
    // ---- the parser
    Row("CVE-2021-43784", Runtime, "a NUL is refused wherever it hides", "cve_2021_43784_bytes_that_cut_a_string", ""),
    Row("huge and deep configs", Runtime, "parsing has bounds", "configs_that_are_huge_or_deep", ""),
    Row(
        "CVE-2022-0811, CVE-2022-0532, GHSA-w2j5-3rcx-vx7x",
        Runtime,
        "a sysctl is one name, namespaced, in a namespace of the container's own",
        "cve_2022_0811_sysctls_of_the_host",
        "",
    ),
    Row(
        "a cgroup path that climbs",
        Runtime,
        "no `..` in a path below a mount of the host",
        "cgroup_paths_that_climb",
        "",
    ),
    Row(
        "CVE-2022-4318, CVE-2026-15809",
        Runtime,
        "no value of the config is written into a file of the image",
        "cve_2022_4318_newlines_in_the_environment",
        "",
    ),
    Row(
        "CVE-2024-9676, CVE-2025-4437, CVE-2026-47262",
        Runtime,
        "passwd is read with bounds, and only if it is a file",
        "cve_2024_9676_passwd_without_end",
        "",
    ),
    // ---- the host
    Row(
        "CVE-2021-41103, CVE-2024-25621",
        Runtime,
        "states are the caller's alone",
        "cve_2021_41103_state_is_the_callers_alone",
        "",
    ),
    Row(
        "CVE-2021-21334",
        Runtime,
        "the environment is the config's, whole",
        "cve_2021_21334_no_environment_of_others",
        "",
    ),
    Row(
        "CVE-2022-1708, CVE-2022-31030, CVE-2022-23471, CVE-2025-64329, CVE-2026-53495",
        Runtime,
        "no buffer without a bound",
        "cve_2022_1708_output_without_end_is_not_kept",
        "",
    ),
    Row(
        "CVE-2020-5291, CVE-2026-41163",
        Runtime,
        "a runtime is never setuid",
        "cve_2020_5291_never_with_rights_that_the_caller_lacks",
        "",
    ),
    Row(
        "CVE-2019-12439",
        Runtime,
        "no name in a shared directory",
        "cve_2019_12439_no_path_that_others_can_foresee",
        "",
    ),
    // ---- a review of our own source
    Row(
        "a cgroup of others",
        Runtime,
        "a cgroup in use is neither taken nor killed",
        "a_cgroup_of_others_is_neither_taken_nor_killed",
        "",
    ),
    Row(
        "an idmapped volume",
        Wish,
        "idmap makes the container's root the host's root there",
        "a_bundle_cannot_be_root_in_a_directory_of_the_host",
        "",
    ),
    Row(
        "a second procfs",
        Wish,
        "masks are by path: the kernel's files appear nowhere else",
        "the_files_of_the_kernel_appear_only_where_they_are_masked",
        "",
    ),
    Row(
        "root with few capabilities",
        Wish,
        "host id 0 is not mapped",
        "root_with_few_capabilities_is_still_root_of_the_host",
        "",
    ),
    Row(
        "a hook that blocks",
        Runtime,
        "hooks are read and fed with bounds",
        "a_hook_that_says_much_and_reads_nothing_neither_blocks_nor_kills",
        "",
    ),
    Row(
        "a caller that ignores SIGCHLD",
        Runtime,
        "signal dispositions are the runtime's own",
        "a_caller_that_ignores_its_children_gets_their_status_all_the_same",
        "",
    ),
    Row(
        "a pid file through a link",
        Runtime,
        "files for the caller are made new",
        "a_pid_file_is_not_written_through_a_link_of_others",
        "",
    ),
    Row(
        "paths of the host",
        Wish,
        "a bundle names nothing outside itself",
        "a_bundle_names_nothing_of_the_host_outside_itself",
        "",
    ),
    // ---- wishes
    Row(
        "CVE-2020-15257",
        Wish,
        "abstract sockets go with the network namespace",
        "cve_2020_15257_the_network_of_the_host",
        "",
    ),
    Row(
        "CVE-2022-23648",
        Wish,
        "a source stays within the bundle, links and all",
        "cve_2022_23648_a_volume_that_is_a_link_of_the_image",
        "",
    ),
    Row(
        "CVE-2026-53488, CVE-2026-53489, CVE-2026-53492, CVE-2026-50195; Kata GHSA-2gv2-cffp-j227, GHSA-rr59-xxvx-96qr, GHSA-wwj6-vghv-5p64",
        Runtime,
        "no annotation selects code to run or becomes an argument",
        "cve_2026_53488_annotations_select_no_code",
        "",
    ),
    Row("CVE-2024-3154", Runtime, "properties of the unit are a list", "cve_2024_3154_properties_of_the_unit", ""),
    Row(
        "CVE-2023-25809",
        Runtime,
        "the host's cgroups are read-only wherever they appear without a namespace of their own",
        "cve_2023_25809_the_cgroups_of_the_host",
        "",
    ),
    Row("CVE-2023-6476", Runtime, "no annotation loosens anything", "cve_2023_6476_annotations_loosen_no_limit", ""),
    Row(
        "CVE-2025-23266, CVE-2024-0132, CVE-2025-23359",
        Wish,
        "a hook has the environment that the config gives it",
        "cve_2025_23266_a_hook_has_its_own_environment",
        "",
    ),
    Row("CVE-2024-3056", Wish, "a /dev/shm has a size", "cve_2024_3056_memory_of_shm_has_an_end", ""),
    Row(
        "GHSA-jq35-85cj-fj4p, GHSA-6fw5-f8r9-fgfm",
        Wish,
        "masks of the policy are added to those of the config",
        "ghsa_jq35_85cj_fj4p_what_tells_of_the_hardware_is_masked",
        "",
    ),
    Row("a silent config", Wish, "what is left out is the safe choice", "a_config_that_says_nothing", ""),
    Row("capabilities left out", Runtime, "no list is an empty list", "capabilities_that_are_not_listed_are_none", ""),
    Row("rbind,ro", Wish, "read-only reaches the mounts below", "read_only_that_stops_at_the_next_mount", ""),
    Row(
        "directories of the host, shared propagation, devices",
        Wish,
        "a bundle from anyone reaches nothing of the host",
        "sockets_and_directories_of_the_host",
        "",
    ),
    // ---- the kernel
    Row(
        "CVE-2022-0492",
        Kernel,
        "no user namespace inside, and no cgroup file system",
        "cve_2022_0492_no_user_namespace_inside",
        "",
    ),
    Row(
        "CVE-2022-0185, CVE-2023-0386, CVE-2022-1015, CVE-2023-32233, CVE-2024-1086, CVE-2026-23111, CVE-2026-23231, CVE-2025-21700, CVE-2026-43284, CVE-2026-46300, CVE-2026-43456",
        Kernel,
        "what takes SYS_ADMIN or NET_ADMIN in a namespace of one's own",
        "cve_2022_0185_no_new_file_systems",
        "",
    ),
    Row(
        "CVE-2026-31431",
        Kernel,
        "a list of families, also with high bits and by the 32-bit door",
        "cve_2026_31431_no_kernel_crypto",
        "",
    ),
    Row("CVE-2026-43500", Kernel, "neither the family nor the keys", "cve_2026_43500_no_rxrpc_and_no_keys", ""),
    Row(
        "CVE-2020-14386, CVE-2021-22600, CVE-2025-38617, CVE-2026-31504",
        Kernel,
        "no NET_RAW, and no AF_PACKET",
        "cve_2020_14386_no_raw_packets",
        "",
    ),
    Row(
        "CVE-2022-29582, CVE-2022-1786, CVE-2022-2327, CVE-2022-20409, CVE-2022-3176, CVE-2022-2602, CVE-2025-40364",
        Kernel,
        "no io_uring",
        "cve_2022_29582_no_io_uring",
        "",
    ),
    Row("CVE-2025-21756, CVE-2025-38618", Kernel, "a list of families", "cve_2025_21756_no_vsock", ""),
    Row(
        "CVE-2023-52447, CVE-2024-26583, CVE-2024-26584, CVE-2024-26585, CVE-2025-38616, CVE-2025-39946, CVE-2026-31533",
        Kernel,
        "TCP_ULP is refused: its name is in memory, its number is not",
        "cve_2023_52447_no_tls_in_the_kernel",
        "",
    ),
    Row(
        "CVE-2017-5226, CVE-2019-10063, CVE-2023-28100, CVE-2016-10124",
        Kernel,
        "an ioctl is compared in its low 32 bits",
        "cve_2017_5226_nothing_is_typed_into_the_callers_terminal",
        "",
    ),
    Row("int 0x80 and x32", Kernel, "another ABI ends the caller", "the_second_door_of_32_bits", ""),
    // ---- not answerable
    Row(
        "CVE-2018-15664, CVE-2026-41568, CVE-2026-42306, CVE-2019-14271, CVE-2026-41567",
        Not,
        "docker cp: an OCI runtime copies no files between host and container",
        "",
        "",
    ),
    Row(
        "CVE-2021-20199",
        Not,
        "where a rootless port forwarder says that a connection comes from: no runtime forwards ports",
        "",
        "",
    ),
    Row(
        "CVE-2026-33997, CVE-2026-34040, CVE-2024-41110, CVE-2026-33414, CVE-2026-44517, CVE-2026-57231, CVE-2026-79699, CVE-2026-79705, CVE-2026-46680",
        Not,
        "in a daemon or its command line, before a runtime is called",
        "",
        "",
    ),
    Row(
        "CVE-2024-23651, CVE-2024-23652, CVE-2024-23653, CVE-2024-9341, CVE-2024-9407, CVE-2024-9675, CVE-2024-11218, CVE-2025-11395",
        Not,
        "in an image builder or loader that follows links of an image before a runtime is called",
        "",
        "",
    ),
    Row(
        "CVE-2016-5195, CVE-2022-0847, CVE-2026-43499, CVE-2021-33909, CVE-2022-2602 (AF_UNIX), CVE-2026-23394",
        Not,
        "bugs behind ordinary system calls: only user namespaces, read-only mounts and a private copy of the runtime's binary make them smaller",
        "",
        "",
    ),
    Row("incus CVE-2026-23954; nsjail, minijail", Not, "no mechanism is published that could be tried", "", ""),
];

/// The sources of this file's siblings, as they were compiled.
const SOURCES: &[(&str, &str)] = &[
    ("exec", include_str!("exec.rs")),
    ("host", include_str!("host.rs")),
    ("kernel", include_str!("kernel.rs")),
    ("own", include_str!("own.rs")),
    ("parser", include_str!("parser.rs")),
    ("races", include_str!("races.rs")),
    ("review", include_str!("review.rs")),
    ("rootfs", include_str!("rootfs.rs")),
    ("trace", include_str!("trace.rs")),
    ("wishes", include_str!("wishes.rs")),
];

fn tests() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (_, source) in SOURCES {
        for (above, line) in source.lines().zip(source.lines().skip(1)) {
            if above == "#[test]" {
                let name = line.strip_prefix("fn ").and_then(|l| l.strip_suffix("() {")).unwrap();
                assert!(found.insert(name.to_owned()), "{name} twice");
            }
        }
    }
    found
}

#[test]
fn every_row_has_its_test_and_every_test_its_row() {
    let mut of_rows = BTreeSet::new();
    for Row(id, class, lesson, test, _) in ROWS {
        assert!(!id.is_empty() && !lesson.is_empty(), "{id}");
        assert_eq!(*class == Not, test.is_empty(), "{id}: a test, or the reason why there is none");
        // A row of a CVE has a test of that name.
        if let (Some(cve), false) = (id.strip_prefix("CVE-"), test.is_empty()) {
            let number: String = cve.chars().take_while(|c| c.is_ascii_digit() || *c == '-').collect();
            assert!(test.starts_with(&format!("cve_{}_", number.replace('-', "_"))), "{id}: {test}");
        }
        assert!(test.is_empty() || of_rows.insert((*test).to_owned()), "{test} has two rows");
    }
    assert_eq!(tests(), of_rows);
    // No module is left out above.
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/escape");
    for file in std::fs::read_dir(dir).unwrap().flatten() {
        let text = std::fs::read_to_string(file.path()).unwrap();
        let stem = file.path().file_stem().unwrap().to_string_lossy().into_owned();
        let named = ["rows", "harness"].contains(&stem.as_str()) || SOURCES.iter().any(|(name, _)| *name == stem);
        assert!(named || !text.contains("\n#[test]\n"), "{stem} is not among the sources");
    }
}

fn table() -> String {
    let mut text = String::from("| what | class | lesson | test | fails on |\n|---|---|---|---|---|\n");
    for Row(id, class, lesson, test, fails) in ROWS.iter().filter(|r| r.1 != Not) {
        text.push_str(&format!("| {id} | {class:?} | {lesson} | {test} | {fails} |\n"));
    }
    text.push_str("\n| what no runtime answers | why |\n|---|---|\n");
    for Row(id, _, why, ..) in ROWS.iter().filter(|r| r.1 == Not) {
        text.push_str(&format!("| {id} | {why} |\n"));
    }
    text
}

#[test]
fn the_table_of_the_documentation_is_these_rows() {
    const MARK: &str = "<!-- from tests/escape/rows.rs -->\n";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/escape.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, written) = text.split_once(MARK).unwrap();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, format!("{head}{MARK}{}", table())).unwrap();
        return;
    }
    assert!(written == table(), "UPDATE_GOLDEN=1 cargo test --test escape the_table");
}
