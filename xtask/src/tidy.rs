//! House rules that a program can check: file and line length, module headers, leftovers.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

const LONGEST_FILE: usize = 800;
const LONGEST_LINE: usize = 120;

/// Words that must not stand in code, with what to do instead. Split so that this file passes its own check.
const LEFTOVERS: [(&str, &str); 5] = [
    (concat!("TO", "DO"), "do it, or write an issue"),
    (concat!("FIX", "ME"), "mend it"),
    (concat!("for", " now"), "build the real thing"),
    (concat!("dbg", "!("), "use tracing"),
    (concat!("simpl", "ified"), "build the real thing"),
];

/// Checks every Rust file that git tracks or would add.
pub fn run(root: &Path) -> Result<()> {
    let mut complaints = Vec::new();
    for file in rust_files(root)? {
        let text = fs::read_to_string(root.join(&file)).with_context(|| format!("read {}", file.display()))?;
        check(&file, &text, &mut complaints);
    }
    if complaints.is_empty() {
        return Ok(());
    }
    bail!("{}\n{} complaints", complaints.join("\n"), complaints.len());
}

fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let output = std::process::Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
        .current_dir(root)
        .output()
        .context("run git ls-files")?;
    if !output.status.success() {
        bail!("git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    }
    let names = String::from_utf8(output.stdout).context("file names from git")?;
    Ok(names.lines().map(PathBuf::from).filter(|file| root.join(file).exists()).collect())
}

fn check(file: &Path, text: &str, complaints: &mut Vec<String>) {
    let name = file.display();
    if !text.starts_with("//!") {
        complaints.push(format!("{name}:1: open the file with `//!` and what it is for"));
    }
    let lines = text.lines().count();
    if lines > LONGEST_FILE {
        complaints.push(format!("{name}: {lines} lines; split it (limit {LONGEST_FILE})"));
    }
    for (number, line) in text.lines().enumerate().map(|(i, line)| (i + 1, line)) {
        if line.chars().count() > LONGEST_LINE && without_texts(line).chars().count() > LONGEST_LINE {
            complaints.push(format!("{name}:{number}: longer than {LONGEST_LINE} characters"));
        }
        if line.ends_with([' ', '\t']) {
            complaints.push(format!("{name}:{number}: white space at the end"));
        }
        if let Some((word, instead)) = LEFTOVERS.iter().find(|(word, _)| line.contains(word)) {
            complaints.push(format!("{name}:{number}: {word:?}: {instead}"));
        }
        let for_tests = file
            .components()
            .any(|part| ["tests", "testing", "examples"].map(std::ffi::OsStr::new).contains(&part.as_os_str()));
        if line.contains("allow(") && line.contains("clippy::unwrap_used") && !for_tests && !test_lines(text, number) {
            complaints.push(format!("{name}:{number}: unwrap is for tests only"));
        }
    }
}

/// A line without its string literals: a message or a piece of test data is no clearer for being cut.
fn without_texts(line: &str) -> String {
    if line.ends_with('\\') {
        // The middle of a text that goes on.
        return String::new();
    }
    let mut outside = String::new();
    let mut in_text = false;
    let mut escaped = false;
    for c in line.chars() {
        match c {
            '"' if !escaped => in_text = !in_text,
            _ if !in_text => outside.push(c),
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    outside
}

/// Whether a line stands in a test module or test file: after `cfg(test)`, or in a file of tests.
fn test_lines(text: &str, number: usize) -> bool {
    text.lines().take(number + 3).any(|line| line.contains("cfg(test)"))
        || text.starts_with("//! Tests")
        || text.contains("#[test]")
        || text.contains("#[tokio::test")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_tree_is_tidy() {
        run(&crate::root()).unwrap();
    }

    #[test]
    fn each_rule_finds_what_it_is_for() {
        let long = "x".repeat(LONGEST_LINE + 1);
        let cases = [
            ("fn main() {}\n".to_owned(), "open the file"),
            ("//! x\n".repeat(LONGEST_FILE + 1), "split it"),
            (format!("//! x\n{long}\n"), "longer than"),
            ("//! x\nfn a() {} \n".to_owned(), "white space"),
            (format!("//! x\n// {}\n", LEFTOVERS[0].0), "write an issue"),
        ];
        for (text, expected) in cases {
            let mut complaints = Vec::new();
            check(Path::new("x.rs"), &text, &mut complaints);
            assert!(complaints.iter().any(|c| c.contains(expected)), "{expected}: {complaints:?}");
        }
    }
}
