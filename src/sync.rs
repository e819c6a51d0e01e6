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

    /// The next message, which must have this tag. A failure of the other side is returned as our error.
    pub fn expect(&self, tag: Tag) -> Result<Message> {
        match self.receive()? {
            Some(m) if m.tag == tag => Ok(m),
            Some(m) if m.tag == Tag::Failed => Err(failure(&m.payload)),
            Some(m) => Err(Error::new("sync", format!("{:?}", m.tag), format!("came where {tag:?} was due"))),
            None => Err(gone()),
        }
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
