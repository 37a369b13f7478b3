//! The table that is printed: ours, the reference, the ratio, the goal.

use crate::rows::{Goal, Row};
use crate::side::Figures;

/// Prints a line for each row. The reference's column says whether it was measured now or is the published figure.
pub fn print(rows: &[&Row], ours: &Figures, theirs: Option<&Figures>) {
    let measured = if theirs.is_some() { "other cluster" } else { "reference" };
    println!("{:<46} {:>12} {measured:>14} {:>8}  goal", "what", "ours", "ratio");
    for row in rows {
        let other = match theirs {
            Some(figures) => figures.of(row.name),
            None => row.reference,
        };
        let mine = ours.of(row.name);
        println!(
            "{:<46} {:>12} {:>14} {:>8}  {}",
            row.what,
            text(mine, row.unit),
            text(other, row.unit),
            ratio(row, mine, other),
            goal(row, mine, other),
        );
    }
    for (side, figures) in [("ours", Some(ours)), ("other cluster", theirs)] {
        for (name, why) in figures.iter().flat_map(|figures| &figures.failed) {
            println!("{side}: {name} failed: {why}");
        }
    }
}

fn text(figure: Option<f64>, unit: &str) -> String {
    match figure {
        None => "–".to_owned(),
        Some(value) if value >= 100.0 => format!("{value:.0} {unit}"),
        Some(value) => format!("{value:.2} {unit}"),
    }
}

/// How many times better ours is: larger throughput, smaller cost.
fn ratio(row: &Row, ours: Option<f64>, theirs: Option<f64>) -> String {
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return "–".to_owned() };
    let ratio = match row.goal {
        Goal::AtMost(_) => theirs / ours,
        Goal::Times(_) | Goal::AtLeast(_) => ours / theirs,
    };
    format!("{ratio:.1} ×")
}

fn goal(row: &Row, ours: Option<f64>, theirs: Option<f64>) -> String {
    let (wanted, reached) = match row.goal {
        Goal::Times(times) => (format!("≥ {times} ×"), ours.zip(theirs).map(|(ours, theirs)| ours >= times * theirs)),
        Goal::AtMost(most) => (format!("≤ {most} {}", row.unit), ours.map(|ours| ours <= most)),
        Goal::AtLeast(least) => (format!("≥ {least} {}", row.unit), ours.map(|ours| ours >= least)),
    };
    match reached {
        Some(true) => format!("{wanted}, reached"),
        Some(false) => format!("{wanted}, missed"),
        None => format!("{wanted}, not measured"),
    }
}
