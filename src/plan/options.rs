//! Decide: the words of `mounts[].options`.
//!
//! One table says what a word does; `features` lists the same table. What the table does not have goes to the file
//! system as it is, which refuses what it does not know either. A recursive word (`rro`) reaches the mount itself, too,
//! and wins over a plain one (`rw`) in whatever order they stand: the stricter reading, and that of other runtimes.

use super::attr;
use super::step::Attr;
use crate::error::{Error, Result};

/// What a word does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// Adds a flag; with `r` in front, also below.
    Set(u64),
    /// Takes a flag off; with `r` in front, also below.
    Clear(u64),
    /// Chooses the mode of access times, one of three; with `r` in front, also below.
    Atime(u64),
    /// Chooses the propagation; with `r` in front, also below.
    Propagation(u64),
    /// Switches something on in the file system itself, for all its mounts.
    Inner,
    /// Takes such a word back.
    NotInner(&'static str),
    Bind,
    BindBelow,
    Idmap,
    IdmapBelow,
    CopyUp,
    /// Changes the flags of the mount that is there.
    Remount,
    /// A word for what is so anyway.
    Nothing,
    /// Moves a mount and makes none.
    Refused,
}

const WORDS: [(&str, Does); 41] = [
    ("ro", Does::Set(attr::RDONLY)),
    ("rw", Does::Clear(attr::RDONLY)),
    ("nosuid", Does::Set(attr::NOSUID)),
    ("suid", Does::Clear(attr::NOSUID)),
    ("nodev", Does::Set(attr::NODEV)),
    ("dev", Does::Clear(attr::NODEV)),
    ("noexec", Does::Set(attr::NOEXEC)),
    ("exec", Does::Clear(attr::NOEXEC)),
    ("nodiratime", Does::Set(attr::NODIRATIME)),
    ("diratime", Does::Clear(attr::NODIRATIME)),
    ("nosymfollow", Does::Set(attr::NOSYMFOLLOW)),
    ("symfollow", Does::Clear(attr::NOSYMFOLLOW)),
    ("noatime", Does::Atime(attr::NOATIME)),
    ("strictatime", Does::Atime(attr::STRICTATIME)),
    // The kernel's default is relatime, so "not noatime" and "not strictatime" are that.
    ("relatime", Does::Atime(0)),
    ("atime", Does::Atime(0)),
    ("nostrictatime", Does::Atime(0)),
    ("norelatime", Does::Set(0)),
    ("private", Does::Propagation(attr::MS_PRIVATE)),
    ("slave", Does::Propagation(attr::MS_SLAVE)),
    ("shared", Does::Propagation(attr::MS_SHARED)),
    ("unbindable", Does::Propagation(attr::MS_UNBINDABLE)),
    ("sync", Does::Inner),
    ("async", Does::NotInner("sync")),
    ("dirsync", Does::Inner),
    ("lazytime", Does::Inner),
    ("nolazytime", Does::NotInner("lazytime")),
    ("mand", Does::Inner),
    ("nomand", Does::NotInner("mand")),
    // fsconfig(2) has no such word: the file systems that count versions of inodes do it by themselves.
    ("iversion", Does::Nothing),
    ("noiversion", Does::Nothing),
    ("silent", Does::Nothing),
    ("loud", Does::Nothing),
    ("defaults", Does::Nothing),
    ("bind", Does::Bind),
    ("rbind", Does::BindBelow),
    ("idmap", Does::Idmap),
    ("ridmap", Does::IdmapBelow),
    ("tmpcopyup", Does::CopyUp),
    ("remount", Does::Remount),
    ("move", Does::Refused),
];

/// Whether a word has a recursive form with `r` in front.
fn recurses(does: Does) -> bool {
    matches!(does, Does::Set(_) | Does::Clear(_) | Does::Atime(_) | Does::Propagation(_))
}

/// Every word that stockade understands by itself, sorted: for `features`.
pub fn all() -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for (word, does) in WORDS {
        if does != Does::Refused {
            words.push(word.to_owned());
        }
        if recurses(does) {
            words.push(format!("r{word}"));
        }
    }
    words.sort();
    words
}

/// The options of a mount, understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Asked {
    /// A bind.
    pub bind: bool,
    /// With the mounts below the source.
    pub recursive: bool,
    /// Idmapped.
    pub idmap: bool,
    /// The mounts below, too.
    pub idmap_below: bool,
    /// The content of what is covered is copied.
    pub copy_up: bool,
    /// No mount is made: the one that is there gets these flags.
    pub remount: bool,
    /// Flags.
    pub attr: Attr,
    /// The word that connects it with the host's mounts: its place in the list, and itself.
    pub connected: Option<(usize, String)>,
    /// For the file system.
    pub data: Vec<(String, String)>,
}

