//! Do: the stub, a sealed program of one page that stands between the ladder and the workload.
//!
//! ```text
//! child (init.rs), the runtime's file          stub, sealed memory of this launch            workload
//! ladder, Ready, execveat ------------------>  Settled; Commit; Committed; gate; filters --> execve
//! ```
//!
//! `/proc/PID/exe` of the child is the host's file of the runtime, and a container with the ids of its owner could write
//! it (CVE-2019-5736). As long as the child is alone in a pid namespace of its own nobody can look at it; what could
//! is the workload itself, when it is executed from `/proc/self/exe` or by `#!/proc/self/exe`, and what `exec` brings in while
//! it waits for `start`. By then the child is the stub: it has the rights of the workload and no others, no descriptor but
//! the ends of the talk, and a file that belongs to this launch and that nobody can write.
//!
//! A sealed copy of the whole runtime (`own.rs`) does the same at the price of copying it. `plan::own` says which is needed.
//!
//! The stub allocates nothing and decides nothing: it makes the system calls of a table (`stub.s`), and the table is
//! made here from the steps of the plan.

use crate::error::{Context, Error, Result};
use crate::plan::{Actor, Plan, Step};
use crate::sync::{Tag, message_with_room};
use crate::{own, state, sys};
use nix::libc;
use std::io::Write;
use std::os::fd::{OwnedFd, RawFd};

/// What errors and `explain` call it.
pub const NAME: &str = "stub";

/// Where the kernel maps it. Code and table are one page of the file, mapped twice: once to be executed, once to be
/// written, which makes a copy of the page and does not touch the file.
const BASE: u32 = 0x40_0000;
/// Offset of the table in the file; before it are the ELF header and the code.
const OFFSET: usize = 0x400;
/// Address of the table's head; `stub.s` knows it, too.
pub const HEAD: u32 = BASE + 0x1000 + OFFSET as u32;
/// Address of the first entry.
pub const TABLE: u32 = HEAD + 8;

/// The descriptors of the child that the stub goes on with.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// Its end of the talk.
    pub channel: RawFd,
    /// The gate of `create`.
    pub gate: Option<RawFd>,
    /// Where a failure after the commit is written.
    pub failure: Option<RawFd>,
    /// It stays tied to the runtime.
    pub foreground: bool,
}

/// The stub for a plan that has one.
pub fn seal(plan: &Plan, ends: &Ends) -> Result<Option<OwnedFd>> {
    let Some(at) = plan.steps.iter().position(|s| matches!(s, Step::Stub { .. })) else { return Ok(None) };
    let rest = plan.steps[at + 1..].iter().filter(|s| s.actor() == Actor::Child);
    let image = image(&table(rest, ends)?)?;
    let mut file = std::fs::File::from(own::memory()?);
    file.write_all(&image).at(NAME, "memfd")?;
    let memory = OwnedFd::from(file);
    own::seal(&memory)?;
    Ok(Some(memory))
}

/// An argument: a number, or the address of bytes that go behind the table.
enum Word {
    Number(i64),
    Bytes(Vec<u8>),
    /// struct sock_fprog of seccomp(2).
    Program(Vec<u8>),
}

/// A message, and where in it the errno goes.
type Failure = (Vec<u8>, usize);

struct Call {
    number: i64,
    words: Vec<Word>,
    due: i64,
    failure: Option<Failure>,
}

struct Table {
    /// Failures are written there.
    to: RawFd,
    calls: Vec<Call>,
}

/// What the stub does, from the steps after it.
fn table<'a>(steps: impl Iterator<Item = &'a Step>, ends: &Ends) -> Result<Table> {
    use Word::{Bytes, Number, Program};
    let to = ends.failure.unwrap_or(ends.channel);
    // The file of failures holds the bare error.
    let told = |error: Error| -> Result<Failure> {
        let (mut message, mut at) = message_with_room(error)?;
        if ends.failure.is_some() {
            message.remove(0);
            at -= 1;
        }
        Ok((message, at))
    };
    let own = |what: &str| told(Error::new(NAME, what, ""));
    let fd = |fd: RawFd| Number(i64::from(fd));
    let call = |number, words, due, failure| Call { number, words, due, failure: Some(failure) };
    let read = |from, what| -> Result<Call> {
        // One byte: the tag of a message whose rest is empty, or the call of `start`.
        Ok(call(libc::SYS_read, vec![fd(from), Bytes(vec![0]), Number(1)], 1, own(what)?))
    };
    let write = |to, byte, what| -> Result<Call> {
        Ok(call(libc::SYS_write, vec![fd(to), Bytes(vec![byte]), Number(1)], 1, own(what)?))
    };

    let mut calls = Vec::new();
    // They came through the execve of the stub; the workload does not get them, and by their end others know of it.
    for end in [Some(ends.channel), ends.gate, ends.failure].into_iter().flatten() {
        let words = vec![fd(end), Number(libc::F_SETFD.into()), Number(libc::FD_CLOEXEC.into())];
        calls.push(call(libc::SYS_fcntl, words, 0, own("fcntl")?));
    }
    // Nobody reads its memory, where the environment of the workload is (CVE-2016-8659); the workload's execve ends that.
    let words = vec![Number(libc::PR_SET_DUMPABLE.into()), Number(0)];
    calls.push(call(libc::SYS_prctl, words, 0, own("dumpable")?));
    // The kernel calls it by its descriptor; people look for stockade.
    let words = vec![Number(libc::PR_SET_NAME.into()), Bytes(b"stockade\0".to_vec())];
    calls.push(Call { number: libc::SYS_prctl, words, due: -1, failure: None });
    calls.push(write(ends.channel, Tag::Settled as u8, "Settled")?);
    calls.push(read(ends.channel, "Commit")?);
    if !ends.foreground {
        let words = vec![Number(libc::PR_SET_PDEATHSIG.into()), Number(0)];
        calls.push(call(libc::SYS_prctl, words, 0, own("death signal")?));
    }
    calls.push(write(ends.channel, Tag::Committed as u8, "Committed")?);
    for step in steps {
        match step {
            Step::Gate => match ends.gate {
                Some(gate) => {
                    calls.push(read(gate, "gate")?);
                    calls.push(write(gate, state::GATE_ANSWER[0], "gate")?);
                }
                None => calls.push(read(ends.channel, "Start")?),
            },
            Step::Seccomp { filter } => {
                let flags = i64::from_ne_bytes(filter.flags.to_ne_bytes());
                let words = vec![Number(libc::SECCOMP_SET_MODE_FILTER.into()), Number(flags), Program(filter.bytes())];
                let failure = told(Error::new(step.name(), filter.profile.as_str(), ""))?;
                calls.push(call(libc::SYS_seccomp, words, 0, failure));
            }
            Step::Exec { args, .. } => {
                let program = args.first().map_or("", String::as_str);
                calls.push(call(-1, Vec::new(), 0, told(crate::init::no_exec(program))?));
            }
            other => return Err(Error::new(NAME, other.name(), "is not a step of the stub")),
        }
    }
    Ok(Table { to, calls })
}

