//! Do: what parent and child say to each other.
//!
//! One SEQPACKET socketpair: a message is a tag, a payload, and descriptors. Both ends are close-on-exec, so the end of
//! the stream tells the parent that the workload has been executed, and tells the child that the runtime is gone.

use crate::console::Signals;
use crate::error::{Context, Error, Result};
use crate::{json, sys};
use nix::cmsg_space;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, recvmsg, sendmsg,
    socketpair,
};
use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Mutex;

/// What a message is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Tag {
    /// Parent: maps and mounts are made; the payload lists the slots of the descriptors that come along.
    Go = 1,
    /// Child: the master of the container's terminal.
    Console = 2,
    /// Child: everything is in place; the payload is what it found on the way.
    Ready = 3,
    /// Parent: the state is written, the container exists.
    Commit = 4,
    /// Child: it no longer dies with the runtime.
    Committed = 5,
    /// Parent of a foreground run: start.
    Start = 6,
    /// Child: it failed; the payload is the error.
    Failed = 7,
    /// The bridge of an exec: the child is inside; the payload is its pid, and its pidfd comes along.
    Entered = 8,
    /// Child: the container is built, and its hooks may run.
    Built = 9,
    /// Parent: they have run.
    Hooked = 10,
    /// Child: it did steps, where somebody looks on; the payload says which, and whether it waits. It may come before any
    /// other message of the child.
    Steps = 11,
    /// Parent: that is told, or you are known, go on.
    Next = 12,
    /// The stub, in place of the child that was Ready: it waits for the commit.
    Settled = 13,
}

impl Tag {
    fn from(byte: u8) -> Option<Tag> {
        use Tag::{Built, Commit, Committed, Console, Entered, Failed, Go, Hooked, Next, Ready, Settled, Start, Steps};
        [Go, Console, Ready, Commit, Committed, Start, Failed, Entered, Built, Hooked, Steps, Next, Settled]
            .into_iter()
            .find(|t| *t as u8 == byte)
    }
}

/// A message.
#[derive(Debug)]
pub struct Message {
    /// What it is about.
    pub tag: Tag,
    /// Its bytes.
    pub payload: Vec<u8>,
    /// Descriptors that came with it.
    pub fds: Vec<OwnedFd>,
}

impl Message {
    /// It came where another was due.
    pub fn misplaced(&self, due: Tag) -> Error {
        Error::new("sync", format!("{:?}", self.tag), format!("came where {due:?} was due"))
    }

    /// It came where the child has nothing more to say.
    pub fn late(&self) -> Error {
        Error::new("sync", format!("{:?}", self.tag), "came after the start")
    }

    /// It says no more than its tag.
    pub fn bare(self) -> Result<()> {
        match (self.payload.len(), self.fds.len()) {
            (0, 0) => Ok(()),
            (bytes, fds) => {
                let why = format!("came with {bytes} bytes and {fds} descriptors, where neither is due");
                Err(Error::new("sync", format!("{:?}", self.tag), why))
            }
        }
    }

    /// What its bytes say.
    pub fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        json::from_slice(&self.payload)
            .map_err(|e| Error::new("sync", format!("{:?}", self.tag), format!("is unreadable: {e}")))
    }

    /// The one descriptor that it brings.
    pub fn descriptor(self) -> Result<OwnedFd> {
        let (tag, count) = (self.tag, self.fds.len());
        let mut fds = self.fds.into_iter();
        match (fds.next(), fds.next()) {
            (Some(fd), None) => Ok(fd),
            _ => {
                Err(Error::new("sync", format!("{tag:?}"), format!("came with {count} descriptors, where one is due")))
            }
        }
    }
}

/// One end.
#[derive(Debug)]
pub struct Channel(OwnedFd);

/// A message holds at most this many bytes and descriptors.
const MAX_BYTES: usize = 64 << 10;
/// SCM_MAX_FD of unix(7) is 253; one message carries at most this many.
const MAX_FDS: usize = 240;

