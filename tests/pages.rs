//! man/ and completions/: made here from the command line, so that neither can say what the program does not; and every
//! verb's help has an example that the program takes.
//!
//! `UPDATE_GOLDEN=1 cargo test --test pages` writes them.

#![allow(clippy::unwrap_used)]

mod common;
use clap::CommandFactory;
use clap_complete::Shell;
use common::*;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use stockade::cli::{self, Cli, words};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The verbs that help lists.
fn verbs() -> Vec<clap::Command> {
    Cli::command().get_subcommands().filter(|c| !c.is_hide_set()).cloned().collect()
}

/// A page for the program and one for each verb.
fn pages() -> BTreeMap<String, Vec<u8>> {
    let mut pages = BTreeMap::new();
    let mut add = |command: clap::Command, name: String| {
        let mut page = Vec::new();
        let command = command.version(env!("CARGO_PKG_VERSION")).disable_version_flag(true);
        let man =
            clap_mangen::Man::new(command).title(name.to_uppercase()).source("stockade").manual("stockade manual");
        man.render(&mut page).unwrap();
        // What comes after the help is examples, here, and their lines are lines.
        let page = text(&page).replace(".SH EXTRA\nExamples:\n", ".SH EXTRA\nExample:\n");
        let page =
            page.replace(".SH EXTRA\nExample:\n", ".SH EXAMPLES\n.nf\n").replace("\n.SH VERSION", "\n.fi\n.SH VERSION");
        pages.insert(format!("{name}.1"), page.into_bytes());
    };
    add(Cli::command(), "stockade".to_owned());
    for verb in verbs() {
        let name = format!("stockade-{}", verb.get_name());
        let typed = format!("stockade {}", verb.get_name());
        for below in verb.get_subcommands().cloned().collect::<Vec<_>>() {
            let (name, typed) = (format!("{name}-{}", below.get_name()), format!("{typed} {}", below.get_name()));
            add(below.display_name(name.clone()).bin_name(typed), name);
        }
        // The name of a page has a hyphen, and what is typed has none.
        let verb = verb.display_name(name.clone()).bin_name(typed);
        add(verb, name);
    }
    pages
}

fn completions() -> BTreeMap<String, Vec<u8>> {
    let files = [("stockade.bash", Shell::Bash), ("_stockade", Shell::Zsh), ("stockade.fish", Shell::Fish)];
    let make = |shell| {
        let mut text = Vec::new();
        clap_complete::generate(shell, &mut Cli::command(), "stockade", &mut text);
        text
    };
    files.into_iter().map(|(name, shell)| (name.to_owned(), make(shell))).collect()
}

fn same(dir: &str, made: BTreeMap<String, Vec<u8>>) {
    let path = root().join(dir);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        for (name, text) in &made {
            std::fs::write(path.join(name), text).unwrap();
        }
    }
    let there: BTreeMap<String, Vec<u8>> = std::fs::read_dir(&path)
        .unwrap()
        .flatten()
        .map(|e| (e.file_name().to_string_lossy().into_owned(), std::fs::read(e.path()).unwrap()))
        .collect();
    let names = |all: &BTreeMap<String, Vec<u8>>| all.keys().cloned().collect::<Vec<_>>();
    let how = "UPDATE_GOLDEN=1 cargo test --test pages writes them";
    assert_eq!(names(&there), names(&made), "{dir}/: {how}");
    for (name, text) in &made {
        assert!(there[name] == *text, "{dir}/{name} is not what the command line says: {how}");
    }
}

#[test]
fn man_pages_are_of_this_command_line() {
    let pages = pages();
    for (name, page) in &pages {
        let page = text(page);
        assert!(page.contains(".SH NAME") && page.contains(".SH SYNOPSIS") && page.contains(".SH OPTIONS"), "{name}");
        assert!(page.contains(".SH EXAMPLES\n.nf\n  ") && !page.contains("\\-V"), "{name}: {page}");
    }
    assert!(text(&pages["stockade.1"]).contains("stockade\\-inspect(1)"), "the verbs have their references");
    same("man", pages);
}

#[test]
fn completions_are_of_this_command_line() {
    same("completions", completions());
}

