//! Read: a bundle directory becomes a `Bundle`.
//!
//! The first room of the house. It parses `config.json` with a size limit and a JSON path in each error, notes the
//! fields that nobody here knows (serde would skip them in silence), and refuses what is malformed whatever the policy:
//! a NUL, a uid of -1, a relative cwd, two namespaces of one type. What a well-formed config may *ask for* is decided
//! later, in `policy` and `plan`.

mod mend;

use crate::error::{Context, Error, Result};
use crate::json;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Process, Spec};
use std::collections::HashSet;
use std::io::Read;
use std::path::{Component, Path, PathBuf};

/// The usual name of a bundle's configuration.
pub const CONFIG: &str = "config.json";
/// A config.json above this size is refused (the largest that engines write are some 100 kB).
const MAX_CONFIG: u64 = 16 << 20;
/// More mounts than this in one bundle are a mistake or an attack (the kernel's own limit, fs.mount-max, is 100,000).
const MAX_MOUNTS: usize = 4096;
/// Each becomes a rule of the device program and a node.
const MAX_DEVICES: usize = 1024;
/// Upper bound for every other list of config.json.
const MAX_LIST: usize = 65_536;
/// MAX_ARG_STRLEN of execve(2).
const MAX_ARG: usize = 128 << 10;

/// A bundle as read: nothing decided yet.
#[derive(Debug, Clone)]
pub struct Bundle {
    /// The bundle directory, absolute and without symbolic links.
    pub dir: PathBuf,
    /// The root file system, absolute. It is a directory and not a symbolic link.
    pub rootfs: PathBuf,
    /// The configuration, well-formed.
    pub spec: Spec,
    /// What the specification, as we know it, does not have.
    pub unknown: Unknown,
}

/// What a config.json has and nobody here knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unknown {
    /// JSON paths of fields.
    pub fields: Vec<String>,
    /// Capabilities, as (field, name). The specification wants a warning and no failure.
    pub capabilities: Vec<(String, String)>,
}

impl Bundle {
    /// Reads `DIR/config.json` and finds the root file system.
    pub fn load(dir: &Path) -> Result<Bundle> {
        Self::load_as(dir, Path::new(CONFIG))
    }

    /// The same with a configuration of another name.
    pub fn load_as(dir: &Path, config: &Path) -> Result<Bundle> {
        let shown = dir.display().to_string();
        let dir = dir.canonicalize().at("bundle", &shown)?;
        let bytes = read_bounded(&dir.join(config))?;
        let (spec, unknown) = parse(&bytes)?;
        let rootfs = find_rootfs(&dir, &spec)?;
        Ok(Bundle { dir, rootfs, spec, unknown })
    }

    /// The process of the config, or one that asks for nothing where the bundle has none yet. (`Process::default` would
    /// be a shell with capabilities.)
    pub fn process(&self) -> Process {
        self.spec.process().clone().unwrap_or_else(|| {
            let mut silent = Process::default();
            silent.set_args(None).set_env(None).set_capabilities(None).set_rlimits(None).set_no_new_privileges(None);
            silent
        })
    }
}

/// The text of `DIR/config.json`.
pub fn read_config(dir: &Path) -> Result<Vec<u8>> {
    read_bounded(&dir.join(CONFIG))
}

fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let shown = path.display().to_string();
    // O_NONBLOCK: a FIFO here must not hang us.
    let fd = open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK, Mode::empty())
        .at("bundle", &shown)
        .map_err(|e| e.hint("a bundle is a directory with a config.json and a root file system; `stockade spec` writes a config.json"))?;
    let stat = fstat(&fd).at("bundle", &shown)?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(Error::new("bundle", shown, "not a regular file"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0).min(MAX_CONFIG as usize) + 1);
    std::fs::File::from(fd).take(MAX_CONFIG + 1).read_to_end(&mut bytes).at("bundle", &shown)?;
    if bytes.len() as u64 > MAX_CONFIG {
        return Err(Error::new("bundle", shown, format!("larger than {} MiB", MAX_CONFIG >> 20)));
    }
    Ok(bytes)
}

