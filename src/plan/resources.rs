//! Decide: `linux.resources` as files of cgroup v2 and values.
//!
//! Used twice: for the limits of a launch, and for `update`. The config still speaks of cgroup v1; what v2 has no word
//! for is refused, and 0 means "not set", as engines write it. Kernel document: admin-guide/cgroup-v2.

use crate::error::{Error, Result};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};
use std::collections::BTreeMap;

/// A limit: file, value, and the field that asked for it (none: the policy's default).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The file in the cgroup.
    pub file: String,
    /// What is written.
    pub value: String,
    /// The field of config.json.
    pub field: Option<&'static str>,
    /// The same on the scale of io.bfq.weight, where it is a weight of block I/O.
    pub bfq: Option<String>,
}

impl Wanted {
    /// The controller that the file belongs to.
    pub fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }
}

fn want(file: &str, value: impl Into<String>, field: &'static str) -> Wanted {
    Wanted { file: file.into(), value: value.into(), field: Some(field), bfq: None }
}

/// A weight of block I/O: the config's scale is that of BFQ, io.weight has its own.
fn weight(of: &str, weight: u16, field: &'static str) -> Wanted {
    let bfq = Some(format!("{of} {weight}"));
    Wanted { bfq, ..want("io.weight", format!("{of} {}", io_weight(weight)), field) }
}

fn bad(field: &str, why: impl Into<String>) -> Error {
    Error::new("config.json", field, why)
}

fn max(n: i64) -> String {
    if n < 0 { "max".to_owned() } else { n.to_string() }
}

