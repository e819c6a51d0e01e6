//! Read: the mounts that a process sees, as proc_pid_mountinfo(5) has them.

use crate::error::Result;
use crate::host::read_small;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A line of mountinfo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Its number.
    pub id: u64,
    /// `major:minor` of its file system.
    pub device: String,
    /// Which part of the file system it shows.
    pub root: PathBuf,
    /// Where it is.
    pub point: PathBuf,
    /// The type of its file system.
    pub fstype: String,
    /// Its own flags, not those of the file system.
    pub options: Vec<String>,
    /// The group of mounts that mounts on it travel to, and from.
    pub shared: Option<u64>,
    /// The group that it follows.
    pub master: Option<u64>,
}

impl Mount {
    /// Whether nothing can be written through it.
    pub fn readonly(&self) -> bool {
        self.options.iter().any(|o| o == "ro")
    }
}

/// The mounts that a process sees, in the order in which they were made.
pub fn of(pid: &str) -> Result<Vec<Mount>> {
    Ok(parse(&read_small(format!("/proc/{pid}/mountinfo"), 16 << 20)?))
}

fn parse(text: &str) -> Vec<Mount> {
    text.lines()
        .filter_map(|line| {
            let mut parts = line.split(' ');
            let (id, device) = (parts.next()?.parse().ok()?, parts.nth(1)?.to_owned());
            let (root, point) = (plain(parts.next()?), plain(parts.next()?));
            let options = parts.next()?.split(',').map(str::to_owned).collect();
            // Optional fields come between, as many as there are.
            let optional: Vec<&str> = parts.by_ref().take_while(|p| *p != "-").collect();
            let group = |tag: &str| optional.iter().find_map(|o| o.strip_prefix(tag)?.parse().ok());
            let fstype = parts.next()?.to_owned();
            Some(Mount { id, device, root, point, fstype, options, shared: group("shared:"), master: group("master:") })
        })
        .collect()
}

/// `\040` is a blank.
fn plain(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 4).and_then(|d| std::str::from_utf8(d).ok());
        match code.filter(|_| bytes[at] == b'\\').and_then(|d| u8::from_str_radix(d, 8).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 4;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    OsString::from_vec(out).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart() {
        let text = "58 39 254:32 /b /with\\040blank ro,nosuid,idmapped shared:1 - ext4 /dev/vdc rw\nrubbish\n";
        let mounts = parse(text);
        assert_eq!(mounts.len(), 1);
        assert_eq!((mounts[0].id, mounts[0].device.as_str()), (58, "254:32"));
        assert_eq!(mounts[0].point, PathBuf::from("/with blank"));
        assert_eq!((mounts[0].root.as_path(), mounts[0].shared, mounts[0].master), ("/b".as_ref(), Some(1), None));
        assert_eq!(mounts[0].fstype, "ext4");
        assert_eq!(mounts[0].options, ["ro", "nosuid", "idmapped"]);
    }
}
