//! Read: secrets that the caller hands to a container (`--secret NAME=FILE`).
//!
//! A secret is read once, before the clone, into memory that is neither swapped nor dumped, and wiped when it goes. The
//! child puts it into a ramfs of the container's (`init::secrets`), whose pages are never swapped either. It has no way
//! into a state, a log, a plan or an environment: those know its name and its size.

use crate::error::{Context, Error, Result};
use crate::plan::SecretFile;
use crate::sys::{self, PrivateMemory};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::read;
use std::os::fd::{AsFd, BorrowedFd};

/// The most that one secret may have: a ramfs has no limit of its own, and its memory cannot be swapped.
pub const MOST_BYTES: usize = 1 << 20;
/// The most that one container may have.
pub const MOST_SECRETS: usize = 64;

/// One secret.
pub struct Secret {
    /// Its file in /run/secrets.
    pub name: String,
    memory: PrivateMemory,
    len: usize,
}

impl Secret {
    /// What it is.
    pub fn bytes(&self) -> &[u8] {
        &self.memory.bytes()[..self.len]
    }

    /// What a plan may know of it.
    pub fn file(&self) -> SecretFile {
        SecretFile { name: self.name.clone(), size: self.len, swappable: !self.memory.is_locked() }
    }
}

/// Reads all of `NAME=FILE`, where FILE may be `-`: stdin.
pub fn read_all(words: &[String]) -> Result<Vec<Secret>> {
    if words.len() > MOST_SECRETS {
        return Err(Error::new("--secret", words.len().to_string(), format!("more than {MOST_SECRETS}")));
    }
    let mut named: Vec<(&str, &str)> = Vec::with_capacity(words.len());
    for word in words {
        // Whatever is behind the name may be the secret itself, by mistake: no error shows it.
        let (name, file) = word.split_once('=').unwrap_or((word, ""));
        if !is_name(name) {
            let why = "the name of a secret is of letters, digits, '_', '-' and '.', 64 at most, and begins with none of '-' and '.'";
            let shown = if word.contains('=') { name } else { "" };
            return Err(Error::new("--secret", shown, why).hint("--secret NAME=FILE, or NAME=- for stdin"));
        }
        if file.is_empty() {
            return Err(
                Error::new("--secret", name, "no file is named").hint("--secret NAME=FILE, or NAME=- for stdin")
            );
        }
        if named.iter().any(|(other, _)| *other == name) {
            return Err(Error::new("--secret", name, "given twice"));
        }
        if file == "-" && named.iter().any(|(_, other)| *other == "-") {
            return Err(Error::new("--secret", name, "stdin is another secret already"));
        }
        named.push((name, file));
    }
    named.into_iter().map(|(name, file)| read_one(name, file)).collect()
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with(['.', '-'])
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn read_one(name: &str, file: &str) -> Result<Secret> {
    let hint = "NAME=FILE: the secret is what the file has";
    if file == "-" {
        return read_from(name, sys::borrow(0));
    }
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY;
    let fd = open(file, flags, Mode::empty()).at("--secret", name).map_err(|e| e.hint(hint))?;
    read_from(name, fd.as_fd())
}

fn read_from(name: &str, fd: BorrowedFd<'_>) -> Result<Secret> {
    let too_long = || Error::new("--secret", name, format!("more than {MOST_BYTES} bytes"));
    let stat = fstat(fd).at("--secret", name)?;
    // One more than there is, to see the end.
    let room = match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => usize::try_from(stat.st_size).unwrap_or(usize::MAX),
        SFlag::S_IFIFO | SFlag::S_IFSOCK | SFlag::S_IFCHR => MOST_BYTES,
        _ => return Err(Error::new("--secret", name, "neither a file nor a pipe")),
    };
    if room > MOST_BYTES {
        return Err(too_long());
    }
    // Files of procfs and sysfs say that they are empty.
    let room = if room == 0 { MOST_BYTES } else { room };
    let mut memory = PrivateMemory::new(room + 1).at("--secret", name)?;
    let mut len = 0;
    loop {
        match read(fd, &mut memory.bytes_mut()[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(Errno::EINTR) => {}
            Err(e) => return Err(Error::os("--secret", name, e)),
        }
        if len > room {
            return Err(if room == MOST_BYTES {
                too_long()
            } else {
                Error::new("--secret", name, "grew while it was read")
            });
        }
    }
    Ok(Secret { name: name.to_owned(), memory, len })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        match read_all(&words) {
            Ok(_) => panic!("{words:?} was taken"),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn a_name_is_one_of_a_file_and_nothing_else() {
        for bad in ["", ".", "..", ".x", "-x", "a/b", "../x", "a b", "ä", "a\n", &"x".repeat(65)] {
            assert!(!is_name(bad), "{bad:?}");
            assert!(error(&[&format!("{bad}=/dev/null")]).contains("the name of a secret"), "{bad:?}");
        }
        for good in ["a", "API_KEY", "tls.key", "0", &"x".repeat(64)] {
            assert!(is_name(good), "{good:?}");
        }
    }

    #[test]
    fn no_error_shows_what_may_be_the_secret_itself() {
        for words in [&["key=hunter2"][..], &["hunter2/"], &["key=hunter2", "key=hunter2"], &["a b=hunter2"]] {
            let e = error(words);
            assert!(!e.contains("hunter2") && e.starts_with("--secret"), "{e}");
        }
    }

    #[test]
    fn what_is_read_is_bounded_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s").display().to_string();
        for size in [0, 1, 4096, MOST_BYTES] {
            std::fs::write(&path, vec![7u8; size]).unwrap();
            let read = read_all(&[format!("a={path}")]).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(read[0].bytes(), vec![7u8; size]);
            assert_eq!((read[0].file().name.as_str(), read[0].file().size), ("a", size));
        }
        std::fs::write(&path, vec![7u8; MOST_BYTES + 1]).unwrap();
        assert!(error(&[&format!("a={path}")]).contains("more than 1048576 bytes"));
        assert!(error(&["a=/dev/zero"]).contains("more than 1048576 bytes"));
        assert!(error(&["a=/"]).contains("neither a file nor a pipe"));
        assert!(error(&["a=/none/there"]).contains("(ENOENT)"));
        assert!(error(&["a="]).contains("no file is named"));
        assert!(error(&["a=/dev/null", "a=/dev/null"]).contains("given twice"));
        assert!(error(&["a=-", "b=-"]).contains("stdin is another secret already"));
        let many: Vec<String> = (0..=MOST_SECRETS).map(|n| format!("a{n}=/dev/null")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(error(&many).contains("more than 64"));
    }
}
