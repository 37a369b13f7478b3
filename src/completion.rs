//! Completion of the cluster's own commands, by what the parser knows of them; of all others `ctl` knows
//! (`ctl/src/verbs/completion`, where the protocol stands).

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Arg, Command};

/// `cox __complete WORDS…`
pub fn run(root: Command, words: Vec<OsString>) -> ExitCode {
    let texts: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let own = match texts.split_last() {
        Some((last, [])) => commands(&root).filter(|line| line.starts_with(last.as_str())).collect(),
        Some((last, before)) => match of_command(&root, before, last) {
            Some(text) => return put(&text),
            None => String::new(),
        },
        None => String::new(),
    };
    if put(&own) == ExitCode::FAILURE {
        return ExitCode::FAILURE;
    }
    ctl::main([OsString::from("__complete")].into_iter().chain(words).collect())
}

fn put(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        // Nobody listens any more.
        Err(_) => ExitCode::FAILURE,
    }
}

/// Lines of the commands below one.
fn commands(command: &Command) -> impl Iterator<Item = String> + '_ {
    let about = |command: &Command| command.get_about().map(ToString::to_string).unwrap_or_default();
    command.get_subcommands().map(move |found| format!("{}\t{}\n", found.get_name(), about(found)))
}

/// The answer for a line that begins with an own command; `None` for another.
fn of_command(root: &Command, before: &[String], last: &str) -> Option<String> {
    let mut command = root.get_subcommands().find(|command| before.first().is_some_and(|b| b == command.get_name()))?;
    let mut awaits = None;
    for word in &before[1..] {
        if awaits.take().is_some() {
            continue;
        }
        match word.strip_prefix("--") {
            Some(name) => awaits = command.get_arguments().find(|arg| arg.get_long() == Some(name) && takes_value(arg)),
            None => command = command.get_subcommands().find(|found| found.get_name() == word).unwrap_or(command),
        }
    }
    // Values, and words that are no command, are mostly files.
    const FILES: &str = ":0\n";
    if awaits.is_some() || (last.starts_with("--") && last.contains('=')) {
        return Some(FILES.to_owned());
    }
    let mut text: String = if last.starts_with('-') { flags(command, before) } else { commands(command).collect() };
    text = text.lines().filter(|line| line.starts_with(last)).map(|line| format!("{line}\n")).collect();
    let has_commands = command.has_subcommands() || command.get_positionals().next().is_none();
    text.push_str(if last.starts_with('-') || has_commands { ":4\n" } else { FILES });
    Some(text)
}

fn takes_value(arg: &Arg) -> bool {
    arg.get_action().takes_values() && !arg.is_require_equals_set()
}

fn flags(command: &Command, before: &[String]) -> String {
    let mut text = String::new();
    for arg in command.get_arguments() {
        let Some(long) = arg.get_long().map(|long| format!("--{long}")) else { continue };
        if !before.contains(&long) {
            let about = arg.get_help().map(ToString::to_string).unwrap_or_default();
            text.push_str(&format!("{long}\t{about}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn answer(line: &str) -> Option<String> {
        let root = Command::new("cox")
            .subcommand(
                Command::new("up").arg(Arg::new("dir").long("data-dir").help("Where")).arg(Arg::new("n").long("name")),
            )
            .subcommand(
                Command::new("image")
                    .subcommand(Command::new("load").about("Load one").arg(Arg::new("file")))
                    .subcommand(Command::new("list")),
            );
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let (last, before) = words.split_last().unwrap();
        of_command(&root, before, last)
    }

    #[test]
    fn own_commands_are_completed_by_what_the_parser_knows() {
        for (line, expected) in [
            ("up --d", Some("--data-dir\tWhere\n:4\n")),
            ("up --data-dir x --", Some("--name\t\n:4\n")),
            ("up --data-dir ", Some(":0\n")),
            ("up --data-dir=/", Some(":0\n")),
            ("up ", Some(":4\n")),
            ("image l", Some("load\tLoad one\nlist\t\n:4\n")),
            ("image load ", Some(":0\n")),
            ("get po", None),
        ] {
            assert_eq!(answer(line).as_deref(), expected, "{line}");
        }
    }
}
