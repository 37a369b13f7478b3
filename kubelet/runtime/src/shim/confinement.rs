//! The last steps of a process before its program: no new privileges, the system call filter, capabilities.

use libcontainer::oci_spec::runtime::{LinuxCapabilities, Spec};

use crate::syscall::process;

#[derive(Clone)]
pub struct Confinement {
    /// A compiled filter.
    filter: Option<Vec<u8>>,
    capabilities: LinuxCapabilities,
    no_new_privileges: bool,
}

impl Confinement {
    /// Reads what the core left in the specification; to be called while the filter's file can be reached.
    pub fn read(spec: &Spec) -> Result<Confinement, String> {
        let annotation = |name: &str| spec.annotations().as_ref().and_then(|all| all.get(name));
        let filter = annotation(crate::spec::FILTER)
            .map(|path| std::fs::read(path).map_err(|error| format!("read system call filter {path}: {error}")))
            .transpose()?;
        let text = annotation(crate::spec::CAPABILITIES).ok_or("the container's capabilities are not known")?;
        let capabilities = serde_json::from_str(text).map_err(|error| format!("read capabilities: {error}"))?;
        let process = spec.process().as_ref().and_then(libcontainer::oci_spec::runtime::Process::no_new_privileges);
        Ok(Confinement { filter, capabilities, no_new_privileges: process.unwrap_or(false) })
    }

    /// Takes it on. Without no_new_privs a filter takes a privilege that is dropped after; with it the filter comes
    /// last, so that it need not allow what came before.
    pub fn enter(&self) -> Result<(), String> {
        // A change of user has left capabilities permitted, but not in effect.
        let syscall = libcontainer::syscall::syscall::create_syscall();
        libcontainer::capabilities::reset_effective(syscall.as_ref())
            .map_err(|error| format!("raise capabilities: {error}"))?;
        if self.no_new_privileges {
            process::set_no_new_privileges().map_err(|error| format!("set no_new_privs: {error}"))?;
            self.drop_capabilities()?;
            return self.load_filter();
        }
        self.load_filter()?;
        self.drop_capabilities()
    }

    fn load_filter(&self) -> Result<(), String> {
        let Some(program) = &self.filter else { return Ok(()) };
        process::load_filter(program).map_err(|error| format!("load seccomp filter: {error}"))
    }

    fn drop_capabilities(&self) -> Result<(), String> {
        let syscall = libcontainer::syscall::syscall::create_syscall();
        libcontainer::capabilities::drop_privileges(&self.capabilities, syscall.as_ref())
            .map_err(|error| format!("set capabilities: {error}"))
    }
}
