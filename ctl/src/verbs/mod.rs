//! The verbs: which there are, and how words become a call of one.

mod api;
mod apply;
mod attach;
mod auth;
mod change;
mod config;
mod cp;
mod create;
mod delete;
mod describe;
mod diff;
mod drain;
mod edit;
mod exec;
mod explain;
mod expose;
mod get;
mod label;
mod logs;
mod patch;
mod pods;
mod port_forward;
mod registry;
mod rollout;
mod rules;
mod run;
mod scale;
mod set;
mod taint;
mod wait;

use std::sync::atomic::Ordering;

use crate::error::{Result, usage};
use crate::flags::{self, Args, GLOBAL};
use crate::output;
use crate::session::WARNINGS;

use registry::{VERBS, Verb};

/// Runs the verb that the words begin with.
pub(crate) async fn run(words: Vec<String>) -> Result<()> {
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

fn unknown(named: &[String], rest: &[String]) -> Result<()> {
    let first = named.first().map(String::as_str).unwrap_or_default();
    if subverbs(first).next().is_none() {
        return Err(anyhow::anyhow!("unknown command {first:?} for \"cox\""));
    }
    if named.len() > 1 && !asks_help(rest) {
        let other = named.get(1).map(String::as_str).unwrap_or_default();
        return Err(usage(first, format!("unknown command {other:?} for \"cox {first}\"")));
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