/// Parses and checks one config.json. Returns what is unknown beside it. Pure, and a fuzz target.
pub fn parse(bytes: &[u8]) -> Result<(Spec, Unknown)> {
    let (spec, mut unknown): (Spec, Unknown) = read_json(bytes, "/process")?;
    validate(&spec)?;
    // oci-spec reads these at the top, where the specification never had them: nobody would act upon them.
    #[allow(deprecated)]
    let stray = [("gidMappings", spec.gid_mappings().is_some()), ("uidMappings", spec.uid_mappings().is_some())];
    unknown.fields.extend(stray.into_iter().filter(|(_, set)| *set).map(|(field, _)| field.to_owned()));
    Ok((spec, unknown))
}

/// The same for a process by itself, as `exec --process` has it.
pub fn parse_process(bytes: &[u8]) -> Result<(Process, Unknown)> {
    let parsed = read_json(bytes, "").and_then(|(process, unknown)| {
        validate_process(&process)?;
        Ok((process, unknown))
    });
    parsed.map_err(|e| Error { step: "--process".into(), ..e })
}

/// One value of JSON and nothing after it, and what is unknown in it. `process`: where in it the process is.
fn read_json<T: serde::de::DeserializeOwned>(bytes: &[u8], process: &str) -> Result<(T, Unknown)> {
    refuse_nul(refuse_foreign(bytes)?)?;
    let read = read_tracked(bytes);
    if !matches!(&read, Ok((_, fields)) if !fields.iter().any(|f| f.starts_with("linux.intelRdt.")))
        && let Some(mended) = mend::mend(bytes, process)
    {
        // Its lines are not those of the file.
        let placeless = |e: Error| Error { why: e.why.split(" at line ").next().unwrap_or_default().to_owned(), ..e };
        let (value, fields) = read_tracked(&mended.text).map_err(placeless)?;
        return Ok((value, Unknown { fields, capabilities: mended.capabilities }));
    }
    read.map(|(value, fields)| (value, Unknown { fields, capabilities: Vec::new() }))
}

fn read_tracked<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<(T, Vec<String>)> {
    json::read(bytes).map_err(|e| Error::new("config.json", e.path, json_words(&e.why)))
}

/// serde's message without the names of our types.
fn json_words(message: &str) -> String {
    let Some((what, expected)) = message.split_once(", expected ") else { return message.to_owned() };
    let (kind, place) = match expected.find(" at line ") {
        Some(at) => expected.split_at(at),
        None => (expected, ""),
    };
    let kind = match kind {
        "u8" | "u16" | "u64" | "usize" => "a whole number from 0",
        "u32" => "a whole number from 0 to 4294967295",
        "i8" | "i16" | "i32" | "i64" => "a whole number",
        "a sequence" => "a list",
        "a map" => "an object",
        kind if kind.starts_with("struct ") => "an object",
        kind => kind,
    };
    format!("{what}, expected {kind}{place}")
}

/// What is no JSON object in UTF-8, in words better than the parser's.
fn refuse_foreign(bytes: &[u8]) -> Result<&str> {
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(bad("", "begins with a byte order mark").hint("save it as UTF-8 without one"));
    }
    let text = std::str::from_utf8(bytes)
        .map_err(|e| bad("", format!("is not UTF-8: byte {} is out of place", e.valid_up_to())))?;
    match bytes.trim_ascii_start().first() {
        None | Some(b'{') => Ok(text),
        Some(_) => Err(bad("", "is not a JSON object: it does not begin with {")),
    }
}

/// A NUL can reach us only as the escape \u0000. It would silently cut the string at the next C interface.
fn refuse_nul(text: &str) -> Result<()> {
    if !text.contains("\\u0000") {
        return Ok(());
    }
    fn find(value: &serde_json::Value, path: &str) -> Option<String> {
        match value {
            serde_json::Value::String(s) if s.contains('\0') => Some(path.to_owned()),
            serde_json::Value::Array(items) => {
                items.iter().enumerate().find_map(|(i, v)| find(v, &format!("{path}[{i}]")))
            }
            serde_json::Value::Object(map) => map.iter().find_map(|(k, v)| {
                let path = if path.is_empty() { k.clone() } else { format!("{path}.{k}") };
                if k.contains('\0') { Some(path.replace('\0', "\\0")) } else { find(v, &path) }
            }),
            _ => None,
        }
    }
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| bad("", json_words(&e.to_string())))?;
    match find(&value, "") {
        Some(path) => Err(Error::new("config.json", path, "a NUL byte in a string: the kernel would cut it there")),
        None => Ok(()),
    }
}

