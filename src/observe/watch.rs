//! Do: the runtime's end of a seccomp listener: it tells what is denied, or notes what is called.
//!
//! Runs inside the loop of a foreground run, and nothing here may block: the workload's call waits for us. What the
//! profiles say of a call is asked of them again, by the registers that the kernel copied; text that pointers lead to is
//! read for display only, and believed only if the question still stands afterwards (seccomp_unotify(2)). A call that was
//! judged is answered with its errno and never continued: its maker could change what it points at meanwhile. One that the
//! profiles let through is only looked at, and always goes on to the kernel's own judgement ([`lack`]).

use super::denials::Ledger;
use crate::error::{Context, Result};
use crate::plan::{Watch, Watched};
use crate::seccomp::change::{Call, Change, narrowed, permit, strictest};
use crate::seccomp::lack::{self, Holder};
use crate::seccomp::{By, Verdict, decode};
use crate::sys::{self, Asked};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

/// How denials are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Form {
    /// For people
    Text,
    /// A JSON object a line, as `events` writes them
    Json,
}

/// More kinds than this are only counted: the workload makes them up as it likes.
const MOST_KINDS: usize = 256;

/// A pipe takes so much at once without blocking once it is ready: PIPE_BUF.
const CHUNK: usize = 4096;

/// What a call is, as far as it is told once: its number, the arguments by which profiles tell calls apart, the answer.
type Key = (u32, u32, Vec<u64>, u16);

/// A kind of denial.
#[derive(Debug)]
pub struct Kind {
    /// The system call.
    pub name: String,
    /// The first one, in words.
    pub call: String,
    /// Its registers.
    pub raw: Call,
    /// What it was answered.
    pub errno: u16,
    /// The profile that said so.
    pub profile: String,
    /// What in it.
    pub by: By,
    /// Who made the first one; none: it was gone before that could be told.
    pub who: Option<Who>,
    /// What would let it through, by profile.
    pub changes: Vec<(String, Change)>,
    /// No profile denied it but the kernel, for want of this capability.
    pub lacks: Option<&'static str>,
    /// How many.
    pub count: u64,
}

/// A process on both sides.
#[derive(Debug, Clone)]
pub struct Who {
    /// Its pid where the runtime is.
    pub host: i32,
    /// Its pid where it is itself.
    pub inside: i32,
    /// Its name.
    pub comm: String,
}

/// Looks on at a foreground run.
pub struct Watcher {
    /// At what.
    pub job: Watch,
    form: Form,
    out: Option<File>,
    id: String,
    init: i32,
    listener: Option<OwnedFd>,
    watched: Option<Watched>,
    /// For who watches from outside.
    ledger: Option<Ledger>,
    places: BTreeMap<Key, usize>,
    kinds: Vec<Kind>,
    others: u64,
    executed: bool,
    /// The runtime sets capabilities behind the filter.
    pub capset_after: bool,
    noted: BTreeMap<(u32, u32, Vec<u64>), (Call, u64)>,
    pending: VecDeque<u8>,
    /// The terminal is raw: a line does not begin at its left by itself.
    pub raw: bool,
}

impl Watcher {
    /// What would have been done without the profile: it alone denied it, and not with the word by which callers take an
    /// older way.
    pub fn broken(&self) -> impl Iterator<Item = &Kind> {
        let alone = |k: &&Kind| k.changes.iter().all(|(name, _)| name == "linux.seccomp") && !k.changes.is_empty();
        self.kinds.iter().filter(alone).filter(|k| i32::from(k.errno) != nix::libc::ENOSYS)
    }

    /// Tells denials: into a file, or on stderr.
    pub fn denials(form: Form, to: Option<&std::path::Path>) -> Result<Watcher> {
        let out = match to {
            Some(path) => File::create(path).at("--denials-to", path.display().to_string())?,
            None => File::from(sys::borrow(2).try_clone_to_owned().at("--denials", "stderr")?),
        };
        Ok(Watcher { form, out: Some(out), ..Watcher::silent(Watch::Denials) })
    }

