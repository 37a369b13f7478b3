//! Command lines: flags are tables of text, which are their own help; words are read as pflag reads them.
//!
//! A line of a table is `-x, --name` (a switch), `--name=` (a value, the last one counts), `--name=,` (a list, split at
//! commas, may be given again), `--name=+` (a list that is not split), `--name[=word]` (a value that may be missing).

use std::collections::BTreeMap;

use crate::error::{Result, usage};

/// What follows a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Nothing,
    One,
    Split,
    Each,
    Optional(&'static str),
}

#[derive(Clone, Copy, Debug)]
struct Flag {
    short: Option<char>,
    long: &'static str,
    takes: Takes,
}

impl Flag {
    /// Whether a word is this flag alone, or with its value behind `=`.
    fn is_called(&self, word: &str) -> bool {
        let name = word.split('=').next().unwrap_or(word);
        name.strip_prefix("--") == Some(self.long)
            || self.short.is_some_and(|short| name.strip_prefix('-') == Some(short.encode_utf8(&mut [0; 4])))
    }
}

/// Flags that every verb has.
pub(crate) const GLOBAL: &str = "
      --kubeconfig=             Path to the kubeconfig file to use
      --context=                The name of the kubeconfig context to use
      --cluster=                The name of the kubeconfig cluster to use
      --user=                   The name of the kubeconfig user to use
  -n, --namespace=              The namespace scope of this request
  -s, --server=                 The address and port of the API server
      --token=                  Bearer token for authentication to the API server
      --as=                     Username to impersonate
      --as-group=+              Group to impersonate, may be repeated
      --as-uid=                 UID to impersonate
      --as-user-extra=+         Extra of the user to impersonate, KEY=VALUE
      --certificate-authority=  Path to a certificate of the certificate authority
      --client-certificate=     Path to a client certificate
      --client-key=             Path to a client key
      --tls-server-name=        Server name to check the server's certificate against
      --insecure-skip-tls-verify  Do not check the server's certificate
      --request-timeout=        How long to wait for one answer, such as 5s; 0 is no limit
  -v, --v=                      Log level
      --warnings-as-errors      Treat warnings of the server as errors, and exit with 1
  -h, --help                    Help for this verb
";

/// The flags and words of one command line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Args {
    /// The verb as it is written: `get`, `rollout status`.
    pub verb: String,
    flags: BTreeMap<&'static str, Vec<String>>,
    /// What is no flag.
    pub words: Vec<String>,
    /// How many of the words stand before `--`.
    pub dash: Option<usize>,
    /// Names of the verb's own flags: they hide global ones (`create rolebinding --user`).
    own: Vec<&'static str>,
}

fn flags_of(table: &'static str) -> impl Iterator<Item = Flag> {
    table.lines().filter_map(|line| {
        let line = line.trim_start();
        let (short, rest) = match line.strip_prefix('-') {
            Some(rest) if !rest.starts_with('-') => (rest.chars().next(), rest.split_once(", ")?.1),
            _ => (None, line),
        };
        let name = rest.strip_prefix("--")?.split_whitespace().next()?;
        let (long, takes) = match (name.split_once("[="), name.split_once('=')) {
            (Some((long, word)), _) => (long, Takes::Optional(word.trim_end_matches(']'))),
            (None, Some((long, ""))) => (long, Takes::One),
            (None, Some((long, ","))) => (long, Takes::Split),
            (None, Some((long, _))) => (long, Takes::Each),
            (None, None) => (name, Takes::Nothing),
        };
        Some(Flag { short, long, takes })
    })
}

/// A flag as its table tells of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Described {
    pub short: Option<char>,
    pub long: &'static str,
    /// The next word is its value.
    pub takes_next: bool,
    /// It may be given again.
    pub repeats: bool,
    pub about: &'static str,
}

/// The flags of a table.
pub(crate) fn described(table: &'static str) -> impl Iterator<Item = Described> {
    table.lines().flat_map(|line| {
        let about = line.split_once("--").and_then(|(_, rest)| rest.split_once(char::is_whitespace));
        flags_of(line).map(move |Flag { short, long, takes }| Described {
            short,
            long,
            takes_next: matches!(takes, Takes::One | Takes::Split | Takes::Each),
            repeats: matches!(takes, Takes::Split | Takes::Each),
            about: about.map_or("", |(_, about)| about.trim()),
        })
    })
}