fn find_rootfs(dir: &Path, spec: &Spec) -> Result<PathBuf> {
    let Some(root) = spec.root() else {
        return Err(Error::new("config.json", "root", "missing").hint("add \"root\": {\"path\": \"rootfs\"}"));
    };
    let path = root.path();
    if path.as_os_str().is_empty() {
        return Err(Error::new("config.json", "root.path", "empty"));
    }
    let full = dir.join(path);
    let shown = full.display().to_string();
    let fd =
        open(&full, OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()).at("root.path", &shown)?;
    let stat = fstat(&fd).at("root.path", &shown)?;
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFDIR => {}
        SFlag::S_IFLNK => {
            return Err(Error::new("root.path", shown, "is a symbolic link")
                .hint("name the directory itself: a link can be turned elsewhere between our look and our use"));
        }
        _ => return Err(Error::new("root.path", shown, "is not a directory")),
    }
    let full = full.canonicalize().at("root.path", &shown)?;
    let slash = nix::sys::stat::stat("/").at("root.path", "/")?;
    if (slash.st_dev, slash.st_ino) == (stat.st_dev, stat.st_ino) {
        return Err(Error::new("root.path", shown, "is the host's own root")
            .hint("to run a command of this host, use `stockade sandbox`"));
    }
    Ok(full)
}

fn bad(field: impl Into<String>, why: impl Into<String>) -> Error {
    Error::new("config.json", field, why)
}

fn too_many(field: &str, count: usize) -> Error {
    bad(field, format!("{count} entries; at most {MAX_LIST} are taken"))
}

/// What no policy may allow, because it has no meaning or not the meaning that its author expects.
fn validate(spec: &Spec) -> Result<()> {
    let version = spec.version();
    if version.is_empty() {
        return Err(bad("ociVersion", "missing"));
    }
    let mut parts = version.splitn(3, '.');
    let whole = parts.clone().count() == 3
        && parts.clone().take(2).all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
    if !whole || parts.next() != Some("1") {
        return Err(bad("ociVersion", format!("{version:?} is not a version 1.x.y")));
    }
    if let Some(process) = spec.process() {
        validate_process(process)?;
    }
    if let Some(name) = spec.hostname() {
        validate_hostname("hostname", name)?;
    }
    if let Some(name) = spec.domainname() {
        validate_hostname("domainname", name)?;
    }
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    if mounts.len() > MAX_MOUNTS {
        return Err(bad("mounts", format!("{} entries; at most {MAX_MOUNTS} are taken", mounts.len())));
    }
    for (i, mount) in mounts.iter().enumerate() {
        validate_path(&format!("mounts[{i}].destination"), mount.destination())?;
        for (j, option) in mount.options().iter().flatten().enumerate() {
            if option.contains('\n') {
                return Err(bad(format!("mounts[{i}].options[{j}]"), format!("{option:?} is not a mount option")));
            }
        }
        validate_mappings(&format!("mounts[{i}].uidMappings"), mount.uid_mappings().as_deref())?;
        validate_mappings(&format!("mounts[{i}].gidMappings"), mount.gid_mappings().as_deref())?;
    }
    let Some(linux) = spec.linux() else { return Ok(()) };
    let mut seen = HashSet::new();
    for (i, ns) in linux.namespaces().iter().flatten().enumerate() {
        if !seen.insert(ns.typ()) {
            return Err(bad(format!("linux.namespaces[{i}]"), format!("a second {} namespace", ns_name(ns.typ()))));
        }
        if let Some(path) = ns.path() {
            // Engines write "" for "a new one".
            if !path.as_os_str().is_empty() && !path.is_absolute() {
                return Err(bad(
                    format!("linux.namespaces[{i}].path"),
                    format!("{:?} is not an absolute path", path.display().to_string()),
                ));
            }
        }
    }
    validate_mappings("linux.uidMappings", linux.uid_mappings().as_deref())?;
    validate_mappings("linux.gidMappings", linux.gid_mappings().as_deref())?;
    if let Some(path) = linux.cgroups_path() {
        let shown = path.display().to_string();
        if shown.contains('\n') {
            return Err(bad("linux.cgroupsPath", format!("{shown:?} has a newline")));
        }
        if path.components().any(|c| c == Component::ParentDir) {
            return Err(bad("linux.cgroupsPath", format!("{shown:?} must stay below the cgroup mount: no `..`")));
        }
    }
    for (field, list) in [("maskedPaths", linux.masked_paths()), ("readonlyPaths", linux.readonly_paths())] {
        let list = list.as_deref().unwrap_or_default();
        if list.len() > MAX_LIST {
            return Err(too_many(&format!("linux.{field}"), list.len()));
        }
        for (i, path) in list.iter().enumerate() {
            if !path.starts_with('/') {
                return Err(bad(format!("linux.{field}[{i}]"), format!("{path:?} is not an absolute path")));
            }
        }
    }
    let devices = linux.devices().as_deref().unwrap_or_default();
    if devices.len() > MAX_DEVICES {
        return Err(bad("linux.devices", format!("{} entries; at most {MAX_DEVICES} are taken", devices.len())));
    }
    for (i, device) in devices.iter().enumerate() {
        validate_path(&format!("linux.devices[{i}].path"), device.path())?;
        // The kernel's dev_t has 12 bits for the major and 20 for the minor.
        for (field, number, most) in [("major", device.major(), 0xfff), ("minor", device.minor(), 0xf_ffff)] {
            if !(0..=most).contains(&number) {
                let why = format!("{number} is not a device number: 0 to {most}");
                return Err(bad(format!("linux.devices[{i}].{field}"), why));
            }
        }
    }
    Ok(())
}

