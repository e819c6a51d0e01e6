//! Do: the users of the image, by a reader of our own.
//!
//! A static libc must never load NSS, and the image is hostile: its passwd may be a FIFO, a device, a directory or a
//! gigabyte, and answers nothing then (`read_small`). What looks like a number is one, whatever passwd says of it
//! (CVE-2016-3697).

use crate::error::{Error, Result};
use crate::host::read_small;

/// A user, found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its uid.
    pub uid: u32,
    /// Its group, or the one that was asked for.
    pub gid: u32,
    /// The groups that list it, without that one.
    pub groups: Vec<u32>,
}

/// The most that is read of passwd and of group.
const MOST: u64 = 1 << 20;

/// An id in digits. 2^32-1 would mean "leave it" to setresuid(2), that is: root; and above 2^31 ids wrap elsewhere.
fn id(text: &str) -> Option<u32> {
    // A sign is no digit, though `parse` takes a plus.
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|n| digits && *n < 1 << 31)
}

/// What is meant as a number: the image says nothing of it, not even where it is too large to be an id.
fn numeric(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

fn records(path: &str) -> String {
    read_small(path, MOST).unwrap_or_default()
}

/// The home of a uid.
pub(super) fn home(uid: u32) -> Option<String> {
    home_in(&records("/etc/passwd"), uid)
}

/// The home of a uid in such a passwd.
pub fn home_in(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let home = fields.get(5).filter(|h| h.starts_with('/') && !h.contains('\0'))?;
        (id(fields.get(2)?)? == uid).then(|| (*home).to_owned())
    })
}

/// `NAME[:GROUP]`, where a GROUP is a name or a number.
pub(super) fn look_up(text: &str) -> Result<User> {
    find(text, &records("/etc/passwd"), &records("/etc/group"))
}

/// `NAME[:GROUP]` in such a passwd and such a group.
pub fn find(text: &str, passwd: &str, group: &str) -> Result<User> {
    let (name, wanted) = text.split_once(':').map_or((text, None), |(n, g)| (n, Some(g)));
    let unknown = |what: &str, file: &str| {
        Err(Error::new("--user", text, format!("no such {what} in the container's {file}"))
            .hint("numbers always work: UID[:GID]"))
    };
    let (uid, own) = match id(name) {
        Some(uid) => (uid, of_uid(passwd, uid).unwrap_or(0)),
        None => match of_name(passwd, name).filter(|_| !numeric(name)) {
            Some(ids) => ids,
            None => return unknown("user", "/etc/passwd"),
        },
    };
    if let Some(wanted) = wanted {
        let gid = match id(wanted) {
            Some(gid) => Some(gid),
            None => groups(group).find(|(n, ..)| *n == wanted && !numeric(wanted)).map(|(_, gid, _)| gid),
        };
        // As with docker: who names a group gets that group alone.
        return match gid {
            Some(gid) => Ok(User { uid, gid, groups: Vec::new() }),
            None => unknown("group", "/etc/group"),
        };
    }
    // Who is a number has no name, so no group lists it.
    let listed = |members: &str| id(name).is_none() && members.split(',').any(|m| m == name);
    let groups = groups(group).filter(|(_, _, members)| listed(members)).map(|(_, g, _)| g);
    Ok(User { uid, gid: own, groups: groups.filter(|g| *g != own).collect() })
}

fn of_name(passwd: &str, name: &str) -> Option<(u32, u32)> {
    // Nobody is called "", whatever the image says.
    let line = passwd.lines().find(|line| !name.is_empty() && line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((id(fields.next()?)?, id(fields.next()?)?))
}

fn of_uid(passwd: &str, uid: u32) -> Option<u32> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':').skip(2);
        (id(fields.next()?)? == uid).then(|| id(fields.next()?)).flatten()
    })
}

fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _, gid) = (fields.next()?, fields.next()?, id(fields.next()?)?);
        Some((name, gid, fields.next().unwrap_or("")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nbroken\n5:x:7:7::/:\n:x:8:8::/:\nann:x:1000:1001:Ann:/home/ann:/bin/sh\n\
        minus:x:4294967295:0::/:\nplus:x:+3:0::/:\n";
    const GROUP: &str = "root:x:0:\nstaff:x:50:ann,bob\nann:x:1001:ann\nbroken:x:\nmany:x:60:bob,ann,5\n";

    fn user(uid: u32, gid: u32, groups: &[u32]) -> User {
        User { uid, gid, groups: groups.to_vec() }
    }

    #[test]
    fn names_are_found_with_their_groups() {
        assert_eq!(find("ann", PASSWD, GROUP).unwrap(), user(1000, 1001, &[50, 60]));
        assert_eq!(find("ann:staff", PASSWD, GROUP).unwrap(), user(1000, 50, &[]));
        assert_eq!(find("ann:7", PASSWD, GROUP).unwrap(), user(1000, 7, &[]));
        assert_eq!(find("7:staff", PASSWD, GROUP).unwrap(), user(7, 50, &[]));
    }

    #[test]
    fn a_number_is_never_a_name() {
        // The image has a user called 5 with the uid 7.
        assert_eq!(find("5:0", PASSWD, GROUP).unwrap(), user(5, 0, &[]));
        // And a group that lists 5.
        assert_eq!(find("5", PASSWD, GROUP).unwrap(), user(5, 0, &[]));
        // Nor where it is none of those that an id can be.
        let passwd = "4294967295:x:0:0::/:\n4294967296:x:0:0::/:\n-1:x:0:0::/:\n+5:x:0:0::/:\n";
        for text in ["4294967295", "4294967296", "-1", "+5", "0:4294967295", "0:-1"] {
            assert!(find(text, passwd, "4294967295:x:0:\n-1:x:0:\n").is_err(), "{text}");
        }
    }

    #[test]
    fn who_is_not_there_is_said() {
        for (text, file) in [
            ("eve", "/etc/passwd"),
            ("ann:nobody", "/etc/group"),
            ("", "/etc/passwd"),
            ("broken", "/etc/passwd"),
            ("minus", "/etc/passwd"),
            ("plus", "/etc/passwd"),
            ("+5", "/etc/passwd"),
            ("4294967295", "/etc/passwd"),
        ] {
            let e = find(text, PASSWD, GROUP).unwrap_err().to_string();
            assert!(e.contains(file), "{text}: {e}");
        }
    }
}