    /// Says nothing; the caller asks for what was seen.
    pub fn silent(job: Watch) -> Watcher {
        Watcher {
            job,
            form: Form::Text,
            out: None,
            id: String::new(),
            init: 0,
            listener: None,
            watched: None,
            ledger: None,
            places: BTreeMap::new(),
            kinds: Vec::new(),
            others: 0,
            executed: false,
            capset_after: false,
            noted: BTreeMap::new(),
            pending: VecDeque::new(),
            raw: false,
        }
    }

    /// Takes the listener of a container that is built, and where denials are written down.
    pub fn begin(&mut self, listener: OwnedFd, watched: &Watched, id: &str, init: i32, ledger: Option<Ledger>) {
        self.ledger = ledger;
        self.listener = Some(listener);
        self.watched = Some(watched.clone());
        self.id = id.to_owned();
        self.init = init;
    }

    /// What to poll; none: there is nothing to hear any more.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.listener.as_ref().map(AsFd::as_fd)
    }

    /// The kinds of denials so far.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// The calls that were noted, one of each kind, with their numbers.
    pub fn noted(&self) -> impl Iterator<Item = (&Call, u64)> {
        self.noted.values().map(|(call, count)| (call, *count))
    }

    /// Answers one question. `events` is what poll said of the listener, `talk` our end of the talk with the child.
    pub fn turn(&mut self, events: PollFlags, talk: BorrowedFd<'_>) {
        self.flush(false);
        let Some(listener) = self.listener.take() else { return };
        if events.contains(PollFlags::POLLIN)
            && let Ok(asked) = sys::seccomp_receive(listener.as_fd())
        {
            // An answer that comes too late is nobody's: who asked is dead.
            let _ = match self.judge(&listener, &asked, talk) {
                Some(errno) => sys::seccomp_answer(listener.as_fd(), asked.id, i32::from(errno)),
                None => sys::seccomp_continue(listener.as_fd(), asked.id),
            };
        }
        // Nobody is left who could ask.
        if !events.contains(PollFlags::POLLHUP) {
            self.listener = Some(listener);
        }
    }

    fn judge(&mut self, listener: &OwnedFd, asked: &Asked, talk: BorrowedFd<'_>) -> Option<u16> {
        let call = Call { arch: asked.arch, nr: asked.nr, args: asked.args };
        match self.job {
            Watch::Record => self.note(asked, &call),
            // Not the workload's call but our own: the filter stands before the gate only because we look on. The execve
            // ends the talk, so while it goes on nothing of the workload has run in this process; and as that waits for us
            // in this very call, it stays so.
            _ if asked.pid == self.init && call.name() == Some("read") && goes_on(talk) => None,
            Watch::Denials | Watch::No => self.deny(listener, asked, &call),
        }
    }

    /// A call of a recording. Its flags lie behind a pointer, so no profile can judge clone3: it is answered as every
    /// default profile does, and every libc falls back on clone.
    fn note(&mut self, asked: &Asked, call: &Call) -> Option<u16> {
        let name = call.name();
        if name == Some("clone3") {
            return Some(nix::libc::ENOSYS as u16);
        }
        // What comes before is our own; without no_new_privs the filter stands before the last of it.
        let own = asked.pid == self.init && !self.executed;
        self.capset_after |= own && name == Some("capset");
        self.executed |= asked.pid == self.init && name == Some("execve");
        if self.executed {
            let key = (call.arch, call.nr, telling(call));
            self.noted.entry(key).or_insert((*call, 0)).1 += 1;
        }
        None
    }

    /// The errno of a call that a profile denies; none: it goes on.
    fn deny(&mut self, listener: &OwnedFd, asked: &Asked, call: &Call) -> Option<u16> {
        const NO: u16 = nix::libc::EPERM as u16;
        let Some(watched) = &self.watched else { return Some(NO) };
        let mut lacks = None;
        let (profile, by, errno) = match strictest(&watched.profiles, call) {
            Some(((name, _), Verdict::Errno(errno), by)) => (name.clone(), by, errno),
            Some((_, verdict, by)) if verdict.permits() && lack::may(call) => {
                lacks = lack::lacks(call, &holder(asked.pid).unwrap_or(ALL_MAY));
                // None of ours: what happens is the kernel's answer.
                if lacks.is_none() || !sys::seccomp_still_asks(listener.as_fd(), asked.id) {
                    return None;
                }
                (String::new(), by, NO)
            }
            // The filter asks about nothing else; if it did, the answer is no.
            _ => (String::new(), By::Default, NO),
        };
        let answer = if lacks.is_none() { Some(errno) } else { None };
        let key = (call.arch, call.nr, telling(call), errno);
        if let Some(&place) = self.places.get(&key) {
            self.kinds[place].count += 1;
            return answer;
        }
        if self.kinds.len() == MOST_KINDS {
            self.others += 1;
            if let Some(ledger) = &mut self.ledger {
                ledger.full();
            }
            return answer;
        }
        let who = Who::of(asked.pid);
        let name = call.name().map_or_else(|| format!("system call {}", call.nr), str::to_owned);
        let said = decode::call(&name, call.args, |address| text_at(asked.pid, address));
        // The pid may be another's by now, and so may be what was read.
        let stands = sys::seccomp_still_asks(listener.as_fd(), asked.id);
        let said = if stands { said } else { decode::call(&name, call.args, |_| None) };
        let changes = watched.profiles.iter().filter_map(|(n, p)| Some((n.clone(), permit(p, call)?))).collect();
        let who = who.filter(|_| stands);
        let kind = Kind { name, call: said, raw: *call, errno, profile, by, who, changes, lacks, count: 1 };
        let told = match self.form {
            Form::Text => self.text(&kind),
            Form::Json => json!({ "type": "denial", "id": self.id, "data": self.json(&kind) }).to_string() + "\n",
        };
        if let Some(mut ledger) = self.ledger.take() {
            ledger.kind(self.json(&kind));
            self.ledger = Some(ledger);
        }
        self.places.insert(key, self.kinds.len());
        self.kinds.push(kind);
        self.say(&told);
        answer
    }

    fn text(&self, kind: &Kind) -> String {
        let who = match &kind.who {
            Some(w) => format!("{}, pid {} on the host, {} inside", decode::quoted(&w.comm), w.host, w.inside),
            None => "gone already".to_owned(),
        };
        let mut text = format!("stockade: denied: {} -> {}\n", kind.call, decode::errno(kind.errno));
        text += &match kind.lacks {
            Some(cap) => format!("    by     the kernel, after every profile: it needs {cap}, which it has not\n"),
            None => format!("    by     {}\n", rule(&kind.profile, kind.by)),
        };
        text += &format!("    from   {who}\n");
        for line in self.remedy(kind) {
            text += &format!("    allow  {line}\n");
        }
        text
    }

    /// What would let a kind through, a line each.
    fn remedy(&self, kind: &Kind) -> Vec<String> {
        if let Some(cap) = kind.lacks {
            return vec![format!("in process.capabilities: {cap}, as far as the policy gives it")];
        }
        kind.changes.iter().map(|(profile, change)| format!("in {profile}: {}", change.words())).collect()
    }

    /// How a profile of ours is changed: it is part of a policy, and no bundle changes that.
    fn ours_is_changed(&self) -> Option<String> {
        let watched = self.watched.as_ref()?;
        let (ours, _) = watched.profiles.iter().find(|(name, _)| name == "default" || name == "build")?;
        self.kinds.iter().find(|k| k.changes.iter().any(|(name, _)| name == ours))?;
        let mut text = format!(
            "    The profile {ours} is stockade's own. `stockade seccomp show --json {ours}` prints it:\n    a changed copy is for linux.seccomp of a config.json.\n"
        );
        if watched.floor {
            text += &format!(
                "    As the policy {} puts {ours} under that, an operator's file for --policy is\n    needed, too: {}\n",
                watched.policy,
                self.policy()
            );
        }
        Some(text)
    }

    fn policy(&self) -> Value {
        let name = self.watched.as_ref().map_or("strict", |w| w.policy.as_str());
        json!({ "extends": name, "seccomp": { "floor": "none" } })
    }

    fn json(&self, kind: &Kind) -> Value {
        let changes: Vec<Value> = kind
            .changes
            .iter()
            .map(|(profile, change)| {
                let mut change = json!({ "profile": profile, "change": change });
                if profile != "linux.seccomp" && self.watched.as_ref().is_some_and(|w| w.floor) {
                    change["policy"] = self.policy();
                }
                change
            })
            .collect();
        json!({
            "syscall": kind.name,
            "call": kind.call,
            "args": kind.raw.args.map(|a| format!("{a:#x}")),
            "errno": decode::errno(kind.errno),
            "profile": if kind.lacks.is_some() { Value::Null } else { json!(kind.profile) },
            "rule": if kind.lacks.is_some() { "capability".to_owned() } else { place(kind.by) },
            "process": kind.who.as_ref().map(|w| json!({ "hostPid": w.host, "pid": w.inside, "comm": w.comm })),
            "allow": if let Some(cap) = kind.lacks { json!([{ "capability": cap }]) } else { json!(changes) },
            "count": kind.count,
        })
    }

    /// The end: what was denied, how often, and what seccomp cannot tell. `unseen` are hints for a run that failed.
    pub fn finish(&mut self, status: Option<i32>, unseen: &[String]) {
        self.listener = None;
        let calls = self.kinds.iter().map(|k| k.count).sum::<u64>() + self.others;
        if let Some(ledger) = &mut self.ledger {
            ledger.end(self.kinds.iter().map(|k| k.count), calls, status);
        }
        if self.job != Watch::Denials || self.out.is_none() {
            return;
        }
        let sigsys = status == Some(128 + nix::libc::SIGSYS);
        let told = match self.form {
            Form::Json => {
                let kinds: Vec<Value> = self.kinds.iter().map(|k| self.json(k)).collect();
                let data = json!({ "calls": calls, "kinds": kinds, "untold": self.others, "sigsys": sigsys,
                    "status": status, "unseen": unseen });
                json!({ "type": "denials", "id": self.id, "data": data }).to_string() + "\n"
            }
            Form::Text => {
                let many = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
                let mut text = match calls {
                    0 if self.watched.is_none() => "stockade: denials: no filter, so none\n".to_owned(),
                    0 => "stockade: denials: none by seccomp\n".to_owned(),
                    n => format!(
                        "stockade: denials: {} of {}\n",
                        many(n as usize, "call"),
                        many(self.kinds.len(), "kind")
                    ),
                };
                for kind in &self.kinds {
                    text += &format!("    {:>6}  {} -> {}\n", kind.count, kind.call, decode::errno(kind.errno));
                }
                text += &self.ours_is_changed().unwrap_or_default();
                if self.others > 0 {
                    text += &format!("    {:>6}  of more kinds than are told one by one\n", self.others);
                }
                if sigsys {
                    text += "    it was killed by SIGSYS: a call met a rule that kills, or a system call of another\n    architecture; which one it was the kernel tells its audit log alone\n";
                }
                for line in unseen {
                    text += &format!("    {line}\n");
                }
                text
            }
        };
        self.say(&told);
        self.flush(true);
    }

    fn say(&mut self, text: &str) {
        if self.out.is_some() {
            let text = if self.raw { text.replace('\n', "\r\n") } else { text.to_owned() };
            self.pending.extend(text.into_bytes());
        }
        self.flush(false);
    }

    /// Writes what waits. Who reads nothing must not keep the workload waiting: unless it is the end, only as much is
    /// written as is taken at once.
    fn flush(&mut self, wait: bool) {
        while !self.pending.is_empty() {
            let Some(out) = &mut self.out else { return };
            let mut fds = [PollFd::new(out.as_fd(), PollFlags::POLLOUT)];
            let timeout = if wait { PollTimeout::NONE } else { PollTimeout::ZERO };
            if !matches!(poll(&mut fds, timeout), Ok(n) if n > 0) {
                return;
            }
            let chunk: Vec<u8> = self.pending.iter().take(CHUNK).copied().collect();
            match out.write(&chunk) {
                Ok(n) => drop(self.pending.drain(..n)),
                // Nobody is left to be told.
                Err(_) => self.out = None,
            }
        }
    }
}