/// What a process may be, whatever the policy.
pub fn validate_process(process: &Process) -> Result<()> {
    let args = process.args().as_deref().unwrap_or_default();
    match args.first() {
        None => return Err(bad("process.args", "empty: there is nothing to run")),
        Some(first) if first.is_empty() => return Err(bad("process.args[0]", "an empty string names no program")),
        _ => {}
    }
    let env = process.env().as_deref().unwrap_or_default();
    for (field, list) in [("args", args), ("env", env)] {
        if list.len() > MAX_LIST {
            return Err(too_many(&format!("process.{field}"), list.len()));
        }
        if let Some(i) = list.iter().position(|s| s.len() >= MAX_ARG) {
            return Err(bad(format!("process.{field}[{i}]"), "longer than 128 KiB, the limit of execve(2)"));
        }
    }
    for (i, entry) in env.iter().enumerate() {
        match entry.find('=') {
            Some(n) if n > 0 => {}
            _ => return Err(bad(format!("process.env[{i}]"), format!("{entry:?} is not NAME=VALUE"))),
        }
    }
    validate_path("process.cwd", process.cwd())?;
    if !process.cwd().is_absolute() {
        return Err(bad("process.cwd", format!("{:?} is not an absolute path", process.cwd().display().to_string())));
    }
    let user = process.user();
    let gids = user.additional_gids().as_deref().unwrap_or_default();
    if gids.len() > MAX_LIST {
        return Err(too_many("process.user.additionalGids", gids.len()));
    }
    let ids = [("uid".to_owned(), user.uid()), ("gid".to_owned(), user.gid())]
        .into_iter()
        .chain(gids.iter().enumerate().map(|(i, g)| (format!("additionalGids[{i}]"), *g)));
    for (field, id) in ids {
        // From 2^31 on, tools that hold ids in an int wrap; 2^32-1 is setresuid's "leave it", that is: root.
        if id >= 1 << 31 {
            return Err(bad(format!("process.user.{field}"), format!("{id} is not an id below 2147483648")));
        }
    }
    if let Some(umask) = user.umask().filter(|m| *m > 0o777) {
        return Err(bad("process.user.umask", format!("{umask} is above 511 (0777)")));
    }
    let mut seen = HashSet::new();
    for (i, limit) in process.rlimits().iter().flatten().enumerate() {
        if !seen.insert(limit.typ().to_string()) {
            return Err(bad(format!("process.rlimits[{i}]"), format!("{} is there twice", limit.typ())));
        }
        if limit.soft() > limit.hard() {
            return Err(bad(
                format!("process.rlimits[{i}]"),
                format!("{}: soft {} is above hard {}", limit.typ(), limit.soft(), limit.hard()),
            ));
        }
    }
    if let Some(adj) = process.oom_score_adj().filter(|n| !(-1000..=1000).contains(n)) {
        return Err(bad("process.oomScoreAdj", format!("{adj} is outside -1000..1000")));
    }
    Ok(())
}