/// The whole file.
fn image(table: &Table) -> Result<Vec<u8>> {
    let code = sys::stub_code();
    let mut file = elf_header(0);
    if code.is_empty() || file.len() + code.len() > OFFSET {
        return Err(Error::new(NAME, "code", format!("{} bytes do not fit", code.len())));
    }
    let words = 9 * table.calls.len();
    let mut entries: Vec<i64> = vec![i64::from(table.to)];
    let mut data: Vec<u8> = Vec::new();
    let start = u64::from(TABLE) + 8 * words as u64;
    let mut put = |bytes: &[u8]| {
        data.resize(data.len().next_multiple_of(8), 0);
        let address = start + data.len() as u64;
        data.extend(bytes);
        i64::from_ne_bytes(address.to_ne_bytes())
    };
    for call in &table.calls {
        let mut arguments = [0i64; 6];
        for (slot, word) in arguments.iter_mut().zip(&call.words) {
            *slot = match word {
                Word::Number(n) => *n,
                Word::Bytes(bytes) => put(bytes),
                Word::Program(program) => {
                    let at = put(program);
                    // struct sock_fprog: a number of instructions of 8 bytes, and their address.
                    put(&[(program.len() as i64 / 8).to_ne_bytes(), at.to_ne_bytes()].concat())
                }
            };
        }
        let failure = call.failure.as_ref().map_or(0, |(message, errno_at)| {
            let at = put(message);
            let words = [at, message.len() as i64, at + *errno_at as i64];
            put(&words.map(i64::to_ne_bytes).concat())
        });
        entries.push(call.number);
        entries.extend(arguments);
        entries.extend([call.due, failure]);
    }
    let length = 8 * entries.len() + data.len();
    file = elf_header(length as u64);
    file.extend(code);
    file.resize(OFFSET, 0);
    file.extend(entries.into_iter().flat_map(i64::to_ne_bytes));
    file.extend(data);
    Ok(file)
}

/// elf(5): an executable at a fixed address with two segments and a stack that is not executable.
fn elf_header(table: u64) -> Vec<u8> {
    const HEADER: u16 = 64;
    const SEGMENT: u16 = 56;
    const SEGMENTS: u16 = 3;
    const READ: u32 = 4;
    const WRITE: u32 = 2;
    const EXECUTE: u32 = 1;
    let base = u64::from(BASE);
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |bytes: &mut Vec<u8>, values: &[u16]| bytes.extend(values.iter().flat_map(|v| v.to_le_bytes()));
    // ET_EXEC, EM_X86_64, version
    half(&mut bytes, &[2, 62, 1, 0]);
    let entry = base + u64::from(HEADER + SEGMENT * SEGMENTS);
    for value in [entry, u64::from(HEADER), 0] {
        bytes.extend(value.to_le_bytes());
    }
    half(&mut bytes, &[0, 0, HEADER, SEGMENT, SEGMENTS, 0, 0, 0]);
    let offset = OFFSET as u64;
    for (kind, flags, at, address, size) in [
        (1u32, READ | EXECUTE, 0, base, offset),
        (1, READ | WRITE, offset, u64::from(HEAD), table),
        // PT_GNU_STACK
        (0x6474_e551, READ | WRITE, 0, 0, 0),
    ] {
        bytes.extend([kind.to_le_bytes(), flags.to_le_bytes()].concat());
        for value in [at, address, address, size, size, 0x1000] {
            bytes.extend(value.to_le_bytes());
        }
    }
    bytes
}
