//! Decide: a network in user space, by pasta(1) of the package passt.
//!
//! A process without rights on the host turns what the container sends to a device of its own into calls of ordinary
//! sockets. As it is when it is told nothing, pasta takes every port that somebody listens on, on either side, over to
//! the other, and the gateway's address for the host's loopback; each of these is closed here by a word of its own.

use super::{Draft, Ns, Step};
use crate::error::{Error, Result};
use serde::Serialize;
use std::path::PathBuf;

/// The address inside where names are asked; pasta sends what arrives there, at port 53, to the host's resolver.
pub const RESOLVER: &str = "169.254.1.1";

/// The device inside. By itself pasta would give it the name of the host's.
pub const DEVICE: &str = "eth0";

/// The router's hardware address inside: the one of pasta's later versions, and not the host's own.
const ROUTER: &str = "9a:55:9a:55:9a:55";

/// A network for the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pasta {
    /// The program.
    pub program: PathBuf,
    /// Ports of the host's loopback that lead inside.
    pub publish: Vec<Publish>,
}

/// The protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// tcp(7)
    Tcp,
    /// udp(7)
    Udp,
}

/// `--publish`: a port of 127.0.0.1 on the host, and one of the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Publish {
    /// The host's.
    pub host: u16,
    /// The container's.
    pub inside: u16,
    /// Of which protocol.
    pub protocol: Protocol,
}

impl std::fmt::Display for Publish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let protocol = if self.protocol == Protocol::Tcp { "tcp" } else { "udp" };
        write!(f, "127.0.0.1:{}:{}/{protocol}", self.host, self.inside)
    }
}

impl Publish {
    /// `[127.0.0.1:]HOSTPORT:PORT[/tcp|udp]`
    pub fn parse(text: &str) -> Result<Publish> {
        let wrong = |why: &str| {
            Error::new("--publish", text, why).hint("write [127.0.0.1:]HOSTPORT:PORT[/tcp|udp], such as 8080:80")
        };
        let (ports, protocol) = match text.split_once('/') {
            None | Some((_, "tcp")) => (text.split('/').next().unwrap_or(text), Protocol::Tcp),
            Some((ports, "udp")) => (ports, Protocol::Udp),
            Some(_) => return Err(wrong("the protocol is neither tcp nor udp")),
        };
        let ports = match ports.rsplitn(3, ':').collect::<Vec<_>>()[..] {
            [inside, host] | [inside, host, "127.0.0.1"] => [host, inside],
            [_, _, _] => return Err(wrong("only the host's loopback is published on, which is 127.0.0.1")),
            _ => return Err(wrong("two ports are needed: the host's and the sandbox's")),
        };
        let number = |port: &str| port.parse::<u16>().ok().filter(|n| *n > 0 && !port.starts_with('+'));
        match ports.map(number) {
            // pasta of Debian 12 sends the datagram to PORT and loses its answer.
            [Some(host), Some(inside)] if protocol == Protocol::Udp && host != inside => Err(Error::new(
                "--publish",
                text,
                "a port of udp must have the same number on both sides: some versions of pasta lose the answers else",
            )
            .hint(format!("let the server listen on {host}, and publish {host}:{host}/udp"))),
            [Some(host), Some(inside)] => Ok(Publish { host, inside, protocol }),
            _ => Err(wrong("a port is a number from 1 to 65535")),
        }
    }

    /// All of a command line; no port of the host's twice.
    pub fn parse_all(texts: &[String]) -> Result<Vec<Publish>> {
        let mut all: Vec<Publish> = Vec::new();
        for text in texts {
            let this = Publish::parse(text)?;
            if all.iter().any(|p| (p.host, p.protocol) == (this.host, this.protocol)) {
                return Err(Error::new("--publish", text.as_str(), "this port of the host is published already"));
            }
            all.push(this);
        }
        Ok(all)
    }
}

