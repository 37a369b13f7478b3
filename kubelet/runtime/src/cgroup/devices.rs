//! Which devices the processes of a group may use. Version 1 has files for it; version 2 takes a program.

use std::fmt;
use std::fs::{self, File};
use std::io;

use super::{Layout, device_program};
use crate::syscall::bpf;

/// `r`, `w` and `m` of a rule, as the bits that the kernel asks a program about.
pub const MKNOD: u32 = 1;
pub const READ: u32 = 2;
pub const WRITE: u32 = 4;
pub const ANY_ACCESS: u32 = MKNOD | READ | WRITE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// Block and character devices with any number.
    All,
    Block,
    Character,
}

/// One rule of the OCI specification's `linux.resources.devices`. The last one that matches decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    pub allow: bool,
    pub kind: DeviceKind,
    /// `None` is every one.
    pub major: Option<u32>,
    pub minor: Option<u32>,
    /// Bits of [`READ`], [`WRITE`] and [`MKNOD`].
    pub access: u32,
}

impl DeviceRule {
    /// Everything allowed, or everything denied.
    pub const fn everything(allow: bool) -> DeviceRule {
        DeviceRule { allow, kind: DeviceKind::All, major: None, minor: None, access: ANY_ACCESS }
    }

    /// A device, or all of a kind, that may be used.
    pub const fn allow(kind: DeviceKind, major: Option<u32>, minor: Option<u32>, access: u32) -> DeviceRule {
        DeviceRule { allow: true, kind, major, minor, access }
    }

    /// Does it match whatever is asked?
    pub(super) fn is_everything(&self) -> bool {
        DeviceRule { allow: false, ..*self } == DeviceRule::everything(false)
    }
}

/// The bits of letters `rwm`; others mean nothing.
pub fn access(letters: &str) -> u32 {
    letters.chars().fold(0, |bits, letter| {
        bits | match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => 0,
        }
    })
}

/// As a line of `devices.allow` or `devices.deny`: `c 1:3 rwm`.
impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let kind = match self.kind {
            DeviceKind::All => 'a',
            DeviceKind::Block => 'b',
            DeviceKind::Character => 'c',
        };
        write!(f, "{kind} {}:{} ", number(self.major), number(self.minor))?;
        let letters = [(READ, "r"), (WRITE, "w"), (MKNOD, "m")];
        letters.iter().filter(|(bit, _)| self.access & bit != 0).try_for_each(|(_, letter)| f.write_str(letter))
    }
}

impl Layout {
    /// Sets the rules of a group that is there and has none yet, in their order.
    pub fn set_devices(&self, path: &str, rules: &[DeviceRule]) -> io::Result<()> {
        match self {
            Layout::V1 { .. } => self.write_devices(path, rules),
            Layout::V2 { root } => {
                let program = device_program::of(rules);
                if device_program::allows_all(&program) {
                    return Ok(());
                }
                let group = root.join(path.trim_start_matches('/'));
                let attached = File::open(&group).and_then(|directory| {
                    let program = bpf::load_device_program(&device_program::encode(&program))?;
                    Ok(bpf::attach_device_program(&program, &directory.into())?)
                });
                attached.map_err(|error| {
                    io::Error::new(error.kind(), format!("filter the devices of {}: {error}", group.display()))
                })
            }
        }
    }

    /// Without the controller there is nothing to set.
    fn write_devices(&self, path: &str, rules: &[DeviceRule]) -> io::Result<()> {
        let Some(directory) = self.directory("devices", path) else { return Ok(()) };
        for rule in rules {
            let file = directory.join(if rule.allow { "devices.allow" } else { "devices.deny" });
            fs::write(&file, rule.to_string()).map_err(|error| {
                io::Error::new(error.kind(), format!("write {rule} to {}: {error}", file.display()))
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_lines_of_version_1() {
        for (rule, line) in [
            (DeviceRule::everything(false), "a *:* rwm"),
            (DeviceRule::allow(DeviceKind::Character, Some(1), Some(3), ANY_ACCESS), "c 1:3 rwm"),
            (DeviceRule::allow(DeviceKind::Block, Some(8), None, access("mr")), "b 8:* rm"),
            (DeviceRule::allow(DeviceKind::Character, None, None, MKNOD), "c *:* m"),
        ] {
            assert_eq!(rule.to_string(), line);
        }
    }
}
