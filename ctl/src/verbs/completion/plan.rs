//! From the words of a line to what its last word may become. Pure: whom to ask is said, not asked.

use crate::flags::{self, Args, Described, GLOBAL};

use super::word::{self, Entry, Of};
use super::{Candidate, Then};
use crate::verbs::registry::{VERBS, Verb};
use crate::verbs::{SUGGESTED, alias, subverbs};

/// What the last word may become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All that there is, known without asking.
    Known(Vec<Candidate>, Then),
    /// Types, with what stands before (`pods,`) and what comes behind (`/`).
    Types {
        before: String,
        behind: &'static str,
    },
    /// Names of objects of these types, with `before` before each, but not those that the line has.
    Names {
        types: String,
        before: String,
        but: Vec<String>,
    },
    /// Pods, and types that have Pods.
    PodsAndTypes,
    /// Containers of the Pod that a word means.
    Containers(String),
    /// Ports of the Pod or Service that a word means.
    Ports(String),
    /// Namespaces and Pods whose files are meant.
    Remote,
    Configured(Entry),
}

/// What to do for a line.
pub(super) struct Plan {
    pub wanted: Wanted,
    /// The flags that were given: to whom, and in which namespace.
    pub args: Args,
    /// What is being written, without the `--flag=` before it.
    pub last: String,
}

const NOTHING: Wanted = Wanted::Known(Vec::new(), Then::Done);
const FILES: Wanted = Wanted::Known(Vec::new(), Then::Files);

/// The words before the last, sorted.
struct Line {
    /// As far as it goes: `get`, `rollout`, `rollout status`.
    name: String,
    verb: Option<&'static Verb>,
    flags: Vec<Described>,
    given: Vec<&'static str>,
    words: Vec<String>,
    /// The flag whose value comes next.
    awaits: Option<Described>,
    is_beyond_dash: bool,
    args: Args,
}

pub(super) fn plan(words: &[String]) -> Plan {
    let (last, before) = words.split_last().map_or((String::new(), &[][..]), |(last, rest)| (last.clone(), rest));
    let line = read(before);
    let with_value = last.split_once('=').and_then(|(flag, value)| {
        let flag = line.flags.iter().find(|known| flag.strip_prefix("--") == Some(known.long))?;
        Some((*flag, value.to_owned()))
    });
    let (wanted, last) = match (with_value, &line.awaits) {
        _ if line.is_beyond_dash => (NOTHING, last),
        (_, Some(flag)) => (value(&line, flag, &last), last),
        (Some((flag, written)), _) => (value(&line, &flag, &written), written),
        _ if last.starts_with('-') => (Wanted::Known(flag_names(&line), Then::Done), last),
        _ => (word(&line, &last), last),
    };
    Plan { wanted, args: line.args, last }
}

fn read(before: &[String]) -> Line {
    let (mut named, rest) = flags::split_verb(before.to_vec(), |first| subverbs(first).next().is_some());
    if let Some(first) = named.first_mut() {
        *first = alias(first).to_owned();
    }
    let find = |name: &str| VERBS.iter().find(|verb| verb.name == name);
    let whole = named.join(" ");
    let (verb, mut extra) = match find(&whole) {
        Some(verb) => (Some(verb), Vec::new()),
        // `create -f` is a verb of its own beside `create deployment`.
        None => (named.first().and_then(|first| find(first)), named.iter().skip(1).cloned().collect()),
    };
    let tables: Vec<&'static str> = verb.into_iter().flat_map(|verb| verb.flags).copied().chain([GLOBAL]).collect();
    let mut line = Line {
        name: verb.map_or(whole, |verb| verb.name.to_owned()),
        verb,
        flags: tables.iter().flat_map(|table| flags::described(table)).collect(),
        given: Vec::new(),
        words: Vec::new(),
        awaits: None,
        is_beyond_dash: false,
        args: Args::default(),
    };
    extra.extend(rest);
    line.sort(&extra);
    // What cannot be read says nothing about whom to ask.
    let whole = if line.awaits.is_some() { extra.split_last().map_or(&[][..], |(_, rest)| rest) } else { &extra };
    let tables = verb.map_or(&[][..], |verb| verb.flags);
    line.args = Args::parse(&line.name, tables, whole.to_vec()).unwrap_or_default();
    line
}

impl Line {
    fn sort(&mut self, words: &[String]) {
        for word in words {
            if self.awaits.take().is_some() {
                continue;
            }
            if self.is_beyond_dash || !word.starts_with('-') || word == "-" {
                self.words.push(word.clone());
            } else if word == "--" {
                self.is_beyond_dash = true;
            } else if let Some(flag) = self.last_flag(word) {
                self.given.push(flag.long);
                let alone =
                    !word.contains('=') && (word.starts_with("--") || word.ends_with(flag.short.unwrap_or('-')));
                self.awaits = Some(flag).filter(|flag| flag.takes_next && alone);
            }
        }
    }

    /// The flag that a word is, or the one of several letters that may take a value.
    fn last_flag(&self, word: &str) -> Option<Described> {
        let of_letter = |letter: char| self.flags.iter().find(|flag| flag.short == Some(letter)).copied();
        match word.strip_prefix("--") {
            Some(long) => {
                let name = long.split('=').next().unwrap_or(long);
                self.flags.iter().find(|flag| flag.long == name).copied()
            }
            None => {
                let letters = || word.chars().skip(1);
                letters()
                    .find_map(|letter| of_letter(letter).filter(|flag| flag.takes_next))
                    .or_else(|| of_letter(letters().next()?))
            }
        }
    }
}