/// `syscalls[3] of the profile default`
fn rule(profile: &str, by: By) -> String {
    match by {
        By::Entry(place) => format!("syscalls[{place}] of the profile {profile}"),
        By::Default => format!("the default action of the profile {profile}, which does not allow it"),
        By::Newer => format!("the profile {profile}, which is older than this call: so it answers ENOSYS"),
        By::Architecture => format!("the profile {profile}, which does not list this architecture"),
    }
}

fn place(by: By) -> String {
    match by {
        By::Entry(place) => format!("syscalls[{place}]"),
        By::Default => "defaultAction".to_owned(),
        By::Newer => "newer".to_owned(),
        By::Architecture => "architectures".to_owned(),
    }
}

/// The arguments by which profiles tell calls of one name apart.
fn telling(call: &Call) -> Vec<u64> {
    let conditions = narrowed(call.name().unwrap_or_default(), call.args);
    conditions.iter().map(|c| c.value_two().unwrap_or(c.value())).collect()
}

/// Nothing is missed by one who could not be looked at.
const ALL_MAY: Holder = Holder { caps: u64::MAX, uids: NO_IDS, gids: NO_IDS };
const NO_IDS: lack::Ids = lack::Ids { now: [0; 3], mapped: Vec::new() };

/// The credentials of a thread, with ids as it sees them.
fn holder(thread: i32) -> Option<Holder> {
    let read = |file: &str| crate::host::read_small(format!("/proc/{thread}/{file}"), 64 << 10).ok();
    let status = read("status")?;
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name));
    let ids = |name: &str, map: &str| {
        // First id inside, first id here, how many: user_namespaces(7).
        let map: Vec<[u32; 3]> = read(map)?
            .lines()
            .filter_map(|l| l.split_whitespace().map(|n| n.parse().ok()).collect::<Option<Vec<u32>>>()?.try_into().ok())
            .collect();
        let inside = |id: u32| map.iter().find_map(|m| Some(m[0] + id.checked_sub(m[1]).filter(|n| *n < m[2])?));
        let here: Vec<u32> = field(name)?.split_whitespace().filter_map(|n| n.parse().ok()).collect();
        let now = [inside(*here.first()?)?, inside(*here.get(1)?)?, inside(*here.get(2)?)?];
        Some(lack::Ids { now, mapped: map.iter().map(|m| (m[0], m[2])).collect() })
    };
    let caps = u64::from_str_radix(field("CapEff:")?.trim(), 16).ok()?;
    Some(Holder { caps, uids: ids("Uid:", "uid_map")?, gids: ids("Gid:", "gid_map")? })
}