impl Asked {
    /// Reads the options of `mounts[index]`.
    pub fn read(index: usize, options: &[String]) -> Result<Asked> {
        let mut asked = Asked::default();
        // buildah sends an empty one for a volume without options; it asks for nothing.
        for (j, option) in options.iter().enumerate().filter(|(_, o)| !o.is_empty()) {
            let known = |word: &str| WORDS.iter().find(|(w, _)| *w == word).map(|(_, does)| *does);
            let (does, below) = match known(option) {
                Some(does) => (Some(does), false),
                None => (option.strip_prefix('r').and_then(known).filter(|d| recurses(*d)), true),
            };
            let a = &mut asked.attr;
            let (set, clear) = if below { (&mut a.set_below, &mut a.clear_below) } else { (&mut a.set, &mut a.clear) };
            match does {
                Some(Does::Set(bit)) => {
                    *set |= bit;
                    *clear &= !bit;
                }
                Some(Does::Clear(bit)) => {
                    *set &= !bit;
                    *clear |= bit;
                }
                Some(Does::Atime(mode)) => {
                    // One mode replaces another, and mount_setattr(2) wants the whole mask cleared for that.
                    *set = *set & !attr::ATIME | mode;
                    *clear |= attr::ATIME;
                }
                Some(Does::Propagation(flag)) => {
                    a.propagation = flag;
                    a.propagation_below = below;
                    let connects = matches!(flag, attr::MS_SHARED | attr::MS_SLAVE);
                    asked.connected = connects.then(|| (j, option.clone()));
                }
                Some(Does::Inner) => asked.data.push((option.clone(), String::new())),
                Some(Does::NotInner(word)) => asked.data.retain(|(k, v)| !(k == word && v.is_empty())),
                Some(Does::Bind) => asked.bind = true,
                Some(Does::BindBelow) => {
                    asked.bind = true;
                    asked.recursive = true;
                }
                Some(Does::Idmap) => asked.idmap = true,
                Some(Does::IdmapBelow) => {
                    asked.idmap = true;
                    asked.idmap_below = true;
                }
                Some(Does::CopyUp) => asked.copy_up = true,
                Some(Does::Remount) => asked.remount = true,
                Some(Does::Nothing) => {}
                Some(Does::Refused) => {
                    let here = format!("mounts[{index}].options[{j}]");
                    let why = format!("{option:?} moves a mount and makes none");
                    return Err(Error::new("config.json", here, why)
                        .hint("name the place where it shall be in the end as its destination"));
                }
                None => {
                    let (key, value) = option.split_once('=').unwrap_or((option, ""));
                    asked.data.push((key.to_owned(), value.to_owned()));
                }
            }
        }
        Ok(asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &str) -> Asked {
        Asked::read(0, &words.split(',').map(str::to_owned).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn every_word_of_the_specification_is_there() {
        let specified = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev \
            nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private ratime \
            rbind rdev rdiratime relatime rexec rnoatime rnodev rnodiratime rnoexec rnorelatime rnostrictatime rnosuid \
            rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid rsymfollow runbindable rw \
            shared silent slave strictatime suid symfollow sync tmpcopyup unbindable idmap ridmap remount";
        let all = all();
        for word in specified.split_whitespace() {
            assert!(all.iter().any(|w| w == word), "{word}");
            assert!(!read(word).data.iter().any(|(k, _)| k != word), "{word}");
        }
        // What is listed is understood: nothing of it is left for the file system but what is the file system's.
        for word in &all {
            let inner = ["sync", "dirsync", "lazytime", "mand"].contains(&word.as_str());
            assert_eq!(read(word).data.is_empty(), !inner, "{word}");
        }
        assert!(!all.iter().any(|w| w == "move"));
    }

    #[test]
    fn the_last_of_two_plain_words_counts_and_a_recursive_one_wins() {
        assert_eq!(read("ro,rw").attr.top(), (0, attr::RDONLY));
        assert_eq!(read("rw,ro").attr.top(), (attr::RDONLY, 0));
        assert_eq!(read("rro,rw").attr.top(), (attr::RDONLY, 0));
        assert_eq!(read("rw,rro").attr.top(), (attr::RDONLY, 0));
        assert_eq!(read("ro,rrw").attr.top(), (0, attr::RDONLY));
        assert_eq!(read("noatime,strictatime").attr.top(), (attr::STRICTATIME, attr::ATIME));
        assert_eq!(read("noatime,rrelatime").attr.top(), (0, attr::ATIME));
        assert_eq!(read("strictatime,atime").attr.top(), (0, attr::ATIME));
        let both = read("noatime,nodiratime").attr.top();
        assert_eq!(both, (attr::NOATIME | attr::NODIRATIME, attr::ATIME));
        assert_eq!(read("sync,async,dirsync").data, [("dirsync".to_owned(), String::new())]);
    }

    #[test]
    fn what_is_no_word_is_for_the_file_system_as_it_is() {
        let asked = read("size=64k,r,ronly,rbind2,mode=0755,x=a=b");
        let keys: Vec<&str> = asked.data.iter().map(|(k, _)| k.as_str()).collect();
        assert_eq!(keys, ["size", "r", "ronly", "rbind2", "mode", "x"]);
        assert_eq!(asked.data[5].1, "a=b");
        assert_eq!(asked.attr, Attr::default());
        assert_eq!((read(",ro,").data.len(), read(",ro,").attr.top()), (0, (attr::RDONLY, 0)));
        let e = Asked::read(3, &["ro".into(), "move".into()]).unwrap_err().to_string();
        assert!(e.contains("mounts[3].options[1]") && e.contains("\"move\" moves a mount"), "{e}");
    }
}
