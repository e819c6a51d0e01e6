//! Do: the runtime executes a sealed copy of its own binary, in memory, where a stub (`stub.rs`) would not do.
//!
//! A copy, and neither an overlay nor a read-only bind: those share their pages with the file on the host, so that a bug
//! of the kernel's that writes to the page cache of what can be read (CVE-2022-0847, CVE-2026-31431) reaches the runtime
//! through them. A copy of this launch's own is worth nothing to anybody; it is paid for, and what is copied is kept small.
//!
//! This comes before anything is opened, locked or read that can be read only once, because it is an execve: the same
//! process starts over with the same words. `plan::own` decides; the step of the plan checks that it was done.

use crate::error::{Context, Error, Result};
use crate::host::Binary;
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, SealFlag, fcntl, open};
use nix::sys::stat::Mode;
use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

const STEP: &str = "own binary";
/// How often the seals are tried; each try waits up to 150 ms in the kernel.
const ATTEMPTS: u32 = 40;

/// Starts over from a sealed copy, where there is a reason and this is none yet.
pub fn secure(reason: Option<String>, binary: Binary) -> Result<()> {
    match reason.filter(|_| binary != Binary::Sealed) {
        None => Ok(()),
        Some(reason) => match start_over(&reason)? {},
    }
}

/// Starts over from a sealed copy, never from an overlay (see above). Returns only if it cannot. Whatever is open goes along, so the caller holds nothing
/// open but what it was started with.
pub fn start_over(reason: &str) -> Result<Infallible> {
    crate::log::debug(&format!("own binary: {reason}: a sealed copy is executed"));
    let copy = copy()?;
    keep_inherited(&copy)?;
    let words = |all: &mut dyn Iterator<Item = std::ffi::OsString>| {
        let all: std::result::Result<Vec<CString>, _> = all.map(|w| CString::new(w.into_vec())).collect();
        all.map(sys::ExecArray::from_strings).map_err(|_| Error::os(STEP, "", Errno::EINVAL))
    };
    let args = words(&mut std::env::args_os())?;
    let env = words(&mut std::env::vars_os().map(|(mut name, value)| {
        name.push("=");
        name.push(value);
        name
    }))?;
    Err(Error::os(STEP, "sealed copy", sys::fexecve(copy.as_fd(), &args, &env)).hint(HINT))
}

/// What can be done where there is no executable memory.
pub const HINT: &str = "a container that can write the runtime's binary gets a copy in memory: give it a user namespace that \
    does not map the binary's owner, or let vm.memfd_noexec be below 2";

/// Does the step of the plan: what runs is the copy.
pub fn check() -> Result<()> {
    if Binary::read() != Binary::Sealed {
        return Err(Error::new(STEP, "/proc/self/exe", "is not the sealed copy that this launch needs"));
    }
    // The kernel calls it by its descriptor; people look for stockade.
    let name = crate::cli::words::called();
    let name = CString::new(name).map_err(|_| Error::os(STEP, "name", Errno::EINVAL))?;
    sys::set_name(&name).at(STEP, "name")
}

/// An empty file in memory that can be executed.
pub fn memory() -> Result<OwnedFd> {
    sys::executable_memory(c"stockade").at(STEP, "memfd").map_err(|e| e.hint(HINT))
}

fn copy() -> Result<OwnedFd> {
    let exe = "/proc/self/exe";
    let source = open(exe, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).at(STEP, exe)?;
    let memory = memory()?;
    let (mut from, mut to) = (std::fs::File::from(source), std::fs::File::from(memory));
    std::io::copy(&mut from, &mut to).at(STEP, "memfd")?;
    let memory = OwnedFd::from(to);
    seal(&memory)?;
    Ok(memory)
}

/// Nobody, whatever its rights, can change it any more: F_ADD_SEALS of fcntl(2).
pub fn seal(memory: &OwnedFd) -> Result<()> {
    // EBUSY while anything in the kernel holds a reference to a page: memory management does for a moment, and on a host
    // that watches its pages (DAMON) often.
    let mut left = ATTEMPTS;
    loop {
        match fcntl(memory, FcntlArg::F_ADD_SEALS(SealFlag::all())) {
            Err(Errno::EBUSY) if left > 0 => std::thread::sleep(Duration::from_millis(2)),
            done => break done.map(drop).at(STEP, "seals")?,
        }
        left -= 1;
    }
    // Else the next one would copy itself, too, and so on.
    if !is_sealed(memory.as_fd()) {
        return Err(Error::new(STEP, "memfd", "could not be sealed"));
    }
    Ok(())
}

/// Whether nobody can ever write this file.
pub fn is_sealed(fd: BorrowedFd<'_>) -> bool {
    let wanted = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(fd, FcntlArg::F_GET_SEALS).is_ok_and(|bits| SealFlag::from_bits_retain(bits).contains(wanted))
}

/// What the caller left open was marked to be closed by an execve, which was not to be this one.
fn keep_inherited(copy: &OwnedFd) -> Result<()> {
    let path = "/proc/self/fd";
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut listing = nix::dir::Dir::open(path, flags, Mode::empty()).at(STEP, path)?;
    let own = [copy.as_raw_fd(), listing.as_raw_fd()];
    let numbers = listing.iter().flatten().filter_map(|e| e.file_name().to_str().ok()?.parse::<i32>().ok());
    for fd in numbers.filter(|n| *n > 2 && !own.contains(n)) {
        fcntl(sys::borrow(fd), FcntlArg::F_SETFD(FdFlag::empty())).at(STEP, format!("descriptor {fd}"))?;
    }
    Ok(())
}