impl Who {
    fn of(thread: i32) -> Option<Who> {
        let read = |file: &str| crate::host::read_small(format!("/proc/{thread}/{file}"), 64 << 10).ok();
        let status = read("status")?;
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)?.split_whitespace().last());
        Some(Who {
            host: field("Tgid:")?.parse().ok()?,
            inside: field("NStgid:")?.parse().ok()?,
            comm: read("comm")?.trim_end_matches('\n').to_owned(),
        })
    }
}

/// Whether the other end of a talk is open.
fn goes_on(talk: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(talk, PollFlags::empty())];
    matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
}

/// The text at an address of a process, up to its end or to what is shown at most.
fn text_at(pid: i32, address: u64) -> Option<String> {
    const PAGE: u64 = 4096;
    let memory = File::open(format!("/proc/{pid}/mem")).ok()?;
    let mut text = Vec::new();
    // A page at a time: the next one need not be there.
    while text.len() < 1024 && !text.contains(&0) {
        let at = address.checked_add(text.len() as u64)?;
        let mut part = vec![0u8; (PAGE - at % PAGE).min(256) as usize];
        match memory.read_at(&mut part, at) {
            Ok(n) if n > 0 => text.extend_from_slice(&part[..n]),
            _ => return None,
        }
    }
    let end = text.iter().position(|b| *b == 0).unwrap_or(text.len());
    Some(String::from_utf8_lossy(&text[..end]).into_owned())
}
