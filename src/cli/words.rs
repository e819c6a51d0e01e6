//! What was typed, before clap reads it.
//!
//! runc's callers write flags as Go's library takes them: `-no-subreaper` (containerd's shim), `--detach=false`,
//! `--rootless=true`, the verb `h`. They become clap's forms here. What belongs to a workload is left as it is: from the
//! command of `exec` and `sandbox` on, and from the arguments of `ps` on.

use crate::error::Error;
use crate::log::{Format, Target};
use clap::error::{ContextKind, ErrorKind};
use clap::{Arg, ArgAction, Command};
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// The name by which we were called: help and version speak of that.
pub fn called() -> String {
    let word = std::env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&word).file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name.is_empty() { "stockade".to_owned() } else { name }
}

/// The word that is the verb, `root` knowing the flags before it.
pub fn verb<'a>(typed: &'a [OsString], root: &Command) -> Option<&'a OsString> {
    let mut words = typed.iter().skip(1);
    while let Some(word) = words.next() {
        let Some(text) = word.to_str().filter(|t| t.starts_with('-') && t.len() > 1) else { return Some(word) };
        if text == "--" {
            return None;
        }
        if matches!(Flag::of(root, text), Some(Flag { arg, value: None, .. }) if takes_value(arg)) {
            words.next();
        }
    }
    None
}

/// The words in clap's forms; the first is the program's name.
pub fn normal(typed: Vec<OsString>, root: &Command) -> Vec<OsString> {
    let mut words = typed.into_iter();
    let mut out: Vec<OsString> = words.next().into_iter().collect();
    let mut verb: Option<&Command> = None;
    let mut positionals = 0;
    while let Some(word) = words.next() {
        let here = verb.unwrap_or(root);
        if word == "--" {
            out.push(word);
            break;
        }
        let Some(text) = word.to_str().filter(|t| t.starts_with('-') && t.len() > 1) else {
            if verb.is_none() {
                // An unknown one is clap's to refuse.
                let name = if word == "h" { OsStr::new("help") } else { &word };
                verb = root.find_subcommand(name);
                out.push(name.to_owned());
                if verb.is_none() {
                    break;
                }
                continue;
            }
            out.push(word);
            positionals += 1;
            if leads_to_trailing(here, positionals) {
                break;
            }
            continue;
        };
        match Flag::of(here, text) {
            Some(Flag { arg, value: None, .. }) if takes_value(arg) => {
                out.push(spelled(arg, text));
                out.extend(words.next());
            }
            Some(Flag { arg, value: Some(value), .. }) if !takes_value(arg) => match go_bool(value) {
                Some(true) => out.push(spelled(arg, text)),
                Some(false) => {}
                None => out.push(word),
            },
            Some(Flag { arg, value: Some(value), long: true }) => {
                let mut whole = spelled(arg, text);
                whole.push(format!("={value}"));
                out.push(whole);
            }
            Some(Flag { arg, value: None, .. }) => out.push(spelled(arg, text)),
            _ => out.push(word),
        }
    }
    out.extend(words);
    out
}

/// A word that names a flag of a verb.
struct Flag<'a> {
    arg: &'a Arg,
    value: Option<&'a str>,
    long: bool,
}

impl<'a> Flag<'a> {
    /// `--name`, `--name=value`, Go's `-name` and `-name=value`, and a single `-n`. What clap reads by itself (`-nVALUE`,
    /// `-xyz`) is none.
    fn of(here: &'a Command, text: &'a str) -> Option<Flag<'a>> {
        let bare = text.strip_prefix("--").or_else(|| text.strip_prefix('-'))?;
        let (name, value) = match bare.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (bare, None),
        };
        let by_long = here
            .get_arguments()
            .find(|a| a.get_long() == Some(name) || a.get_all_aliases().is_some_and(|list| list.contains(&name)));
        if let Some(arg) = by_long {
            return Some(Flag { arg, value, long: true });
        }
        let mut letters = name.chars();
        let (letter, rest) = (letters.next()?, letters.next());
        if text.starts_with("--") || rest.is_some() {
            return None;
        }
        let arg = here.get_arguments().find(|a| a.get_short() == Some(letter))?;
        Some(Flag { arg, value, long: false })
    }
}

/// The flag with the dashes that clap wants.
fn spelled(arg: &Arg, text: &str) -> OsString {
    match arg.get_long() {
        Some(long) => format!("--{long}").into(),
        None => text.into(),
    }
}

fn takes_value(arg: &Arg) -> bool {
    // One that can be left out comes with a `=` only.
    let may_stand_alone = arg.get_num_args().is_some_and(|n| n.min_values() == 0);
    !may_stand_alone && !matches!(arg.get_action(), ArgAction::SetTrue | ArgAction::Help | ArgAction::Version)
}