/// Splits the verb's name (one word, or two where `has_subverb` says so of the first) from the rest of the words.
pub(crate) fn split_verb(words: Vec<String>, has_subverb: impl Fn(&str) -> bool) -> (Vec<String>, Vec<String>) {
    let global: Vec<Flag> = flags_of(GLOBAL).collect();
    let (mut verb, mut rest): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let wanted = match verb.first() {
            None => true,
            Some(first) => verb.len() == 1 && has_subverb(first),
        };
        if !wanted || word == "--" {
            rest.push(word);
            rest.extend(words);
            break;
        }
        if word.starts_with('-') {
            let known = global.iter().find(|flag| flag.is_called(&word));
            if known.is_none() && !verb.is_empty() {
                // A flag of the verb itself: what follows may be its value.
                rest.push(word);
                rest.extend(words);
                break;
            }
            let takes_next = known.is_some_and(|flag| flag.takes != Takes::Nothing) && !word.contains('=');
            rest.push(word);
            rest.extend(if takes_next { words.next() } else { None });
        } else {
            verb.push(word);
        }
    }
    (verb, rest)
}

impl Args {
    /// Reads the words after the verb by the verb's tables and the global one.
    ///
    /// # Errors
    /// An unknown flag, a missing value, or a switch with a value that is no boolean.
    pub(crate) fn parse(verb: &str, tables: &[&'static str], words: Vec<String>) -> Result<Self> {
        let known: Vec<Flag> = tables.iter().chain([&GLOBAL]).flat_map(|table| flags_of(table)).collect();
        let own = tables.iter().flat_map(|table| flags_of(table)).map(|flag| flag.long).collect();
        let mut args = Self { verb: verb.to_owned(), own, ..Self::default() };
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word == "--" {
                args.dash = Some(args.words.len());
                args.words.extend(words);
                break;
            }
            if let Some(long) = word.strip_prefix("--") {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (long, None),
                };
                let flag = known.iter().find(|flag| flag.long == name);
                let flag = flag.ok_or_else(|| usage(verb, format!("unknown flag: --{name}")))?;
                args.take(flag, value, &mut words, &format!("--{name}"))?;
            } else if word.len() > 1 && word.starts_with('-') {
                args.shorthands(&known, &word, &mut words)?;
            } else {
                args.words.push(word);
            }
        }
        Ok(args)
    }

    /// `-it`, `-nVALUE`, `-n=VALUE`.
    fn shorthands(&mut self, known: &[Flag], word: &str, words: &mut impl Iterator<Item = String>) -> Result<()> {
        let mut rest = &word[1..];
        while let Some(letter) = rest.chars().next() {
            let flag = known.iter().find(|flag| flag.short == Some(letter));
            let unknown = || usage(&self.verb, format!("unknown shorthand flag: '{letter}' in {word}"));
            let flag = *flag.ok_or_else(unknown)?;
            rest = &rest[letter.len_utf8()..];
            let value = match (flag.takes, rest.strip_prefix('=')) {
                (_, Some(value)) => Some(value),
                (Takes::Nothing | Takes::Optional(_), None) => None,
                (_, None) => (!rest.is_empty()).then_some(rest),
            };
            if value.is_some() {
                rest = "";
            }
            self.take(&flag, value.map(str::to_owned), words, &format!("'{letter}' in {word}"))?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        flag: &Flag,
        value: Option<String>,
        words: &mut impl Iterator<Item = String>,
        shown: &str,
    ) -> Result<()> {
        let missing = || usage(&self.verb, format!("flag needs an argument: {shown}"));
        let value = match (flag.takes, value) {
            (Takes::Nothing, value) => {
                let value = value.unwrap_or_else(|| "true".to_owned());
                match value.as_str() {
                    "1" | "t" | "T" | "true" | "TRUE" | "True" => "true".to_owned(),
                    "0" | "f" | "F" | "false" | "FALSE" | "False" => "false".to_owned(),
                    _ => {
                        let why = format!("strconv.ParseBool: parsing {value:?}: invalid syntax");
                        let called = match flag.short {
                            Some(short) => format!("-{short}, --{}", flag.long),
                            None => format!("--{}", flag.long),
                        };
                        let flag = format!("invalid argument {value:?} for \"{called}\" flag: {why}");
                        return Err(usage(&self.verb, flag));
                    }
                }
            }
            (Takes::Optional(word), value) => value.unwrap_or_else(|| word.to_owned()),
            (_, Some(value)) => value,
            (_, None) => words.next().ok_or_else(missing)?,
        };
        let values = self.flags.entry(flag.long).or_default();
        match flag.takes {
            Takes::Split => values.extend(value.split(',').map(str::to_owned)),
            Takes::Each => values.push(value),
            _ => *values = vec![value],
        }
        Ok(())
    }

    /// Whether a switch is on.
    pub(crate) fn on(&self, name: &str) -> bool {
        self.get(name) == Some("true")
    }

    /// Whether a switch is on that is on unless it is switched off.
    pub(crate) fn on_unless_off(&self, name: &str) -> bool {
        self.get(name) != Some("false")
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.flags.get(name)?.last().map(String::as_str)
    }

    /// The value of a global flag, unless the verb has one of that name.
    pub(crate) fn global(&self, name: &str) -> Option<&str> {
        if self.own.contains(&name) { None } else { self.get(name) }
    }

    pub(crate) fn all(&self, name: &str) -> &[String] {
        self.flags.get(name).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.flags.contains_key(name)
    }

    /// The value of a flag that must be given.
    pub(crate) fn required(&self, name: &str) -> Result<&str> {
        self.get(name).ok_or_else(|| anyhow::anyhow!("required flag(s) \"{name}\" not set"))
    }

    /// An integer.
    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let wrong = |_| {
            let why = format!("strconv.ParseInt: parsing {text:?}: invalid syntax");
            usage(&self.verb, format!("invalid argument {text:?} for \"--{name}\" flag: {why}"))
        };
        text.parse().map(Some).map_err(wrong)
    }

    /// A duration in seconds: `90s`, `1h30m`; a bare `0`.
    pub(crate) fn seconds(&self, name: &str) -> Result<Option<f64>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let wrong = || {
            let why = format!("time: invalid duration {text:?}");
            usage(&self.verb, format!("invalid argument {text:?} for \"--{name}\" flag: {why}"))
        };
        duration(text).map(Some).ok_or_else(wrong)
    }
}

