//! Which devices the processes of a group may use. Version 1 has files for it; version 2 takes a program in the kernel
//! instead, which nobody makes yet: there only the device nodes that a container has, and its capabilities, bind it.

use std::fs;
use std::io;

use super::Layout;

/// One line of `devices.allow` or `devices.deny`: `c 1:3 rwm`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRule {
    pub allow: bool,
    pub devices: String,
}

impl DeviceRule {
    pub fn allow(devices: impl Into<String>) -> DeviceRule {
        DeviceRule { allow: true, devices: devices.into() }
    }

    pub fn deny(devices: impl Into<String>) -> DeviceRule {
        DeviceRule { allow: false, devices: devices.into() }
    }
}

impl Layout {
    /// Sets the rules of a group that is there, in their order. Without the controller there is nothing to set.
    pub fn set_devices(&self, path: &str, rules: &[DeviceRule]) -> io::Result<()> {
        let Layout::V1 { .. } = self else { return Ok(()) };
        let Some(directory) = self.directory("devices", path) else { return Ok(()) };
        for rule in rules {
            let file = directory.join(if rule.allow { "devices.allow" } else { "devices.deny" });
            fs::write(&file, &rule.devices).map_err(|error| {
                io::Error::new(error.kind(), format!("write {} to {}: {error}", rule.devices, file.display()))
            })?;
        }
        Ok(())
    }
}
