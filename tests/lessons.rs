//! The course in examples/lessons and the transcripts of README.md and docs are true: each console block is typed into a shell, in a
//! fresh copy of the directory, and what comes out is compared with the page. examples/lessons/README.md says how a page
//! marks what varies; `UPDATE_GOLDEN=1` writes what came out into the pages (`UPDATE_GOLDEN=DIR`: to copies of them there).
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "common/caller.rs"]
mod caller;
mod common;

use caller::Caller;
use common::*;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

// --- pages --------------------------------------------------------------------------------------------------------------

/// What is typed, and what the page shows that it said.
#[derive(Debug, PartialEq)]
struct Typed {
    /// `$` or `#`.
    prompt: char,
    command: String,
    shown: Vec<String>,
    /// The lines of the output: the first and the one after the last.
    lines: (usize, usize),
    /// Numbers of three digits and more may be others.
    numbers: bool,
}

fn parse(page: &str) -> Vec<Typed> {
    let mut found: Vec<Typed> = Vec::new();
    let mut block: Option<bool> = None;
    let mut continued = false;
    for (n, line) in page.lines().enumerate() {
        match block {
            None => {
                let words: Vec<&str> = line.split_whitespace().collect();
                if words.first() == Some(&"```console") {
                    assert!(words[1..].iter().all(|w| *w == "numbers"), "line {}: {line}", n + 1);
                    block = Some(words.len() > 1);
                    assert!(!continued, "line {n}: a command that does not end");
                }
            }
            Some(_) if line == "```" => block = None,
            Some(numbers) => {
                let prompt = line.chars().next().filter(|c| "$#".contains(*c) && line[1..].starts_with(' '));
                if continued {
                    let last = found.last_mut().unwrap();
                    last.command = format!("{}\n{line}", last.command);
                    last.lines = (n + 1, n + 1);
                } else if let Some(prompt) = prompt {
                    let command = line[2..].to_owned();
                    found.push(Typed { prompt, command, shown: Vec::new(), lines: (n + 1, n + 1), numbers });
                } else {
                    let last = found.last_mut().unwrap_or_else(|| panic!("line {}: an output of nothing", n + 1));
                    last.shown.push(line.to_owned());
                    last.lines.1 = n + 1;
                }
                continued = (continued || prompt.is_some()) && line.ends_with('\\');
            }
        }
    }
    assert!(block.is_none() && !continued, "a block that does not end");
    found
}

/// Whether lines are what a page shows: `...` is any lines, or in a line any text.
fn same(shown: &[String], real: &[String], numbers: bool) -> bool {
    match (shown.split_first(), real.split_first()) {
        (None, None) => true,
        (Some((any, rest)), _) if any.trim() == "..." => {
            (0..=real.len()).any(|skipped| same(rest, &real[skipped..], numbers))
        }
        (Some((one, shown)), Some((other, real))) => {
            let (one, other) = (plain(one, numbers), plain(other, numbers));
            let parts: Vec<&str> = one.split("...").collect();
            like(&parts, &other) && same(shown, real, numbers)
        }
        _ => false,
    }
}

/// The first part at the start, the last at the end, the others between them in this order.
fn like(parts: &[&str], text: &str) -> bool {
    match parts {
        [whole] => *whole == text,
        [first, between @ .., last] => {
            let Some(mut rest) = text.strip_prefix(first) else { return false };
            for part in between {
                let Some(at) = rest.find(part) else { return false };
                rest = &rest[at + part.len()..];
            }
            rest.ends_with(last)
        }
        [] => false,
    }
}

/// Without what may vary: numbers of three digits and more, and the columns that follow from them.
fn plain(line: &str, numbers: bool) -> String {
    if !numbers {
        return line.trim_end().to_owned();
    }
    let mut out = String::new();
    let mut digits = String::new();
    for c in line.chars().chain([' ']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        out.push_str(if digits.len() >= 3 { "NNN" } else { &digits });
        digits.clear();
        if c != ' ' || !out.ends_with(' ') {
            out.push(c);
        }
    }
    out.trim().to_owned()
}

// --- shells -------------------------------------------------------------------------------------------------------------

/// A shell of one who types.
struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<std::io::PipeReader>,
    said: usize,
    script: PathBuf,
}

const MARK: &str = "--- that was all, with status";