/// Room for the largest message. Most are a few bytes, and of what is never written the kernel gives no memory.
static ROOM: Mutex<[u8; MAX_BYTES]> = Mutex::new([0; MAX_BYTES]);

impl Channel {
    /// Both ends.
    pub fn pair() -> Result<(Channel, Channel)> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .at("sync", "socketpair")?;
        Ok((Channel(a), Channel(b)))
    }

    /// The descriptor, to poll on.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Sends a message.
    pub fn send(&self, tag: Tag, payload: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        let raw: Vec<RawFd> = fds.iter().map(|f| f.as_raw_fd()).collect();
        if payload.len() > MAX_BYTES || raw.len() > MAX_FDS {
            return Err(Error::new("sync", format!("{tag:?}"), "message too large"));
        }
        let rights = [ControlMessage::ScmRights(&raw)];
        let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
        let tag_byte = [tag as u8];
        let bytes = [IoSlice::new(&tag_byte), IoSlice::new(payload)];
        sendmsg::<UnixAddr>(self.0.as_raw_fd(), &bytes, control, MsgFlags::MSG_NOSIGNAL, None)
            .at("sync", format!("send {tag:?}"))
            .map(drop)
    }

    /// The next message; none at the end of the stream.
    pub fn receive(&self) -> Result<Option<Message>> {
        let mut tag = [0u8; 1];
        let mut payload = ROOM.lock().map_err(|e| Error::new("sync", "receive", e.to_string()))?;
        let mut control = cmsg_space!([RawFd; MAX_FDS]);
        let (n, fds) = loop {
            let mut bytes = [IoSliceMut::new(&mut tag), IoSliceMut::new(&mut payload[..])];
            match recvmsg::<UnixAddr>(self.0.as_raw_fd(), &mut bytes, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC) {
                Ok(message) => {
                    let mut fds = Vec::new();
                    for part in message.cmsgs().at("sync", "receive")? {
                        if let ControlMessageOwned::ScmRights(raw) = part {
                            fds.extend(raw.into_iter().map(sys::adopt));
                        }
                    }
                    if message.flags.contains(MsgFlags::MSG_TRUNC) {
                        return Err(Error::new("sync", "receive", format!("a message of more than {MAX_BYTES} bytes")));
                    }
                    break (message.bytes, fds);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ECONNRESET) => return Ok(None),
                Err(e) => return Err(Error::os("sync", "receive", e)),
            }
        };
        if n == 0 {
            return Ok(None);
        }
        let payload = payload[..n - 1].to_vec();
        let tag = Tag::from(tag[0]).ok_or_else(|| Error::new("sync", "receive", format!("unknown tag {}", tag[0])))?;
        Ok(Some(Message { tag, payload, fds }))
    }

    /// The next message, unless a signal comes first that is to end us: the other side may be busy for ever.
    pub fn receive_unless(&self, signals: Option<&Signals>) -> Result<Option<Message>> {
        while let Some(signals) = signals {
            let watch = |fd| PollFd::new(fd, PollFlags::POLLIN);
            let mut fds = [watch(self.fd()), watch(signals.ending())];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(Error::os("sync", "poll", e)),
            }
            if fds[0].any().unwrap_or(true) {
                break;
            }
            if let Some(e) = signals.interrupted() {
                return Err(e);
            }
        }
        self.receive()
    }

    /// The next message of a process, none if it has ended: others hold its end of the talk, so that its end is not that of
    /// the stream.
    pub fn receive_of(&self, process: BorrowedFd<'_>, signals: Option<&Signals>) -> Result<Option<Message>> {
        let watch = |fd| PollFd::new(fd, PollFlags::POLLIN);
        loop {
            let mut fds = vec![watch(self.fd()), watch(process)];
            fds.extend(signals.map(|s| watch(s.ending())));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(Error::os("sync", "poll", e)),
            }
            let there = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
            if there(&fds[0]) {
                return self.receive();
            }
            if let Some(e) = signals.and_then(Signals::interrupted) {
                return Err(e);
            }
            if there(&fds[1]) {
                // Its last word came before its end, and perhaps after we looked.
                let said = poll(&mut fds[..1], PollTimeout::ZERO).is_ok_and(|n| n > 0);
                return if said { self.receive() } else { Ok(None) };
            }
        }
    }

    /// The next message, which must have this tag. A failure of the other side is returned as our error.
    pub fn expect(&self, tag: Tag) -> Result<Message> {
        due(tag, self.receive()?)
    }

    /// The same of a process, as with `receive_of`.
    pub fn expect_of(&self, tag: Tag, process: BorrowedFd<'_>) -> Result<Message> {
        due(tag, self.receive_of(process, None)?)
    }
}

