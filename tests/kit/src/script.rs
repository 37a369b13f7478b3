//! Command lines that are run twice: with the real kubectl, and with cox in its place. Each has a namespace of its own,
//! and what they print is compared.
//!
//! A script is a text of lines; the first character says what is expected:
//!
//! | line | meaning |
//! |---|---|
//! | `$ LINE` | a shell's line, run by both at the same time; succeeds; both print the same |
//! | `! LINE` | the same, but it fails, with the same exit code |
//! | `1 LINE` | the same as `$`, but one after the other: for objects that belong to no namespace |
//! | `~ LINE` | succeeds; what it prints is not compared |
//! | `? LINE` | fails, with the same exit code; what it prints is not compared |
//! | `@ LINE` | run once, with kubectl, in the namespace of neither; succeeds |
//! | `< TEXT` | what the line before printed contains this text |
//! | `# …`, empty | a comment |

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;

use anyhow::{Context, Result, bail};
use regex::Regex;

use crate::cluster::Cluster;
use crate::net::run;
use crate::tools;

/// One of the two programs, with its namespace, kubeconfig and folder.
pub struct Side {
    /// `kubectl` or `cox`.
    name: &'static str,
    pub namespace: &'static str,
    entry: Vec<String>,
    folder: PathBuf,
    path: std::ffi::OsString,
}

/// Both programs on one cluster.
pub struct Script<'a> {
    cluster: &'a Cluster,
    pub kubectl: Side,
    pub cox: Side,
    masks: Vec<(Regex, &'static str)>,
    failures: Vec<String>,
    lines: usize,
}

/// How one line went.
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Side {
    fn new(cluster: &Cluster, name: &'static str, namespace: &'static str, program: &Path) -> Result<Self> {
        let folder = cluster.home().join(name);
        std::fs::create_dir_all(folder.join("bin")).with_context(|| format!("make {}", folder.display()))?;
        let wrapper = folder.join("bin/kubectl");
        // A program that is only a name, or that looks for another of its name, must not find this one again.
        let around = tools::search_path(&[]);
        let text =
            format!("#!/bin/sh\nPATH='{}'\nexport PATH\nexec {} \"$@\"\n", around.to_string_lossy(), program.display());
        std::fs::write(&wrapper, text).with_context(|| format!("write {}", wrapper.display()))?;
        run(Command::new("chmod").arg("+x").arg(&wrapper))?;
        let admin = std::fs::read_to_string(&cluster.kubeconfig).context("read the admin's kubeconfig")?;
        std::fs::write(folder.join("kubeconfig"), admin).context("copy the kubeconfig")?;
        let path = tools::search_path(&[&folder.join("bin")]);
        let side = Self { name, namespace, entry: cluster.network.entry(), folder, path };
        if cluster.kubectl(&["get", "namespace", namespace]).is_err() {
            cluster.kubectl(&["create", "namespace", namespace])?;
        }
        let mut set = Command::new(tools::program("kubectl"));
        set.args(["config", "set-context", "--current", "--namespace", namespace]);
        run(set.env("KUBECONFIG", side.folder.join("kubeconfig")))?;
        Ok(side)
    }

    /// A shell's line in the side's folder; the word `kubectl` is the side's program.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.entry[0]);
        command.args(&self.entry[1..]).args(["timeout", "100", "bash", "-o", "pipefail", "-c", line]);
        command.env("KUBECONFIG", self.folder.join("kubeconfig")).env("HOME", &self.folder).env("PATH", &self.path);
        command
            .env("NAMESPACE", self.namespace)
            .env("SIDE", self.name)
            .env("TZ", "UTC")
            .env_remove("EDITOR")
            .env_remove("KUBE_EDITOR");
        command.current_dir(&self.folder).stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> Result<Ran> {
        let Output { status, stdout, stderr } = self.command(line).output().with_context(|| format!("run {line}"))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Ran { code: status.code(), out: text(&stdout), err: text(&stderr) })
    }
}