impl Shell {
    fn new(caller: &Caller, dir: &Path, script: PathBuf) -> Shell {
        let bin = caller.path().join("bin");
        std::fs::create_dir(&bin).unwrap();
        let words: Vec<String> = caller.words(&[]).split_off(caller.runner.len());
        let quoted: Vec<String> = words.iter().map(|w| format!("'{w}'")).collect();
        let wrapper = format!("#!/bin/bash\nexec -a stockade {} \"$@\"\n", quoted.join(" "));
        let made = Command::new("sh")
            .args(["-c", "printf %s \"$1\" > \"$2\" && chmod 755 \"$2\"", "sh", &wrapper])
            .arg(bin.join("stockade"))
            .status();
        assert!(made.unwrap().success());
        let (output, end) = std::io::pipe().unwrap();
        let mut shell = caller.program(&["timeout", "--kill-after=5", "400", "bash", "--noprofile", "--norc"]);
        shell.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display())).env("LC_ALL", "C.UTF-8");
        shell.env("HOME", dir).current_dir(dir).stdin(Stdio::piped());
        let mut child = shell.stdout(end.try_clone().unwrap()).stderr(end).spawn().unwrap();
        drop(shell);
        Shell { input: child.stdin.take().unwrap(), child, output: BufReader::new(output), said: 0, script }
    }

    /// Types a command, as a file, so that nothing that it starts reads the next one as its input.
    fn types(&mut self, command: &str) -> Vec<String> {
        std::fs::write(&self.script, format!("{command}\n")).unwrap();
        let script = self.script.display();
        self.said += 1;
        let mark = format!("{MARK} {}:", self.said);
        writeln!(self.input, ". {script} </dev/null; printf '\\n{mark} %s\\n' $?").unwrap();
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            self.output.read_until(b'\n', &mut line).unwrap();
            assert!(!line.is_empty(), "the shell ended at: {command}\n{}", lines.join("\n"));
            let line = text(&line).trim_end_matches('\n').to_owned();
            if line.starts_with(&mark) {
                // The line that ended what had no end of its own, or the empty one.
                if lines.last().is_some_and(String::is_empty) {
                    lines.pop();
                }
                return lines;
            }
            lines.push(line);
        }
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = writeln!(self.input, "kill $(jobs -p) 2>/dev/null; exit");
        let _ = self.child.wait();
    }
}

// --- a page is typed ----------------------------------------------------------------------------------------------------

/// What a page says that it needs: `<!-- needs: controllers -->`.
fn lacks(page: &str) -> Option<&'static str> {
    let needs = page.lines().find_map(|l| l.strip_prefix("<!-- needs: ")?.strip_suffix(" -->")).unwrap_or("");
    needs.split_whitespace().find_map(|need| match need {
        "controllers" if controllers(&["cpu", "memory", "pids"]) => None,
        "controllers" => Some("no cgroup v2 controllers here"),
        "apparmor" if Path::new("/sys/kernel/security/apparmor/profiles").exists() => None,
        "apparmor" => Some("no AppArmor here"),
        other => panic!("an unknown need: {other}"),
    })
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn check(test: &str, page: &str) {
    need_root!(test);
    let path = source(page);
    let before = std::fs::read_to_string(&path).unwrap();
    if let Some(why) = lacks(&before) {
        return skip(test, why);
    }
    let steps = parse(&before);
    assert!(!steps.is_empty(), "{page} types nothing");
    let root = Caller::root();
    let user = match steps.iter().any(|s| s.prompt == '$') {
        true => match Caller::ranged() {
            Ok(user) => Some(user),
            Err(why) => return skip(test, why),
        },
        false => None,
    };
    let owner = user.as_ref().unwrap_or(&root);
    let dir = owner.own_dir("lessons");
    let copied = Command::new("cp")
        .args(["-r", "--no-preserve=ownership"])
        .arg(source("examples/lessons/."))
        .arg(&dir)
        .status()
        .unwrap();
    assert!(copied.success());
    let owned = Command::new("chown").args(["-R", &format!("{0}:{0}", owner.uid)]).arg(&dir).status().unwrap();
    assert!(owned.success());
    let script = |who: &Caller| who.path().join("typed");
    let mut user_shell = user.as_ref().map(|user| Shell::new(user, &dir, script(user)));
    let mut root_shell = steps.iter().any(|s| s.prompt == '#').then(|| Shell::new(&root, &dir, script(&root)));
    let shown_dir = if user.is_some() { "/home/student/lessons" } else { "/root/lessons" };
    let mut wrong = Vec::new();
    let mut after: Vec<String> = before.lines().map(str::to_owned).collect();
    let mut real = Vec::new();
    for step in &steps {
        let shell = if step.prompt == '$' { &mut user_shell } else { &mut root_shell };
        let said = shell.as_mut().unwrap().types(&step.command);
        let said: Vec<String> =
            said.iter().map(|l| l.replace(&dir.display().to_string(), shown_dir).trim_end().to_owned()).collect();
        if !same(&step.shown, &said, step.numbers) {
            wrong.push(format!(
                "{} {}\n--- shown:\n{}\n--- said:\n{}\n",
                step.prompt,
                step.command,
                step.shown.join("\n"),
                said.join("\n")
            ));
            real.push((step.lines, said));
        }
    }
    for ((from, to), said) in real.into_iter().rev() {
        after.splice(from..to, said);
    }
    match std::env::var("UPDATE_GOLDEN") {
        Ok(place) if !wrong.is_empty() => {
            let to = if place == "1" { path } else { Path::new(&place).join(path.file_name().unwrap()) };
            std::fs::write(to, after.join("\n") + "\n").unwrap();
        }
        _ => assert!(wrong.is_empty(), "{page}:\n{}", wrong.join("\n")),
    }
}