#[test]
fn bash_completes_verbs_and_options() {
    // What is made now, not the file: another test may be writing that.
    let dir = scratch();
    let file = dir.path().join("stockade.bash");
    std::fs::write(&file, &completions()["stockade.bash"]).unwrap();
    let complete = |words: &[&str]| {
        let last = words.last().unwrap();
        let script = format!(
            "source {}; COMP_WORDS=({}); COMP_CWORD={}; _stockade stockade '{last}' '{}'; echo \"${{COMPREPLY[@]}}\"",
            file.display(),
            words.join(" "),
            words.len() - 1,
            words[words.len() - 2],
        );
        match Command::new("bash").args(["-c", &script]).output() {
            Ok(out) => Some(ok(&out)),
            Err(_) => None,
        }
    };
    let Some(verbs) = complete(&["stockade", "ins"]) else {
        return skip("bash_completes_verbs_and_options", "bash is missing");
    };
    assert_eq!(verbs.trim(), "inspect");
    assert_eq!(complete(&["stockade", "pids", "--wa"]).unwrap().trim(), "--watch");
    assert_eq!(complete(&["stockade", "nothing"]).unwrap().trim(), "");
}

#[test]
fn help_says_all_that_is_written_about_a_verb() {
    let pages = pages();
    for (verb, words) in [
        ("exec", "128+N for signal N"),
        ("audit", "The status is 0 if nothing fails"),
        ("doctor", "3 if it would refuse to launch"),
        ("events", "a line of JSON for whatever happens"),
        ("sandbox", "a private /tmp"),
        ("update", "Sizes take k, m, g"),
    ] {
        let said = |how: &str| ok(&Command::new(runtime()).args([verb, how]).output().unwrap());
        let plain = |help: String| help.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(plain(said("--help")).contains(words), "{verb}: {}", said("--help"));
        // The short form has the first sentence and the options.
        assert!(!plain(said("-h")).contains(words), "{verb}: {}", said("-h"));
        let page = text(&pages[&format!("stockade-{verb}.1")]);
        assert!(plain(page.replace('\\', "")).contains(words), "{verb}");
    }
}

/// Every page of help, long and short, fits a terminal of 80 columns, and has every word of what is written.
#[test]
fn help_has_80_columns() {
    let said = |line: &[&str]| ok(&Command::new(runtime()).args(line).output().unwrap());
    let mut all: Vec<Vec<String>> = vec![Vec::new()];
    for verb in verbs() {
        let name = verb.get_name().to_owned();
        all.extend(verb.get_subcommands().map(|b| vec![name.clone(), b.get_name().to_owned()]));
        all.push(vec![name]);
    }
    // Podman takes the status of these two for the answer to whether criu is there.
    for verb in all.iter().filter(|v| !["checkpoint", "restore"].iter().any(|w| v.contains(&(*w).to_owned()))) {
        for how in ["--help", "-h"] {
            let line: Vec<&str> = verb.iter().map(String::as_str).chain([how]).collect();
            let help = said(&line);
            let broken = help.lines().take_while(|l| !l.starts_with("Example")).filter(|l| !l.starts_with("Usage:"));
            let long: Vec<&str> = broken.filter(|l| l.chars().count() > 80).collect();
            assert!(long.is_empty(), "{line:?}: {long:#?}");
            let typed = [OsString::from("stockade")].into_iter().chain(line.iter().map(OsString::from));
            let whole = cli::command().try_get_matches_from(typed).unwrap_err().render().to_string();
            // Here the program has another name.
            let whole = whole.replace(&words::called(), "stockade");
            assert!(help.split_whitespace().eq(whole.split_whitespace()), "{line:?}: {help}\n{whole}");
        }
    }
}

/// The words of a line of shell, up to the next command in it.
fn split(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut word, mut quote, mut any) = (String::new(), None, false);
    for c in line.chars() {
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            (c, Some(_)) => word.push(c),
            ('\'' | '"', None) => (quote, any) = (Some(c), true),
            ('|' | '&' | '>' | ';', None) => break,
            (' ', None) => {
                if any || !word.is_empty() {
                    found.push(std::mem::take(&mut word));
                }
                any = false;
            }
            (c, None) => word.push(c),
        }
    }
    if any || !word.is_empty() {
        found.push(word);
    }
    found
}

