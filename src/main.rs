//! The stockade binary: parse, run, map an error to an exit code.

#![no_main]

use clap::FromArgMatches;
use clap::error::ErrorKind;
use std::ffi::OsString;
use stockade::cli::{self, Cli, Command, help, words};
use stockade::error::Error;
use stockade::{commands, criu, log, sys};

/// Podman takes the status of `checkpoint --help` for the answer to whether checkpoints work here.
fn cannot_do(words: &[OsString]) -> i32 {
    let asked = words.iter().any(|w| w == "checkpoint" || w == "restore");
    match if asked { criu::check(&words::criu_of(words)) } else { Ok(()) } {
        Ok(()) => 0,
        Err(e) => {
            log::error(&e);
            1
        }
    }
}

stockade::main!(start);

fn start() -> ! {
    sys::prepare_heap();
    sys::prepare_streams();
    // Nothing that the caller left open is inherited by what we run; descriptors that it hands on are named by
    // --preserve-fds and opened up again for the workload alone.
    let _ = sys::close_range(3, u32::MAX, sys::CLOSE_RANGE_CLOEXEC);
    let _ = sys::keep_children();
    let typed: Vec<_> = std::env::args_os().collect();
    let cli = match cli::command_for(&typed).and_then(|command| parse(&typed, command).1.ok()) {
        Some(cli) => cli,
        None => whole(&typed),
    };
    perform(cli)
}

/// The words in clap's forms, and what they ask for.
fn parse(typed: &[OsString], command: clap::Command) -> (Vec<OsString>, Result<Cli, clap::Error>) {
    // Never dropped: the exit is faster.
    let mut command = std::mem::ManuallyDrop::new(command);
    let words = words::normal(typed.to_vec(), &command);
    let cli = command.try_get_matches_from_mut(&words).and_then(|mut m| Cli::from_arg_matches_mut(&mut m));
    (words, cli)
}

/// The same by the whole command line, which can answer a call for help and what is wrong.
fn whole(typed: &[OsString]) -> Cli {
    let (words, cli) = parse(typed, cli::command());
    match cli {
        Ok(cli) => cli,
        Err(e) if e.kind() == ErrorKind::DisplayHelp => {
            let _ = log::print(&help::folded(&e.render().to_string()));
            sys::exit(cannot_do(&words));
        }
        Err(e) => {
            let (target, format) = words::log_of(&words);
            log::init(target, format, false);
            log::error(&words::refusal(&e, &words, &cli::command()));
            sys::exit(1);
        }
    }
}

fn perform(cli: Cli) -> ! {
    let debug = cli.global.debug || cli.global.log_level == Some(log::Level::Debug);
    log::init(cli.global.log.clone(), cli.global.log_format, debug);
    if sys::is_secure_exec() {
        log::error(&Error::new("stockade", "", "refuses to run setuid, setgid or with file capabilities"));
        sys::exit(1);
    }
    // 1 could be the command's own status.
    let failed = if matches!(cli.command, Some(Command::Exec(_))) { 255 } else { 1 };
    let code = match commands::dispatch(cli) {
        Ok(code) => code,
        Err(e) => {
            log::error(&e);
            failed
        }
    };
    sys::exit(code);
}
