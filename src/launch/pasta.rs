//! Do: pasta(1) beside a container, for as long as there is one.
//!
//! ```text
//! runtime                keeper: PID 1 of a pid namespace             pasta
//! clone3 --------------> (over the bridge of join.rs)
//!                        root of the container's user namespace
//!                        starts it and waits  ----------------------> sets up the device, goes into the background
//!                        enters the network namespace,
//!                        keeps its 127.0.0.0/8 inside
//!   <------------------- Ready, or Failed and what pasta said
//! ```
//!
//! pasta gets the rights that it needs over the container's network from the container's user namespace, and none on the
//! host: what a bug in it gives away is what the container's root has, in the host's network and without its files. It
//! changes its credentials and goes into the background, and both take away the signal that would end it with us. So it
//! lives in a pid namespace whose init, the keeper, does nothing and keeps that signal: the kernel kills them together.

use super::netdev::{Netlink, put};
use crate::console::Signals;
use crate::error::{Context, Error, Result};
use crate::join::{self, Birth, Entered};
use crate::plan::network::{DEVICE, Protocol, Publish};
use crate::plan::{Joined, Ns};
use crate::sync::{Channel, Tag};
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Gid, Pid, Uid, setgroups, setresgid, setresuid, setsid};
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const STEP: &str = "network";

/// How much of what pasta says is shown.
const SHOWN: u64 = 4096;

// linux/rtnetlink.h
const RTM_NEWROUTE: u16 = 24;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_CREATE_APPEND: u16 = 0xc00;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RT_TABLE_LOCAL: u8 = 255;
const RTPROT_STATIC: u8 = 4;
const RT_SCOPE_HOST: u8 = 254;
const RTN_LOCAL: u8 = 2;

/// pasta, with its keeper. It ends when this value goes.
#[derive(Debug)]
pub struct Running {
    keeper: i32,
    pidfd: OwnedFd,
}