impl<'a> Script<'a> {
    /// Makes the namespaces, and copies a folder's files to where the lines are run. Tables are as wide when the
    /// namespaces' names are of one length; where nothing is changed, both may have the same.
    pub fn new(cluster: &'a Cluster, cox: &Path, files: &Path, namespaces: [&'static str; 2]) -> Result<Self> {
        let left = Side::new(cluster, "kubectl", namespaces[0], &tools::program("kubectl"))?;
        let right = Side::new(cluster, "cox", namespaces[1], cox)?;
        for side in [&left, &right] {
            run(Command::new("cp").arg("-r").arg(files.join(".")).arg(&side.folder))?;
        }
        Ok(Self { cluster, kubectl: left, cox: right, masks: masks()?, failures: Vec::new(), lines: 0 })
    }

    /// Runs a script; what differs is noted, the script goes on.
    pub fn run(&mut self, name: &str, text: &str) -> Result<()> {
        let mut last: Vec<Ran> = Vec::new();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let place = format!("{name}:{}: {line}", number + 1);
            let (mark, words) = line.split_at(1);
            let words = words.trim_start();
            match mark {
                "#" => {}
                "@" => drop(run(&mut self.once(words)).with_context(|| place)?),
                "<" => {
                    let says = |ran: &Ran| ran.out.contains(words) || ran.err.contains(words);
                    if let Some(silent) = last.iter().find(|ran| !says(ran)) {
                        self.failures.push(format!("{place}\n  is not in\n{}{}", silent.out, silent.err));
                    }
                }
                "$" | "!" | "1" | "~" | "?" => {
                    last = self.both(words, mark == "1").with_context(|| place.clone())?;
                    self.lines += 1;
                    if let Some(problem) = self.judge(mark, &last) {
                        self.failures.push(format!("{place}\n{problem}"));
                    }
                }
                other => bail!("{place}: {other:?} is no mark of a script"),
            }
        }
        Ok(())
    }

    /// # Errors
    /// Something differed, or a line did not end as it should.
    pub fn finish(self) -> Result<()> {
        if self.failures.is_empty() {
            return Ok(());
        }
        bail!("{} of {} lines:\n\n{}", self.failures.len(), self.lines, self.failures.join("\n\n"))
    }

    fn once(&self, line: &str) -> Command {
        let mut command = self.kubectl.command(line);
        command.env("KUBECONFIG", &self.cluster.kubeconfig);
        command
    }

    fn both(&self, line: &str, in_turn: bool) -> Result<Vec<Ran>> {
        if in_turn {
            return Ok(vec![self.kubectl.run(line)?, self.cox.run(line)?]);
        }
        thread::scope(|scope| {
            let right = scope.spawn(|| self.cox.run(line));
            let left = self.kubectl.run(line)?;
            let right = right.join().unwrap_or_else(|_| bail!("the thread that ran cox panicked"))?;
            Ok(vec![left, right])
        })
    }

    fn judge(&self, mark: &str, ran: &[Ran]) -> Option<String> {
        let [kubectl, cox] = ran else { return Some("nothing was run".to_owned()) };
        let mut problem = String::new();
        for (program, ran) in [("kubectl", kubectl), ("cox", cox)] {
            if (ran.code == Some(0)) == matches!(mark, "!" | "?") {
                // Writing to a String cannot fail.
                let _ = writeln!(problem, "  {program} ended with {:?}: {}{}", ran.code, ran.out, ran.err);
            }
        }
        if kubectl.code != cox.code {
            let _ = writeln!(problem, "  exit codes {:?} and {:?}", kubectl.code, cox.code);
        }
        if !matches!(mark, "~" | "?") {
            problem += &self.difference("stdout", &kubectl.out, &cox.out);
            problem += &self.difference("stderr", &kubectl.err, &cox.err);
        }
        (!problem.is_empty()).then_some(problem)
    }

    /// The lines that only one of two texts has, in diff's form.
    fn difference(&self, what: &str, left: &str, right: &str) -> String {
        let (left, right) = (self.masked(left), self.masked(right));
        if left == right {
            return String::new();
        }
        let (left, right): (Vec<&str>, Vec<&str>) = (left.lines().collect(), right.lines().collect());
        let start = left.iter().zip(&right).take_while(|(a, b)| a == b).count();
        let rest = left.len().min(right.len()) - start;
        let end = left.iter().rev().zip(right.iter().rev()).take(rest).take_while(|(a, b)| a == b).count();
        let part = |lines: &[&str], sign: &str| -> String {
            let shown = lines[start..lines.len() - end].iter().take(40);
            shown.map(|line| format!("  {sign} {line}\n")).collect()
        };
        format!("  {what} from line {}:\n{}{}", start + 1, part(&left, "-"), part(&right, "+"))
    }

    /// A text without what differs from run to run.
    fn masked(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (pattern, mask) in &self.masks {
            text = pattern.replace_all(&text, *mask).into_owned();
        }
        text
    }
}

/// What differs from run to run, and what stands for it.
fn masks() -> Result<Vec<(Regex, &'static str)>> {
    let table = [
        (r"\b(apple|lemon)\b", "space"),
        (r"(dir|vars|big|alone)-(cox|kubectl)\b", "$1-SIDE"),
        (r"(color|note)[=:] ?(cox|kubectl)\b", "$1=SIDE"),
        (r"(/tmp/\S*/)?kubectl\.exe|\bcox\b", "kubectl"),
        (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?( ?[+-]\d{4})?( UTC)?Z?", "TIME"),
        (r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", "TIME"),
        (r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UID"),
        (r"\b[0-9a-f]{64}\b", "SHA256"),
        (r"kube-api-access-[a-z0-9]{5}", "kube-api-access-RANDOM"),
        (r#"(resourceVersion"?: *"?)\d+"#, "${1}RV"),
        (r"-([0-9a-f]{8,10})-[bcdfghjklmnpqrstvwxz2456789]{5}\b", "-$1-RANDOM"),
        (r" *\b10\.(244|9[6-9]|1[01]\d)\.\d+\.\d+\b *", " IP "),
        (r"\b3[0-2]\d{3}(/TCP|/UDP)", "PORT$1"),
        (r#"(nodePort"?: *)\d+"#, "${1}PORT"),
        (r"(?m) *(\b|<)(\d+[dhms]){1,2}\b( ago)?(\)? *)$", " AGE$3$4"),
        (r" *\b(\d+[dhms]){1,2}\b( ago\)| \(x\d+ over (\d+[dhms]){1,2}\))? +", " AGE "),
    ];
    let compile = |(pattern, mask): (&str, &'static str)| {
        Regex::new(pattern).with_context(|| format!("mask {pattern}")).map(|regex| (regex, mask))
    };
    table.into_iter().map(compile).collect()
}
