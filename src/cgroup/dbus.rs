//! Do: asks systemd for a scope, over D-Bus (feature `systemd`).
//!
//! A client for exactly that: one connection, opened after the clone and closed before the child goes on, five methods,
//! one signal. Written here and not taken from a crate because all of those bring threads or an async runtime, and this
//! process clones. Specification: dbus.freedesktop.org, D-Bus 1.0, little-endian; org.freedesktop.systemd1(5).

use super::systemd::{Scope, Value};
use crate::error::{Context, Error, Result};
use crate::host::uid_outside;
use nix::errno::Errno;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long systemd may take for a job.
const WITHIN: Duration = Duration::from_secs(90);
/// The largest message that we read.
const MAX_MESSAGE: usize = 1 << 20;

impl Scope {
    /// Makes the scope around a process and waits until systemd has moved it there.
    pub fn start(&self, pid: i32, launch: &str, properties: &[(String, Value)]) -> Result<()> {
        let mut bus = Bus::connect(self.user)?;
        let mut all: Vec<(String, Value)> = vec![
            ("Description".into(), Value::Text(description(launch))),
            ("Slice".into(), Value::Text(self.slice.clone())),
            ("Delegate".into(), Value::Bool(true)),
            ("DefaultDependencies".into(), Value::Bool(false)),
            ("PIDs".into(), Value::Pids(vec![pid.cast_unsigned()])),
        ];
        for name in ["CPUAccounting", "MemoryAccounting", "TasksAccounting", "IOAccounting"] {
            all.push((name.into(), Value::Bool(true)));
        }
        all.extend(properties.iter().cloned());
        bus.subscribe()?;
        let mut body = Body::default();
        body.string(&self.unit);
        body.string("fail");
        body.properties(&all);
        // No auxiliary units: an empty array of structs.
        body.array(8, |_| {});
        let job = bus.call("StartTransientUnit", "ssa(sv)a(sa(sv))", &body, &self.unit)?;
        let job = Reader::new(&job).string().unwrap_or_default();
        bus.wait_for_job(&job, &self.unit)
    }

    /// Changes properties of the running scope, until the next boot.
    pub fn set(&self, properties: &[(String, Value)]) -> Result<()> {
        if properties.is_empty() {
            return Ok(());
        }
        let mut body = Body::default();
        body.string(&self.unit);
        body.boolean(true);
        body.properties(properties);
        Bus::connect(self.user)?.call("SetUnitProperties", "sba(sv)", &body, &self.unit).map(drop)
    }

    /// Moves a process of this user into the scope, or into the cgroup `below` it (`/sub`, empty for the scope itself).
    /// A user cannot write to the common ancestor of its session and its manager; the manager can, and asks only that
    /// the process belongs to the same user.
    pub fn attach(&self, pid: i32, below: &str) -> Result<()> {
        let mut body = Body::default();
        body.string(&self.unit);
        body.string(below);
        body.array(4, |b| b.u32(pid.cast_unsigned()));
        let subject = format!("{}{below}", self.unit);
        Bus::connect(self.user)?.call("AttachProcessesToUnit", "ssau", &body, &subject).map(drop)
    }

    /// Stops the scope of this launch. One that is gone already is no error, and a unit of this name that another made
    /// is none of ours: names are global, so `system.slice::session-1` is somebody's login.
    pub fn stop(&self, launch: &str) -> Result<()> {
        let mut bus = Bus::connect(self.user)?;
        if bus.description(&self.unit)?.is_none_or(|d| d != description(launch)) {
            return Ok(());
        }
        bus.subscribe()?;
        let mut body = Body::default();
        body.string(&self.unit);
        body.string("replace");
        match bus.call("StopUnit", "ss", &body, &self.unit) {
            Ok(job) => {
                let job = Reader::new(&job).string().unwrap_or_default();
                bus.wait_for_job(&job, &self.unit)?;
            }
            Err(e) if gone(&e) => {}
            Err(e) => return Err(e),
        }
        // A scope whose processes were killed stays as "failed" until somebody looks.
        let mut body = Body::default();
        body.string(&self.unit);
        match bus.call("ResetFailedUnit", "s", &body, &self.unit) {
            Err(e) if !gone(&e) => Err(e),
            _ => Ok(()),
        }
    }
}

/// The body of a message being written. Alignment is from the start of the body, which itself is aligned to 8.
#[derive(Default)]
struct Body(Vec<u8>);

impl Body {
    fn align(&mut self, to: usize) {
        while !self.0.len().is_multiple_of(to) {
            self.0.push(0);
        }
    }

