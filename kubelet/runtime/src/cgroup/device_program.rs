//! Rules about devices as a program for the kernel (`BPF_PROG_TYPE_CGROUP_DEVICE`), which version 2 of control groups
//! asks at each open and mknod: 1 lets it happen, 0 is EPERM. Pure.

use super::devices::{ANY_ACCESS, DeviceKind, DeviceRule};

/// One instruction, as `struct bpf_insn` of linux/bpf.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    code: u8,
    to: u8,
    from: u8,
    offset: i16,
    value: i32,
}

/// Codes of operations: 64 bits wide, for the narrow jumps came with Linux 5.1.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb7;
const MOVE_REGISTER: u8 = 0xbf;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_UNLESS_EQUAL: u8 = 0x55;
const EXIT: u8 = 0x95;

/// Registers. 1 points to `struct bpf_cgroup_dev_ctx` at first, and is for what is between afterwards.
const RESULT: u8 = 0;
const SCRATCH: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// `BPF_DEVCG_DEV_*`.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

const fn operation(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Instruction {
    Instruction { code, to, from, offset, value }
}

/// What is asked, taken apart: the first word's lower half is the kind and its upper half the access.
const QUESTION: [Instruction; 6] = [
    operation(LOAD_WORD, KIND, SCRATCH, 0, 0),
    operation(MOVE_REGISTER, ACCESS, KIND, 0, 0),
    operation(AND, KIND, 0, 0, 0xffff),
    operation(SHIFT_RIGHT, ACCESS, 0, 0, 16),
    operation(LOAD_WORD, MAJOR, SCRATCH, 4, 0),
    operation(LOAD_WORD, MINOR, SCRATCH, 8, 0),
];

/// The program of these rules: the last that matches decides, and what none matches is denied.
pub fn of(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = QUESTION.to_vec();
    // The kernel takes no program that has parts which are never reached.
    let first = rules.iter().rposition(DeviceRule::is_everything).unwrap_or(0);
    let deciding = rules.get(first..).unwrap_or(&[]);
    deciding.iter().rev().for_each(|rule| program.extend(block(rule)));
    if !deciding.first().is_some_and(DeviceRule::is_everything) {
        program.extend(answer(false));
    }
    program
}

/// Is everything allowed, so that there is nothing to ask?
pub fn allows_all(program: &[Instruction]) -> bool {
    program.strip_prefix(QUESTION.as_slice()).is_some_and(|rest| rest == answer(true))
}

fn answer(allow: bool) -> [Instruction; 2] {
    [operation(MOVE, RESULT, 0, 0, i32::from(allow)), operation(EXIT, 0, 0, 0, 0)]
}

/// Answers if the rule matches, else goes on behind itself.
fn block(rule: &DeviceRule) -> Vec<Instruction> {
    // (code, register, value) of jumps out of the block, each with what comes before it.
    let mut checks: Vec<Vec<Instruction>> = Vec::new();
    let mut unless = |register: u8, value: i32| checks.push(vec![operation(JUMP_UNLESS_EQUAL, register, 0, 0, value)]);
    match rule.kind {
        DeviceKind::All => {}
        DeviceKind::Block => unless(KIND, BLOCK),
        DeviceKind::Character => unless(KIND, CHARACTER),
    }
    if let Some(major) = rule.major {
        unless(MAJOR, major.cast_signed());
    }
    if let Some(minor) = rule.minor {
        unless(MINOR, minor.cast_signed());
    }
    if rule.access != ANY_ACCESS {
        // Allowed is what asks for nothing else; denied is what asks for any of it.
        let (bits, jump) = match rule.allow {
            true => (ANY_ACCESS & !rule.access, JUMP_UNLESS_EQUAL),
            false => (rule.access, JUMP_IF_EQUAL),
        };
        checks.push(vec![
            operation(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0),
            operation(AND, SCRATCH, 0, 0, bits.cast_signed()),
            operation(jump, SCRATCH, 0, 0, 0),
        ]);
    }
    let mut block: Vec<Instruction> = checks.into_iter().flatten().chain(answer(rule.allow)).collect();
    let length = block.len();
    for (at, instruction) in block.iter_mut().enumerate() {
        if matches!(instruction.code, JUMP_UNLESS_EQUAL | JUMP_IF_EQUAL) {
            // Counted from the next instruction; a block has eight at most.
            instruction.offset = (length - at - 1) as i16;
        }
    }
    block
}

/// The kernel's bytes.
pub fn encode(program: &[Instruction]) -> Vec<u8> {
    program.iter().flat_map(Instruction::bytes).collect()
}

impl Instruction {
    fn bytes(&self) -> [u8; 8] {
        let registers = if cfg!(target_endian = "big") { self.to << 4 | self.from } else { self.from << 4 | self.to };
        let ([a, b], [c, d, e, f]) = (self.offset.to_ne_bytes(), self.value.to_ne_bytes());
        [self.code, registers, a, b, c, d, e, f]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::super::devices::access;
    use super::*;

    /// Does what the kernel would do.
    fn run(program: &[Instruction], kind: i32, numbers: (u32, u32), asked: u32) -> bool {
        let mut registers = [0u64; 6];
        let context = [kind.cast_unsigned() | asked << 16, numbers.0, numbers.1];
        let mut at = 0;
        loop {
            let Instruction { code, to, from, offset, value } = program[at];
            let (to, value) = (usize::from(to), i64::from(value).cast_unsigned());
            at += 1;
            let mut jump = |holds: bool| at += if holds { usize::try_from(offset).unwrap() } else { 0 };
            match code {
                LOAD_WORD => registers[to] = u64::from(context[usize::try_from(offset).unwrap() / 4]),
                MOVE => registers[to] = value,
                MOVE_REGISTER => registers[to] = registers[usize::from(from)],
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                JUMP_IF_EQUAL => jump(registers[to] == value),
                JUMP_UNLESS_EQUAL => jump(registers[to] != value),
                EXIT => return registers[0] == 1,
                _ => panic!("code {code:#x}"),
            }
        }
    }

    /// `allow|deny KIND MAJOR:MINOR ACCESS`.
    fn rule(text: &str) -> DeviceRule {
        let words: Vec<&str> = text.split(' ').collect();
        let (major, minor) = words[2].split_once(':').unwrap();
        let kind = match words[1] {
            "a" => DeviceKind::All,
            "b" => DeviceKind::Block,
            _ => DeviceKind::Character,
        };
        let (major, minor) = (major.parse().ok(), minor.parse().ok());
        DeviceRule { allow: words[0] == "allow", kind, major, minor, access: access(words[3]) }
    }

    #[test]
    fn the_last_rule_that_matches_decides() {
        let table: &[(&[&str], &[(&str, bool)])] = &[
            (&[], &[("c 1:3 r", false), ("b 8:0 m", false)]),
            (&["deny a *:* rwm"], &[("c 1:3 r", false), ("b 8:0 m", false)]),
            (&["allow a *:* rwm"], &[("c 1:3 rw", true), ("b 8:0 m", true)]),
            (&["allow c 1:3 rwm", "deny a *:* rwm"], &[("c 1:3 r", false)]),
            (
                &["deny a *:* rwm", "allow c *:* m", "allow b *:* m", "allow c 1:3 rwm", "allow c 136:* rwm"],
                &[
                    ("c 1:3 r", true),
                    ("c 1:3 rw", true),
                    ("c 1:4 r", false),
                    ("b 1:3 r", false),
                    ("c 136:77 w", true),
                    ("c 137:0 w", false),
                    ("b 8:0 m", true),
                    ("b 8:0 r", false),
                    ("c 10:232 m", true),
                    ("c 10:232 rw", false),
                ],
            ),
            (&["allow c 10:200 r"], &[("c 10:200 r", true), ("c 10:200 rw", false), ("c 10:200 w", false)]),
            (
                &["allow a *:* rwm", "deny b 8:* w"],
                &[("b 8:1 r", true), ("b 8:1 w", false), ("b 8:1 rw", false), ("b 9:1 w", true), ("c 8:1 w", true)],
            ),
            (&["allow a 7:* rwm"], &[("b 7:1 rw", true), ("c 7:1 rw", true), ("c 8:1 rw", false)]),
        ];
        for (rules, questions) in table {
            let program = of(&rules.iter().map(|text| rule(text)).collect::<Vec<_>>());
            for (question, expected) in *questions {
                let asked = rule(&format!("allow {question}"));
                let kind = if asked.kind == DeviceKind::Block { BLOCK } else { CHARACTER };
                let numbers = (asked.major.unwrap(), asked.minor.unwrap());
                assert_eq!(run(&program, kind, numbers, asked.access), *expected, "{rules:?}: {question}");
            }
        }
    }

    #[test]
    fn a_program_has_no_part_that_is_never_reached() {
        let rules = ["allow c 1:3 r", "deny a *:* rwm", "allow c 1:5 r", "allow a *:* rwm"].map(rule);
        assert!(allows_all(&of(&rules)));
        let program = of(&rules[..3]);
        assert!(!allows_all(&program));
        assert_eq!(program.iter().filter(|instruction| instruction.code == EXIT).count(), 2);
        assert_eq!(of(&[]).len(), QUESTION.len() + 2);
    }

    #[test]
    fn instructions_are_the_kernels() {
        let expected: &[u8] =
            if cfg!(target_endian = "big") { &[0x55, 0x40, 0, 2, 0, 0, 0, 1] } else { &[0x55, 0x04, 2, 0, 1, 0, 0, 0] };
        assert_eq!(encode(&[operation(JUMP_UNLESS_EQUAL, MAJOR, 0, 2, 1)]), expected);
    }
}
