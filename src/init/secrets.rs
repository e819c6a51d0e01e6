//! Do: the secrets of the caller, on memory that is neither swapped nor on a disk.
//!
//! A ramfs and no tmpfs: its pages are unevictable on every kernel and in every user namespace, and tmpfs's `noswap` is
//! refused there. It has no limit of size, so it is written once, from what was measured, and seen only when it is
//! read-only.

use super::Child;
use crate::error::{Context, Error, Result};
use crate::plan::secrets::PLACE;
use crate::plan::{Attr, Step, attr};
use crate::{mount, sys};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, fchown, write};
use std::os::fd::AsFd;
use std::path::Path;

impl Child<'_> {
    pub(super) fn secrets(&mut self, step: &Step) -> Result<()> {
        let Step::Secrets { uid, gid, options, .. } = step else { return Ok(()) };
        let (name, subject) = (step.name(), step.subject());
        let secrets = std::mem::take(&mut self.own.secrets);
        let flags = attr::NOSUID | attr::NODEV | attr::NOEXEC;
        let memory = mount::new_filesystem(name, &subject, ("ramfs", "secrets"), options, &Attr::set(flags)).map_err(
            |e| match e.errno() {
                Some(Errno::ENODEV) => e.hint("this kernel has no ramfs"),
                _ => e,
            },
        )?;
        for secret in &secrets {
            let create = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let file = openat(&memory, secret.name.as_str(), create, Mode::from_bits_truncate(0o400))
                .at(name, &secret.name)?;
            let mut rest = secret.bytes();
            while !rest.is_empty() {
                match write(&file, rest) {
                    Ok(0) => return Err(Error::os(name, secret.name.as_str(), Errno::ENOSPC)),
                    Ok(n) => rest = &rest[n..],
                    Err(Errno::EINTR) => {}
                    Err(e) => return Err(Error::os(name, secret.name.as_str(), e)),
                }
            }
            fchown(&file, Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)))
                .at(name, format!("{} for {uid}:{gid}", secret.name))?;
        }
        // Wiped: the child lives on as this program until the start.
        drop(secrets);
        let change = sys::MountAttr { set: attr::RDONLY, ..sys::MountAttr::default() };
        sys::mount_setattr(memory.as_fd(), false, change).at(name, &subject)?;
        // No link at all: an image could have the secrets appear where the workload shows its files to others.
        let target = mount::make_dir(self.root()?, Path::new(PLACE), false).at(name, PLACE).map_err(|e| {
            match e.errno() {
                Some(Errno::EROFS | Errno::EACCES | Errno::EOVERFLOW | Errno::EPERM) => e.hint(
                    "make /run/secrets in the rootfs, or mount a tmpfs on /run: the container's root can make no directory there",
                ),
                Some(Errno::ELOOP) => e.hint("/run and /run/secrets must be directories of the rootfs, not symbolic links"),
                Some(Errno::ENOTDIR) => e.hint("/run and /run/secrets must be directories"),
                _ => e,
            }
        })?;
        mount::attach(&memory, &target).at(name, PLACE)
    }
}