    fn u32(&mut self, n: u32) {
        self.align(4);
        self.0.extend(n.to_le_bytes());
    }

    fn boolean(&mut self, b: bool) {
        self.u32(u32::from(b));
    }

    fn string(&mut self, s: &str) {
        self.u32(s.len() as u32);
        self.0.extend(s.as_bytes());
        self.0.push(0);
    }

    fn signature(&mut self, s: &str) {
        self.0.push(s.len() as u8);
        self.0.extend(s.as_bytes());
        self.0.push(0);
    }

    /// An array whose elements are aligned to `to`; its length does not count the padding before the first.
    fn array(&mut self, to: usize, fill: impl FnOnce(&mut Body)) {
        self.u32(0);
        let at = self.0.len() - 4;
        self.align(to);
        let start = self.0.len();
        fill(self);
        let length = (self.0.len() - start) as u32;
        self.0[at..at + 4].copy_from_slice(&length.to_le_bytes());
    }

    fn properties(&mut self, list: &[(String, Value)]) {
        self.array(8, |body| {
            for (name, value) in list {
                body.align(8);
                body.string(name);
                match value {
                    Value::Bool(b) => {
                        body.signature("b");
                        body.boolean(*b);
                    }
                    Value::Number(n) => {
                        body.signature("t");
                        body.align(8);
                        body.0.extend(n.to_le_bytes());
                    }
                    Value::Text(s) => {
                        body.signature("s");
                        body.string(s);
                    }
                    Value::Names(names) => {
                        body.signature("as");
                        body.array(4, |b| names.iter().for_each(|n| b.string(n)));
                    }
                    Value::Pids(pids) => {
                        body.signature("au");
                        body.array(4, |b| pids.iter().for_each(|p| b.u32(*p)));
                    }
                    Value::Mask(bytes) => {
                        body.signature("ay");
                        body.array(1, |b| b.0.extend(bytes));
                    }
                }
            }
        });
    }
}