/// Seconds of Go's text for a duration.
pub(crate) fn duration(text: &str) -> Option<f64> {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0.0);
    }
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        const UNITS: [(&str, f64); 7] =
            [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let (unit, factor) = UNITS.into_iter().find(|(unit, _)| rest.starts_with(unit))?;
        total += number * factor;
        rest = &rest[unit.len()..];
    }
    Some(sign * total)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const TABLE: &str = "
  -w, --watch           Watch
  -o, --output=         Output
  -f, --filename=,      Files
      --from-literal=+  Literals
      --dry-run[=unchanged]  Dry run
  -i, --stdin           In
  -t, --tty             Terminal
";

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn parse(line: &str) -> Result<Args> {
        Args::parse("x", &[TABLE], words(line))
    }

    #[test]
    fn flags_are_read_as_pflag_reads_them() {
        let args = parse("a -o json --watch b -fx,y -f z --from-literal=a=b,c --dry-run c -it -n=ns -- -o d").unwrap();
        assert_eq!(args.words, words("a b c -o d"));
        assert_eq!(args.dash, Some(3));
        assert_eq!(args.get("output"), Some("json"));
        assert!(args.on("watch") && args.on("stdin") && args.on("tty"));
        assert_eq!(args.all("filename"), words("x y z"));
        assert_eq!(args.all("from-literal"), words("a=b,c"));
        assert_eq!((args.get("dry-run"), args.get("namespace")), (Some("unchanged"), Some("ns")));
        assert!(!parse("--watch=false").unwrap().on("watch"));
        assert_eq!(parse("-ojson").unwrap().get("output"), Some("json"));
        assert_eq!(parse("-").unwrap().words, words("-"));
    }

    #[test]
    fn wrong_flags() {
        for (line, error) in [
            ("--nope", "unknown flag: --nope"),
            ("-wz", "unknown shorthand flag: 'z' in -wz"),
            ("--output", "flag needs an argument: --output"),
            ("-o", "flag needs an argument: 'o' in -o"),
            (
                "--watch=x",
                "invalid argument \"x\" for \"-w, --watch\" flag: strconv.ParseBool: parsing \"x\": invalid syntax",
            ),
        ] {
            assert_eq!(parse(line).unwrap_err().to_string(), error, "{line}");
        }
    }

    #[test]
    fn the_verb_may_stand_after_global_flags() {
        let split = |line: &str| split_verb(words(line), |word| word == "rollout");
        assert_eq!(split("get pods -o wide"), (words("get"), words("pods -o wide")));
        assert_eq!(split("-n x --context=c get pods"), (words("get"), words("-n x --context=c pods")));
        assert_eq!(split("rollout -f x"), (words("rollout"), words("-f x")));
        assert_eq!(split("rollout -n x status d"), (words("rollout status"), words("-n x d")));
    }

    #[test]
    fn durations() {
        for (text, seconds) in [("90s", Some(90.0)), ("1h30m", Some(5400.0)), ("1.5s", Some(1.5)), ("0", Some(0.0))] {
            assert_eq!(duration(text), seconds, "{text}");
        }
        assert_eq!((duration("5"), duration("x"), duration("-1s")), (None, None, Some(-1.0)));
    }
}
