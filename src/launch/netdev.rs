//! Do: network devices of the host go into the container's network namespace, by rtnetlink(7).
//!
//! A device keeps its settings when it moves, but not its addresses, nor that it is up: those with a meaning beyond the
//! machine are noted before and given again after. Until the launch is committed a device can go back as it was; later
//! it goes with its namespace: hardware returns to the host by itself, and what is virtual ends.

use crate::error::{Context, Error, Result};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

type Res<T> = std::result::Result<T, Errno>;

// linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE_EXCL: u16 = 0x600;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const IFLA_IFNAME: u16 = 3;
const IFLA_NET_NS_FD: u16 = 28;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;
const IFA_F_PERMANENT: u32 = 0x80;
/// IFA_F_NODAD, _HOMEADDRESS, _MANAGETEMPADDR, _NOPREFIXROUTE, _MCAUTOJOIN: chosen by who set the address. The others are
/// the kernel's own notes.
const IFA_F_CHOSEN: u32 = 0x02 | 0x10 | 0x100 | 0x200 | 0x400;
const RT_SCOPE_UNIVERSE: u8 = 0;
const IFF_UP: u32 = 1;

/// The devices that were moved, and the two namespaces.
#[derive(Debug)]
pub struct Moved {
    home: OwnedFd,
    inside: OwnedFd,
    here: Netlink,
    there: Netlink,
    devices: Vec<Device>,
}

#[derive(Debug)]
struct Device {
    name: String,
    inside: String,
    up: bool,
    addresses: Vec<Vec<u8>>,
}

impl Moved {
    /// Between our network namespace and that of a process.
    pub fn between(pid: i32) -> Result<Moved> {
        let ns = |who: &str| {
            let path = format!("/proc/{who}/ns/net");
            open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).at("net devices", &path)
        };
        let (home, inside) = (ns("self")?, ns(&pid.to_string())?);
        let here = Netlink::open().at("net devices", "netlink")?;
        // A socket stays in the namespace in which it was made.
        setns(&inside, CloneFlags::CLONE_NEWNET).at("net devices", "setns")?;
        let there = Netlink::open();
        setns(&home, CloneFlags::CLONE_NEWNET).at("net devices", "setns back")?;
        Ok(Moved { home, inside, here, there: there.at("net devices", "netlink")?, devices: Vec::new() })
    }

    /// Moves one. What was half done is undone by `back`.
    pub fn take(&mut self, name: &str, inside: &str) -> Result<()> {
        const STEP: &str = "net devices";
        let subject = format!("{name} as {inside}");
        let link = self.here.link(name).at(STEP, &subject).map_err(|e| match e.errno() {
            Some(Errno::ENODEV) => e.hint("there is no device of this name in the network namespace of stockade"),
            _ => e,
        })?;
        let inside = match inside.split_once("%d") {
            None => inside.to_owned(),
            Some((before, after)) => (0..4096)
                .map(|n| format!("{before}{n}{after}"))
                .find(|name| self.there.link(name).is_err())
                .ok_or_else(|| Error::new(STEP, &subject, "all these names are taken"))?,
        };
        if self.there.link(&inside).is_ok() {
            return Err(Error::os(STEP, &subject, Errno::EEXIST)
                .hint("the container's network namespace has a device of this name; %d in the name is a free number"));
        }
        let addresses = self.here.addresses(link.index).at(STEP, &subject)?;
        let device = Device { name: name.to_owned(), inside, up: link.up, addresses };
        let moved = self.here.send_to(link.index, &self.inside, &device.inside);
        self.devices.push(device);
        moved.at(STEP, &subject).map_err(|e| match e.errno() {
            Some(Errno::EPERM) => e.hint("it needs CAP_NET_ADMIN on the host and in the container's network namespace"),
            Some(Errno::EINVAL) => e.hint("this kind of device is bound to its network namespace, as lo is"),
            _ => e,
        })?;
        let Some(device) = self.devices.last() else { return Ok(()) };
        self.there.settle(&device.inside, &device.addresses, true).at(STEP, &subject)
    }

    /// Gives all of them back, as they were. For a launch that has failed.
    pub fn back(&self) {
        for device in self.devices.iter().rev() {
            let returned = (|| {
                let link = self.there.link(&device.inside).or_else(|_| self.there.link(&device.name))?;
                self.there.send_to(link.index, &self.home, &device.name)?;
                self.here.settle(&device.name, &device.addresses, device.up)
            })();
            if let Err(e) = returned {
                crate::log::debug(&format!("giving back {}: {e}", device.name));
            }
        }
    }
}

pub(super) struct Link {
    pub(super) index: i32,
    up: bool,
}

