//! The verbs: which there are, and how words become a call of one.

mod api;
mod apply;
mod attach;
mod auth;
mod change;
mod completion;
mod config;
mod cp;
mod create;
mod delete;
mod describe;
mod diff;
mod drain;
mod edit;
mod events;
mod exec;
mod explain;
mod expose;
mod get;
mod label;
mod last_applied;
mod logs;
mod patch;
mod pods;
mod port_forward;
mod reconcile;
mod registry;
mod rollout;
mod rules;
mod run;
mod scale;
mod set;
mod taint;
mod wait;

use std::sync::atomic::Ordering;

use crate::error::Result;
use crate::flags::{self, Args, GLOBAL};
use crate::output;
use crate::session::WARNINGS;

use registry::{VERBS, Verb};

/// Runs the verb that the words begin with.
pub(crate) async fn run(words: Vec<String>) -> Result<()> {
    if let Some((first, rest)) = words.split_first()
        && first == "__complete"
    {
        return completion::complete(rest).await;
    }
    let (mut named, mut rest) = flags::split_verb(words, |first| subverbs(first).next().is_some());
    if let Some(first) = named.first_mut() {
        *first = alias(first).to_owned();
    }
    let name = named.join(" ");
    let verb = VERBS.iter().find(|verb| verb.name == name).or_else(|| {
        // `create -f` is a verb of its own beside `create deployment`.
        let first = named.first()?;
        let found = VERBS.iter().find(|verb| verb.name == first)?;
        rest.splice(0..0, named.iter().skip(1).cloned());
        Some(found)
    });
    let Some(verb) = verb else { return unknown(&named, &rest) };
    if asks_help(&rest) {
        return help(verb);
    }
    let args = Args::parse(verb.name, verb.flags, rest)?;
    (verb.run)(&args).await?;
    match WARNINGS.load(Ordering::Relaxed) {
        count if count > 0 && args.on("warnings-as-errors") => {
            anyhow::bail!("{count} warning{} received", if count == 1 { "" } else { "s" })
        }
        _ => Ok(()),
    }
}

fn asks_help(words: &[String]) -> bool {
    words.iter().take_while(|word| *word != "--").any(|word| word == "--help" || word == "-h")
}

/// Other words for a verb.
fn alias(word: &str) -> &str {
    match word {
        "log" => "logs",
        "label" | "labels" => "label",
        other => other,
    }
}

fn subverbs<'a>(first: &'a str) -> impl Iterator<Item = &'static Verb> + use<'a> {
    let first = alias(first);
    VERBS.iter().filter(move |verb| verb.name.split_once(' ').is_some_and(|(head, _)| head == first))
}

/// kubectl's verbs, in the order in which it suggests them.
const SUGGESTED: [&str; 44] = [
    "create",
    "expose",
    "run",
    "set",
    "explain",
    "get",
    "edit",
    "delete",
    "rollout",
    "scale",
    "autoscale",
    "certificate",
    "cluster-info",
    "top",
    "cordon",
    "uncordon",
    "drain",
    "taint",
    "describe",
    "logs",
    "attach",
    "exec",
    "port-forward",
    "proxy",
    "cp",
    "auth",
    "debug",
    "events",
    "diff",
    "apply",
    "patch",
    "replace",
    "wait",
    "kustomize",
    "label",
    "annotate",
    "completion",
    "api-resources",
    "api-versions",
    "config",
    "plugin",
    "version",
    "options",
    "help",
];

/// Verbs that a word may have been meant to be: two letters differ at most, or it is their beginning.
fn suggestions(word: &str) -> impl Iterator<Item = &'static str> {
    let known = |name: &&'static str| VERBS.iter().any(|verb| verb.name.split(' ').next() == Some(*name));
    let is_alike = move |name: &&'static str| distance(word, name) <= 2 || name.starts_with(word);
    SUGGESTED.into_iter().filter(known).filter(is_alike)
}

/// Levenshtein's distance.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (at, a) in left.chars().enumerate() {
        let mut before = row[0];
        row[0] = at + 1;
        for (column, b) in right.iter().enumerate() {
            let best = (before + usize::from(a != *b)).min(row[column] + 1).min(row[column + 1] + 1);
            before = std::mem::replace(&mut row[column + 1], best);
        }
    }
    row[right.len()]
}

fn unknown(named: &[String], rest: &[String]) -> Result<()> {
    let first = named.first().map(String::as_str).unwrap_or_default();
    if subverbs(first).next().is_none() {
        let alike: String = suggestions(first).map(|name| format!("\n\t{name}")).collect();
        let hint = if alike.is_empty() { String::new() } else { format!("\n\nDid you mean this?{alike}") };
        anyhow::bail!("unknown command {first:?} for \"cox\"{hint}");
    }
    if named.len() > 1 && !asks_help(rest) {
        let words: Vec<&str> = named[1..].iter().chain(rest).map(String::as_str).collect();
        let words = words.join(" ");
        anyhow::bail!("unknown command {words:?}\nSee 'cox {first} -h' for help and examples");
    }
    let mut text = format!("Available commands of cox {first}:\n");
    for verb in subverbs(first) {
        text.push_str(&format!("  {}\n", verb.usage));
    }
    output::put(&text)
}

fn help(verb: &Verb) -> Result<()> {
    let mut text = format!("{}\n\nUsage:\n  cox {}\n\nOptions:\n", verb.about, verb.usage);
    for table in verb.flags {
        text.push_str(table.trim_matches('\n'));
        text.push('\n');
    }
    text.push_str("\nOptions of all verbs:\n");
    text.push_str(GLOBAL.trim_matches('\n'));
    text.push('\n');
    output::put(&text)
}
