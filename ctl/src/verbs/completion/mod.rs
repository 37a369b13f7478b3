//! Completion of command lines. A shell's script asks `cox __complete WORDS…`, of which the last is being written, and
//! gets what it may become, a line each (with a description behind a tab), then `:` and a number that says how to go
//! on: the protocol of kubectl's `__complete`.

mod look;
mod plan;
mod word;

use std::time::Duration;

use crate::error::Result;
use crate::flags::Args;
use crate::output;

use plan::Wanted;

/// Somebody waits with a finger on the key: a server that does not answer offers nothing.
const PATIENCE: Duration = Duration::from_secs(5);

/// How a shell goes on with what it got; the numbers are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Names of files, if there is nothing else.
    Files = 0,
    /// No blank behind the word, nor names of files.
    GoOn = 6,
    /// As it is, also when there is nothing.
    Done = 4,
    /// No blank behind the word; names of files if there is nothing else.
    GoOnOrFiles = 2,
}

/// What a word may become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub text: String,
    pub about: &'static str,
}

impl Candidate {
    fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), about: "" }
    }
}

/// `cox completion SHELL`: the script that a shell sources.
pub(super) async fn script(args: &Args) -> Result<()> {
    let text = match args.words.as_slice() {
        [] => anyhow::bail!("Shell not specified.\nSee 'cox completion -h' for help and examples"),
        [shell] if shell == "bash" => include_str!("cox.bash"),
        [shell] if shell == "zsh" => include_str!("cox.zsh"),
        [shell] if shell == "fish" => include_str!("cox.fish"),
        [shell] => anyhow::bail!("Unsupported shell type \"{shell}\"."),
        _ => anyhow::bail!("Too many arguments. Expected only the shell type."),
    };
    output::put(text)
}

/// `cox __complete WORDS…`
pub(super) async fn complete(words: &[String]) -> Result<()> {
    let plan = plan::plan(words);
    let (candidates, then) = match plan.wanted {
        Wanted::Known(candidates, then) => (candidates, then),
        asked => {
            // Who is only typing is not told what is wrong: the line itself will say it.
            let found = tokio::time::timeout(PATIENCE, look::look(&plan.args, &asked, &plan.last)).await;
            found.ok().and_then(Result::ok).unwrap_or((Vec::new(), Then::Done))
        }
    };
    let mut text = String::new();
    for candidate in candidates.iter().filter(|candidate| candidate.text.starts_with(&plan.last)) {
        text.push_str(&candidate.text);
        if !candidate.about.is_empty() {
            text.push('\t');
            text.push_str(candidate.about);
        }
        text.push('\n');
    }
    output::put(&format!("{text}:{}\n", then as u8))
}