#[test]
fn every_verb_has_an_example_that_the_program_takes() {
    let command = cli::command();
    let below: Vec<(String, clap::Command)> = verbs()
        .iter()
        .flat_map(|v| v.get_subcommands().map(|b| (v.get_name().to_owned(), b.clone())).collect::<Vec<_>>())
        .collect();
    for (name, verb) in verbs().into_iter().map(|v| (v.get_name().to_owned(), v)).chain(below) {
        let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.starts_with("Example"), "{name}: {help:?}");
        // A line may lead up to it by other words.
        let lines: Vec<&str> = help.lines().filter_map(|l| Some(&l[l.find("stockade ")?..])).collect();
        assert!(!lines.is_empty(), "{name}: {help}");
        let mut own = 0;
        for line in lines {
            let typed: Vec<OsString> = split(line).into_iter().map(Into::into).collect();
            let parsed = command.clone().try_get_matches_from(words::normal(typed, &command));
            let matches = parsed.unwrap_or_else(|e| panic!("{name}: {line}: {e}"));
            own += usize::from(matches.subcommand_name() == Some(name.as_str()));
            // What comes after && is this verb at last.
            own += usize::from(line.split("&& stockade ").skip(1).any(|rest| rest.starts_with(&name)));
        }
        assert!(own > 0, "{name}: no example of it in {help}");
    }
}

#[test]
fn make_install_puts_each_thing_in_its_place_and_nothing_else() {
    for tool in ["make", "install"] {
        if Command::new(tool).arg("--version").output().is_err() {
            skip("make_install_puts_each_thing_in_its_place_and_nothing_else", &format!("{tool} is not installed"));
            return;
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let out = Command::new("make")
        // What is built already is not built again.
        .args(["-s", "install", "CARGO=true", concat!("BINARY=", env!("CARGO_BIN_EXE_stockade")), "PREFIX=/usr"])
        .arg(format!("DESTDIR={}", dir.path().display()))
        .current_dir(root())
        .env_remove("MAKEFLAGS")
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    let mut wanted =
        BTreeMap::from([(PathBuf::from("usr/bin/stockade"), PathBuf::from(env!("CARGO_BIN_EXE_stockade")))]);
    for (from, to) in [
        ("profiles/policy", "share/stockade/policy"),
        ("profiles/apparmor", "share/stockade/apparmor"),
        ("profiles/seccomp", "share/stockade/seccomp"),
        ("man", "share/man/man1"),
    ] {
        for entry in std::fs::read_dir(root().join(from)).unwrap() {
            let entry = entry.unwrap();
            wanted.insert(PathBuf::from("usr").join(to).join(entry.file_name()), entry.path());
        }
    }
    for (from, to) in [
        ("stockade.bash", "bash-completion/completions/stockade"),
        ("_stockade", "zsh/site-functions/_stockade"),
        ("stockade.fish", "fish/vendor_completions.d/stockade.fish"),
    ] {
        wanted.insert(PathBuf::from("usr/share").join(to), root().join("completions").join(from));
    }
    let found = files_below(dir.path());
    assert_eq!(found, wanted.keys().cloned().collect::<Vec<_>>());
    for (to, from) in &wanted {
        let to = dir.path().join(to);
        assert!(std::fs::read(&to).unwrap() == std::fs::read(from).unwrap(), "{}", to.display());
        let mode = std::fs::metadata(&to).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, if to.ends_with("bin/stockade") { 0o755 } else { 0o644 }, "{}", to.display());
    }
    // What lies there is of use: the binary takes each of the policies, and bash the completion.
    let usr = dir.path().join("usr");
    for policy in ["strict", "engine", "engine-build", "oci"] {
        let out = Command::new(usr.join("bin/stockade"))
            .arg("--policy")
            .arg(usr.join(format!("share/stockade/policy/{policy}.json")))
            .arg("spec")
            .current_dir(tempfile::tempdir_in(dir.path()).unwrap().keep())
            .output()
            .unwrap();
        assert!(out.status.success(), "{policy}: {}", text(&out.stderr));
    }
    let out = Command::new("bash")
        .args(["-c", ". \"$0\" && complete -p stockade"])
        .arg(usr.join("share/bash-completion/completions/stockade"))
        .output()
        .unwrap();
    assert!(text(&out.stdout).contains("-F _stockade"), "{out:?}");
}

/// Their paths below it, sorted.
fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_path_buf()];
    while let Some(next) = todo.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => todo.push(entry.path()),
                false => found.push(entry.path().strip_prefix(dir).unwrap().to_path_buf()),
            }
        }
    }
    found.sort();
    found
}