/// The conversion of the kernel's old shares (2..262144) to cpu.weight (1..10000) that runtimes agreed on in 2025: it
/// maps 1024 to 100, where the linear one before it gave 39.
pub fn shares_to_weight(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let l = (shares as f64).log2();
            let exponent = (l * l + 125.0 * l) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

/// `cpu.max` for a number of CPUs, over the kernel's default period.
pub fn cpu_max(cpus: f64) -> String {
    format!("{} 100000", (cpus * 100_000.0).round() as u64)
}

/// The old weight of block I/O (10..1000) on the scale of io.weight (1..10000), end to end.
pub fn io_weight(weight: u16) -> u64 {
    1 + (u64::from(weight).clamp(10, 1000) - 10) * 9999 / 990
}

/// Every limit that a `LinuxResources` asks for, in the order of writing.
pub fn asked(resources: &LinuxResources) -> Result<Vec<Wanted>> {
    let mut wanted = Vec::new();
    if let Some(m) = resources.memory() {
        memory(m, &mut wanted)?;
    }
    if let Some(c) = resources.cpu() {
        cpu(c, &mut wanted)?;
    }
    if let Some(pids) = resources.pids().filter(|p| p.limit() != 0) {
        refuse_negative("linux.resources.pids.limit", Some(pids.limit()))?;
        wanted.push(want("pids.max", max(pids.limit()), "linux.resources.pids.limit"));
    }
    if let Some(io) = resources.block_io() {
        block_io(io, &mut wanted)?;
    }
    for page in resources.hugepage_limits().iter().flatten() {
        let field = "linux.resources.hugepageLimits";
        let size = page.page_size();
        let number = size.trim_end_matches(|c: char| c.is_ascii_uppercase());
        if !["KB", "MB", "GB"].contains(&&size[number.len()..])
            || number.is_empty()
            || !number.bytes().all(|b| b.is_ascii_digit())
        {
            return Err(bad(field, format!("{size:?} is not a page size such as 2MB or 1GB")));
        }
        wanted.push(want(&format!("hugetlb.{size}.max"), max(page.limit()), field));
        // Pages that are reserved and not yet used would else escape the limit.
        wanted.push(want(&format!("hugetlb.{size}.rsvd.max"), max(page.limit()), field));
    }
    if let Some(rdma) = resources.rdma() {
        let sorted: BTreeMap<_, _> = rdma.iter().collect();
        for (device, limit) in sorted {
            let field = "linux.resources.rdma";
            if device.is_empty() || device.contains(char::is_whitespace) {
                return Err(bad(field, format!("{device:?} is not the name of a device")));
            }
            let mut value = device.clone();
            for (key, n) in [("hca_handle", limit.hca_handles()), ("hca_object", limit.hca_objects())] {
                if let Some(n) = n {
                    value.push_str(&format!(" {key}={n}"));
                }
            }
            wanted.push(want("rdma.max", value, field));
        }
    }
    if resources
        .network()
        .as_ref()
        .is_some_and(|n| n.class_id().is_some_and(|c| c != 0) || n.priorities().as_ref().is_some_and(|p| !p.is_empty()))
    {
        return Err(bad("linux.resources.network", "cgroup v2 has no such setting")
            .hint("net_cls and net_prio exist on cgroup v1 only"));
    }
    if let Some(unified) = resources.unified() {
        let sorted: BTreeMap<_, _> = unified.iter().collect();
        for (file, value) in sorted {
            let field = "linux.resources.unified";
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.';
            if !file.contains('.') || file.starts_with('.') || !file.bytes().all(plain) || file.starts_with("cgroup.") {
                return Err(bad(field, format!("{file:?} is not a settable file of a controller"))
                    .hint("a file such as memory.high; the cgroup.* files are the runtime's"));
            }
            // Some files take a line at a time.
            wanted.extend(value.split('\n').filter(|l| !l.is_empty()).map(|line| want(file, line, field)));
        }
    }
    Ok(wanted)
}

/// -1 is "no limit". A number below it is a mistake, and must not lift a limit.
fn refuse_negative(field: &str, n: Option<i64>) -> Result<()> {
    match n {
        Some(n) if n < -1 => Err(bad(field, format!("{n}: below 0 only -1 has a meaning, no limit"))),
        _ => Ok(()),
    }
}

fn memory(memory: &LinuxMemory, wanted: &mut Vec<Wanted>) -> Result<()> {
    refuse_negative("linux.resources.memory.limit", memory.limit())?;
    refuse_negative("linux.resources.memory.swap", memory.swap())?;
    refuse_negative("linux.resources.memory.reservation", memory.reservation())?;
    let limit = memory.limit().filter(|n| *n != 0);
    // The config counts memory and swap together, cgroup v2 counts swap alone.
    let field = "linux.resources.memory.swap";
    if let Some(swap) = memory.swap().filter(|n| *n != 0) {
        let value = match (limit, swap) {
            (_, ..=-1) => "max".to_owned(),
            (Some(limit), swap) if limit > 0 && swap >= limit => (swap - limit).to_string(),
            (Some(limit), swap) => {
                return Err(bad(
                    field,
                    format!("{swap} is below the memory limit {limit}: it counts memory and swap together"),
                ));
            }
            (None, swap) => {
                return Err(bad(field, format!("{swap} without a memory limit: it counts memory and swap together")));
            }
        };
        wanted.push(want("memory.swap.max", value, field));
    }
    if let Some(limit) = limit {
        wanted.push(want("memory.max", max(limit), "linux.resources.memory.limit"));
    }
    if let Some(low) = memory.reservation().filter(|n| *n != 0) {
        let field = "linux.resources.memory.reservation";
        if limit.is_some_and(|limit| limit > 0 && low > limit) {
            return Err(bad(field, format!("{low} is above the limit")));
        }
        wanted.push(want("memory.low", max(low), field));
    }
    for (field, set) in [
        ("linux.resources.memory.kernel", memory.kernel().is_some_and(|n| n > 0)),
        ("linux.resources.memory.kernelTCP", memory.kernel_tcp().is_some_and(|n| n > 0)),
        ("linux.resources.memory.swappiness", memory.swappiness().is_some_and(|n| n > 0)),
        ("linux.resources.memory.disableOOMKiller", memory.disable_oom_killer() == Some(true)),
    ] {
        if set {
            return Err(bad(field, "cgroup v2 has no such setting"));
        }
    }
    Ok(())
}

fn cpu(cpu: &LinuxCpu, wanted: &mut Vec<Wanted>) -> Result<()> {
    if let Some(shares) = cpu.shares().filter(|n| *n != 0) {
        wanted.push(want("cpu.weight", shares_to_weight(shares).to_string(), "linux.resources.cpu.shares"));
    }
    let quota = cpu.quota().filter(|n| *n != 0);
    let period = cpu.period().filter(|n| *n != 0);
    if let Some(period) = period.filter(|p| !(1_000..=1_000_000).contains(p)) {
        return Err(bad("linux.resources.cpu.period", format!("{period} us is outside 1000..1000000")));
    }
    if let Some(quota) = quota.filter(|q| (1..1000).contains(q)) {
        return Err(bad("linux.resources.cpu.quota", format!("{quota} us is below the kernel's minimum of 1000")));
    }
    // Each keeps what the other is: the file takes a quota alone, and a fresh cgroup has no quota.
    match (quota, period) {
        (Some(quota), Some(period)) => {
            wanted.push(want("cpu.max", format!("{} {period}", max(quota)), "linux.resources.cpu.quota"));
        }
        (Some(quota), None) => wanted.push(want("cpu.max", max(quota), "linux.resources.cpu.quota")),
        (None, Some(period)) => wanted.push(want("cpu.max", format!("max {period}"), "linux.resources.cpu.period")),
        (None, None) => {}
    }
    if let Some(burst) = cpu.burst().filter(|n| *n != 0) {
        wanted.push(want("cpu.max.burst", burst.to_string(), "linux.resources.cpu.burst"));
    }
    if let Some(idle) = cpu.idle() {
        let field = "linux.resources.cpu.idle";
        match idle {
            0 => {}
            1 => wanted.push(want("cpu.idle", "1", field)),
            other => return Err(bad(field, format!("{other} is neither 0 nor 1"))),
        }
    }
    for (file, value, field) in [
        ("cpuset.cpus", cpu.cpus(), "linux.resources.cpu.cpus"),
        ("cpuset.mems", cpu.mems(), "linux.resources.cpu.mems"),
    ] {
        if let Some(list) = value.as_deref().filter(|v| !v.is_empty()) {
            if !list.bytes().all(|b| b.is_ascii_digit() || b == b',' || b == b'-') {
                return Err(bad(field, format!("{list:?} is not a list such as 0-3,7")));
            }
            wanted.push(want(file, list, field));
        }
    }
    if cpu.realtime_runtime().is_some_and(|n| n != 0) || cpu.realtime_period().is_some_and(|n| n != 0) {
        return Err(bad("linux.resources.cpu.realtimeRuntime", "cgroup v2 has no such setting"));
    }
    Ok(())
}

fn block_io(io: &LinuxBlockIo, wanted: &mut Vec<Wanted>) -> Result<()> {
    let field = "linux.resources.blockIO.weight";
    if let Some(weight) = io.weight().filter(|w| *w != 0) {
        if !(10..=1000).contains(&weight) {
            return Err(bad(field, format!("{weight} is outside 10..1000")));
        }
        wanted.push(self::weight("default", weight, field));
    }
    if io.leaf_weight().is_some_and(|w| w != 0) {
        return Err(bad("linux.resources.blockIO.leafWeight", "cgroup v2 has no such setting"));
    }
    for device in io.weight_device().iter().flatten() {
        let field = "linux.resources.blockIO.weightDevice";
        if device.leaf_weight().is_some_and(|w| w != 0) {
            return Err(bad(field, "leafWeight: cgroup v2 has no such setting"));
        }
        if let Some(weight) = device.weight().filter(|w| *w != 0) {
            if !(10..=1000).contains(&weight) {
                return Err(bad(field, format!("{weight} is outside 10..1000")));
            }
            wanted.push(self::weight(&format!("{}:{}", device.major(), device.minor()), weight, field));
        }
    }
    type List<'a> = &'a Option<Vec<LinuxThrottleDevice>>;
    let throttles: [(&str, List<'_>, &'static str); 4] = [
        ("rbps", io.throttle_read_bps_device(), "linux.resources.blockIO.throttleReadBpsDevice"),
        ("wbps", io.throttle_write_bps_device(), "linux.resources.blockIO.throttleWriteBpsDevice"),
        ("riops", io.throttle_read_iops_device(), "linux.resources.blockIO.throttleReadIOPSDevice"),
        ("wiops", io.throttle_write_iops_device(), "linux.resources.blockIO.throttleWriteIOPSDevice"),
    ];
    for (key, list, field) in throttles {
        for device in list.iter().flatten() {
            // 0 takes a throttle away.
            let rate = if device.rate() == 0 { "max".to_owned() } else { device.rate().to_string() };
            wanted.push(want("io.max", format!("{}:{} {key}={rate}", device.major(), device.minor()), field));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(json: serde_json::Value) -> std::result::Result<Vec<(String, String)>, String> {
        let resources: LinuxResources = serde_json::from_value(json).unwrap();
        asked(&resources).map(|w| w.into_iter().map(|w| (w.file, w.value)).collect()).map_err(|e| e.to_string())
    }

    #[test]
    fn shares_map_to_weights_at_the_known_points() {
        assert_eq!(shares_to_weight(0), 0);
        assert_eq!(shares_to_weight(2), 1);
        assert_eq!(shares_to_weight(1024), 100);
        assert_eq!(shares_to_weight(262_144), 10_000);
        assert!((2..262_144).step_by(97).all(|s| (1..=10_000).contains(&shares_to_weight(s))));
    }

    #[test]
    fn weights_of_io_map_end_to_end_and_bfq_takes_them_as_they_are() {
        assert_eq!(io_weight(10), 1);
        assert_eq!(io_weight(750), 7475);
        assert_eq!(io_weight(1000), 10_000);
        let resources = serde_json::json!({ "blockIO": {
            "weight": 750, "weightDevice": [{ "major": 8, "minor": 16, "weight": 10 }] } });
        let all = asked(&serde_json::from_value(resources).unwrap()).unwrap();
        let both: Vec<_> = all.iter().map(|w| (w.value.as_str(), w.bfq.as_deref().unwrap())).collect();
        assert_eq!(both, [("default 7475", "default 750"), ("8:16 1", "8:16 10")]);
    }

    #[test]
    fn cpus_are_a_quota_over_the_default_period() {
        assert_eq!(cpu_max(0.5), "50000 100000");
        assert_eq!(cpu_max(1.5), "150000 100000");
    }

    #[test]
    fn every_limit_has_its_file() {
        let all = files(serde_json::json!({
            "memory": { "limit": 1000, "swap": 1500, "reservation": 500 },
            "cpu": { "shares": 1024, "quota": 50000, "period": 100000, "burst": 1000, "idle": 1, "cpus": "0-1", "mems": "0" },
            "pids": { "limit": 7 },
            "blockIO": {
                "weight": 1000,
                "weightDevice": [{ "major": 8, "minor": 0, "weight": 10 }],
                "throttleReadBpsDevice": [{ "major": 8, "minor": 0, "rate": 1048576 }],
                "throttleWriteIOPSDevice": [{ "major": 8, "minor": 16, "rate": 0 }]
            },
            "hugepageLimits": [{ "pageSize": "2MB", "limit": 4194304 }],
            "rdma": { "mlx5_0": { "hcaHandles": 3, "hcaObjects": 4 } },
            "unified": { "memory.high": "900" }
        }))
        .unwrap();
        let expected = [
            ("memory.swap.max", "500"),
            ("memory.max", "1000"),
            ("memory.low", "500"),
            ("cpu.weight", "100"),
            ("cpu.max", "50000 100000"),
            ("cpu.max.burst", "1000"),
            ("cpu.idle", "1"),
            ("cpuset.cpus", "0-1"),
            ("cpuset.mems", "0"),
            ("pids.max", "7"),
            ("io.weight", "default 10000"),
            ("io.weight", "8:0 1"),
            ("io.max", "8:0 rbps=1048576"),
            ("io.max", "8:16 wiops=max"),
            ("hugetlb.2MB.max", "4194304"),
            ("hugetlb.2MB.rsvd.max", "4194304"),
            ("rdma.max", "mlx5_0 hca_handle=3 hca_object=4"),
            ("memory.high", "900"),
        ];
        assert_eq!(all, expected.map(|(f, v)| (f.to_owned(), v.to_owned())));
    }

    #[test]
    fn zero_is_not_set_and_minus_one_is_no_limit() {
        assert_eq!(files(serde_json::json!({ "memory": { "limit": 0 }, "cpu": { "shares": 0, "quota": 0 }, "pids": { "limit": 0 } })).unwrap(), []);
        let all = files(serde_json::json!({ "memory": { "limit": -1, "swap": -1 }, "cpu": { "quota": -1 }, "pids": { "limit": -1 } })).unwrap();
        assert!(all.len() == 4 && all.iter().all(|(_, v)| v == "max"), "{all:?}");
    }

    #[test]
    fn what_cgroup_v2_cannot_do_is_refused_by_name() {
        for (json, word) in [
            (serde_json::json!({ "memory": { "swap": 5 } }), "memory.swap"),
            (serde_json::json!({ "memory": { "limit": 10, "swap": 5 } }), "below the memory limit"),
            (serde_json::json!({ "memory": { "limit": 10, "reservation": 20 } }), "reservation"),
            (serde_json::json!({ "memory": { "kernelTCP": 5 } }), "kernelTCP"),
            (serde_json::json!({ "cpu": { "realtimePeriod": 5 } }), "realtime"),
            (serde_json::json!({ "cpu": { "quota": 5 } }), "1000"),
            (serde_json::json!({ "cpu": { "idle": 2 } }), "idle"),
            (serde_json::json!({ "cpu": { "cpus": "a" } }), "0-3,7"),
            (serde_json::json!({ "blockIO": { "weight": 5 } }), "10..1000"),
            (serde_json::json!({ "blockIO": { "leafWeight": 50 } }), "leafWeight"),
            (serde_json::json!({ "hugepageLimits": [{ "pageSize": "2 MB", "limit": 1 }] }), "2MB"),
            (serde_json::json!({ "network": { "classID": 5 } }), "network"),
            (serde_json::json!({ "unified": { "../x": "1" } }), "settable"),
            (serde_json::json!({ "unified": { "cgroup.procs": "1" } }), "settable"),
        ] {
            let e = files(json).unwrap_err();
            assert!(e.contains(word), "{e}");
        }
    }
}