/// The words for pasta. The namespace is its stdin: a pid would need the right to look into its process.
fn words(publish: &[Publish]) -> Vec<String> {
    let mut words = vec!["--config-net", "--quiet", "--netns-only", "--netns", "/proc/self/fd/0", "--no-netns-quit"];
    // Neither the gateway's address nor a port inside is the host's loopback.
    words.extend(["--no-map-gw", "--tcp-ns", "none", "--udp-ns", "none"]);
    words.extend(["--no-dhcp", "--no-dhcpv6", "--no-ra"]);
    words.extend(["--ns-ifname", DEVICE, "--mac-addr", ROUTER, "--dns-forward", RESOLVER]);
    let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    for (flag, protocol) in [("--tcp-ports", Protocol::Tcp), ("--udp-ports", Protocol::Udp)] {
        let before = words.len();
        for p in publish.iter().filter(|p| p.protocol == protocol) {
            words.extend([flag.to_owned(), format!("127.0.0.1/{}:{}", p.host, p.inside)]);
        }
        if words.len() == before {
            words.extend([flag.to_owned(), "none".to_owned()]);
        }
    }
    words
}

/// The step, where the caller asks for one.
pub fn step(draft: &mut Draft) -> Result<Option<Step>> {
    let Some(Pasta { program, publish }) = draft.options.network.clone() else { return Ok(None) };
    if !draft.ns.is_new(Ns::Network) || !draft.ns.is_new(Ns::User) {
        let why = "needs a network and a user namespace of the container's own: pasta has its rights in them only";
        return Err(Error::new("--net", "pasta", why));
    }
    let ports: Vec<String> = publish.iter().map(ToString::to_string).collect();
    let ports = if ports.is_empty() { "no port".to_owned() } else { ports.join(", ") };
    draft.find(
        "host",
        "--net",
        "pasta",
        &format!("outbound network in user space; published: {ports}"),
        "the caller asks for it: what the workload reads it can send; the host's loopback is out of reach, other addresses of the host are not",
    );
    Ok(Some(Step::Network { program, args: words(&publish), publish }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_is_on_loopback_and_two_ports() {
        let tcp = Publish { host: 8080, inside: 80, protocol: Protocol::Tcp };
        for text in ["8080:80", "8080:80/tcp", "127.0.0.1:8080:80", "127.0.0.1:8080:80/tcp"] {
            assert_eq!(Publish::parse(text).unwrap(), tcp, "{text}");
        }
        assert_eq!(Publish::parse("5353:5353/udp").unwrap().to_string(), "127.0.0.1:5353:5353/udp");
        for (text, why) in [
            ("", "two ports"),
            ("80", "two ports"),
            ("0.0.0.0:8080:80", "loopback"),
            ("192.0.2.1:8080:80", "loopback"),
            ("::1:8080:80", "loopback"),
            (":8080:80", "loopback"),
            ("8080:80/sctp", "neither tcp nor udp"),
            ("8080:80/", "neither tcp nor udp"),
            ("8080:80/tcp/udp", "neither tcp nor udp"),
            ("0:80", "from 1 to 65535"),
            ("8080:", "from 1 to 65535"),
            ("8080:65536", "from 1 to 65535"),
            ("+8080:80", "from 1 to 65535"),
            ("1-2:80", "from 1 to 65535"),
            ("5353:53/udp", "the same number on both sides"),
        ] {
            let e = Publish::parse(text).unwrap_err().to_string();
            assert!(e.contains(why), "{text}: {e}");
        }
        let twice = ["8080:80", "8080:8080/udp", "127.0.0.1:8080:82"].map(str::to_owned);
        assert!(Publish::parse_all(&twice[..2]).is_ok());
        assert!(Publish::parse_all(&twice).unwrap_err().to_string().contains("published already"));
    }

    #[test]
    fn nothing_is_forwarded_that_was_not_named() {
        let of = |words: &[String], flag: &str| {
            let given = words.windows(2).filter(|w| w[0] == flag).map(|w| w[1].clone());
            given.collect::<Vec<_>>()
        };
        let none = words(&[]);
        for flag in ["--tcp-ports", "--udp-ports", "--tcp-ns", "--udp-ns"] {
            assert_eq!(of(&none, flag), ["none"], "{flag}");
        }
        let some = words(&Publish::parse_all(&["8080:80".to_owned(), "8081:80".to_owned()]).unwrap());
        assert_eq!(of(&some, "--tcp-ports"), ["127.0.0.1/8080:80", "127.0.0.1/8081:80"]);
        // Else pasta takes the ports of TCP for UDP, too.
        assert_eq!(of(&some, "--udp-ports"), ["none"]);
        assert!(some.contains(&"--no-map-gw".to_owned()));
    }
}