/// A socket of rtnetlink(7).
#[derive(Debug)]
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    pub(super) fn open() -> Res<Netlink> {
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute).map(Netlink)
    }

    /// One request; the messages of the answer, each with its type.
    pub(super) fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> Res<Vec<(u16, Vec<u8>)>> {
        let mut message = Vec::with_capacity(16 + body.len());
        message.extend((16 + body.len() as u32).to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        send(self.0.as_raw_fd(), &message, MsgFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0u8; 1 << 16];
        loop {
            let n = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            let mut rest = buffer.get(..n).unwrap_or_default();
            while let Some(length) = number(rest, 0).filter(|l| *l >= 16 && *l as usize <= rest.len()) {
                let (this, _) = rest.split_at(length as usize);
                rest = rest.get((length as usize).next_multiple_of(4)..).unwrap_or_default();
                let kind = u16::from_ne_bytes([this[4], this[5]]);
                match kind {
                    NLMSG_DONE => return Ok(answers),
                    NLMSG_ERROR => {
                        return match number(this, 16).unwrap_or(0).cast_signed() {
                            0 => Ok(answers),
                            e => Err(Errno::from_raw(-e)),
                        };
                    }
                    _ => answers.push((kind, this[16..].to_vec())),
                }
            }
        }
    }

    pub(super) fn link(&self, name: &str) -> Res<Link> {
        let mut body = link_header(0, 0, 0);
        put(&mut body, IFLA_IFNAME, &c_name(name));
        let answers = self.ask(RTM_GETLINK, NLM_F_ACK, &body)?;
        let link = answers.iter().find(|(kind, _)| *kind == RTM_NEWLINK).ok_or(Errno::ENODEV)?;
        let index = number(&link.1, 4).ok_or(Errno::EBADMSG)?.cast_signed();
        Ok(Link { index, up: number(&link.1, 8).unwrap_or(0) & IFF_UP != 0 })
    }

    /// The device leaves for another namespace, where it has this name.
    fn send_to(&self, index: i32, namespace: &OwnedFd, name: &str) -> Res<()> {
        let mut body = link_header(index, 0, 0);
        put(&mut body, IFLA_NET_NS_FD, &namespace.as_fd().as_raw_fd().to_ne_bytes());
        put(&mut body, IFLA_IFNAME, &c_name(name));
        self.ask(RTM_NEWLINK, NLM_F_ACK, &body).map(drop)
    }

    /// The permanent addresses of global scope, ready to be set again: the specification's choice.
    fn addresses(&self, index: i32) -> Res<Vec<Vec<u8>>> {
        let all = self.ask(RTM_GETADDR, NLM_F_DUMP, &[0; 8])?;
        let ours = all.iter().filter(|(kind, body)| {
            *kind == RTM_NEWADDR && number(body, 4) == Some(index.cast_unsigned()) && body[3] == RT_SCOPE_UNIVERSE
        });
        Ok(ours.filter_map(|(_, body)| keepable(body)).collect())
    }

    /// Sets addresses, and brings the device up.
    fn settle(&self, name: &str, addresses: &[Vec<u8>], up: bool) -> Res<()> {
        let index = self.link(name)?.index;
        for address in addresses {
            let mut body = address.clone();
            body[4..8].copy_from_slice(&index.to_ne_bytes());
            match self.ask(RTM_NEWADDR, NLM_F_ACK | NLM_F_CREATE_EXCL, &body) {
                Ok(_) | Err(Errno::EEXIST) => {}
                Err(e) => return Err(e),
            }
        }
        if up {
            self.ask(RTM_NEWLINK, NLM_F_ACK, &link_header(index, IFF_UP, IFF_UP))?;
        }
        Ok(())
    }
}

/// `struct ifinfomsg`.
fn link_header(index: i32, flags: u32, change: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(flags.to_ne_bytes());
    body.extend(change.to_ne_bytes());
    body
}

/// Adds a `struct rtattr`.
pub(super) fn put(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    body.extend((4 + value.len() as u16).to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

fn c_name(name: &str) -> Vec<u8> {
    [name.as_bytes(), &[0]].concat()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The `struct ifaddrmsg` of an address with what of it can be set again; none where it is not permanent.
fn keepable(body: &[u8]) -> Option<Vec<u8>> {
    let mut flags = u32::from(*body.get(2)?);
    let mut kept = body.get(..8)?.to_vec();
    kept[2] = 0;
    let mut attributes = body.get(8..)?;
    while attributes.len() >= 4 {
        let length = usize::from(u16::from_ne_bytes([attributes[0], attributes[1]]));
        let kind = u16::from_ne_bytes([attributes[2], attributes[3]]);
        let value = attributes.get(4..length)?;
        match kind {
            IFA_FLAGS => flags = number(value, 0)?,
            IFA_ADDRESS | IFA_LOCAL | IFA_BROADCAST | IFA_RT_PRIORITY => put(&mut kept, kind, value),
            _ => {}
        }
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    if flags & IFA_F_PERMANENT == 0 {
        return None;
    }
    put(&mut kept, IFA_FLAGS, &(flags & IFA_F_CHOSEN).to_ne_bytes());
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_kept_if_it_is_permanent() {
        let address = |flags: u32| {
            let mut body = vec![2, 24, flags as u8, 0, 9, 0, 0, 0];
            put(&mut body, IFA_LOCAL, &[10, 0, 0, 1]);
            // IFA_LABEL and IFA_CACHEINFO: of the old name and of the past.
            put(&mut body, 3, b"eth0\0");
            put(&mut body, 6, &[1; 16]);
            put(&mut body, IFA_FLAGS, &flags.to_ne_bytes());
            body
        };
        let kept = keepable(&address(IFA_F_PERMANENT | 0x200 | 0x40)).unwrap();
        assert_eq!(kept[..8], [2, 24, 0, 0, 9, 0, 0, 0]);
        assert_eq!(kept[8..16], [8, 0, 2, 0, 10, 0, 0, 1]);
        assert_eq!(number(&kept, 20), Some(0x200));
        assert_eq!(kept.len(), 24);
        assert_eq!(keepable(&address(0x200)), None);
        assert_eq!(keepable(&[2, 24, 0x80]), None);
        assert_eq!(keepable(&[2, 24, 0x80, 0, 9, 0, 0, 0, 255, 0, 1, 0]), None, "an attribute longer than the message");
        assert_eq!(keepable(&[2, 24, 0x80, 0, 9, 0, 0, 0, 0, 0, 1, 0]), None, "an attribute of no length");
    }
}