/// What sethostname(2) and setdomainname(2) take.
pub fn validate_hostname(field: &str, name: &str) -> Result<()> {
    if name.len() > 64 {
        return Err(bad(field, format!("{} bytes; the kernel takes 64", name.len())));
    }
    if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return Err(bad(field, format!("{name:?} has a blank or a control character")));
    }
    Ok(())
}

fn validate_path(field: &str, path: &Path) -> Result<()> {
    let shown = path.display().to_string();
    if shown.is_empty() {
        return Err(bad(field, "empty"));
    }
    if shown.len() >= 4096 {
        return Err(bad(field, "longer than PATH_MAX (4096)"));
    }
    if shown.contains('\n') {
        return Err(bad(field, format!("{shown:?} has a newline")));
    }
    Ok(())
}

fn validate_mappings(field: &str, maps: Option<&[LinuxIdMapping]>) -> Result<()> {
    let maps = maps.unwrap_or_default();
    if maps.len() > 340 {
        return Err(bad(field, format!("{} lines; user_namespaces(7) takes 340", maps.len())));
    }
    for (i, map) in maps.iter().enumerate() {
        if map.size() == 0 {
            return Err(bad(format!("{field}[{i}].size"), "0: a map of nothing"));
        }
        for (end, start) in [("hostID", map.host_id()), ("containerID", map.container_id())] {
            if start.checked_add(map.size()).is_none() {
                return Err(bad(format!("{field}[{i}].{end}"), format!("{start} + {} is beyond 2^32", map.size())));
            }
        }
        for (j, other) in maps[..i].iter().enumerate() {
            let overlap = |a: u32, b: u32| a < b.saturating_add(other.size()) && b < a.saturating_add(map.size());
            if overlap(map.host_id(), other.host_id()) || overlap(map.container_id(), other.container_id()) {
                return Err(bad(format!("{field}[{i}]"), format!("overlaps {field}[{j}]")));
            }
        }
    }
    Ok(())
}

/// The specification's name of a namespace type.
pub fn ns_name(typ: LinuxNamespaceType) -> &'static str {
    match typ {
        LinuxNamespaceType::Mount => "mount",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "network",
        LinuxNamespaceType::Time => "time",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(json: &str) -> String {
        parse(json.as_bytes()).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn wrong_values_are_named_by_their_path() {
        let e = error(r#"{"ociVersion":"1.0.2","linux":{"namespaces":[{"type":"pid"},{"type":"moon"}]}}"#);
        assert!(e.contains("linux.namespaces[1].type") && e.contains("moon"), "{e}");
        let e = error(r#"{"ociVersion":"1.0.2","process":{"user":{"uid":-1},"cwd":"/","args":["x"]}}"#);
        assert!(e.contains("process.user.uid"), "{e}");
    }

    #[test]
    fn unknown_fields_are_noted() {
        let stray = r#"{"ociVersion":"1.0.2","uidMappings":[{"containerID":0,"hostID":0,"size":1}]}"#;
        assert_eq!(parse(stray.as_bytes()).unwrap().1.fields, ["uidMappings"]);
        let json = r#"{"ociVersion":"1.0.2","moon":1,"linux":{"stars":{"a":1}},"process":{"cwd":"/","args":["x"],"user":{},"x":[1]}}"#;
        let (_, unknown) = parse(json.as_bytes()).unwrap();
        assert_eq!(unknown.fields, ["linux.stars", "moon", "process.x"]);
    }

    #[test]
    fn a_nul_is_found_wherever_it_hides() {
        let e = error(r#"{"ociVersion":"1.0.2","annotations":{"a":"b\u0000c"}}"#);
        assert!(e.contains("annotations.a") && e.contains("NUL"), "{e}");
        // An escaped backslash before u0000 is not a NUL.
        assert!(parse(br#"{"ociVersion":"1.0.2","annotations":{"a":"b\\u0000c"}}"#).is_ok());
    }

    #[test]
    fn overlapping_maps_are_refused() {
        let e = error(
            r#"{"ociVersion":"1.0.2","linux":{"uidMappings":[{"containerID":0,"hostID":1000,"size":10},{"containerID":10,"hostID":1009,"size":1}]}}"#,
        );
        assert!(e.contains("overlaps"), "{e}");
    }
}
