//! The targets: what is run, with what, and how its inputs look.

mod command_line;
mod machine;
mod node;
mod objects;
mod patches;
mod request;
mod texts;

use crate::mutate::Shape;

/// One decoder, or a way through several.
#[derive(Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    pub shape: Shape,
    /// Inputs that CI runs: what a second or so is enough for.
    pub inputs: u64,
    pub corpus: fn() -> Vec<Vec<u8>>,
    /// Panics when something is wrong.
    pub run: fn(&[u8]),
}

/// All targets that `fuzz` runs when none is named.
pub fn all() -> Vec<Target> {
    [
        objects::TARGETS,
        patches::TARGETS,
        texts::TARGETS,
        machine::TARGETS,
        node::TARGETS,
        request::TARGETS,
        command_line::TARGETS,
    ]
    .concat()
}

/// A target by name, also of those that test the harness.
pub fn find(name: &str) -> Option<Target> {
    all().into_iter().chain(SELF.iter().copied()).find(|target| target.name == name)
}

/// Targets that fail in each of the ways there are.
const SELF: &[Target] = &[
    Target { name: "self-panic", shape: Shape::Bytes, inputs: 1, corpus: nothing, run: |_| found() },
    Target {
        name: "self-overflow",
        shape: Shape::Bytes,
        inputs: 1,
        corpus: nothing,
        run: |input| seen(deeper(input.len())),
    },
    Target { name: "self-memory", shape: Shape::Bytes, inputs: 1, corpus: nothing, run: |_| hoard() },
];

fn nothing() -> Vec<Vec<u8>> {
    vec![Vec::new()]
}

#[allow(clippy::panic)]
fn found() {
    panic!("found");
}

fn deeper(depth: usize) -> usize {
    let here = std::hint::black_box([depth; 64]);
    if here[0] == usize::MAX { 0 } else { deeper(depth + 1) + std::hint::black_box(here)[1] }
}

fn hoard() {
    let held: Vec<Vec<u8>> = (0..1024).map(|_| vec![1; 1 << 20]).collect();
    std::hint::black_box(held);
}

/// Something was read, and that is all that was asked.
fn seen<T>(_: T) {}

/// An input as text, where a decoder takes text.
fn text(input: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(input)
}
