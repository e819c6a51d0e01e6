//! Bundles, policies and hosts as values: nothing here looks at the machine.

use serde_json::Value;
use std::path::PathBuf;
use stockade::bundle;
pub use stockade::bundle::Bundle;
use stockade::error::Result;
pub use stockade::host::Host;
pub use stockade::host::{Binary, Cgroup, Ids, Range};
pub use stockade::plan::{self, Options, Plan};
pub use stockade::policy::Policy;

/// The directories of examples/bundles.
pub const EXAMPLES: [&str; 6] = ["silent", "usual", "docker", "web-server", "limited", "hardened"];

/// Every capability of Linux 6.x.
const ALL_CAPS: u64 = (1 << 41) - 1;

/// The repository.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The config.json of an example.
pub fn example(name: &str) -> Value {
    let path = root().join("examples/bundles").join(name).join("config.json");
    serde_json::from_slice(&std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

/// A bundle that is nowhere on disk.
pub fn try_bundle(config: &Value) -> Result<Bundle> {
    let (spec, unknown) = bundle::parse(config.to_string().as_bytes())?;
    Ok(Bundle { dir: "/bundle".into(), rootfs: "/bundle/rootfs".into(), spec, unknown })
}

/// A bundle that is nowhere on disk and well-formed.
pub fn bundle_of(config: &Value) -> Bundle {
    try_bundle(config).unwrap_or_else(|e| panic!("{e}: {config}"))
}

/// The plan of a container called `box`.
pub fn plan_of(bundle: &Bundle, policy: &Policy, host: &Host) -> Result<Plan> {
    plan::plan(bundle, policy, host, &Options { id: "box".into(), ..Options::default() })
}

/// An operator's policy that extends `strict`.
pub fn operator(json: Value) -> Policy {
    let mut json = json;
    json["extends"] = "strict".into();
    Policy::from_json(&json.to_string(), "operator.json").unwrap()
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// Root on a host with cgroup v2 alone, as Debian 12 or Fedora boot it.
pub fn v2() -> Host {
    Host {
        kernel: "6.12.9".into(),
        groups: vec![0],
        caps: ALL_CAPS,
        known_caps: ALL_CAPS,
        apparmor: true,
        selinux: true,
        landlock: 6,
        resctrl: Some("/sys/fs/resctrl".into()),
        initial_userns: true,
        binary: Binary::File { uid: 0, mode: 0o755 },
        cgroup: Cgroup {
            mount: Some("/sys/fs/cgroup".into()),
            base: "/system.slice".into(),
            controllers: words("cpuset cpu io memory hugetlb pids rdma misc"),
            writable: true,
            ..Cgroup::default()
        },
        ids: Ids { block: Some(Range { start: 1_048_576, count: 65_536 }), ..Ids::default() },
        ..Host::default()
    }
}

/// Root where the controllers are on cgroup v1 and cgroup2 stands beside them.
pub fn hybrid() -> Host {
    Host {
        cgroup: Cgroup {
            disabled: false,
            mount: Some("/sys/fs/cgroup/unified".into()),
            base: "/".into(),
            controllers: words("hugetlb"),
            lacking: Default::default(),
            on_v1: words("blkio cpu cpuacct cpuset devices freezer memory pids"),
            writable: true,
            systemd: None,
        },
        ..v2()
    }
}

/// An ordinary user with subordinate ids and a delegated cgroup.
pub fn rootless() -> Host {
    let range = vec![Range { start: 100_000, count: 65_536 }];
    Host {
        uid: 1000,
        gid: 1000,
        groups: vec![1000, 27],
        caps: 0,
        cgroup: Cgroup {
            disabled: false,
            base: "/user.slice/user-1000.slice/user@1000.service/app.slice".into(),
            controllers: words("cpu memory pids"),
            lacking: ["cpuset", "io"]
                .map(|c| (c.to_owned(), "/user.slice/user-1000.slice/user@1000.service".to_owned()))
                .into(),
            ..v2().cgroup
        },
        ids: Ids { block: None, held: vec![], sub_uids: range.clone(), sub_gids: range },
        ..v2()
    }
}

/// An ordinary user with one id and no cgroup that it could write.
pub fn single() -> Host {
    Host {
        groups: vec![1000],
        cgroup: Cgroup { writable: false, ..rootless().cgroup },
        ids: Ids::default(),
        ..rootless()
    }
}

/// The four, by the names that the golden texts carry.
pub fn hosts() -> [(&'static str, Host); 4] {
    [("v2", v2()), ("hybrid", hybrid()), ("rootless", rootless()), ("single", single())]
}