/// Reads what we need of a message: strings and numbers in order.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, at: 0 }
    }

    fn align(&mut self, to: usize) {
        self.at = self.at.next_multiple_of(to);
    }

    fn u32(&mut self) -> Option<u32> {
        self.align(4);
        let word = self.bytes.get(self.at..self.at + 4)?;
        self.at += 4;
        Some(u32::from_le_bytes(word.try_into().ok()?))
    }

    fn string(&mut self) -> Option<String> {
        let length = self.u32()? as usize;
        let text = self.bytes.get(self.at..self.at.checked_add(length)?)?;
        self.at += length + 1;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    /// A string behind a signature of one letter, as in a header field.
    fn short(&mut self) -> Option<String> {
        let length = *self.bytes.get(self.at)? as usize;
        let text = self.bytes.get(self.at + 1..self.at + 1 + length)?;
        self.at += length + 2;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

/// What came: its kind, the serial that it answers, the member or the error's name, and its body.
#[derive(Debug, Default)]
struct Message {
    kind: u8,
    answers: u32,
    name: String,
    body: Vec<u8>,
}

const CALL: u8 = 1;
const ANSWER: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;

const BUS: &str = "org.freedesktop.DBus";
const SYSTEMD: &str = "org.freedesktop.systemd1";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// What a scope says of itself: which launch made it.
fn description(launch: &str) -> String {
    format!("stockade container {launch}")
}

fn gone(e: &Error) -> bool {
    e.why.contains("NoSuchUnit") || e.why.contains("not loaded")
}

struct Bus {
    stream: UnixStream,
    serial: u32,
    early: Vec<Message>,
}

impl Bus {
    fn connect(user: bool) -> Result<Bus> {
        let path = if user { user_bus()? } else { "/run/dbus/system_bus_socket".to_owned() };
        let stream = UnixStream::connect(&path).at("systemd", &path).map_err(|e| {
            e.hint("--systemd-cgroup needs systemd and its D-Bus (package dbus); without them use the cgroupfs driver")
        })?;
        stream.set_read_timeout(Some(WITHIN)).at("systemd", &path)?;
        stream.set_write_timeout(Some(WITHIN)).at("systemd", &path)?;
        let mut bus = Bus { stream, serial: 0, early: Vec::new() };
        bus.authenticate(&path)?;
        bus.invoke(BUS, "/org/freedesktop/DBus", BUS, "Hello", "", &Body::default(), "")?;
        Ok(bus)
    }

    /// SASL EXTERNAL: the socket's credentials are proof enough, we only name our uid.
    fn authenticate(&mut self, path: &str) -> Result<()> {
        let uid: String = uid_outside()?.to_string().bytes().map(|b| format!("{b:02x}")).collect();
        self.stream.write_all(format!("\0AUTH EXTERNAL {uid}\r\n").as_bytes()).at("systemd", path)?;
        let mut line = Vec::new();
        let mut byte = [0u8];
        while !line.ends_with(b"\r\n") && line.len() < 512 {
            self.stream.read_exact(&mut byte).at("systemd", path)?;
            line.push(byte[0]);
        }
        if !line.starts_with(b"OK ") {
            return Err(Error::new(
                "systemd",
                path,
                format!("the bus refused us: {}", String::from_utf8_lossy(&line).trim()),
            ));
        }
        self.stream.write_all(b"BEGIN\r\n").at("systemd", path)
    }

    /// A method of systemd's manager.
    fn call(&mut self, method: &str, signature: &str, body: &Body, subject: &str) -> Result<Vec<u8>> {
        self.invoke(SYSTEMD, "/org/freedesktop/systemd1", MANAGER, method, signature, body, subject)
    }

    #[expect(clippy::too_many_arguments, reason = "they are the header of a D-Bus message")]
    fn invoke(
        &mut self,
        to: &str,
        path: &str,
        interface: &str,
        method: &str,
        signature: &str,
        body: &Body,
        subject: &str,
    ) -> Result<Vec<u8>> {
        self.serial += 1;
        let message = encode(self.serial, to, path, interface, method, signature, &body.0);
        self.stream.write_all(&message).at("systemd", method)?;
        loop {
            let message = self.read()?;
            match message.kind {
                ANSWER if message.answers == self.serial => return Ok(message.body),
                ERROR if message.answers == self.serial => {
                    let text = Reader::new(&message.body).string().unwrap_or_default();
                    let e = Error::new("systemd", format!("{method} {subject}"), format!("{}: {text}", message.name));
                    return Err(match message.name.rsplit('.').next() {
                        Some("UnitExists") => {
                            e.hint("another container has this unit: delete it, or choose another cgroupsPath")
                        }
                        Some("AccessDenied" | "InteractiveAuthorizationRequired") => {
                            e.hint("as an ordinary user, the user's own manager must run: loginctl enable-linger")
                        }
                        _ => e,
                    });
                }
                SIGNAL => self.early.push(message),
                _ => {}
            }
        }
    }

    /// The description of a unit; none where there is no such unit.
    fn description(&mut self, unit: &str) -> Result<Option<String>> {
        let mut body = Body::default();
        body.string(unit);
        let path = match self.call("GetUnit", "s", &body, unit) {
            Ok(body) => Reader::new(&body).string().unwrap_or_default(),
            Err(e) if gone(&e) => return Ok(None),
            Err(e) => return Err(e),
        };
        let mut body = Body::default();
        body.string(&format!("{SYSTEMD}.Unit"));
        body.string("Description");
        match self.invoke(SYSTEMD, &path, PROPERTIES, "Get", "ss", &body, unit) {
            Ok(body) => {
                let mut reader = Reader::new(&body);
                let text = reader.short().and_then(|_| reader.string());
                Ok(text)
            }
            Err(e) if gone(&e) || e.why.contains("UnknownObject") => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Job signals come only to those who asked, before the job begins.
    fn subscribe(&mut self) -> Result<()> {
        let mut rule = Body::default();
        rule.string(&format!("type='signal',interface='{MANAGER}',member='JobRemoved'"));
        self.invoke(BUS, "/org/freedesktop/DBus", BUS, "AddMatch", "s", &rule, "JobRemoved")?;
        self.call("Subscribe", "", &Body::default(), "").map(drop)
    }

    fn wait_for_job(&mut self, job: &str, unit: &str) -> Result<()> {
        let mut early = std::mem::take(&mut self.early).into_iter();
        loop {
            let message = match early.next() {
                Some(message) => message,
                None => self.read()?,
            };
            if message.kind != SIGNAL || message.name != "JobRemoved" {
                continue;
            }
            let mut reader = Reader::new(&message.body);
            let (_, path, _, result) = (reader.u32(), reader.string(), reader.string(), reader.string());
            if path.as_deref() != Some(job) {
                continue;
            }
            return match result.as_deref() {
                Some("done") => Ok(()),
                other => Err(Error::new("systemd", unit, format!("its job ended as {}", other.unwrap_or("nothing")))
                    .hint("journalctl -u UNIT says more")),
            };
        }
    }

    fn take(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.stream.read_exact(bytes).at("systemd", "answer").map_err(|e| match e.errno() {
            Some(Errno::EAGAIN) => {
                Error::os("systemd", format!("answer, within {} s", WITHIN.as_secs()), Errno::ETIMEDOUT)
                    .hint("systemd or its bus is busy or hangs: systemctl status says more")
            }
            _ => e,
        })
    }

    fn read(&mut self) -> Result<Message> {
        let mut head = [0u8; 16];
        self.take(&mut head)?;
        if head[0] != b'l' {
            return Err(Error::new("systemd", "answer", "not little-endian D-Bus"));
        }
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
        let (body, fields) = (word(4), word(12).next_multiple_of(8));
        if body > MAX_MESSAGE || fields > MAX_MESSAGE {
            return Err(Error::new("systemd", "answer", "message too large"));
        }
        let mut rest = vec![0u8; fields + body];
        self.take(&mut rest)?;
        let mut message = Message { kind: head[1], body: rest[fields..].to_vec(), ..Message::default() };
        let mut reader = Reader::new(&rest[..word(12)]);
        while reader.at < word(12) {
            reader.align(8);
            let Some(code) = reader.bytes.get(reader.at).copied() else { break };
            reader.at += 1;
            let Some(signature) = reader.short() else { break };
            match (code, signature.as_str()) {
                (3 | 4, "s") => message.name = reader.string().unwrap_or_default(),
                (5, "u") => message.answers = reader.u32().unwrap_or_default(),
                (_, "s" | "o") => drop(reader.string()),
                (_, "g") => drop(reader.short()),
                (_, "u") => drop(reader.u32()),
                _ => break,
            }
        }
        Ok(message)
    }
}

fn encode(serial: u32, to: &str, path: &str, interface: &str, method: &str, signature: &str, body: &[u8]) -> Vec<u8> {
    let mut message = Body(vec![b'l', CALL, 0, 1]);
    message.u32(body.len() as u32);
    message.u32(serial);
    message.array(8, |fields| {
        for (code, kind, text) in
            [(1u8, "o", path), (2, "s", interface), (3, "s", method), (6, "s", to), (8, "g", signature)]
        {
            if code == 8 && text.is_empty() {
                continue;
            }
            fields.align(8);
            fields.0.push(code);
            fields.signature(kind);
            if kind == "g" { fields.signature(text) } else { fields.string(text) }
        }
    });
    message.align(8);
    message.0.extend(body);
    message.0
}

/// The socket of the user's own bus.
fn user_bus() -> Result<String> {
    let named = std::env::var("DBUS_SESSION_BUS_ADDRESS").ok();
    let path = named.as_deref().and_then(|a| a.split(';').find_map(|a| a.strip_prefix("unix:path=")));
    if let Some(path) = path {
        return Ok(path.split(',').next().unwrap_or(path).to_owned());
    }
    match std::env::var("XDG_RUNTIME_DIR") {
        Ok(dir) if !dir.is_empty() => Ok(format!("{dir}/bus")),
        _ => Err(Error::new("systemd", "XDG_RUNTIME_DIR", "not set: the user's bus cannot be found")
            .hint("log in through PAM, or loginctl enable-linger and set XDG_RUNTIME_DIR=/run/user/UID")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_that_says_nothing_is_an_error_in_words() {
        let (stream, _silent) = UnixStream::pair().unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        let e = Bus { stream, serial: 0, early: Vec::new() }.read().err().unwrap().to_string();
        assert!(e.contains("within 90 s") && e.contains("ETIMEDOUT"), "{e}");
    }

    #[test]
    fn messages_are_aligned_as_the_specification_says() {
        let mut body = Body::default();
        body.string("ab");
        body.properties(&[("X".to_owned(), Value::Number(5))]);
        // "ab": length, bytes, NUL (7), padded to 8; array length, aligned to 8; name; signature; value aligned to 8.
        assert_eq!(body.0[..8], [2, 0, 0, 0, b'a', b'b', 0, 0]);
        assert_eq!(body.0[8..12], 24u32.to_le_bytes()[..]);
        assert_eq!(body.0.len(), 16 + 24);
        let message = encode(1, "a.b", "/", "i.f", "M", "s", &body.0);
        assert_eq!(message.len() % 8, 0);
        assert_eq!(message[..4], [b'l', CALL, 0, 1]);
        let mut reader = Reader::new(&body.0);
        assert_eq!(reader.string().as_deref(), Some("ab"));
        assert_eq!(reader.u32(), Some(24));
    }

    #[test]
    fn a_torn_message_is_no_string() {
        assert_eq!(Reader::new(&[255, 255, 255, 255, 1]).string(), None);
        assert_eq!(Reader::new(&[5, 0, 0]).string(), None);
    }
}