/// The values of Go's strconv.ParseBool.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Whether all that follows this positional belongs to somebody else.
fn leads_to_trailing(verb: &Command, seen: usize) -> bool {
    let before = verb.get_positionals().take_while(|a| !a.is_trailing_var_arg_set()).count();
    let trailing = verb.get_positionals().any(Arg::is_trailing_var_arg_set);
    trailing && seen >= before.max(1)
}

/// Where a failure of the command line itself is to be written: `--log` and `--log-format` as far as they can be made
/// out, because containerd shows its user the last line of that file and nothing else.
pub fn log_of(words: &[OsString]) -> (Option<Target>, Format) {
    let mut target = None;
    let mut format = Format::Text;
    let mut words = words.iter().skip(1).map_while(|w| w.to_str()).peekable();
    while let Some(word) = words.next() {
        if !word.starts_with('-') {
            break;
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        if !["--log", "--log-format", "--log-level", "--root", "--policy", "--criu", "--rootless", "--cgroup-manager"]
            .contains(&name)
        {
            continue;
        }
        let Some(value) = value.or_else(|| words.next()) else { break };
        match (name, value) {
            ("--log", value) => target = value.parse().ok(),
            ("--log-format", "json") => format = Format::Json,
            _ => {}
        }
    }
    (target, format)
}

/// What `--criu` names, also where the rest is only a question for help.
pub fn criu_of(words: &[OsString]) -> PathBuf {
    let named = words.iter().zip(words.iter().skip(1)).find(|(w, _)| *w == "--criu").map(|(_, value)| value.clone());
    let joined = || words.iter().find_map(|w| w.to_str()?.strip_prefix("--criu=").map(OsString::from));
    named.or_else(joined).map_or_else(|| "criu".into(), PathBuf::from)
}

/// clap's several lines as one error of ours.
pub fn refusal(e: &clap::Error, words: &[OsString], root: &Command) -> Error {
    let verb = words.iter().skip(1).find_map(|w| root.find_subcommand(w)).map(Command::get_name);
    let hint = match verb {
        Some(verb) => format!("stockade {verb} --help"),
        None => "stockade --help lists the verbs".to_owned(),
    };
    if e.kind() == ErrorKind::InvalidSubcommand {
        let word = e.get(ContextKind::InvalidSubcommand).map(ToString::to_string).unwrap_or_default();
        // The words of runc's own library for it.
        return Error::new("command line", "", format!("No help topic for '{word}': it is not a verb")).hint(hint);
    }
    let text = e.to_string();
    let first: Vec<&str> = text.lines().take_while(|l| !l.trim().is_empty()).map(str::trim).collect();
    let why = first.join(" ");
    Error::new("command line", verb.unwrap_or_default(), why.strip_prefix("error: ").unwrap_or(&why)).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal_text(text: &str) -> String {
        let words = std::iter::once("stockade").chain(text.split_whitespace()).map(OsString::from).collect();
        let out = normal(words, &crate::cli::command());
        out[1..].iter().map(|w| w.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn forms_of_go_become_forms_of_clap() {
        for (typed, meant) in [
            ("-root /x run -b DIR box", "--root /x run --bundle DIR box"),
            ("run -no-subreaper -detach box", "run --no-subreaper --detach box"),
            ("run --detach=false --keep=1 box", "run --keep box"),
            ("--systemd-cgroup=true list", "--systemd-cgroup list"),
            ("--debug=maybe list", "--debug=maybe list"),
            ("kill box -a -9", "kill box --all -9"),
            ("delete -f box", "delete --force box"),
            ("list -f json -q", "list --format json --quiet"),
            ("list -f=json", "list -f=json"),
            ("update --memory -1 box", "update --memory -1 box"),
            ("update -memory=-1 box", "update --memory=-1 box"),
            ("h run", "help run"),
            // A value that looks like a flag or a verb stays a value.
            ("--root -detach run --pid-file --keep=false box", "--root -detach run --pid-file --keep=false box"),
            ("--root run list", "--root run list"),
        ] {
            assert_eq!(normal_text(typed), meant, "{typed}");
        }
    }

    #[test]
    fn what_belongs_to_others_stays_as_it_is() {
        for typed in [
            "exec --tty box ls -tty=false -env",
            "ps --format json box -root -force=false",
            "sandbox -- -h=false",
            "sandbox sh -env=false",
        ] {
            assert_eq!(normal_text(typed), typed);
        }
    }

    #[test]
    fn the_log_is_found_whatever_else_is_wrong() {
        let of = |text: &str| log_of(&text.split_whitespace().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(of("x --root /r --log /l --log-format json fly"), (Some(Target::File("/l".into())), Format::Json));
        assert_eq!(of("x --log=/l --no-such fly --log /m"), (Some(Target::File("/l".into())), Format::Text));
        assert_eq!(of("x run --log /l"), (None, Format::Text));
    }
}