/// Flags that are not given yet, or may be given again.
fn flag_names(line: &Line) -> Vec<Candidate> {
    let mut names = Vec::new();
    for flag in line.flags.iter().filter(|flag| flag.repeats || !line.given.contains(&flag.long)) {
        names.push(Candidate { text: format!("--{}", flag.long), about: flag.about });
        names.extend(flag.short.map(|short| Candidate { text: format!("-{short}"), about: flag.about }));
    }
    names.sort_by(|a, b| a.text.cmp(&b.text));
    names.dedup_by(|a, b| a.text == b.text);
    names
}

fn value(line: &Line, flag: &Described, written: &str) -> Wanted {
    if flag.long == "container" {
        return line.words.first().map_or(FILES, |word| Wanted::Containers(word.clone()));
    }
    match word::value_of(flag.long, &line.name) {
        Some(of) => one_of(of, &[], written),
        None => FILES,
    }
}

fn known<'a>(names: impl Iterator<Item = &'a str>) -> Wanted {
    Wanted::Known(names.map(Candidate::plain).collect(), Then::Done)
}

fn word(line: &Line, last: &str) -> Wanted {
    if line.name.is_empty() {
        return verbs();
    }
    let mut further: Vec<Candidate> = subverbs(&line.name)
        .filter(|verb| !is_other_name(verb))
        .filter_map(|verb| Some(Candidate { text: verb.name.split_once(' ')?.1.to_owned(), about: verb.about }))
        .collect();
    if line.words.is_empty() && !further.is_empty() {
        further.sort_by(|a, b| a.text.cmp(&b.text));
        return Wanted::Known(further, Then::Done);
    }
    match (line.verb, word::of(&line.name)) {
        (Some(_), Some(of)) => one_of(of, &line.words, last),
        (Some(_), None) => NOTHING,
        (None, _) => FILES,
    }
}

/// A shorter name of a verb that stands before it in the table, which is not offered.
fn is_other_name(verb: &Verb) -> bool {
    let head = |verb: &Verb| verb.name.split(' ').next();
    let mut before = VERBS.iter().take_while(|other| other.name != verb.name);
    before.any(|other| other.about == verb.about && head(other) == head(verb))
}

fn verbs() -> Wanted {
    let first = |verb: &Verb, name: &str| verb.name.split(' ').next() == Some(name);
    let about = |name: &'static str| {
        let own = VERBS.iter().find(|verb| verb.name == name);
        let any = || VERBS.iter().find(|verb| first(verb, name));
        own.map(|verb| verb.about)
            .or_else(|| any().map(|_| GROUPS.iter().find(|(n, _)| *n == name).map_or("", |g| g.1)))
    };
    let names = SUGGESTED.into_iter().filter_map(|name| Some(Candidate { text: name.to_owned(), about: about(name)? }));
    Wanted::Known(names.collect(), Then::Done)
}

/// What verbs of two words are about.
const GROUPS: [(&str, &str); 6] = [
    ("auth", "Look at what is allowed."),
    ("certificate", "Approve and deny certificate signing requests."),
    ("config", "Show and change the kubeconfig."),
    ("rollout", "Look after the rollout of a workload."),
    ("set", "Set fields of objects."),
    ("top", "Show what nodes and Pods use."),
];

/// What the word behind `words` may become.
fn one_of(of: Of, words: &[String], last: &str) -> Wanted {
    match (of, words) {
        (Of::Objects, _) => objects(None, true, words, last),
        (Of::Among(types), _) => objects(Some(types), true, words, last),
        (Of::OneAmong(types), _) => objects(Some(types), false, words, last),
        (Of::Name(ty), []) => names(ty, "", &[]),
        (Of::Pod | Of::PodAndContainer | Of::PodAndPort, []) => match last.split_once('/') {
            Some((ty, _)) => names(ty, &format!("{ty}/"), &[]),
            None => Wanted::PodsAndTypes,
        },
        (Of::PodAndContainer, [pod]) => Wanted::Containers(pod.clone()),
        (Of::PodAndPort, [pod]) => Wanted::Ports(pod.clone()),
        (Of::Type, []) => Wanted::Types { before: String::new(), behind: "" },
        (Of::Remote, _) => Wanted::Remote,
        (Of::Configured(entry), []) => Wanted::Configured(entry),
        (Of::Known(values), []) => known(values.iter().copied()),
        _ => NOTHING,
    }
}

fn names(types: &str, before: &str, but: &[String]) -> Wanted {
    Wanted::Names { types: types.to_owned(), before: before.to_owned(), but: but.to_vec() }
}

/// TYPE NAME… or TYPE/NAME…; where `types` are given, of those.
fn objects(types: Option<&'static [&'static str]>, repeats: bool, words: &[String], last: &str) -> Wanted {
    match words {
        [ty, names_before @ ..] if !ty.contains('/') => {
            if repeats || names_before.is_empty() {
                names(ty, "", names_before)
            } else {
                NOTHING
            }
        }
        [_, ..] if !repeats => NOTHING,
        _ => match (last.split_once('/'), types) {
            (Some((ty, _)), _) => names(ty, &format!("{ty}/"), words),
            (None, Some(types)) if words.is_empty() => known(types.iter().copied()),
            (None, Some(types)) => {
                let types = types.iter().map(|ty| Candidate::plain(format!("{ty}/"))).collect();
                Wanted::Known(types, Then::GoOn)
            }
            (None, None) => {
                let before = last.rfind(',').map_or("", |at| &last[..=at]).to_owned();
                Wanted::Types { before, behind: if words.is_empty() { "" } else { "/" } }
            }
        },
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
