//! Do: what is said to criu(8), which takes images of a running container and makes it again from them.
//!
//! `criu swrk FD` serves one request over a SEQPACKET socket and then ends: no daemon, and no command line to quote. The
//! messages are protocol buffers; the few fields that are needed are written by hand. While it works, criu tells where
//! it stands, so that a restored container can be judged before its first instruction.

use crate::error::{Context, Error, Result};
use crate::host;
use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recv, recvmsg, send, socketpair,
};
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What criu can be asked (`criu_req_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    /// Images of processes.
    Dump = 1,
    /// Processes from images.
    Restore = 2,
    /// Images of memory alone, while the processes run.
    PreDump = 4,
}

/// The answer to a notification (`criu_req_type`).
const NOTIFY: u64 = 6;

/// The environment of criu: it finds ip(8), tar(1) and the like by PATH, and nothing of the caller's configures it.
pub const ENV: [&str; 1] = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];

/// Options of a request (`criu_opts`), and everything else that has fields.
#[derive(Debug, Clone, Default)]
pub struct Fields(Vec<u8>);

impl Fields {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    /// A number, an enum or a boolean.
    pub fn number(&mut self, field: u32, value: u64) -> &mut Self {
        self.varint(u64::from(field) << 3);
        self.varint(value);
        self
    }

    /// A boolean that is said only when it is true.
    pub fn flag(&mut self, field: u32, value: bool) -> &mut Self {
        if value { self.number(field, 1) } else { self }
    }

    /// A string.
    pub fn text(&mut self, field: u32, value: &str) -> &mut Self {
        self.bytes(field, value.as_bytes())
    }

    /// A message inside.
    pub fn inner(&mut self, field: u32, inner: &Fields) -> &mut Self {
        self.bytes(field, &inner.0)
    }

    fn bytes(&mut self, field: u32, value: &[u8]) -> &mut Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }
}

/// A field as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message; none where it is no message.
fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Value<'_>)>> {
    fn varint(bytes: &mut &[u8]) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let (first, rest) = bytes.split_first()?;
            *bytes = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let value = match key & 7 {
            0 => Value::Number(varint(&mut bytes)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(length)?;
                bytes = rest;
                Value::Bytes(value)
            }
            _ => return None,
        };
        found.push((key >> 3, value));
    }
    Some(found)
}

/// What criu says (`criu_resp`).
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    kind: u64,
    success: bool,
    pid: Option<i32>,
    script: Option<String>,
    errno: Option<i32>,
    message: Option<String>,
}

fn said(bytes: &[u8]) -> Option<Said> {
    let mut all = Said::default();
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    for (field, value) in fields(bytes)? {
        match (field, value) {
            (1, Value::Number(n)) => all.kind = n,
            (2, Value::Number(n)) => all.success = n != 0,
            // criu_restore_resp
            (4, Value::Bytes(inner)) => {
                for (field, value) in fields(inner)? {
                    if let (1, Value::Number(n)) = (field, value) {
                        all.pid = i32::try_from(n).ok();
                    }
                }
            }
            // criu_notify
            (5, Value::Bytes(inner)) => {
                for (field, value) in fields(inner)? {
                    match (field, value) {
                        (1, Value::Bytes(name)) => all.script = Some(text(name)),
                        (2, Value::Number(n)) => all.pid = i32::try_from(n).ok(),
                        _ => {}
                    }
                }
            }
            (7, Value::Number(n)) => all.errno = i32::try_from(n).ok(),
            (9, Value::Bytes(message)) => all.message = Some(text(message)),
            _ => {}
        }
    }
    Some(all)
}

/// A place where criu stands.
#[derive(Debug)]
pub struct Stand {
    /// `setup-namespaces`, `pre-resume` and so on.
    pub place: String,
    /// The pid of the container's init, where criu says it.
    pub pid: Option<i32>,
    /// A descriptor that came along.
    pub fd: Option<OwnedFd>,
}

/// Our end of the talk.
#[derive(Debug)]
pub struct Talk(OwnedFd);

impl Talk {
    /// Our end, and criu's, which is open across an execve. criu takes the numbers of descriptors in a request as those
    /// of the process that made the socket: of us.
    pub fn pair() -> Result<(Talk, OwnedFd)> {
        let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .at("criu", "socketpair")?;
        // dup(2) leaves close-on-exec out.
        let theirs = nix::unistd::dup(&theirs).at("criu", "dup")?;
        Ok((Talk(ours), theirs))
    }

    /// Asks and waits for the answer: the pid of a restored init. `on` hears each place where criu stands; its error
    /// ends the work.
    pub fn ask(&self, ask: Ask, options: &Fields, mut on: impl FnMut(Stand) -> Result<()>) -> Result<Option<i32>> {
        let mut request = Fields::default();
        request.number(1, ask as u64).inner(2, options);
        self.send(&request)?;
        let mut failure = None;
        loop {
            let Some((said, fd)) = self.receive()? else {
                return Err(failure.unwrap_or_else(|| Error::new("criu", "", "ended without an answer")));
            };
            if said.kind != NOTIFY {
                if let Some(e) = failure {
                    return Err(e);
                }
                if said.success {
                    return Ok(said.pid);
                }
                let mut e = Error::new("criu", "", said.message.unwrap_or_default());
                e.errno = said.errno.filter(|n| *n > 0);
                return Err(e);
            }
            let stand = Stand { place: said.script.unwrap_or_default(), pid: said.pid, fd };
            // After a failure it is only waited for: criu cleans up.
            let done = if failure.is_some() { Ok(()) } else { on(stand) };
            let mut answer = Fields::default();
            answer.number(1, NOTIFY).number(3, u64::from(done.is_ok() && failure.is_none()));
            failure = failure.or(done.err());
            // A criu that ends at our refusal does not take its reason along.
            if let Err(e) = self.send(&answer) {
                return Err(failure.unwrap_or(e));
            }
        }
    }

    fn send(&self, message: &Fields) -> Result<()> {
        match send(self.0.as_raw_fd(), &message.0, MsgFlags::MSG_NOSIGNAL) {
            Ok(_) => Ok(()),
            Err(Errno::EPIPE | Errno::ECONNRESET) => Err(Error::new("criu", "", "ended before it was asked")),
            Err(e) => Err(Error::os("criu", "send", e)),
        }
    }

    fn receive(&self) -> Result<Option<(Said, Option<OwnedFd>)>> {
        let mut one = [0u8; 1];
        let length = loop {
            match recv(self.0.as_raw_fd(), &mut one, MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC) {
                Ok(0) | Err(Errno::ECONNRESET) => return Ok(None),
                Ok(n) => break n.min(1 << 20),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(Error::os("criu", "receive", e)),
            }
        };
        let mut bytes = vec![0u8; length];
        let mut control = cmsg_space!([RawFd; 1]);
        let mut buffer = [IoSliceMut::new(&mut bytes)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let message =
            recvmsg::<UnixAddr>(self.0.as_raw_fd(), &mut buffer, Some(&mut control), flags).at("criu", "receive")?;
        let mut fd = None;
        for part in message.cmsgs().at("criu", "receive")? {
            if let ControlMessageOwned::ScmRights(list) = part {
                fd = list.into_iter().map(crate::sys::adopt).next().or(fd);
            }
        }
        match said(&bytes) {
            Some(said) => Ok(Some((said, fd))),
            None => Err(Error::new("criu", "", "said something that is no message")),
        }
    }
}

/// Where criu is: `--criu`, a name or a path.
pub fn find(criu: &Path) -> Result<PathBuf> {
    let found = if criu.components().count() > 1 {
        nix::unistd::access(criu, nix::unistd::AccessFlags::X_OK).is_ok().then(|| criu.to_owned())
    } else {
        host::find_program(&criu.to_string_lossy())
    };
    found.ok_or_else(|| {
        Error::new("criu", criu.display().to_string(), "is not installed, and nothing can be checkpointed without it")
            .hint("on Debian: apt-get install criu; or name it with --criu")
    })
}

/// Whether this criu works on this kernel: callers take `checkpoint --help` for the answer.
pub fn check(criu: &Path) -> Result<()> {
    let criu = find(criu)?;
    let shown = criu.display().to_string();
    let out = Command::new(&criu)
        .args(["check", "-v1"])
        .env_clear()
        .envs(ENV.iter().filter_map(|e| e.split_once('=')))
        .stdin(Stdio::null())
        .output()
        .at("criu", &shown)?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    // "(criu/vdso.c:381): vdso: ..." comes first; what follows is its consequence, and "exited" is of its helpers.
    let line = said.lines().find(|l| l.contains("Error") && !l.contains("exited, status")).unwrap_or("it says no");
    Err(Error::new("criu", shown, format!("does not work on this kernel: {}", line.trim()))
        .hint("criu check says more; a newer criu may know this kernel"))
}

/// The first error in criu's own log, whose consequences the others are: its answer is often no more than "no".
pub fn first_error(log: &Path) -> Option<String> {
    // What it tries and can do without: helper programs, tun devices.
    const NOISE: [&str; 4] = ["criu/util.c", "criu/tun.c", "criu/kerndat.c", "FAILED"];
    let text = host::read_small(log, 64 << 20).ok()?;
    let line = text.lines().find(|l| l.contains("Error (") && !NOISE.iter().any(|n| l.contains(n)))?;
    let at = line.find("Error (")?;
    Some(line[at..].split_once("): ").map_or(line, |(_, what)| what).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_as_protocol_buffers_write_them() {
        let mut inner = Fields::default();
        inner.text(1, "key").number(2, 300);
        let mut all = Fields::default();
        all.number(1, 2).flag(3, true).flag(4, false).inner(23, &inner).text(100, "x");
        assert_eq!(
            all.0,
            [&[0x08, 2, 0x18, 1, 0xba, 1, 8, 0x0a, 3][..], b"key", &[0x10, 0xac, 2, 0xa2, 6, 1], b"x"].concat()
        );
        let read = fields(&all.0).unwrap();
        assert_eq!(read[0], (1, Value::Number(2)));
        assert_eq!(read[3], (100, Value::Bytes(b"x")));
    }

    #[test]
    fn answers_are_read_and_rubbish_is_none() {
        let mut notify = Fields::default();
        notify.text(1, "pre-resume").number(2, 4711);
        let mut all = Fields::default();
        all.number(1, NOTIFY).number(2, 1).inner(5, &notify);
        let read = said(&all.0).unwrap();
        assert_eq!((read.kind, read.success, read.pid), (NOTIFY, true, Some(4711)));
        assert_eq!(read.script.as_deref(), Some("pre-resume"));
        for cut in 1..all.0.len() {
            let _ = said(&all.0[..cut]);
        }
        for rubbish in [&[0x80][..], &[0x0a, 200, 1], &[0x0b], &[0xff; 12]] {
            assert_eq!(fields(rubbish), None);
        }
    }
}
