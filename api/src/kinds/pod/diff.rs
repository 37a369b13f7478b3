//! A unified difference of two values as indented JSON, which upstream appends to some messages.

use serde_json::Value;

const CONTEXT: usize = 3;
/// Above this many pairs of differing lines the two sides are shown whole instead of matched up.
const MAX_PAIRS: usize = 1 << 20;

#[derive(Clone, Copy, PartialEq)]
enum Op {
    Same,
    Removed,
    Added,
}

/// The hunks, each with three lines of context; empty when the values are equal.
pub fn diff(old: &Value, new: &Value) -> String {
    let lines = |value: &Value| -> Vec<String> {
        format!("{value:#}").lines().map(|line| line.replacen("  ", " ", line.len() / 2)).collect()
    };
    let (old, new) = (lines(old), lines(new));
    hunks(&script(&old, &new))
}

/// All lines of both sides in order, each with what happens to it.
fn script<'a>(old: &'a [String], new: &'a [String]) -> Vec<(Op, &'a str)> {
    let prefix = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let suffix = old[prefix..].iter().rev().zip(new[prefix..].iter().rev()).take_while(|(a, b)| a == b).count();
    let (a, b) = (&old[prefix..old.len() - suffix], &new[prefix..new.len() - suffix]);
    let mut ops: Vec<(Op, &str)> = old[..prefix].iter().map(|line| (Op::Same, line.as_str())).collect();
    if a.len().saturating_mul(b.len()) > MAX_PAIRS {
        ops.extend(a.iter().map(|line| (Op::Removed, line.as_str())));
        ops.extend(b.iter().map(|line| (Op::Added, line.as_str())));
    } else {
        longest_common(a, b, &mut ops);
    }
    ops.extend(old[old.len() - suffix..].iter().map(|line| (Op::Same, line.as_str())));
    ops
}

fn longest_common<'a>(a: &'a [String], b: &'a [String], ops: &mut Vec<(Op, &'a str)>) {
    let width = b.len() + 1;
    let mut lengths = vec![0_u32; (a.len() + 1) * width];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            let (down, right) = (lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
            let both = lengths[(i + 1) * width + j + 1] + 1;
            lengths[i * width + j] = if a[i] == b[j] { both } else { down.max(right) };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            ops.push((Op::Same, &a[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == b.len() || (i < a.len() && lengths[(i + 1) * width + j] >= lengths[i * width + j + 1]) {
            ops.push((Op::Removed, &a[i]));
            i += 1;
        } else {
            ops.push((Op::Added, &b[j]));
            j += 1;
        }
    }
}

fn hunks(ops: &[(Op, &str)]) -> String {
    let mut text = String::new();
    let changed: Vec<usize> = (0..ops.len()).filter(|&i| ops[i].0 != Op::Same).collect();
    let mut at = 0;
    while at < changed.len() {
        let start = changed[at].saturating_sub(CONTEXT);
        while at + 1 < changed.len() && changed[at + 1] - changed[at] <= 2 * CONTEXT {
            at += 1;
        }
        let end = (changed[at] + CONTEXT + 1).min(ops.len());
        at += 1;
        let count = |ops: &[(Op, &str)], not: Op| ops.iter().filter(|(op, _)| *op != not).count();
        let (before, inside) = (&ops[..start], &ops[start..end]);
        let (old_start, old_count) = (count(before, Op::Added) + 1, count(inside, Op::Added));
        let (new_start, new_count) = (count(before, Op::Removed) + 1, count(inside, Op::Removed));
        text.push_str(&format!("@@ -{old_start},{old_count} +{new_start},{new_count} @@\n"));
        for (op, line) in inside {
            let mark = match op {
                Op::Same => ' ',
                Op::Removed => '-',
                Op::Added => '+',
            };
            text.push_str(&format!("{mark}{line}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn shows_hunks_with_context() {
        let old = json!({"a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "g": 7, "h": 8, "i": 9, "j": 10});
        let mut new = old.clone();
        new["e"] = json!([5]);
        let expected = "@@ -3,7 +3,9 @@\n  \"b\": 2,\n  \"c\": 3,\n  \"d\": 4,\n- \"e\": 5,\n+ \"e\": [\n+  5\n+ ],\n  \
                        \"f\": 6,\n  \"g\": 7,\n  \"h\": 8,\n";
        assert_eq!(diff(&old, &new), expected);
        assert_eq!(diff(&old, &old), "");
    }
}