fn due(tag: Tag, message: Option<Message>) -> Result<Message> {
    match message {
        Some(m) if m.tag == tag => Ok(m),
        Some(m) if m.tag == Tag::Failed => Err(failure(&m.payload)),
        Some(m) => Err(m.misplaced(tag)),
        None => Err(gone()),
    }
}

/// The error in a `Failed` message.
pub fn failure(payload: &[u8]) -> Error {
    json::from_slice(payload)
        .unwrap_or_else(|e| Error::new("launch", "child", format!("failed, and its error is unreadable: {e}")))
}

/// A whole `Failed` message whose errno is known only when nothing can be allocated any more: four digits at the place that
/// comes along.
pub fn message_with_room(error: Error) -> Result<(Vec<u8>, usize)> {
    const MARK: i32 = 9999;
    let error = Error { errno: Some(MARK), ..error };
    let subject = error.subject.clone();
    let mut message = vec![Tag::Failed as u8];
    message.extend(serde_json::to_vec(&error).unwrap_or_default());
    match message.windows(4).rposition(|w| w == MARK.to_string().as_bytes()) {
        Some(at) => Ok((message, at)),
        None => Err(Error::new("sync", subject, "has no room for an errno")),
    }
}

/// The other side ended without a word.
pub fn gone() -> Error {
    Error::new("launch", "child", "ended without a word")
        .hint("it was killed: by the OOM killer if the memory limit is very small, or from outside")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    /// Says these bytes, whatever they are.
    fn say(to: &Channel, bytes: &[u8], fds: &[RawFd]) {
        let rights = [ControlMessage::ScmRights(fds)];
        let control = if fds.is_empty() { &rights[..0] } else { &rights[..] };
        let none: Option<&UnixAddr> = None;
        sendmsg(to.0.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, none).unwrap();
    }

    fn refused<T: std::fmt::Debug>(what: &str, result: Result<T>, words: &[&str]) {
        let e = result.expect_err(what).to_string();
        assert!(words.iter().all(|w| e.contains(w)) && !e.contains(char::is_control), "{what}: {e}");
    }

    #[test]
    fn no_other_message_passes_for_the_one_that_is_due() {
        let (ours, theirs) = Channel::pair().unwrap();
        let mut known = 0;
        for byte in 0..=255u8 {
            say(&theirs, &[byte], &[]);
            match Tag::from(byte) {
                None => refused("no tag", ours.expect(Tag::Settled), &["unknown tag", &byte.to_string()]),
                Some(Tag::Settled) => ours.expect(Tag::Settled).unwrap().bare().unwrap(),
                Some(Tag::Failed) => refused("Failed", ours.expect(Tag::Settled), &["its error is unreadable"]),
                Some(tag) => {
                    refused("a tag", ours.expect(Tag::Settled), &[&format!("{tag:?}"), "where Settled was due"])
                }
            }
            known += usize::from(Tag::from(byte).is_some());
        }
        assert_eq!(known, 13);
        // Neither an empty message nor the end is one.
        say(&theirs, &[], &[]);
        refused("empty", ours.expect(Tag::Settled), &["ended without a word"]);
        drop(theirs);
        refused("the end", ours.expect(Tag::Settled), &["ended without a word"]);
    }

    #[test]
    fn a_message_holds_what_is_due_and_no_more() {
        let (ours, theirs) = Channel::pair().unwrap();
        let next = |bytes: &[u8], fds: &[RawFd]| {
            say(&theirs, bytes, fds);
            ours.receive().map(Option::unwrap)
        };
        let tag = |tag: Tag, rest: &[u8]| [&[tag as u8], rest].concat();
        let own = theirs.0.as_raw_fd();
        refused("bytes", next(&tag(Tag::Settled, b"x"), &[]).unwrap().bare(), &["Settled", "1 bytes and 0 desc"]);
        refused("descriptors", next(&tag(Tag::Built, b""), &[own]).unwrap().bare(), &["Built", "0 bytes and 1 desc"]);
        for fds in [&[][..], &[own, own]] {
            let said = format!("came with {} descriptors", fds.len());
            refused("not one", next(&tag(Tag::Console, b""), fds).unwrap().descriptor(), &["Console", &said]);
        }
        next(&tag(Tag::Console, b""), &[own]).unwrap().descriptor().unwrap();
        for (rest, word) in
            [(&b""[..], "EOF"), (b"[{}", "EOF"), (b"{}", "expected"), (b"[1]", "expected"), (b"\xff", "")]
        {
            let read = next(&tag(Tag::Ready, rest), &[]).unwrap().read::<Vec<crate::policy::Finding>>();
            refused("no findings", read, &["Ready", "is unreadable", word]);
        }
        assert!(next(&tag(Tag::Ready, b"[]"), &[]).unwrap().read::<Vec<crate::policy::Finding>>().unwrap().is_empty());
        // Who says more than there is room for is not heard by half.
        assert_eq!(next(&vec![Tag::Ready as u8; MAX_BYTES + 1], &[]).unwrap().payload.len(), MAX_BYTES);
        refused("too long", next(&vec![Tag::Ready as u8; MAX_BYTES + 2], &[]), &["more than 65536 bytes"]);
        refused("too many", next(&tag(Tag::Ready, b"[]"), &[own; MAX_FDS + 10]), &["ENOBUFS"]);
    }

    #[test]
    fn the_error_of_the_other_side_stays_one_line_that_gives_no_orders() {
        let (ours, theirs) = Channel::pair().unwrap();
        let said = Error::new("exec", "x\n\u{1b}[2Jforged: all is well", "a\u{202e}b").hint("line\r\nline");
        theirs.send(Tag::Failed, &serde_json::to_vec(&said).unwrap(), &[]).unwrap();
        refused("a failure", ours.expect(Tag::Ready), &["exec: x\\n\\u{1b}[2J", "a\\u{202e}b"]);
        for rubbish in [&b""[..], b"{", b"[]", br#"{"step":7}"#, b"\0\0", &[0xff; 4096]] {
            theirs.send(Tag::Failed, rubbish, &[]).unwrap();
            refused("rubbish", ours.expect(Tag::Ready), &["child", "failed, and its error is unreadable"]);
        }
    }

    #[test]
    fn what_a_refused_message_brought_is_closed() {
        use std::io::Read;
        let (ours, theirs) = Channel::pair().unwrap();
        for bytes in [&[Tag::Settled as u8][..], &[99], &vec![Tag::Ready as u8; MAX_BYTES + 2]] {
            let (mut end, held) = std::io::pipe().unwrap();
            say(&theirs, bytes, &[held.as_raw_fd()]);
            drop(held);
            let told = ours.receive().and_then(|m| m.unwrap().bare());
            assert!(told.is_err());
            // It would wait for ever while anybody held the other end.
            assert_eq!(end.read(&mut [0]).unwrap(), 0);
        }
    }
}