impl Running {
    /// Whether it has ended by itself.
    pub fn has_ended(&self) -> bool {
        let mut watched = [nix::poll::PollFd::new(self.pidfd.as_fd(), nix::poll::PollFlags::POLLIN)];
        matches!(nix::poll::poll(&mut watched, nix::poll::PollTimeout::ZERO), Ok(n) if n > 0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = sys::pidfd_send_signal(self.pidfd.as_fd(), nix::libc::SIGKILL);
        let _ = waitpid(Pid::from_raw(self.keeper), Some(WaitPidFlag::__WALL));
    }
}

/// Starts it for a child that has its namespaces and its ids, and waits until the network is ready.
pub fn start(
    program: &Path,
    args: &[String],
    publish: &[Publish],
    child: i32,
    signals: Option<&Signals>,
) -> Result<Running> {
    check_ports(publish)?;
    let (ours, theirs) = Channel::pair()?;
    let of = |ns: Ns| {
        let path = PathBuf::from(format!("/proc/{child}/ns/{}", ns.file()));
        let fd = open(&path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).at(STEP, path.display().to_string())?;
        Ok::<_, Error>((Joined { ns, path, inode: 0, inside: false }, fd))
    };
    let (_, network) = of(Ns::Network)?;
    let joins = [of(Ns::User)?];
    let birth = Birth { joins: &joins, flags: Ns::Pid.flag(), group: None, oom_score_adj: None, outside: false };
    let (keeper, pidfd) = match join::be_born(&birth, &ours, &theirs)? {
        Entered::Parent { pid, pidfd } => (pid, pidfd),
        Entered::Child { .. } => {
            // Ours alone, or nobody would hear of the end of the runtime.
            drop(ours);
            keep(program, args, network, theirs)
        }
    };
    let running = Running { keeper, pidfd };
    drop(theirs);
    ours.send(Tag::Go, &[], &[])?;
    match ours.receive_unless(signals)? {
        Some(m) if m.tag == Tag::Ready => Ok(running),
        Some(m) if m.tag == Tag::Failed => Err(crate::sync::failure(&m.payload)),
        _ => Err(Error::new(STEP, "pasta", "was killed before its network was ready")),
    }
}

/// What pasta would say of a port that it cannot have names neither who has it nor why.
fn check_ports(publish: &[Publish]) -> Result<()> {
    if publish.is_empty() {
        return Ok(());
    }
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    let first: u16 = first.trim().parse().unwrap_or(1024);
    for port in publish {
        if port.host < first {
            let why = format!("host ports below {first} are for the privileged, and pasta has no rights on the host");
            return Err(Error::new("--publish", port.to_string(), why).hint(format!(
                "publish on {first} or above; net.ipv4.ip_unprivileged_port_start says which ports are for everybody"
            )));
        }
        let address = (Ipv4Addr::LOCALHOST, port.host);
        let bound = match port.protocol {
            Protocol::Tcp => TcpListener::bind(address).map(drop),
            Protocol::Udp => UdpSocket::bind(address).map(drop),
        };
        bound.at("--publish", port.to_string()).map_err(|e| match e.errno() {
            Some(Errno::EADDRINUSE) => e.hint("a program of the host has this port: name another HOSTPORT"),
            _ => e,
        })?;
    }
    Ok(())
}

/// The keeper. It is in the container's user namespace and in a pid namespace of its own.
fn keep(program: &Path, args: &[String], network: OwnedFd, channel: Channel) -> ! {
    if let Err(e) = keep_or_fail(program, args, &network, &channel) {
        let _ = channel.send(Tag::Failed, &serde_json::to_vec(&e).unwrap_or_default(), &[]);
        sys::exit(1);
    }
    // Nothing of the host's is held for as long as the container lives.
    let _ = sys::close_range(0, u32::MAX, 0);
    loop {
        match waitpid(None, None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => sys::exit(0),
        }
    }
}

fn keep_or_fail(program: &Path, args: &[String], network: &OwnedFd, channel: &Channel) -> Result<()> {
    sys::close_all_but(vec![network.as_raw_fd(), channel.fd().as_raw_fd()]).at(STEP, "descriptors")?;
    // The bridge has had its say on the same channel.
    channel.expect(Tag::Go)?;
    let _ = sys::set_name(c"stockade-net");
    // With a single id the kernel denies it (user_namespaces(7)), and the groups are those of the caller, who could
    // start pasta with them anyway.
    match setgroups(&[]) {
        Ok(()) | Err(Errno::EPERM) => {}
        Err(e) => return Err(Error::os(STEP, "groups", e)),
    }
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(gid, gid, gid).at(STEP, "gid 0 of the container")?;
    setresuid(uid, uid, uid).at(STEP, "uid 0 of the container")?;
    // Only now: a change of ids takes it back. If the runtime is gone already, the last word to it fails.
    sys::set_parent_death_signal(nix::libc::SIGKILL).at(STEP, "death signal")?;
    sys::reset_signals().and_then(|()| sys::keep_children()).at(STEP, "signals")?;
    // The caller's terminal is not its own: ^C is for the workload.
    setsid().at(STEP, "session")?;

    let shown = program.display().to_string();
    let mut command = Command::new(program);
    command.args(args).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
    command.stdin(network.try_clone().at(STEP, &shown)?).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut pasta = command.spawn().at(STEP, &shown).map_err(|e| e.hint("pasta is in the package passt"))?;
    // Its first process ends when the network is ready, and a second one goes on: pasta(1).
    let status = pasta.wait().at(STEP, &shown)?;
    if !status.success() {
        let mut said = Vec::new();
        if let Some(stderr) = pasta.stderr.take() {
            // What it left behind may hold the pipe, so nobody waits for its end.
            fcntl(&stderr, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).at(STEP, &shown)?;
            let _ = stderr.take(SHOWN).read_to_end(&mut said);
        }
        return Err(Error::new(STEP, shown, format!("{status}: {}", spoken(&said)))
            .hint("the words are pasta's own; it takes addresses and routes from the host's default route"));
    }
    // pasta stays in the host's network; we are done there.
    sys::setns(network.as_fd(), Ns::Network.flag()).at(STEP, "network namespace")?;
    keep_loopback_inside().at(STEP, "routes of the loopback addresses")?;
    channel.send(Tag::Ready, &[], &[])
}

/// What pasta said, in one line. The version of Debian 12 complains of each line that no system logger takes.
fn spoken(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
    let lines: Vec<String> = lines
        .filter(|l| !(l.starts_with("Failed to send ") && l.ends_with(" to syslog")))
        .map(|l| l.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
        .collect();
    if lines.is_empty() { "it said nothing".to_owned() } else { lines.join("; ") }
}

/// Whoever names the device (SO_BINDTODEVICE, IP_PKTINFO: no right is needed) is routed past `lo`, also to 127.0.0.1; what
/// arrives there pasta of Debian 12 sends on, to the host's. Local routes over the device itself bring it back to where
/// it belongs. A route that refuses does not: the kernel then takes the address for one on the link.
fn keep_loopback_inside() -> std::result::Result<(), Errno> {
    let netlink = Netlink::open()?;
    let device = netlink.link(DEVICE)?.index;
    let route = |family: i32, address: &[u8], bits: u8| {
        let mut body = vec![family as u8, bits, 0, 0, RT_TABLE_LOCAL, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL];
        body.extend([0; 4]);
        put(&mut body, RTA_DST, address);
        put(&mut body, RTA_OIF, &device.to_ne_bytes());
        netlink.ask(RTM_NEWROUTE, NLM_F_ACK | NLM_F_CREATE_APPEND, &body).map(drop)
    };
    route(nix::libc::AF_INET, &[127, 0, 0, 0], 8)?;
    let mut one = [0; 16];
    one[15] = 1;
    match route(nix::libc::AF_INET6, &one, 128) {
        // No IPv6 in this kernel, or none on this device: then none leaves by it.
        Err(Errno::EAFNOSUPPORT | Errno::EOPNOTSUPP | Errno::EACCES) | Ok(()) => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_pasta_says_is_one_line() {
        let said =
            b"Failed to send 46 bytes to syslog\nNo interface\n\n  for \x1b[1mIPv4\nFailed to send 5 bytes to syslog";
        assert_eq!(super::spoken(said), "No interface; for  [1mIPv4");
        assert_eq!(super::spoken(b"Failed to send 46 bytes to syslog\n"), "it said nothing");
    }
}
