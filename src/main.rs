//! The stockade binary: parse, run, map an error to an exit code.

use clap::Parser;
use clap::error::ErrorKind;
use stockade::cli::{Cli, Command};
use stockade::error::Error;
use stockade::{commands, log, sys};

fn main() {
    // Nothing that the caller left open is inherited by what we run; descriptors that it hands on are named by
    // --preserve-fds and opened up again for the workload alone.
    let _ = sys::close_range(3, u32::MAX, sys::CLOSE_RANGE_CLOEXEC);
    let _ = sys::keep_children();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            let help = matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
            let _ = e.print();
            sys::exit(if help { 0 } else { 1 });
        }
    };
    log::init(cli.global.log.clone(), cli.global.log_format, cli.global.debug);
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
    use std::io::Write;
    let _ = std::io::stdout().flush();
    sys::exit(code);
}