macro_rules! pages {
    ($($name:ident: $page:literal,)*) => {
        const PAGES: &[&str] = &[$($page),*];
        $(
            #[test]
            fn $name() {
                check(stringify!($name), $page);
            }
        )*
    };
}

pages! {
    readme: "README.md",
    pid: "examples/lessons/01-pid.md",
    mount_and_pivot_root: "examples/lessons/02-mount.md",
    network: "examples/lessons/03-network.md",
    uts_and_ipc: "examples/lessons/04-uts-ipc.md",
    user_namespaces: "examples/lessons/05-user.md",
    cgroups: "examples/lessons/06-cgroup.md",
    capabilities: "examples/lessons/07-capabilities.md",
    no_new_privs: "examples/lessons/08-no-new-privs.md",
    seccomp: "examples/lessons/09-seccomp.md",
    volumes: "examples/lessons/10-volumes.md",
    docker_sock: "examples/lessons/11-docker-sock.md",
    propagation: "examples/lessons/12-propagation.md",
    apparmor: "examples/lessons/13-apparmor.md",
    secrets: "examples/lessons/14-secrets.md",
    audit: "examples/lessons/15-audit.md",
    narrate: "examples/lessons/16-narrate.md",
    denials: "docs/seccomp.md",
}

#[test]
fn every_page_is_typed() {
    let mut pages: Vec<String> = std::fs::read_dir(source("examples/lessons"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.ends_with(".md") && n != "README.md")
        .map(|n| format!("examples/lessons/{n}"))
        .collect();
    pages.sort();
    let index = std::fs::read_to_string(source("examples/lessons/README.md")).unwrap();
    for page in &pages {
        let name = Path::new(page).file_name().unwrap().to_str().unwrap();
        assert!(index.contains(&format!("]({name})")), "{name} is not in the index");
    }
    let typed: Vec<&str> = PAGES.iter().copied().filter(|p| p.starts_with("examples")).collect();
    assert_eq!(pages, typed);
}

// --- the form of pages --------------------------------------------------------------------------------------------------

#[test]
fn a_page_is_read_as_it_is_written() {
    let page = "text\n\n```console\n$ one\n1\n\n2\n# two \\\n  more\n$ three\n```\n\n```sh\n$ not typed\n```\n```console numbers\n$ four\n```\n";
    let steps = parse(page);
    let brief: Vec<_> =
        steps.iter().map(|s| (s.prompt, s.command.as_str(), s.shown.len(), s.lines, s.numbers)).collect();
    assert_eq!(
        brief,
        [
            ('$', "one", 3, (4, 7), false),
            ('#', "two \\\n  more", 0, (9, 9), false),
            ('$', "three", 0, (10, 10), false),
            ('$', "four", 0, (17, 17), true),
        ]
    );
}

#[test]
fn only_what_a_page_marks_may_vary() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let like = |shown: &str, real: &str, numbers| same(&lines(shown), &lines(real), numbers);
    assert!(like("a\nb", "a\nb", false));
    assert!(!like("a\nb", "a\nc", false) && !like("a", "a\nb", false) && !like("a\nb", "a", false));
    assert!(like("a\n...\nz", "a\nb\nc\nz", false) && like("a\n...", "a", false));
    assert!(!like("a\n...\nz", "a\nb\nc", false));
    assert!(like("x ... y", "x 12 y", false) && !like("x ... y", "x 12 z", false) && !like("x ... y", "w 12 y", false));
    assert!(like("pid:[4026531836]", "pid:[4026532181]", true) && !like("pid:[4026531836]", "pid:[4026532181]", false));
    assert!(like("  999 1", "12345 1", true) && !like("999 1", "999 2", true) && !like("999", "99", true));
}
